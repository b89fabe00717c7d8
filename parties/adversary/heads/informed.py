"""Rebuild one training image of a head by an adversary that knows all others: the informed adversary.

B. Balle, G. Cherubin, J. Hayes, *Reconstructing Training Data with Informed Adversaries*, IEEE S&P 2022,
arXiv:2201.04845, whose closed form is for convex models at their optimum. A linear head that gradient descent
from zero has left after some steps is no optimum, but it is

    [W, b] = sum_i alpha_i [x_i, 1]^T            alpha_i = -(lr / N) sum_t (p_i(t) - y_i), one number a class

so that, given the coefficients, [x, 1] of the unknown sample follows in closed form: what the known ones
leave of [W, b], divided by alpha. Deviation: the coefficients depend a little on x. They come from training
on the known samples and the present guess, at first the mean of its class, and the closed form is repeated: a
fixed point, found in a few rounds. Noise of DP and the first weights are not simulated; their variance is
known, and weighs the closed form against the mean of the class.

Features are turned into an image by ridge regression on the adversary's own images of the class.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.heads.shadows import Own, own_of, task_of
from parties.adversary.heads.whitebox import rebuild
from protocols.language.errors import MalformedError
from protocols.language.head_relations import HeadTask, HeadWeights
from protocols.network.head import Float, Heads, Protect, Recipe, train_heads

NAME = "informed"
SUMMARY = "one training image from the parameters of a head and all other training samples"
CONSUMES = (HeadWeights,)

_ROUNDS = 12
_RIDGE = 1e-3  # of own features


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """The image of one sample of each owner, whose others are known to the prior."""
    relations.need(*CONSUMES)
    task, heads = task_of(relations), next(relations.of(HeadWeights))
    own, (features, labels, unknown) = own_of(task, prior), _known(task, prior)
    images = np.empty((len(heads.owners), own.images.shape[1]))
    for at in np.unique(unknown[heads.owners]):
        here = unknown[heads.owners] == at
        some, mine = heads.owners[here], Heads(tuple(layer[here] for layer in heads.layers()))
        images[here] = rebuild_informed(own, mine, features[some], labels[some], task.recipe, int(at))
    return Reconstruction(Quantity.IMAGES, heads.owners * labels.shape[1] + unknown[heads.owners], images)


def _known(task: HeadTask, prior: Prior) -> tuple[Float, NDArray[np.int64], NDArray[np.int64]]:
    """Features (V, N, d) and labels (V, N) of all samples, and of each owner the position of the one that is
    not known.

    Its features are NaN; its class is the one of which the owner has a sample too few.
    """
    samples, known = task.classes * task.shots, prior.known
    missing = np.setdiff1d(np.arange(task.owners * samples), [] if known is None else known.index)
    if (
        known is None
        or known.labels is None
        or not np.array_equal(missing // samples, np.arange(task.owners))
    ):
        raise NotApplicable("all samples of every owner but one have to be known")
    assert task.features is not None
    try:
        seen = task.features(known.images / np.float32(prior.x_max))
    except MalformedError as unknown:  # a base that is known by its features of other images
        raise NotApplicable(str(unknown)) from None
    features = np.full((task.owners * samples, seen.shape[1]), np.nan, np.float32)
    labels = np.full(task.owners * samples, -1)
    features[known.index], labels[known.index] = seen, known.labels
    by_owner = labels.reshape(task.owners, samples)
    counts = np.stack([(by_owner == c).sum(1) for c in range(task.classes)], axis=1)
    by_owner[np.arange(task.owners), missing % samples] = (counts < task.shots).argmax(1)
    return features.reshape(task.owners, samples, -1), by_owner, missing % samples


def rebuild_informed(
    own: Own, victims: Heads, features: Float, labels: NDArray[np.int64], recipe: Recipe, at: int
) -> Float:
    """Images (V, n) of sample `at` of each victim, from features (V, N, d) and labels of the others."""
    if len(victims.layers) != 1 or features.shape[1] > features.shape[2] + 1:
        raise NotApplicable("the closed form is for a linear head with no more samples than features")
    found = features_of_unknown(own, victims, features, labels, recipe, at)
    images = np.empty((len(found), own.images.shape[1]), np.float32)
    for c in np.unique(labels[:, at]):
        mine, theirs = own.labels == c, labels[:, at] == c
        images[theirs] = rebuild(own.features[mine], own.images[mine][:, None], found[theirs], _RIDGE)[:, 0]
    return images


def features_of_unknown(
    own: Own, victims: Heads, features: Float, labels: NDArray[np.int64], recipe: Recipe, at: int
) -> Float:
    """Features (V, d) of sample `at`; those in `features` are never read."""
    classes = [own.features[own.labels == c] for c in range(own.classes)]
    mean, spread = np.stack([c.mean(0) for c in classes]), np.array([c.var(0).mean() for c in classes])
    top = own.features.max(0)
    samples = np.concatenate([features, np.ones((*features.shape[:2], 1), np.float32)], axis=2)
    start = samples[:, at, :-1] = mean[labels[:, at]]
    others = np.delete(np.arange(features.shape[1]), at)
    doubt = (noise_of(recipe, features.shape[1]) / spread[labels[:, at]])[:, None]
    for _ in range(_ROUNDS):
        alpha = _coefficients(samples, labels, own.classes, recipe)
        left = victims.layers[0] - alpha[:, :, others] @ samples[:, others]
        mine = alpha[:, :, at]
        told = np.einsum("vk,vkp->vp", mine, left)[:, :-1]
        guess = (told + doubt * start) / (np.square(mine).sum(1, keepdims=True) + doubt)
        # half a step: whole ones may swing
        samples[:, at, :-1] = (samples[:, at, :-1] + np.clip(guess, 0, top)) / 2
    return np.ascontiguousarray(samples[:, at, :-1])


def noise_of(recipe: Recipe, samples: int) -> float:
    """Variance of each weight from what is not simulated: its first value, and the noise of dp."""
    private = recipe.steps * (recipe.lr / samples * recipe.sigma * recipe.clip) ** 2
    return recipe.init**2 + (private if recipe.protect is Protect.DP else 0.0)


def _coefficients(samples: Float, labels: NDArray[np.int64], classes: int, recipe: Recipe) -> Float:
    """alpha (V, k, N) of heads trained on samples (V, N, d + 1), without noise."""
    rng = np.random.default_rng(0)  # draws weights that are multiplied by zero
    still = replace(recipe, init=0.0, hidden=())
    silence = lambda shape: np.zeros(shape, np.float32)  # noqa: E731
    heads = train_heads(samples[:, :, :-1], labels, classes, still, rng, silence)
    alpha: Float = (heads.layers[0] @ np.linalg.pinv(samples)).astype(np.float32)
    return alpha
