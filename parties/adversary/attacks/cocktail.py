"""Samples from the span of a sum over many, an aggregate too: blind source separation.

S. Kariyappa et al., *Cocktail Party Attack: Breaking Aggregation-Based Privacy in Federated Learning using
Independent Component Analysis*, ICML 2023, arXiv:2209.05578. The change of a first layer is D X, D unknown: a
mixture of all samples that moved it, whoever's they are, so that secure aggregation only makes them more. Two
ways to take them apart, the first tried first:

* where images have dark pixels, the extreme rays of what is nowhere negative in the span (`solvers/rays.py`),
  of which those are kept that are whole pixels at some scale: such a row is a sample (`solvers/rows.py`);
* the most independent components, as in the paper (`solvers/ica.py`), up to sign and scale, approximate.

Assumes b <= h, and that the b-th singular value stands out of the noise. The published setting: batches of up
to 1024 images of CIFAR-10 and Tiny ImageNet. In no order, so scored by one matching. Cost: some linear
programs of b unknowns for each sample, a tenth of a second each at b = 64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.solvers.ica import components, scaled
from parties.adversary.solvers.moves import Moved, own, unmixed
from parties.adversary.solvers.rays import extreme_ray
from parties.adversary.solvers.rows import by_scale
from protocols.language.relations import KnownMap, Update

NAME = "cocktail"
SUMMARY = "samples from the span of a sum over many, an aggregate too: rays and independent components"
CONSUMES = (KnownMap, Update)

MOST = 256  # samples in a change
_TRIES = 6  # linear programs for each sample
_WHOLE = 0.05  # of a pixel step that an entry may be off
_CLEAR = 3.0  # times the norm of the noise that the last singular value has to be


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """The samples of the first change of most samples that can be taken apart."""
    every, mine = unmixed(relations), own(relations)
    if not every:
        raise NotApplicable("the view holds no two maps in a row that samples of others moved")
    fit = [each for each in every if 2 <= len(each.index) <= min(MOST, len(each.matrix))]
    spans = ((each, rows) for each in fit if (rows := _span(each)) is not None)
    found = next(spans, None)
    if found is None:
        least = min(len(each.index) for each in every)
        raise NotApplicable(
            f"every change sums up at least {least} samples: from 2 to {MOST}, no more than h, and all "
            "of their directions above the noise"
        )
    moved, rows = found
    index = np.setdiff1d(moved.index, mine)
    whole, tried = _rays(rows, prior, rng)
    values = np.full((len(index), prior.pixels), np.nan)
    if len(whole):
        values[: len(whole)] = whole[: len(index)] / prior.x_max
    else:
        values = scaled(components(rows, rng))[: len(index)]
    notes = {"solved": min(len(whole), len(index)), "programs": tried, "components": not len(whole)}
    when = moved.since if len(whole) == len(index) else None
    return Reconstruction(Quantity.UNORDERED_IMAGES, index, values, when, notes=notes)


def _span(moved: Moved) -> NDArray[np.float64] | None:
    """Orthonormal rows (b, n), if all of them stand out of the noise."""
    _, values, right = np.linalg.svd(moved.matrix, full_matrices=False)
    noise = moved.noise * (np.sqrt(moved.matrix.shape[0]) + np.sqrt(moved.matrix.shape[1]))
    count = len(moved.index)
    return right[:count] if values[count - 1] > _CLEAR * noise else None


def _rays(rows: NDArray[np.float64], prior: Prior, rng: np.random.Generator) -> tuple[NDArray[np.int64], int]:
    """Extreme rays that are whole, each once, and the linear programs that were solved."""
    count, n = rows.shape
    found, covered = np.zeros((0, n), np.int64), np.zeros(n)
    for tried in range(_TRIES * count):
        if len(found) == count or (not len(found) and tried == count):
            return found, tried
        ray = extreme_ray(rows, covered, rng)
        if ray is not None:
            whole = by_scale(ray[None], _WHOLE / (4 * prior.x_max), prior.x_max)
            found = np.unique(np.vstack([found, whole]), axis=0)
            covered = found.sum(axis=0) / prior.x_max
    return found, _TRIES * count
