"""Samples as unknown rows of linear equations C^T X = Y that arrive in portions: solve, round what is
certain, subtract, repeat.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
Mask = NDArray[np.bool_]

_NEAR = 0.25  # of a pixel's quantum: what is solved must come so close to an integer
_CERTAIN = 0.05  # quanta: the standard error up to which a solution counts
_NULL = 1e-6  # an unknown is determined where the null space moves it by no more
_SMALLEST = 1e-10  # singular values below this share of the largest are no information
UNKNOWNS = 1024  # that wait for further equations; beyond it the oldest equations are dropped


class Portions:
    """Unknown integer samples X (N, n) in [0, x_max], solved exactly or not at all; `solved` (N,) says which,
    `x` holds them.
    """

    def __init__(self, samples: int, features: int, x_max: int) -> None:
        self.x = np.zeros((samples, features), dtype=np.int64)
        self.solved = np.zeros(samples, dtype=bool)
        self._x_max = x_max
        self._c = np.zeros((0, samples))  # pending equations, by rows
        self._y = np.zeros((0, features))

    def learn(self, index: NDArray[np.int64], x: NDArray[np.int64]) -> None:
        """Take samples as known."""
        self.x[index], self.solved[index] = x, True

    def add(self, c: Reals, y: Reals, noise: float | Reals) -> NDArray[np.int64]:
        """Add C (N, h) and Y (h, n) with errors of about `noise` (of each equation, or of all); returns the
        positions that became determined. Equations are brought to unit noise, so that portions of different
        accuracy can be stacked.
        """
        scale = np.broadcast_to(np.asarray(noise, np.float64), len(y))[:, None]
        self._c, self._y = np.vstack([self._c, c.T / scale]), np.vstack([self._y, y / scale])
        return self._settle()

    def _settle(self) -> NDArray[np.int64]:
        """Solve for what the pending equations determine, with what is known by now."""
        known = self.solved
        self._y = self._y - self._c[:, known] @ self.x[known]
        self._c = np.where(known, 0.0, self._c)
        (active,) = np.nonzero(np.abs(self._c).max(axis=0, initial=0.0))
        if len(active) > UNKNOWNS or not len(active):
            self._c, self._y = self._c[:0], self._y[:0]
            return active[:0]
        q, r = np.linalg.qr(self._c[:, active])
        right = q.T @ self._y
        self._c, self._y = np.zeros((len(r), self._c.shape[1])), right
        self._c[:, active] = r
        x, sure = _determined(r, right)
        found = sure & whole(x, self._x_max).all(axis=1)
        if not found.any():
            return active[:0]
        self.learn(active[found], np.rint(x[found]).astype(np.int64))
        return np.concatenate([active[found], self._settle()])


def certain(error: Reals) -> Mask:
    """Whether errors, in quanta of a pixel, are small enough to round what has them."""
    small: Mask = error < _CERTAIN
    return small


def whole(x: Reals, x_max: int) -> Mask:
    """Which entries are nearly integers in [0, x_max]."""
    rounded = np.rint(x)
    near: Mask = (np.abs(x - rounded) < _NEAR) & (rounded >= 0) & (rounded <= x_max)
    return near


def _determined(a: Reals, y: Reals) -> tuple[Reals, Mask]:
    """Least squares of a x = y with unit noise: x, and which rows of it are determined to a small part of a
    quantum.
    """
    size = np.maximum(np.linalg.norm(a, axis=0), 1e-300)
    u, s, vt = np.linalg.svd(a / size, full_matrices=False)
    kept = s > s[0] * _SMALLEST
    u, s, vt = u[:, kept], s[kept], vt[kept]
    x = (vt.T / s) @ (u.T @ y) / size[:, None]
    error = np.sqrt(((vt.T / s) ** 2).sum(axis=1)) / size
    return x, (1.0 - (vt**2).sum(axis=0) < _NULL) & certain(error)
