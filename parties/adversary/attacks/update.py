"""Samples of many owners from copies of W1 that somebody sees before and after an owner trained them.

The authority hands out W1 and gets a copy W1' back: W1 - W1' = sum_u a_u dZ1_u^T X_u over an owner's uses of
its batches so far, where the coefficients hold learning rate, batch size, local steps and, where everyone
takes part in every round, what momentum carries over from earlier rounds. With the cloud, dZ1 is known: h
equations for each pixel, which determine an owner's samples while those that are new since the last average
are at most h; what was solved is taken out of later equations, and those of later rounds are stacked where
one was not enough. Where only averages are known, their changes are such sums over all owners. Without the
cloud the changes still span the samples: the authority learns that space.

Averaging is known to leak updates; the equations are this project's derivation. Assumes SGD. Secure
aggregation would hide the single copies. Cost: one singular value decomposition (h x samples) a round and
owner.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.solvers.moves import changes, computable, own, placed, samples_of
from parties.adversary.solvers.portions import Portions
from protocols.language.relations import KnownMap, Samples, Update, now

NAME = "update"
SUMMARY = (
    "many owners: samples from the copies of W1 that the authority averages, with the cloud's dZ1; "
    "their span without"
)
CONSUMES = (KnownMap, Update)

Reals = NDArray[np.float64]
Change = tuple[Update, Reals, float]


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Return the samples of all owners outside of the view, or the span of some of them."""
    del rng  # nothing here is drawn
    every = changes(relations)
    if not every:
        raise NotApplicable(
            "the view ends before W1 was seen before and after the training of an owner outside of it"
        )
    if not any(computable(update.terms, update.steps) for update, _, _ in every):
        return _span(every)
    return _samples(relations, every, prior)


def solve_updates(relations: Relations, every: list[Change], prior: Prior) -> tuple[Portions, dict[int, int]]:
    """The samples that the changes determine, and how many became known in each round, in order of time."""
    rows = Portions(relations.count(), prior.pixels, prior.x_max)
    for mine in relations.of(Samples):
        rows.learn(mine.samples, np.asarray(now(mine.values), dtype=np.int64))
    found: dict[int, int] = {}
    for update, change, noise in sorted(every, key=lambda c: (c[0].since, c[0].after.owner)):
        if computable(update.terms, update.steps):
            fresh = rows.add(placed(update.terms, update.steps, len(rows.x)), change, noise)
            found[update.since] = found.get(update.since, 0) + len(fresh)
    return rows, found


def _samples(relations: Relations, every: list[Change], prior: Prior) -> Reconstruction:
    rows, found = solve_updates(relations, every, prior)
    index = np.unique(np.concatenate([samples_of(update) for update, _, _ in every]))
    index = np.setdiff1d(index, own(relations))
    solved = rows.solved[index]
    if not solved.any():
        h, most = every[0][1].shape[0], max(len(samples_of(update)) for update, _, _ in every)
        raise NotApplicable(f"no sample is determined: up to {most} samples since an average, h = {h}")
    values = np.where(solved[:, None], rows.x[index] / prior.x_max, np.nan)
    last = max(step for step, fresh in found.items() if fresh)
    notes = {
        "solved": int(solved.sum()),
        "used": len(index),
        "solved_by_step": [[step, fresh] for step, fresh in found.items() if fresh],
    }
    return Reconstruction(Quantity.IMAGES, index, values, last if solved.all() else None, notes=notes)


def _span(every: list[Change]) -> Reconstruction:
    """The space of the samples of the first change in which all of them show; of the first change if they
    never do.
    """
    best, dimensions = None, []
    for update, change, noise in sorted(every, key=lambda c: (c[0].since, c[0].after.owner)):
        samples = samples_of(update)
        basis = span(change, noise)[: len(samples)]
        dimensions.append([update.since, update.after.owner, len(basis), len(samples)])
        if best is None or (len(basis) == len(samples)) > (len(best[1]) == len(best[0])):
            best = samples, basis, update.since
    assert best is not None
    notes = {"step_owner_dimensions_samples": dimensions[:100]}
    return Reconstruction(Quantity.SPAN, best[0], best[1], best[2], notes=notes)


def span(change: Reals, noise: float) -> Reals:
    """Orthonormal rows (d, n) of what a change (h, n) with errors of about `noise` spans beyond them."""
    _, s, vt = np.linalg.svd(change, full_matrices=False)
    spread_of_noise = noise * (np.sqrt(change.shape[0]) + np.sqrt(change.shape[1]))
    basis: Reals = vt[s > spread_of_noise]
    return basis
