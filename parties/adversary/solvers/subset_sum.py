"""Whole samples from whole products with an unknown map, Z = X W^T, and some known samples.

The rows of Z^T generate the lattice L of the pixel columns of all samples (a hidden subset sum: Nguyen, Stern
1999; Coron, Gini 2020), so that no weight need be known, and more keys than it takes to generate L say no
more of it. The entries of a column at the known samples are known: it is a point of a coset of L_0, the
vectors of L that vanish there, near the pixel's mean. L_0 has k dimensions less than L, and a reduced basis
of two kinds of vectors:

    short   S: what known samples do not show, or do not tell apart. The column of a pixel that is zero in all
            of them lies here. Columns are determined modulo S only, samples outside of its support entirely
    long    the others, of which none fits between two points as near to the mean as a column is

S is hardly a limit: columns x_p + m_p s of samples and w_s - sum m_p w_p of the map leave Z as it is, and of
the w_s the true one is short and hardly changes from step to step, since the pixel is rare. It is found by
nearest plane. An observation of this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import gammaln

from parties.adversary.solvers.exact import Echelon
from parties.adversary.solvers.lattice import LATTICE, SURE, Coset, Expected, kernel, narrow, reduced

Whole = NDArray[np.int64]
Reals = NDArray[np.float64]
Mask = NDArray[np.bool_]

_HEAVY = 40  # bits by which known entries outweigh the others in a basis
_STILL = 0.3  # by how much a weight of a rare pixel differs between two steps: rounding alone
_LIKE = 1.5  # times the size of other weights are those of a rare pixel, at most
_MULTIPLES = 3.0  # spread of the multiples of short vectors in each other
_WIDTH = 512  # candidates of a nearest plane
_ROUNDED = 1e-3  # what floats leave of an equation of whole numbers that holds
_LEAST = 0.05  # variance of a pixel at least, in quanta
_PASSES = 4  # over the short vectors: one that is settled helps the others


@dataclass(frozen=True)
class Found:
    """Samples `values` (m, n). `whole` (m,): all pixels are determined. `shown` (m,): further samples, of
    which `pixels` (n,), those that known samples show and tell apart, follow from W being short: likely, no
    proof (measured: in 2 of 42 runs some were wrong). Others of their pixels are not zero. `rest` (c,
    m) are columns of pixels that no known sample shows, and nothing here tells which.
    """

    values: Whole
    whole: Mask
    shown: Mask
    pixels: Mask
    rest: Whole


def from_known(z: Whole, known: Whole, expected: Expected, keys: int = 0) -> Found:
    """The other samples from Z = X W^T (k + m, K) of all, W whole and unknown, and the first k samples
    `known` (k, n). Each `keys` rows of W belong to one step of training; 0: all to the same.
    """
    k, shows = len(known), np.asarray(known.any(axis=0), dtype=np.bool_)
    coset = columns_of_known(z, known)
    columns, far = near_mean(coset, known, expected)
    short = np.linalg.norm(coset.basis, axis=1) <= far
    none = np.zeros(len(columns), dtype=np.bool_)
    long = np.vstack([coset.basis[short], coset.basis[~short]]).astype(np.float64)
    if rivals(long, far, int(short.sum())) > -SURE or not _inside(columns, expected).any():
        return Found(columns, none, none, shows, columns.T[:0])
    x = np.vstack([known, columns])
    s = np.hstack([np.zeros((short.sum(), k), dtype=np.int64), coset.basis[short]])
    free = ~(s != 0).any(axis=0)
    whole = free[k:] & _inside(columns, expected) & _spanned(z[free], x[free])
    model = Model.of(z, x, s, shows)
    if model is None or sum(model.maps.shape) > LATTICE:
        return Found(columns, whole, none, shows, columns.T[:0])
    return model.settled(z, whole, expected, keys or z.shape[1])


def columns_of_known(z: Whole, known: Whole) -> Coset:
    """The pixel columns of the other samples as a coset, for given entries at the known ones."""
    k, pivots = len(known), _pivots(known)
    basis = reduced(z.T)
    basis = basis[(basis != 0).any(axis=1)]
    basis = reduced(np.hstack([basis[:, k:], basis[:, pivots] * (1 << _HEAVY)]))
    others, given = basis[:, : len(z) - k], basis[:, len(z) - k :]
    zero = ~(given != 0).any(axis=1)
    weights = np.ones(len(z) - k)
    return Coset(narrow(others[zero]), narrow(others[~zero]), given[~zero] // (1 << _HEAVY), weights)


def near_mean(coset: Coset, known: Whole, expected: Expected) -> tuple[Whole, float]:
    """X (m, n) of the other samples, each column near the mean of its pixel; how far the farthest is."""
    pivots, m, far = _pivots(known), coset.basis.shape[1], 0.0
    x = np.zeros((m, known.shape[1]), dtype=np.int64)
    for pixel, mean in enumerate(expected.guess):
        guess = np.full(m, mean)
        column, _ = coset.within(known[pivots, pixel][None], guess, 0, expected.x_max, wide=False)
        x[:, pixel], far = column[0], max(far, float(np.linalg.norm(column[0] - guess)))
    return x, far


def rivals(basis: Reals, far: float, without: int = 0) -> float:
    """log2 of how many points of a lattice (d, m), projected from its first vectors, a ball of radius `far`
    has: its volume in those of the lattice.
    """
    lengths = np.abs(np.diag(np.linalg.qr(basis.T)[1]))[without:]
    d = len(lengths)
    ball = d / 2 * np.log(np.pi) - gammaln(d / 2 + 1) + d * np.log(max(far, 1e-9))
    return float((ball - np.log(lengths).sum()) / np.log(2.0))


@dataclass(frozen=True)
class Model:
    """Z = X[:, kept] W + S^T T: of the columns of X (N, n) those that with `short` S (s, N) are independent
    and generate all; `alike` (n,): pixels that known samples do not tell apart from others. `maps` W (c, K),
    `rest` T (s, K).
    """

    x: Whole
    short: Whole
    kept: Whole
    parts: Whole
    shows: Mask
    alike: Mask
    maps: Whole
    rest: Whole

    @classmethod
    def of(cls, z: Whole, x: Whole, short: Whole, shows: Mask) -> Model | None:
        """None where no columns are found that generate Z: a relation between them has no factor of 1."""
        (kept,), alike = np.nonzero(shows), np.zeros(x.shape[1], dtype=np.bool_)
        parts = np.eye(len(kept), dtype=np.int64)
        while len(relations := kernel(np.hstack([x[:, kept], short.T]))[:, : len(kept)]):
            which, ones = np.nonzero(np.abs(relations) == 1)
            if not len(ones):
                return None
            rarest = np.argmin(np.count_nonzero(x[:, kept[ones]], axis=0))
            relation, last = relations[which[rarest]], ones[rarest]
            alike[kept[relation != 0]] = True
            parts -= (
                np.outer(relation * relation[last], parts[last]) * (np.arange(len(kept)) != last)[:, None]
            )
            parts, kept = np.delete(parts, last, axis=0), np.delete(kept, last)
        basis = np.hstack([x[:, kept], short.T])
        real = np.linalg.lstsq(basis.astype(np.float64), z.astype(np.float64), rcond=None)[0]
        w = np.rint(real).astype(np.int64)
        if not np.array_equal(basis @ w, z):
            return None
        return cls(x, short, kept, parts, shows, alike, w[: len(kept)], w[len(kept) :])

    def settled(self, z: Whole, whole: Mask, expected: Expected, keys: int) -> Found:
        """The samples after the known ones, with those multiples of S for which T is short."""
        k, sure = len(self.x) - len(whole), np.zeros(len(self.short), dtype=np.bool_)
        maps, rest, x, short = (
            _steps(self.maps, keys),
            _steps(self.rest, keys),
            self.x.copy(),
            self.short.copy(),
        )
        size = float(np.median(np.sqrt((maps[:, :keys] ** 2).mean(axis=1))))
        error = np.concatenate([np.full(keys, size), np.full(maps.shape[1] - keys, _STILL)])
        for _ in range(_PASSES):
            before = rest.copy()
            for i, others in enumerate(~np.eye(len(short), dtype=np.bool_)):
                norm = float(np.linalg.norm(short[i]))
                spread, multiples = expected.spread[self.kept] / norm, np.full(others.sum(), _MULTIPLES)
                near = (short[i] / norm**2) @ (expected.guess[self.kept] - x[:, self.kept])
                guess = np.concatenate([near, np.zeros(len(multiples) + len(error))])
                a = np.vstack([maps, rest[others]])
                m, unique = _shortest(a, rest[i], guess, np.concatenate([spread, multiples, error]))
                x[:, self.shows] += np.outer(short[i], m[: len(maps)] @ self.parts)
                short[others] += np.outer(m[len(maps) :], short[i])
                rest[i] -= m @ a
                like = np.sqrt((rest[i][:keys] ** 2).mean()) < _LIKE * size
                sure[i] = unique and like
            if np.array_equal(before, rest):
                break
        found, touched = x[k:], short[:, k:] != 0
        found[:, ~self.shows] *= whole[:, None]  # no column of S has found its pixel
        exact = np.array_equal(x[:, self.kept] @ maps + short.T @ rest, _steps(z, keys))
        shown = ~whole & ~touched[~sure].any(axis=0) & _inside(found, expected) & exact
        either = np.vstack([short[sure, k:], -short[sure, k:]]) if exact else short[:0, k:]
        return Found(found, whole, shown, self.shows & ~self.alike, either[_inside(either, expected)])


def with_rest(found: Found, shows: Mask, public: Reals) -> Whole:
    """The samples (m, n) with the columns that were left over at those pixels that public images (P, n), in
    the units of pixels, make likeliest, by how they vary with the pixels that known samples show.
    """
    images, (dark,) = found.values.copy(), np.nonzero(~shows)
    if not len(found.rest) or not len(dark):
        return images
    mean, covariance = public.mean(axis=0), np.cov(public.T) + _LEAST * np.eye(len(shows))
    slope = np.linalg.solve(covariance[np.ix_(shows, shows)], covariance[np.ix_(shows, dark)])
    guess = (mean[dark] + (found.values[:, shows] - mean[shows]) @ slope).T
    variance = np.diag(covariance)[dark] - np.einsum("ij,ij->j", slope, covariance[np.ix_(shows, dark)])
    far = ((found.rest[:, None] - guess) ** 2 - guess**2).sum(axis=2) / variance
    columns, places = linear_sum_assignment(far)
    images[:, dark[places]] = found.rest[columns].T
    return images


def _shortest(a: Whole, w: Whole, guess: Reals, spread: Reals) -> tuple[Whole, bool]:
    """Whole m (r,) for which m and w - m A, for A (r, K), lie near `guess` (r + K,) up to `spread`; whether
    no other one is expected to lie as near.
    """
    coset = Coset.of(np.hstack([a.T, np.eye(a.shape[1], dtype=np.int64)]), spread)
    near = coset.searched(coset.nearest(w[None], guess)[0][0], guess, _WIDTH)[0]
    far = float(np.linalg.norm((near - guess) * coset.weights))
    return near[: len(a)], rivals(coset.basis * coset.weights, far) < -SURE


def _steps(w: Whole, keys: int) -> Whole:
    """W (r, K): that of the first step, and by how much each further one differs from the one before."""
    every = [w[:, i : i + keys] for i in range(0, w.shape[1], keys)]
    return np.hstack([every[0], *(after - before for before, after in pairwise(every))])


def _spanned(z: Whole, x: Whole) -> bool:
    """Whether Z = X W^T for some real W, where that is not so of any X with as many rows."""
    if len(x) <= np.linalg.matrix_rank(x):
        return False
    a, b = x.astype(np.float64), z.astype(np.float64)
    return bool(np.abs(a @ np.linalg.lstsq(a, b, rcond=None)[0] - b).max() < _ROUNDED)


def _inside(x: Whole, expected: Expected) -> Mask:
    return np.asarray(((x >= 0) & (x <= expected.x_max)).all(axis=1), dtype=np.bool_)


def _pivots(rows: Whole) -> Whole:
    """Positions of the rows that are independent of those before them."""
    return Echelon(rows.shape[1]).add(rows)
