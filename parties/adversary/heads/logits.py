"""Recover a head from the logits of d + 1 inputs or more: a system of linear equations.

What a service gives away that returns logits instead of decisions; F. Tramer et al., *Stealing Machine Learning Models via Prediction APIs*,
USENIX Security 2016, section 4.1. Then as `whitebox`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable

NAME = "logits"
SUMMARY = "the head itself from the logits of about as many inputs as it has features"
CONSUMES = ("the logits of the service",)


def solve_logits(features: NDArray[np.floating], logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """The head (k, d + 1) from features (m, d) and logits (m, k); least norm in features that never move."""
    if len(features) <= features.shape[1]:
        raise NotApplicable(f"{len(features)} inputs are too few for {features.shape[1]} features and a bias")
    inputs = np.hstack([features, np.ones((len(features), 1))]).astype(np.float64)
    found: NDArray[np.float32] = np.linalg.lstsq(inputs, logits, rcond=1e-9)[0].T.astype(np.float32)
    return found
