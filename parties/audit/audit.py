"""What the view of every party, and of every pair, determines of what the others put in and drew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from parties.audit import quantities
from parties.audit.determined import (
    DETERMINED,
    LINEAR,
    OPEN,
    STENCIL,
    STEP,
    Moment,
    Seen,
    Spectrum,
    residuals,
    seen,
    slope,
    spectra,
)
from parties.audit.draws import INPUT, PAD, Unknown
from parties.audit.instance import Instance
from parties.audit.quantities import Layout, Quantity
from parties.audit.watch import Trace
from protocols.crypto.ideal import KEY, NUMBERS
from protocols.language.roles import DATA_OWNER, role_of

HIDDEN = (NUMBERS, KEY)

Reals = NDArray[np.float64]
_STILL = 1e-9  # a derivative below is none


@dataclass(frozen=True)
class Answer:
    """How many of `total` quantities of a kind a view determines, from which moment on, and how sure that is.

    `since`: when the first and when the last of them followed. `undecided`: those whose gradients lie neither
    in the row space nor clearly outside.
    """

    name: str
    total: int
    determined: int
    undecided: int
    since: tuple[Moment, Moment] | None
    residual: float
    curve: tuple[int, ...] = ()  # how many are determined after each moment of the finding

    @property
    def verdict(self) -> str:
        """In words."""
        if self.undecided:
            return "undecided"
        return (
            "determined"
            if self.determined == self.total
            else "in part"
            if self.determined
            else "nothing found"
        )


@dataclass(frozen=True)
class Finding:
    """What a coalition can tell: rank of what it saw among `unknowns`, the gap below it, and the answers.

    `steps`: labels of messages that depend on what it does not know in steps only, which no derivative sees.
    `left_out`: what the coalition sees and no ideal form shows.
    """

    coalition: tuple[str, ...]
    unknowns: int
    rank: int
    gap: float
    decided: bool
    answers: tuple[Answer, ...]
    steps: tuple[str, ...]
    left_out: tuple[str, ...]
    moments: tuple[Moment, ...]  # at which it saw something


@dataclass(frozen=True)
class Report:
    """The findings of an audit, and its moments in order."""

    moments: tuple[Moment, ...]
    findings: tuple[Finding, ...]
    runs: int


def coalitions(instance: Instance) -> list[tuple[str, ...]]:
    """Every party and every pair; of many of one role the first, and the first two together."""
    first = [name for name in instance.parties if name.partition(":")[2] in ("", "0", "1")]
    alone = [name for name in first if not name.endswith(":1")]
    pairs = [
        pair
        for pair in combinations(first, 2)
        if pair[0] in alone and (pair[1] in alone or pair[1].partition(":")[0] == pair[0].partition(":")[0])
    ]
    return [(name,) for name in alone] + [pair for pair in pairs if set(pair) != set(instance.parties)]


def audit(
    instance: Instance,
    asked: Sequence[tuple[str, ...]] | None = None,
    observe: Callable[[int, int], None] = lambda done, all: None,
) -> Report:
    """Differentiate a run by every unknown and answer for every coalition."""
    derivative = Derivative(instance, observe)
    groups = list(asked) if asked is not None else coalitions(instance)
    findings = tuple(derivative.finding(group) for group in groups)
    return Report(derivative.moments, findings, derivative.runs)


class Derivative:
    """Runs of an instance with each unknown moved up and down, and with each input replaced."""

    def __init__(
        self, instance: Instance, observe: Callable[[int, int], None] = lambda done, all: None
    ) -> None:
        self.instance = instance
        self.base, found = instance.run()
        self.unknowns = list(found.values())
        size, self.runs = sum(each.values.size for each in self.unknowns), 1
        self.moved: dict[tuple[str, int], tuple[Trace, ...]] = {}
        for each in self.unknowns:
            for entry in range(each.values.size):
                points = LINEAR if each.kind == PAD else STENCIL
                self.moved[each.name, entry] = tuple(self._run(each, entry, by) for by in points)
                observe(len(self.moved), size)
        self.replaced = {each.name: self._replaced(each) for each in self.unknowns if each.kind == INPUT}
        self.moments = tuple(dict.fromkeys((m.phase, m.round) for m in self.base.messages))
        self._findings: dict[tuple[str, ...], Finding] = {}

    def _run(self, each: Unknown, entry: int, by: float) -> Trace:
        moved = np.zeros(each.values.shape)
        moved.reshape(-1)[entry] = by * each.unit
        self.runs += 1
        return self.instance.run({each.name: moved})[0]

    def _replaced(self, each: Unknown) -> Trace:
        """With all rows of an input in another order: what depends on it in steps shows now."""
        self.runs += 1
        return self.instance.run({each.name: each.values[::-1] - each.values})[0]

    def finding(self, parties: tuple[str, ...]) -> Finding:
        """The answers for a coalition, which are worked out once."""
        if parties not in self._findings:
            self._findings[parties] = self._found(parties)
        return self._findings[parties]

    def _found(self, parties: tuple[str, ...]) -> Finding:
        coalition = frozenset(parties)
        layout = Layout(self.unknowns, coalition)
        base = seen(self.base, coalition)
        rows = self._derivative(layout, base, coalition)
        found = spectra(list(_by_moment(base, rows)), layout.size)
        answers = tuple(self._answer(quantity, found) for quantity in self._quantities(layout, coalition))
        last = found[-1] if found else Spectrum(("", 0), np.zeros((0, layout.size)), np.zeros(0))
        steps = self._steps(layout, base, rows, coalition)
        moments = tuple(each.moment for each in found)
        owners = sum(role_of(party) is DATA_OWNER for party in parties)
        left_out = tuple(what for what, least in self.base.left_out.items() if owners >= least)
        return Finding(
            parties, layout.size, last.rank, last.gap, last.decided, answers, steps, left_out, moments
        )

    def _derivative(self, layout: Layout, base: list[Seen], coalition: frozenset[str]) -> list[Reals]:
        """For each thing that was seen its derivative (numbers, u), in units of what it measures."""
        columns = []
        for each in layout.unknowns:
            for entry in range(each.values.size):
                there = (aligned(base, seen(trace, coalition)) for trace in self.moved[each.name, entry])
                columns.append([slope(values) for values in zip(*there, strict=True)])
        scales = [max(float(np.abs(item.numbers).max(initial=0.0)), 1e-12) for item in base]
        if not columns:
            return [np.zeros((len(item.numbers), 0)) for item in base]
        return [
            np.stack(parts, axis=1) / scale
            for parts, scale in zip(zip(*columns, strict=True), scales, strict=True)
        ]

    def _quantities(self, layout: Layout, coalition: frozenset[str]) -> Iterator[Quantity]:
        merged: dict[str, list[Reals]] = {}
        for quantity in quantities.entries(layout):
            merged.setdefault(quantity.name, []).append(quantity.gradients)
        for name, gradients in merged.items():
            yield Quantity(name, quantities.some(np.vstack(gradients)))
        yield from quantities.of_samples(layout)
        yield from self._weights(layout, coalition)
        yield from self._under_keys(layout, coalition)
        function = getattr(self.instance.protocol, "quantities", None)
        if function is not None:
            inputs = [each for each in self.unknowns if each.kind == INPUT]
            yield from quantities.of_function(layout, function, inputs, STEP)

    def _weights(self, layout: Layout, coalition: frozenset[str]) -> Iterator[Quantity]:
        """What each party outside revealed last to the experimenter: its trained weights."""
        last: dict[str, tuple[str, str, int]] = {}
        for key in self.base.outputs:
            if key[0] not in coalition:
                last[key[0]] = key
        for party, key in last.items():
            yield from self._moving(f"trained weights of {party}", layout, partial(_outputs, key))

    def _under_keys(self, layout: Layout, coalition: frozenset[str]) -> Iterator[Quantity]:
        """What others encrypted, or hid in keys, apart from inputs as they are."""
        labels: dict[str, list[int]] = {}
        for i, message in enumerate(self.base.messages):
            if message.sender not in coalition and any(each.what in HIDDEN for each in message.sealed):
                labels.setdefault(message.label, []).append(i)
        for label, places in labels.items():
            yield from self._moving(f"what {label} hides", layout, partial(_plaintexts, places))

    def _moving(self, name: str, layout: Layout, read: Callable[[Trace], Reals]) -> Iterator[Quantity]:
        """Numbers of a trace as quantities, those that depend on something that is not known."""
        columns = [
            slope([read(trace) for trace in self.moved[each.name, entry]])
            for each in layout.unknowns for entry in range(each.values.size)
        ]  # fmt: skip
        gradients = np.stack(columns, axis=1) if columns else np.zeros((0, 1))
        gradients = gradients[np.abs(gradients).max(axis=1, initial=0.0) > _STILL]
        if len(gradients):
            yield Quantity(name, quantities.some(gradients))

    def _answer(self, quantity: Quantity, found: list[Spectrum]) -> Answer:
        total = len(quantity.gradients)
        if not found:
            return Answer(quantity.name, total, 0, 0, None, 1.0)
        last = residuals(quantity.gradients, found[-1])
        fixed = last < DETERMINED
        undecided = (last >= DETERMINED) & (last <= OPEN)
        if not found[-1].decided:
            undecided |= ~fixed
        since, curve = None, (0,) * len(found)
        if fixed.any():
            counts = [int((residuals(quantity.gradients[fixed], each) < DETERMINED).sum()) for each in found]
            curve = tuple(counts)
            first = next(i for i, count in enumerate(counts) if count)
            whole = next(i for i, count in enumerate(counts) if count == fixed.sum())
            since = found[first].moment, found[whole].moment
        median = float(np.median(last))
        return Answer(quantity.name, total, int(fixed.sum()), int(undecided.sum()), since, median, curve)

    def _steps(
        self, layout: Layout, base: list[Seen], rows: list[Reals], coalition: frozenset[str]
    ) -> tuple[str, ...]:
        """Labels of what changes when an input is replaced, but not when it is moved."""
        flat = [np.abs(derivative).max(initial=0.0) < 1e-12 for derivative in rows]
        found = []
        for each in layout.unknowns:
            if each.kind != INPUT:
                continue
            other = seen(self.replaced[each.name], coalition)
            for item, moved, still in zip(base, other, flat, strict=False):
                same = item.numbers.shape == moved.numbers.shape and np.array_equal(
                    item.numbers, moved.numbers
                )
                if still and not same:
                    found.append(item.label)
        return tuple(dict.fromkeys(found))


def aligned(base: Sequence[Seen], moved: Sequence[Seen]) -> list[Reals]:
    """The numbers of a moved run in the places of the run; where it sent something else, those of the run:
    what comes and goes has no derivative, and is found by `_steps`.
    """
    there = [*moved, *[None] * len(base)]
    return [
        item.numbers if other is None or other.numbers.shape != item.numbers.shape else other.numbers
        for item, other in zip(base, there, strict=False)
    ]


def _outputs(key: tuple[str, str, int], trace: Trace) -> Reals:
    """What was revealed under a key."""
    return trace.outputs[key]


def _plaintexts(places: list[int], trace: Trace) -> Reals:
    """What is hidden in some messages."""
    found = [
        np.asarray(each).ravel() for i in places for each in trace.messages[i].sealed if each.what in HIDDEN
    ]
    return np.concatenate(found)


def _by_moment(base: list[Seen], rows: list[Reals]) -> Iterator[tuple[Moment, Reals]]:
    moments: dict[Moment, list[Reals]] = {}
    for item, derivative in zip(base, rows, strict=True):
        moments.setdefault(item.moment, []).append(derivative)
    for moment, parts in moments.items():
        yield moment, np.vstack(parts)
