"""Options: one declaration each, a dataclass field with its help; command line, defaults and JSON schema
follow from it.

@dataclass(frozen=True)
class Options(Training):
    noise: float = option(0.0, "Bound on what is added to Z1.", panel="Protection", least=0)
    weight_scale: int = as_in(Training, "weight_scale", 64)
"""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from enum import Enum
from typing import Any

from protocols.language.errors import ConfigError


@dataclass(frozen=True)
class About:
    """What a field says of itself: a sentence for `--help` and the schema, the panel of `--help`, its bounds.

    `flag` is its name on the command line where that is another than the field's; empty for a field that
    follows from others and is no option. `alias` is a second name, `metavar` what `--help` prints for a
    value. `large` is its default on data sets larger than the digits, where that is another. `pattern`: a
    regular expression for text. `optional`: written down only where it has a value. `holds`: the class whose
    fields are the keys of a dictionary.
    """

    help: str
    panel: str = "Protection"
    least: float | None = None
    most: float | None = None
    flag: str | None = None
    alias: str = ""
    metavar: str | None = None
    large: Any = None
    pattern: str = ""
    optional: bool = False
    holds: Any = None


def option(default: Any, help: str, **more: Any) -> Any:
    """A dataclass field that is an option; `more` as in `About`."""
    return field(default=default, metadata={"about": About(help, **more)})


def derived(help: str, default: Any = MISSING, factory: Any = MISSING, **more: Any) -> Any:
    """A field that is no option, but follows from the data or from other options; `factory` makes its
    default.
    """
    metadata = {"about": About(help, flag="", **more)}
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def as_in(base: type, name: str, default: Any, **more: Any) -> Any:
    """The option of this name of another class, with another default; `more` replaces what it says."""
    declared = next(each for each in fields(base) if each.name == name)
    said = declared.metadata["about"]
    return field(default=default, metadata={"about": replace(said, **{"large": None, **more})})


def about(declared: Field[Any]) -> About | None:
    """What a field says of itself, if it does."""
    found: About | None = declared.metadata.get("about")
    return found


@dataclass(frozen=True)
class Declared:
    """An option as a class declares it: `name` on the command line with `_`, the field that it fills, its
    type and default.
    """

    name: str
    field: str
    kind: Any
    default: Any
    about: About

    @property
    def flag(self) -> str:
        """Such as `--weight-scale`."""
        return flag(self.name)


def flag(name: str) -> str:
    """The name of an option as it is typed."""
    return f"--{name.replace('_', '-')}"


def options_of(cls: Any, derived: bool = False) -> dict[str, Declared]:
    """The options that a dataclass declares, by name; with `derived` also its fields that are none and have a
    default.
    """
    kinds, found = typing.get_type_hints(cls), {}
    for each in fields(cls):
        said = about(each)
        if said is None or (said.flag == "" and (not derived or each.default is MISSING)):
            continue
        name = said.flag or each.name
        found[name] = Declared(name, each.name, kinds[each.name], each.default, said)
    return found


_PLAIN = frozenset({int, float, bool, str})


def typed(kind: Any, value: Any) -> Any:
    """A value of a type from plain data or from text; `ValueError` or `TypeError` where it is none.

    Enums are given by value (`-` for `_`), tuples as lists or as text with commas, dataclasses as objects.
    """
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        inner = [each for each in typing.get_args(kind) if each is not type(None)]
        return None if value is None else typed(inner[0], value)
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if isinstance(parts, list | tuple) and item in _PLAIN and {*map(type, parts)} == {item}:
            return tuple(parts)  # as they are: a run may have a million owners
        return tuple(typed(item, part) for part in (parts if isinstance(parts, list | tuple) else [parts]))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value.replace("-", "_") if isinstance(value, str) else value)
    if is_dataclass(kind) and isinstance(value, dict):
        return from_plain(kind, value)
    if kind in (int, float) and (isinstance(value, str) or (kind is float and isinstance(value, int))):
        return kind(value)
    if kind in (int, float, bool, str) and type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}")
    return value


def from_plain(cls: Any, plain: dict[str, Any]) -> Any:
    """The dataclass that `as_plain` wrote; `ConfigError` if it is none."""
    try:
        kinds = typing.get_type_hints(cls)
        return cls(**{name: typed(kinds[name], value) for name, value in plain.items()})
    except (TypeError, ValueError, KeyError, AttributeError):
        raise ConfigError("not a configuration of this version") from None


def as_plain(value: Any) -> Any:
    """A dataclass, enum, tuple or path as plain data."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: as_plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return list(value) if {*map(type, value)} <= _PLAIN else [as_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: as_plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
