"""Options: one declaration each, a dataclass field with its help, from which command line, defaults and JSON schema follow.

@dataclass(frozen=True)
class Options(Training):
    noise: float = option(0.0, "Bound on what is added to Z1.", panel="Protection", least=0)
    weight_scale: int = as_in(Training, "weight_scale", 64)
"""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any


@dataclass(frozen=True)
class About:
    """What a field says of itself: a sentence for `--help` and the schema, the panel of `--help` that it stands in, its bounds.

    `flag` is its name on the command line where that is another than the field's; empty for a field that follows from others
    and is no option. `large` is its default on data sets larger than the digits, where that is another.
    """

    help: str
    panel: str = "Protection"
    least: float | None = None
    most: float | None = None
    flag: str | None = None
    large: Any = None


def option(default: Any, help: str, **more: Any) -> Any:
    """A dataclass field that is an option; `more` as in `About`."""
    return field(default=default, metadata={"about": About(help, **more)})


def derived(help: str, default: Any = MISSING, factory: Any = MISSING, **more: Any) -> Any:
    """A dataclass field that is no option, but follows from the data or from other options; `factory` makes its default."""
    metadata = {"about": About(help, flag="", **more)}
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def as_in(base: type, name: str, default: Any, **more: Any) -> Any:
    """The option of this name of another class, with another default; `more` replaces what it says of itself."""
    declared = next(each for each in fields(base) if each.name == name)
    said = declared.metadata["about"]
    return field(default=default, metadata={"about": replace(said, large=None, **more)})


def about(declared: Field[Any]) -> About | None:
    """What a field says of itself, if it does."""
    found: About | None = declared.metadata.get("about")
    return found
