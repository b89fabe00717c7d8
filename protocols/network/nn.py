"""Forward and backward passes of the network, in torch, float32 and one thread: the same bits on every
runtime.

Batches come first: Z1 (B, h) is the transpose of the papers' W1 X_B^T, dZ1 (B, h) likewise, and dW1 = dZ1^T
X_B / B.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nn_functional
from numpy.typing import NDArray

from protocols.language import precision
from protocols.language.precision import real, torch_real
from protocols.network import conv
from protocols.network.config import Activation, Loss, Optimizer, Training
from protocols.network.conv import Convolution

Float = NDArray[np.float32]
Ints = NDArray[Any]

_BETA2, _EPSILON = 0.999, 1e-8
_PUBLIC_SEED = 0  # of W1 under init=shared; both sides of the public code of Ionita and Ionita seed with 0


@dataclass
class Weight:
    """A tensor that is trained, and what its optimizer remembers: mean gradient, mean squared gradient,
    steps.
    """

    value: torch.Tensor
    mean: torch.Tensor
    square: torch.Tensor | None  # Adam only
    steps: torch.Tensor  # a scalar, so that a step changes tensors in place and assigns nothing


@dataclass
class Layer:
    """A dense layer: weight (out, in) and bias (out)."""

    weight: Weight
    bias: Weight


@dataclass(frozen=True)
class Pass:
    """What a forward pass keeps for the backward pass: pre-activations and activations, (B, width) each, from
    Z1 on.
    """

    z: tuple[torch.Tensor, ...]
    a: tuple[torch.Tensor, ...]


def draw_first(config: Training, rng: np.random.Generator) -> Weight:
    """W1 (h, n), uniform in +-1 / sqrt(n), as torch's own linear layers begin; kernels (F, L) likewise. A
    bias begins at zero, as those of the layers above do.
    """
    rows, columns = config.first_shape
    drawn = _draw(rng, rows, columns - int(config.biased))
    return track(nn_functional.pad(drawn, (0, int(config.biased))), config)


def draw_public(config: Training) -> Weight:
    """W1 as `draw_first` draws it, from a public seed: everybody can compute it."""
    bound = 1.0 / np.sqrt(config.features)
    generator = torch.Generator().manual_seed(_PUBLIC_SEED)
    empty = torch.empty(config.layers[0], config.features, dtype=torch_real())
    return track(empty.uniform_(-bound, bound, generator=generator), config)


def draw_layers(sizes: tuple[int, ...], config: Training, rng: np.random.Generator) -> list[Layer]:
    """Layers between widths `sizes`, weights as W1, biases zero."""
    weights = [_draw(rng, out, into) for into, out in pairwise(sizes)]
    return [Layer(track(w, config), track(torch.zeros(len(w), dtype=torch_real()), config)) for w in weights]


def track(value: torch.Tensor, config: Training) -> Weight:
    """A tensor with an optimizer at its start."""
    square = torch.zeros_like(value) if config.optimizer is Optimizer.ADAM else None
    return Weight(value, torch.zeros_like(value), square, torch.zeros((), dtype=torch.int64))


def upper_sizes(config: Training) -> tuple[int, ...]:
    """Widths from Z1 to the outputs."""
    return (*hidden_sizes(config), config.classes)


def hidden_sizes(config: Training) -> tuple[int, ...]:
    """Widths from Z1 to the input of the last layer; above a convolution all of `layers` are dense layers."""
    return config.layers if config.conv is None else (config.width, *config.layers)


def forward_hidden(layers: Sequence[Layer], z1: torch.Tensor, config: Training) -> Pass:
    """Run the hidden layers above the first on Z1 (B, h)."""
    z, a = [z1], [_activate(z1, config.activation)]
    for layer in layers:
        z.append(_affine(layer, a[-1]))
        a.append(_activate(z[-1], config.activation))
    return Pass(tuple(z), tuple(a))


def forward_output(layer: Layer, a: torch.Tensor, config: Training) -> torch.Tensor:
    """P (B, k) of the last layer, for activations a (B, width)."""
    z = _affine(layer, a)
    return torch.softmax(z, 1) if config.loss is Loss.CE else torch.sigmoid(z)


def backward_output(layer: Layer, a: torch.Tensor, error: torch.Tensor, config: Training) -> torch.Tensor:
    """Update the last layer and return dA (B, width), the gradient of each sample's own loss.

    `error` is P - Y (B, k), the gradient of both losses with respect to the last pre-activation.
    """
    return _backward(layer, a, error, config)


def backward_hidden(layers: Sequence[Layer], run: Pass, da: torch.Tensor, config: Training) -> torch.Tensor:
    """Update the hidden layers above the first and return dZ1 (B, h), of each sample's own loss."""
    delta = da * _slope(run.z[-1], run.a[-1], config.activation)
    for i, layer in reversed(list(enumerate(layers))):
        da = _backward(layer, run.a[i], delta, config)
        delta = da * _slope(run.z[i], run.a[i], config.activation)
    return delta


