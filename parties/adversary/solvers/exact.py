"""Exact linear algebra over the integers that keys and ciphertexts give: rank, independent rows, exact
solutions.

Ranks come from `Echelon`, which takes rows as they arrive; whole systems modulo a prime are solved by FLINT
(W. Hart, 2010).
"""

from __future__ import annotations

import flint
import numpy as np
from numpy.typing import NDArray

from protocols.crypto.integers.rank import Echelon

__all__ = ["Echelon", "solve_determined", "solve_exactly", "solve_modulo"]

_PRIME = (
    2**61 - 1
)  # far above pixels and what sums of them reach, so that a solution modulo it is the one over the integers


def solve_exactly(a: NDArray[np.int64], b: NDArray[np.int64], sweeps: int = 20) -> NDArray[np.int64] | None:
    """Integer X (n, m) with A X = B for a square integer A (n, n) of full rank and B (n, m); None if none is
    found.

    Rounded floating-point solutions, refined with exact integer residuals and checked exactly at the end.
    What is returned is right; None means that there is none, or that A is too ill-conditioned (beyond about
    1e15) for refinement to converge.
    """
    try:
        inverse = np.linalg.inv(a.astype(np.float64))
    except np.linalg.LinAlgError:
        return None
    x = np.zeros((a.shape[1], b.shape[1]), dtype=np.int64)
    for _ in range(sweeps):
        residual = b - _exact_product(a, x)
        if not residual.any():
            return x
        step = inverse @ residual
        if not np.isfinite(step).all() or np.abs(step).max() > 2**40:
            return None
        correction = np.rint(step).astype(np.int64)
        if not correction.any():
            return None
        x += correction
    return None


def solve_determined(
    a: NDArray[np.int64], b: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]] | None:
    """(which unknowns are determined (u,), X (u, m) with their values) of integer equations A X = B; None if
    these contradict.

    Modulo a prime, so exact for unknowns in [0, 2^61 - 1) however A is conditioned; rows that are not
    determined are zero.
    """
    unknowns, together = a.shape[1], np.hstack([a, b]) % _PRIME
    height, width = together.shape
    reduced, rank = flint.nmod_mat(height, width, together.ravel().tolist(), _PRIME).rref()
    rows = np.array([[int(v) for v in row] for row in reduced.tolist()[:rank]], dtype=np.int64)
    rows = rows.reshape(rank, width)
    pivots = (rows != 0).argmax(axis=1)
    if (pivots >= unknowns).any():
        return None
    found, x = np.zeros(unknowns, dtype=bool), np.zeros((unknowns, b.shape[1]), dtype=np.int64)
    alone = (rows[:, :unknowns] != 0).sum(axis=1) == 1
    found[pivots[alone]] = True
    x[pivots[alone]] = rows[alone, unknowns:]
    return found, x


def _exact_product(a: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.int64]:
    """A X exactly: by floating products while every partial sum is below 2^53, else in int64."""
    bound = float(np.abs(a).sum(axis=1).max(initial=0)) * float(np.abs(x).max(initial=0))
    if bound < 2**53:
        product: NDArray[np.int64] = (a.astype(np.float64) @ x.astype(np.float64)).astype(np.int64)
        return product
    return a @ x


def solve_modulo(a: NDArray[np.int64], b: list[int], q: int) -> list[int] | None:
    """x (n,) with A x = b mod the prime q, for a square integer A (n, n); None if A is singular mod q."""
    field, n = flint.fmpz_mod_ctx(q), len(b)
    matrix = flint.fmpz_mod_mat(n, n, [int(v) % q for v in a.ravel()], field)
    try:
        solved = matrix.solve(flint.fmpz_mod_mat(n, 1, [int(v) % q for v in b], field))
    except ZeroDivisionError:
        return None
    return [int(solved[i, 0]) for i in range(n)]
