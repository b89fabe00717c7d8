"""Images from nothing but their inner products: pixels are whole numbers.

`gram` gives X X^T from how Z1 changes in training, and over the reals that is X up to a rotation, a ceiling
that cannot be passed (R. Ye et al., arXiv:2210.06771). Over the whole numbers the rotation goes: an
observation of this project, derived in `solvers/lattice.py`. Inner products of whole pixels are whole, so
they are rounded; the rotated unit vectors are the shortest of the lattice that the samples generate, and each
gives one pixel of all samples. Which pixel it is follows from public images of the same kind
(`solvers/order.py`).

Where not all inner products round right, the samples whose products are most nearly whole give the columns,
and least squares the pixels of all others. Assumes no known sample; public images for the order; few gray
levels, as x_max^2 times the relative error of the inner products must stay below 1/2; enough visits, (E - 1)
h >= N; batches that come back; SGD. Costs one lattice reduction and one quadratic assignment.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.attacks import gram
from parties.adversary.solvers.lattice import LATTICE, Columns, columns_of_gram
from parties.adversary.solvers.order import placed

NAME = "lattice_gram"
SUMMARY = (
    "images from the Gram matrix alone, without a known sample: its whole columns, ordered by public images"
)
CONSUMES = gram.CONSUMES

_CHOSEN = 110  # samples that generate all of Z^n, for images of up to about 64 pixels that vary
_WHOLE = 0.25  # how far from a whole number an inner product may be
_SMALL = 1e-10  # of the largest eigenvalue: zero, up to float64
_SURE = 1e-3  # eigenvalue that is none, of a matrix of whole numbers
_ERROR = 4.0  # times the lowest eigenvalue of a Gram matrix: what wrong roundings do to any

Reals = NDArray[np.float64]
Whole = NDArray[np.int64]


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Images of all samples with all their inner products."""
    if prior.pixels > LATTICE:
        raise NotApplicable(f"images of more than {LATTICE} pixels: the lattice was not reduced")
    if prior.public is None:
        raise NotApplicable("no public samples: the pixel of a column would not be known")
    found = gram.gram(relations, prior.x_max, pixels=prior.pixels)
    index, products = whole_block(found, prior.x_max)
    columns, notes = whole_columns(products, prior.x_max)
    images, pixel = placed(columns.values, prior.public * prior.x_max, rng)
    notes |= {"columns": len(pixel), "columns_that_there_are": columns.rank, "ordered_by": len(prior.public)}
    values = np.clip(images, 0, prior.x_max).astype(np.float32) / prior.x_max
    return Reconstruction(Quantity.IMAGES, index, values, found.since, notes=notes)


def whole_block(found: gram.Gram, x_max: int) -> tuple[NDArray[np.int64], Reals]:
    """Samples of which all products with each other are determined, and these, of whole pixels."""
    known = np.isfinite(found.values)
    (index,) = np.nonzero(known.sum(axis=1) > len(known) // 2)
    index = index[known[np.ix_(index, index)].all(axis=1)]
    return index, found.values[np.ix_(index, index)] * x_max**2


def whole_columns(products: Reals, x_max: int) -> tuple[Columns, dict[str, object]]:
    """Columns (N, c) in 0..x_max behind real inner products (N, N), and what was chosen; `NotApplicable`
    where none is found, or where no sample is left to confirm one.

    Samples of rank r that are r in number say nothing: any whole vector z is F u for some u, and columns that
    outnumber the samples leave the same products as others. Each sample more is one equation that a column
    has to satisfy.
    """
    if not len(products):
        raise NotApplicable("no sample has all its inner products determined")
    off = np.abs(products - np.rint(products))
    notes: dict[str, object] = {"products_that_are_whole": float((off < _WHOLE).mean())}
    chosen = np.arange(len(products)) if (off < _WHOLE).all() else nearest_whole(off)
    whole = np.rint(products[np.ix_(chosen, chosen)]).astype(np.int64)
    values = np.linalg.eigvalsh(whole.astype(np.float64))
    rank = int((values > values[-1] * _SMALL).sum())
    if len(chosen) <= rank:
        raise NotApplicable(
            f"{len(chosen)} samples with all their inner products, of rank {rank}: columns need more"
        )
    found = explained(whole, columns_of_gram(whole), x_max)
    if not found.values.shape[1]:
        raise NotApplicable(
            f"no whole column: {notes['products_that_are_whole']:.0%} of the products are whole"
        )
    if len(chosen) < len(products):
        part = found.values.astype(np.float64)
        rest = products[:, chosen] @ part @ np.linalg.inv(part.T @ part)
        found = Columns(np.rint(rest).astype(np.int64), found.rank)
    return found, {**notes, "samples_in_the_lattice": len(chosen)}


def explained(whole: Whole, found: Columns, x_max: int) -> Columns:
    """The columns in range that a Gram matrix G (N, N) contains: with all of them, C C^T = G up to what c of
    r columns leave, a matrix of rank r - c without a negative eigenvalue.

    How far G itself is below zero tells what wrongly rounded products do to eigenvalues.
    """
    inside = ((found.values >= 0) & (found.values <= x_max)).all(axis=0)
    columns = found.values[:, inside]
    values = np.linalg.eigvalsh(whole.astype(np.float64))
    error = _ERROR * max(-values[0], 0.0) + max(values[-1] * _SMALL, _SURE)
    if not left_of(whole - columns @ columns.T, found.rank - columns.shape[1], error):
        kept: list[int] = []
        for each in range(columns.shape[1]):
            some = columns[:, [*kept, each]]
            if left_of(whole - some @ some.T, found.rank - some.shape[1], error):
                kept.append(each)
        columns = columns[:, kept]
    return Columns(columns, found.rank)


def left_of(rest: Whole, rank: int, error: float) -> bool:
    """Whether a symmetric matrix has no more than this rank and no negative eigenvalue, up to an error."""
    values = np.linalg.eigvalsh(rest.astype(np.float64))
    return bool(values[0] >= -error and (values > error).sum() <= rank)


def nearest_whole(off: Reals) -> NDArray[np.int64]:
    """The samples whose products with each other are most nearly whole, by leaving out the worst in turn."""
    kept = np.arange(len(off))
    while len(kept) > _CHOSEN:
        worst = off[np.ix_(kept, kept)].mean(axis=1)
        kept = np.sort(kept[np.argsort(worst)[: max(_CHOSEN, len(kept) * 9 // 10)]])
    return kept