def sample_norms(
    layers: Sequence[Layer], run: Pass, error: torch.Tensor, x: Ints, config: Training
) -> torch.Tensor:
    """Norm (B,) of the gradient of each sample's own loss by all weights, W1 and `layers` above it, for
    `error` P - Y (B, k).

    The gradient by a dense layer is an outer product, whose norm is the product of two (I. Goodfellow,
    arXiv:1510.01799); that by a convolution is computed.
    """
    delta, total = error, torch.zeros(len(error), dtype=error.dtype)
    for layer, z, a in zip(reversed(layers), reversed(run.z), reversed(run.a), strict=True):
        total += (delta**2).sum(1) * ((a**2).sum(1) + 1)
        delta = (delta @ layer.weight.value) * _slope(z, a, config.activation)
    if config.conv is None:
        return (
            total + (delta**2).sum(1) * ((scaled(x, config.pixel_unit) ** 2).sum(1) + config.biased)
        ).sqrt()
    for i in range(len(x)):
        own = first_layer_gradient(
            delta[i : i + 1], x[i : i + 1], config.pixel_unit, config.conv, config.biased
        )
        total[i] += (own**2).sum()
    return total.sqrt()


def _affine(layer: Layer, a: torch.Tensor) -> torch.Tensor:
    return torch.addmm(layer.bias.value, a, layer.weight.value.T)


def _backward(layer: Layer, a: torch.Tensor, delta: torch.Tensor, config: Training) -> torch.Tensor:
    """Update a layer on the mean loss; returns the gradient with respect to its input, from before the
    update.
    """
    da = delta @ layer.weight.value
    descend(layer.weight, delta.T @ a / len(delta), config)
    descend(layer.bias, delta.sum(0) / len(delta), config)
    return da


def descend(weight: Weight, gradient: torch.Tensor, config: Training) -> None:
    """One step of the optimizer, in place.

    SGD with momentum: v <- momentum v + g, w <- w - lr v. Adam: D. Kingma, J. Ba, ICLR 2015, algorithm 1,
    with beta1 = momentum, beta2 = .999.
    """
    weight.steps.add_(1)
    if weight.square is None:
        weight.mean.mul_(config.momentum).add_(gradient)
        weight.value.sub_(weight.mean, alpha=config.lr)
        return
    weight.mean.mul_(config.momentum).add_(gradient, alpha=1 - config.momentum)
    weight.square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
    steps = int(weight.steps)
    root = (weight.square / (1 - _BETA2**steps)).sqrt_().add_(_EPSILON)
    weight.value.addcdiv_(weight.mean, root, value=-config.lr / (1 - config.momentum**steps))


def one_hot(labels: Ints, classes: int) -> torch.Tensor:
    """Y (B, k) of labels (B,)."""
    return torch.from_numpy(np.array(precision.one_hot(labels, classes)))


def scaled(x: Ints, unit: int) -> torch.Tensor:
    """Integer pixels (B, n) as the network takes them: divided by `unit`, which is x_max or 1."""
    pixels = torch.from_numpy(np.array(x, dtype=real()))
    return pixels if unit == 1 else pixels / unit


