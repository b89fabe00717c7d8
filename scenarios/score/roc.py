"""Does a reconstruction tell its own victim from others: true and false positive rates. Truth and
reconstruction meet here and in `metrics`.

The statistic of an attack on a victim and a class is the least MSE between its image and the victim's
training images of that class, pixels in [0, 1]. Its null distribution is that of the same attack on *another*
victim's head, held against this victim's images (`SHIFTS` others for each), or on random weights, which is
the null of R. Allison, T. Maciazek, H. Bourne, arXiv:2505.14323.

Every class has its own null: a 1 lies close to any other 1, and would fill the smallest errors of a null in
common. What is compared is therefore the share of the class's nulls that come as close, and the rates pool
these shares over classes. `tpr_pooled_01` is with one null for all classes. A rate at a false positive rate a
counts what lies strictly below the share of nulls that a allows, so that ties, as of an attack that always
gives the same image, count against the attack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from protocols.language.errors import DataError

Floats = NDArray[np.float64]

SHIFTS = 4
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Trial:
    """Least errors of an attack, (V, k), and of nulls, (M, k)."""

    errors: Floats
    nulls: Floats

    @property
    def null_samples(self) -> int:
        """Nulls of all classes."""
        return int(self.nulls.size)


def trial(rebuilt: NDArray[Any], truth: NDArray[Any], shifts: int = SHIFTS) -> Trial:
    """Errors of images (V, k, n) against images (V, k, shots, n), their own and `shifts` other victims'."""
    if rebuilt.shape != (*truth.shape[:2], truth.shape[3]) or not 1 <= shifts < len(truth):
        raise DataError(
            f"expected images (V, k, n) and more than {shifts} victims, got {rebuilt.shape} and {truth.shape}"
        )
    nulls = [least_errors(np.roll(rebuilt, shift, axis=0), truth) for shift in range(1, shifts + 1)]
    return Trial(least_errors(rebuilt, truth), np.concatenate(nulls))


def trial_against(rebuilt: NDArray[Any], random: NDArray[Any], truth: NDArray[Any]) -> Trial:
    """The same with images (M, k, n) made of random weights, each against the images of one victim."""
    return Trial(
        least_errors(rebuilt, truth), least_errors(random, truth[np.arange(len(random)) % len(truth)])
    )


def least_errors(rebuilt: NDArray[Any], truth: NDArray[Any]) -> Floats:
    """(V, k): the least MSE to a training image of the class; a failure (NaN) is as far as can be."""
    errors = [np.square(rebuilt - truth[:, :, shot]).mean(2) for shot in range(truth.shape[2])]
    least: Floats = np.nan_to_num(np.min(errors, axis=0).astype(np.float64), nan=np.inf)
    return least


def rates(found: Trial) -> dict[str, Any]:
    """Rates of an attack: plain data with the names of result.json.

    `tpr_at_fpr_01`, `tpr_at_fpr_10`, `auc`, `interval_01` and `interval_10` (Clopper-Pearson, 95 %, samples
    taken as independent), `tpr_pooled_01`, `positives`, `nulls`, `nulls_of_a_class`, `mse` (median) and
    `mse_null`.
    """
    positives, nulls = shares(found)
    hits = {percent: int((positives < percent / 100).sum()) for percent in (1, 10)}
    return {
        "tpr_at_fpr_01": hits[1] / positives.size,
        "tpr_at_fpr_10": hits[10] / positives.size,
        "auc": auc(positives, nulls),
        "interval_01": binomial_interval(hits[1], positives.size),
        "interval_10": binomial_interval(hits[10], positives.size),
        "tpr_pooled_01": float((_shares(found.errors.ravel(), found.nulls.ravel()) < 0.01).mean()),
        "positives": positives.size,
        "nulls": found.null_samples,
        "nulls_of_a_class": len(found.nulls),
        "mse": float(np.median(found.errors)),
        "mse_null": float(np.median(found.nulls)),
    }


def shares(found: Trial) -> tuple[Floats, Floats]:
    """For every positive and every null the share of its class's nulls that are at most as far."""
    classes = range(found.errors.shape[1])
    positives = np.concatenate([_shares(found.errors[:, c], found.nulls[:, c]) for c in classes])
    nulls = np.concatenate([_shares(found.nulls[:, c], found.nulls[:, c]) for c in classes])
    return positives, nulls


def curve(found: Trial) -> tuple[Floats, Floats]:
    """(false positive rates, true positive rates), rising, from (0, 0) to (1, 1)."""
    positives, _ = shares(found)
    allowed = np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 200)])
    return allowed, np.array([0.0, *((positives < a).mean() for a in allowed[1:-1]), 1.0])


def auc(positives: Floats, nulls: Floats) -> float:
    """Probability that a positive is closer than a null, ties half (Mann and Whitney)."""
    ranked = np.sort(nulls)
    below, upto = np.searchsorted(ranked, positives, "left"), np.searchsorted(ranked, positives, "right")
    return float(1.0 - (below + upto).mean() / (2 * len(ranked)))


def binomial_interval(hits: int, samples: int) -> list[float]:
    """The exact interval of a share (C. Clopper, E. Pearson, Biometrika 26, 1934)."""
    found = stats.binomtest(hits, samples).proportion_ci(_CONFIDENCE, "exact")
    return [float(found.low), float(found.high)]


def _shares(values: Floats, nulls: Floats) -> Floats:
    shares: Floats = np.searchsorted(np.sort(nulls), values, "right") / len(nulls)
    return shares
