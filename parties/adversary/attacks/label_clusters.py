"""Labels that never leave their owner, from the direction of the gradient that comes back: clusters of it are
classes.

U-shaped, the owner keeps labels and the last layer, z = V a + b, and returns for each sample dA = (p - e_y) V
with p its outputs and e_y its one-hot label. Entry y of p - e_y is the only negative one, so that early in
training, while the p of all samples are alike, dA points away from row y of V and towards the mean of the
others: as many directions as classes. Later p nears e_y and |dA| says how well a sample is learned; which way
it points still depends on y first of all. So the gradients are divided by their length, and those of all
visits of a sample are set side by side: V moves little between the steps of an epoch. K-means (S. Lloyd,
1982; start of D. Arthur, S. Vassilvitskii, 2007) with as many centres as classes.

O. Li et al., *Label Leakage and Protection in Two-Party Split Learning*, ICLR 2022, arXiv:2102.08504 (two
classes: norm and direction); C. Fu et al., *Label Inference Attacks Against Vertical Federated Learning*,
USENIX Security 2022. Which cluster is which class is not in the view: the classes are found up to a renaming,
which known labels, one of each class, end. Assumes that the number of classes is public, that samples are
recognised when they come back, and that no class is far rarer than the others, for which k-means is no
method. Free parameters: ten starts of k-means, fixed beforehand. Cost: a second for the digits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans

from parties.adversary.attack import Known, NotApplicable, Prior, Quantity, Reconstruction, Relations
from protocols.language.relations import LabelErrors, now

NAME = "label_clusters"
SUMMARY = "labels at the owner: clusters of the gradient's directions; with --known their names too"
CONSUMES = (LabelErrors,)

_STARTS = 10  # of k-means, of which the one with the least distances is kept
_LEAST = 1e-30  # length below which a gradient has no direction

Reals = NDArray[np.float64]
Ints = NDArray[np.int64]


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Return the cluster of every sample, or with known labels those of all others."""
    every = gradients(relations)
    index, seen = directions(every)
    classes = max(errors.classes for errors in every)
    if len(index) < classes:
        raise NotApplicable(f"gradients of {len(index)} samples were seen, fewer than {classes} classes")
    found, spread = clusters(seen, classes, rng)
    notes: dict[str, object] = {"visits": seen.shape[1], "classes": classes, "spread_left": spread}
    since = max(errors.since for errors in every)
    if prior.known is None or prior.known.labels is None:
        return Reconstruction(Quantity.CLASSES, index, found, since, notes=notes)
    names, told = named(index, found, prior.known, prior.known.labels, classes)
    others = ~np.isin(index, prior.known.index)
    notes["clusters_with_a_known_label"] = told
    return Reconstruction(Quantity.LABELS, index[others], names[found[others]], since, notes=notes)


def gradients(relations: Relations) -> list[LabelErrors]:
    """Those that say whose they are."""
    every = [e for e in relations.of(LabelErrors) if not e.outputs and e.classes]
    if not every:
        raise NotApplicable(
            f"the view of {', '.join(relations.parties)} holds no gradient that depends on labels"
        )
    placed = [errors for errors in every if (errors.samples >= 0).all()]
    if not placed:
        raise NotApplicable(
            "the owner shuffles its samples in private: which sample a gradient belongs to is not in the view"
        )
    return placed


def directions(every: list[LabelErrors]) -> tuple[Ints, Reals]:
    """(positions (m,), unit vectors (m, V, c)) of the samples that were seen, each at its first V visits; V
    is the fewest of any of them.
    """
    seen: dict[int, list[Reals]] = {}
    for errors in every:
        for sample, row in zip(errors.samples.tolist(), now(errors.values), strict=True):
            seen.setdefault(sample, []).append(row)
    index, visits = sorted(seen), min(map(len, seen.values()))
    rows = np.stack([np.stack(seen[sample][:visits]) for sample in index]).astype(np.float64)
    return np.array(index, np.int64), rows / np.maximum(np.linalg.norm(rows, axis=2, keepdims=True), _LEAST)


def clusters(seen: Reals, classes: int, rng: np.random.Generator) -> tuple[Ints, float]:
    """(cluster of each sample (m,), share of the variance that is left within clusters) of directions (m, V,
    c).
    """
    points = seen.reshape(len(seen), -1)
    fit = KMeans(classes, n_init=_STARTS, random_state=int(rng.integers(2**31))).fit(points)
    variance = float(((points - points.mean(axis=0)) ** 2).sum())
    return fit.labels_.astype(np.int64), float(fit.inertia_) / max(variance, _LEAST)


def named(
    index: Ints, found: Ints, known: Known, labels: NDArray[np.int64], classes: int
) -> tuple[Ints, int]:
    """(the class (k,) of each cluster, how many clusters hold a known sample): one class for each, so that
    most known labels are right.
    """
    votes = np.zeros((classes, classes), np.int64)
    both = np.isin(known.index, index)
    where = np.searchsorted(index, known.index[both])
    np.add.at(votes, (found[where], labels[both]), 1)
    _, names = linear_sum_assignment(votes, maximize=True)
    return names.astype(np.int64), int(votes.any(axis=1).sum())
