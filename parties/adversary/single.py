"""What the attacks on one observation share: the box, the outcome of a solver, and the loop over samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction
from parties.adversary.equations import first_observations, need
from parties.adversary.solvers.polytope import Equations, Vector, equations
from parties.record.view import View

# The box is wider than [0, 1] by this much on each side. Images with many black pixels otherwise leave feasible sets
# without an interior, on which an interior point method stalls; 1e-4 is far below a quantum of 1/255.
BOX_MARGIN = 1e-4


class Outcome(Enum):
    """How a solver fared on one sample."""

    FEASIBLE = "feasible"
    RELAXED = "relaxed"
    INFEASIBLE = "infeasible"


@dataclass(frozen=True)
class Info:
    """What a solver says of one sample besides the image.

    `relaxed_by`: pixel steps by which a threshold was raised (NaN where infeasible). `projection` (n,) is the baseline.
    """

    outcome: Outcome
    relaxed_by: float
    iterations: int
    projection: Vector


Solver = Callable[[NDArray[Any]], tuple[Vector, Info]]


@runtime_checkable
class Together(Protocol):
    """A solver that is faster on many samples (m, h) at once."""

    def many(self, samples: NDArray[Any]) -> list[tuple[Vector, Info]]: ...


def box(n: int) -> tuple[sp.csr_matrix, Vector]:
    """(G, g) of 0 <= x <= 1 for n pixels, with the margin."""
    one = sp.identity(n, format="csr")
    return sp.vstack([-one, one]).tocsr(), np.concatenate(
        [np.full(n, BOX_MARGIN), np.full(n, 1.0 + BOX_MARGIN)]
    )


def finish(
    eq: Equations, z: NDArray[Any], x: Vector | None, relaxed_by: float, iterations: int
) -> tuple[Vector, Info]:
    """Return what a solver gives for x, or a row of NaN, the mark of a failure, for None."""
    baseline = eq.projection(z)
    if x is None:
        return np.full(eq.a.shape[1], np.nan), Info(Outcome.INFEASIBLE, float("nan"), iterations, baseline)
    outcome = Outcome.RELAXED if relaxed_by > 0 else Outcome.FEASIBLE
    return np.clip(x, 0.0, 1.0), Info(outcome, relaxed_by, iterations, baseline)


def only_solution(eq: Equations, z: NDArray[Any]) -> Vector | None:
    """The one solution of determined equations, or None if it is no image."""
    x: Vector = eq.a.T @ eq.right_side(z)
    return x if x.min() >= -BOX_MARGIN and x.max() <= 1.0 + BOX_MARGIN else None


def attack(
    view: View, prior: Prior, prepare: Callable[[Equations, Prior], Solver], consumes: tuple[str, ...]
) -> Reconstruction:
    """Rebuild the first `prior.limit` samples of a view, each from the step at which its batch was first used.

    `prepare` makes a solver for one W1, which serves all samples of the batch. Raises `NotApplicable` where the view
    lacks what the attack consumes or gives no equations.
    """
    need(view, *consumes)
    index, rows, infos, seconds, steps, ranks = [], [], [], [], [], []
    for step, where, samples, eq in _batches(view, prior):
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
    timing = {"seconds_per_image_median": float(np.median(seconds))}
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
            **timing,
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
    view: View, prior: Prior
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64], Equations]]:
    """(step, positions, z, equations) of the first batches, `prior.limit` samples in all."""
    left = prior.limit
    for seen in first_observations(view):
        yield seen.step, seen.index[:left], seen.z[:left], equations(seen.w, prior)
        left -= len(seen.index[:left])
        if left == 0:
            return
