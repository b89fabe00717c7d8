"""Solve the first layer's gradients for the samples: dW1 = dZ1^T X_B / B has one solution X_B once dZ1 has rank B.

That gradients of a dense layer give its inputs away is known (L. Phong et al., IEEE TIFS 13(5), 2018); here it is taken to plain FE, whose
cloud and authority hold them in three forms (`gradients.py`). The strongest that the view holds is used:

* function keys for dZ1 and `ct_batch`: exact integers. Keys of any step work on every batch, so those of the first step open all;
* dZ1 and dW1 in float32: least squares, each row weighted by a bound on its rounding, then rounded to integers. A sample is taken
  when its propagated error is far below half a pixel step and all of its pixels come out as integers, it is then subtracted from
  the rest, and a batch is checked against its gradients within that bound. Later visits are stacked until the rank is B;
* the requests W1 and dZ1 of the authority, without any ciphertext: an estimate (`key_requests.py`).

Assumes nothing about the data in the first two cases. Costs B decryptions of n elements a batch, or a factorisation B x B a visit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary import key_requests
from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction
from parties.adversary.equations import need, received
from parties.adversary.gradients import Reals, Visit, opened_batches, owner_visits, positions
from parties.record.view import View
from protocols import plain_fe
from protocols.network.config import Config, Gradient, KeyScope, batches

NAME = "gradient"
SUMMARY = "dW1 = dZ1 X_B / B: exact integers from a batch's gradients once dZ1 has rank B"
CONSUMES = ("ct_batch, sk_dz1 | dz1, dw1 | w1, dz1",)

_SURE = 8.0  # standard deviations of the propagated error that fit into half a pixel step
_NEAR = 0.25  # of a pixel step: what is solved must come so close to an integer
_SMALLEST = 1e-14  # singular values below this share of the largest are no information
_LISTED = 100
_CURVE = 200


def reconstruct(view: View, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Solve for the samples of every batch, or estimate them where only the authority's requests are in the view."""
    if view.protocol != plain_fe.NAME:
        raise NotApplicable(f"{view.protocol} sends no gradient of W1: the view holds no ct_batch and no dw1")
    fits(view.config)
    if received(view, "ct_batch"):
        need(view, "mpk_batch", "ct_batch", "sk_dz1")
        return _exact(
            view, prior, _from_keys(view), "function keys for dZ1 on ct_batch: integers, modulo a prime"
        )
    if received(view, "dw1"):
        need(view, "dw1", "dz1")
        return _exact(
            view, prior, _from_owner(view), "dZ1 and dW1 in float32, rounded to integers and checked"
        )
    return key_requests.estimate(view, prior)


def fits(config: Config) -> None:
    """Raise `NotApplicable` for a run whose gradients have another form."""
    if config.first:
        raise NotApplicable(
            "the first layer is a convolution: its gradient is a sum over patches, which this attack does not solve"
        )
    if config.gradient is Gradient.FE and config.keys_for is not KeyScope.RUN:
        raise NotApplicable(
            "batches are encrypted under several instances, or anew in each epoch, which this attack does not follow"
        )


class Solved:
    """Samples as they are solved: pixels (N, n) in steps, NaN while unknown, and since which step (N,), NaN likewise."""

    def __init__(self, samples: int, pixels: int) -> None:
        self.values = np.full((samples, pixels), np.nan, dtype=np.float32)
        self.steps = np.full(samples, np.nan)
        self.visits = 0  # of the batch that needed most

    def take(self, index: NDArray[np.int64], x: NDArray[np.int64], steps: NDArray[np.int64] | int) -> None:
        """Note the samples at some positions."""
        self.values[index], self.steps[index] = x, steps


def _exact(view: View, prior: Prior, solved: Solved, how: str) -> Reconstruction:
    """The result with what could not be separated in its notes."""
    (open_,) = np.nonzero(np.isnan(solved.steps))
    if len(open_) == len(solved.steps):
        raise NotApplicable(
            "dZ1 separates no sample: in every batch its rank is below the number of active samples"
        )
    first = _first_visits(view)
    return Reconstruction(
        quantity=Quantity.IMAGES,
        index=np.arange(len(solved.steps)),
        values=solved.values / np.float32(prior.x_max),
        solved_at_step=int(solved.steps.max()) if not len(open_) else None,
        per_sample={"step": solved.steps},
        notes={
            "how": how,
            "solved": len(solved.steps) - len(open_),
            "solved_by_the_first_visit_of_the_batch": int((solved.steps <= first).sum()),
            "not_separated": len(open_),
            "not_separated_samples": open_[:_LISTED].tolist(),
            "solved_by_step": curve(solved.steps),
        },
    )


