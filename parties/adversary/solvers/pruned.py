"""Samples that alone moved a unit, from changes of which the smallest entries were set back to zero.

An entry that is left is as it was: over that of the unit's bias it is a pixel, whole. One that is not left is
no larger than the smallest that is, so that its pixel is at most that over the bias: below 1 it is 0. Units
that give the same pixels where they have some in common are of one sample, and are put together. This
project's derivation; that pruning alone hides little is known (L. Zhu, Z. Liu, S. Han, NeurIPS 2019).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import Relations
from parties.adversary.solvers.moves import own
from parties.adversary.solvers.rows import fits
from protocols.language.relations import KnownMap, Pruned, now

Reals = NDArray[np.float64]

_WHOLE = 0.1  # of a pixel step that an entry may be off
_COMMON, _VALUES = 8, 4  # pixels that are not 0, and their values, by which two units are of one sample


@dataclass(frozen=True)
class Part:
    """A sample as far as it is known: pixels from `low` to `high`, (n,) each; known where these are equal."""

    low: Reals
    high: Reals

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which pixels (n,) are."""
        return np.asarray(self.low == self.high, dtype=np.bool_)

    def of_one(self, other: Part) -> bool:
        """Whether nothing speaks against that both are one sample, and enough pixels for it."""
        fit = (self.low <= other.high) & (other.low <= self.high)
        common = self.known & other.known & (self.low > 0)
        return bool(fit.all() and common.sum() >= _COMMON and len(np.unique(self.low[common])) >= _VALUES)

    def with_other(self, other: Part) -> Part:
        """What both say."""
        return Part(np.maximum(self.low, other.low), np.minimum(self.high, other.high))


def of_changes(relations: Relations, x_max: int) -> Iterator[tuple[NDArray[np.int64], list[Part], int]]:
    """Of each pruned change between maps with a bias that the view knows: the positions of the samples of
    others that moved it, what it gives of them, and its round.
    """
    known, mine = {k.map: k for k in relations.of(KnownMap)}, own(relations)
    for each in sorted(relations.of(Pruned), key=lambda each: (each.since, each.after.owner)):
        ends = [known[which] for which in (each.before, each.after) if which in known]
        index = np.setdiff1d(each.samples, mine)
        if len(ends) < 2 or not len(index) or any(end.bias is None for end in ends):
            continue
        maps = [np.asarray(now(end.value), np.float64) for end in ends]
        biases = [np.asarray(now(end.bias), np.float64) for end in ends]
        noise = [2 * each.roundoff * float(np.abs(after).max(initial=0.0)) for after in (maps[1], biases[1])]
        found = parts_by_bias(maps[0] - maps[1], biases[0] - biases[1], (noise[0], noise[1]), x_max)
        yield index, found[: len(index)], each.since


def parts_by_bias(matrix: Reals, bias: Reals, noise: tuple[float, float], x_max: int) -> list[Part]:
    """Samples by the units that they alone moved, of what pruning left of D X (h, n) and D 1 (h,), with
    errors of about `noise` each; each sample once, the units that moved most first.
    """
    least = float(np.abs(matrix[matrix != 0]).min(initial=np.inf))
    found = list[Part]()
    for i in np.argsort(-np.abs(bias), kind="stable"):
        (left,) = np.nonzero(matrix[i])
        if not bias[i] or not len(left):
            continue
        off = 2 * (noise[0] + x_max * noise[1]) / abs(bias[i])
        values = matrix[i, left] / bias[i]
        if off > _WHOLE or not fits(values[None], np.array([off]), x_max)[0]:
            continue
        low, high = np.zeros(matrix.shape[1]), np.full(matrix.shape[1], float(x_max))
        high[:] = min(float(np.floor(least / abs(bias[i]) + off)), x_max)
        low[left] = high[left] = np.rint(values)
        found.append(Part(low, high))
    return united(found)


def united(parts: list[Part]) -> list[Part]:
    """Each sample once."""
    found = list[Part]()
    for part in parts:
        same = next((k for k, each in enumerate(found) if each.of_one(part)), None)
        if same is None:
            found.append(part)
        else:
            found[same] = found[same].with_other(part)
    return found
