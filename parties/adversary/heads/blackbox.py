"""Rebuild training images from decisions alone: extract the head by asking for classes, then attack it as
`whitebox` does.

R. Allison, T. Maciazek, H. Bourne, arXiv:2505.14323, hard labels. On the straight line between two inputs of
different classes, bisection finds a point X where class a turns into class b: (W_a - W_b) f(X) + b_a - b_b =
0, one linear equation on the head. Decisions fix a head up to its scale and to what is added to all rows
alike, so rows sum to zero (gradient descent from zero keeps that sum) and the norm is one, for shadows as for
the victim.

Deviation: the singular vector of the smallest singular value solves the equations only if boundaries show
every class and every feature. A head of few samples may never decide for some class, and a feature may be
dead there. So the shadows' mean and covariance are a prior, and the solution is the likeliest head among
those whose logits vary over the boundary points as much as heads of the prior do: without that, equations
with zero on the right shrink what they determine. It is the singular vector, features scaled by their spread,
where the prior says nothing. Classes that never meet leave a scale to the prior.

Each query is one input. They go out in batches, one for each bisection that is under way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Reconstruction, Relations
from parties.adversary.heads.shadows import Shadows, images_of_classes, own_of, shadows_of, task_of
from parties.adversary.heads.whitebox import rebuild
from protocols.language.head_relations import HeadService
from protocols.network.head import Float

NAME = "blackbox"
SUMMARY = "training images from decisions alone: the head by bisection to its boundaries, then as whitebox"
CONSUMES = (HeadService,)

_HALVINGS = 14  # of a line; more do not help where features are integers of 8 bits
_STARTS = 0.02  # share of the queries that go to the ends of lines
_FEWEST = 50
_RESIDUAL = 1e-3  # of an equation on a head of norm one: what the last halving and integer features leave
_LEAST_SPREAD = 1e-3  # of a feature at the boundary, relative to the largest
_LEAST_VARIANCE = 1e-4  # of a direction, relative to their mean

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Decide = Callable[[Float], Ints]  # the classes (m,) that a service returns for inputs (m, n)
Phi = Callable[[Float], NDArray[np.floating]]  # the features (m, d) on which it decides


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Images of every owner and class."""
    relations.need(*CONSUMES)
    task, service = task_of(relations), next(relations.of(HeadService))
    decide, features = service.decide, service.features
    if decide is None or features is None:
        raise NotApplicable(
            "the service decides on no input of the adversary's choice whose features it knows"
        )
    own, shadows = own_of(task, prior), shadows_of(task, prior)
    belief = believe(shadows)
    found = [
        extract(partial(decide, v), features, own.images, belief, service.budget, rng) for v in service.owners
    ]
    images = rebuild_extracted(shadows, np.stack([each.head for each in found]))
    agreement = round(float(np.mean([each.agreement for each in found])), 4)
    return images_of_classes(
        service.owners, images, queries=max(f.queries for f in found), agreement=agreement
    )


@dataclass(frozen=True)
class Extracted:
    """A head up to scale: (k, d + 1), rows summing to zero, norm one; its cost and agreement."""

    head: Floats
    queries: int
    points: int
    agreement: float


def extract(
    decide: Decide, phi: Phi, starts: Float, belief: Belief, queries: int, rng: np.random.Generator
) -> Extracted:
    """Extract a linear head with at most `queries` decisions, on lines between inputs `starts` (m, n') of the
    adversary's.

    `NotApplicable` where the decisions show less than two classes.
    """
    first = min(len(starts), max(_FEWEST, int(_STARTS * queries)))
    ends = starts[rng.permutation(len(starts))[:first]]
    lines = (queries - first) // _HALVINGS
    if lines < 1:
        raise NotApplicable(
            f"{queries} queries are too few: {first} are asked first, and {_HALVINGS} for each boundary point"
        )
    labels = decide(ends)
    points, a, b = _boundary(decide, ends, labels, lines, rng)
    head = likeliest(phi(points), a, b, belief)
    inputs = np.hstack([phi(ends).astype(np.float64), np.ones((first, 1))])
    agreement = float(((inputs @ head.T).argmax(1) == labels).mean())
    return Extracted(head, first + len(points) * _HALVINGS, len(points), agreement)


def rebuild_extracted(shadows: Shadows, heads: NDArray[np.floating]) -> Float:
    """Images (V, k, n) from heads (V, k, d + 1) that are known up to scale."""
    return rebuild(normalised(shadows.heads.layers[0]), shadows.images, normalised(heads))


