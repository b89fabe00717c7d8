"""Exact linear algebra over the integers that keys and ciphertexts give: rank, independent rows, exact solutions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Largest prime below 2^26: sums of n products of residues stay below 2^63 for n up to 2048.
_P = 67108859
_CHUNK = 1024


class Echelon:
    """Rows of integer matrices, one after another: which of them are independent.

    Ranks are taken modulo a 26-bit prime, so a rank found is a lower bound of the true one, and full rank is certain.
    """

    def __init__(self, columns: int) -> None:
        self._basis = np.zeros((0, columns), dtype=np.int64)  # reduced row echelon form mod p
        self._pivots: list[int] = []
        self.columns = columns

    @property
    def rank(self) -> int:
        """Rank of all rows so far."""
        return len(self._pivots)

    @property
    def full(self) -> bool:
        """Whether the rows determine every unknown."""
        return self.rank == self.columns

    @property
    def determined(self) -> int:
        """How many unknowns the rows determine: those that stand alone in a row of the reduced echelon form."""
        return int(((self._basis != 0).sum(axis=1) == 1).sum())

    def add(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """Add rows (m, columns); returns the positions of those that were independent of all before."""
        fresh = [i for i, row in enumerate(np.asarray(rows, dtype=np.int64) % _P) if not self.full and self._add(row)]
        return np.array(fresh, dtype=np.int64)

    def _add(self, row: NDArray[np.int64]) -> bool:
        row = (row - _product(row[self._pivots], self._basis)) % _P
        (nonzero,) = np.nonzero(row)
        if not len(nonzero):
            return False
        pivot = int(nonzero[0])
        row = row * pow(int(row[pivot]), -1, _P) % _P
        self._basis = np.vstack([(self._basis - np.outer(self._basis[:, pivot], row)) % _P, row])
        self._pivots.append(pivot)
        return True


def _product(coefficients: NDArray[np.int64], basis: NDArray[np.int64]) -> NDArray[np.int64]:
    """coefficients @ basis mod p, without overflow."""
    total = np.zeros(basis.shape[1], dtype=np.int64)
    for start in range(0, len(coefficients), _CHUNK):
        total = (total + coefficients[start : start + _CHUNK] @ basis[start : start + _CHUNK]) % _P
    return total


def solve_exactly(a: NDArray[np.int64], b: NDArray[np.int64], sweeps: int = 20) -> NDArray[np.int64] | None:
    """Integer X (n, m) with A X = B for a square integer A (n, n) of full rank and B (n, m); None if none is found.

    Rounded floating-point solutions, refined with exact integer residuals and checked exactly at the end. What is returned is
    right; None means that there is none, or that A is too ill-conditioned (beyond about 1e15) for refinement to converge.
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


def _exact_product(a: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.int64]:
    """A X exactly: by floating products while every partial sum is below 2^53, which is fast, else in int64."""
    bound = float(np.abs(a).sum(axis=1).max(initial=0)) * float(np.abs(x).max(initial=0))
    if bound < 2**53:
        product: NDArray[np.int64] = (a.astype(np.float64) @ x.astype(np.float64)).astype(np.int64)
        return product
    return a @ x


def solve_modulo(a: NDArray[np.int64], b: list[int], q: int) -> list[int] | None:
    """x (n,) with A x = b mod the prime q, for a square integer A (n, n); None if A is singular mod q."""
    n = len(b)
    rows = np.array([[int(v) % q for v in row] + [int(c) % q] for row, c in zip(a, b, strict=True)], dtype=object)
    for column in range(n):
        pivot = next((i for i in range(column, n) if rows[i, column]), None)
        if pivot is None:
            return None
        rows[[column, pivot]] = rows[[pivot, column]]
        rows[column] = rows[column] * pow(int(rows[column, column]), -1, q) % q
        others = np.arange(n) != column
        rows[others] = (rows[others] - np.outer(rows[others, column], rows[column])) % q
    return [int(v) for v in rows[:, n]]
