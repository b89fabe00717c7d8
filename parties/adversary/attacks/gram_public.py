"""Images from their inner products, labels, and labelled images of other people.

`gram` gives X X^T, which is X up to a rotation, a ceiling that cannot be passed over the reals (R. Ye et al.,
arXiv:2210.06771). Public images of the same classes turn it back (`solvers/alignment.py`): classes have means
and covariances, and pixels are whole numbers in a range. Beside `lattice_gram` this needs labels, and neither
few gray levels nor inner products that are right to less than 1/2: it takes 255 levels, noise and dither,
and large images.

Whether the rotation is the right one shows in how far the points lie from whole numbers (`levels_from_whole`,
`rotation_confirmed`). Where it is not confirmed it may still be right: samples that carry dither are not
whole. So nothing is withheld, and the row says so.

An observation of this project; the parts are published (sources there). Assumes labels in the view, or none
of an owner's labels but those that it knows; public images with labels; that both are drawn alike. No free
parameter but those that are fixed there. Cost: seconds for the digits, a minute for 1000 images of 784
pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.attacks import gram
from parties.adversary.solvers.alignment import Unturned, aligned, factor_of
from protocols.language.relations import Labels, now

NAME = "gram_public"
SUMMARY = "images from the Gram matrix and labels: turned back by labelled public images"
CONSUMES = (*gram.CONSUMES, Labels)


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Images of all samples that have a label and their inner products with most others."""
    del rng  # nothing here is drawn
    relations.need(*CONSUMES)
    if prior.public is None or prior.public_labels is None:
        raise NotApplicable("no public images with labels: nothing tells one rotation from another")
    found = gram.gram(relations, prior.x_max, pixels=prior.pixels)
    labels = labels_of(relations, len(found.values))
    index = whole_block(found, labels >= 0)
    if not len(index):
        raise NotApplicable("no sample has a label and its inner products with the others")
    points, cut = factor_of(found.values[np.ix_(index, index)], found.noise)
    points, public = points * prior.x_max, prior.public * prior.x_max
    try:
        turned = aligned(points, labels[index], public, prior.public_labels, prior.x_max, cut)
    except Unturned as problem:
        raise NotApplicable(str(problem)) from None
    notes = {
        "rank": points.shape[1],
        "public_images_with_labels": len(public),
        "levels_from_whole": turned.apart,
        "rotation_confirmed": turned.confirmed,
    }
    return Reconstruction(Quantity.IMAGES, index, turned.values / prior.x_max, found.since, notes=notes)


def labels_of(relations: Relations, count: int) -> NDArray[np.int64]:
    """The label of each sample (N,), -1 where the view does not have it."""
    labels = np.full(count, -1, np.int64)
    for each in relations.of(Labels):
        here = each.samples < count
        labels[each.samples[here]] = now(each.values)[here]
    return labels


def whole_block(found: gram.Gram, wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Samples that are wanted and have all inner products with each other."""
    known = np.isfinite(found.values) & wanted & wanted[:, None]
    (index,) = np.nonzero(known.sum(axis=1) > wanted.sum() // 2)
    return index[known[np.ix_(index, index)].all(axis=1)]
