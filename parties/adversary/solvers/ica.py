"""Images in the span of many, as the most independent directions of it.

S. Kariyappa et al., *Cocktail Party Attack*, ICML 2023, arXiv:2209.05578: the rows of D X (h, n) are mixtures
of the b samples, pixels being what is observed, and samples are about independent and far from normal, so
that independent component analysis separates them: blind source separation on a gradient. Here FastICA
(A. Hyvarinen, IEEE Trans. Neural Networks 10(3), 1999), all components at once, with the contrast log cosh.
It takes the mean off to find the directions; what is returned is the mixture itself along them, with its
mean, so that only a scale is lost. The paper adds a prior of smooth images; here there is none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]

_ITERATIONS = 300
_STILL = 1e-6


def components(rows: Reals, rng: np.random.Generator) -> Reals:
    """Rows (b, n) that span what `rows` (b, n) do, as independent as can be, each up to a scale."""
    b, n = rows.shape
    centred = rows - rows.mean(axis=1, keepdims=True)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    kept = values > 1e-9 * values[0]
    whitening = (left[:, kept] / values[kept]).T * np.sqrt(n)
    z = whitening @ centred
    w = _orthogonal(rng.standard_normal((len(z), len(z))))
    for _ in range(_ITERATIONS):
        u = np.tanh(w @ z)
        turned = _orthogonal(u @ z.T / n - (1 - u**2).mean(axis=1)[:, None] * w)
        still = np.abs(np.abs(np.einsum("ij,ij->i", turned, w)) - 1).max() < _STILL
        w = turned
        if still:
            break
    found: Reals = w @ whitening @ rows
    return found


def _orthogonal(w: Reals) -> Reals:
    """The nearest orthogonal matrix."""
    left, _, right = np.linalg.svd(w)
    near: Reals = left @ right
    return near


def scaled(rows: Reals, bright: float = 0.995) -> Reals:
    """Rows (b, n) with the sign that makes them light on dark, and the scale that makes their brightest
    pixels 1, in [0, 1].
    """
    signed = rows * np.where(rows.sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    top = np.quantile(signed, bright, axis=1, keepdims=True)
    return np.asarray(np.clip(signed / np.where(top > 0, top, 1.0), 0.0, 1.0), dtype=np.float64)
