"""cvxopt's interior point for images: A x = b with few dense rows, G x <= g with many sparse ones.

Each iteration of cvxopt's `conelp` or `coneqp` asks for a solution of

    P ux          + A' uy + G' W^-1 uz = bx
    A ux                               = by
    G ux                  -      W' uz = bz

with W diagonal (all inequalities are scalar) and uz scaled by W. Eliminating uz leaves H = P + G' W^-2 G,
which is as sparse as the image is local: a sparse Cholesky factor H = L L' and the small dense matrix S = A
H^-1 A' replace a dense factorisation with thousands of rows (L. Vandenberghe, The CVXOPT linear and quadratic
cone program solvers, 2010). With more equations than remaining dimensions it is cheaper to move within A x =
b: with the columns of N an orthonormal basis of A's kernel, N' H N is the small dense matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from cvxopt import cholmod, matrix, solvers, spmatrix
from numpy.typing import NDArray
from scipy.linalg import blas, lapack, qr

Vector = NDArray[np.float64]
Solve = Callable[[Any, Any, Any], None]

_PERMUTE, _LOWER = 7, 4  # cholmod.solve: apply the ordering, solve with L
_MAX_ITERATIONS = (
    30  # 6 to 20 are usual; without an end point an infeasible quadratic program would go on to 100
)
_ACCEPT = 1e-5  # primal residual (pixels in [0, 1]) up to which a point counts though the duality gap is open


@dataclass(frozen=True)
class Point:
    """Where the interior point ended: `x` (n,) or None where it found no point that meets the constraints."""

    x: Vector | None
    iterations: int


class Interior:
    """min |F x|^2 (or no objective) subject to A x = b, G x <= g; prepared once for many b and g.

    `a` (r, n) dense with orthonormal rows, `inequalities` G and `squares` F sparse with n columns; every
    pixel must occur in G (the box sees to it), so that H is positive definite.
    """

    def __init__(self, a: Vector, inequalities: sp.csr_matrix, squares: sp.csr_matrix | None = None) -> None:
        n = a.shape[1]
        self._a, self._g = a, sp.csr_matrix(inequalities)
        self._quadratic = None if squares is None else _to_cvxopt((2.0 * squares.T @ squares).tocsr())
        fixed = sp.csr_matrix((0, n)) if squares is None else np.sqrt(2.0) * squares
        self._stack = sp.vstack([self._g, fixed]).tocsr()
        self._stack_t = self._stack.T.tocsr()
        self._fixed_weights = np.ones(fixed.shape[0])
        self._a_cvxopt, self._at_cvxopt = _dense(a), _dense(a.T)
        self._g_cvxopt = _to_cvxopt(self._g)
        h = self._normal(np.ones(self._g.shape[0]))
        row = np.repeat(np.arange(n), np.diff(h.indptr))
        self._lower = (
            h.indices >= row
        )  # the upper triangle by rows is the lower triangle by columns, cvxopt's order
        self._h = spmatrix(
            h.data[self._lower], h.indices[self._lower].tolist(), row[self._lower].tolist(), (n, n)
        )
        self._factor = cholmod.symbolic(self._h)
        self._kernel = np.ascontiguousarray(qr(a.T)[0][:, len(a) :]) if 2 * len(a) > n else None

    def solve(self, b: Vector, g: Vector) -> Point:
        """Return the point at which the interior point method ends.

        With no objective this is near the analytic centre of the constraints, which resembles an image far
        better than a vertex that the simplex method would return.
        """
        n = self._a.shape[1]
        zero, options = matrix(0.0, (n, 1)), {"show_progress": False, "maxiters": _MAX_ITERATIONS}
        rest = {
            "A": self._a_cvxopt,
            "b": _dense(b),
            "kktsolver": self._range if self._kernel is None else self._null,
            "options": options,
        }
        try:
            if self._quadratic is None:
                end = solvers.conelp(zero, self._g_cvxopt, _dense(g), **rest)
            else:
                end = solvers.coneqp(self._quadratic, zero, self._g_cvxopt, _dense(g), **rest)
        except (
            ArithmeticError,
            ValueError,
        ):  # the iterates left the cone or H became singular: there is no interior
            return Point(None, _MAX_ITERATIONS)
        residual = end["primal infeasibility"]
        met = end["status"] == "optimal" or (
            end["status"] == "unknown" and residual is not None and residual < _ACCEPT
        )
        return Point(_flat(end["x"]) if met else None, int(end["iterations"]))

    def _normal(self, weights: Vector) -> sp.csr_matrix:
        """H = G' diag(weights) G + P, with the same entries (zeros included) in the same order every time."""
        h = (self._stack_t @ sp.diags(np.concatenate([weights, self._fixed_weights])) @ self._stack).tocsr()
        h.sort_indices()
        return h

    def _null(self, scaling: dict[str, Any]) -> Solve:
        """cvxopt's `kktsolver` by way of A's kernel."""
        assert self._kernel is not None
        a, kernel, d = self._a, self._kernel, _flat(scaling["d"])
        weights = d**-2.0
        h = self._normal(weights)
        chol, fault = lapack.dpotrf(kernel.T @ (h @ kernel), lower=1, overwrite_a=1)
        if fault:
            raise ArithmeticError("the Hessian is not positive definite on the kernel of the equations")

        def solve(x: Any, y: Any, z: Any) -> None:
            bz = _flat(z)
            right, fixed = _flat(x) + self._g.T @ (weights * bz), a.T @ _flat(y)
            ux = fixed + kernel @ lapack.dpotrs(chol, kernel.T @ (right - h @ fixed), lower=1)[0]
            x[:], y[:], z[:] = _dense(ux), _dense(a @ (right - h @ ux)), _dense((self._g @ ux - bz) / d)

        return solve

    def _range(self, scaling: dict[str, Any]) -> Solve:
        """cvxopt's `kktsolver`: factorise for one scaling W and return the function that solves with it in
        place.
        """
        d = _flat(scaling["d"])
        weights = d**-2.0
        self._h.V = _dense(self._normal(weights).data[self._lower])
        cholmod.numeric(self._h, self._factor)
        v = +self._at_cvxopt
        cholmod.solve(self._factor, v, sys=_PERMUTE)
        cholmod.solve(self._factor, v, sys=_LOWER)
        s = blas.dsyrk(1.0, np.asarray(v), trans=1, lower=1)  # S = A H^-1 A' = V' V with V = L^-1 A'
        chol, fault = lapack.dpotrf(s, lower=1, overwrite_a=1)
        if fault:
            raise ArithmeticError("the Schur complement is not positive definite")

        def solve(x: Any, y: Any, z: Any) -> None:
            bx, by, bz = _flat(x), _flat(y), _flat(z)
            right = bx + self._g.T @ (weights * bz)
            uy = lapack.dpotrs(chol, self._a @ self._apply_inverse(right) - by, lower=1)[0]
            ux = self._apply_inverse(right - self._a.T @ uy)
            x[:], y[:], z[:] = _dense(ux), _dense(uy), _dense((self._g @ ux - bz) / d)

        return solve

    def _apply_inverse(self, right: Vector) -> Vector:
        b = _dense(right)
        cholmod.solve(self._factor, b)
        return _flat(b)


def _dense(array: Vector) -> Any:
    return matrix(np.asfortranarray(array))


def _flat(column: Any) -> Vector:
    """A copy of a cvxopt column as (n,)."""
    return np.array(column, dtype=np.float64).ravel()


def _to_cvxopt(sparse: sp.csr_matrix) -> Any:
    coo = sp.coo_matrix(sparse)
    return spmatrix(coo.data, coo.row.tolist(), coo.col.tolist(), coo.shape)
