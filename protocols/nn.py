"""Forward and backward passes of the network, in torch, float32 and one thread: the same bits on every runtime.

Batches come first: Z1 (B, h) is the transpose of the papers' W1 X_B^T, dZ1 (B, h) likewise, and dW1 = dZ1^T X_B / B.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.config import Activation, Config, Loss

Float = NDArray[np.float32]
Ints = NDArray[Any]


@dataclass
class Upper:
    """The layers above the first: weights (out, in) and biases (out), and the velocities of SGD with momentum."""

    weights: list[torch.Tensor]
    biases: list[torch.Tensor]
    velocities: list[torch.Tensor]


@dataclass(frozen=True)
class Pass:
    """What a forward pass keeps for the backward pass: pre-activations and activations of each layer, and P (B, k)."""

    z: tuple[torch.Tensor, ...]
    a: tuple[torch.Tensor, ...]
    p: torch.Tensor


def draw_first(config: Config, rng: np.random.Generator) -> torch.Tensor:
    """W1 (h, n), uniform in +-1 / sqrt(n), as torch's own linear layers begin."""
    return _draw(rng, config.layers[0], config.features)


def draw_upper(config: Config, rng: np.random.Generator) -> Upper:
    """The layers above the first, weights as W1, biases zero."""
    sizes = (*config.layers, config.classes)
    weights = [_draw(rng, out, into) for into, out in pairwise(sizes)]
    biases = [torch.zeros(out) for out in sizes[1:]]
    return Upper(weights, biases, [torch.zeros_like(p) for p in (*weights, *biases)])


def forward(upper: Upper, z1: torch.Tensor, config: Config) -> Pass:
    """Run the layers above the first on Z1 (B, h)."""
    z, a = [z1], [_activate(z1, config.activation)]
    for weight, bias in zip(upper.weights, upper.biases, strict=True):
        z.append(torch.addmm(bias, a[-1], weight.T))
        if len(a) < len(upper.weights):
            a.append(_activate(z[-1], config.activation))
    p = torch.softmax(z[-1], 1) if config.loss is Loss.CE else torch.sigmoid(z[-1])
    return Pass(tuple(z), tuple(a), p)


def backward(upper: Upper, run: Pass, error: torch.Tensor, config: Config) -> torch.Tensor:
    """Update the upper layers by SGD on the mean loss and return dZ1 (B, h), of each sample's own loss.

    `error` is P - Y (B, k), the gradient of both losses with respect to the last pre-activation.
    """
    delta = error
    gradients_w: list[torch.Tensor] = []
    gradients_b: list[torch.Tensor] = []
    for layer in reversed(range(len(upper.weights))):
        gradients_w.insert(0, delta.T @ run.a[layer] / len(error))
        gradients_b.insert(0, delta.sum(0) / len(error))
        delta = (delta @ upper.weights[layer]) * _slope(run.z[layer], run.a[layer], config.activation)
    parameters = (*upper.weights, *upper.biases)
    for parameter, velocity, gradient in zip(parameters, upper.velocities, (*gradients_w, *gradients_b), strict=True):
        descend(parameter, velocity, gradient, config)
    return delta


def descend(parameter: torch.Tensor, velocity: torch.Tensor, gradient: torch.Tensor, config: Config) -> None:
    """One step of SGD with momentum, in place: v <- momentum v + g, w <- w - lr v."""
    velocity.mul_(config.momentum).add_(gradient)
    parameter.sub_(velocity, alpha=config.lr)


def one_hot(labels: Ints, classes: int) -> torch.Tensor:
    """Y (B, k) of labels (B,)."""
    return torch.nn.functional.one_hot(torch.as_tensor(np.array(labels, dtype=np.int64)), classes).float()


def scaled(x: Ints, x_max: int) -> torch.Tensor:
    """Pixels (B, n) in [0, 1] of integers in [0, x_max]."""
    return torch.from_numpy(np.array(x, dtype=np.float32)) / x_max


def first_layer_gradient(dz1: torch.Tensor, x: Ints, x_max: int) -> torch.Tensor:
    """dW1 (h, n) = dZ1^T X_B / B of dZ1 (B, h) and integer pixels (B, n)."""
    return dz1.T @ scaled(x, x_max) / len(dz1)


def accuracy(w1: Float, weights: list[Float], biases: list[Float], config: Config, x: Ints, labels: Ints) -> float:
    """Share of samples (N, n integers) whose largest output is their label."""
    upper = Upper([torch.from_numpy(w.copy()) for w in weights], [torch.from_numpy(b.copy()) for b in biases], [])
    first, right = torch.from_numpy(w1.copy()), 0
    for start in range(0, len(x), 4096):
        p = forward(upper, scaled(x[start : start + 4096], config.x_max) @ first.T, config).p
        right += int((p.argmax(1).numpy() == labels[start : start + 4096]).sum())
    return right / len(x)


def _draw(rng: np.random.Generator, out: int, into: int) -> torch.Tensor:
    bound = 1.0 / np.sqrt(into)
    return torch.from_numpy(rng.uniform(-bound, bound, (out, into)).astype(np.float32))


def _activate(z: torch.Tensor, activation: Activation) -> torch.Tensor:
    return torch.relu(z) if activation is Activation.RELU else torch.sigmoid(z)


def _slope(z: torch.Tensor, a: torch.Tensor, activation: Activation) -> torch.Tensor:
    return (z > 0).float() if activation is Activation.RELU else a * (1 - a)
