"""Sparse equations by their normal equations: for many more equations than unknowns, as a first convolution
gives.

A^T A squares the condition of A. That is harmless here: the equations of all positions together have
conditions of 10 to 1000, where n of them chosen in their order can have 1e16 and more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg as sl
import scipy.sparse as sp
from numpy.typing import NDArray

Reals = NDArray[np.float64]

_ZERO = 1e-11  # of the largest pivot of A^T A: singular values below 3e-6 of the largest count as zero


class LeastSquares:
    """Equations A x = z for n unknowns, which come in blocks of rows; the rank is numerical."""

    def __init__(self, columns: int) -> None:
        self._blocks: list[sp.csr_array] = []
        self._gram = np.zeros((columns, columns))
        self._factor, self._order = self._gram, np.arange(columns)
        self.columns, self.rank = columns, 0

    @property
    def full(self) -> bool:
        """Whether the equations determine every unknown."""
        return self.rank == self.columns

    @property
    def equations(self) -> int:
        """How many there are."""
        return sum(block.shape[0] for block in self._blocks)

    def add(self, rows: NDArray[Any]) -> int:
        """Add rows (m, n), integers or reals, most of them zeros; returns the rank of all."""
        block = sp.csr_array(rows).astype(np.float64)
        self._blocks.append(block)
        self._gram += (block.T @ block).toarray()
        tolerance = _ZERO * max(float(self._gram.diagonal().max(initial=0.0)), np.finfo(np.float64).tiny)
        # Cholesky with complete pivoting stops at the rank: N. Higham, Analysis of the Cholesky decomposition
        # of a semi-definite matrix, 1990.
        self._factor, order, self.rank, _ = sl.lapack.dpstrf(self._gram, tol=tolerance)
        self._order = order - 1
        return self.rank

    def solve(self, z: NDArray[Any]) -> Reals:
        """x (m, n) of least residual for right sides z (m, equations), if the rank is n."""
        x = np.empty((len(z), self.columns))
        right = (self._stacked().T @ z.T.astype(np.float64))[self._order]
        x[:, self._order] = sl.cho_solve((self._factor, False), right).T
        return x

    def solve_integers(
        self, z: NDArray[np.int64], sweeps: int = 3
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(x (m, n), which of them fulfil every equation exactly); residuals are integers below 2^53."""
        x, stacked = np.zeros((len(z), self.columns), dtype=np.int64), self._stacked()
        rest = z
        for _ in range(sweeps):
            x += np.rint(self.solve(rest)).astype(np.int64)
            rest = z - (stacked @ x.T.astype(np.float64)).T.astype(np.int64)
            if not rest.any():
                break
        return x, np.logical_not(np.any(rest, axis=1))

    def _stacked(self) -> sp.csr_array:
        if len(self._blocks) > 1:
            self._blocks = [sp.vstack(self._blocks).tocsr()]
        return self._blocks[0]
