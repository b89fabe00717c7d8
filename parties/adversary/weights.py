"""Samples from Z1 = X W1^T in float32 with W1 known, of one step or of several with the same batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parties.adversary import smooth
from parties.adversary.attack import Prior
from parties.adversary.single import BOX_MARGIN
from parties.adversary.solvers.polytope import Equations

Reals = NDArray[np.float64]

_NEAR = 0.25  # of a pixel's quantum: what is solved must come so close to an integer
_CERTAIN = 0.05  # quanta: the standard error up to which a solution counts
_SUM = 4.0  # roundings, of the largest Z1, that a sum of n products in float32 is allowed


@dataclass(frozen=True)
class Stack:
    """W1 of several steps, one below the other (E, n), by its singular value decomposition: W = u s vt."""

    u: Reals
    s: Reals
    vt: Reals

    @classmethod
    def of(cls, weights: list[Reals]) -> Stack:
        """Decompose."""
        return cls(*np.linalg.svd(np.vstack(weights), full_matrices=False))

    def solved(self, z: Reals, unit: int, x_max: int) -> NDArray[np.int64] | None:
        """Integer pixels (m, n) of Z1 (m, E) if the equations determine them beyond the rounding of float32; else None."""
        n, noise = self.vt.shape[1], rounding(z)
        if len(self.s) < n or self.s[-1] <= self.s[0] * 1e-12:
            return None
        error = noise * unit * float(np.sqrt(((self.vt.T / self.s) ** 2).sum(axis=1)).max())
        if error > _CERTAIN:
            return None
        x = unit * (z @ self.u / self.s) @ self.vt
        whole = np.rint(x)
        near = (np.abs(x - whole) < _NEAR).all() and whole.min() >= 0 and whole.max() <= x_max
        return whole.astype(np.int64) if near else None

    def rank(self, z: Reals) -> int:
        """Directions of an image that Z1 shows beyond the rounding of float32."""
        return int((rounding(z) < BOX_MARGIN * self.s).sum())

    def smoothed(self, z: Reals, unit: int, prior: Prior) -> Reals:
        """The smoothest images (m, n) in [0, 1] that explain Z1 (m, E); NaN where there is none.

        Directions that the rounding of Z1 would move by more than the margin of the pixel range are left out.
        """
        kept = self.rank(z)
        if not kept:
            return np.full((len(z), self.vt.shape[1]), np.nan)
        a = self.vt[:kept]
        solver = smooth.prepare(Equations(a, a, np.eye(kept), prior.x_max), prior)
        along = unit * (z @ self.u[:, :kept]) / self.s[:kept]
        return np.array([solver(b)[0] for b in along])


def rounding(z: Reals) -> float:
    """About the error of an entry of Z1."""
    return float(_SUM * np.finfo(np.float32).eps * max(np.abs(z).max(), 1e-6))
