"""Audited epsilon: what a training with DP's noise gave away at the least, whatever its accounting claims.

A training that is (epsilon, delta)-DP keeps every test of whether a sample took part to

    TPR <= e^epsilon FPR + delta        and the same for the rates of the opposite answer

(P. Kairouz, S. Oh, P. Viswanath, ICML 2015, arXiv:1311.0776). So rates that were measured over repeated runs
bound epsilon from below (M. Jagielski, J. Ullman, A. Oprea, NeurIPS 2020, arXiv:2006.07709): here with one-
sided bounds of Clopper and Pearson for each of the two rates at 2.5 %, hence 95 % for both. The threshold is
chosen on one half of the runs, and the rates are those of the other half.

The bound speaks of the statistic that was tried. It cannot exceed what its number of runs can show (`most`),
and an epsilon that it does not reach is not confirmed by it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from protocols.language.errors import DataError

Floats = NDArray[np.float64]

_ONE_SIDED = 0.025  # of each of the two rates
_FEWEST = 4


def audited_epsilon(taken: Floats, left: Floats, delta: float) -> float:
    """The least epsilon, at 95 %, that statistics of runs with a sample (R,) and without it (R,) allow;
    larger ones speak for the sample. Threshold and question are chosen on the first half of the runs of each
    kind.
    """
    if len(taken) != len(left) or len(taken) < _FEWEST:
        raise DataError(f"expected as many runs with the sample as without, got {len(taken)} and {len(left)}")
    half = len(taken) // 2
    best = (-1.0, 0.0, True)
    for took_part in (True, False):
        yes, no = (taken, left) if took_part else (-left, -taken)
        thresholds = np.unique(np.concatenate([yes[:half], no[:half]]))
        bounds = _bounds(_above(yes[:half], thresholds), _above(no[:half], thresholds), half, delta)
        at = int(bounds.argmax())
        best = max(best, (float(bounds[at]), float(thresholds[at]), took_part))
    _, threshold, took_part = best
    yes, no = (taken, left) if took_part else (-left, -taken)
    hits, alarms = (_above(runs[half:], np.array([threshold])) for runs in (yes, no))
    return float(_bounds(hits, alarms, len(taken) - half, delta)[0])


def most(runs: int, delta: float) -> float:
    """The largest bound that so many runs of each kind can give: when no answer is wrong."""
    half = runs - runs // 2
    return float(_bounds(np.array([half]), np.array([0]), half, delta)[0])


def _above(values: Floats, thresholds: Floats) -> NDArray[np.int64]:
    """How many values reach each threshold."""
    return len(values) - np.searchsorted(np.sort(values), thresholds, "left")


def _bounds(hits: NDArray[np.int64], alarms: NDArray[np.int64], runs: int, delta: float) -> Floats:
    """The bound that hits and false alarms of so many runs each give (C. Clopper, E. Pearson, Biometrika 26,
    1934).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.nan_to_num(stats.beta.ppf(_ONE_SIDED, hits, runs - hits + 1)) - delta
        high = np.where(alarms < runs, stats.beta.ppf(1 - _ONE_SIDED, alarms + 1, runs - alarms), 1.0)
        found: Floats = np.where(low > 0, np.maximum(np.log(np.maximum(low, 1e-300) / high), 0.0), 0.0)
    return found
