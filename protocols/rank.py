"""The rank of integer rows that come one after another, for those who count what keys give away."""

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

    def copy(self) -> Echelon:
        """The same rows, to which others can be added on trial."""
        twin = Echelon(self.columns)
        twin._basis, twin._pivots = self._basis, list(self._pivots)  # a basis is replaced, never written to
        return twin

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
