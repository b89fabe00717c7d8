"""Options: one declaration each, a dataclass field with its help, from which command line, defaults and JSON schema follow.

@dataclass(frozen=True)
class Options(Training):
    noise: float = option(0.0, "Bound on what is added to Z1.", panel="Protection", least=0)
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field
from typing import Any


@dataclass(frozen=True)
class About:
    """What a field says of itself: a sentence for `--help` and the schema, the panel of `--help` that it stands in, its bounds.

    `flag` is its name on the command line where that is another than the field's; empty for a field that follows from others
    and is no option.
    """

    help: str
    panel: str = "Protection"
    least: float | None = None
    most: float | None = None
    flag: str | None = None


def option(default: Any, help: str, **more: Any) -> Any:
    """A dataclass field that is an option; `more` as in `About`."""
    return field(default=default, metadata={"about": About(help, **more)})


def about(declared: Field[Any]) -> About | None:
    """What a field says of itself, if it does."""
    found: About | None = declared.metadata.get("about")
    return found
