"""What the matrix of attacks is run on: a task, heads of many owners trained on it, and an adversary's own images, none of them shared.

The lower half of a data set's classes is the task (`scenarios.base`). Its training images are halved by seed: from one half every victim draws
its few private ones, no two victims the same; the other half is the adversary's. Accuracy is on the data set's held-out images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parties.adversary.heads.shadow import Own
from parties.data.datasets import Dataset
from protocols.language.errors import ConfigError
from protocols.network.head import Heads, Recipe, accuracy, train_heads
from protocols.network.public_base import Float, FrozenBase
from scenarios.study.public_base import public_classes, read_features

_TEST_IMAGES = 2000
_HELD_OUT = 5  # one of five of a features file
_FEWEST = 30  # victims, for rates that mean anything

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """Images of the base's inputs in [0, 1] (N, n), their features (N, d), labels; `base` is None where only features were given."""

    base: FrozenBase | None
    own: Own
    images: Float
    features: Float
    labels: Ints
    test_features: Float
    test_labels: Ints
    shape: tuple[int, ...]

    @property
    def classes(self) -> int:
        """k."""
        return self.own.classes


@dataclass(frozen=True)
class Victims:
    """V owners: their training images (V, k, shots, n), features (V, k shots, d) and labels (V, k shots), classes in order."""

    images: Float
    features: Float
    labels: Ints

    def __len__(self) -> int:
        return len(self.images)

    def train(self, recipe: Recipe, classes: int, rng: np.random.Generator) -> Heads:
        """Their heads. Nobody's data is protected by them: the noise of dp is of `rng`, not of coins."""
        return train_heads(self.features, self.labels, classes, recipe, rng)


def task_of(data: Dataset, base: FrozenBase, seed: int) -> Task:
    """The task on a data set; `ConfigError` without held-out images."""
    if data.x_test is None or data.y_test is None:
        raise ConfigError("the matrix measures accuracy on held-out images, and this data set has none")
    classes = public_classes(data.classes)
    train, test = np.flatnonzero(data.y_train < classes), np.flatnonzero(data.y_test < classes)[:_TEST_IMAGES]
    x = base.inputs(data.x_train[train] / np.float32(data.x_max))
    seen = base.phi(base.inputs(data.x_test[test] / np.float32(data.x_max)))
    shape = (data.shape[0] // base.pool, data.shape[1] // base.pool, *data.shape[2:])
    return _halved(base, x, base.phi(x), data.y_train[train], seen, data.y_test[test], shape, seed)


def task_of_features(path: Path, seed: int) -> Task:
    """The task that a user's features file holds: every class of it; one sample of five is held out."""
    features, images, labels = read_features(path)
    order = np.random.default_rng((seed, 6)).permutation(len(labels))
    test, train = np.split(order, [len(order) // _HELD_OUT])
    side = round(images.shape[1] ** 0.5)
    shape = (side, side) if side * side == images.shape[1] else (1, images.shape[1])
    return _halved(
        None, images[train], features[train], labels[train], features[test], labels[test], shape, seed
    )  # fmt: skip


def draw_victims(task: Task, count: int, shots: int) -> Victims:
    """As many victims as the private images allow, `count` at most; `ConfigError` if they are too few."""
    positions = [np.flatnonzero(task.labels == c) for c in range(task.classes)]
    count = min(count, *(len(p) // shots for p in positions))
    if count < _FEWEST:
        raise ConfigError(
            f"{shots} private images a class leave {count} victims, fewer than {_FEWEST}; lower --shots"
        )
    chosen = np.stack([p[: count * shots].reshape(count, shots) for p in positions], axis=1)
    labels = np.tile(np.repeat(np.arange(task.classes), shots), (count, 1))
    return Victims(task.images[chosen], task.features[chosen.reshape(count, -1)], labels)


def mean_accuracy(task: Task, heads: Heads) -> float:
    """Share of held-out images that the heads classify rightly, mean over heads."""
    return float(accuracy(heads, task.test_features, task.test_labels).mean())


def _halved(
    base: FrozenBase | None, x: Float, features: Float, y: Ints, test: Float, y_test: Ints, shape: tuple[int, ...], seed: int
) -> Task:  # fmt: skip
    order = np.random.default_rng((seed, 7)).permutation(len(y))
    private, own = np.split(order, [len(order) // 2])
    classes = int(y.max()) + 1
    mine = Own(x[own], features[own], y[own], classes)
    return Task(base, mine, x[private], features[private], y[private], test, y_test, shape)
