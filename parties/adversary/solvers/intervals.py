"""What exact equations A x = b say of single pixels in the box 0 <= x <= 1: which are determined, and between
what the others lie.

A pixel is determined if its unit vector is in the row space of A, by A alone and thus for every sample at
once: one singular value decomposition. Where A leaves a pixel free the box may still pin it, as in an
all-black corner that a row of one sign sums to 0; its least and largest value are two linear programs. They
are solved by HiGHS (Q. Huangfu, J. A. J. Hall, Math. Prog. Comp. 2018), on orthonormal rows in place of A,
whose integers of very different sizes would mix badly with its absolute tolerances. What is returned is not
the solver's optimum, which may be off by its tolerance, but what its multipliers prove (`_proven`). While
equations are few most pixels reach both ends of the box; some projections find such points and save the
program (`_reaches`).

Cost, for each coordinate: at most 50 projections (n x r) and, where they find no point, a program of r dense
rows and n columns, twice. On one core of a busy machine a coordinate took .01 s with digits (n = 64) at rank
32 and .06 s at rank 56; with MNIST (n = 784) .05 s at rank 300, where projections suffice, and about 17 s at
rank 600, where they do not, and where the box pins the pixel. That is why a fixed sample of coordinates
stands for the image: `spread`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from parties.adversary.solvers.polytope import Vector

COORDINATES = 8  # that stand for an image
SECONDS = 60.0  # a program that takes longer counts as a failure

# Singular values below this share of the largest count as zero: fewer pixels then count as determined.
_RANK = 1e-10
_FREE = (
    1e-8  # a pixel moves in the null space if its row there is longer than this; rounding leaves about 1e-14
)
_CONTRADICTION = (
    1e-6  # relative residual, or distance from the box, above which the equations belong to no image
)
_PROJECTIONS, _INSIDE = 50, 1e-3
_PLASTIC = 1.324717957244746  # makes the most even sequence of points in a square known (Roberts, 2018)


@dataclass(frozen=True)
class _Rows:
    """A in orthonormal form: `rows` (r, n), `to_b` (m, r) with rows x = to_b^T b, and `free` (n,): whether a
    pixel can move.
    """

    rows: Vector
    to_b: Vector
    free: NDArray[np.bool_]


def determined(a: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the n unknowns the equations A x = b, A (m, n), determine whatever b is: a mask (n,)."""
    mask: NDArray[np.bool_] = ~_orthonormal(a).free
    return mask


def intervals(
    a: NDArray[Any], b: NDArray[Any], coordinates: NDArray[np.int64], seconds: float = SECONDS
) -> Vector:
    """Least and largest value (k, 2) of k coordinates over A x = b, 0 <= x <= 1, for A (m, n) and b (m,) = z
    / x_max.

    The bounds hold up to rounding, about 1e-12, and are as narrow as the solver's multipliers prove. NaN
    where it finds none: no image has these equations, or it took longer than `seconds` for one program.
    """
    eq, b = _orthonormal(a), np.asarray(b, dtype=np.float64)
    right = eq.to_b.T @ b
    found = np.full((len(coordinates), 2), np.nan)
    least = eq.rows.T @ right  # the least-norm solution: right in every determined coordinate
    if np.abs(a @ least - b).max(initial=0.0) > _CONTRADICTION * (1.0 + np.abs(b).max(initial=0.0)):
        return found
    for k, coordinate in enumerate(coordinates):
        if eq.free[coordinate]:
            found[k] = _least(eq, right, coordinate, seconds), _greatest(eq, right, coordinate, seconds)
        elif -_CONTRADICTION <= least[coordinate] <= 1.0 + _CONTRADICTION:
            found[k] = least[coordinate]
    found[np.isnan(found).any(axis=1)] = np.nan
    clipped: Vector = np.clip(found, 0.0, 1.0)
    return clipped


def spread(shape: tuple[int, ...], count: int = COORDINATES) -> NDArray[np.int64]:
    """Flat positions of a fixed sample of pixels, spread evenly over an image of this shape; every one if
    there are no more.
    """
    rows, columns, channels = (*((1,) if len(shape) < 2 else ()), *shape, 1)[:3]  # or a row of a table
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


def _least(eq: _Rows, right: Vector, coordinate: int, seconds: float) -> float:
    return 0.0 if _reaches(eq, right, coordinate, 0.0) else _bound(eq, right, coordinate, 1.0, seconds)


def _greatest(eq: _Rows, right: Vector, coordinate: int, seconds: float) -> float:
    return 1.0 if _reaches(eq, right, coordinate, 1.0) else -_bound(eq, right, coordinate, -1.0, seconds)


def _reaches(eq: _Rows, right: Vector, coordinate: int, value: float) -> bool:
    """Whether projections in turn find a point of the box that meets the equations and has this value; False
    says nothing.

    The box is a little smaller in the projections, so that they end within the true one after finitely many
    (von Neumann, 1950).
    """
    move = -eq.rows.T @ eq.rows[:, coordinate]  # in the null space: changes the coordinate and no equation
    move[coordinate] += 1.0
    x = np.full(len(move), 0.5)
    for _ in range(_PROJECTIONS):
        x = x + eq.rows.T @ (right - eq.rows @ x)
        x += move * ((value - x[coordinate]) / move[coordinate])
        x[coordinate] = value
        if x.min() >= 0.0 and x.max() <= 1.0:
            return True
        x = np.clip(x, _INSIDE, 1.0 - _INSIDE)
    return False


def _bound(eq: _Rows, right: Vector, coordinate: int, sign: float, seconds: float) -> float:
    """A lower bound of sign * x at the coordinate: the least value there is, or NaN."""
    cost = np.zeros(eq.rows.shape[1])
    cost[coordinate] = sign
    options = {"time_limit": seconds, "presolve": False}  # there is nothing to remove from dense rows
    end = linprog(cost, A_eq=eq.rows, b_eq=right, bounds=(0.0, 1.0), method="highs-ds", options=options)
    return _proven(eq, right, cost, np.asarray(end.eqlin.marginals)) if end.status == 0 else float("nan")


def _proven(eq: _Rows, right: Vector, cost: Vector, y: Vector) -> float:
    """What multipliers y prove: cost x = y b + (cost - A' y) x >= y b + sum min(0, cost - A' y) for every x
    of the box.

    Weak duality: true for any y, so the bound does not hang on the solver's tolerances; at its optimum it is
    the optimum.
    """
    return float(y @ right + np.minimum(cost - eq.rows.T @ y, 0.0).sum())
