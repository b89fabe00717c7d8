"""Exact linear algebra over the integers that keys and ciphertexts give: rank, independent rows, exact solutions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Largest prime below 2^26. Residues are cut at 2^13, so that floating products of K <= 2^13 terms are exact.
_P = 67108859
_HALF = 1 << 13
_BLOCK = 64  # rows that are reduced together, by matrix products


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

    def determined(self) -> NDArray[np.bool_]:
        """Which unknowns have one value in every solution (columns,): a row of the reduced form names them alone."""
        found = np.zeros(self.columns, dtype=bool)
        pivots = np.array(self._pivots, dtype=np.int64)
        found[pivots[(self._basis != 0).sum(axis=1) == 1]] = True
        return found

    def add(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """Add rows (m, columns); returns the positions of those that were independent of all before."""
        fresh: list[int] = []
        for start in range(0, len(rows), _BLOCK):
            if self.full:
                break
            block = np.asarray(rows[start : start + _BLOCK], dtype=np.int64) % _P
            fresh += [start + i for i in self._add(block)]
        return np.array(fresh, dtype=np.int64)

    def _add(self, block: NDArray[np.int64]) -> list[int]:
        """Reduce a block by the basis, its rows by one another, and the basis by what is left of them."""
        block = (block - _product(block[:, self._pivots], self._basis)) % _P
        fresh, pivots = _reduce(block)
        rows = block[fresh]
        self._basis = np.vstack([(self._basis - _product(self._basis[:, pivots], rows)) % _P, rows])
        self._pivots += pivots
        return fresh


def _reduce(block: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Gauss-Jordan mod p in place; (rows that are not zero in the end, their pivots)."""
    fresh: list[int] = []
    pivots: list[int] = []
    for i, row in enumerate(block):
        (nonzero,) = np.nonzero(row)
        if len(nonzero):
            pivot = int(nonzero[0])
            row[:] = row * pow(int(row[pivot]), -1, _P) % _P
            others = np.flatnonzero(block[:, pivot])
            others = others[others != i]
            block[others] = (block[others] - np.outer(block[others, pivot], row)) % _P
            fresh.append(i)
            pivots.append(pivot)
    return fresh, pivots


def _product(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """a @ b mod p of residues, exactly: (2^13 high + low) b, where every floating partial sum is below 2^53."""
    total = np.zeros((len(a), b.shape[1]), dtype=np.int64)
    for start in range(0, a.shape[1], _HALF):
        high, low = np.divmod(a[:, start : start + _HALF], _HALF)
        part = b[start : start + _HALF].astype(np.float64)
        some = np.fmod(high.astype(np.float64) @ part, _P) * _HALF + low.astype(np.float64) @ part
        total = (total + np.fmod(some, _P).astype(np.int64)) % _P
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


def solve_determined(a: NDArray[np.int64], b: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]] | None:
    """(which unknowns are determined (u,), X (u, m) with their values) of integer equations A X = B; None if these contradict.

    Modulo the prime, so exact for unknowns in [0, 2^26 - 6) however A is conditioned; rows that are not determined are zero.
    """
    unknowns, echelon = a.shape[1], Echelon(a.shape[1] + b.shape[1])
    echelon.add(np.hstack([a, b]))
    pivots = np.array(echelon._pivots, dtype=np.int64)
    if (pivots >= unknowns).any():
        return None
    found, x = np.zeros(unknowns, dtype=bool), np.zeros((unknowns, b.shape[1]), dtype=np.int64)
    alone = (echelon._basis[:, :unknowns] != 0).sum(axis=1) == 1
    found[pivots[alone]] = True
    x[pivots[alone]] = echelon._basis[alone, unknowns:]
    return found, x


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
