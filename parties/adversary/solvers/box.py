"""What solvers of one observation share: the pixel range, and the outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from parties.adversary.solvers.polytope import Equations, Vector

# The box is wider than [0, 1] by this much on each side. Images with many black pixels otherwise leave
# feasible sets without an interior, on which an interior point method stalls; 1e-4 is far below a quantum of
# 1/255.
BOX_MARGIN = 1e-4


class Outcome(Enum):
    """How a solver fared on one sample."""

    FEASIBLE = "feasible"
    RELAXED = "relaxed"
    INFEASIBLE = "infeasible"


@dataclass(frozen=True)
class Info:
    """What a solver says of one sample besides the image.

    `relaxed_by`: pixel steps by which a threshold was raised (NaN where infeasible). `projection` (n,) is the
    baseline.
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
