"""D X with D sparse, as ReLU makes it: X from the rank and the zeros of D.

D. Dimitrov, M. Baader, M. Mueller, M. Vechev, *SPEAR: Exact Gradient Inversion of Batches in Federated
Learning*, NeurIPS 2024, arXiv:2403.03945. D X (h, n) of b samples has rank b: D X = L R with L (h, b), R (b,
n), and some Q (b, b) has L Q = D, Q^-1 R = X. A column q of Q makes L q zero at about half of the units, so
that of b - 1 rows of L drawn at random it is the kernel with a chance of about 2^(1 - b). Draw many; of the
kernels found keep those that make far more than b - 1 entries zero. They are the columns of Q up to scale,
which D 1, the change of the bias, gives.

Where samples of a class differ little in their errors, combinations of columns are as sparse as the columns
(h 32, B 8 on digits): then the rows come out wrong, or too few kernels. What is returned explains D X by
construction; whether its rows are samples is for the caller to see.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]

DRAWS = 1 << 20  # sets of rows that are drawn, at most
_ENOUGH = 6.0  # times that a column as sparse as those found would have come, where no more are drawn
_AT_ONCE = 1 << 12
_ENTRIES = 1 << 22  # numbers that are looked at at once
_MARGIN = 4  # zeros of a column beyond those that its kernel makes, at least
_ALIKE = 1e-6  # 1 - |cos| up to which two kernels are one
_KEPT = 8  # times b kernels, the sparsest, from which b are chosen
_SPREAD = 30.0  # times its error that a zero may be off
_FLOOR = 1e-12  # relative error of numbers that show none


@dataclass(frozen=True)
class Factors:
    """Rows (b, n) that are X up to scale, the columns (h, b) of D with them, and the sets of rows drawn."""

    rows: Reals
    columns: Reals
    drawn: int


def sparse_factors(
    matrix: Reals, samples: int, noise: float, rng: np.random.Generator, draws: int = DRAWS
) -> Factors | None:
    """X and D of D X (h, n) with errors of about `noise` an entry, each row of X up to a scale; None where
    D X has another rank, or too few sparse columns are found in so many draws.
    """
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    error = max(noise * np.sqrt(max(matrix.shape)), _FLOOR * float(values[:1].sum()))
    rank = int((values > 3 * error).sum())
    if rank != samples or rank >= len(matrix):
        return None
    # In L = left every column is known to about error / s: the last ones least.
    tolerance = min(_SPREAD * error / values[rank - 1], 1e-2) / np.sqrt(len(matrix))
    left = left[:, :rank]
    found, drawn = _kernels(left, tolerance, rng, draws)
    if found is None:
        return None
    rows = np.linalg.solve(found, values[:rank, None] * right[:rank])
    return Factors(rows, left @ found, drawn)


def _kernels(left: Reals, tolerance: float, rng: np.random.Generator, draws: int) -> tuple[Reals | None, int]:
    """Q (b, b) whose columns make many entries of L q zero, and how many sets were drawn for it."""
    h, b = left.shape
    live = np.flatnonzero(np.linalg.norm(left, axis=1) > tolerance)  # dead units are zero for all
    if len(live) < b:
        return None, 0
    kept, zeros, size = np.zeros((0, b)), np.zeros(0, np.int64), max(_ENTRIES // (h * b), 1)
    for drawn in range(0, draws, _AT_ONCE):
        q = _drawn(left, live, _AT_ONCE, rng)
        for some in np.array_split(q, max(len(q) // size, 1)):
            count = (np.abs(left[live] @ some.T) < tolerance).sum(axis=0)
            good = count >= b - 1 + _MARGIN
            kept, zeros = _merged(kept, zeros, some[good], count[good], left[live], tolerance)
        chosen = _independent(kept, b)
        if chosen is not None and (drawn + _AT_ONCE) * _chance(left[live] @ chosen, tolerance) > _ENOUGH:
            return chosen, drawn + _AT_ONCE
    return _independent(kept, b), draws


def _chance(columns: Reals, tolerance: float) -> float:
    """The chance of a set of b - 1 rows to be zero in a column as sparse as the least sparse of b columns
    (units, b): one that is sparser would have been drawn.
    """
    units, b = columns.shape
    least = int((np.abs(columns) < tolerance).sum(axis=0).min())
    return comb(least, b - 1) / comb(units, b - 1)


def _drawn(left: Reals, live: NDArray[np.int64], count: int, rng: np.random.Generator) -> Reals:
    """Kernels (m, b), unit vectors, of b - 1 rows of L each."""
    b = left.shape[1]
    which = (
        live[np.argpartition(rng.random((count, len(live))), b - 2, axis=1)[:, : b - 1]] if b > 1 else None
    )
    system = np.empty((count, b, b))
    if which is not None:
        system[:, : b - 1] = left[which]
    system[:, b - 1] = rng.standard_normal((count, b))
    last = np.zeros((count, b, 1))
    last[:, b - 1] = 1.0
    try:
        q = np.linalg.solve(system, last)[..., 0]
    except np.linalg.LinAlgError:
        regular = np.linalg.cond(system) < 1 / np.finfo(float).eps
        q = np.linalg.solve(system[regular], last[regular])[..., 0]
    unit: Reals = q / np.linalg.norm(q, axis=1, keepdims=True)
    return unit


def _merged(
    kept: Reals,
    zeros: NDArray[np.int64],
    more: Reals,
    count: NDArray[np.int64],
    rows: Reals,
    tolerance: float,
) -> tuple[Reals, NDArray[np.int64]]:
    """The sparsest kernels so far, each once, refined on all of their zeros."""
    for q, number in sorted(zip(more, count, strict=True), key=lambda pair: -int(pair[1])):
        if len(kept) and (1 - np.abs(kept @ q) < _ALIKE).any():
            continue
        zero = rows[np.abs(rows @ q) < tolerance]
        fine = np.linalg.svd(zero, full_matrices=True)[2][-1]
        kept, zeros = np.vstack([kept, fine]), np.append(zeros, number)
    order = np.argsort(-zeros, kind="stable")[: _KEPT * rows.shape[1]]
    return kept[order], zeros[order]


def _independent(kept: Reals, b: int) -> Reals | None:
    """The sparsest kernels that are independent, as columns; None where they are fewer than b."""
    chosen, basis = list[Reals](), np.zeros((0, kept.shape[1]))
    for q in kept:
        apart = q - basis.T @ (basis @ q)
        if np.linalg.norm(apart) > 1e-4:
            chosen.append(q)
            basis = np.vstack([basis, apart / np.linalg.norm(apart)])
        if len(chosen) == b:
            return np.stack(chosen, axis=1)
    return None
