"""Whom the matrix attacks: a task, owners with a few private images each, and an adversary's own images, none
of them shared.

The lower half of a data set's classes is the task (`scenarios.run.public_base`). Its training images are
halved by seed: from one half every owner draws its few private ones, no two the same; the other half is the
adversary's. Accuracy is on the data set's held-out images. Images are those of the base's inputs: small ones,
where the base averages pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable
from parties.data.datasets import Dataset
from protocols.language.errors import ConfigError
from protocols.network.head import Heads, accuracy
from protocols.network.public_base import Float, FrozenBase, pooled_shape
from scenarios.run.public_base import public_classes, read_features, shape_of_images

_TEST_IMAGES = 2000
_HELD_OUT = 5  # one of five of a features file
_FEWEST = 30  # victims, for rates that mean anything
NO_FEATURES = "a features file gives no features of other inputs, and so there is nothing to ask about"

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """Images (N, n) in [0, 1], their features (N, d), labels (N,)."""

    images: Float
    features: Float
    labels: Ints

    def at(self, rows: Ints) -> Samples:
        """Some of them; of rows (V, ...) arrays with as many dimensions more."""
        return Samples(self.images[rows], self.features[rows], self.labels[rows])


@dataclass(frozen=True)
class Task:
    """Whose samples there are; `base` is None where only features were given. `shape` of an image."""

    base: FrozenBase | None
    private: Samples
    own: Samples
    test: Samples
    shape: tuple[int, ...]

    @property
    def classes(self) -> int:
        """k."""
        return int(self.private.labels.max()) + 1

    def features(self, images: NDArray[np.floating]) -> Float:
        """Features (m, d) of images (m, n); a features file knows its own, `NotApplicable` for others."""
        if self.base is not None:
            return self.base.phi(images)
        known = (self.own, self.private)
        found = {
            image.tobytes(): f for part in known for image, f in zip(part.images, part.features, strict=True)
        }
        try:
            return np.stack([found[image.tobytes()] for image in np.asarray(images, np.float32)])
        except KeyError:
            raise NotApplicable(NO_FEATURES) from None

    def accuracy(self, heads: Heads) -> float:
        """Share of held-out images that heads classify rightly, mean over heads."""
        return float(accuracy(heads, self.test.features, self.test.labels).mean())


def task_of(data: Dataset, base: FrozenBase, seed: int) -> Task:
    """The task on a data set; `ConfigError` without held-out images."""
    if data.x_test is None or data.y_test is None:
        raise ConfigError("the matrix measures accuracy on held-out images, and this data set has none")
    classes = public_classes(data.classes)
    train, test = np.flatnonzero(data.y_train < classes), np.flatnonzero(data.y_test < classes)[:_TEST_IMAGES]
    x, held_out = (
        base.inputs(images / np.float32(data.x_max)) for images in (data.x_train[train], data.x_test[test])
    )
    shape = pooled_shape(data.shape, base.pool)
    samples = Samples(x, base.phi(x), data.y_train[train])
    return _halved(base, samples, Samples(held_out, base.phi(held_out), data.y_test[test]), shape, seed)


def task_of_features(path: Path, seed: int) -> Task:
    """The task that a user's features file holds: every class of it; one sample of five is held out."""
    features, images, labels = read_features(path)
    samples = Samples(images, features, labels)
    order = np.random.default_rng((seed, 6)).permutation(len(labels))
    test, train = np.split(order, [len(order) // _HELD_OUT])
    shape = shape_of_images(path)
    return _halved(None, samples.at(train), samples.at(test), shape, seed)


def draw_victims(task: Task, count: int, shots: int) -> Samples:
    """The samples (V, k shots, ...) of as many victims as the private images allow, `count` at most, class by
    class.

    `ConfigError` if they are too few.
    """
    positions = [np.flatnonzero(task.private.labels == c) for c in range(task.classes)]
    count = min(count, *(len(p) // shots for p in positions))
    if count < _FEWEST:
        raise ConfigError(
            f"{shots} private images a class leave {count} victims, fewer than {_FEWEST}; lower --shots"
        )
    chosen = np.stack([p[: count * shots].reshape(count, shots) for p in positions], axis=1)
    return task.private.at(chosen.reshape(count, -1))


def _halved(
    base: FrozenBase | None, samples: Samples, test: Samples, shape: tuple[int, ...], seed: int
) -> Task:
    order = np.random.default_rng((seed, 7)).permutation(len(samples.labels))
    private, own = np.split(order, [len(order) // 2])
    return Task(base, samples.at(private), samples.at(own), test, shape)
