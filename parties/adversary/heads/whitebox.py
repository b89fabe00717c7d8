"""Rebuild the training images of a head from its parameters: ridge regression learned on shadow heads.

R. Allison, T. Maciazek, H. Bourne, arXiv:2505.14323, with a linear map instead of their network
(`whitebox_net` is that): a one-shot linear head is nearly linear in its images. Parameters are standardised
over the shadows; the image of class c is regressed on row c of the head, bias included. The same regression
takes anything a head may be seen as: of heads that are encrypted the bytes of their ciphertexts, where the
prior has shadows that the adversary encrypts under the same key.

Cost: one ridge a class, O(S p^2) for S shadows and p parameters, in dual form O(S^2 p) where p > S.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Reconstruction, Relations
from parties.adversary.heads.shadows import Shadows, images_of_classes, rows_of, shadows_of, task_of
from protocols.language.head_relations import HeadWeights, SealedHeads
from protocols.language.relations import now
from protocols.network.head import Float, Heads

NAME = "whitebox"
SUMMARY = "training images from the parameters of a head, by ridge regression on shadow heads"
CONSUMES = (HeadWeights | SealedHeads,)

RIDGE = (
    1e-2  # of standardised parameters, relative to the number of shadows; fixed before any victim was seen
)
_LEAST_STD = 1e-3  # of the largest: a parameter that hardly moves is noise


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Images of every owner and class."""
    relations.need(*CONSUMES)
    shadows = shadows_of(task_of(relations), prior)
    for heads in relations.of(HeadWeights):
        return images_of_classes(heads.owners, rebuild_heads(shadows, Heads(heads.layers())))
    sealed = next(relations.of(SealedHeads))
    if not prior.sealed:
        raise NotApplicable(f"the view has {sealed.count} ciphertexts of a head and no key to them")
    fewer = shadows.first(prior.sealed)
    known = sealed.seal(fewer.heads.layers, rng.bytes(32))
    return images_of_classes(
        sealed.owners, rebuild(known, fewer.images, now(sealed.elements)), shadows=len(known)
    )


def rebuild_heads(shadows: Shadows, victims: Heads) -> Float:
    """Images (V, k, n) of V victims' heads."""
    return rebuild(rows_of(shadows.heads), shadows.images, rows_of(victims))


def rebuild(
    known: NDArray[np.generic], images: Float, victims: NDArray[np.generic], ridge: float = RIDGE
) -> Float:
    """Images (V, k, n) from what is seen of V heads, learned on what is seen of S shadows and their images
    (S, k, n).

    What is seen is (S, k, p), a row of numbers for each class, or (S, p), the same numbers for every class.
    """
    if known.ndim == 2:
        flat = _ridge(known, images.reshape(len(images), -1), victims, ridge)
        return flat.reshape(len(victims), *images.shape[1:])
    classes = range(images.shape[1])
    return np.stack([_ridge(known[:, c], images[:, c], victims[:, c], ridge) for c in classes], axis=1)


def _ridge(known: NDArray[np.generic], targets: Float, victims: NDArray[np.generic], ridge: float) -> Float:
    mean, std = known.mean(0, dtype=np.float32), known.std(0, dtype=np.float32)
    std = np.maximum(std, _LEAST_STD * std.max() if std.max() > 0 else 1.0)
    a = (known.astype(np.float32) - mean) / std
    b = (victims.astype(np.float32) - mean) / std
    middle = targets.mean(0)
    # one of two forms of the same solution, whichever system is smaller
    wide = a.shape[1] > a.shape[0]
    gram = np.asarray(a @ a.T if wide else a.T @ a, np.float64)
    gram[np.diag_indices_from(gram)] += ridge * len(a)
    right = targets - middle
    solved = np.linalg.solve(gram, right if wide else a.T @ right).astype(np.float32)
    found: Float = (b @ a.T if wide else b) @ solved + middle
    return found
