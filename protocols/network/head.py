"""Training of small classifier heads on the features of a frozen base: many heads in one batch, float32.

A head is dense layers with ReLU between them and softmax with cross-entropy at the end, trained by full-batch
gradient descent from about zero. A linear head (no hidden layer) of N one-shot samples keeps W_c nearly
proportional to x_c less the mean of the samples: the head *is* its training set, which is why it has to be
protected (R. Allison, T. Maciazek, H. Bourne, arXiv:2505.14323).

Protections during training:

    none        W <- W - (lr / N) sum_i g_i             g_i = (p_i - y_i) [x_i, 1]^T for a linear head
    dp          W <- W - (lr / N) (sum_i g_i min(1, C / |g_i|) + sigma C z)        z standard normal
    relaxloss   while the mean loss is below `level`: ascent on even steps, on odd ones descent to
                flattened posteriors

dp is M. Abadi et al., CCS 2016 (arXiv:1607.00133), with the whole data in every batch; |g_i|^2 = sum over
layers of |delta|^2 (|a|^2 + 1) in closed form, so that no gradient of a sample is ever formed.
`protocols.network.dp.sigma_for` gives sigma; its guarantee covers every step's weights, for one sample added
or removed. relaxloss is D. Chen, N. Yu, M. Fritz, ICLR 2022 (arXiv:2207.05801), algorithm 1.

The noise of dp is a secret: who can repeat it subtracts it. A protocol passes `coin_noise`, from its party's
coins; shadow heads of an adversary, whose noise protects nobody, draw it from `rng`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.coins import Stream
from protocols.language.errors import ConfigError
from protocols.language.options import derived
from protocols.language.precision import one_hot, real

Float = NDArray[np.float32]
Noise = Callable[[tuple[int, ...]], NDArray[np.float32]]

_NOISE_SCALE = (
    1 << 24
)  # steps a standard deviation: noise on a grid, so that no low-order bits of a float tell the sum below it
_CHUNK = 1024  # heads at a time: their weights stay in the cache


class Protect(Enum):
    """What the training does for the privacy of its samples."""

    NONE = "none"
    DP = "dp"
    RELAXLOSS = "relaxloss"


@dataclass(frozen=True)
class Recipe:
    """How heads are trained; public, and the same for an owner's head and an adversary's shadows.

    First weights of hidden layers are drawn as torch's own, uniform in +-1 / sqrt(inputs).
    """

    steps: int = derived("steps of training", 32)
    lr: float = derived("learning rate", 1.0)
    init: float = derived("standard deviation of the first weights of a linear head", 1e-3)
    hidden: tuple[int, ...] = derived("widths of hidden layers", ())
    protect: Protect = derived("what training does for the privacy of its samples", Protect.NONE)
    clip: float = derived("C, the norm to which gradients of samples are clipped, for dp", 1.0)
    sigma: float = derived("noise multiplier, for dp", 0.0)
    level: float = derived("alpha of RelaxLoss, in nats", 0.5)

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.lr > 0 or self.init < 0 or any(width < 1 for width in self.hidden):
            raise ConfigError(
                "a head needs at least one step, a positive learning rate and hidden layers of at least one"
            )
        if self.protect is Protect.DP and not (self.clip > 0 and self.sigma > 0):
            raise ConfigError(f"dp needs a positive clip and sigma, got {self.clip:g} and {self.sigma:g}")
        if self.protect is Protect.RELAXLOSS and not self.level > 0:
            raise ConfigError(f"relaxloss needs a positive level, got {self.level:g}")


@dataclass(frozen=True)
class Heads:
    """V heads: of each layer an array (V, out, in + 1), the bias in the last column."""

    layers: tuple[Float, ...]

    def __len__(self) -> int:
        return len(self.layers[0])

    @property
    def weights(self) -> Float:
        """(V, k, d) of linear heads; (V, k, width) of the last layer otherwise."""
        return self.layers[-1][:, :, :-1]

    @property
    def bias(self) -> Float:
        """(V, k) of the last layer."""
        return self.layers[-1][:, :, -1]

    def flat(self) -> Float:
        """All parameters of a head in a row, (V, P)."""
        return np.concatenate([layer.reshape(len(self), -1) for layer in self.layers], axis=1)

    def logits(self, features: Float) -> Float:
        """(V, m, k) for features (m, d), the same for all heads."""
        a = np.broadcast_to(np.asarray(features, real()), (len(self), *features.shape))
        return _forward(self.layers, a)[-1]


def train_heads(
    features: Float,
    labels: NDArray[np.integer],
    classes: int,
    recipe: Recipe,
    rng: np.random.Generator,
    noise: Noise | None = None,
) -> Heads:
    """Train V heads on features (V, N, d) with labels (V, N) in 0..classes-1.

    `rng` draws the first weights, and the noise of dp where `noise` is not given; a protocol gives
    `coin_noise(stream)`.
    """
    if features.ndim != 3 or labels.shape[:2] != features.shape[:2] or not features.shape[1]:
        raise ConfigError(
            f"expected features (V, N, d) and labels (V, N), got {features.shape} and {labels.shape}"
        )
    drawn: Noise = noise or (lambda shape: rng.standard_normal(shape, dtype=real()))
    parts = [_first_layers(min(_CHUNK, len(features) - at), features.shape[2], classes, recipe, rng)
             for at in range(0, len(features), _CHUNK)]  # fmt: skip
    for at, layers in zip(range(0, len(features), _CHUNK), parts, strict=True):
        x = np.ascontiguousarray(features[at : at + _CHUNK], dtype=real())
        for step in range(recipe.steps):
            _step(layers, x, one_hot(labels[at : at + _CHUNK], classes), recipe, step, drawn)
    return Heads(tuple(np.concatenate(layer) for layer in zip(*parts, strict=True)))


def coin_noise(stream: Stream) -> Noise:
    """Standard normal noise from a party's coins, rounded to multiples of 2^-24."""

    def draw(shape: tuple[int, ...]) -> Float:
        return (stream.rounded_gaussian(_NOISE_SCALE, *shape) / _NOISE_SCALE).astype(real())

    return draw


