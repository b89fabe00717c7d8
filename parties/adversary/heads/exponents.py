"""Rebuild training images from the exponents that phe's float encoding sends beside its ciphertexts, in the clear.

The exponent of a weight is the place of its last bit in base 16: its size within a factor of 16, and nothing of its sign. It alone carries
images over. Regression on shadow heads as in `whitebox`, on the exponents that phe would have chosen for their weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary.heads.shadow import Shadows, rows_of
from parties.adversary.heads.whitebox import rebuild
from protocols.crypto.paillier import float_exponents
from protocols.network.head import Float

NAME = "exponents"
SUMMARY = "training images from the exponents of phe's encrypted floats alone"
CONSUMES = ("the exponents of an encrypted head",)

_LEVELS = 4  # smaller exponents are those of weights that are nearly zero


def rebuild_exponents(shadows: Shadows, exponents: NDArray[np.integer]) -> Float:
    """Images (V, k, n) from the exponents (V, k, d + 1) of V encrypted heads."""
    known = float_exponents(rows_of(shadows.heads))
    steps = np.unique(known)[::-1][:_LEVELS]
    return rebuild(_reached(known, steps), shadows.images, _reached(exponents, steps))


def _reached(exponents: NDArray[np.integer], steps: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Which of `steps` every exponent reaches, all classes together, (V, k (d + 1) steps)."""
    return (exponents.reshape(len(exponents), -1, 1) >= steps).reshape(len(exponents), -1).astype(np.uint8)