def first_layer(x: Ints, w1: torch.Tensor, unit: int, layer: Convolution | None = None) -> torch.Tensor:
    """Z1 (B, h) = X_B W1^T of integer pixels (B, n); of a convolution (B, F P), patch by patch. A column more
    than there are pixels is a bias.
    """
    columns = x.shape[1] if layer is None else layer.length
    bias, w = w1[:, columns:].T, w1[:, :columns].T  # (0 or 1, h)
    if layer is None:
        return _added(scaled(x, unit) @ w, bias)
    found = [scaled(conv.patches(x[some], layer), unit) @ w for some in conv.parts(len(x), layer)]
    return _added(torch.cat(found), bias).transpose(1, 2).reshape(len(x), layer.outputs)


def _added(z: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return z + bias[0] if len(bias) else z


def first_layer_gradient(
    dz1: torch.Tensor, x: Ints, unit: int, layer: Convolution | None = None, biased: bool = False
) -> torch.Tensor:
    """dW1 (h, n) = dZ1^T X_B / B of dZ1 (B, h) and integer pixels (B, n); of a convolution (F, L), over its
    patches. With a bias its gradient is the last column.
    """
    if biased:
        per_row = dz1 if layer is None else dz1.reshape(len(dz1), layer.kernels, layer.positions).sum(2)
        column = per_row.sum(0)[:, None] / len(dz1)
        return torch.cat([first_layer_gradient(dz1, x, unit, layer), column], 1)
    if layer is None:
        return dz1.T @ scaled(x, unit) / len(dz1)
    total = torch.zeros(layer.kernels, layer.length, dtype=torch_real())
    for some in conv.parts(len(x), layer):
        rows = (
            dz1[some].reshape(-1, layer.kernels, layer.positions).transpose(0, 1).reshape(layer.kernels, -1)
        )
        total += rows @ scaled(conv.patches(x[some], layer), unit).reshape(-1, layer.length)
    return total / len(dz1)


def accuracy(
    w1: Float, weights: list[Float], biases: list[Float], config: Training, x: Ints, labels: Ints
) -> float:
    """Share of samples (N, n integers) whose largest output is their label."""
    parts = _outputs(w1, weights, biases, config, x)
    right = sum(int((p.argmax(1) == labels[start : start + len(p)]).sum()) for start, p in parts)
    return right / len(x)


def mean_loss(
    w1: Float, weights: list[Float], biases: list[Float], config: Training, x: Ints, labels: Ints
) -> float:
    """Mean over samples (N, n integers) of - log of the output at their label."""
    lost = 0.0
    for start, p in _outputs(w1, weights, biases, config, x):
        right = p[np.arange(len(p)), labels[start : start + len(p)]]
        lost -= float(np.log(np.maximum(right, np.finfo(right.dtype).tiny)).sum())
    return lost / len(x)


def _outputs(
    w1: Float, weights: list[Float], biases: list[Float], config: Training, x: Ints
) -> Iterator[tuple[int, Float]]:
    """(position of the first, outputs) of some samples after the other."""
    layers = [_loaded(w, b) for w, b in zip(weights, biases, strict=True)]
    first = torch.from_numpy(w1.copy())
    for start in range(0, len(x), 4096):
        z1 = first_layer(x[start : start + 4096], first, config.pixel_unit, config.conv)
        run = forward_hidden(layers[:-1], z1, config)
        yield start, forward_output(layers[-1], run.a[-1], config).numpy()


def _loaded(weight: Float, bias: Float) -> Layer:
    values = (torch.from_numpy(array.copy()) for array in (weight, bias))
    return Layer(*(Weight(value, value, None, value) for value in values))  # never trained again


def _draw(rng: np.random.Generator, out: int, into: int) -> torch.Tensor:
    bound = 1.0 / np.sqrt(into)
    return torch.from_numpy(rng.uniform(-bound, bound, (out, into)).astype(real()))


def _activate(z: torch.Tensor, activation: Activation) -> torch.Tensor:
    return torch.relu(z) if activation is Activation.RELU else torch.sigmoid(z)


def _slope(z: torch.Tensor, a: torch.Tensor, activation: Activation) -> torch.Tensor:
    return (z > 0).to(torch_real()) if activation is Activation.RELU else a * (1 - a)
