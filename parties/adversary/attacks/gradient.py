"""Solve the first layer's gradients for the samples: dW1 = dZ1^T X_B / B has one solution X_B once dZ1 has
rank B.

That gradients of a dense layer give its inputs away is known (L. Phong et al., IEEE TIFS 13(5), 2018); here
it is taken to protocols whose parties hold them in three forms. The strongest that the view holds is used:

* function keys for the rows of dZ1, which work on the encrypted rows of every X_B^T: exact integers. Keys of
  any step work on every batch, so those of the first step open all;
* dZ1 and dW1 in float32: least squares, each row weighted by a bound on its rounding, then rounded to
  integers. A sample is taken when its propagated error is far below half a pixel step and all of its pixels
  come out as integers, it is then subtracted from the rest, and a batch is checked against its gradients
  within that bound. Later visits are stacked until the rank is B;
* a rounded W1 of every step and dZ1, without any ciphertext: an estimate (`requests.py`).

Assumes nothing about the data in the first two cases. Costs B decryptions of n elements a batch, or a
factorisation B x B a visit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.attacks import requests
from parties.adversary.solvers.exact import Echelon, solve_determined
from parties.adversary.solvers.portions import Portions
from protocols.language.relations import Combinations, Instance, Update, now

NAME = "gradient"
SUMMARY = "dW1 = dZ1 X_B / B: exact integers from a batch's gradients once dZ1 has rank B"
CONSUMES = (Combinations | Instance | Update,)

Reals = NDArray[np.float64]

_LISTED = 100
_CURVE = 200


@dataclass(frozen=True)
class Opened:
    """Samples of a block that were solved for: positions `index` (m,) among `block`, integers (m, n), since
    which round (m,).
    """

    block: NDArray[np.int64]
    index: NDArray[np.int64]
    x: NDArray[np.int64]
    steps: NDArray[np.int64]


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Solve for the samples of every batch, or estimate them where only requests for keys are in the view."""
    del rng  # nothing here is drawn
    across = [instance for instance in relations.of(Instance) if instance.across]
    if across:
        found = (opened for instance in across for opened in by_keys(instance, prior.x_max))
        return _exact(
            relations, prior, found, "function keys for dZ1 on the rows of X_B^T: integers, modulo a prime"
        )
    if any(True for _ in relations.of(Combinations)):
        return _exact(
            relations,
            prior,
            by_combinations(relations, prior),
            "dZ1 and dW1 in float32, rounded to integers and checked",
        )
    relations.need(Update)
    return requests.estimate(relations, prior)


def _exact(relations: Relations, prior: Prior, found: Iterator[Opened], how: str) -> Reconstruction:
    """The result with what could not be separated in its notes."""
    count = relations.count()
    values = np.full((count, prior.pixels), np.nan, dtype=np.float32)
    steps = np.full(count, np.nan)
    first = _first_uses(relations, count)
    for opened in found:
        values[opened.index], steps[opened.index] = opened.x, opened.steps
    (left,) = np.nonzero(np.isnan(steps))
    if len(left) == count:
        raise NotApplicable(
            "dZ1 separates no sample: in every batch its rank is below the number of active samples"
        )
    return Reconstruction(
        quantity=Quantity.IMAGES,
        index=np.arange(count),
        values=values / np.float32(prior.x_max),
        solved_at_step=int(steps.max()) if not len(left) else None,
        per_sample={"step": steps},
        notes={
            "how": how,
            "solved": count - len(left),
            "solved_by_the_first_visit_of_the_batch": int((steps <= first).sum()),
            "not_separated": len(left),
            "not_separated_samples": left[:_LISTED].tolist(),
            "solved_by_step": curve(steps),
        },
    )


def curve(steps: Reals) -> list[list[int]]:
    """[step, samples solved by then], at most some hundred points."""
    known = np.sort(steps[np.isfinite(steps)]).astype(np.int64)
    at = np.unique(known)
    at = at[np.unique(np.linspace(0, len(at) - 1, min(len(at), _CURVE)).astype(np.int64))] if len(at) else at
    return [[int(step), int(np.searchsorted(known, step, side="right"))] for step in at]


