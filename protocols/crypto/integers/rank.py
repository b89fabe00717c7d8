"""The rank of integer rows that come one after another, for those who count what keys give away."""

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

    Ranks are taken modulo a 26-bit prime, so a rank found is a lower bound of the true one, and full rank is
    certain.
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
        """Which unknowns have one value in every solution (columns,): those a reduced row names alone."""
        found = np.zeros(self.columns, dtype=bool)
        pivots = np.array(self._pivots, dtype=np.int64)
        found[pivots[(self._basis != 0).sum(axis=1) == 1]] = True
        return found

    def copy(self) -> Echelon:
        """The same rows, to which others can be added on trial."""
        twin = Echelon(self.columns)
        twin._basis, twin._pivots = self._basis, list(self._pivots)  # a basis is replaced, never written to
        return twin

    def reduced(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(pivots (r,), rows (r, columns)) of the reduced row echelon form, modulo the prime."""
        return np.array(self._pivots, dtype=np.int64), self._basis

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
    """a @ b mod p of residues, exactly, as (2^13 high + low) b: every floating partial sum is below 2^53."""
    total = np.zeros((len(a), b.shape[1]), dtype=np.int64)
    for start in range(0, a.shape[1], _HALF):
        high, low = np.divmod(a[:, start : start + _HALF], _HALF)
        part = b[start : start + _HALF].astype(np.float64)
        some = np.fmod(high.astype(np.float64) @ part, _P) * _HALF + low.astype(np.float64) @ part
        total = (total + np.fmod(some, _P).astype(np.int64)) % _P
    return total
