"""The smoothest image that explains one observation: min |D x|^2 subject to W1 x = z and 0 <= x <= x_max.

D takes the difference of every pair of neighbouring pixels in a channel. The constraints of the paper's
linear program (Ionita and Ionita, RAID 2025, arXiv:2509.21497) with Tikhonov's objective (1963) in place of
its rows: of all images in the box that give the observed Z1 this is the one with the least energy of its
gradient. It has no free parameter. Assumes that W1 is known. Cost: 5 to 10 iterations of one sparse and one
dense (h x h) factorisation an image.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from parties.adversary.attack import Prior
from parties.adversary.solvers.box import Info, Solver, box, finish, only_solution
from parties.adversary.solvers.interior import Interior
from parties.adversary.solvers.polytope import Equations, Vector, differences, equations


def solve_smooth(w: NDArray[Any], z: NDArray[Any], prior: Prior) -> tuple[Vector, Info]:
    """Return the smoothest image (n,) in [0, 1] with W x = z / x_max, and how it was found; NaN where there
    is none.

    `w` (h, n) and `z` (h,) are exact integers: inner products of integer weights with integer pixels in [0,
    x_max].
    """
    return prepare(equations(w, prior), prior)(z)


def prepare(eq: Equations, prior: Prior) -> Solver:
    """Return the solver for samples that share their W."""
    box_rows, box_bounds = box(eq.a.shape[1])
    interior = Interior(eq.a, box_rows, differences(prior.shape))

    def solve(z: NDArray[Any]) -> tuple[Vector, Info]:
        if eq.contradict(z):
            return finish(eq, z, None, 0.0, 0)
        if eq.determined:
            return finish(eq, z, only_solution(eq, z), 0.0, 0)
        point = interior.solve(eq.right_side(z), box_bounds)
        return finish(eq, z, point.x, 0.0, point.iterations)

    return solve
