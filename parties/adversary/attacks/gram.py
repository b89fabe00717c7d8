"""The inner products of all samples with each other, from how Z1 of the same samples changes while W1 is
trained.

Between two uses of a batch X_b, W1 changed by - sum_u a_u dZ1_u^T X_u with coefficients a_u that everybody
can compute (`protocols/readings/path.py`), so

    Z1_b' - Z1_b = - X_b (sum_u a_u dZ1_u^T X_u)^T = - (X X_b^T)^T C        C (N, h): a_u dZ1_u at the rows of
    batch u

is linear in the inner products X X_b^T of the batch with all samples used in between: h equations for each of
its samples. Under MITIG1 keys work on every ciphertext, so that every step gives them for all samples at
once, and one update with rank dZ1 = B <= h gives X_B X^T; the rounding of W1 is the noise. Under MITIG2 a
batch comes back once an epoch. Solved by least squares, and symmetrised. Where these are too few equations
for N inner products a sample, or noisy, the matrix is solved for with the rank n that it has at most
(`solvers/low_rank.py`), which takes visits with E h > n only. A Gram matrix is the samples up to a rotation.
With k known samples, <x_known, x> are k linear equations on every other sample, solved as `smooth` does:
least energy of the image's gradient, balanced against the noise of the equations, in the pixel range. Both
weights are fixed beforehand: the noise by the residual of the first step, the energy by that of the known
images.

Not published to our knowledge: this project's observation. Assumes SGD at the owner, with momentum or
without. Cost: for each batch one Cholesky factorisation (N x N), or some 40 iterations at rank n; under
MITIG1 up to 10 000 decryptions; then one n x n factorisation for all images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, lapack, solve_triangular

from parties.adversary.attack import Known, NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.attacks.known_maps import PRODUCTS
from parties.adversary.solvers.low_rank import Uses, low_rank
from parties.adversary.solvers.moves import computable, placed, positions
from parties.adversary.solvers.polytope import differences
from protocols.language.relations import Instance, Map, Products, Update, now

NAME = "gram"
SUMMARY = "inner products of all samples from the changes of Z1 in training; with --known the images"
CONSUMES = (Products | Instance, Update)

SAMPLES = 2048  # unknowns of one system; its cost grows with their cube
RANK = 128  # of the matrix at most, where it is solved for with its rank
_PIVOT = 1e-12  # pivots below it, of a matrix with ones on its diagonal, count as zero
_NULL = 1e-6  # an unknown is determined where no vector of the null space moves it by more
_SWEEPS = 60

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """Samples whose Z1 was seen several times: positions `index` (m,), terms (V, U) of the map at each time,
    `z` V times (m, h), an entry of which has an error of about `noise`.
    """

    index: NDArray[np.int64]
    since: int
    terms: list[Reals]
    z: list[Reals]
    noise: float


@dataclass(frozen=True)
class Solved:
    """Inner products (N, m) of all samples with some, NaN where they are not determined; rank, unknowns, the
    mean square of the residual, and of the error that it implies.
    """

    values: Reals
    rank: int
    unknowns: int
    residual: float
    noise: float


@dataclass(frozen=True)
class Gram:
    """A symmetric matrix (N, N) of inner products of images in [0, 1], NaN where not determined; `noise` is
    the expected error of an entry; `limited` the rank that it was solved for with, 0 without.
    """

    values: Reals
    noise: float
    since: int
    ranks: tuple[int, int]
    unknowns: int
    residual: float
    limited: int = 0

    @property
    def how(self) -> str:
        """From how much it was solved, in words."""
        if self.limited:
            return f"a matrix of rank {self.limited} at most for {self.unknowns} samples"
        return f"rank {self.ranks[0]} of {self.unknowns}"

    @property
    def pairs(self) -> float:
        """Share of the pairs that are determined."""
        return float(np.isfinite(self.values).mean())


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Return the Gram matrix, or with known samples the images of all others."""
    del rng  # nothing here is drawn
    found = gram(relations, prior.x_max, pixels=prior.pixels)
    notes = {
        "pairs_determined": found.pairs,
        "rank": list(found.ranks),
        "rank_at_most": found.limited,
        "unknowns": found.unknowns,
        "residual_rms": found.residual,
        "expected_relative_error": float(found.noise / np.sqrt(np.nanmean(found.values**2))),
    }
    if prior.known is None:
        (index,) = np.nonzero(np.isfinite(found.values).any(axis=1))
        values = found.values[np.ix_(index, index)]
        return Reconstruction(Quantity.GRAM, index, values, found.since, notes={**notes, **_which(found)})
    index, equations, images = from_known(found, prior.known, prior)
    notes["equations_per_sample"] = len(equations)
    return Reconstruction(Quantity.IMAGES, index, images, found.since, notes=notes)


