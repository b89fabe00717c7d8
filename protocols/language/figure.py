"""The message figure of a protocol: which arrows its paper draws, and the same drawn as text or mermaid.

A protocol's `FIGURE` is a tuple of arrows. A session refuses a message that is not an arrow of it, and a test
compares the arrows with those of a run.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from types import UnionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.precision import real
from protocols.language.roles import Role

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
    ...]` or `A | B` of such. Shapes are the business of the step that uses the value. `when` is a switch such
    as `gradient=fe`, or several with commas between, of which each may name several values
    (`init=owner|shared`); the arrow is drawn only in runs whose configuration has these values.
    """

    phase: str
    sender: Role
    receiver: Role
    label: str
    note: str = ""
    when: str = ""
    type: Any = None

    def applies(self, config: Any) -> bool:
        """Whether a run with this configuration sends the arrow."""
        switches = (switch.partition("=") for switch in self.when.split(",") if switch)
        return all(_text(getattr(config, option)) in value.split("|") for option, _, value in switches)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """(phase, sender, receiver, label), by which a message is recognised."""
        return self.phase, self.sender.value, self.receiver.value, self.label


Figure = tuple[Arrow, ...]


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of the type that an arrow states; a subclass is another class. float32 stands for
    the type in which the run computes.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (UnionType, typing.Union):
        return any(fits(value, one) for one in inner)
    if origin is np.ndarray:
        (scalar,) = typing.get_args(inner[1])
        scalar = real() if scalar is np.float32 else scalar
        return isinstance(value, np.ndarray) and (scalar is Any or np.issubdtype(value.dtype, scalar))
    if origin in (list, dict):
        items = value.values() if isinstance(value, dict) else value
        return type(value) is origin and all(fits(item, inner[-1]) for item in items)
    return type(value) is kind


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
        lines.append(f"  {route:<32}{arrow.label:<12}{arrow.note}{when}".rstrip())
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
