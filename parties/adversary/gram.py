"""The inner products of all samples with each other, from how Z1 of the same samples changes while W1 is trained.

Between two uses of a batch X_b, W1 changed by - sum_u a_u dZ1_u^T X_u with coefficients a_u that everybody can compute (`trajectory.py`), so

    Z1_b' - Z1_b = - X_b (sum_u a_u dZ1_u^T X_u)^T = - (X X_b^T)^T C        C (N, h): a_u dZ1_u at the rows of batch u

is linear in the inner products X X_b^T of the batch with all samples used in between: h equations for each of its samples. Under MITIG1 keys
work on every ciphertext, so that every step gives them for all samples at once, and one update with rank dZ1 = B <= h gives X_B X^T;
the rounding of W1 is the noise. Under MITIG2 a batch comes back once an epoch. Solved by least squares, and symmetrised. A Gram matrix is the
samples up to a rotation. With k known samples, <x_known, x> are k linear equations on every other sample, solved as `smooth` does: least
energy of the image's gradient, balanced against the noise of the equations, in the pixel range. Both weights are fixed beforehand: the noise by the
residual of the first step, the energy by that of the known images.

Not published as far as searched: this project's observation. Assumes SGD at the owner, with momentum or without. Cost: for each batch one
Cholesky factorisation (N x N); under MITIG1 up to 10 000 decryptions; then one n x n factorisation for all images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, lapack, solve_triangular

from parties.adversary.attack import Known, NotApplicable, Prior, Quantity, Reconstruction
from parties.adversary.equations import offsets
from parties.adversary.hiding import PRODUCTS, Hiding
from parties.adversary.solvers.polytope import differences
from parties.adversary.trajectory import (
    Trajectory,
    Use,
    by_use,
    errors_of,
    need_sgd,
    need_split,
    spread,
    trajectory,
)
from parties.record.view import Kind, View

NAME = "gram"
SUMMARY = "inner products of all samples from the changes of Z1 in training; with --known the images"
CONSUMES = ("dz1", "z1 | ct, sk_w1")

SAMPLES = 2048  # unknowns of one system; its cost grows with their cube
_PIVOT = 1e-12  # pivots below it, of a matrix with ones on its diagonal, count as zero
_NULL = 1e-6  # an unknown is determined where no vector of the null space moves it by more
_SWEEPS = 60

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """Samples whose Z1 was seen several times: positions `index` (m,), at uses `k` with coefficients `at` (V, U), `z` V times (m, h)."""

    index: NDArray[np.int64]
    step: int
    at: Reals
    z: list[Reals]


@dataclass(frozen=True)
class Solved:
    """Inner products (N, m) of all samples with some, NaN where they are not determined; rank, unknowns, the mean square of the
    residual, and of the error that it lets expect.
    """

    values: Reals
    rank: int
    unknowns: int
    residual: float
    noise: float


@dataclass(frozen=True)
class Gram:
    """A symmetric matrix (N, N) of inner products of images in [0, 1], NaN where not determined; `noise` is the expected error of an entry."""

    values: Reals
    noise: float
    step: int
    ranks: tuple[int, int]
    unknowns: int
    residual: float

    @property
    def pairs(self) -> float:
        """Share of the pairs that are determined."""
        return float(np.isfinite(self.values).mean())


def reconstruct(view: View, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Return the Gram matrix, or with known samples the images of all others."""
    del rng  # nothing here is drawn
    found = solve(view)
    notes = {
        "pairs_determined": found.pairs,
        "rank": list(found.ranks),
        "unknowns": found.unknowns,
        "residual_rms": found.residual,
        "expected_relative_error": float(found.noise / np.sqrt(np.nanmean(found.values**2))),
    }
    if prior.known is None:
        (index,) = np.nonzero(np.isfinite(found.values).any(axis=1))
        return Reconstruction(
            Quantity.GRAM,
            index,
            found.values[np.ix_(index, index)],
            found.step,
            notes={**notes, **_which(found)},
        )
    index, equations, images = from_known(found, prior.known, prior)
    notes["equations_per_sample"] = len(equations)
    return Reconstruction(Quantity.IMAGES, index, images, found.step, notes=notes)


def solve(view: View, products: int = PRODUCTS, samples: int = SAMPLES) -> Gram:
    """Everything of the Gram matrix that the view of the cloud determines; `NotApplicable` where that is nothing."""
    need_split(view, *("dz1", "ct", "sk_w1") if view.protocol == "mitig1" else ("dz1", "z1"))
    config = view.config
    need_sgd(config)
    total = sum(config.counts)
    if total > samples:
        raise NotApplicable(
            f"{total} samples; the cost grows with the cube, and no more than {samples} are solved for"
        )
    path = trajectory(config)
    errors = errors_of(view, path.uses)
    seen = (
        _from_keys(view, path, len(errors), products) if view.protocol == "mitig1" else _from_z1(view, path)
    )
    estimate, weight, parts, last = np.zeros((total, total)), np.zeros((total, total)), [], 0
    for group in seen:
        designs = [spread(row, path.uses, errors, total) for row in group.at]
        part = solve_gram(designs, group.z, _rounding(view, group.z))
        known = np.isfinite(part.values)
        estimate[:, group.index] += np.where(known, part.values, 0.0)
        weight[:, group.index] += known
        parts.append(part)
        last = max(last, group.step)
    if not parts:
        raise NotApplicable(
            "the view does not come to a second use of any batch: W1 has to change in between"
        )
    if not weight.any():
        raise NotApplicable(
            f"no inner product is determined: rank {max(p.rank for p in parts)} of {max(p.unknowns for p in parts)} unknowns"
        )
    scale = (config.pixel_unit / config.x_max) ** 2  # to images in [0, 1]
    total_estimate, total_weight = estimate + estimate.T, weight + weight.T
    values = np.where(total_weight > 0, total_estimate / np.maximum(total_weight, 1), np.nan) * scale
    solved = [p for p in parts if np.isfinite(p.noise)]
    return Gram(values, float(np.sqrt(np.mean([p.noise for p in solved]))) * scale, last,
                (min(p.rank for p in parts), max(p.rank for p in parts)), max(p.unknowns for p in parts),
                float(np.sqrt(np.mean([p.residual for p in parts]))))  # fmt: skip


