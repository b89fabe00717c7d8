"""Local steps of training that several protocols share; each runs at the party that holds the model.

The trainer keeps `state.w1` (h, n) with its velocity, and `state.upper`. Rounding is part of a step, so that a protocol on
encrypted data and `plain` with the same weight scale compute the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protocols import nn
from protocols.config import Batch, Config, Gradient, Labels
from protocols.state import State


def start_model(state: State) -> None:
    """Draw all weights from the party's own generator."""
    state.w1 = nn.draw_first(state.config, state.rng)
    state.w1_velocity = torch.zeros_like(state.w1)
    state.upper = nn.draw_upper(state.config, state.rng)


def quantised_w1(state: State) -> NDArray[Any]:
    """W1 as integers (h, n), `weight_scale` steps a unit; `BoundError` beyond the weight bound."""
    return quantise(state.w1.numpy(), state.config, "W1")


def quantise(values: NDArray[Any], config: Config, what: str) -> NDArray[Any]:
    """Round reals to the integers of the weights' fixed-point format."""
    return config.weights.quantise(values, what)


def dequantise(products: NDArray[np.int64], config: Config) -> torch.Tensor:
    """Reals of inner products of weights and pixels: one division by both scales, in float64, then float32."""
    return torch.from_numpy((products / (config.weight_scale * config.x_max)).astype(np.float32))


def forward_upper(state: State, z1: torch.Tensor) -> torch.Tensor:
    """Forward pass from Z1 (B, h); keeps the pass and returns P (B, k)."""
    run = nn.forward(state.upper, z1, state.config)
    state.run = run
    return run.p


def rounded_p(p: torch.Tensor, config: Config) -> NDArray[Any]:
    """P (B, k) as integers, `label_scale` steps a unit."""
    return config.probabilities.quantise(p.numpy(), "P")


def rounded_labels(labels: NDArray[Any], config: Config) -> NDArray[np.int64]:
    """One-hot Y (B, k) as integers, `label_scale` steps a unit."""
    hot: NDArray[np.int64] = np.eye(config.classes, dtype=np.int64)[labels] * config.label_scale
    return hot


def output_error(p: torch.Tensor, labels: NDArray[Any], config: Config) -> torch.Tensor:
    """P - Y (B, k) for labels in the clear; rounded as FEBO would, if the run's labels are under FEBO."""
    if config.labels is Labels.FEBO:
        return restored_error(rounded_labels(labels, config) - rounded_p(p, config), config)
    return p - nn.one_hot(labels, config.classes)


def restored_error(y_minus_p: NDArray[np.int64], config: Config) -> torch.Tensor:
    """P - Y (B, k) as reals from the integers Y - P that FEBO decrypts to."""
    return torch.from_numpy((-y_minus_p / config.label_scale).astype(np.float32))


def backward_upper(state: State, error: torch.Tensor) -> NDArray[np.float32]:
    """Backward pass through the upper layers, which are updated; returns dZ1 (B, h)."""
    dz1: NDArray[np.float32] = nn.backward(state.upper, state.run, error, state.config).numpy()
    del state.run
    return dz1


def rounded_dw1(products: NDArray[np.int64], size: int, config: Config) -> torch.Tensor:
    """dW1 (h, n) of the exact products of rounded dZ1 and integer pixels, for a batch of `size`."""
    return dequantise(products, config) / size


def first_layer_gradient(dz1: NDArray[np.float32], x: NDArray[Any], config: Config) -> torch.Tensor:
    """dW1 (h, n) of dZ1 (B, h) and integer pixels (B, n), rounded as `gradient=fe` would if the run says so."""
    if config.gradient is Gradient.FE and config.weight_scale:
        rounded = quantise(dz1, config, "dZ1").astype(np.int64)
        return rounded_dw1(rounded.T @ x.astype(np.int64), len(x), config)
    return nn.first_layer_gradient(torch.from_numpy(np.array(dz1)), x, config.x_max)


def update_w1(state: State, dw1: torch.Tensor) -> None:
    """W1 <- W1 - lr v."""
    nn.descend(state.w1, state.w1_velocity, dw1, state.config)


def weights(state: State) -> dict[str, Any]:
    """All weights as plain arrays, for the experimenter who measures accuracy."""
    return {
        "w1": state.w1.numpy().copy(),
        "weights": [w.numpy().copy() for w in state.upper.weights],
        "biases": [b.numpy().copy() for b in state.upper.biases],
    }


def batch_slice(values: NDArray[Any], batch: Batch) -> NDArray[Any]:
    """The rows of a batch."""
    return values[batch.start : batch.stop]


def tensor(values: NDArray[np.float32]) -> torch.Tensor:
    """A tensor of its own from an array that arrived (those are read-only)."""
    return torch.from_numpy(np.array(values, dtype=np.float32))