def gram(
    relations: Relations, x_max: int, budget: int = PRODUCTS, samples: int = SAMPLES, pixels: int = 0
) -> Gram:
    """Everything of the Gram matrix that the view determines; `NotApplicable` where that is nothing.

    `pixels`: the rank that it has at most, or 0.
    """
    relations.need(*CONSUMES)
    total = relations.count()
    if total > samples:
        raise NotApplicable(
            f"{total} samples; the cost grows with the cube, and no more than {samples} are solved for"
        )
    updates = list(relations.of(Update))
    at = {which: terms for which, terms in positions(updates).items() if computable(terms, updates[0].steps)}
    limited = _of_rank(relations, at, total, pixels, x_max)
    if limited is not None:
        return limited
    estimate, weight, parts, last = np.zeros((total, total)), np.zeros((total, total)), [], 0
    for group in (*_from_products(relations, at), *_from_keys(relations, at, budget, x_max)):
        designs = [placed(terms, updates[0].steps, total) for terms in group.terms]
        part = solve_gram(_widened(designs, group.z[0].shape[1]), group.z, group.noise)
        known = np.isfinite(part.values)
        estimate[:, group.index] += np.where(known, part.values, 0.0)
        weight[:, group.index] += known
        parts.append(part)
        last = max(last, group.since)
    if not parts:
        raise NotApplicable(
            "the view does not come to a second use of any batch: W1 has to change in between"
        )
    if not weight.any():
        most = max(parts, key=lambda part: part.rank)
        raise NotApplicable(f"no inner product is determined: rank {most.rank} of {most.unknowns} unknowns")
    scale = 1.0 / x_max**2  # to images in [0, 1]
    sums, counts = estimate + estimate.T, weight + weight.T
    values = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan) * scale
    noise = float(np.sqrt(np.mean([part.noise for part in parts if np.isfinite(part.noise)]))) * scale
    noise = float(np.hypot(noise, _dithered(relations, values, x_max)))
    ranks = min(part.rank for part in parts), max(part.rank for part in parts)
    residual = float(np.sqrt(np.mean([part.residual for part in parts])))
    return Gram(values, noise, last, ranks, max(part.unknowns for part in parts), residual)


def _of_rank(relations: Relations, at: dict[Map, Reals], total: int, rank: int, x_max: int) -> Gram | None:
    """The matrix by its rank, where Z1 is in the clear and every inner product by itself asks for too much or
    is noisy; None where that is not so, or where the iterations do not converge.
    """
    every = [p for p in relations.of(Products) if p.map in at and not (p.samples < 0).any()]
    index = np.unique(np.concatenate([_NONE, *(p.samples for p in every)]))
    if not 0 < rank <= min(RANK, len(index) - 1):
        return None
    values = [np.asarray(now(p.values), dtype=np.float64) for p in every]
    width, noise = values[0].shape[1], max(p.noise for p in every)
    steps = next(relations.of(Update)).steps
    terms = np.array([at[p.map] for p in every])
    (used,) = np.nonzero(terms.any(axis=0))
    moved = [(steps.samples[u], np.asarray(steps.error(int(u)), dtype=np.float64)) for u in used]
    if not moved or not np.isin(np.concatenate([samples for samples, _ in moved]), index).all():
        return None
    uses = Uses.of(
        [(np.searchsorted(index, p.samples), z) for p, z in zip(every, values, strict=True)],
        terms[:, used],
        [(np.searchsorted(index, samples), error) for samples, error in moved],
        len(index),
        noise,
    )
    equations = uses.times * width
    free = int(equations.min()) - width >= len(index)  # enough for each inner product by itself
    if (free and not noise) or np.median(equations) < rank:
        return None
    found = low_rank(uses, rank, np.random.default_rng(0))
    if found is None:
        return None
    known = index[found.determined]
    matrix = np.full((total, total), np.nan)
    matrix[np.ix_(known, known)] = found.values[np.ix_(found.determined, found.determined)] / x_max**2
    error = float(np.hypot(found.noise / x_max**2, _dithered(relations, matrix, x_max)))
    since = max(p.since for p in every)
    return Gram(matrix, error, since, (rank, rank), len(index), found.residual, limited=rank)