def curve(steps: Reals) -> list[list[int]]:
    """[step, samples solved by then], at most some hundred points."""
    known = np.sort(steps[np.isfinite(steps)]).astype(np.int64)
    at = np.unique(known)
    at = at[np.unique(np.linspace(0, len(at) - 1, min(len(at), _CURVE)).astype(np.int64))] if len(at) else at
    return [[int(step), int(np.searchsorted(known, step, side="right"))] for step in at]


def _first_visits(view: View) -> Reals:
    """The step in which each sample is first used (N,)."""
    first = np.zeros(sum(view.config.counts))
    for batch in batches(view.config):
        first[positions(view.config, batch)] = batch.number
    return first


def _from_keys(view: View) -> Solved:
    solved = Solved(sum(view.config.counts), view.config.features)
    for found in opened_batches(view):
        solved.take(found.index, found.x, found.steps)
    return solved


def _from_owner(view: View) -> Solved:
    solved = Solved(sum(view.config.counts), view.config.features)
    for batch, visits in owner_visits(view):
        stack = Stack(batch.size, view.config.features, view.config.x_max)
        seen = []
        for visit in visits:
            seen.append(visit)
            stack.add(visit)
            if stack.done:
                break
        if all(stack.explains(visit) for visit in seen):
            index = positions(view.config, batch)
            solved.take(index[stack.known], stack.x[stack.known], stack.steps[stack.known])
    return solved


class Stack:
    """The equations of all visits of one batch, as a triangle (B x B) and its right side (B x n), and the samples found."""

    def __init__(self, size: int, pixels: int, x_max: int) -> None:
        self._r: Reals = np.zeros((0, size + pixels))
        self._x_max = x_max
        self.x = np.zeros((size, pixels), dtype=np.int64)
        self.known = np.zeros(size, dtype=bool)
        self.steps = np.full(size, -1, dtype=np.int64)

    @property
    def done(self) -> bool:
        """Whether every sample is found."""
        return bool(self.known.all())

    def add(self, visit: Visit) -> None:
        """Take the equations of a visit, and all samples that they separate now."""
        rows = np.hstack([visit.a, visit.b]) / visit.bound[:, None]  # an error of at most 1 in each row
        size, before = len(self.known), self.known.copy()
        q, r = np.linalg.qr(np.vstack([self._r[:, :size], rows[:, :size]]))
        self._r = np.hstack([r, q.T @ np.vstack([self._r[:, size:], rows[:, size:]])])
        while not self.done and self._round():
            pass
        self.steps[self.known & ~before] = visit.step

    def _round(self) -> bool:
        """Round the samples that are determined well enough; whether there were any."""
        size, left = len(self.known), ~self.known
        a, b = self._r[:, :size], self._r[:, size:]
        x, spread = least_squares(a[:, left], b - a[:, self.known] @ self.x[self.known])
        whole = np.rint(x)
        near = (np.abs(x - whole) < _NEAR) & (whole >= 0) & (whole <= self._x_max)
        fits = near.all(axis=1) & (_SURE * spread < 0.5)
        found = np.flatnonzero(left)[fits]
        self.x[found], self.known[found] = whole[fits].astype(np.int64), True
        return bool(len(found))

    def explains(self, visit: Visit) -> bool:
        """Whether what was found fits a visit's gradients within the bound on their rounding, if all was found."""
        residual = np.abs(visit.a @ self.x - visit.b).max(axis=1)
        return not self.done or bool((residual <= visit.bound * (1 + 1e-6)).all())


def least_squares(a: Reals, b: Reals) -> tuple[Reals, Reals]:
    """(X, spread) of A X = B with independent errors of standard deviation 1: the least-norm X and the deviation of each row of X.

    Rows that A does not separate from others have a spread beyond all bounds.
    """
    u, s, vt = np.linalg.svd(a, full_matrices=True)
    width = a.shape[1]
    values = np.zeros(width)
    values[: len(s)] = s
    floor = max(float(values.max(initial=0.0)) * _SMALLEST, np.finfo(float).tiny)
    used = values > floor
    spread = np.sqrt(((vt / np.maximum(values, floor)[:, None]) ** 2).sum(axis=0))
    x: Reals = vt[used].T @ ((u[:, : len(s)].T @ b)[used[: len(s)]] / values[used][:, None])
    return x, spread
