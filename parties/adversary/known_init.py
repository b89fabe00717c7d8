"""Samples of a split network whose first W1 is public, because both sides share a seed (`--init shared`).

The public code of the mitigations' authors seeds owner and server alike, so the cloud can draw W1(0) itself. MITIG2: Z1 = W1(0) x are h exact equations on
every sample of the first step. If they determine them (h >= n), dZ1 and the samples give the next W1, computed by the owner's own step in float32,
and so on: each batch at its first use, under any optimizer. With h < n the first batch is rebuilt as `smooth` does, and there it stops: W1
of the next step is only bounded then. MITIG1: the keys of step 0 work on every ciphertext: h integer equations on all samples.

Assumes the shared seed. Cost: one singular value decomposition (h x n) a step; under MITIG1 h decryptions a sample, 10 000 in all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from parties.adversary import smooth
from parties.adversary.attack import LIMIT, NotApplicable, Prior, Quantity, Reconstruction
from parties.adversary.equations import offsets
from parties.adversary.hiding import PRODUCTS, Hiding
from parties.adversary.solvers.exact import Echelon, solve_exactly
from parties.adversary.solvers.polytope import equations
from parties.adversary.trajectory import Use, by_use, need_same_batches, need_split, uses
from parties.adversary.weights import Stack
from parties.record.view import Kind, Row, View
from protocols.network import nn
from protocols.network.config import Config, Init
from protocols.parts import averaging

NAME = "known_init"
SUMMARY = "the first W1 is known, from a shared seed: equations on the first batch, every sample for h >= n"
CONSUMES = ("z1, dz1 | ct, sk_w1", "--init shared")

Reals = NDArray[np.float64]
_STEPS = 4096  # uses of batches that are followed


def reconstruct(view: View, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Return the samples that W1(0) gives away, solved or smoothed."""
    del rng  # nothing here is drawn
    need_split(view, *("ct", "sk_w1") if view.protocol == "mitig1" else ("z1", "dz1"))
    need_same_batches(view.config)
    if view.config.init is not Init.SHARED:
        raise NotApplicable("W1 was drawn in private: no seed is shared (--init shared)")
    return _on_ciphertexts(view, prior) if view.protocol == "mitig1" else _on_z1(view, prior)


def first_w1(config: Config) -> nn.Weight:
    """W1(0), drawn again."""
    return nn.draw_public(config)


def _on_z1(view: View, prior: Prior) -> Reconstruction:
    """MITIG2: solve batch after batch and train W1 along, until one is not determined."""
    config = view.config
    z1, dz1 = by_use(view, "z1", Kind.RECEIVED), by_use(view, "dz1", Kind.SENT)
    known: dict[int, NDArray[np.int64]] = {}
    stopped: list[tuple[Use, Stack, Reals]] = []
    last = 0
    for use, w in _replay(view, known, dz1):
        row = z1.get((use.step, use.owner))
        if row is None or use.start in known:
            continue
        z, stack = np.asarray(view.value(row), np.float64), Stack.of([np.asarray(w, np.float64)])
        x = stack.solved(z, config.pixel_unit, config.x_max)
        if x is None:
            stopped.append((use, stack, z))
        else:
            known[use.start], last = x, use.step
    return _put_together(config, prior, known, stopped, last)


def _replay(
    view: View, known: dict[int, NDArray[np.int64]], dz1: dict[tuple[int, int], Row]
) -> Iterator[tuple[Use, NDArray[np.float32]]]:
    """(use, W1 at it) as long as all samples that W1 was trained on are `known`, which the caller adds to in between."""
    config = view.config
    mean = first_w1(config).value
    copies: dict[int, nn.Weight] = {}
    for _, steps in uses(config, _STEPS):
        for use in steps[
            0
        ]:  # handed out to the owners of the round; the optimizer's memory stays where everyone takes part
            if use.owner not in copies or not config.everyone:
                copies[use.owner] = nn.track(mean.clone(), config)
            copies[use.owner].value.copy_(mean)
        for step in steps:
            yield from ((use, copies[use.owner].value.numpy()) for use in step)
            if not all(use.start in known and (use.step, use.owner) in dz1 for use in step):
                return
            for use in step:
                errors = torch.from_numpy(np.array(view.value(dz1[use.step, use.owner]), dtype=np.float32))
                gradient = nn.first_layer_gradient(errors, known[use.start], config.pixel_unit)
                nn.descend(copies[use.owner], gradient, config)
        mean = torch.from_numpy(averaging.mean([copies[use.owner].value.numpy() for use in steps[0]]))


def _put_together(
    config: Config,
    prior: Prior,
    known: dict[int, NDArray[np.int64]],
    stopped: list[tuple[Use, Stack, Reals]],
    last: int,
) -> Reconstruction:
    index = [start + np.arange(len(x)) for start, x in known.items()]
    images, left, ranks = [x / prior.x_max for x in known.values()], LIMIT, []
    for use, stack, z in stopped:
        if left:
            index.append(use.index[:left])
            images.append(stack.smoothed(z[:left], config.pixel_unit, prior))
            ranks.append(stack.rank(z))
            left -= len(index[-1])
    if not index:
        raise NotApplicable("the view ends before the first step")
    total, solved = sum(config.counts), sum(map(len, known.values()))
    notes = {"solved": solved, "smoothed": LIMIT - left, "rank_of_smoothed": ranks, "samples": total}
    if stopped:
        notes["stopped_at_step"] = stopped[0][0].step
    return Reconstruction(
        Quantity.IMAGES,
        np.concatenate(index),
        np.vstack(images),
        last if solved == total else None,
        notes=notes,
    )


def _on_ciphertexts(view: View, prior: Prior) -> Reconstruction:
    """MITIG1: [W1(0)] is an integer matrix, and its keys work on every ciphertext of the owners of the first round."""
    config, hiding = view.config, Hiding(view)
    w = config.weights.quantise(first_w1(config).value.numpy(), "W1").astype(np.int64)
    echelon = Echelon(config.features)
    fresh = echelon.add(w)
    owners = [use.owner for use in next(uses(config))[1][0]]
    where, images, per_owner = (
        [],
        [],
        PRODUCTS // (len(owners) * len(w)) if echelon.full else LIMIT // len(owners) + 1,
    )
    solver = None if echelon.full else smooth.prepare(equations(w, prior), prior)
    for owner in owners:
        sk, count = hiding.keys(0, owner), min(config.counts[owner], per_owner)
        if sk is None:
            raise NotApplicable("the view ends before the keys of the first step")
        z = hiding.products(owner, sk, 0, count)
        where.append(offsets(config)[owner] + np.arange(count))
        images.append(
            _solved(w[fresh], z[:, fresh], prior) if solver is None else np.array([solver(r)[0] for r in z])
        )
    notes = {"equations_per_sample": len(w), "rank": echelon.rank}
    done = 0 if echelon.full else None
    return Reconstruction(Quantity.IMAGES, np.concatenate(where), np.vstack(images), done, notes=notes)


def _solved(rows: NDArray[np.int64], z: NDArray[np.int64], prior: Prior) -> Reals:
    x = solve_exactly(rows, z.T.copy())
    return np.full((len(z), rows.shape[1]), np.nan) if x is None else x.T / prior.x_max
