"""What a malicious party does: steps that it runs instead of its own. Nothing else of the protocol changes,
nor knows of it.

A behaviour is a module with `NAME`, `ROLE`, `INSTEAD` (what `Session` takes: other steps by role and step),
`check(config)` and `describe(config)`, and `steps(config)`, in how many training steps it deviates.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from parties.record.view import View
from protocols.language.errors import ConfigError

BEHAVIOURS = ("unit_keys",)


def find_behaviour(name: str) -> ModuleType:
    """A behaviour; `-` and `_` are the same. Raises `ConfigError` that lists the names."""
    plain = name.replace("-", "_")
    if plain not in BEHAVIOURS:
        known = ", ".join(each.replace("_", "-") for each in BEHAVIOURS)
        raise ConfigError(f"--malicious: expected one of {known}, got {name!r}")
    return importlib.import_module(f"{__name__}.{plain}")


def replaced(view: View) -> dict[str, int]:
    """Steps of a behaviour that the parties of a view ran, by name: how often."""
    found: dict[str, int] = {}
    for _, _, _, step in view.steps():
        if step.startswith(f"{__name__}."):
            found[step] = found.get(step, 0) + 1
    return found
