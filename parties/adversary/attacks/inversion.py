"""UnSplit on MITIG2: the cloud fits a surrogate of the first layer and its inputs to the Z1 that it received,
in turn.

E. Erdogan, A. Kupcu, A. E. Cicek, *UnSplit*, WPES 2022, arXiv:2108.09033: an honest-but-curious server that
knows the client's architecture, and none of its weights, minimises |W~ x~ - z1|^2 + tv TV(x~) over inputs x~
and over its surrogate W~ alternately.

Here the first layer is linear, Z1 = X W1^T, and the problem bilinear: (X M, W1 M^-T) explains Z1 as well for
every invertible M. A batch of m <= n samples is explained by every X~ of rank m, with a W~ to it, so |W~ x~ -
z1|^2 alone says nothing, and only the prior breaks the tie: box, total variation, and what public images say.
(With a convolution, as in the paper, far fewer pairs fit.) What helps is that W1 begins with independent
entries of one variance, the public recipe: inner products of Z1 are then, to about 1 / sqrt(h) relative,
those of the samples. How bright a sample is and how it resembles the others of its batch survives every
rotation; it is regressed on public images that went through surrogates drawn here. There the fit starts, and
there it is held. The surrogate is no better known afterwards. Expect little: on MNIST (1024 samples, h = 300,
B = 64; four seeds) an MSE of .053 to .065 where the mean image has .062 to .069; on digits (h = 32, B = 16),
where Z1 is small, nothing beyond chance (.071 against .072).

Assumes public images of the same distribution (without them it starts at mid-gray, as the paper does, and
ends far worse than the mean image) and looks at the first visit of a batch, before W1 has moved far. What
later visits add is exact, and `gram`'s: with dZ1 known, they give inner products of samples, again up to a
rotation. The regression is this project's addition. Cost: 10 rounds of one least squares (m x m) and 20 Adam
steps (m x n by n x h); seconds for MNIST, h = 300, a batch of 64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from parties.adversary.attack import LIMIT, NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.solvers.polytope import Vector
from protocols.language.relations import Products, Update, Without, now

NAME = "inversion"
SUMMARY = "UnSplit on MITIG2: fit a surrogate of W1 and inputs to Z1; the prior alone breaks the tie"
CONSUMES = (Products,)

# The ridge was chosen on runs of seed 0, the number of surrogates after digits of seed 1 too; nothing hangs
# on a run now. TV weight and learning rate are those of the authors' code, which runs 1000 rounds of 100
# steps of each kind.
TV_WEIGHT, PULL, RIDGE = 0.1, 1.0, 1e-6
ROUNDS, INPUT_STEPS, LEARNING_RATE = 10, 20, 1e-3
SHADOWS, SHRINK = (
    32,
    1e-2,
)  # surrogates through which public images go; ridge of the regression, a share of its rows
_FAR, _TINY = 3.0, 1e-300  # standard deviations at which features are cut; what a zero is divided by
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
# Samples of a batch, or public images, below which nothing is said of how samples resemble one another.
_TOO_FEW = 3


@dataclass(frozen=True)
class Fit:
    """Inputs (m, n) in [0, 1] and what is left of z, |X W~^T - Z|^2 / |Z|^2, before the first round and after
    the last.
    """

    x: Vector
    before: float
    after: float


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Rebuild the first samples whose products with an unknown map the view holds, batch by batch."""
    index: list[int] = []
    values, fits, steps = [], [], []
    for products in first_batches(relations):
        z, kept = now(products.values) / prior.x_max, slice(0, LIMIT - len(index))
        begin = start(z, prior, rng)
        fit = invert(z, begin, draw_surrogate(z.shape[1], begin.shape[1], rng), prior.shape)
        index += products.samples[kept].tolist()
        values += list(fit.x[kept])
        fits.append(fit)
        steps.append(products.since)
    public = 0 if prior.public is None else len(prior.public)
    notes = {
        "loss_before": float(np.mean([fit.before for fit in fits])),
        "loss_after": float(np.mean([fit.after for fit in fits])),
        "rounds": ROUNDS,
        "input_steps": ROUNDS * INPUT_STEPS,
        "tv_weight": TV_WEIGHT,
        "steps": [min(steps), max(steps)],
        "start": _begun(public),
    }
    return Reconstruction(Quantity.IMAGES, np.array(index, dtype=np.int64), np.array(values), notes=notes)


def _begun(public: int) -> str:
    if not public:
        return "mid-range"
    return f"regression on {public} public samples through {SHADOWS} drawn surrogates"


def first_batches(relations: Relations) -> list[Products]:
    """Each batch at its first visit, in order of time, until `LIMIT` samples are covered."""
    covered, found = set[int](), []
    for products in relations.of(Products):
        if (products.samples < 0).any():
            why = (each.why for each in relations.of(Without) if each.type is Update)
            raise NotApplicable(next(why, "which sample is which is not in the view"))
        if not covered.issuperset(products.samples.tolist()):
            found.append(products)
            covered.update(products.samples.tolist())
        if len(covered) >= LIMIT:
            break
    return found


