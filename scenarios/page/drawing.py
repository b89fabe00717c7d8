"""Where things stand on a page: the sequence diagram, and curves; numbers for the template to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scenarios.page.timeline import Crossing

WIDTH, TOP, PHASE, ARROW, MARGIN = 760, 24, 44, 46, 90
CHART = (360, 150)
_PAD = (44, 10, 14, 26)  # left, top, right, bottom


@dataclass(frozen=True)
class Lane:
    """A role and where its line stands."""

    role: str
    x: float


@dataclass(frozen=True)
class Placed:
    """An arrow on the diagram, from `x1` to `x2` at height `y`; `number` is its place among the crossings."""

    number: int
    label: str
    note: str
    sender: str
    receiver: str
    x1: float
    x2: float
    y: float


@dataclass(frozen=True)
class Phase:
    """The heading of a phase."""

    name: str
    y: float


@dataclass(frozen=True)
class Diagram:
    """A sequence diagram of width `WIDTH`."""

    lanes: list[Lane]
    phases: list[Phase]
    arrows: list[Placed]
    height: float


def diagram(crossed: Sequence[Crossing], notes: dict[tuple[str, str, str, str], str]) -> Diagram:
    """The arrows of a run by phase, in order of their first messages; `notes`: formulas from the figure."""
    roles = list(dict.fromkeys(role for each in crossed for role in (each.sender, each.receiver)))
    step = (WIDTH - 2 * MARGIN) / max(1, len(roles) - 1)
    lanes = {role: MARGIN + k * step for k, role in enumerate(roles)}
    phases, arrows, y = list[Phase](), list[Placed](), float(TOP)
    for name in dict.fromkeys(each.phase for each in crossed):
        y += PHASE
        phases.append(Phase(name, y))
        for number, each in enumerate(crossed):
            if each.phase == name:
                y += ARROW
                key = each.phase, each.sender, each.receiver, each.label
                arrows.append(
                    Placed(
                        number, each.label, notes.get(key, ""), each.sender, each.receiver,
                        lanes[each.sender], lanes[each.receiver], y,
                    )
                )  # fmt: skip
    return Diagram([Lane(role, x) for role, x in lanes.items()], phases, arrows, y + 30)


@dataclass(frozen=True)
class Curve:
    """A polyline in a chart of size `CHART`, its bounds, and a line for those who do not see it."""

    title: str
    party: str
    points: str
    x_least: float
    x_most: float
    y_most: float
    said: str


def curve(
    title: str, party: str, xs: Sequence[float], ys: Sequence[float], y_most: float, said: str
) -> Curve:
    """Values against training steps."""
    left, top, right, bottom = _PAD
    width, height = CHART[0] - left - right, CHART[1] - top - bottom
    least, most = min(xs), max(max(xs), min(xs) + 1)
    points = " ".join(
        f"{left + width * (x - least) / (most - least):.1f},{top + height * (1 - y / (y_most or 1)):.1f}"
        for x, y in zip(xs, ys, strict=True)
    )
    return Curve(title, party, points, least, most, y_most, said)
