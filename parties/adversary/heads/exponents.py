"""Rebuild training images from the exponents that phe's float encoding sends beside its ciphertexts, in the
clear.

The exponent of a weight is the place of its last bit in base 16: its size within a factor of 16, and nothing
of its sign. It alone carries images over. Regression on shadow heads as in `whitebox`, on the exponents that
phe would have chosen for their weights. Where all weights have one exponent, as integers have, nothing is
carried over, and the attack says the mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Reconstruction, Relations
from parties.adversary.heads.shadows import images_of_classes, shadows_of, task_of
from parties.adversary.heads.whitebox import rebuild
from protocols.language.head_relations import HeadExponents
from protocols.language.relations import now
from protocols.network.head import Float

NAME = "exponents"
SUMMARY = "training images from the exponents of phe's encrypted floats alone"
CONSUMES = (HeadExponents,)

_LEVELS = 4  # smaller exponents are those of weights that are nearly zero


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Images of every owner and class."""
    relations.need(*CONSUMES)
    found, shadows = next(relations.of(HeadExponents)), shadows_of(task_of(relations), prior)
    if found.exponents is None:
        raise NotApplicable("payloads not recorded")
    images = rebuild_exponents(found.of(shadows.heads.layers), shadows.images, now(found.exponents))
    return images_of_classes(found.owners, images)


def rebuild_exponents(known: NDArray[np.integer], images: Float, victims: NDArray[np.integer]) -> Float:
    """Images (V, k, n) from the exponents of V heads, learned on those of S shadows and their images."""
    steps = np.unique(known)[::-1][:_LEVELS]
    return rebuild(_reached(known, steps), images, _reached(victims, steps))


def _reached(exponents: NDArray[np.integer], steps: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Which of `steps` every exponent reaches, all classes together, (V, k (d + 1) steps)."""
    return (exponents.reshape(len(exponents), -1, 1) >= steps).reshape(len(exponents), -1).astype(np.uint8)
