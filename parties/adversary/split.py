"""What views of MITIG1 and MITIG2 give away about samples, as far as it follows by linear algebra from what crossed.

* The cloud knows Z1 = W1 X^T and not W1: its samples up to a linear map, and from the changes of Z1 their inner products (`gram.py`).
* The authority that averages knows an owner's W1 before and after a round, and W1 - W1' = sum_u a_u dZ1_u^T X_u (`update.py`): their span.
* Authority and cloud know dZ1 too: h equations for each pixel of the samples X_t, exact while these are at most h, and then solved here.
* Cloud and one owner know the W1 that a round begins with: Z1 = W1 X^T for every other owner's batch, exact equations.
* With a first convolution whoever knows its kernels and Z1 has more equations than there are pixels (`kernels.py`).
* Authority and cloud of MITIG1 hold master key and ciphertexts: keys of unit vectors open them.

That averaging and split learning leak updates is known; the equations above are this project's derivation for these protocols.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from parties.adversary import gram, kernels, known_init
from parties.adversary.attack import Learned, NotApplicable, Prior
from parties.adversary.equations import offsets
from parties.adversary.hiding import Hiding
from parties.adversary.known_average import averages, independent
from parties.adversary.solvers.exact import solve_exactly
from parties.adversary.solvers.rows import integer_share
from parties.adversary.trajectory import (
    PROTOCOLS,
    Use,
    by_use,
    errors_of,
    owners_of,
    spread,
    trajectory,
    uses,
)
from parties.adversary.update import changes, span
from parties.record.view import Kind, View
from protocols.crypto import fhipe
from protocols.crypto.coins import Coins
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY, index_of, party_name, role_of
from protocols.network.config import Aggregation, Config, Init, Optimizer, Order

_GRAM_SAMPLES = 256  # up to which a Gram matrix is computed at the end of every run: a second
_EVERY = 1_000_000  # uses of batches that are counted
_WHOLE = 1e-4  # of a pixel's quantum: float32 images that were solved in integers
_GRAM_ERROR = 0.001  # expected relative error up to which a Gram matrix counts as exact: the estimate can be some times too low
Reals = NDArray[np.float64]


def samples(view: View) -> list[Learned]:
    """Lines about the samples of owners outside of the view."""
    if view.protocol not in PROTOCOLS:
        return []
    if view.config.first:
        return kernels.samples(view)
    roles = {role_of(party) for party in view.parties}
    found: list[Learned] = []
    if KEY_AUTHORITY in roles and CLOUD_TRAINER in roles and view.protocol == "mitig1":
        found += opened(view)
    if KEY_AUTHORITY in roles:
        found += updates(view)
    elif DATA_OWNER in roles and view.config.owners == "many":
        found += summed_updates(view)
    if KEY_AUTHORITY in roles and CLOUD_TRAINER not in roles and view.config.owners == "one":
        found += requested(view)
    if CLOUD_TRAINER in roles and DATA_OWNER in roles:
        found += others_of(view)
    return found if roles != {CLOUD_TRAINER} else hidden(view)


def hidden(view: View) -> list[Learned]:
    """The cloud alone: Z1, with W1 unknown."""
    label = "z1" if view.protocol == "mitig2" else "sk_w1"
    rows = list(view.rows(label, Kind.RECEIVED))
    if not rows:
        return []
    h, total = view.config.layers[0], sum(view.config.counts)
    seen = (
        "of each batch in its step"
        if label == "z1"
        else "of every sample in every step, as keys work on all ciphertexts"
    )
    if view.config.init is Init.SHARED:
        detail = f"Z1 = W1 x with W1(0) public and later ones followed as far as samples are solved: {h} numbers a step, {seen}"
        return [
            *from_public_start(view),
            _line(view, f"all {total} samples", "bounded", detail, 0),
            gram_line(view),
        ]
    detail = f"Z1 = W1 x with W1 unknown: {h} numbers a step, {seen}"
    return [_line(view, f"all {total} samples", "bounded", detail, 0), gram_line(view)]


def from_public_start(view: View) -> list[Learned]:
    """The cloud, where W1(0) was drawn from a public seed: W1, and the samples that it solves for."""
    config = view.config
    party = ", ".join(view.parties)
    found = [Learned(party, "weights", "W1(0)", "exact", "drawn from a public seed", 0)]
    try:
        rebuilt = known_init.reconstruct(
            view, Prior(config.x_max, config.shape or (1, config.features)), np.random.default_rng(0)
        )
    except NotApplicable:
        return found
    exact = (
        np.abs(rebuilt.values * config.x_max - np.rint(rebuilt.values * config.x_max)).max(
            axis=1, initial=0.0
        )
        < _WHOLE
    )
    count, total = int(exact.sum()), sum(config.counts)
    if not count:
        return found
    of = f"all {total} samples" if count == total else f"{count} of {total} samples"
    return [*found, _line(view, of, "exact", "Z1 = W1 x with W1 known: solved in integers", 0)]


def gram_line(view: View) -> Learned:
    """The cloud alone: the inner products of all samples, computed where that is quick."""
    of = f"all {sum(view.config.counts)} samples"

    def line(how: str, detail: str, since: int | None = None) -> Learned:
        return Learned(", ".join(view.parties), "gram", of, how, detail, since)

    if view.protocol == "mitig1" and view.has_payloads():
        return line(*_first_update(view))
    try:
        found = gram.solve(view, samples=_GRAM_SAMPLES)
    except NotApplicable as reason:
        return line("bounded", f"not determined: {reason}")
    error = found.noise / float(np.sqrt(np.nanmean(found.values**2)))
    detail = f"from changes of Z1: rank {found.ranks[0]} of {found.unknowns}, {found.pairs:.0%} of the pairs, expected error {error:.1g}"
    return line("exact" if found.pairs == 1.0 and error < _GRAM_ERROR else "bounded", detail, found.step)


def _first_update(view: View) -> tuple[str, str, int | None]:
    """MITIG1: what the first update shows, without a decryption."""
    config = view.config
    if config.optimizer is Optimizer.ADAM:
        return "bounded", "not determined: the owner uses Adam, W1 is no linear function of the samples", None
    first = next(uses(config), None)
    errors = errors_of(view, () if first is None else first[1][0][:1])
    if not errors or len(by_use(view, "sk_w1", Kind.RECEIVED)) < 2:
        return "bounded", "the view ends before an update of W1 was seen", None
    rank, size = int(np.linalg.matrix_rank(errors[0])), len(errors[0])
    which = "their" if rank == size else "some of their"
    detail = f"Z1' - Z1 of all samples after an update with rank dZ1 = {rank} for {size} samples: {which} inner products with all (not decrypted here)"
    return "bounded", detail, 1


def requested(view: View) -> list[Learned]:
    """The authority that is asked for keys: the rounded W1 of every step."""
    if not any(row.phase == "step" for row in view.rows("w1", Kind.RECEIVED)):
        return []
    detail = "W1(t) - W1(t+1) of its key requests are combinations of the samples, up to rounding"
    return [_line(view, f"all {sum(view.config.counts)} samples", "bounded", detail, 0)]


def opened(view: View) -> list[Learned]:
    """Authority and cloud: the master key opens ciphertexts; one is opened to prove it."""
    msks, row = list(view.values("msk", Kind.SENT)), next(iter(view.rows("ct", Kind.RECEIVED)), None)
    if not view.has_payloads() or not msks or row is None:
        return []
    owner = index_of(row.sender)
    msk, pp, ct = msks[owner][1], next(view.values("pp", Kind.RECEIVED))[1][owner], view.value(row)
    bounds = msk.params.bounds
    units = fhipe.key_derive(msk, np.eye(bounds.length, dtype=np.int64), Coins(os.urandom(32)))
    x = fhipe.decrypt(pp, units, fhipe.rows(ct, 0, 1))
    proven = bool((x >= 0).all() and (x <= bounds.x).all())
    detail = "keys of unit vectors, made with the master key, open the ciphertexts; 1 of 1 tried gives pixels"
    return [_line(view, f"all {sum(view.config.counts)} samples", "exact", detail, 0)] if proven else []


def updates(view: View) -> list[Learned]:
    """The authority, and with the cloud: W1 - W1' of the first owner's first round."""
    config = view.config
    if config.aggregation is Aggregation.SECURE:
        return summed_updates(view)
    if config.owners == "one" or not any(True for _ in view.rows("w1_copy", Kind.RECEIVED)):
        return []
    _, steps = next(uses(config, len(config.counts) * config.local_steps))
    corrupted = owners_of(view)
    owner = next((use.owner for use in steps[0] if use.owner not in corrupted), None)
    if owner is None:
        return []
    mine = [use for step in steps for use in step if use.owner == owner]
    count, h = sum(use.size for use in mine), config.layers[0]
    of = f"{count} samples of {party_name(DATA_OWNER, owner)}, round 0"
    if config.optimizer is Optimizer.ADAM:
        return [_line(view, of, "bounded", "W1 - W1' is no linear function of the samples under Adam", 0)]
    if not view.has_payloads():
        return [
            _line(
                view,
                of,
                "bounded",
                f"W1 - W1' spans them ({count} samples, h = {h}; payloads not recorded)",
                0,
            )
        ]
    found = changes(view, (0, owner)).get((0, owner))
    if found is None:
        return []
    if not any(True for _ in view.rows("dz1", Kind.SENT)):
        detail = f"W1 - W1' spans {min(count, len(span(*found)))} dimensions of their space"
        return [_line(view, of, "bounded", detail, 0)]
    return [_line(view, of, *_solved(found[0] * config.pixel_unit, _weights(view, owner, mine), config), 0)]


def summed_updates(view: View) -> list[Learned]:
    """Who knows the average before and after the first round, and not the copies: the sum of all W1 - W1', of which an owner knows its part.

    The authority under secure aggregation, and every owner. With dZ1 of the cloud the others' samples follow while they are at most h in all.
    """
    config, corrupted = view.config, owners_of(view)
    _, steps = next(uses(config, len(config.counts) * config.local_steps))
    every = [use for step in steps for use in step]
    others = [use for use in every if use.owner not in corrupted]
    means = {row.round: row for row in view.rows("w1_mean") if row.phase == "average"}
    if not others or not means:
        return []
    count, owners = sum(use.size for use in others), len({use.owner for use in others})
    of = f"{count} samples of {owners} other owners, round 0"
    detail = f"W1 - W1' of the average, less one's own part, is a combination of them ({min(count, config.layers[0])} dimensions)"
    solvable = (
        config.optimizer is Optimizer.SGD and view.has_payloads() and CLOUD_TRAINER.value in view.parties
    )
    if not solvable or not config.everyone or not {0, 1} <= means.keys() or config.order is not Order.FIXED:
        return [_line(view, of, "bounded", detail, 0)]
    before, after = (np.asarray(view.value(means[number]), np.float64) for number in (0, 1))
    path = trajectory(config, 2 * len(config.counts) * config.local_steps)
    errors = errors_of(view, path.uses)
    if not errors:
        return [_line(view, of, "bounded", detail, 0)]
    placed = spread(path.starts[1], path.uses, errors, sum(config.counts))
    change, first = (before - after) * config.pixel_unit, offsets(config)
    for row, images in (
        (r, v) for r, v in view.values("images", Kind.INPUT) if index_of(r.party) in corrupted
    ):
        start = first[index_of(row.party)]
        change -= placed[start : start + len(images)].T @ np.asarray(images, np.float64)
    index = np.unique(np.concatenate([use.index for use in others]))
    return [_line(view, of, *_solved(change, placed[index], config), 0)]


def others_of(view: View) -> list[Learned]:
    """Cloud and one owner: the equations on the first batch of the next owner, each time that it opens a round."""
    config, corrupted = view.config, owners_of(view)
    if len(config.counts) == len(corrupted) or not view.has_payloads():
        return []
    other = next(i for i in range(len(config.counts)) if i not in corrupted)
    means = averages(view)
    met = [
        use
        for number, steps in uses(config, _EVERY)
        if number in means
        for use in steps[0]
        if use.owner == other
    ]
    if not met:
        return []
    if view.protocol == "mitig1":  # its keys work on every ciphertext
        return [_all_of(view, other, {use.step: means[use.round] for use in met})]
    same = [use for use in met if np.array_equal(use.index, met[0].index)]
    same = same[:1] if config.order is Order.PRIVATE else same  # then the same places hold other samples
    return [_first_batch(view, other, same, [means[use.round] for use in same])]


def _first_batch(view: View, other: int, met: list[Use], means: list[Reals]) -> Learned:
    """MITIG2: the equations on one batch of an owner, solved if they suffice."""
    config, name = view.config, party_name(DATA_OWNER, other)
    known, full = np.vstack(means), _full_at(means, config.features)
    which, since = f"the first batch of {name}", met[full or 0].step
    detail = f"Z1 = W1 x with the averaged W1 known: rank {_rank(known)} of {config.features}"
    if full is None:
        return _line(view, which, "bounded", detail, since)
    rows = by_use(view, "z1", Kind.RECEIVED)
    z1 = np.hstack([np.asarray(view.value(rows[use.step, other]), np.float64) for use in met])
    share = integer_share(z1 @ np.linalg.pinv(known).T * config.pixel_unit, config.x_max)
    how = "exact" if share == 1.0 else "bounded"
    return _line(view, which, how, f"{detail}; {share:.0%} of the pixels come out as integers", since)


def _all_of(view: View, other: int, known: dict[int, Reals]) -> Learned:
    """MITIG1: the keys of the rounded averages, by step, work on every ciphertext of an owner; one is solved for if they suffice."""
    config, hiding, which = view.config, Hiding(view), f"all samples of {party_name(DATA_OWNER, other)}"
    w, keys, last = independent(config, hiding, other, known)
    detail = f"Z1 = [W1] x with the rounded average known: rank {len(w)} of {config.features}"
    if len(w) < config.features:
        return _line(view, which, "bounded", detail, min(known))
    solved = solve_exactly(w, hiding.products(other, keys, 0, 1).T.copy()) is not None
    said = f"{detail}; 1 of 1 tried is solved" if solved else detail
    return _line(view, which, "exact" if solved else "bounded", said, last)


def _full_at(matrices: list[Reals], columns: int) -> int | None:
    """How many matrices, less one, it takes until their rows have full rank; None if they never do."""
    enough = range(max(1, -(-columns // len(matrices[0]))), len(matrices) + 1)
    return next((k - 1 for k in enough if _rank(np.vstack(matrices[:k])) == columns), None)


def _weights(view: View, owner: int, mine: list[Use]) -> Reals:
    """a_u dZ1_u (samples, h) of an owner's first round, a row for each of its samples."""
    # As if it were the only owner: before the first average the others do not matter, and thousands of them would take memory.
    alone = replace(view.config, counts=(view.config.counts[owner],), per_round=0)
    path, rows = trajectory(alone, len(mine)), by_use(view, "dz1", Kind.SENT)
    errors = [np.asarray(view.value(rows[use.step, owner]), np.float64) for use in mine]
    placed = spread(path.ends[0, 0], path.uses, errors, alone.counts[0])
    rows_used: Reals = placed[np.unique(np.concatenate([use.index for use in path.uses]))]
    return rows_used


def _solved(change: Reals, weights: Reals, config: Config) -> tuple[str, str]:
    """(how, detail) of solving weights^T X = change for the samples X."""
    rank = _rank(weights)
    share = integer_share(np.linalg.pinv(weights.T) @ change, config.x_max)
    detail = f"W1 - W1' and dZ1: rank {rank} for {len(weights)} samples; {share:.0%} of the pixels come out as integers"
    return "exact" if rank == len(weights) and share == 1.0 else "bounded", detail


def _rank(matrix: Reals) -> int:
    """Numerical rank of what crossed in float32."""
    values = np.linalg.svd(matrix, compute_uv=False)
    return int((values > values.max(initial=0.0) * max(matrix.shape) * np.finfo(np.float32).eps).sum())


def _line(view: View, of: str, how: str, detail: str, since: int) -> Learned:
    return Learned(", ".join(view.parties), "samples", of, how, detail, since)
