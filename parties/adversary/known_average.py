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
from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction
from parties.adversary.equations import offsets
from parties.adversary.hiding import PRODUCTS, Hiding
from parties.adversary.linear import Echelon, solve_exactly
from parties.adversary.polytope import equations
from parties.adversary.rows import Rows
from parties.adversary.single import LIMIT
from parties.adversary.trajectory import Use, by_use, errors_of, need_split, owners_of, spread, trajectory
from parties.adversary.weights import Stack, rounding, smoothed
from parties.transcript import Kind, View
from protocols.config import Config, Optimizer
from protocols.crypto import fhipe
from protocols.roles import DATA_OWNER

NAME = "known_average"
SUMMARY = "many owners: equations on the others' samples from the averages that one corrupted owner is given"
CONSUMES = ("w1_mean of a corrupted owner", "z1 | ct, sk_w1")

Reals = NDArray[np.float64]


def reconstruct(view: View, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Return the samples of the owners outside of the view that were used, solved or smoothed."""
    del rng  # nothing here is drawn
    need_split(view, *("ct", "sk_w1") if view.protocol == "mitig1" else ("z1",))
    means = averages(view)
    if not means:
        raise NotApplicable(f"the view of {', '.join(view.parties)} holds no w1_mean: W1 is unknown to it")
    corrupted = owners_of(view)
    if len(corrupted) == len(view.config.counts):
        raise NotApplicable("every owner is corrupted: nothing is left to rebuild")
    return _on_ciphertexts(view, prior, means, corrupted) if view.protocol == "mitig1" else _on_z1(view, prior, means, corrupted)


def averages(view: View) -> dict[int, Reals]:
    """{round: W1 (h, n)} that an owner or the authority of the view knows its beginning by."""
    return {row.round: np.asarray(value, np.float64) for row, value in view.values("w1_mean") if row.phase == "average"}


@dataclass
class _Batch:
    """What was collected of one batch of another owner."""

    uses: list[Use] = field(default_factory=list)
    w: list[Reals] = field(default_factory=list)
    z: list[Reals] = field(default_factory=list)


def _on_z1(view: View, prior: Prior, means: dict[int, Reals], corrupted: list[int]) -> Reconstruction:
    config = view.config
    path, rows = trajectory(config), by_use(view, "z1", Kind.RECEIVED)
    errors = errors_of(view, path.uses) if config.optimizer is Optimizer.SGD else []
    found = Rows(sum(config.counts), config.features, config.x_max)
    met: dict[int, _Batch] = {}
    solved_at = {}
    for k, use in enumerate(path.uses):
        if use.owner in corrupted or (use.step, use.owner) not in rows:
            continue
        w = _weights_at(config, path, k, means, errors, found)
        batch = met.setdefault(use.start, _Batch())
        if w is None or found.solved[use.start]:
            continue
        batch.uses.append(use)
        batch.w.append(w)
        batch.z.append(np.asarray(view.value(rows[use.step, use.owner]), np.float64))
        x = Stack.of(batch.w).integers(np.hstack(batch.z), config)
        if x is not None:
            found.learn(use.index, x)
            solved_at[use.start] = use.step
    return _put_together(view, prior, found, met, solved_at)