_NONE = np.zeros(0, dtype=np.int64)


def _dithered(relations: Relations, values: Reals, x_max: int) -> float:
    """What a dither of +-R does to an inner product of images in [0, 1]: about R |x| sqrt(2 / 3)."""
    bound = max((products.dither for products in relations.of(Products)), default=0.0) / x_max
    squares = np.diagonal(values)
    return (
        bound * float(np.sqrt(np.nanmean(squares) * 2 / 3)) if bound and np.isfinite(squares).any() else 0.0
    )


def _widened(designs: list[Reals], h: int) -> list[Reals]:
    """Designs (N, h); a map that has not moved yet has one of zeros."""
    return [np.zeros((len(c), h)) if c.shape[1] != h else c for c in designs]


def solve_gram(designs: list[Reals], seen: list[Reals], rounding: float = 0.0) -> Solved:
    """Solve Z' - Z = -G^T (C' - C) between successive observations for G (N, m), by least squares.

    `designs`: C (N, h) of each observation; `seen`: Z (m, h) of each, in whole pixels. Samples that occur in
    no C are no unknowns.
    """
    c = np.hstack([after - before for before, after in pairwise(designs)])
    y = np.hstack([after - before for before, after in pairwise(seen)])
    (used,) = np.nonzero(np.abs(c).max(axis=1))
    values = np.full((len(c), len(y)), np.nan)
    if not len(used):
        return Solved(values, 0, 0, float((y**2).mean()), np.inf)
    a = c[used]
    size = np.linalg.norm(a, axis=1)
    a = a / size[:, None]
    rank, pivots, lower, determined = _pivoted(a @ a.T)
    right = -(a @ y.T)
    kept = pivots[:rank]
    x = np.zeros((len(used), len(y)))
    x[kept] = cho_solve((lower, True), right[kept])
    rest = y.T + a.T @ x
    freedom = max(a.shape[1] - rank, 0)
    spare = float((rest**2).sum() / max(1, freedom * len(y))) if freedom else 0.0
    spare = max(spare, rounding**2)  # few equations fit everything, rounding errors too
    inverse = cho_solve((lower, True), np.eye(rank))
    variance = np.full(len(used), np.nan)
    variance[kept] = np.diag(inverse) / size[kept] ** 2
    values[used[determined]] = (x / size[:, None])[determined]
    noise = spare * float(variance[determined].mean()) if determined.any() else np.inf
    return Solved(values, rank, len(used), float((rest**2).mean()), noise)


def from_known(found: Gram, known: Known, prior: Prior) -> tuple[NDArray[np.int64], NDArray[np.int64], Reals]:
    """(positions of the others, positions of the known samples that are used, images (m, n) in [0, 1])."""
    others = np.setdiff1d(np.arange(len(found.values)), known.index)
    cross = found.values[np.ix_(known.index, others)]
    rows = np.isfinite(cross).mean(axis=1) > 0.5  # samples that were never used give no equation
    columns = np.isfinite(cross[rows]).all(axis=0)
    if not rows.any() or not columns.any():
        raise NotApplicable("no inner product of a known sample with another one is determined")
    images = known.images[rows] / prior.x_max
    return (
        others[columns],
        known.index[rows],
        smoothest(images, cross[rows][:, columns], found.noise, prior.shape, prior.public),
    )


def smoothest(
    known: Reals, products: Reals, noise: float, shape: tuple[int, ...], public: Reals | None = None
) -> Reals:
    """Images (m, n) in [0, 1] with least |K x - p|^2 / noise^2 + |D x|^2 / s^2 for K (k, n) and p (k, m), s^2
    the known images' own mean square difference; of rows of a table, which have no neighbours, the distance
    to the mean of the known ones in place of D x; with public images (P, n), P > n, of the distance to their
    mean under their covariance instead, so that noise leaves the mean.

    The pixel range is kept by splitting (ADMM: S. Boyd et al., 2011, section 5.2): one factorisation serves
    all images and iterations.
    """
    image = len(shape) > 1
    d, middle = (differences(shape), 0.0) if image else (sp.identity(known.shape[1]), known.mean(axis=0))
    s2 = float(((d @ (known - middle).T) ** 2).mean()) + 1e-12
    accuracy = (
        max(noise, 1e-7 * float(np.abs(products).max())) ** 2
    )  # the equations are never taken for exact
    weight, mean, rho = (d.T @ d).toarray() / s2, np.zeros(known.shape[1]) + middle, 1.0 / s2
    if public is not None and len(public) > known.shape[1]:
        spread = np.cov(public.T)
        mean, typical = public.mean(axis=0), float(np.trace(spread)) / len(spread)
        weight = np.linalg.inv(spread + typical / len(public) ** 0.5 * np.eye(len(spread)))
        rho = 1.0 / typical
    h = known.T @ known / accuracy + weight
    factor = cho_factor(h + rho * np.eye(len(h)))
    right = known.T @ products / accuracy + (weight @ mean)[:, None]
    x = np.tile(mean[:, None], products.shape[1])
    dual = np.zeros_like(right)
    for _ in range(_SWEEPS):
        free = cho_solve(factor, right + rho * (x - dual))
        x = np.clip(free + dual, 0.0, 1.0)
        dual += free - x
    return x.T


