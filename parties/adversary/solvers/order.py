"""Which pixel each column is: columns in no order are matched with public images of the same distribution.

Pixels differ in their marginals and in how they vary together. The matching that makes the covariance of
the columns most like that of public images is a quadratic assignment, solved approximately by Frank-Wolfe
over doubly stochastic matrices (J. Vogelstein et al., *Fast Approximate Quadratic Programming for Graph
Matching*, 2015) with the marginals as a linear term, then by exchanges of pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment, quadratic_assignment

Reals = NDArray[np.float64]
Whole = NDArray[np.int64]

_QUANTILES = np.linspace(0.0, 1.0, 33)
_STARTS, _STEPS = 8, 60


def placed(columns: Whole, public: Reals, rng: np.random.Generator) -> tuple[Whole, Whole]:
    """Images (N, n) out of columns (N, c), c <= n, and the pixel of each column; the other pixels are zero.

    `public` (P, n) are images in the units of the columns.
    """
    count, pixels = len(columns), public.shape[1]
    filled = np.hstack([columns, np.zeros((count, pixels - columns.shape[1]), dtype=np.int64)])
    ours, theirs = (np.atleast_2d(np.cov(each.T)) for each in (filled.astype(np.float64), public))
    far = _marginals(filled, public)
    starts = [_start(far, rng, blurred=bool(k)) for k in range(_STARTS)]
    tried = [_frank_wolfe(ours, theirs, far, start) for start in starts]
    best = min(tried, key=lambda pixel: float(((ours - theirs[np.ix_(pixel, pixel)]) ** 2).sum()))
    best = _exchanged(ours, theirs, best, rng)
    images = np.zeros((count, pixels), dtype=np.int64)
    images[:, best] = filled
    return images, best[: columns.shape[1]]


def _marginals(columns: Whole, public: Reals) -> Reals:
    """Mean squared difference of the quantiles of each column and each pixel (n, n)."""
    ours, theirs = (np.quantile(values, _QUANTILES, axis=0).T for values in (columns, public))
    far: Reals = ((ours[:, None] - theirs[None]) ** 2).mean(axis=2)
    return far


def _start(far: Reals, rng: np.random.Generator, blurred: bool) -> Reals:
    """The matching of the marginals, as a matrix; blurred towards the middle of all matchings."""
    start = np.zeros_like(far)
    start[linear_sum_assignment(far)] = 1.0
    weight = rng.uniform(0.3, 0.8) if blurred else 1.0
    return weight * start + (1.0 - weight) / len(far)


def _frank_wolfe(ours: Reals, theirs: Reals, far: Reals, start: Reals) -> Whole:
    """The pixel of each column: -tr(A P B P^T) + <L, P> is minimised over doubly stochastic P."""
    at, linear = start, far * (2 * np.abs(ours @ np.full_like(far, 1 / len(far)) @ theirs).max() / far.max())
    for _ in range(_STEPS):
        slope = linear - 2 * ours @ at @ theirs
        vertex = np.zeros_like(at)
        vertex[linear_sum_assignment(slope)] = 1.0
        way = vertex - at
        square, line = -float(((ours @ way @ theirs) * way).sum()), float((slope * way).sum())
        step = min(1.0, max(0.0, -line / (2 * square))) if square > 0 else float(square + line < 0)
        if step < 1e-6:
            break
        at = at + step * way
    pixel: Whole = linear_sum_assignment(-at)[1]
    return pixel


def _exchanged(ours: Reals, theirs: Reals, pixel: Whole, rng: np.random.Generator) -> Whole:
    """The same after every exchange of two pixels that brings the covariances closer."""
    guess = np.stack([np.arange(len(pixel)), pixel], axis=1)
    options = {"partial_guess": guess, "maximize": True, "rng": rng}
    found: Whole = quadratic_assignment(ours, theirs, method="2opt", options=options).col_ind
    return found
