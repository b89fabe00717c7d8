"""Samples from Z1 = X W1^T, of float32 or float64, with W1 known, of one step or of several with the same
batch; X in whole pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import Prior
from parties.adversary.solvers import smooth
from parties.adversary.solvers.box import BOX_MARGIN
from parties.adversary.solvers.polytope import Equations
from parties.adversary.solvers.portions import certain, whole
from protocols.language.precision import Precision

Reals = NDArray[np.float64]

_SUM = 4.0  # roundings, of the largest Z1, that a sum of n products is allowed


@dataclass(frozen=True)
class Stack:
    """W1 of several steps, one below the other (E, n), by its singular value decomposition: W = u s vt."""

    u: Reals
    s: Reals
    vt: Reals
    roundoff: float

    @classmethod
    def of(cls, weights: list[Reals], roundoff: float = Precision.SINGLE.roundoff) -> Stack:
        """Decompose what was computed, and made Z1, with this error of a rounding."""
        return cls(*np.linalg.svd(np.vstack(weights), full_matrices=False), roundoff)

    def solved(self, z: Reals, x_max: int, noise: float = 0.0) -> NDArray[np.int64] | None:
        """Integer pixels (m, n) of Z1 (m, E) if the equations determine them beyond rounding and `noise`;
        else None.
        """
        n, noise = self.vt.shape[1], max(rounding(z, self.roundoff), noise)
        if len(self.s) < n or self.s[-1] <= self.s[0] * 1e-12:
            return None
        error = noise * np.sqrt(((self.vt.T / self.s) ** 2).sum(axis=1)).max()
        if not certain(error):
            return None
        x = (z @ self.u / self.s) @ self.vt
        return np.rint(x).astype(np.int64) if whole(x, x_max).all() else None

    def numerical_rank(self) -> int:
        """Rank of what crossed, beyond its rounding."""
        size = max(self.u.shape[0], self.vt.shape[1])
        return int((self.s > self.s.max(initial=0.0) * size * 2 * self.roundoff).sum())

    def least_squares(self, z: Reals) -> Reals:
        """X (m, n) of least residual, for Z1 (m, E)."""
        x: Reals = (z @ self.u / self.s) @ self.vt
        return x

    def rank(self, z: Reals, x_max: int, noise: float = 0.0) -> int:
        """Directions of an image that Z1 shows beyond rounding, or `noise`."""
        return int((max(rounding(z, self.roundoff), noise) / x_max < BOX_MARGIN * self.s).sum())

    def smoothed(self, z: Reals, prior: Prior, noise: float = 0.0) -> Reals:
        """The smoothest images (m, n) in [0, 1] that explain Z1 (m, E); NaN where there is none.

        Directions that the rounding of Z1 would move by more than the margin of the pixel range are left out.
        """
        kept = self.rank(z, prior.x_max, noise)
        if not kept:
            return np.full((len(z), self.vt.shape[1]), np.nan)
        a = self.vt[:kept]
        solver = smooth.prepare(Equations(a, a, np.eye(kept), prior.x_max), prior)
        along = (z @ self.u[:, :kept]) / self.s[:kept]
        return np.array([solver(b)[0] for b in along])


def rounding(z: Reals, roundoff: float) -> float:
    """About the error of an entry of Z1."""
    return float(_SUM * 2 * roundoff * max(np.abs(z).max(), 1e-6))
