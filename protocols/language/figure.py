"""The message figure of a protocol: which arrows its paper draws, and the same drawn as text or mermaid.

A protocol's `FIGURE` is a tuple of arrows. A session refuses a message that is not an arrow of it, and a test
compares the arrows with those of a run.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, UnionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.precision import real
from protocols.language.roles import Role

Sizes = Mapping[str, int]  # what symbols of shapes stand for


@dataclass(frozen=True)
class Sized:
    """An array with these axes, and with entries from 0 to `below` - 1 where that is said.

    An axis, and `below`, is a number, a symbol, or one more than it, such as `a+1`. What it stands for is in
    the `sizes` of a run's configuration; one that is not there is free.
    """

    array: Any
    axes: tuple[str, ...]
    below: str = ""


def sized(array: Any, axes: str, below: str = "") -> Sized:
    """`Sized`, its axes in one text: `sized(Reals, "B h")`."""
    return Sized(array, tuple(axes.split()), below)


def sizes_of(config: Any) -> Sizes:
    """What the symbols of a figure's shapes stand for in a run: none where its configuration names none."""
    found: Sizes = getattr(config, "sizes", {})
    return found


# What most arrows carry.
Reals = NDArray[np.float32]
Integers = NDArray[np.integer]
Words = NDArray[np.uint64]
Bytes = NDArray[np.uint8]


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))


@dataclass(frozen=True)
class Arrow:
    """One arrow: in `phase`, `sender` sends `label` to `receiver`; `note` is the formula beside it.

    `type` is what the receiver takes, as one writes it in an annotation: a class registered with `wire` or
    one of plain data, `NDArray[...]` with a dtype or a kind such as `np.integer`, `list[...]`, `dict[str,
    ...]` or `A | B` of such; or `sized(array, axes)`, as numpy and torch would broadcast an array of another
    shape without a word. `when` is a switch such
    as `gradient=fe`, or several with commas between, of which each may name several values
    (`init=owner|shared`); the arrow is drawn only in runs whose configuration has these values. `enough` are
    such switches too: in runs that meet them, what relations read of this arrow is had from its messages of
    the first epoch, and `--record consumed` keeps the payloads of no others. Without it all are kept.
    """

    phase: str
    sender: Role
    receiver: Role
    label: str
    note: str = ""
    when: str = ""
    type: Any = None
    enough: str | None = None

    def applies(self, config: Any) -> bool:
        """Whether a run with this configuration sends the arrow."""
        return _holds(self.when, config)

    def suffices(self, config: Any) -> bool:
        """Whether its messages of the first epoch are enough for what relations read of it."""
        return self.enough is not None and _holds(self.enough, config)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """(phase, sender, receiver, label), by which a message is recognised."""
        return self.phase, self.sender.value, self.receiver.value, self.label


Figure = tuple[Arrow, ...]


def _holds(switches: str, config: Any) -> bool:
    parts = (switch.partition("=") for switch in switches.split(",") if switch)
    return all(_text(getattr(config, option)) in value.split("|") for option, _, value in parts)


def fits(value: Any, kind: Any, sizes: Sizes = MappingProxyType({})) -> bool:
    """Whether a value is of the type that an arrow states; a subclass is another class. float32 stands for
    the type in which the run computes.
    """
    if isinstance(kind, Sized):
        return fits(value, kind.array) and _has_axes(value, kind.axes, sizes) and _within(value, kind, sizes)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (UnionType, typing.Union):
        return any(fits(value, one, sizes) for one in inner)
    if origin is np.ndarray:
        (scalar,) = typing.get_args(inner[1])
        scalar = real() if scalar is np.float32 else scalar
        return isinstance(value, np.ndarray) and (scalar is Any or np.issubdtype(value.dtype, scalar))
    if origin in (list, dict):
        items = value.values() if isinstance(value, dict) else value
        return type(value) is origin and all(fits(item, inner[-1], sizes) for item in items)
    return type(value) is kind


def shown(kind: Any, sizes: Sizes) -> str:
    """A type in words, with the sizes that are known."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, Sized):
        found = [_size(axis, sizes) for axis in kind.axes]
        axes = ", ".join(axis if n is None else str(n) for axis, n in zip(kind.axes, found, strict=True))
        most = _size(kind.below, sizes)
        return f"{shown(kind.array, sizes)} ({axes})" + ("" if most is None else f" from 0 to {most - 1}")
    if origin in (UnionType, typing.Union):
        return " or ".join(shown(one, sizes) for one in inner)
    if origin is np.ndarray:
        (scalar,) = typing.get_args(inner[1])
        return str(getattr(real() if scalar is np.float32 else scalar, "__name__", "array"))
    if origin in (list, dict):
        return f"{origin.__name__} of {shown(inner[-1], sizes)}"
    return str(getattr(kind, "__name__", kind))


def _has_axes(value: NDArray[Any], axes: tuple[str, ...], sizes: Sizes) -> bool:
    expected = [_size(axis, sizes) for axis in axes]
    return len(expected) == value.ndim and all(
        size in (None, side) for size, side in zip(expected, value.shape, strict=True)
    )


def _within(value: NDArray[Any], kind: Sized, sizes: Sizes) -> bool:
    most = _size(kind.below, sizes)
    return most is None or not value.size or bool(value.min() >= 0 and value.max() < most)


def _size(axis: str, sizes: Sizes) -> int | None:
    symbol, _, more = axis.partition("+")
    if symbol.isdigit():
        return int(symbol)
    return sizes[symbol] + int(more or 0) if symbol in sizes else None


def as_text(figure: Figure) -> str:
    """The figure as one line an arrow, grouped by phase."""
    lines: list[str] = []
    phase = ""
    for arrow in figure:
        if arrow.phase != phase:
            phase = arrow.phase
            lines.append(phase)
        when = f"  [{arrow.when}]" if arrow.when else ""
        route = f"{arrow.sender.value} -> {arrow.receiver.value}"
        lines.append(f"  {route:<32}{arrow.label:<14}{arrow.note}{when}".rstrip())
    return "\n".join(lines)


def as_mermaid(figure: Figure) -> str:
    """The figure as a mermaid sequence diagram."""
    roles = dict.fromkeys(role for arrow in figure for role in (arrow.sender, arrow.receiver))
    lines = ["sequenceDiagram"] + [f"    participant {role.value}" for role in roles]
    phase = ""
    for arrow in figure:
        if arrow.phase != phase:
            phase = arrow.phase
            lines.append(f"    Note over {','.join(role.value for role in roles)}: {phase}")
        text = ": ".join(part for part in (arrow.label, arrow.note) if part)
        when = f" [{arrow.when}]" if arrow.when else ""
        lines.append(f"    {arrow.sender.value}->>{arrow.receiver.value}: {text}{when}")
    return "\n".join(lines)
