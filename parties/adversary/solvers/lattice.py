"""Lattices of whole numbers: bases, kernels, and the whole solution of equations near a guess.

A. Lenstra, H. Lenstra, L. Lovasz, *Factoring Polynomials with Rational Coefficients*, 1982 (FLINT's
implementation); L. Babai, *On Lovasz' Lattice Reduction and the Nearest Lattice Point Problem*, 1986.

Over the reals k equations leave an affine space of dimension n - k. Pixels are short whole numbers, and of
all whole points of that space the true one lies near the guess: an observation of this project, with this
derivation. The whole solutions of W x = z are x_0 + K, K the kernel lattice of W, of dimension n - k and,
for random W of entries about s, of volume about (s sqrt(n))^k. A coset has on average one point in a body
of that volume, so that an image is determined once (s sqrt(n))^k exceeds the volume that the prior leaves
to it: log2 of the pixels' spread, summed over n, against k log2(s sqrt(n)).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
from flint import fmpz_mat
from numpy.typing import NDArray

from parties.adversary.attack import Prior

P = ParamSpec("P")
T = TypeVar("T")
Whole = NDArray[np.int64]
Reals = NDArray[np.float64]

LATTICE = 144  # unknowns of a lattice that is reduced here; more take too long
_HEAVY = 40  # bits by which equations outweigh everything else in a basis, so that LLL solves them first
_LEAST_SPREAD = 0.2  # of a pixel that never varies in public images, in quanta
_WIDTHS = ((512, None), (8192, 32))  # candidates, and for how many vectors at most
_KEPT = 64  # results that a function keeps
_SCALE = 64  # of the weights of unknowns, which LLL wants whole


@dataclass(frozen=True)
class Expected:
    """Where a whole vector is looked for: near `guess` (n,), from which entries deviate by about `spread`
    (n,), in 0..x_max.
    """

    guess: Reals
    spread: Reals
    x_max: int


def expected_of(prior: Prior) -> Expected:
    """Where samples are looked for: near the mean of public images, or in the middle of the range."""
    guess: Reals = prior.guess() * prior.x_max
    if prior.public is None or len(prior.public) < 2:
        return Expected(guess, np.full(len(guess), prior.x_max / np.sqrt(12.0)), prior.x_max)
    spread = prior.public.std(axis=0) * prior.x_max
    return Expected(guess, np.sqrt(spread**2 + _LEAST_SPREAD**2), prior.x_max)


def surplus(w: Reals, expected: Expected, noise: float = 0.0) -> float:
    """By how many bits equations W x = z with W (k, n) say more than is open of x: below zero, about
    2^-surplus whole vectors satisfy them all, and one that is found need not be the right one.

    Open are the entropies of the entries, at most log2(x_max + 1) each; what z says of them is that of a
    Gaussian, 1/2 log2 det(1 + W S W^T / s^2), with s the noise, or for whole numbers the step of 1 that they
    are known to.
    """
    open_bits = np.clip(np.log2(expected.spread * _UNIT), 0.0, np.log2(expected.x_max + 1)).sum()
    step = noise or 1.0 / _UNIT
    seen = np.eye(len(w)) + (w * expected.spread**2) @ w.T / step**2
    return float(np.linalg.slogdet(seen)[1] / (2 * np.log(2.0)) - open_bits)


_UNIT = float(np.sqrt(2 * np.pi * np.e))  # log2 of it times the deviation is the entropy of a Gaussian
SURE = 20.0  # bits of surplus from which a solution is taken for the only one


def remembered(function: Callable[P, T]) -> Callable[P, T]:
    """A function that keeps its last results by the content of its arguments: a question about a longer view
    is often one that was asked about a shorter one.
    """
    kept: dict[Any, T] = {}

    def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        key = tuple(_content(each) for each in args)
        if key not in kept:
            while len(kept) >= _KEPT:
                del kept[next(iter(kept))]
            kept[key] = function(*args, **kwargs)
        return kept[key]

    return wraps(function)(asked)


def _content(value: Any) -> Any:
    if isinstance(value, Expected):
        return value.guess.tobytes(), value.spread.tobytes(), value.x_max
    if not isinstance(value, np.ndarray):
        return value
    return value.shape, value.dtype.str, tuple(value.flat) if value.dtype == object else value.tobytes()


@remembered
def reduced(rows: NDArray[np.object_] | Whole) -> NDArray[np.object_]:
    """An LLL-reduced basis, by rows (m, n) of Python integers; dependent rows come first, as zeros."""
    basis = fmpz_mat([[int(v) for v in row] for row in rows]).lll()
    return np.array([[int(v) for v in row] for row in basis.tolist()], dtype=object).reshape(rows.shape)


def kernel(a: Whole) -> Whole:
    """A reduced basis (n - rank, n) of all whole x with A x = 0, for whole A (k, n)."""
    basis, zero = _solving(a, np.ones(a.shape[1], dtype=np.int64))
    return narrow(basis[zero, : a.shape[1]])


def _solving(a: Whole, weights: Whole) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """The reduced basis of [diag(weights) | heavy A^T], and which rows solve A x = 0."""
    heavy = a.T.astype(object) * (1 << _HEAVY)
    basis = reduced(np.hstack([np.diag(weights).astype(object), heavy]))
    return basis, ~(basis[:, len(weights) :] != 0).any(axis=1)


def narrow(rows: NDArray[np.object_]) -> Whole:
    """The same as 64-bit integers; `OverflowError` beyond."""
    return np.array(rows.tolist(), dtype=np.int64).reshape(rows.shape)


@dataclass(frozen=True)
class Coset:
    """The whole solutions of A x = z for many z: a solution each, and a reduced basis of what is left open.

    `basis` (d, n) spans the kernel lattice; `particular` (r, n) are whole vectors with A t_i = `images` (r,
    k). `weights` (n,) measures distance: the inverse of how far an unknown is expected from its guess.
    """

    basis: Whole
    particular: Whole
    images: NDArray[np.object_]
    weights: Reals

    @classmethod
    def of(cls, a: Whole, spread: Reals) -> Coset:
        """For whole A (k, n) of rank k and the expected deviation (n,) of each unknown from its guess."""
        weights = np.maximum(np.rint(_SCALE * spread.max() / spread), 1).astype(np.int64)
        basis, zero = _solving(a, weights)
        whole = basis[:, : len(spread)] // weights.astype(object)
        images = basis[~zero, len(spread) :] // (1 << _HEAVY)
        return cls(narrow(whole[zero]), narrow(whole[~zero]), images, weights.astype(np.float64))

    def nearest(self, z: Whole, guess: Reals) -> tuple[Whole, NDArray[np.bool_]]:
        """X (m, n) with A x = z for each row of z (m, k), near `guess` (n,); which z have a solution.

        L. Babai's nearest plane (Combinatorica 6, 1986). A first solution can be so long that floats do not
        show its last digits: then it is brought near again.
        """
        far, solvable = self._solution(z)
        for _ in range(_PASSES):
            if not len(far) or abs(far).max() < _SHOWN:
                break
            far = self._nearer(far, guess)
        return self._nearer(narrow(far), guess), solvable

    def _nearer(self, x: NDArray[Any], guess: Reals) -> NDArray[Any]:
        q, r = self._triangle
        for i in reversed(range(len(self.basis))):
            at = (x.astype(np.float64) - guess) * self.weights
            steps = np.rint(at @ q[:, i] / r[i, i])
            x = x - np.array([[int(s)] for s in steps], x.dtype).reshape(-1, 1) * self.basis[i]
        return x

    def within(
        self, z: Whole, guess: Reals, low: Whole | int, high: Whole | int, wide: bool = True
    ) -> tuple[Whole, NDArray[np.bool_]]:
        """The same with every entry in low..high, and for which z one was found: a search where Babai fails.

        At each plane the candidates nearest so far go on, each with its three nearest multiples (K-best
        sphere decoding): 512 of them, and, if `wide`, more where this fails.
        """
        x, solvable = self.nearest(z, guess)
        good = solvable & _inside(x, low, high)
        for width, most in _WIDTHS if wide else _WIDTHS[:1]:
            for j in np.flatnonzero(solvable & ~good)[:most]:
                near = self.searched(x[j], guess, width)
                inside = near[_inside(near, low, high)]
                if len(inside):
                    x[j], good[j] = inside[0], True
        return x, good

    def searched(self, x: Whole, guess: Reals, width: int) -> Whole:
        """Points of the coset of x, nearest to the guess first."""
        q, r = self._triangle
        found, cost = x[None], np.zeros(1)
        for i in reversed(range(len(self.basis))):
            at = ((found - guess) * self.weights) @ q[:, i] / r[i, i]
            steps = np.rint(at)[:, None] + np.array([0.0, 1.0, -1.0])
            costs = (cost[:, None] + ((at[:, None] - steps) * r[i, i]) ** 2).ravel()
            kept = _least(costs, width)
            found = found[kept // 3] - steps.ravel()[kept].astype(np.int64)[:, None] * self.basis[i]
            cost = costs[kept]
        return found

    @cached_property
    def _triangle(self) -> tuple[Reals, Reals]:
        q, r = np.linalg.qr((self.basis * self.weights).T)
        return q, r

    def _solution(self, z: Whole) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
        """Some whole solution for each row of z; zeros where there is none."""
        right = fmpz_mat([[int(v) for v in row] for row in z.T])
        found = fmpz_mat([[int(v) for v in row] for row in self.images.T]).solve(right).tolist()
        solvable = np.array([all(row[j].q == 1 for row in found) for j in range(len(z))])
        factors = np.array([[int(v.p) for v in row] for row in found], dtype=object) * solvable
        return factors.T @ self.particular.astype(object), solvable


def _least(costs: Reals, count: int) -> NDArray[np.int64]:
    """Where the least of some costs are, these in order and ties as they stand: a stable sort of the few."""
    if len(costs) <= count:
        return np.argsort(costs, kind="stable")
    few = np.flatnonzero(costs <= np.partition(costs, count - 1)[count - 1])
    return few[np.argsort(costs[few], kind="stable")][:count]


def _inside(x: Whole, low: Whole | int, high: Whole | int) -> NDArray[np.bool_]:
    """Which rows of x (m, n) lie in low..high."""
    return np.asarray(np.all((x >= low) & (x <= high), axis=1), dtype=np.bool_)


@remembered
def near_solutions(w: Reals, z: Reals, noise: float, expected: Expected) -> tuple[Whole, NDArray[np.bool_]]:
    """Whole X (m, n) in range with W x = z up to errors of about `noise`, for real W (k, n) and z (m, k);
    which were found.

    The errors are unknowns of their own: [S W | 1] (x, e) = S z in whole numbers, with S so large that
    rounding W adds less than the noise, or as large as 64 bits allow. Float32 carries 24 bits an equation,
    float64 53.
    """
    k, n = w.shape
    most = 2.0**_BITS / max(1.0, float(np.abs(z).max(initial=0.0)), float(np.abs(w).max()))
    scale = 2.0 ** np.floor(np.log2(min(2 * n * expected.x_max / noise, most)))
    noise = float(np.hypot(noise, np.sqrt(n / 12) * expected.x_max / scale))
    a = np.hstack([np.rint(w * scale).astype(np.int64), np.eye(k, dtype=np.int64)])
    error = np.full(k, noise * scale)
    spread, guess = np.concatenate([expected.spread, error]), np.concatenate([expected.guess, np.zeros(k)])
    far = np.rint(_TAIL * error).astype(np.int64)
    low, high = (
        np.concatenate([np.zeros(n, np.int64), -far]),
        np.concatenate([np.full(n, expected.x_max), far]),
    )
    whole = np.rint(z * scale).astype(np.int64)
    x, found = Coset.of(a, spread).within(whole, guess, low, high)
    return x[:, :n], found


_PASSES, _SHOWN = 8, 1 << 50  # by which long solutions are brought near, and from which on that is needed
_BITS = 61  # of whole numbers, at most
_TAIL = 8  # standard deviations of an error that are still one


@dataclass(frozen=True)
class Columns:
    """Whole columns behind a Gram matrix: `values` (N, c) in no known order, out of `rank` that there are."""

    values: Whole
    rank: int


def columns_of_gram(gram: Whole, rounds: int = 6) -> Columns:
    """Pixel columns of whole X (N, n) >= 0 from X X^T (N, N), without any known row.

    Over the reals F with F F^T = G is X up to a rotation, and no more can be told (R. Ye et al.,
    arXiv:2210.06771). But the rows of F generate a lattice, and where about a hundred samples generate all
    of Z^n (without pixels that are constant zero), the rotated unit vectors are its shortest: lattices that
    are rotations of Z^n (L. Ducas, 2023). LLL on [1 | scaled F] gives whole combinations of rows; a
    direction u among them is a pixel where F u is whole for every sample. What was found is projected out,
    and the rest tried again. An observation of this project.
    """
    factor = _factor(gram)
    if not factor.shape[1]:  # noise rounded to a matrix without a positive eigenvalue
        return Columns(np.zeros((len(gram), 0), dtype=np.int64), 0)
    found = np.zeros((0, factor.shape[1]))
    for _ in range(rounds):
        left = _complement(found, factor.shape[1])
        new = _pixels(factor @ left.T) @ left if len(left) else found[:0]
        if not len(new):
            break
        found = np.vstack([found, new])
    columns = factor @ found.T
    whole = np.rint(columns * np.where(columns.sum(axis=0) < 0, -1.0, 1.0)).astype(np.int64)
    return Columns(whole[:, (whole >= 0).all(axis=0)], factor.shape[1])


_NEAR = 0.1  # of a unit: how whole a column must be
_FINE = 24  # bits of F in the lattice
_ROWS = 150  # of F that LLL is given at most


def _pixels(rows: Reals) -> Reals:
    """Orthogonal directions u of length 1 (m, r) for which R u is whole for all rows of R (N, r)."""
    count = min(len(rows), max(2 * rows.shape[1] + 12, 60), _ROWS)
    chosen = np.argsort(-np.linalg.norm(rows, axis=1), kind="stable")[:count]
    whole = np.rint(rows[chosen] * 2.0**_FINE).astype(np.int64)
    basis = reduced(np.hstack([np.eye(count, dtype=np.int64), whole]))
    short = basis[:, :count].astype(np.float64) @ rows[chosen]
    lengths = np.linalg.norm(short, axis=1)
    units = short[lengths > 1e-3] / lengths[lengths > 1e-3, None]
    values = rows @ units.T
    found: list[Reals] = []
    for unit in units[(np.abs(values - np.rint(values)) < _NEAR).all(axis=0)]:
        if all(abs(float(unit @ other)) < 1e-3 for other in found):
            found.append(unit)
    return np.array(found).reshape(-1, rows.shape[1])


def _factor(gram: Whole) -> Reals:
    """F (N, r) with F F^T = G, by pivots, so that whole G of rank r gives exactly r columns."""
    values, vectors = np.linalg.eigh(gram.astype(np.float64))
    kept = values > values[-1] * 1e-10
    factor: Reals = vectors[:, kept] * np.sqrt(values[kept])
    return factor


def _complement(rows: Reals, width: int) -> Reals:
    """An orthonormal basis of what orthonormal rows leave of R^width."""
    _, values, right = np.linalg.svd(rows, full_matrices=True)
    return right[int((values > 0.5).sum()) :].reshape(-1, width)
