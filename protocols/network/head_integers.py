"""A head and its inputs as integers with one fixed exponent, as an encryption of integers takes them.

Weights have `weight_bits` fractional bits, features `feature_bits`, and the bias the sum of both, so that
integer logits are 2^(weight_bits + feature_bits) times the real ones, and the largest of them stays the
largest but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.integers.packing import HeadBounds
from protocols.language.errors import ConfigError
from protocols.language.message import wire
from protocols.language.options import derived
from protocols.network.fixedpoint import FixedPoint


@wire
@dataclass(frozen=True)
class HeadFormat:
    """Fractional bits, and bounds on the real weights, biases and features; beyond them a `BoundError`, never
    a clip.
    """

    weight_bits: int = derived("fractional bits of weights", 12)
    feature_bits: int = derived("fractional bits of features", 8)
    weight_bound: float = derived("largest weight or bias", 8.0)
    feature_bound: float = derived("largest feature", 16.0)
    signed: bool = derived("whether features may be negative; those of a ReLU are not", False)

    def __post_init__(self) -> None:
        if not (0 < self.weight_bits <= 24 and 0 < self.feature_bits <= 24):
            raise ConfigError("a head's format has 1 to 24 fractional bits of weights and of features")
        if not (self.weight_bound > 0 and self.feature_bound > 0):
            raise ConfigError("a head's format needs positive bounds")

    @property
    def weight(self) -> FixedPoint:
        """Of weights."""
        return FixedPoint(1 << self.weight_bits, self.weight_bound)

    @property
    def feature(self) -> FixedPoint:
        """Of features."""
        return FixedPoint(1 << self.feature_bits, self.feature_bound)

    @property
    def bias(self) -> FixedPoint:
        """Of biases, whose exponent is that of the logits."""
        return FixedPoint(1 << (self.weight_bits + self.feature_bits), self.weight_bound)

    def head_bounds(self, classes: int, features: int) -> HeadBounds:
        """What `protocols.crypto.paillier` derives its slots from."""
        return HeadBounds(
            classes, features, self.weight.limit, self.feature.limit, self.bias.limit, self.signed
        )


def quantise_head(
    weights: NDArray[np.floating], bias: NDArray[np.floating], form: HeadFormat
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Integer weights (k, d) and bias (k,); `BoundError` beyond the bounds."""
    return (
        form.weight.integers(weights, "a weight of the head"),
        form.bias.integers(bias, "a bias of the head"),
    )


def quantise_features(features: NDArray[np.floating], form: HeadFormat) -> NDArray[np.int64]:
    """Integer features (m, d); `BoundError` beyond the bound."""
    return form.feature.integers(features, "a feature")


def integer_logits(
    weights: NDArray[np.int64], bias: NDArray[np.int64], features: NDArray[np.int64]
) -> NDArray[np.int64]:
    """What the encryption decrypts to, (m, k), from integer features (m, d)."""
    return features @ weights.T + bias