def _rounding(view: View, seen: list[Reals]) -> float:
    """About the error of a change of Z1: float32 on the wire under MITIG2, the rounding of W1 under MITIG1, for pixels of mean square 1/4."""
    config = view.config
    if view.protocol == "mitig1":
        pixels: float = config.x_max / config.pixel_unit
        return float(np.sqrt(2 * config.features / 48) * pixels / config.weight_scale)
    return float(np.finfo(np.float32).eps) / 2 * max(float(np.abs(z).max(initial=0.0)) for z in seen)


def solve_gram(designs: list[Reals], seen: list[Reals], rounding: float = 0.0) -> Solved:
    """Solve Z' - Z = -G^T (C' - C) between successive observations for G (N, m), by least squares.

    `designs`: C (N, h) of each observation; `seen`: Z (m, h) of each, in network units. Samples that occur in no C are no unknowns.
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
        smoothest(images, cross[rows][:, columns], found.noise, prior.shape),
    )


def smoothest(known: Reals, products: Reals, noise: float, shape: tuple[int, ...]) -> Reals:
    """Images (m, n) in [0, 1] with least |K x - p|^2 / noise^2 + |D x|^2 / s^2 for K (k, n) and p (k, m), s^2 the known images' own mean square difference.

    The pixel range is kept by splitting (ADMM: S. Boyd et al., 2011, section 5.2): one factorisation serves all images and iterations.
    """
    d = differences(shape)
    s2 = float(((d @ known.T) ** 2).mean()) + 1e-12
    accuracy = (
        max(noise, 1e-7 * float(np.abs(products).max())) ** 2
    )  # the equations are never taken for exact
    h = known.T @ known / accuracy + (d.T @ d).toarray() / s2
    rho = 1.0 / s2
    factor = cho_factor(h + rho * np.eye(len(h)))
    right = known.T @ products / accuracy
    x = np.zeros_like(right)
    dual = np.zeros_like(right)
    for _ in range(_SWEEPS):
        free = cho_solve(factor, right + rho * (x - dual))
        x = np.clip(free + dual, 0.0, 1.0)
        dual += free - x
    return x.T


def _pivoted(m: Reals) -> tuple[int, NDArray[np.int64], Reals, NDArray[np.bool_]]:
    """(rank, pivots, Cholesky factor of the pivots, which unknowns the equations determine) of a Gram matrix with ones on its diagonal."""
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


def _from_z1(view: View, path: Trajectory) -> Iterator[Seen]:
    """MITIG2: samples that the cloud saw Z1 of at least twice, those together that were used in the same steps.

    Where batches stay the same a group is a batch; where the samples are shuffled in each epoch it is a sample or a few.
    """
    rows, met = by_use(view, "z1", Kind.RECEIVED), dict[int, list[int]]()
    for k, use in enumerate(path.uses):
        if (use.step, use.owner) in rows:
            for sample in use.index:
                met.setdefault(int(sample), []).append(k)
    groups: dict[tuple[int, ...], list[int]] = {}
    for sample, numbers in met.items():
        groups.setdefault(tuple(numbers), []).append(sample)
    z1 = {
        k: np.asarray(view.value(rows[use.step, use.owner]))
        for k, use in enumerate(path.uses)
        if (use.step, use.owner) in rows
    }
    for times, samples in groups.items():
        if len(times) > 1:
            index, uses_ = np.array(samples), [path.uses[k] for k in times]
            z = [
                z1[k][_places(use.index, index)].astype(np.float64)
                for k, use in zip(times, uses_, strict=True)
            ]
            yield Seen(index, uses_[-1].step, path.at[list(times)], z)


def _places(index: NDArray[np.int64], samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where some samples stand in a batch."""
    order = np.argsort(index)
    return order[np.searchsorted(index, samples, sorter=order)]


def _from_keys(view: View, path: Trajectory, known: int, products: int) -> Iterator[Seen]:
    """MITIG1: the samples of each owner, the first ones if they are many, in as many steps as the decryptions allow."""
    config, hiding = view.config, Hiding(view)
    first, budget, h = offsets(config), products // len(config.counts), config.layers[0]
    for owner, count in enumerate(config.counts):
        met = [(k, use) for k, use in enumerate(path.uses[: known + 1]) if use.owner == owner]
        samples = min(count, budget // (2 * h))
        taken = _with_keys(hiding, met[: budget // (h * max(1, samples))])
        if samples and len(taken) > 1:
            unit = config.weight_scale * config.pixel_unit
            z = [hiding.products(owner, sk, 0, samples) / unit for _, _, sk in taken]
            index = first[owner] + np.arange(samples)
            yield Seen(index, taken[-1][1].step, path.at[[k for k, _, _ in taken]], z)


def _with_keys(hiding: Hiding, met: list[tuple[int, Use]]) -> list[tuple[int, Use, object]]:
    found = [(k, use, hiding.keys(use.step, use.owner)) for k, use in met]
    return [entry for entry in found if entry[2] is not None]


def _which(found: Gram) -> dict[str, object]:
    """Which samples have all their pairs determined, where not all have."""
    whole = np.isfinite(found.values).all(axis=1)
    return {} if whole.all() else {"samples_with_all_pairs": int(whole.sum())}