def normalised(heads: NDArray[np.floating]) -> Float:
    """Heads (V, k, d + 1) with rows that sum to zero and a norm of one."""
    centred = heads - heads.mean(axis=1, keepdims=True)
    found: Float = (centred / np.linalg.norm(centred, axis=(1, 2), keepdims=True)).astype(np.float32)
    return found


@dataclass(frozen=True)
class Belief:
    """Mean and precision of normalised heads, in an orthonormal basis of those whose rows sum to zero: (k, k
    - 1), ((k - 1)(d + 1),), square.
    """

    gauge: Floats
    mean: Floats
    precision: Floats


def believe(shadows: Shadows) -> Belief:
    """What shadow heads tell of a head before anything is asked."""
    heads = normalised(shadows.heads.layers[0]).astype(np.float64)
    gauge = np.linalg.svd(np.ones((1, heads.shape[1])))[2][1:].T
    seen = np.einsum("vkp,ki->vip", heads, gauge).reshape(len(heads), -1)
    covariance = np.cov(seen.T)
    covariance[np.diag_indices_from(covariance)] += _LEAST_VARIANCE * np.trace(covariance) / len(covariance)
    return Belief(gauge, seen.mean(0), np.linalg.inv(covariance))


def likeliest(features: NDArray[np.floating], a: Ints, b: Ints, belief: Belief) -> Floats:
    """The likeliest head (k, d + 1), norm one, with (H_a - H_b) [f, 1] about 0 for features (m, d)."""
    x = np.hstack([features, np.ones((len(features), 1))]).astype(np.float64)
    sides = belief.gauge[a] - belief.gauge[b]
    size = len(belief.mean)
    rows = (sides[:, :, None] * x[:, None, :]).reshape(len(x), size)
    normal = rows.T @ rows / _RESIDUAL**2 + belief.precision
    spread = np.sqrt(np.square(x).mean(0))
    unit = np.tile(np.maximum(spread, _LEAST_SPREAD * spread.max()), belief.gauge.shape[1])
    expected = np.square(belief.mean) + np.diag(np.linalg.inv(belief.precision))
    linear, radius = belief.precision @ belief.mean / unit, np.sqrt(np.square(unit) @ expected)
    found = _on_sphere(normal / np.outer(unit, unit), linear, radius) / unit
    head = belief.gauge @ found.reshape(belief.gauge.shape[1], -1)
    normed: Floats = head / np.linalg.norm(head)
    return normed


def _on_sphere(quadratic: Floats, linear: Floats, radius: float) -> Floats:
    """The t of this norm with the least t^T Q t - 2 l^T t: (Q + m)^-1 l, m found by bisection."""
    values, vectors = np.linalg.eigh(quadratic)
    along = vectors.T @ linear
    low, high = 0.0, float(np.linalg.norm(along)) / radius  # of m + the least eigenvalue
    for _ in range(100):
        middle = (low + high) / 2
        longer = np.linalg.norm(along / (values - values[0] + middle)) > radius
        low, high = (middle, high) if longer else (low, middle)
    found: Floats = vectors @ (along / (values - values[0] + high))
    return found


def _boundary(
    decide: Decide, ends: Float, labels: Ints, lines: int, rng: np.random.Generator
) -> tuple[Float, Ints, Ints]:
    """Points on boundaries (m, n') and the classes on both sides, (m,) each."""
    i, j = _lines(labels, lines, rng)
    low, high, a, b = ends[i], ends[j], labels[i], labels[j]
    for _ in range(_HALVINGS):
        middle = np.asarray((low + high) / 2, np.float32)
        found = decide(middle)
        same = found == a
        low[same], high[~same] = middle[same], middle[~same]
        b[~same] = found[~same]
    return np.asarray((low + high) / 2, np.float32), a, b


def _lines(labels: Ints, lines: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Ends of lines between inputs of different classes, all classes alike often, rare ones too."""
    present = np.unique(labels)
    if len(present) < 2:
        raise NotApplicable("every input was put into the same class: there is no boundary to follow")
    first = rng.integers(0, len(present), lines)
    second = (first + rng.integers(1, len(present), lines)) % len(present)
    members = [np.flatnonzero(labels == c) for c in present]
    sizes = np.array([len(m) for m in members])
    order, starts = np.concatenate(members), np.cumsum(sizes) - sizes
    i, j = (order[starts[c] + rng.integers(0, sizes[c])] for c in (first, second))
    return i, j
