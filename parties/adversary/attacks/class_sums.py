"""Sums of the samples of each class of a batch, by the first gradient of a linear model; a class of one is an
image with its label.

The gradient of linear models on a batch X (m, n) with targets T (m, k), +-1, is X^T X w - c X^T T. Training
starts at w = 0, so the first keys of quadratic functional encryption for vertical federated learning
(S. Chen et al., arXiv:2305.08358) open V = T^T X of every batch; and whoever issues them sees V, rounded, in
the second request. With a head for each of k > 2 classes a sample has +1 once and -1 otherwise, so that
sum_h V_h = -(k - 2) 1^T X, and S_h = (V_h + 1^T X) / 2 is the sum of the samples of class h. Pixels lie in
[0, x_max]: a class with a sum of s somewhere has s / x_max samples at least, and of m samples what these
leave at most. A class that no sample has gives zero. Where several counts are left, the most even brightness
decides. Zero weights have rank 0, so that a budget on keys does not count them. That a gradient is a sum over
classes is plain; the rest is an observation of this project.

A class of several samples is returned as their mean, once for each. In no order within a batch; classes under
`label`. With one head or two, V is the difference of two sums: only a batch of one sample is read. Costs the
decryption of one gradient for each batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from protocols.language.relations import ClassSums, now

NAME = "class_sums"
SUMMARY = "the first gradient of linear models: the sum of each class of a batch, and classes of one sample"
CONSUMES = (ClassSums,)

_SLACK = 1e-6  # of a pixel step, for rounding to doubles


@dataclass(frozen=True)
class Summed:
    """Sums (k, n) of the samples of each of the `classes` (k,), -1 for all others, up to `error`; `least` and
    `most` (k,): how many they are.
    """

    classes: NDArray[np.int64]
    sums: NDArray[np.float64]
    error: float
    least: NDArray[np.int64]
    most: NDArray[np.int64]

    @property
    def alone(self) -> NDArray[np.bool_]:
        """Classes (k,) that have one sample for sure."""
        found: NDArray[np.bool_] = (self.least == 1) & (self.most == 1)
        return found


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """The samples of every batch, in no order; NaN where their class has no sum of any use."""
    del rng  # nothing here is drawn
    best: dict[bytes, tuple[ClassSums, Summed]] = {}
    every = list(relations.of(ClassSums))
    for seen in every:
        got, key = summed(seen, prior.x_max), seen.samples.tobytes()
        if (
            got is not None
            and got.error <= prior.x_max
            and (key not in best or got.error < best[key][1].error)
        ):
            best[key] = seen, got
    if not best:
        heads = len(every[0].heads)
        raise NotApplicable(
            f"models of {heads} classes and the errors of what is known leave no sum of a single class"
        )
    index, values, label, number = [], [], [], []
    for seen, got in best.values():
        counts, size = counted(got, len(seen.samples)), len(seen.samples)
        rows = np.repeat(np.arange(len(counts)), counts)[:size]
        images = np.full((size, prior.pixels), np.nan)
        images[: len(rows)] = np.clip(got.sums[rows] / counts[rows, None] / prior.x_max, 0.0, 1.0)
        index.append(seen.samples)
        values.append(images)
        label.append(np.append(got.classes[rows], np.full(size - len(rows), -1)))
        number.append(np.append(counts[rows], np.zeros(size - len(rows), np.int64)))
    found = [got for _, got in best.values()]
    notes = {
        "batches": len(best),
        "exact_sums": sum(got.error < 0.5 for got in found),
        "alone_for_sure": sum(int(got.alone.sum()) for got in found),
        "said_alone": sum(int((each == 1).sum()) for each in number),
    }
    says = {"label": np.concatenate(label), "count": np.concatenate(number)}
    return Reconstruction(
        Quantity.UNORDERED_IMAGES, np.concatenate(index), np.concatenate(values), per_sample=says, notes=notes
    )


def summed(seen: ClassSums, x_max: int) -> Summed | None:
    """The sum of each class of a batch; None where only differences of sums are known."""
    v = np.asarray(now(seen.values), np.float64)
    noise, size, heads = np.asarray(now(seen.noise), np.float64), len(seen.samples), len(v)
    classes = np.asarray(seen.heads, np.int64)
    if heads == seen.classes > 2:
        sums = (v - v.sum(axis=0) / (heads - 2)) / 2
        error = float((noise + noise.sum() / (heads - 2)).max() / 2) + _SLACK
    elif size == 1:  # +-x, and no pixel is below zero
        other = 1 - classes[0] if seen.classes == 2 else -1
        classes, sums = np.array([classes[0], other]), np.maximum([v[0], -v[0]], 0.0)
        error = float(noise[0]) + _SLACK
    else:
        return None
    if error < 0.5:
        sums = np.rint(sums)
    largest = sums.max(axis=1) - (error if error >= 0.5 else 0.0)
    least = np.maximum(np.ceil(largest / x_max), 0).astype(np.int64)
    return Summed(classes, sums, error, least, size - (least.sum() - least))


def counted(found: Summed, size: int) -> NDArray[np.int64]:
    """How many samples (k,) each class has: as many as it must, and so that all are about as bright."""
    bright, counts = found.sums.sum(axis=1).clip(0.0), found.least.copy()
    mean = max(float(bright.sum()) / size, 1e-9)

    def off(number: NDArray[np.int64]) -> NDArray[np.float64]:
        each: NDArray[np.float64] = (bright - number * mean) ** 2 / np.maximum(number, 1)
        return each

    while counts.sum() < size:
        counts[int(np.argmin(off(counts + 1) - off(counts)))] += 1
    return counts
