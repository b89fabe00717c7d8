"""Attacks on one observation: each sample from the equations that it gave away when it was first used.

`lp` is the attack of the paper (Ionita and Ionita, RAID 2025, arXiv:2509.21497), `smooth` and `tv` put other
objectives under the same equations and pixel range; each is a solver (`solvers/`), and here is the loop over
samples. Assume that the map is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.solvers import polytope
from parties.adversary.solvers.box import Info, Outcome, Solver, Together
from parties.adversary.solvers.polytope import Vector
from protocols.language.relations import Equations, now

Prepare = Callable[[polytope.Equations, Prior], Solver]


def with_solver(prepare: Prepare) -> Callable[[Relations, Prior, np.random.Generator], Reconstruction]:
    """The attack that a solver makes."""

    def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
        del rng  # nothing here is drawn
        return attack(relations, prior, prepare)

    return solve


def attack(relations: Relations, prior: Prior, prepare: Prepare) -> Reconstruction:
    """Rebuild the first `prior.limit` samples, each from its first exact equations.

    `prepare` makes a solver for one W1, which serves all samples of the batch; `relaxed_by` (pixel steps)
    says whose threshold had to be raised. Raises `NotApplicable` where there are no equations.
    """
    index, rows, infos, seconds, steps, ranks = [], [], [], [], [], []
    for step, where, samples, eq in _batches(relations, prior):
        for position, (x, info, spent) in zip(where, _solved(prepare(eq, prior), samples), strict=True):
            seconds.append(spent)
            index.append(int(position))
            rows.append(x)
            infos.append(info)
        steps.append(step)
        ranks.append(len(eq.a))
    if not rows:
        raise NotApplicable("the view holds no step at which keys were applied to a ciphertext")
    notes = {outcome.value: sum(info.outcome is outcome for info in infos) for outcome in Outcome}
    solved = max(steps) if min(ranks) == rows[0].size and notes["infeasible"] == 0 else None
    return Reconstruction(
        quantity=Quantity.IMAGES,
        index=np.array(index, dtype=np.int64),
        values=np.array(rows),
        solved_at_step=solved,
        projection=np.array([info.projection for info in infos]),
        per_sample={"relaxed_by": np.array([info.relaxed_by for info in infos])},
        notes={
            **notes,
            "seconds_per_image_median": float(np.median(seconds)),
            "equations_per_sample": [min(ranks), max(ranks)],
            "steps": [min(steps), max(steps)],
        },
    )


def _solved(solve: Solver, samples: NDArray[Any]) -> Iterator[tuple[Vector, Info, float]]:
    """(image, how it was found, seconds) for each of the samples (m, h)."""
    start = perf_counter()
    if isinstance(solve, Together):
        found = solve.many(samples)
        each = (perf_counter() - start) / max(1, len(found))
        yield from ((x, info, each) for x, info in found)
        return
    for z in samples:
        start = perf_counter()
        x, info = solve(z)
        yield x, info, perf_counter() - start


def _batches(
    relations: Relations, prior: Prior
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64], polytope.Equations]]:
    """(step, positions, z, equations) of the first observations, `prior.limit` samples in all."""
    left, covered = prior.limit, set[int]()
    for seen in relations.of(Equations):
        (new,) = np.nonzero([position not in covered for position in seen.samples])
        if seen.noise or not len(new):
            continue
        new = new[:left]
        covered.update(seen.samples[new].tolist())
        yield seen.since, seen.samples[new], now(seen.values)[new], polytope.equations(now(seen.a), prior)
        left -= len(new)
        if left == 0:
            return