def start(z: Vector, prior: Prior, rng: np.random.Generator) -> Vector:
    """What the prior says of samples (m, n) in [0, 1] with these Z1 (m, h), by what no rotation of them
    changes.

    Linear and quadratic regression of public images on `invariants` of their own Z1 under drawn surrogates,
    in batches of m as here, so that it knows how much noise there is in them. The mean public image where
    there are too few to compare.
    """
    m, guess = len(z), prior.guess()
    if prior.public is None or min(m, len(prior.public)) < _TOO_FEW:
        return np.tile(guess, (m, 1))
    mean = scale = normal = right = np.zeros(0)
    for number, (features, images) in enumerate(_shadows(prior.public, z.shape, rng)):
        if number == 0:
            mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-12
        basis = _quadratic(np.clip((features - mean) / scale, -_FAR, _FAR))
        own, seen = basis.T @ basis, basis.T @ (images - guess)
        normal, right = (own, seen) if number == 0 else (normal + own, right + seen)
    weights = np.linalg.solve(normal + SHRINK * normal[0, 0] * np.eye(len(normal)), right)
    # Z1 that is unlike any of public images, as a later W1 or noise make it, must not be extrapolated to.
    return np.clip(
        guess + _quadratic(np.clip((invariants(z) - mean) / scale, -_FAR, _FAR)) @ weights, 0.0, 1.0
    )


def _shadows(
    public: Vector, shape: tuple[int, ...], rng: np.random.Generator
) -> Iterator[tuple[Vector, Vector]]:
    """(invariants, images) of public images under one drawn surrogate after another, in batches of m, `shape`
    = (m, h).
    """
    (m, h), (count, n) = shape, public.shape
    for _ in range(SHADOWS):
        m = min(m, count)
        order = rng.permutation(count)[: count // m * m]
        z = (public @ draw_surrogate(h, n, rng).T)[order].reshape(-1, m, h)
        yield invariants(z).reshape(len(order), -1), public[order]


def draw_surrogate(h: int, n: int, rng: np.random.Generator) -> Vector:
    """W~ (h, n) by the public recipe of a linear layer, uniform in +-1 / sqrt(n); not the owner's draw."""
    drawn: Vector = rng.uniform(-1.0, 1.0, (h, n)) / np.sqrt(n)
    return drawn


def invariants(z: Vector) -> Vector:
    """What no rotation, and no change of scale, of samples changes (..., m, 8), from the Z1 of batches (...,
    m, h).

    Squared norm; inner product with the mean of the other samples of the batch; quantiles of the cosines with
    them.
    """
    m, gram = z.shape[-2], z @ z.swapaxes(-1, -2)
    squares = np.diagonal(gram, axis1=-2, axis2=-1)
    others = (gram.sum(axis=-1) - squares) / (m - 1)
    norms = np.sqrt(np.maximum(squares, _TINY))
    cosines = (gram / (norms[..., :, None] * norms[..., None, :]))[..., ~np.eye(m, dtype=bool)]
    quantiles = np.quantile(cosines.reshape(*z.shape[:-1], m - 1), _QUANTILES, axis=-1)
    unit = np.maximum(squares.mean(axis=-1, keepdims=True), _TINY)
    found: Vector = np.stack([squares / unit, others / unit, *quantiles], axis=-1)
    return found


def _quadratic(features: Vector) -> Vector:
    """1, every feature and every product of two (m, 1 + k + k (k + 1) / 2)."""
    i, j = np.triu_indices(features.shape[1])
    return np.hstack([np.ones((len(features), 1)), features, features[:, i] * features[:, j]])


def invert(z: Vector, begin: Vector, first: Vector, shape: tuple[int, ...], device: str = "cpu") -> Fit:
    """Fit X (m, n) in [0, 1] and W~ (h, n) to Z (m, h) = X W~^T in turn, from `begin` (m, n), with W~ held to
    `first` (h, n).

    Deviations from the paper, whose layers are not linear: W~ is not followed by 100 Adam steps but solved
    for, as that is a least squares; the loss counts relative to |Z|^2, so that the weights do not hang on
    W1's scale; and the penalty on |x~|^2 becomes one on |x~ - begin|^2, as public images say more than black
    ones.
    """
    target, pulled, w = (torch.as_tensor(a, dtype=torch.float64, device=device) for a in (z, begin, first))
    x, held = pulled.clone().requires_grad_(True), w
    adam = torch.optim.Adam([x], lr=LEARNING_RATE, amsgrad=True)
    unit = (target**2).mean().clamp_min(1e-30)
    before = _misfit(x, w, target, unit).item()
    for _ in range(ROUNDS):
        w = solve_surrogate(x.detach(), target, held)
        for _ in range(INPUT_STEPS):
            adam.zero_grad()
            loss = _misfit(x, w, target, unit) + PULL * ((x - pulled) ** 2).mean()
            (loss + TV_WEIGHT * variation(x, shape)).backward()  # type: ignore[no-untyped-call]
            adam.step()
            x.data.clamp_(0.0, 1.0)
    return Fit(x.detach().cpu().numpy().astype(np.float64), before, _misfit(x, w, target, unit).item())


def solve_surrogate(x: torch.Tensor, z: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """W~ (h, n) with X W~^T nearly Z, the nearest one to `first`: ridge regression, in the (m, m) form."""
    gram = x @ x.T
    ridge = RIDGE * gram.diagonal().mean().clamp_min(1e-12)
    eye = torch.eye(len(x), dtype=x.dtype, device=x.device)
    missing: torch.Tensor = torch.linalg.solve(gram + ridge * eye, z - x @ first.T)
    return first + missing.T @ x


def variation(x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Mean squared difference of vertical plus that of horizontal neighbours, as in the authors' code."""
    picture = x.reshape(len(x), *shape)
    if len(shape) < 2:  # columns of a table have no neighbours
        return x.sum() * 0.0
    return sum((picture.diff(dim=d) ** 2).mean() for d in (1, 2) if shape[d - 1] > 1) + x.sum() * 0.0


def _misfit(x: torch.Tensor, w: torch.Tensor, z: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """|X W~^T - Z|^2 / |Z|^2."""
    return ((x @ w.T - z) ** 2).mean() / unit
