"""What an audit asks for: quantities of unknowns, each with its gradient.

Of every input: its entries; of rows (samples) also norms, inner products, differences and means. Of every
draw its entries, of every network that is revealed to the experimenter the weights. A protocol adds its own
by a function `quantities(inputs)`, from inputs by party and label to arrays by name, which is differentiated
like all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from parties.audit.draws import INPUT, Unknown
from protocols.language.roles import DATA_OWNER

Reals = NDArray[np.float64]
_MOST = 400  # gradients of a kind: beyond, an even choice of them


@dataclass(frozen=True)
class Quantity:
    """A kind of quantity and its gradients (q, u), in units of the unknowns."""

    name: str
    gradients: Reals


class Layout:
    """Where the entries of the unknowns that a coalition does not know lie in a vector."""

    def __init__(self, unknowns: Sequence[Unknown], coalition: frozenset[str]) -> None:
        self.unknowns = [each for each in unknowns if not each.owners & coalition]
        self.start, at = dict[str, int](), 0
        for each in self.unknowns:
            self.start[each.name] = at
            at += each.values.size
        self.size = at

    def rows(self, each: Unknown) -> Iterator[Reals]:
        """For every row (sample) of an unknown the matrix (n, u) that picks it."""
        count, width = each.values.shape
        for i in range(count):
            pick = np.zeros((width, self.size))
            at = self.start[each.name] + i * width
            pick[np.arange(width), at + np.arange(width)] = 1.0
            yield pick


def entries(layout: Layout) -> Iterator[Quantity]:
    """The unknowns themselves."""
    for each in layout.unknowns:
        at = layout.start[each.name]
        gradients = np.zeros((each.values.size, layout.size))
        gradients[np.arange(each.values.size), at + np.arange(each.values.size)] = 1.0
        yield Quantity(named(each), gradients)


def of_samples(layout: Layout) -> Iterator[Quantity]:
    """Norms, inner products, differences and means of the rows of inputs that are not one-hot labels."""
    inputs = [each for each in layout.unknowns if each.kind == INPUT and each.values.ndim == 2]
    picked = [(each, x / each.unit, pick) for each in inputs if not one_hot(each.values)
              for x, pick in zip(each.values, layout.rows(each), strict=True)]  # fmt: skip
    for label in dict.fromkeys(label_of(each) for each, _, _ in picked):
        own = [(x, pick) for each, x, pick in picked if label_of(each) == label]
        pairs = list(combinations(own, 2))
        yield Quantity(f"{label}: norms", np.array([2 * x @ pick for x, pick in own]))
        if len({len(x) for x, _ in own}) != 1 or not pairs:
            continue
        yield Quantity(f"{label}: inner products", np.array([x @ q + y @ p for (x, p), (y, q) in pairs]))
        yield Quantity(f"{label}: differences", some(np.vstack([p - q for (_, p), (_, q) in pairs])))
        yield Quantity(f"{label}: mean", np.mean([pick for _, pick in own], axis=0))


def of_function(
    layout: Layout,
    function: Callable[[Mapping[str, Mapping[str, Reals]]], Mapping[str, Reals]],
    inputs: Sequence[Unknown],
    step: float,
) -> Iterator[Quantity]:
    """What a protocol adds."""
    names: dict[str, list[Reals]] = {}
    for each in layout.unknowns:
        for entry in range(each.values.size):
            moved = [_inputs(inputs, each, entry, sign * step * each.unit) for sign in (1, -1)]
            up, down = (function(values) for values in moved)
            for name in up:
                column = (np.ravel(up[name]) - np.ravel(down[name])) / (2 * step)
                names.setdefault(name, []).append(column)
    for name, columns in names.items():
        yield Quantity(name, np.stack(columns, axis=1))


def _inputs(inputs: Sequence[Unknown], moved: Unknown, entry: int, by: float) -> dict[str, dict[str, Reals]]:
    found: dict[str, dict[str, Reals]] = {}
    for each in inputs:
        values = each.values.copy()
        if each is moved:
            values.reshape(-1)[entry] += by
        (party,) = each.owners
        found.setdefault(party, {})[each.name.partition(" ")[2]] = values
    return found


def some(gradients: Reals) -> Reals:
    """At most so many of them, evenly."""
    return gradients if len(gradients) <= _MOST else gradients[:: -(-len(gradients) // _MOST)]


def label_of(each: Unknown) -> str:
    """The label of an input; with its role, where that is no data owner."""
    party, _, label = each.name.partition(" ")
    role = party.partition(":")[0]
    return label if role == DATA_OWNER.value else f"{label} of {role}"


def named(each: Unknown) -> str:
    """What an unknown is called in a table: an input by its label, a draw by its kind."""
    return label_of(each) if each.kind == INPUT else each.kind


def one_hot(values: Reals) -> bool:
    """Whether rows are one-hot."""
    return bool(((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all())
