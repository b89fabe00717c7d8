"""The smoothest image that explains every equation of a sample: all function keys that work on its ciphertexts, not one step's.

`smooth` (Tikhonov's objective, 1963, under the constraints of Ionita and Ionita, RAID 2025, arXiv:2509.21497) on the independent keys of the
whole run, which is what a budget on keys, or keys bound to a batch, leave: r < n equations a sample. Exact at rank n, as `stack` is.
Assumes nothing beyond smoothness; no free parameter. Costs r decryptions and one quadratic program a sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import LIMIT, NotApplicable, Prior, Quantity, Reconstruction
from parties.adversary.equations import Keys, independent_keys, inner_products, need, systems
from parties.adversary.smooth import prepare
from parties.adversary.solvers.polytope import equations
from parties.record.view import View

NAME = "smooth_stack"
SUMMARY = "smoothest image under the equations of all keys, where they have less than full rank"
CONSUMES = ("mpk", "ct", "sk_w1")


def reconstruct(view: View, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Rebuild the first samples of a view from all that its keys say of them."""
    del rng  # nothing here is drawn
    need(view, *CONSUMES)
    index, rows, projections, seconds, ranks = [], [], [], [], []
    for keys, position, z in _samples(view):
        eq = equations(keys.vectors, prior)
        solve = prepare(eq, prior)
        for i, one in enumerate(z):
            start = perf_counter()
            x, info = solve(one)
            seconds.append(perf_counter() - start)
            index.append(position + i)
            rows.append(x)
            projections.append(info.projection)
        ranks.append(keys.rank)
    if not rows:
        raise NotApplicable("the view holds no keys that work on a ciphertext")
    return Reconstruction(
        quantity=Quantity.IMAGES,
        index=np.array(index, dtype=np.int64),
        values=np.array(rows),
        projection=np.array(projections),
        notes={"rank": [min(ranks), max(ranks)], "seconds_per_image_median": float(np.median(seconds))},
    )


def _samples(view: View) -> Iterator[tuple[Keys, int, NDArray[np.int64]]]:
    """(keys, position, Z) of the first `LIMIT` samples."""
    left = LIMIT
    for scope in systems(view.config):
        keys = independent_keys(view, scope)
        for position, z in inner_products(view, keys, left) if keys.rank else ():
            yield keys, position, z[:left]
            left -= len(z[:left])
            if left <= 0:
                return
