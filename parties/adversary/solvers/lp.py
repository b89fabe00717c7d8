"""The paper's attack: an image from one observation by linear programming.

Ionita and Ionita (RAID 2025, arXiv:2509.21497): the cloud knows W1 and Z1, so each image solves W1 x = z.
With fewer neurons than pixels it adds what is true of images: 0 <= x <= x_max, and |x_p - mean of its 4
neighbours| <= threshold at the pixels (i, j) with (i + j) mod period = 0. There is no objective; what is
returned is where an interior point method ends, near the analytic centre. Assumes that W1 is known and that
the threshold suits the images: from x_max on it says nothing. Cost: 6 to 8 iterations of one sparse and one
dense (h x h) factorisation an image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from parties.adversary.attack import Prior
from parties.adversary.solvers.box import Info, Solver, box, finish, only_solution
from parties.adversary.solvers.interior import Interior, Point
from parties.adversary.solvers.polytope import Equations, Vector, equations, neighbour_rows

_WIDEN = 1.5  # each try that finds no image raises the threshold by half


def solve_lp(w: NDArray[Any], z: NDArray[Any], prior: Prior) -> tuple[Vector, Info]:
    """Return an image (n,) in [0, 1] with W x = z / x_max, and how it was found; NaN where there is none.

    `w` (h, n) and `z` (h,) are exact integers: inner products of integer weights with integer pixels in [0,
    x_max].
    """
    return prepare(equations(w, prior), prior)(z)


def prepare(eq: Equations, prior: Prior) -> Solver:
    """Return the solver for samples that share their W."""
    rows = neighbour_rows(prior.shape, prior.period)
    box_rows, box_bounds = box(eq.a.shape[1])
    interior = Interior(eq.a, sp.vstack([box_rows, rows, -rows]).tocsr())

    def at(threshold: float, b: Vector) -> Point:
        limit = np.full(2 * rows.shape[0], threshold / prior.x_max)
        return interior.solve(b, np.concatenate([box_bounds, limit]))

    def widened(b: Vector) -> tuple[Point, float]:
        # Deviation: the paper keeps its threshold. Real images violate the rows at edges, so where the
        # program has no point the threshold grows until it has. At x_max the rows say nothing: no point there
        # means no image at all, which is asked first, because a control with swapped keys ends here.
        threshold, widest = float(prior.threshold), at(prior.x_max, b)
        spent = widest.iterations
        while widest.x is not None:
            threshold = max(threshold * _WIDEN, 1.0)
            if threshold >= prior.x_max:
                break
            point = at(threshold, b)
            spent += point.iterations
            if point.x is not None:
                return Point(point.x, spent), threshold
        return Point(widest.x, spent), float(prior.x_max)

    def solve(z: NDArray[Any]) -> tuple[Vector, Info]:
        if eq.contradict(z):
            return finish(eq, z, None, 0.0, 0)
        if eq.determined:
            return finish(eq, z, only_solution(eq, z), 0.0, 0)
        b = eq.right_side(z)
        point, threshold = at(prior.threshold, b), float(prior.threshold)
        if point.x is None and threshold < prior.x_max:
            point, threshold = widened(b)
        return finish(eq, z, point.x, threshold - prior.threshold, point.iterations)

    return solve