def accuracy(heads: Heads, features: Float, labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Share of features (m, d) that each head assigns to their label, (V,)."""
    parts = range(0, len(heads), _CHUNK // 8)
    return np.concatenate([
        (Heads(tuple(layer[at : at + _CHUNK // 8] for layer in heads.layers)).logits(features).argmax(2)
         == labels).mean(1)
        for at in parts
    ])  # fmt: skip


def _first_layers(
    count: int, into: int, classes: int, recipe: Recipe, rng: np.random.Generator
) -> list[Float]:
    """Layers at the start of training, biases zero."""
    layers = []
    for inputs, out in pairwise((into, *recipe.hidden, classes)):
        layer = rng.standard_normal((count, out, inputs + 1), dtype=real()) * real()(recipe.init)
        if recipe.hidden:
            layer = (rng.random((count, out, inputs + 1), dtype=real()) * 2 - 1) / real()(np.sqrt(inputs))
        layer[:, :, -1] = 0
        layers.append(layer)
    return layers


def _step(layers: list[Float], x: Float, targets: Float, recipe: Recipe, step: int, noise: Noise) -> None:
    """One step of gradient descent, in place, on features (V, N, d) with one-hot targets (V, N, k)."""
    outputs = _forward(layers, x)
    p = _softmax(outputs[-1])
    error = _relaxed(p, targets, recipe.level, step) if recipe.protect is Protect.RELAXLOSS else p - targets
    inputs, deltas = [x, *outputs[:-1]], _backward(layers, outputs, error)
    if recipe.protect is Protect.DP:
        squares = sum(
            np.square(d).sum(2) * (np.square(a).sum(2) + 1) for d, a in zip(deltas, inputs, strict=True)
        )
        factors = np.minimum(1, recipe.clip / np.sqrt(np.maximum(squares, 1e-30)))
        deltas = [delta * factors[:, :, None] for delta in deltas]
    rate = real()(recipe.lr / x.shape[1])
    for layer, delta, a in zip(layers, deltas, inputs, strict=True):
        turned = delta.transpose(0, 2, 1)
        layer[:, :, :-1] -= rate * (turned @ a)
        layer[:, :, -1] -= rate * turned.sum(2)
        if recipe.protect is Protect.DP:
            layer -= real()(rate * recipe.sigma * recipe.clip) * noise(layer.shape)


def _forward(layers: tuple[Float, ...] | list[Float], x: Float) -> list[Float]:
    """Activations of every hidden layer and the logits, (V, N, width) each."""
    outputs: list[Float] = []
    for place, layer in enumerate(layers):
        z = x @ layer[:, :, :-1].transpose(0, 2, 1) + layer[:, None, :, -1]
        x = np.maximum(z, 0) if place < len(layers) - 1 else z
        outputs.append(x)
    return outputs


def _backward(layers: list[Float], outputs: list[Float], error: Float) -> list[Float]:
    """Gradient of each sample's loss with respect to the pre-activations of every layer."""
    deltas = [error]
    for layer, a in zip(reversed(layers[1:]), reversed(outputs[:-1]), strict=True):
        deltas.insert(0, (deltas[0] @ layer[:, :, :-1]) * (a > 0))
    return deltas


def _softmax(z: Float) -> Float:
    e = np.exp(z - z.max(2, keepdims=True))
    p: Float = e / e.sum(2, keepdims=True)
    return p


def _relaxed(p: Float, targets: Float, level: float, step: int) -> Float:
    """What stands for P - Y under RelaxLoss.

    The paper's algorithm, in which a flattened posterior keeps p of the true class and shares the rest
    equally. Its authors' code also ascends on samples that are right already; here, with every sample in one
    batch, the even steps do that.
    """
    loss = -np.log(np.maximum((p * targets).sum(2), 1e-30)).mean(1)[:, None, None]
    if step % 2 == 0:
        return np.where(loss < level, targets - p, p - targets)
    flat = np.where(targets > 0, p, (1 - (p * targets).sum(2, keepdims=True)) / (p.shape[2] - 1))
    return np.where(loss < level, p - flat, p - targets).astype(real())
