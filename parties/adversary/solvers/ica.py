"""Images in the span of many, as the most independent directions of it.

S. Kariyappa et al., *Cocktail Party Attack*, ICML 2023, arXiv:2209.05578: the rows of D X (h, n) are mixtures
of the b samples, pixels being what is observed, and samples are about independent and far from normal, so
that independent component analysis separates them: blind source separation on a gradient. Here FastICA
(A. Hyvarinen, IEEE Trans. Neural Networks 10(3), 1999), all components at once, with the contrast log cosh.
It takes the mean off to find the directions; what is returned is the mixture itself along them, with its
mean, so that only a scale is lost.

Images are anything but independent: they have a mean image in common, and pixels beside one another. Their
*differences* between neighbours are nearer to it, mostly zero and otherwise large, and are mixed by the same
matrix. So `images` looks for the components of these (the paper has total variation as a term instead), and
then gives up that they are orthogonal, which finite images are not: by gradient descent (Adam) on unmixing
rows,

    mean |differences| of variance 1 + a mean exp(T |cosine of two rows|) + c mean of what is below zero,

of which the second is the paper's term that keeps rows apart, and the third says that pixels are light.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

Reals = NDArray[np.float64]

_ITERATIONS = 300
_STILL = 1e-6
# Chosen with a look at the scores of one sum of 64 images each of MNIST and of CIFAR-10, gray.
_DESCENT, _RATE = 800, 0.01
_ROUND = 0.02  # below which a difference of variance 1 costs no more than its square
_APART, _SHARP = 0.2, 12.0  # a, as of rows at 60 degrees, and T
_LIGHT = 20.0  # c, of an image's brightest pixel
_LEAST = 3  # rows and columns of an image of which differences are taken


def images(rows: Reals, shape: tuple[int, ...], rng: np.random.Generator) -> Reals:
    """Rows (b, n) that span what `rows` (b, n) do, as images of `shape` with sparse differences, each up to a
    scale, light on dark; of what is too small for an image the most independent components.
    """
    if len(shape) < 2 or min(shape[:2]) < _LEAST:
        return _light(components(rows, rng))
    steps = _differences(rows, shape)
    whitening = _whitening(steps)
    z = whitening @ steps
    return _descended(_turned(z, rng), z, whitening @ rows)


def _differences(rows: Reals, shape: tuple[int, ...]) -> Reals:
    """Those between neighbours, down and across, (b, m)."""
    picture = rows.reshape(len(rows), *shape)
    parts = [np.diff(picture, axis=axis).reshape(len(rows), -1) for axis in (1, 2)]
    return np.concatenate(parts, axis=1)


def _descended(w: Reals, z: Reals, rows: Reals) -> Reals:
    """Images (b, n) u R of whitened rows R (b, n), from u = w (b, b) on; their differences are u z."""
    steps, span = (torch.from_numpy(part.astype(np.float32)) for part in (z, rows))
    free = torch.from_numpy(w.astype(np.float32)).requires_grad_()
    others = 1 - torch.eye(len(w))
    pairs = max(1, len(w) * (len(w) - 1))
    optimizer = torch.optim.Adam([free], lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _DESCENT)
    for _ in range(_DESCENT):
        unit = free / free.norm(dim=1, keepdim=True)
        sparse = ((unit @ steps) ** 2 + _ROUND**2).sqrt().mean()
        alike = (torch.exp(_SHARP * ((unit @ unit.T).abs() - 0.5)) * others).sum() / pairs
        picture = unit @ span
        picture = picture * torch.sign(picture.sum(dim=1, keepdim=True))
        below = torch.relu(-picture / picture.detach().abs().amax(dim=1, keepdim=True)).mean()
        optimizer.zero_grad()
        (free.grad,) = torch.autograd.grad(sparse + _APART * alike + _LIGHT * below, free)
        optimizer.step()
        schedule.step()
    found = free.detach().double().numpy()
    return _light(found / np.linalg.norm(found, axis=1, keepdims=True) @ rows)


def _light(rows: Reals) -> Reals:
    """With the sign that makes them light on dark."""
    return rows * np.where(rows.sum(axis=1, keepdims=True) < 0, -1.0, 1.0)


def components(rows: Reals, rng: np.random.Generator) -> Reals:
    """Rows (b, n) that span what `rows` (b, n) do, as independent as can be, each up to a scale."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    whitening = _whitening(centred)
    found: Reals = _turned(whitening @ centred, rng) @ whitening @ rows
    return found


def _whitening(rows: Reals) -> Reals:
    """What makes of rows (b, n) as many as are independent, (d, n), of variance 1 and without correlation."""
    left, values, _ = np.linalg.svd(rows, full_matrices=False)
    kept = values > 1e-9 * values[0]
    found: Reals = (left[:, kept] / values[kept]).T * np.sqrt(rows.shape[1])
    return found


def _turned(z: Reals, rng: np.random.Generator) -> Reals:
    """The rotation (d, d) of white rows z (d, n) to the most independent ones."""
    w = _orthogonal(rng.standard_normal((len(z), len(z))))
    for _ in range(_ITERATIONS):
        u = np.tanh(w @ z)
        turned = _orthogonal(u @ z.T / z.shape[1] - (1 - u**2).mean(axis=1)[:, None] * w)
        still = np.abs(np.abs(np.einsum("ij,ij->i", turned, w)) - 1).max() < _STILL
        w = turned
        if still:
            break
    return w


def _orthogonal(w: Reals) -> Reals:
    """The nearest orthogonal matrix."""
    left, _, right = np.linalg.svd(w)
    near: Reals = left @ right
    return near


def scaled(rows: Reals, bright: float = 0.995) -> Reals:
    """Rows (b, n) with the sign that makes them light on dark, and the scale that makes their brightest
    pixels 1, in [0, 1].
    """
    signed = _light(rows)
    top = np.quantile(signed, bright, axis=1, keepdims=True)
    return np.asarray(np.clip(signed / np.where(top > 0, top, 1.0), 0.0, 1.0), dtype=np.float64)
