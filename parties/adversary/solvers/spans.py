"""Whole vectors in the span of an update, and which of them must be the samples.

An update is D X (h, n) with D (h, b) unknown and X (b, n) whole, in 0..x_max. Over the reals it gives the b
dimensions that the samples span; the whole vectors among them are a lattice of dimension b, and the samples
are b of its points in range that generate it. Three steps, an observation of this project; neighbours: hidden
subset sums (P. Nguyen, J. Stern 1999; J.-S. Coron, A. Gini 2020) and arXiv:2409.14260 for gradients.

1. *The lattice.* U, s, V the leading singular parts of D X, w the error of its entries: the rows of S V / w
   are known to an error of 1 each, so that a direction counts by how well it is known. Of m pixels, a few
   times b, LLL on [1 | S V / w] gives the m - b whole vectors that are orthogonal to all samples there; what
   is orthogonal to these is a whole basis of the samples on m pixels, and as a combination of the rows of
   S V / w it extends to all others. m need not be n: b (m - b) whole numbers of a few bits are found from
   b m numbers of log2(s / w) bits, about 20 in float32.
2. *Its points in range*, all of them: 0 <= z <= x_max at every pixel lies in an ellipsoid, and weights of
   pixels can be chosen that make it small (`_all_points`), so that few candidates are left: tens for 32
   images of MNIST, some 10^5 for 16 of CIFAR in gray, where the same weight for all pixels leaves 10^7. Where
   they are too many, those nearest to its centre (`Points.only` is false).
3. *Which are certain.* The samples are among the points in range and span what the update spans. Of b
   independent points, one that is part of no other point in range, multiples of itself left aside, must be a
   sample: no other point can bring its direction. All others are left out, and so is a point of which a
   multiple could be the sample (`_sized`). Where not all points were looked at, this holds of those that
   were, and b of them have to generate the lattice.

That the lattice is the right one is checked: each pixel outside of the m confirms each of b vectors, which is
whole there by chance in 2 t of all cases, t the distance allowed (`_WHOLE`); and it has to explain D X up to
its noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parties.adversary.solvers.lattice import LATTICE, SURE, kernel, narrow, reduced, remembered

Whole = NDArray[np.int64]
Reals = NDArray[np.float64]

_SPANNED = 3.0  # times its noise up to which a lattice explains an update
_RANK = 3.0  # times the largest singular value of noise from which one is none of noise
_FLOOR = 1e-12  # relative error of numbers that show none
_WHOLE = 0.2  # of a unit: how whole a basis must be on pixels that were not used to find it
_TRIES = ((3, 0.3), (4, 0.3), (6, 0.3), (3, 1.0), (4, 0.1))  # pixels per sample, scale of S V / w
_BRIGHT = 0.6  # share of the pixels, those that moved most, from which some are drawn
_MOST = 200_000  # candidates in a plane: more, and not all points are looked at
_WIDTH = 40_000  # but this many in each plane
_ROUNDS = 2  # to look for points outside of what those found span
_DESIGN = 60  # iterations
_SLACK = 1.0 + 1e-6  # for rounding
_FINE = 2.0**16  # of the weights of pixels, which LLL wants whole
_APART = 2.0**20  # by how much more counts what is outside of known points


@dataclass(frozen=True)
class Points:
    """Points (m, n) of a lattice in range that others cannot stand for; `only`: of all that there are, else
    of all that were looked at.
    """

    rows: Whole
    only: bool


@remembered
def points_of_span(matrix: Reals, samples: int, x_max: int, noise: float = 0.0) -> tuple[Points, float]:
    """Whole vectors in range in the row span of D X (h, n), D unknown, that must be samples; and what the
    lattice leaves of D X, over its noise: above `_SPANNED` it was not found.

    `samples`: how many rows X has. `noise`: about the error of an entry, where h = `samples` leaves nothing
    to measure it by.
    """
    nothing = Points(np.zeros((0, matrix.shape[1]), dtype=np.int64), False)
    span = Span.of(matrix, samples, noise)
    if span is None:
        return nothing, np.inf
    best = np.inf
    for each, scale in _TRIES:
        mixed = span.lattice(min(each * len(span.rows), len(span.live), LATTICE), scale)
        off = span.unexplained(mixed)
        best = min(best, off)
        if off < _SPANNED:
            return _points_of(mixed, x_max), off
    return nothing, best


@dataclass(frozen=True)
class Span:
    """What a matrix (h, n) spans: `rows` (r, n) known to an error of 1 an entry, `live` pixels, those that
    moved most first, and `left`, the norm of what noise adds outside of the span.
    """

    matrix: Reals
    rows: Reals
    live: Whole
    left: float

    @classmethod
    def of(cls, matrix: Reals, samples: int, noise: float) -> Span | None:
        """Of at most `samples` dimensions; none where the matrix has fewer rows, or is zero."""
        size = np.linalg.norm(matrix, axis=0)
        _, values, right = np.linalg.svd(matrix, full_matrices=False)
        if len(values) < samples or not values[0]:
            return None
        moved = int((size > 0.0).sum())
        rest, left = max(moved - samples, 1), float(np.linalg.norm(values[samples:]))
        measured = left / np.sqrt(rest * max(len(values) - samples, 1))
        error = max(measured if len(values) > samples else noise, _FLOOR * values[0])
        floor = max(values[samples:].max(initial=0.0), error)
        rank = int((values[:samples] > _RANK * floor).sum())
        rows = values[:rank, None] * right[:rank] / error
        live = np.argsort(-size, kind="stable")[:moved]
        left = error * float(np.sqrt(matrix.shape[0] * rest))
        return cls(matrix, rows, live, left) if rank else None

    def lattice(self, count: int, scale: float) -> Whole:
        """A reduced basis (r, n) of the whole vectors in the span, found on some pixels and extended to all;
        no rows where it is not whole there.
        """
        rank = len(self.rows)
        if count <= rank:
            return np.zeros((0, self.rows.shape[1]), dtype=np.int64)
        bright = self.live[: max(count, int(_BRIGHT * len(self.live)))]
        chosen = np.sort(np.random.default_rng(count).choice(bright, count, replace=False))
        some = self.rows[:, chosen]
        whole = np.rint(some.T * scale).astype(np.int64)
        basis = reduced(np.hstack([np.eye(count, dtype=np.int64), whole]))
        found = kernel(narrow(basis[: count - rank, :count]))
        mixing = np.linalg.lstsq(some.T, found.T.astype(np.float64), rcond=None)[0].T
        rows = mixing @ self.rows
        near = np.rint(rows)
        if len(found) != rank or np.abs(rows - near).max() > _WHOLE or np.abs(near).max() > _LARGEST:
            return np.zeros((0, self.rows.shape[1]), dtype=np.int64)
        return narrow(reduced(near.astype(np.int64)))

    def unexplained(self, rows: Whole) -> float:
        """What rows leave of the matrix, over what noise leaves."""
        if len(rows) != len(self.rows):
            return np.inf
        q = np.linalg.qr(rows.T.astype(np.float64))[0]
        return float(np.linalg.norm(self.matrix - (self.matrix @ q) @ q.T) / self.left)


_LARGEST = 2.0**40  # entry of a basis


def _points_of(mixed: Whole, x_max: int) -> Points:
    """The points in range of a lattice (b, n) that are in every choice of b that spans it."""
    points, only = _in_range(_rounded(mixed), x_max)
    chosen = _independent(points, len(mixed))
    for _ in () if only else range(_ROUNDS):
        if len(chosen) == len(mixed):
            break
        more, _ = _in_range(_beyond(chosen, mixed), x_max, len(chosen))
        points = np.unique(np.vstack([points, more]), axis=0)
        chosen = _independent(points, len(mixed))
    if len(chosen) < len(mixed) or not (only or _generate(chosen, mixed)):
        return Points(points[:0], only)
    return Points(chosen[_certain(chosen, points) & _sized(chosen, x_max)], only)


def _rounded(mixed: Whole, first: Reals | None = None) -> Whole:
    """A basis of a lattice (b, n), reduced in the metric of its design; of what lies apart from `first`, an
    orthonormal basis (n, k), last.
    """
    weights = np.sqrt(_design(mixed))
    scaled = np.rint(mixed * (_FINE * weights / weights.max())).astype(np.int64)
    if first is not None:
        apart = (mixed - (mixed @ first) @ first.T) * _APART
        scaled = np.hstack([scaled, np.rint(apart).astype(np.int64)])
    change = reduced(np.hstack([scaled, np.eye(len(mixed), dtype=np.int64)]))[:, scaled.shape[1] :]
    return narrow(change @ mixed.astype(object))


def _beyond(chosen: Whole, mixed: Whole) -> Whole:
    """A reduced basis of a lattice (b, n) that begins with one of what some of its points span."""
    return _rounded(mixed, np.linalg.qr(chosen.T.astype(np.float64))[0])


def _in_range(basis: Whole, x_max: int, known: int = 0) -> tuple[Whole, bool]:
    """Points of a lattice (b, n) in range, except 0, outside of what the first `known` rows span; and whether
    they are all that there are.

    A point z in range has |z - x_max / 2| <= x_max / 2 at each pixel, hence weighted by any w, summing to 1:
    an ellipsoid about the range. The smallest one has the weights of a D-optimal design (J. Kiefer, J.
    Wolfowitz, 1960), found by D. Titterington's algorithm (1976); LLL in its metric, then U. Fincke, M.
    Pohst's enumeration (1985), all candidates of a plane at once, and where they are too many those nearest
    to its centre.
    """
    weights = np.sqrt(_design(basis))
    q, r = np.linalg.qr((basis * weights).T)
    centre = q.T @ (x_max / 2.0 * weights)
    radius = (centre @ centre) * _SLACK  # that of all pixels, less the distance of x_max / 2 from the span
    parts, cost, every = np.zeros((1, len(basis))), np.zeros(1), not known
    for i in reversed(range(len(basis))):
        at = (centre[i] - parts[:, i + 1 :] @ r[i, i + 1 :]) / r[i, i]
        reach = np.sqrt(np.maximum(radius - cost, 0.0)) / abs(r[i, i])
        first = np.ceil(at - reach)
        count = np.clip(np.floor(at + reach) - first + 1, 0, _MOST).astype(np.int64)
        origin = np.repeat(np.arange(len(parts)), count)
        steps = first[origin] + np.arange(len(origin)) - np.repeat(np.cumsum(count) - count, count)
        cost = cost[origin] + ((at[origin] - steps) * r[i, i]) ** 2
        kept = np.arange(len(origin))
        if len(kept) > _MOST:
            kept, every = np.argpartition(cost, _WIDTH)[:_WIDTH], False
        parts, cost = parts[origin[kept]], cost[kept]
        parts[:, i] = steps[kept]
        if known and i == known:
            cost, parts = cost[parts.any(axis=1)], parts[parts.any(axis=1)]
    parts = parts[parts.any(axis=1)]
    for some in np.array_split(np.arange(basis.shape[1]), max(basis.shape[1] // 64, 1)):
        values = parts @ basis[:, some]
        parts = parts[((values >= 0) & (values <= x_max)).all(axis=1)]
    return parts.astype(np.int64) @ basis, every


def _design(rows: Whole) -> Reals:
    """Weights (n,), summing to 1, of which sum_i w_i t_i t_i^T has about the largest determinant, t_i the
    columns of independent rows (b, n).
    """
    columns = np.linalg.qr(rows.T.astype(np.float64))[0].T
    weights = np.full(rows.shape[1], 1.0 / rows.shape[1])
    for _ in range(_DESIGN):
        moments = (columns * weights) @ columns.T
        weights = weights * np.einsum("bn,bn->n", columns, np.linalg.solve(moments, columns)) / len(rows)
    return weights


def _independent(rows: Whole, most: int) -> Whole:
    """The rows of which none is a combination of those before it, darkest first: no multiple of another."""
    kept = rows[:0]
    for row in rows[np.argsort(rows.sum(axis=1), kind="stable")]:
        longer = np.vstack([kept, row])
        if np.linalg.matrix_rank(longer.astype(np.float64)) == len(longer):
            kept = longer
        if len(kept) == most:
            break
    return kept


def _generate(points: Whole, mixed: Whole) -> bool:
    """Whether independent points generate a lattice, given by a basis."""
    parts = np.linalg.lstsq(points.T.astype(np.float64), mixed.T.astype(np.float64), rcond=None)[0]
    return bool((np.abs(parts - np.rint(parts)) < 1e-3).all())


def _sized(chosen: Whole, x_max: int) -> NDArray[np.bool_]:
    """Which points (b, n) are no fraction of a sample: a multiple is out of range, or the values are so many
    that those of a sample would hardly all have a divisor. (MNIST has images of 0 and 255 alone.)
    """
    several = np.array([len(np.unique(row[row > 0])) for row in chosen]) >= SURE
    return np.asarray((2 * chosen.max(axis=1) > x_max) | several, dtype=np.bool_)


def _certain(chosen: Whole, points: Whole) -> NDArray[np.bool_]:
    """Which of the chosen points no other one can stand for: it is part of no other one."""
    parts = np.linalg.lstsq(chosen.T.astype(np.float64), points.T.astype(np.float64), rcond=None)[0]
    others = (np.abs(parts) > 1e-6).sum(axis=0) > 1
    return np.asarray(~(np.abs(parts[:, others]) > 1e-6).any(axis=1), dtype=np.bool_)
