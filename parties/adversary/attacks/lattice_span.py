"""Images from the space that an update spans: pixels are whole numbers.

A party that sees W before and after an owner's training knows W - W' = D X, with D unknown: over the reals
the samples up to mixing, which `update` returns as a span. The whole vectors of that space are a lattice of
dimension b, and the images are its points in the pixel range: an observation of this project, derived in
`solvers/spans.py`. So it goes for the authority alone with each owner's copy, and under secure aggregation
with the sum over all owners: for the authority, and for an owner with two averages in a row.

Known: the span itself; for ReLU, whose zeros in D are searched instead, SPEAR (D. Dimitrov et al., NeurIPS
2024, arXiv:2403.03945); lattices on gradients, arXiv:2409.14260. Here nothing is asked of D but rank b at the
noise of the numbers, and no class, no prior and no zero pixel is used.

Where all points in range were looked at, as the notes say, what is returned must be samples, as no other
point can bring their directions; elsewhere none that was looked at can. Points that could stand for each
other are left out, and counted. Momentum moves W by the samples of earlier rounds again: that is taken off,
and where too little is left, changes that overlap are searched as they are: what two of them give counts
once, and what brings no new sample is not searched. In no order, so
scored by one matching. Assumes b <= h, b of 48 at most, and float32 or better. Costs a lattice reduction (4 b
columns) and an enumeration for each change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.solvers.moves import Moved, changes, own, samples_of, unmixed
from parties.adversary.solvers.spans import points_of_span
from protocols.language.relations import KnownMap, Samples, Update, now

NAME = "lattice_span"
SUMMARY = "many owners: images from the span of an update alone, as its whole points in the pixel range"
CONSUMES = (KnownMap, Update)

MOST = 48  # dimension of a lattice that is searched: a third of the pixels that are reduced
_LOOKS = 3  # changes that a sample is looked for in, while it is not known to be found
_WORK = 8  # times the cost of looking once for each sample, in sums of MOST, at about b^3 for b samples


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """The samples of every change between two known maps that has few enough of them and moves a new one,
    each sample once: with momentum a change moves those of the rounds before it too.
    """
    del rng  # nothing here is drawn
    every, mine = changes(relations), own(relations)
    if not every:
        raise NotApplicable("the view holds no two maps in a row that samples of others moved")
    held = own_rows(relations)
    found: list[Found] = []
    unexplained: list[float] = []
    searched: list[bool] = []
    todo = _WORK * max(relations.count(), MOST) * MOST**2
    passed = 0
    for moved, change, since in together(relations):
        index = np.setdiff1d(moved, mine)
        if len(moved) > min(MOST, len(change)) or nothing_new(index, found):
            continue
        if len(moved) ** 3 > todo:
            passed += 1
            continue
        todo -= len(moved) ** 3
        points, off = points_of_span(change, len(moved), prior.x_max, noise=1.0)
        rows = points.rows[[row.tobytes() not in held for row in points.rows]]
        unexplained.append(off)
        searched.append(points.only)
        found.append(Found(index, rows, since))
    if not found:
        most = min(len(samples_of(update)) for update, _, _ in every)
        raise NotApplicable(
            f"every change sums up at least {most} samples: at most {MOST}, and no more than h"
        )
    index = np.unique(np.concatenate([each.index for each in found]))
    rows, last = merged(found)
    values = np.full((len(index), prior.pixels), np.nan, dtype=np.float32)
    values[: len(rows)] = rows[: len(index)] / prior.x_max
    solved = min(len(rows), len(index))
    notes = {
        "solved": solved,
        "left_out_or_not_found": len(index) - solved,
        "unexplained_over_noise": [round(off, 2) for off in unexplained[:16]],
        "all_points_looked_at": searched[:16],
        "changes_not_searched_for_time": passed,
    }
    when = last if solved == len(index) else None
    return Reconstruction(Quantity.UNORDERED_IMAGES, index, values, when, notes=notes)


def of_rows(
    relations: Relations,
    every: list[Moved],
    rows_of: Callable[[Moved, Prior], NDArray[np.int64]],
    prior: Prior,
    condition: str = "alone in moving a unit",
) -> Reconstruction:
    """The samples that changes give one by one, each once; `NotApplicable` where none of them is as the
    `condition` says.
    """
    mine, held, found, looked = own(relations), own_rows(relations), list[Found](), 0
    todo = np.unique(np.concatenate([np.setdiff1d(each.index, mine) for each in every]))
    count = 0
    for each in every:
        if count == len(todo):
            break
        looked += 1
        rows = rows_of(each, prior)
        rows = rows[[row.tobytes() not in held for row in rows]]
        found.append(Found(np.setdiff1d(each.index, mine), rows[: len(each.index)], each.since))
        count = len(merged(found)[0]) if len(rows) else count
    if not count:
        most = min(len(each.index) for each in every)
        raise NotApplicable(f"no sample was {condition}, in {looked} changes by at least {most} samples each")
    rows, last = merged(found)
    values = np.full((len(todo), prior.pixels), np.nan, dtype=np.float32)
    values[: len(rows)] = rows[: len(todo)] / prior.x_max
    notes = {"solved": min(len(rows), len(todo)), "changes": looked}
    when = last if len(rows) == len(todo) else None
    return Reconstruction(Quantity.UNORDERED_IMAGES, todo, values, when, notes=notes)


def own_rows(relations: Relations) -> set[bytes]:
    """The samples of parties of the view, as bytes."""
    return {
        row.tobytes() for s in relations.of(Samples) if s.own for row in np.asarray(now(s.values), np.int64)
    }


@dataclass(frozen=True)
class Found:
    """What a change gave: whole rows (m, n) of samples at `index`, of which there can be more, and when."""

    index: NDArray[np.int64]
    rows: NDArray[np.int64]
    since: int


def nothing_new(index: NDArray[np.int64], found: list[Found]) -> bool:
    """Whether each of some samples was in a change that gave all of its own, or in `_LOOKS` that did not."""
    looks = np.zeros(len(index), np.int64)
    for each in found:
        looks += np.isin(index, each.index) * (_LOOKS if len(each.rows) == len(each.index) else 1)
    return bool((looks >= _LOOKS).all())


def merged(found: list[Found]) -> tuple[NDArray[np.int64], int]:
    """Rows (m, n) of all changes, and the last round that brought one: a row that changes with a sample in
    common give is one sample; where they have none in common it is two that are alike.
    """
    parts, last = [found[0].rows[:0]], 0
    for number, each in enumerate(found):
        known = {
            row.tobytes()
            for other in found[:number]
            if len(np.intersect1d(other.index, each.index))
            for row in other.rows
        }
        fresh = each.rows[[row.tobytes() not in known for row in each.rows]]
        parts, last = [*parts, fresh], max(last, each.since) if len(fresh) else last
    return np.vstack(parts), last


def together(
    relations: Relations, some: list[Update] | None = None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], int]]:
    """Changes that the same samples moved, one above the other, in units of their noise: (samples, matrix,
    the last round), of some updates or of all. First each of as few samples as can be, where what momentum
    carries over is taken off; then as they are, which is less exact where many are taken off.
    """
    apart = [(m.index, m.matrix, m.noise, m.since) for m in unmixed(relations, some)]
    mixed = sorted(changes(relations, some), key=lambda c: (c[0].since, c[0].after.owner))
    seen: set[bytes] = set()
    for every in (apart, [(samples_of(u), matrix, noise, u.since) for u, matrix, noise in mixed]):
        groups: dict[bytes, list[tuple[NDArray[np.int64], NDArray[np.float64], float, int]]] = {}
        for each in every:
            if each[0].tobytes() not in seen:
                groups.setdefault(each[0].tobytes(), []).append(each)
        seen |= groups.keys()
        for group in groups.values():
            stacked = np.vstack([matrix / noise for _, matrix, noise, _ in group])
            yield group[0][0], stacked, max(since for *_, since in group)
