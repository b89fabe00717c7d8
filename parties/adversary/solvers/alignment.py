"""Which rotation: points that are known up to one are aligned with labelled points of the same distribution.

Rows Y (N, r) with Y Y^T = X X^T are X (N, n) up to an orthogonal map, X = Y R with R R^T = 1 (r <= n). What
is known of X besides picks R, in three steps:

* moments: within each class c, mean and covariance of X are about those of public points of that class, so
  that R makes w sum_c <m_c R, q_c> + sum_c tr(R^T C_c R D_c) large. It is convex in R, so that R is replaced
  by the orthogonal factor of the slope, again and again, and each time it grows (M. Journée et al.,
  *Generalized Power Method*, JMLR 2010). Without classes there is nothing to start from: the covariance of
  all points leaves the sign of every direction open.
* transport: every point is sent to public points of its class near to it, as many of ours to each (entropic
  optimal transport: M. Cuturi, NeurIPS 2013), and R made to fit the targets (orthogonal Procrustes: P.
  Schönemann, 1966), while the entropy falls. E. Grave, A. Joulin, Q. Berthet, *Unsupervised Alignment of
  Embeddings with Wasserstein Procrustes*, AISTATS 2019, there without classes.
* whole numbers: pixels are whole and lie in [0, x_max]. The target is Y R within the range and rounded, until
  R stays. The range alone, at many gray levels, goes a long way: most pixels are 0, which few rotations do.

The last step is an observation of this project. The numbers below were fixed beforehand, on images that no
test uses. Cost: products (r, n) by (n, n) for each class, then (N, r) by (r, n), and one singular value
decomposition (r, n) an iteration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from protocols.language.errors import KeyholeError

Reals = NDArray[np.float64]
Floats = NDArray[np.float32]
Whole = NDArray[np.int64]

_MEANS = 50.0  # weight w of the means beside the covariances
_MOMENTS, _TRANSPORTS, _ROUNDED = 30, 40, 200  # iterations, of the last at most
_WARM, _COOLED, _COLDEST = 0.3, 0.9, 0.02  # entropy at first, its fall, its end; of a nearest distance
_SINKHORN = 20
_FLAT, _CUT = 1e-9, 1e-4  # of the largest eigenvalue: zero; noise below which none that matters is hidden
_CONFIRMED = 12**-0.5  # of a level
_STILL = 1e-5  # relative change of what is left, below which iterations end


class Unturned(KeyholeError):
    """Points that nothing turns; says why."""


@dataclass(frozen=True)
class Aligned:
    """Points (N, n) within [0, x_max], and the root mean square of how far they lie from whole numbers in the
    range.
    """

    values: Reals
    apart: float

    @property
    def confirmed(self) -> bool:
        """Whether range and whole numbers say that the points are turned right: points within the range that
        have nothing to do with whole numbers lie sqrt(1/12) = .29 from them, those outside farther.
        """
        return self.apart < _CONFIRMED


def factor_of(products: Reals, noise: float) -> tuple[Reals, bool]:
    """(rows Y (N, r) with Y Y^T = `products` (N, N), whether some directions are left out), without what
    errors of about `noise` an entry make of eigenvalues.
    """
    values, vectors = np.linalg.eigh((products + products.T) / 2)
    hidden = 2 * noise * np.sqrt(len(products))  # the largest eigenvalue of such errors
    kept = values > max(hidden, values[-1] * _FLAT)
    found: Reals = vectors[:, kept] * np.sqrt(values[kept])
    return found, hidden > values[-1] * _CUT


def aligned(
    points: Reals, labels: Whole, public: Reals, public_labels: Whole, x_max: int, cut: bool = False
) -> Aligned:
    """The points (N, r) turned into the space of `public` (P, n); pixels of both are in units of 1 .. x_max.

    With `cut`, noise hid some directions of the points: there they are taken for the mean of their class.
    A class without two points here and two public ones says nothing; `Unturned` where no other is left, where
    r > n, or where there is no direction.
    """
    y, theirs = points.astype(np.float32), public.astype(np.float32)
    if not y.shape[1]:
        raise Unturned("errors are larger than everything that is known of the inner products")
    if y.shape[1] > theirs.shape[1]:
        raise Unturned(f"points of rank {y.shape[1]} are none of {theirs.shape[1]} pixels")
    classes = [
        (ours, others)
        for c in np.intersect1d(labels, public_labels)
        if min((ours := labels == c).sum(), (others := public_labels == c).sum()) > 1
    ]
    if not classes:
        raise Unturned("no class has two samples here and two public ones")
    turn = _by_moments([(y[ours], theirs[others]) for ours, others in classes])
    for entropy in _entropies():
        turn = _transported(y, turn, [(ours, theirs[others]) for ours, others in classes], entropy)
    guess = np.zeros((len(y), theirs.shape[1]), np.float32)
    for ours, others in classes if cut else ():
        guess[ours] = theirs[others].mean(axis=0)
    turn, apart = _fitted(y, guess, turn, x_max)
    return Aligned(np.clip(_placed(y, guess, turn), 0, x_max).astype(np.float64), apart)


def orthogonal(slope: NDArray[np.floating]) -> Floats:
    """The R (r, n), R R^T = 1, that is nearest to a matrix, r <= n."""
    u, _, vt = np.linalg.svd(slope, full_matrices=False)
    found: Floats = (u @ vt).astype(np.float32)
    return found


def _by_moments(classes: list[tuple[Floats, Floats]]) -> Floats:
    means = _MEANS * np.sum([np.outer(a.mean(axis=0), b.mean(axis=0)) for a, b in classes], axis=0)
    spreads = [(_covariance(a), _covariance(b)) for a, b in classes]
    turn = orthogonal(means)
    for _ in range(_MOMENTS):
        turn = orthogonal(means + sum(ours @ turn @ theirs for ours, theirs in spreads))
    return turn


def _covariance(points: Floats) -> Floats:
    return np.atleast_2d(np.cov(points.T)).astype(np.float32)


def _entropies() -> Iterator[float]:
    return (max(_COLDEST, _WARM * _COOLED**k) for k in range(_TRANSPORTS))


def _transported(
    y: Floats, turn: Floats, classes: list[tuple[NDArray[np.bool_], Floats]], entropy: float
) -> Floats:
    total = np.zeros(turn.shape)
    for ours, theirs in classes:
        far = cdist(y[ours] @ turn, theirs, "sqeuclidean")
        nearest = far.min(axis=1, keepdims=True)
        plan = np.exp((nearest - far) / max(entropy * float(np.median(nearest)), np.finfo(np.float32).tiny))
        for _ in range(_SINKHORN):
            plan /= np.maximum(plan.sum(axis=0), np.finfo(np.float64).tiny)
            plan /= plan.sum(axis=1, keepdims=True)
        total += y[ours].T @ (plan @ theirs)
    return orthogonal(total)


def _placed(y: Floats, guess: Floats, turn: Floats) -> Floats:
    """Y R, and what is guessed (N, n) in the directions that R does not reach."""
    return (y @ turn + guess - (guess @ turn.T) @ turn).astype(np.float32)


def _fitted(y: Floats, guess: Floats, turn: Floats, x_max: int) -> tuple[Floats, float]:
    """(R, root mean square of the points from whole numbers in the range), R fitted to these in turn."""
    left = np.inf
    for _ in range(_ROUNDED):
        z = _placed(y, guess, turn)
        target = np.rint(np.clip(z, 0, x_max))
        apart = float(np.sqrt(np.mean((z - target) ** 2)))
        if left - apart <= _STILL * apart:
            break
        left, turn = apart, orthogonal((y.T @ target).astype(np.float64))
    return turn, left
