"""Samples from how the last layer's gradient depends on random weights of the first: moments taken apart.

Z. Wang, J. Lee, Q. Lei, *Reconstructing Training Data from Model Gradient, Provably*, arXiv:2212.03714. In a
network of two layers the gradient by the weights of unit j into output c is g_c(w_j) = sum_i r_ic s(w_j x_i),
r the errors, s the activation. Of random w_j its moments are, by Stein's lemma,

    mean g_c(w_j) H_2(w_j) = sum_i r_ic E[s''] x_i x_i^T
    mean g_c(w_j) H_3(w_j) = sum_i r_ic E[s'''] x_i^(3)

up to about 1 / sqrt(h). The paper takes the third apart; E[s'''] is zero for ReLU and E[s''] for sigmoid, so
that here the one is taken that stands out of its noise. With several outputs the second is a tensor too, one
of its axes being the outputs, which is this project's use of it. What H_0 and H_1 explain of g is taken off
first. All slices, in the b dimensions that they span, have the same directions: eigenvectors of a quotient of
two mixtures of them (S. Leurgans et al., 1993; "Jennrich"), the best of some. Lengths and errors are fitted
to g and to the gradient of the output's biases; signs are those of images, which are not negative.

Conditions: two dense layers; weights of the first as they were drawn: independent, of one variance, normal in
the paper, uniform as in the first round of a run with an error of about that of one pixel's share in an
image; h of some thousands; at most 8 samples, b. One output tells samples apart by H_3 alone. The paper asks
for h of 1e4 and more. Works on the first gradient that is so. Cost: h n^2 k, or h n^2 k times 32 directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.attacks.invert import first_gradients
from protocols.language.relations import Gradient

NAME = "tensor"
SUMMARY = "samples of a wide random network of two layers from moments of its gradient (tensors)"
CONSUMES = (Gradient,)

MOST = 8  # samples of a gradient
UNITS = 1000  # of the first layer, at least
_LOOKS = 2  # gradients that are looked at
_DRAWN = 6.0  # standard deviations that a correlation of the first weights may be off
_STANDS = 1.5  # times the noise that the last of b directions is
_FITS = 0.2  # of the moments that their samples may leave open
_DIRECTIONS = 32  # along which H_3 is looked at, where there are more pixels
_TRIES = 40  # mixtures
_AT_ONCE = 4096  # units

Reals = NDArray[np.float64]


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """The samples of the first gradient that is as the conditions say."""
    chosen = first_gradients(relations, MOST, MOST * _LOOKS)[:_LOOKS]
    if not chosen:
        raise NotApplicable(f"every gradient is of more than {MOST} samples, or of some that the view holds")
    why = ""
    for each in chosen:
        try:
            found = taken_apart(each, prior.pixels, rng)
        except NotApplicable as reason:
            why = why or str(reason)
            continue
        signs = np.where(found.rows.sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
        values = np.clip(signs * found.rows, 0.0, 1.0)
        notes = {"order": found.order, "over_noise": found.stands, "moments_left_open": found.open}
        return Reconstruction(Quantity.UNORDERED_IMAGES, each.samples, values, each.since, notes=notes)
    raise NotApplicable(why)


@dataclass(frozen=True)
class Apart:
    """Rows (b, n) up to their signs; the order of the moments, how far the last direction is above the
    noise, and which share of the moments is not explained.
    """

    rows: Reals
    order: int
    stands: float
    open: float


def taken_apart(seen: Gradient, pixels: int, rng: np.random.Generator) -> Apart:
    """The samples of a gradient; `NotApplicable` with the condition that it does not meet."""
    count, weights = len(seen.samples), [np.asarray(w, np.float64) for w in seen.weights()]
    _check(weights, pixels, count)
    gradients = [np.asarray(g, np.float64) for g in seen.gradients()]
    units = weights[0][:, :pixels] / weights[0][:, :pixels].std()
    parts = _rest(gradients[1], units)
    why, found = list[str](), None
    for order in (2, 3):
        best = _moments(parts, units, count, order, rng)
        if best.stands < _STANDS:
            why.append(f"order {order} is {best.stands:.2f} times its noise, not {_STANDS}")
            continue
        if count > 1 and np.linalg.matrix_rank(best.slices.reshape(len(best.slices), -1), rtol=1e-6) < 2:
            why.append(f"order {order} is the same for all outputs")
            continue
        directions, left = _joint(best.slices, rng)
        if left <= _FITS:
            found = best, directions, left
            break
        why.append(f"order {order} leaves {left:.0%} open")
    if found is None:
        raise NotApplicable(
            f"moments of {len(units)} units do not tell {count} samples apart: {', '.join(why)}; a wider "
            "first layer, fewer samples or more outputs"
        )
    best, directions, left = found
    rows = (best.basis @ directions).T
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows *= np.where(rows.sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    return Apart(_sized(seen, rows, weights, gradients), best.order, best.stands, left)


def _check(weights: list[Reals], pixels: int, count: int) -> None:
    if len(weights) != 3 or weights[0].ndim != 2 or weights[0].shape[1] - pixels not in (0, 1):
        raise NotApplicable("the network is not of two dense layers")
    first = weights[0]
    if len(first) < UNITS:
        raise NotApplicable(f"the first layer has {len(first)} units: {UNITS} at least, thousands are asked")
    if first[:, pixels:].any():
        raise NotApplicable("the first layer has biases that are not zero: it is not as it was drawn")
    units = first[:, :pixels] / first[:, :pixels].std()
    off = np.abs(units.T @ units / len(units) - np.eye(pixels)).max()
    if off > _DRAWN / np.sqrt(len(units)) or count > pixels:
        raise NotApplicable(
            "the weights of the first layer depend on one another: they are not as they were drawn"
        )


def _rest(gradient: Reals, units: Reals) -> Reals:
    """g (k, h) without its mean and what is linear in w, and what all outputs share."""
    known = np.column_stack([np.ones(len(units)), units])
    left: Reals = gradient - (known @ np.linalg.lstsq(known, gradient.T, rcond=None)[0]).T
    return left


@dataclass(frozen=True)
class _Moments:
    """Slices (q, b, b) of moments in a basis (n, b) of what they span, and how far it is above the noise."""

    order: int
    basis: Reals
    slices: Reals
    stands: float


def _moments(parts: Reals, units: Reals, count: int, order: int, rng: np.random.Generator) -> _Moments:
    n = units.shape[1]
    if order == 2:
        slices = _slices(parts, units)
    else:
        turned = np.linalg.qr(rng.standard_normal((n, n)))[0][:, :_DIRECTIONS]
        along = units @ turned
        slices = np.concatenate([_slices(parts * a, units) for a in along.T])
    basis, values, _ = np.linalg.svd(np.hstack(list(slices)), full_matrices=False)
    basis = basis[:, :count]
    noise = values[count] if len(values) > count else 0.0
    if order == 3:  # all of it, now that it is small
        low = units @ basis
        slices = np.concatenate([_slices(parts * a, low) for a in low.T])
    else:
        slices = np.stack([basis.T @ each @ basis for each in slices])
    return _Moments(order, basis, slices, float(values[count - 1] / max(noise, 1e-300)))


def _slices(parts: Reals, units: Reals) -> Reals:
    """mean_j g_c(w_j) w_j w_j^T for each output, (k, n, n)."""
    found = np.zeros((len(parts), units.shape[1], units.shape[1]))
    for start in range(0, len(units), _AT_ONCE):
        some = units[start : start + _AT_ONCE]
        for c, g in enumerate(parts[:, start : start + _AT_ONCE]):
            found[c] += (some * g[:, None]).T @ some
    return found / len(units)


def _joint(slices: Reals, rng: np.random.Generator) -> tuple[Reals, float]:
    """Directions (b, b), columns of length 1, of which all slices (q, b, b) are about sums of squares, and
    the share of them that is not.
    """
    flat = slices.reshape(len(slices), -1).T
    best, least = np.eye(slices.shape[1]), np.inf
    for _ in range(_TRIES):
        one, other = (np.tensordot(rng.standard_normal(len(slices)), slices, 1) for _ in range(2))
        if np.linalg.cond(other) > 1e12:
            continue
        found = np.real(np.linalg.eig(one @ np.linalg.inv(other))[1])
        squares = np.stack([np.outer(c, c).ravel() for c in found.T], axis=1)
        left = np.linalg.norm(flat - squares @ np.linalg.lstsq(squares, flat, rcond=None)[0])
        if left < least:
            best, least = found, float(left)
    return best, least / float(np.linalg.norm(flat) or 1.0)


def _sized(seen: Gradient, rows: Reals, weights: list[Reals], gradients: list[Reals]) -> Reals:
    """Rows (b, n) of length 1 at the lengths for which errors exist that explain the gradients of the last
    layer: g_c(w_j) = sum_i r_ic s(w_j x_i), and of its biases sum_i r_ic.
    """
    asked = [torch.tensor(w, dtype=torch.float64).requires_grad_() for w in weights]
    target = np.vstack([gradients[1].T, gradients[2] * np.sqrt(len(weights[0]))])
    scale = np.abs(target).max()

    def left(logs: Reals) -> Reals:
        x = torch.tensor(rows * np.exp(logs)[:, None])
        known = np.vstack([_activations(seen, asked, x), np.full(len(rows), np.sqrt(len(weights[0])))])
        errors = np.linalg.lstsq(known, target, rcond=None)[0]
        found: Reals = ((known @ errors - target) / scale).ravel()
        return found

    bright = np.log(1.0 / np.abs(rows).max(axis=1))  # where the brightest pixel is 1
    found = least_squares(left, bright, bounds=(bright - 3.0, bright + 3.0), max_nfev=30)
    sized: Reals = rows * np.exp(found.x)[:, None]
    return sized


def _activations(seen: Gradient, weights: list[Any], x: torch.Tensor) -> Reals:
    """s(W x) (h, b): the gradient by the weights of an output over that by its bias, sample by sample."""
    found = []
    for one in x:
        y = torch.eye(len(weights[2]), dtype=x.dtype)[:1]
        last, bias = torch.autograd.grad(seen.loss(weights, one[None], y), weights[1:])
        c = int(bias.abs().argmax())
        found.append((last[c] / bias[c]).numpy())
    return np.stack(found, axis=1)
