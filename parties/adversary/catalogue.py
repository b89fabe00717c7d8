"""The attacks by name."""

from __future__ import annotations

import importlib
from types import ModuleType

from protocols.errors import ConfigError

ATTACKS = ("labels", "lp", "master_key", "smooth", "stack", "tv")


def find_attack(name: str) -> ModuleType:
    """The module of an attack; `-` and `_` are the same. Raises `ConfigError` that lists the names."""
    plain = name.replace("-", "_")
    if plain not in ATTACKS:
        raise ConfigError(f"unknown attack {name!r}; known: {', '.join(a.replace('_', '-') for a in ATTACKS)}")
    return importlib.import_module(f"parties.adversary.{plain}")
