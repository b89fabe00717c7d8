"""Rows of D X that are one sample: those of units which one sample alone moved.

A row of D X (h, n) is a combination of the samples with the unit's errors as weights. Where one of them alone
is not zero, it is d x. With the bias, D 1, d is known (L. Phong et al., IEEE TIFS 2018; J. Geiping et al.,
NeurIPS 2020). Without, the row is whole at some scale (X. Pan et al., arXiv:2010.13356, find such units by
ratios): x is a multiple of the smallest whole vector along it. A row of several samples is not whole at any
scale up to x_max but by chance: 2 t for each of its values, t the distance allowed, and each scale tried.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary.solvers.lattice import SURE

Whole = NDArray[np.int64]
Reals = NDArray[np.float64]

_WHOLE = 0.1  # of a pixel step: how far from whole a row may be
_ERRORS = 2.0  # times its noise that an entry may be off
_SURELY = 1e-9  # chance that it is


def by_bias(matrix: Reals, bias: Reals, noise: tuple[float, float], x_max: int) -> Whole:
    """Samples (m, n), each once, of rows (h, n) that are one sample times their entry of the bias (h,), with
    errors of about `noise` each.
    """
    error = _ERRORS * (noise[0] + x_max * noise[1])
    live = np.abs(bias) * _WHOLE > error
    rows = matrix[live] / bias[live, None]
    return _whole(rows, error / np.abs(bias[live]), x_max)


def by_scale(matrix: Reals, noise: float, x_max: int) -> Whole:
    """Samples (m, n), each once, of the rows (h, n) that are whole at some scale up to x_max, where no
    multiple can be the sample.
    """
    size = np.abs(matrix).max(axis=1, initial=0.0)
    signs = np.where(matrix.max(axis=1, initial=0.0) >= size, 1.0, -1.0)
    left = np.flatnonzero(size * _WHOLE > 2 * _ERRORS * noise)
    found = [np.zeros((0, matrix.shape[1]), np.int64)]
    for most in range(1, x_max + 1):
        scale = (most / size[left] * signs[left])[:, None]
        off = 2 * _ERRORS * noise * np.abs(scale[:, 0])  # the largest entry, too, has an error
        left, scale, off = (part[off < _WHOLE] for part in (left, scale, off))
        rows = matrix[left] * scale
        good = fits(rows, off, x_max, scales=x_max)
        found.append(np.rint(rows[good]).astype(np.int64))
        left = left[~good]
        if not len(left):
            break
    return np.unique(_sized(np.vstack(found), x_max), axis=0)


def _whole(rows: Reals, off: Reals, x_max: int) -> Whole:
    """Those that are whole, each once."""
    return np.unique(np.rint(rows[fits(rows, off, x_max)]).astype(np.int64), axis=0)


def fits(rows: Reals, off: Reals, x_max: int, scales: int = 1) -> NDArray[np.bool_]:
    """Which rows are whole and in range up to an error of `off` each, and not by chance, at one of so many
    scales: pixels of one value are whole together, so that each value counts once.
    """
    near = np.rint(rows)
    allowed = np.minimum(off, _WHOLE)
    whole = (np.abs(rows - near) <= allowed[:, None]) & (near >= 0) & (near <= x_max)
    good: NDArray[np.bool_] = np.asarray(whole.all(axis=1), dtype=np.bool_)
    for i in np.flatnonzero(good):
        values = len(np.unique(near[i][near[i] > 0]))
        good[i] = np.log(scales) + values * np.log(max(2 * allowed[i], 1e-300)) < np.log(_SURELY)
    return good


def _sized(rows: Whole, x_max: int) -> Whole:
    """The rows that are no fraction of a sample: a multiple is out of range, or the values are so many that
    those of a sample would hardly all have a divisor.
    """
    several = np.array([len(np.unique(row[row > 0])) for row in rows], np.int64) >= SURE
    kept: Whole = rows[(2 * rows.max(axis=1, initial=0) > x_max) | several]
    return kept
