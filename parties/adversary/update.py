"""Samples of many owners from the copies of W1 that the authority averages.

The authority hands out W1 and gets a copy W1' back: W1 - W1' = sum_u a_u dZ1_u^T X_u over an owner's uses of its batches so far, where the coefficients
hold learning rate, batch size, local steps and, where everyone takes part in every round, what momentum carries over from earlier rounds.
With the cloud, dZ1 is known: h equations for each pixel, which determine an owner's samples while those that are new since the last average are at
most h; what was solved is taken out of later equations, and those of later rounds are stacked where one was not enough.
Without the cloud the changes still span the samples: the authority learns that space.

Averaging is known to leak updates; the equations are this project's derivation. Assumes SGD. Secure aggregation would hide the single copies.
Cost: one singular value decomposition (h x samples) a round and owner.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction
from parties.adversary.solvers.rows import Rows
from parties.adversary.trajectory import (
    Trajectory,
    Use,
    errors_of,
    need_sgd,
    need_split,
    owners_of,
    spread,
    trajectory,
    uses,
)
from parties.record.view import Kind, View
from protocols.language.roles import index_of
from protocols.network.config import Config

NAME = "update"
SUMMARY = "many owners: samples from the copies of W1 that the authority averages, with the cloud's dZ1; their span without"
CONSUMES = ("w1_mean", "w1_copy", "dz1 for more than the span")

Reals = NDArray[np.float64]
_FLOAT = float(np.finfo(np.float32).eps)


def reconstruct(view: View, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Return the samples of all owners outside of the view, or the span of some of them."""
    del rng  # nothing here is drawn
    need_split(view, "w1_mean", "w1_copy")
    need_sgd(view.config)
    corrupted = owners_of(view)
    copies = {key: value for key, value in changes(view).items() if key[1] not in corrupted}
    if not copies:
        raise NotApplicable("the view ends before the first copy of an owner outside of it")
    if not any(True for _ in view.rows("dz1", Kind.SENT)):
        return _span(view, copies)
    return _samples(view, copies, prior)


def changes(view: View, only: tuple[int, int] | None = None) -> dict[tuple[int, int], tuple[Reals, float]]:
    """{(round, owner): (W1 - W1' (h, n), about the error of an entry)} of every round that the authority saw whole, or `only` one."""
    means = {row.round: row for row in view.rows("w1_mean", Kind.SENT) if row.phase == "average"}
    found, steps = {}, view.config.local_steps
    for row in view.rows("w1_copy", Kind.RECEIVED):
        which = row.round, index_of(row.sender)
        if row.phase == "average" and row.round in means and only in (None, which):
            before, after = (np.asarray(view.value(r), np.float64) for r in (means[row.round], row))
            # Each local step rounds W1 to float32 once.
            found[which] = (before - after, _FLOAT * float(np.abs(after).max()) * float(np.sqrt(steps)))
    return found


def solve_updates(
    path: Trajectory, errors: list[Reals], copies: dict[tuple[int, int], tuple[Reals, float]], config: Config
) -> tuple[Rows, dict[int, list[int]]]:
    """The samples that the changes determine, and how many became known in each round, by owner-rounds in order of time."""
    rows = Rows(sum(config.counts), config.features, config.x_max)
    found: dict[int, list[int]] = {}
    for (number, owner), (change, noise) in sorted(copies.items()):
        mine = [k for k, use in enumerate(path.uses) if use.owner == owner and use.round <= number]
        if number >= len(path.starts) or not mine or mine[-1] >= len(errors):
            continue
        weights = path.ends[number, owner] - path.starts[number]
        fresh = rows.add(
            spread(weights, path.uses, errors, len(rows.x)),
            change * config.pixel_unit,
            noise * config.pixel_unit,
        )
        found.setdefault(number, []).extend(fresh.tolist())
    return rows, found


def _samples(view: View, copies: dict[tuple[int, int], tuple[Reals, float]], prior: Prior) -> Reconstruction:
    config = view.config
    path = trajectory(config)
    rows, found = solve_updates(path, errors_of(view, path.uses), copies, config)
    if not rows.solved.any():
        raise NotApplicable(
            f"no sample is determined: {config.local_steps} x {config.batch} samples since an average, h = {config.layers[0]}"
        )
    honest = {owner for _, owner in copies}
    seen = [
        use.index
        for use in path.uses
        if use.owner in honest and use.round <= max(number for number, _ in copies)
    ]
    index = np.unique(np.concatenate(seen))
    values = np.where(rows.solved[index][:, None], rows.x[index] / prior.x_max, np.nan)
    last = max(number for number, fresh in found.items() if fresh)
    notes = {"solved": int(rows.solved[index].sum()), "used": len(index),
             "solved_by_round": [[number, len(fresh)] for number, fresh in found.items() if fresh]}  # fmt: skip
    done = (last + 1) * config.local_steps - 1 if rows.solved[index].all() else None
    return Reconstruction(Quantity.IMAGES, index, values, done, notes=notes)


def _span(view: View, copies: dict[tuple[int, int], tuple[Reals, float]]) -> Reconstruction:
    """The space of the samples of one owner's first round in which all of them show; the first round if they never do."""
    config, best = view.config, None
    plan = {(number, use.owner): use for number, steps in uses(config) for use in steps[0]}
    dimensions = []
    for (number, owner), (change, noise) in sorted(copies.items()):
        if number > 0 and config.everyone and config.momentum:
            continue  # with what momentum carries over, earlier samples are in it too
        samples = _together(config, number, owner)
        basis = span(change, noise)[: len(samples)]
        dimensions.append([number, owner, len(basis), len(samples)])
        if (number, owner) in plan and (
            best is None or (len(basis) == len(samples)) > (len(best[1]) == len(best[0]))
        ):
            best = samples, basis, number
    if best is None:
        raise NotApplicable("no change of W1 shows anything beyond rounding")
    samples, basis, number = best
    notes = {"round_owner_dimensions_samples": dimensions[:100]}
    return Reconstruction(Quantity.SPAN, samples, basis, (number + 1) * config.local_steps - 1, notes=notes)


def span(change: Reals, noise: float) -> Reals:
    """Orthonormal rows (d, n) of what a change (h, n) with errors of about `noise` spans beyond them."""
    _, s, vt = np.linalg.svd(change, full_matrices=False)
    spread_of_noise = noise * (np.sqrt(change.shape[0]) + np.sqrt(change.shape[1]))
    basis: Reals = vt[s > spread_of_noise]
    return basis


def _together(config: Config, number: int, owner: int) -> NDArray[np.int64]:
    """Positions of the samples that an owner uses in a round."""
    steps = next(steps for at, steps in uses(config) if at == number)
    mine: list[Use] = [use for step in steps for use in step if use.owner == owner]
    return np.unique(np.concatenate([use.index for use in mine]))