def _first_uses(relations: Relations, count: int) -> Reals:
    """The step in which each sample is first used (N,), as far as updates tell."""
    first = np.zeros(count)
    used = next((update.steps.samples for update in relations.of(Update)), ())
    for step in range(len(used) - 1, -1, -1):
        first[used[step]] = step
    return first


def by_keys(instance: Instance, x_max: int) -> Iterator[Opened]:
    """What keys across samples open: the samples of every block, one in memory at a time."""
    known: dict[int, BlockKeys] = {}
    for message in instance.messages():
        for size in {len(block) for block in instance.blocks}:
            known.setdefault(size, BlockKeys(size)).add(instance, message.since, message)
        if known and all(keys.echelon.full for keys in known.values()):
            break
    for number, block in enumerate(instance.blocks):
        keys = known.get(len(block))
        if keys is None or not keys.parts:
            continue
        z = np.hstack([instance.products(part, number, None) for part in keys.parts])  # (n, keys)
        solved = solve_determined(np.vstack(keys.vectors), z.T)
        if solved is not None:
            which = solved[0] & (solved[1] <= x_max).all(axis=1)
            yield Opened(block, block[which], solved[1][which], keys.steps[which])


class BlockKeys:
    """Independent keys for vectors that run over a block of `size` samples, with zeros beyond them.

    `steps` (size,): the round whose keys determined a sample, -1 while none did.
    """

    def __init__(self, size: int) -> None:
        self.echelon, self.steps = Echelon(size), np.full(size, -1, dtype=np.int64)
        self.parts: list[Any] = []
        self.vectors: list[NDArray[np.int64]] = []

    def add(self, instance: Instance, since: int, message: Any) -> None:
        """Take the keys of a message that say something new."""
        vectors = message.vectors[:, : len(self.steps)]
        fresh = self.echelon.add(vectors)
        if len(fresh):
            self.parts.append(instance.rows(now(message.key), fresh))
            self.vectors.append(vectors[fresh])
            self.steps[self.echelon.determined() & (self.steps < 0)] = since


def by_combinations(relations: Relations, prior: Prior, visits: int | None = None) -> Iterator[Opened]:
    """Batch after batch from its known combinations, in order, the first `visits` of them."""
    every = sorted(relations.of(Combinations), key=lambda c: (c.samples.tolist(), c.since))
    batches = [list(some) for _, some in groupby(every, key=lambda c: c.samples.tolist())]
    for some in sorted(batches, key=lambda some: some[0].since):
        block = some[0].samples
        found, steps, seen = (
            Portions(len(block), prior.pixels, prior.x_max),
            np.full(len(block), -1),
            list[Visit](),
        )
        for combination in some[:visits]:
            seen.append(visit_of(combination))
            steps[found.add(seen[-1].a.T, seen[-1].b, seen[-1].bound)] = combination.since
            if found.solved.all():
                break
        right = not found.solved.all() or all(explained(found.x, visit) for visit in seen)
        known = found.solved & right
        yield Opened(block, block[known], found.x[known], steps[known])


def explained(x: NDArray[np.int64], visit: Visit) -> bool:
    """Whether samples fit a visit's gradients within the bound on their rounding."""
    residual = np.abs(visit.a @ x - visit.b).max(axis=1)
    return bool((residual <= visit.bound * (1 + 1e-6)).all())


@dataclass(frozen=True)
class Visit:
    """What one use of a batch says of its samples X (B, n): A X = b + error, with |error| at most `bound` in
    each row.

    `a` (r, B), `b` (r, n) and `bound` (r,) in pixel steps; rows that say nothing are left out.
    """

    step: int
    a: Reals
    b: Reals
    bound: Reals


def visit_of(combination: Combinations) -> Visit:
    """The rows of a relation that say something."""
    a, b = now(combination.weights), now(combination.values)
    bound = combination.noise + combination.relative * np.abs(a).sum(axis=1)
    used = np.abs(a).sum(axis=1) > 0  # a unit that no sample of the batch activates says nothing
    return Visit(combination.since, a[used], b[used], bound[used])
