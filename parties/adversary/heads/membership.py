"""Whether one sample took part in the training of a head, asked of an adversary that knows everything else:
the worst case that a promise of differential privacy is about.

Of given owners and samples the pair is taken whose heads move furthest, without noise, when the sample leaves
the sum of gradients. That training is repeated with the sample and without it, each time with noise of its
own, and a linear discriminant (R. Fisher, 1936; covariance shrunk by O. Ledoit and M. Wolf, 2004) of the
first half of the heads tells the two apart in the second. It sees the last weights, and not those of every
step, which the promise covers too (M. Nasr et al., IEEE S&P 2021, arXiv:2101.04535, on how far such
adversaries are apart).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from protocols.network.head import Float, Noise, Recipe, train_heads

Ints = NDArray[np.int64]
Statistics = NDArray[np.float64]


def taken_and_left(
    features: Float, labels: Ints, classes: int, recipe: Recipe, runs: int, rng: np.random.Generator
) -> tuple[Statistics, Statistics]:
    """Statistics (R,) of runs with a sample and of runs without it, larger ones for the sample; of features
    (V, N, d) and labels (V, N) one owner and one sample are chosen. The first half of each taught the
    discriminant.
    """
    owner, sample = _furthest(features, labels, classes, recipe)
    x, y = features[owner][None], labels[owner][None]

    def repeated(without: int | None) -> NDArray[np.float64]:
        heads = _trained(np.repeat(x, runs, 0), np.repeat(y, runs, 0), classes, recipe, rng, None, without)
        return heads.astype(np.float64)

    taken, left, half = repeated(None), repeated(sample), runs // 2
    found: Any = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    found.fit(np.concatenate([taken[:half], left[:half]]), np.repeat([1, 0], half))
    direction = found.coef_[0]
    return taken @ direction, left @ direction


def _furthest(features: Float, labels: Ints, classes: int, recipe: Recipe) -> tuple[int, int]:
    """The owner and the sample without which its head, trained without noise, differs most."""
    still, rng = (
        replace(recipe, init=0.0),
        np.random.default_rng(0),
    )  # draws weights that are multiplied by zero
    silence = lambda shape: np.zeros(shape, np.float32)  # noqa: E731
    whole = _trained(features, labels, classes, still, rng, silence)
    moved = [
        np.linalg.norm(_trained(features, labels, classes, still, rng, silence, sample) - whole, axis=1)
        for sample in range(features.shape[1])
    ]
    sample, owner = np.unravel_index(np.argmax(moved), (len(moved), len(features)))
    return int(owner), int(sample)


def _trained(
    features: Float,
    labels: Ints,
    classes: int,
    recipe: Recipe,
    rng: np.random.Generator,
    noise: Noise | None,
    without: int | None = None,
) -> Float:
    """Parameters (V, P) of heads; without a sample, the others' gradients are divided by N all the same."""
    samples = features.shape[1]
    if without is not None:
        features, labels = np.delete(features, without, axis=1), np.delete(labels, without, axis=1)
        recipe = replace(recipe, lr=recipe.lr * (samples - 1) / samples)
    return train_heads(features, labels, classes, recipe, rng, noise).flat()
