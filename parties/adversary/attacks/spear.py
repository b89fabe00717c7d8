"""All samples of a change at once, where ReLU makes the errors sparse: SPEAR.

D. Dimitrov, M. Baader, M. Mueller, M. Vechev, NeurIPS 2024, arXiv:2403.03945 (`solvers/sparse.py`). A first
layer that b samples moved by D X has D zero wherever a unit was not active. The rank of the change is b, and
the columns of D are those of its span that are zero at about half of the units. The scale of each sample
comes from the bias where the first layer has one, else from its pixels being whole.

What is returned is whole in every pixel and in range; where kernels were found whose rows are not, they are
left out, and counted. The published setting: random images, ReLU, h 200 and B 10 and up to about 25, exact in
nearly all batches. Not identifiable where samples of a class have errors so alike that their differences are
as sparse (digits, h 32, B 8). In no order, so scored by one matching. Cost: about 2^b draws of b - 1 rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Reconstruction, Relations
from parties.adversary.attacks.lattice_span import of_rows
from parties.adversary.solvers.moves import Moved, unmixed
from parties.adversary.solvers.rows import by_scale, fits
from parties.adversary.solvers.sparse import DRAWS, sparse_factors
from protocols.language.relations import KnownMap, Update

NAME = "spear"
SUMMARY = "all samples of a small batch from the zeros that ReLU leaves in their errors (SPEAR)"
CONSUMES = (KnownMap, Update)

MOST = 24  # samples in a change: the draws double with each
_OFF = 0.05  # of a pixel step that an entry may be off
_WORK = 2 * DRAWS  # draws in all


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """The samples of every change of few enough of them."""
    every = unmixed(relations)
    if not every:
        raise NotApplicable("the view holds no two maps in a row that samples of others moved")
    some = [each for each in every if 1 < len(each.index) <= min(MOST, len(each.matrix) - 1)]
    if not some:
        most = min(len(each.index) for each in every)
        raise NotApplicable(
            f"every change sums up at least {most} samples: from 2 to {MOST}, and fewer than h = "
            f"{len(every[0].matrix)}"
        )
    left = _WORK

    def rows(moved: Moved, prior: Prior) -> NDArray[np.int64]:
        nonlocal left
        if left <= 0:
            return np.zeros((0, prior.pixels), np.int64)
        found, drawn = _rows(moved, prior, rng, min(DRAWS, left))
        left -= drawn
        return found

    return of_rows(relations, some, rows, prior, "sparse enough in its errors to be told from others")


def _rows(moved: Moved, prior: Prior, rng: np.random.Generator, draws: int) -> tuple[NDArray[np.int64], int]:
    """The rows that are whole, and how many sets were drawn."""
    none = np.zeros((0, moved.matrix.shape[1]), np.int64)
    factors = sparse_factors(moved.matrix, len(moved.index), moved.noise, rng, draws)
    if factors is None:
        return none, draws
    if moved.bias is None:
        scale = np.abs(factors.rows).max(axis=1, keepdims=True)
        return by_scale(factors.rows / scale, _OFF / (4 * prior.x_max), prior.x_max), factors.drawn
    scales = np.linalg.lstsq(factors.columns, moved.bias, rcond=None)[0]
    if not scales.all():
        return none, factors.drawn
    found = factors.rows / scales[:, None]
    whole = fits(found, np.full(len(found), _OFF), prior.x_max)
    return np.unique(np.rint(found[whole]).astype(np.int64), axis=0), factors.drawn