def _pivoted(m: Reals) -> tuple[int, NDArray[np.int64], Reals, NDArray[np.bool_]]:
    """(rank, pivots, Cholesky factor of the pivots, which unknowns the equations determine) of a Gram matrix
    with ones on its diagonal.
    """
    factor, order, rank, _ = lapack.dpstrf(m, lower=1, tol=_PIVOT)
    pivots, lower = np.asarray(order, dtype=np.int64) - 1, np.tril(factor)
    determined = np.ones(len(m), dtype=bool)
    if rank < len(m):
        determined[pivots[rank:]] = False
        null = solve_triangular(
            lower[:rank, :rank], lower[rank:, :rank].T, lower=True, trans="T"
        )  # (rank, free)
        determined[pivots[:rank]] = np.abs(null).max(axis=1) < _NULL
    return int(rank), pivots, lower[:rank, :rank], determined


def _from_products(relations: Relations, at: dict[Map, Reals]) -> Iterator[Seen]:
    """Z1 in the clear: samples that were seen at least twice, those together that were used at the same
    times.

    Where batches stay the same a group is a batch; where the samples are shuffled in each epoch it is a
    sample or a few.
    """
    every = [p for p in relations.of(Products) if p.map in at and not (p.samples < 0).any()]
    met: dict[int, list[int]] = {}
    for k, products in enumerate(every):
        for sample in products.samples:
            met.setdefault(int(sample), []).append(k)
    groups: dict[tuple[int, ...], list[int]] = {}
    for sample, times in met.items():
        groups.setdefault(tuple(times), []).append(sample)
    values = {k: now(every[k].values) for times in groups if len(times) > 1 for k in times}
    for seen, samples in groups.items():
        if len(seen) > 1:
            times = list(seen)
            index = np.array(samples)
            z = [values[k][_places(every[k].samples, index)].astype(np.float64) for k in times]
            size = max(float(np.abs(part).max(initial=0.0)) for part in z)
            rounding = size * max(every[k].roundoff for k in times)
            noise = max(rounding, np.sqrt(2.0) * max(every[k].noise for k in times))
            yield Seen(index, every[times[-1]].since, [at[every[k].map] for k in times], z, noise)


def _places(index: NDArray[np.int64], samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where some samples stand in a batch."""
    order = np.argsort(index)
    return order[np.searchsorted(index, samples, sorter=order)]


def _from_keys(relations: Relations, at: dict[Map, Reals], budget: int, x_max: int) -> Iterator[Seen]:
    """Under hidden keys: the samples of each instance, the first ones if they are many, at as many times as
    `budget` allows.
    """
    every = [
        instance for instance in relations.of(Instance) if instance.hides and instance.rounded is not None
    ]
    for instance in every:
        met = [(keys, keys.map) for keys in instance.messages() if keys.map is not None and keys.map in at]
        if len(met) < 2:
            continue
        share, h = budget // len(every), len(now(met[0][0].key).elements)
        count = min(len(instance.blocks[0]), share // (2 * h))
        taken = met[: share // (h * max(1, count))]
        if count and len(taken) > 1:
            which = np.arange(count)
            z = [instance.products(now(keys.key), 0, which) / instance.scale for keys, _ in taken]
            noise = float(np.sqrt(2 * instance.columns / 48) * x_max / instance.scale)
            terms = [at[which] for _, which in taken]
            yield Seen(instance.blocks[0][which], taken[-1][0].since, terms, z, noise)


def _which(found: Gram) -> dict[str, object]:
    """Which samples have all their pairs determined, where not all have."""
    whole = np.isfinite(found.values).all(axis=1)
    return {} if whole.all() else {"samples_with_all_pairs": int(whole.sum())}
