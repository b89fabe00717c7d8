"""Shadow heads: what an adversary trains on its own images to learn how a head's parameters tell the images
behind them.

It knows the base, the recipe and the distribution of the data, and no image of the victim (R. Allison, T.
Maciazek, H. Bourne, arXiv:2505.14323). Each shadow has its own draw of one or more images a class from the
public ones, which no victim shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from protocols.language.head_relations import HeadTask
from protocols.language.relations import Positions
from protocols.network.head import Float, Heads, Recipe, train_heads

Ints = NDArray[np.int64]

_SEED = 8  # of the draws of shadows: no secret depends on it, and all attacks on a task share them


@dataclass(frozen=True)
class Own:
    """The adversary's samples of the task: images (N, n) in [0, 1], features (N, d), labels (N,)."""

    images: Float
    features: Float
    labels: Ints
    classes: int

    def of_class(self, c: int) -> Ints:
        """Positions of the samples of a class."""
        return np.flatnonzero(self.labels == c)


@dataclass(frozen=True)
class Shadows:
    """S heads, and for each the mean of its training images of every class, (S, k, n)."""

    heads: Heads
    images: Float

    def first(self, count: int) -> Shadows:
        """So many of them."""
        return Shadows(Heads(tuple(layer[:count] for layer in self.heads.layers)), self.images[:count])


def task_of(relations: Relations) -> HeadTask:
    """The task whose heads the view is about; `NotApplicable` if it is about none."""
    relations.need(HeadTask)
    return next(relations.of(HeadTask))


def own_of(task: HeadTask, prior: Prior) -> Own:
    """The public images as the adversary's own samples of the task."""
    if prior.public is None or prior.public_labels is None or task.features is None:
        raise NotApplicable(
            "shadow heads need public images with labels, and the features that the base has of them"
        )
    if "own" not in task.kept:
        mine = prior.public_labels < task.classes
        images = prior.public[mine].astype(np.float32)
        features = task.features(images).astype(np.float32)
        task.kept["own"] = Own(images, features, prior.public_labels[mine], task.classes)
    found: Own = task.kept["own"]
    return found


def shadows_of(task: HeadTask, prior: Prior) -> Shadows:
    """Shadows of a task, trained once for all attacks on it."""
    key = ("shadows", prior.shadows)
    if key not in task.kept:
        rng = np.random.default_rng((_SEED, prior.shadows))
        task.kept[key] = train_shadows(own_of(task, prior), task.recipe, prior.shadows, task.shots, rng)
    found: Shadows = task.kept[key]
    return found


def train_shadows(own: Own, recipe: Recipe, count: int, shots: int, rng: np.random.Generator) -> Shadows:
    """Train `count` heads as a victim's is trained, on `shots` images a class each."""
    chosen = draw(own, count, shots, rng)
    labels = np.repeat(np.arange(own.classes), shots)
    rows = chosen.reshape(count, -1)
    heads = train_heads(own.features[rows], np.tile(labels, (count, 1)), own.classes, recipe, rng)
    images = sum(own.images[chosen[:, :, shot]] for shot in range(shots)) / np.float32(shots)
    return Shadows(heads, np.asarray(images, np.float32))


def draw(own: Own, count: int, shots: int, rng: np.random.Generator) -> Ints:
    """Positions (count, classes, shots): for each class `shots` different samples, `count` draws."""
    columns = []
    for c in range(own.classes):
        same = own.of_class(c)
        if len(same) < shots:
            raise NotApplicable(
                f"{shots} shots a class need as many public images, got {len(same)} of class {c}"
            )
        columns.append(same[_distinct(len(same), count, shots, rng)])
    return np.stack(columns, axis=1)


def rows_of(heads: Heads) -> Float:
    """What a linear head keeps of each class, (V, k, d + 1); all parameters of a deeper one."""
    if len(heads.layers) == 1:
        return heads.layers[0]
    flat = heads.flat()
    return np.broadcast_to(flat[:, None], (len(flat), heads.layers[-1].shape[1], flat.shape[1]))


def images_of_classes(owners: Positions, images: NDArray[np.floating[Any]], **notes: Any) -> Reconstruction:
    """Images (V, k, n) of each owner and class, as a reconstruction numbers them: owner * k + class."""
    classes = images.shape[1]
    index = (owners[:, None] * classes + np.arange(classes)).ravel()
    values = images.reshape(len(index), -1).astype(np.float64)
    return Reconstruction(Quantity.CLASS_IMAGES, index, values, notes=notes)


def _distinct(among: int, count: int, shots: int, rng: np.random.Generator) -> Ints:
    """(count, shots) different numbers below `among` in every row."""
    if shots == 1:
        return rng.integers(0, among, (count, 1))
    return np.stack([rng.choice(among, shots, replace=False) for _ in range(count)])
