"""Samples from the span of a sum over many, an aggregate too: blind source separation.

S. Kariyappa et al., *Cocktail Party Attack: Breaking Aggregation-Based Privacy in Federated Learning using
Independent Component Analysis*, ICML 2023, arXiv:2209.05578. The change of a first layer is D X, D unknown: a
mixture of all samples that moved it, whoever's they are, so that secure aggregation only makes them more.
They are taken apart in three steps:

* components whose differences between neighbouring pixels are sparse (`solvers/ica.py`), up to a scale,
  approximate; of what is no image the most independent components;
* where such an image has dark pixels, as many as there are samples, they determine it: what is darkest there
  in the span, kept where it is whole pixels at some scale (`solvers/rows.py`);
* what is still missing, as extreme rays of what is nowhere negative in the span (`solvers/rays.py`), kept
  likewise.

What is not whole is returned as the components have it, those that are not among the whole ones.

Assumes b <= h, and that the b-th singular value stands out of the noise. The published setting: batches of up
to 1024 images of CIFAR-10 and Tiny ImageNet. In no order, so scored by one matching. Cost: 800 steps on b^2
unknowns, at most two linear programs of b unknowns for each missing sample, half a second each at b = 64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.solvers.ica import images, scaled
from parties.adversary.solvers.moves import Moved, own, unmixed
from parties.adversary.solvers.rays import darkened, extreme_ray
from parties.adversary.solvers.rows import by_scale
from protocols.language.relations import KnownMap, Update

NAME = "cocktail"
SUMMARY = "samples from the span of a sum over many, an aggregate too: independent components, and rays"
CONSUMES = (KnownMap, Update)

MOST = 256  # samples in a change
_TRIES = 2  # linear programs for each missing sample
_WHOLE = (0.05, 0.02)  # of a pixel step that an entry may be off
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
    parts = images(rows, prior.shape, rng)
    whole = _whole([darkened(rows, part) for part in parts], prior)
    whole, tried = _rays(rows, whole, prior, rng)
    values = np.vstack([whole / prior.x_max, scaled(_rest(parts, whole))])[: len(index)]
    exact = np.arange(len(values)) < len(whole)
    solved = min(len(whole), len(index))
    notes = {"solved": solved, "programs": tried, "components": len(values) - solved}
    when = moved.since if solved == len(index) else None
    says = {"whole": exact}
    return Reconstruction(Quantity.UNORDERED_IMAGES, index, values, when, per_sample=says, notes=notes)


def _rest(parts: NDArray[np.float64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """The components (b, n) but for those that come nearest to a whole sample, one for each."""
    unit = parts / np.linalg.norm(parts, axis=1, keepdims=True)
    sure = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    taken, _ = linear_sum_assignment(-np.abs(unit @ sure.T))
    rest: NDArray[np.float64] = np.delete(parts, taken, axis=0)
    return rest


def _span(moved: Moved) -> NDArray[np.float64] | None:
    """Orthonormal rows (b, n), if all of them stand out of the noise."""
    _, values, right = np.linalg.svd(moved.matrix, full_matrices=False)
    noise = moved.noise * (np.sqrt(moved.matrix.shape[0]) + np.sqrt(moved.matrix.shape[1]))
    count = len(moved.index)
    return right[:count] if values[count - 1] > _CLEAR * noise else None


def _whole(rays: list[NDArray[np.float64]], prior: Prior) -> NDArray[np.int64]:
    """The rays that are whole at some scale, each once."""
    near = np.array(rays)
    found = [by_scale(near, off / (4 * prior.x_max), prior.x_max) for off in _WHOLE]
    return np.unique(np.vstack(found), axis=0)


def _rays(
    rows: NDArray[np.float64], found: NDArray[np.int64], prior: Prior, rng: np.random.Generator
) -> tuple[NDArray[np.int64], int]:
    """With the extreme rays that are whole and not among `found`, and the linear programs that were solved;
    none where the first ones, as many as samples are missing, find nothing.
    """
    count, begun = len(rows), len(found)
    for tried in range(_TRIES * (count - begun)):
        if len(found) == count or (len(found) == begun and tried == count - begun):
            return found, tried
        covered = found.sum(axis=0) / prior.x_max
        ray = extreme_ray(rows, covered, rng)
        if ray is not None:
            found = np.unique(np.vstack([found, _whole([ray], prior)]), axis=0)
    return found, _TRIES * (count - begun)
