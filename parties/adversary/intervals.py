"""What exact equations A x = b say of single pixels in the box 0 <= x <= 1: which are determined, and between what the others lie.

A pixel is determined if its unit vector is in the row space of A, by A alone and thus for every sample at once: one singular value
decomposition. Where A leaves a pixel free the box may still pin it, as in an all-black corner that a row of one sign sums to 0; its least
and largest value are two linear programs. They are solved by HiGHS (Q. Huangfu, J. A. J. Hall, Math. Prog. Comp. 2018), on
orthonormal rows in place of A, whose integers of very different sizes would mix badly with its absolute tolerances. What is returned is
not the solver's optimum, which may be off by its tolerance, but what its multipliers prove (`_proven`).

Cost: for each coordinate two programs of r dense rows and n columns. Measured on one core of a shared machine: COST.
That is why a fixed sample of coordinates stands for the image: `spread`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from parties.adversary.polytope import Vector

COORDINATES = 8  # that stand for an image
SECONDS = 60.0  # a program that takes longer counts as a failure

_RANK = 1e-10  # singular values below this share of the largest count as zero: then fewer pixels count as determined, not more
_FREE = 1e-8  # a pixel moves in the null space if its row there is longer than this; rounding leaves about 1e-14
_CONTRADICTION = 1e-6  # relative residual, or distance from the box, above which the equations belong to no image
_PLASTIC = 1.324717957244746  # makes the most even sequence of points in a square known (Roberts, 2018)


@dataclass(frozen=True)
class _Rows:
    """A in orthonormal form: `rows` (r, n), `to_b` (m, r) with rows x = to_b^T b, and `free` (n,): whether a pixel can move."""

    rows: Vector
    to_b: Vector
    free: NDArray[np.bool_]


def determined(a: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the n unknowns the equations A x = b, A (m, n), determine whatever b is: a mask (n,)."""
    mask: NDArray[np.bool_] = ~_orthonormal(a).free
    return mask


def intervals(a: NDArray[Any], b: NDArray[Any], coordinates: NDArray[np.int64], seconds: float = SECONDS) -> Vector:
    """Least and largest value (k, 2) of k coordinates over A x = b, 0 <= x <= 1, for A (m, n) and b (m,) = z / x_max.

    The bounds hold up to rounding, about 1e-12, and are as narrow as the solver's multipliers prove. NaN where it finds none: no
    image has these equations, or it took longer than `seconds` for one program.
    """
    eq, b = _orthonormal(a), np.asarray(b, dtype=np.float64)
    right = eq.to_b.T @ b
    found = np.full((len(coordinates), 2), np.nan)
    least = eq.rows.T @ right  # the least-norm solution: right in every determined coordinate
    if np.abs(a @ least - b).max(initial=0.0) > _CONTRADICTION * (1.0 + np.abs(b).max(initial=0.0)):
        return found
    for k, coordinate in enumerate(coordinates):
        if eq.free[coordinate]:
            found[k] = _bound(eq, right, coordinate, 1.0, seconds), -_bound(eq, right, coordinate, -1.0, seconds)
        elif -_CONTRADICTION <= least[coordinate] <= 1.0 + _CONTRADICTION:
            found[k] = least[coordinate]
    found[np.isnan(found).any(axis=1)] = np.nan
    clipped: Vector = np.clip(found, 0.0, 1.0)
    return clipped


def spread(shape: tuple[int, ...], count: int = COORDINATES) -> NDArray[np.int64]:
    """Flat positions of a fixed sample of pixels, spread evenly over an image of this shape; every one if there are no more."""
    rows, columns, channels = shape if len(shape) == 3 else (*shape, 1)
    if rows * columns * channels <= count:
        return np.arange(rows * columns * channels)
    found: dict[int, None] = {}
    k = 0
    while len(found) < count:
        i, j = (int(size * ((0.5 + k / _PLASTIC**power) % 1.0)) for power, size in ((1, rows), (2, columns)))
        found[(i * columns + j) * channels + k % channels] = None
        k += 1
    return np.array(sorted(found), dtype=np.int64)


def _orthonormal(a: NDArray[Any]) -> _Rows:
    a = np.asarray(a, dtype=np.float64)
    u, s, vt = np.linalg.svd(a, full_matrices=True)
    rank = int(np.count_nonzero(s > _RANK * s.max(initial=0.0)))
    # From the null space and not as 1 - |row of the row space|^2, which cannot tell 1 from 1 - 1e-16.
    free = np.linalg.norm(vt[rank:], axis=0) > _FREE
    return _Rows(vt[:rank], u[:, :rank] / s[:rank], free)


def _bound(eq: _Rows, right: Vector, coordinate: int, sign: float, seconds: float) -> float:
    """A lower bound of sign * x at the coordinate: the least value there is, or NaN."""
    cost = np.zeros(eq.rows.shape[1])
    cost[coordinate] = sign
    if not len(eq.rows):
        return min(sign, 0.0)
    end = linprog(cost, A_eq=eq.rows, b_eq=right, bounds=(0.0, 1.0), method="highs", options={"time_limit": seconds})
    return _proven(eq, right, cost, np.asarray(end.eqlin.marginals)) if end.status == 0 else float("nan")


def _proven(eq: _Rows, right: Vector, cost: Vector, y: Vector) -> float:
    """What multipliers y prove: cost x = y b + (cost - A' y) x >= y b + sum min(0, cost - A' y) for every x of the box.

    Weak duality: true for any y, so the bound does not hang on the solver's tolerances; at its optimum it is the optimum.
    """
    return float(y @ right + np.minimum(cost - eq.rows.T @ y, 0.0).sum())
