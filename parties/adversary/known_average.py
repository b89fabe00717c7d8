"""Cloud and one of many owners: W1 is known after each average, so Z1 = W1 X^T are exact equations on the others' samples.

Behind the preset `collusion`. The corrupted owner is handed the W1 with which everybody begins a round. For every other owner's first batch of the round
the cloud's Z1 gives h exact equations a sample, as plain FE does; those of all rounds that begin with the same batch are stacked, and once their rank is
n the samples come out as integers. In later local steps an owner's W1 follows from dZ1 and the samples that it used before, once these are solved. Under
MITIG1 the keys of a rounded average work on every ciphertext, and all equations are over the integers. What is not determined is rebuilt as `smooth`
does, the first samples only; directions in which the weights of several rounds hardly differ, so that float32 hides them, are left out.

That a corrupted owner knows the average is part of the protocol; the equations are this project's derivation. Assumes SGD where local steps are
followed. Cost: one singular value decomposition a batch; under MITIG1 n decryptions a sample, 10 000 in all; a quadratic program an image that is smoothed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from parties.adversary import smooth
from parties.adversary.attack import LIMIT, NotApplicable, Prior, Quantity, Reconstruction
from parties.adversary.equations import offsets
from parties.adversary.hiding import PRODUCTS, Hiding
from parties.adversary.solvers.exact import Echelon, solve_exactly
from parties.adversary.solvers.polytope import equations
from parties.adversary.solvers.rows import Rows
from parties.adversary.trajectory import (
    Trajectory,
    Use,
    by_use,
    errors_of,
    need_same_batches,
    need_split,
    owners_of,
    spread,
    trajectory,
    uses,
)
from parties.adversary.weights import Stack
from parties.record.view import Kind, View
from protocols.crypto import fhipe
from protocols.network.config import Config, Optimizer

NAME = "known_average"
SUMMARY = "many owners: equations on the others' samples from the averages that one corrupted owner is given"
CONSUMES = ("w1_mean of a corrupted owner", "z1 | ct, sk_w1")

Reals = NDArray[np.float64]


def reconstruct(view: View, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Return the samples of the owners outside of the view that were used, solved or smoothed."""
    del rng  # nothing here is drawn
    need_split(view, *("ct", "sk_w1") if view.protocol == "mitig1" else ("z1",))
    need_same_batches(view.config)
    means = averages(view)
    if not means:
        raise NotApplicable(f"the view of {', '.join(view.parties)} holds no w1_mean: W1 is unknown to it")
    corrupted = owners_of(view)
    if len(corrupted) == len(view.config.counts):
        raise NotApplicable("every owner is corrupted: nothing is left to rebuild")
    return (
        _on_ciphertexts(view, prior, means, corrupted)
        if view.protocol == "mitig1"
        else _on_z1(view, prior, means, corrupted)
    )


def averages(view: View) -> dict[int, Reals]:
    """{round: W1 (h, n)} that an owner or the authority of the view knows its beginning by."""
    return {
        row.round: np.asarray(value, np.float64)
        for row, value in view.values("w1_mean")
        if row.phase == "average"
    }


@dataclass
class _Batch:
    """What was collected of one batch of another owner: its positions, and W1 and Z1 of every use with W1 known."""

    index: NDArray[np.int64]
    w: list[Reals] = field(default_factory=list)
    z: list[Reals] = field(default_factory=list)


def _on_z1(view: View, prior: Prior, means: dict[int, Reals], corrupted: list[int]) -> Reconstruction:
    """MITIG2: batch by batch, in order of time."""
    config = view.config
    path, rows = trajectory(config), by_use(view, "z1", Kind.RECEIVED)
    errors = errors_of(view, path.uses) if config.optimizer is Optimizer.SGD else []
    found, met = Rows(sum(config.counts), config.features, config.x_max), dict[int, _Batch]()
    last = 0
    for k, use in enumerate(path.uses):
        if use.owner in corrupted or (use.step, use.owner) not in rows:
            continue
        w, batch = (
            _weights_at(config, path, k, means, errors, found),
            met.setdefault(use.start, _Batch(use.index)),
        )
        if w is None or found.solved[use.start]:
            continue
        batch.w.append(w)
        batch.z.append(np.asarray(view.value(rows[use.step, use.owner]), np.float64))
        x = Stack.of(batch.w).solved(np.hstack(batch.z), config.pixel_unit, config.x_max)
        if x is not None:
            found.learn(use.index, x)
            last = use.step
    return _put_together(prior, config, found, list(met.values()), last)


