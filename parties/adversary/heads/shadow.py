"""Shadow heads: what an adversary trains on its own images to learn how a head's parameters tell the images behind them.

It knows the base, the recipe and the distribution of the data, and no image of the victim (R. Allison, T. Maciazek, H. Bourne,
arXiv:2505.14323). Each shadow has its own draw of one or more images a class from `Own`, which no victim shares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import ConfigError
from protocols.network.head import Float, Heads, Recipe, train_heads

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Own:
    """The adversary's own samples of the task: images (N, n) in [0, 1], features (N, d) and labels (N,) in 0..classes-1."""

    images: Float
    features: Float
    labels: Ints
    classes: int


@dataclass(frozen=True)
class Shadows:
    """S heads, and for each the image that stands for every class, (S, k, n): the mean of its training images of that class."""

    heads: Heads
    images: Float


def train_shadows(own: Own, recipe: Recipe, count: int, shots: int, rng: np.random.Generator) -> Shadows:
    """Train `count` heads as a victim's is trained, on `shots` images a class each."""
    chosen = draw(own.labels, own.classes, count, shots, rng)
    labels = np.repeat(np.arange(own.classes), shots)
    rows = chosen.reshape(count, -1)
    heads = train_heads(own.features[rows], np.tile(labels, (count, 1)), own.classes, recipe, rng)
    images = sum(own.images[chosen[:, :, shot]] for shot in range(shots)) / np.float32(shots)
    return Shadows(heads, np.asarray(images, np.float32))


def draw(labels: Ints, classes: int, count: int, shots: int, rng: np.random.Generator) -> Ints:
    """Positions (count, classes, shots): for each class `shots` samples, different within a draw, `count` draws."""
    columns = []
    for c in range(classes):
        (same,) = np.nonzero(labels == c)
        if len(same) < shots:
            raise ConfigError(f"{shots} shots a class need as many samples, got {len(same)} of class {c}")
        columns.append(same[_distinct(len(same), count, shots, rng)])
    return np.stack(columns, axis=1)


def rows_of(heads: Heads) -> Float:
    """What a linear head keeps of each class, (V, k, d + 1); all parameters of a deeper one, the same for every class."""
    if len(heads.layers) == 1:
        return heads.layers[0]
    flat = heads.flat()
    return np.broadcast_to(flat[:, None], (len(flat), heads.layers[-1].shape[1], flat.shape[1]))


def _distinct(among: int, count: int, shots: int, rng: np.random.Generator) -> Ints:
    """(count, shots) different numbers below `among` in every row."""
    if shots == 1:
        return rng.integers(0, among, (count, 1))
    return np.stack([rng.choice(among, shots, replace=False) for _ in range(count)])


Decide = Callable[[Float], Ints]  # the classes (m,) that a service returns for inputs (m, n') of the base
Phi = Callable[[Float], NDArray[np.floating]]  # the features (m, d) on which it decides