def _weights_at(
    config: Config, path: Trajectory, k: int, means: dict[int, Reals], errors: list[Reals], found: Rows
) -> Reals | None:
    """W1 (h, n) at a use, or None if it is not known: the average, less what an owner's earlier steps of the round changed."""
    use = path.uses[k]
    if use.round not in means:
        return None
    change = path.at[k] - path.starts[use.round]
    (moved,) = np.nonzero(change)
    if not len(moved):
        return None if _local(path, use) and not errors else means[use.round]
    solved = all(u < len(errors) and found.solved[path.uses[u].index].all() for u in moved)
    if not solved:
        return None
    moved_by: NDArray[np.float64] = spread(change, path.uses, errors, len(found.x)).T @ found.x
    return means[use.round] - moved_by / float(config.pixel_unit)


def _local(path: Trajectory, use: Use) -> bool:
    """Whether the owner has already trained in this round."""
    return any(u.round == use.round and u.owner == use.owner and u.step < use.step for u in path.uses)


def _put_together(prior: Prior, config: Config, found: Rows, met: list[_Batch], last: int) -> Reconstruction:
    """What was solved, and the first of the others smoothed."""
    (index,) = np.nonzero(found.solved)
    where, images, ranks, left = [index], [found.x[index] / prior.x_max], [], LIMIT
    for batch in (b for b in met if b.w and not found.solved[b.index[0]] and left):
        stack, z = Stack.of(batch.w), np.hstack(batch.z)[:left]
        where.append(batch.index[: len(z)])
        images.append(stack.smoothed(z, config.pixel_unit, prior))
        ranks.append(stack.rank(z))
        left -= len(z)
    if not sum(map(len, where)):
        raise NotApplicable("the view ends before another owner's batch was used with a W1 that is known")
    used = np.concatenate([b.index for b in met])
    notes = {"solved": len(index), "used": len(used), "smoothed": LIMIT - left, "rank_of_smoothed": ranks}
    whole = bool(found.solved[used].all())
    return Reconstruction(
        Quantity.IMAGES, np.concatenate(where), np.vstack(images), last if whole else None, notes=notes
    )


def _on_ciphertexts(
    view: View, prior: Prior, means: dict[int, Reals], corrupted: list[int]
) -> Reconstruction:
    """MITIG1: owner by owner; the rounded averages are the integers that its keys stand for."""
    config, hiding = view.config, Hiding(view)
    others = [i for i in range(len(config.counts)) if i not in corrupted]
    where, images, notes, last, solved = [], [], [], 0, 0
    for owner in others:
        opening = [
            steps[0][0].step
            for n, steps in uses(config)
            if n in means and any(u.owner == owner for u in steps[0])
        ]
        w, keys, step = independent(
            config, hiding, owner, {s: means[s // config.local_steps] for s in opening}
        )
        if not len(w):
            continue
        full = len(w) == config.features
        count = min(
            config.counts[owner], PRODUCTS // (len(others) * len(w)) if full else LIMIT // len(others) + 1
        )
        x = _from_products(w, hiding.products(owner, keys, 0, count), full, prior)
        where.append(offsets(config)[owner] + np.arange(count))
        images.append(x)
        notes.append([owner, len(w), count])
        last, solved = max(last, step), solved + count * full
    if not where:
        raise NotApplicable("the view ends before another owner's keys for a W1 that is known")
    index = np.concatenate(where)
    said = {"owner_rank_samples": notes, "solved": solved}
    return Reconstruction(
        Quantity.IMAGES, index, np.vstack(images), last if solved == len(index) else None, notes=said
    )


def independent(
    config: Config, hiding: Hiding, owner: int, known: dict[int, Reals]
) -> tuple[NDArray[np.int64], object, int]:
    """(rows (r, n) of rounded W1s that are independent, an owner's keys for them, the step of the last) of {step: W1}."""
    echelon, keys, rows, last = (
        Echelon(config.features),
        [],
        [np.zeros((0, config.features), dtype=np.int64)],
        0,
    )
    for step, w1 in known.items():
        sk = None if echelon.full else hiding.keys(step, owner)
        if sk is None:
            continue
        rounded = config.weights.quantise(w1).astype(np.int64)
        fresh = echelon.add(rounded)
        if len(fresh):
            keys += [fhipe.rows(sk, int(i), int(i) + 1) for i in fresh]
            rows.append(rounded[fresh])
            last = step
    return np.vstack(rows), fhipe.concat(keys) if keys else None, last


def _from_products(w: NDArray[np.int64], z: NDArray[np.int64], full: bool, prior: Prior) -> Reals:
    """Images (m, n) in [0, 1] of exact integer equations z (m, r) = x w^T."""
    if full:
        x = solve_exactly(w, z.T.copy())
        return np.full((len(z), w.shape[1]), np.nan) if x is None else x.T / prior.x_max
    solver = smooth.prepare(equations(w, prior), prior)
    return np.array([solver(row)[0] for row in z])
