"""What views of MITIG1 and MITIG2 give away about samples, as far as it follows by linear algebra from what crossed.

* The cloud knows Z1 = W1 X^T and not W1: its samples up to a linear map.
* The authority that averages knows an owner's W1 before and after a round, and W1 - W1' = lr sum_t c_t dZ1_t^T X_t / B_t with
  c_t = 1 + m + ... + m^(L - t) for momentum m, in the owner's first round: their span.
* Authority and cloud know dZ1 too: h equations for each pixel of the samples X_t, exact while these are at most h, and then solved here.
* Cloud and one owner know the W1 that a round begins with: Z1 = W1 X^T for every other owner's batch, exact equations.
* Authority and cloud of MITIG1 hold master key and ciphertexts: keys of unit vectors open them.

That averaging and split learning leak updates is known; the equations above are this project's derivation for these protocols.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import Learned
from parties.adversary.linear import Echelon, solve_exactly
from parties.transcript import Kind, Row, View
from protocols.config import Config, Optimizer, Visit, rounds
from protocols.crypto import fhipe
from protocols.crypto.coins import Coins
from protocols.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY, index_of, party_name, role_of

PROTOCOLS = ("mitig1", "mitig2")
_NEAR = 0.25  # of a pixel's quantum: what is solved must come so close to an integer
Reals = NDArray[np.float64]


def samples(view: View) -> list[Learned]:
    """Lines about the samples of owners outside of the view."""
    if view.protocol not in PROTOCOLS:
        return []
    roles = {role_of(party) for party in view.parties}
    found: list[Learned] = []
    if KEY_AUTHORITY in roles and CLOUD_TRAINER in roles and view.protocol == "mitig1":
        found += opened(view)
    if KEY_AUTHORITY in roles:
        found += updates(view)
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
    detail = f"Z1 = W1 x with W1 unknown: {h} numbers a step, {seen}"
    return [_line(view, f"all {total} samples", "bounded", detail, 0)]


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
    if config.owners == "one" or not any(True for _ in view.rows("w1_copy", Kind.RECEIVED)):
        return []
    visits, corrupted = next(rounds(config)), _owners(view)
    owner = next((i for i in visits[0].owners(config) if i not in corrupted), None)
    if owner is None:
        return []
    count = sum(_size(visit, config, owner) for visit in visits)
    of, h = f"{count} samples of {party_name(DATA_OWNER, owner)}, round 0", config.layers[0]
    if config.optimizer is Optimizer.ADAM:
        return [_line(view, of, "bounded", "W1 - W1' is no linear function of the samples under Adam", 0)]
    if not view.has_payloads():
        return [_line(view, of, "bounded", f"W1 - W1' spans them ({count} samples, h = {h}; payloads not recorded)", 0)]
    change = _change(view, owner, config)
    if CLOUD_TRAINER.value not in view.parties:
        detail = f"W1 - W1' spans {min(count, _rank(change, _rounding(view, config)))} dimensions of their space"
        return [_line(view, of, "bounded", detail, 0)]
    return [_line(view, of, *_solved(change, _weights(view, owner, visits, config), config), 0)]


def others_of(view: View) -> list[Learned]:
    """Cloud and one owner: the equations on the first batch of the next owner, each time that it opens a round."""
    config, corrupted = view.config, _owners(view)
    if len(config.counts) == len(corrupted):
        return []
    other = next(i for i in range(len(config.counts)) if i not in corrupted)
    starts = [visits[0] for visits in rounds(config)]
    if not view.has_payloads():
        return []
    means = {row.round: np.asarray(value, np.float64) for row, value in view.values("w1_mean", Kind.RECEIVED)}
    first = next((n for n, v in enumerate(starts) if n in means and other in v.owners(config)), None)
    if first is None:
        return []
    batch = starts[first].rows(config, other)
    every = view.protocol == "mitig1"  # its keys work on every ciphertext
    met = [n for n, v in enumerate(starts) if n in means and other in v.owners(config)
           and (every or v.rows(config, other) == batch)]  # fmt: skip
    if every:
        return [_all_of(view, other, {n: config.weights.quantise(means[n]).astype(np.int64) for n in met})]
    known, name = np.vstack([means[n] for n in met]), party_name(DATA_OWNER, other)
    rank, full = _rank(known), _full_at([means[n] for n in met], config.features)
    since = (first if full is None else met[full]) * config.local_steps
    which, detail = (
        f"the first batch of {name}",
        f"Z1 = W1 x with the averaged W1 known: rank {rank} of {config.features}",
    )
    if full is None:
        return [_line(view, which, "bounded", detail, since)]
    z1 = np.hstack([_z1(view, n * config.local_steps, name) for n in met])
    share = _integer(z1 @ np.linalg.pinv(known).T * config.pixel_unit, config.x_max)
    how = "exact" if share == 1.0 else "bounded"
    return [_line(view, which, how, f"{detail}; {share:.0%} of the pixels come out as integers", since)]


def _all_of(view: View, other: int, known: dict[int, NDArray[np.int64]]) -> Learned:
    """MITIG1: the keys of the rounded averages, by round, work on every ciphertext of an owner; one is solved for if they suffice."""
    config, name = view.config, party_name(DATA_OWNER, other)
    echelon, keys, rows, since = Echelon(config.features), [], [], 0
    for number, w1 in known.items():
        fresh = echelon.add(w1)
        step = number * config.local_steps
        if len(fresh):
            since = step
            sk = _hiding_keys(view, step, other)
            keys += [fhipe.rows(sk, i, i + 1) for i in fresh]
            rows.append(w1[fresh])
        if echelon.full:
            break
    detail = f"Z1 = [W1] x with the rounded average known: rank {echelon.rank} of {config.features}"
    if not echelon.full:
        return _line(view, f"all samples of {name}", "bounded", detail, min(known) * config.local_steps)
    ct = next(v for row, v in view.values("ct", Kind.RECEIVED) if row.sender == name)
    published = list(view.values("pp", Kind.RECEIVED))  # by each owner, or all of them by the authority
    pp = next((value for row, value in published if row.sender == name), None) or published[0][1][other]
    z = fhipe.decrypt(pp, fhipe.concat(keys), fhipe.rows(ct, 0, 1))
    solved = solve_exactly(np.vstack(rows), z.T.copy()) is not None
    return _line(
        view,
        f"all samples of {name}",
        "exact" if solved else "bounded",
        f"{detail}; 1 of 1 tried is solved" if solved else detail,
        since,
    )


def _hiding_keys(view: View, step: int, owner: int) -> Any:
    """The keys of an owner's W1 in a step: sent by itself, or with those of all others by the authority."""
    name, config = party_name(DATA_OWNER, owner), view.config
    rows = [row for row in view.rows("sk_w1", Kind.RECEIVED) if row.round == step]
    own = next((row for row in rows if row.sender == name), None)
    if own is not None:
        return view.value(own)
    members = config.per_round or len(config.counts)
    owners = Visit(step // config.local_steps * members, members, 0).owners(config)
    return view.value(rows[0])[owners.index(owner)]


def _full_at(matrices: list[Reals], columns: int) -> int | None:
    """How many matrices, less one, it takes until their rows have full rank; None if they never do."""
    enough = range(max(1, -(-columns // len(matrices[0]))), len(matrices) + 1)
    return next((k - 1 for k in enough if _rank(np.vstack(matrices[:k])) == columns), None)


def _solved(change: Reals, weights: Reals, config: Config) -> tuple[str, str]:
    """(how, detail) of solving weights^T X = change for the samples X."""
    rank = _rank(weights)
    x = np.linalg.pinv(weights.T) @ change * config.pixel_unit
    share = _integer(x, config.x_max)
    detail = f"W1 - W1' and dZ1: rank {rank} for {len(weights)} samples; {share:.0%} of the pixels come out as integers"
    return "exact" if rank == len(weights) and share == 1.0 else "bounded", detail


def _change(view: View, owner: int, config: Config) -> Reals:
    """(W1 - W1') / lr (h, n) of an owner's first round."""
    before = next(value for row, value in view.values("w1_mean", Kind.SENT) if row.round == 0)
    sender = party_name(DATA_OWNER, owner)
    after = next(v for row, v in view.values("w1_copy", Kind.RECEIVED) if row.round == 0 and row.sender == sender)
    change: Reals = (np.asarray(before, np.float64) - np.asarray(after, np.float64)) / config.lr
    return change


def _weights(view: View, owner: int, visits: tuple[Visit, ...], config: Config) -> Reals:
    """c_t dZ1_t / B_t, one row for each sample of the round."""
    parts = []
    for visit in visits:
        left = len(visits) - visit.local
        factor = sum(config.momentum**k for k in range(left))
        dz1 = np.asarray(_at(view, "dz1", visit.local, party_name(DATA_OWNER, owner)), np.float64)
        parts.append(factor * dz1 / len(dz1))
    return np.vstack(parts)


def _z1(view: View, step: int, sender: str) -> Reals:
    return next(
        np.asarray(v, np.float64)
        for row, v in view.values("z1", Kind.RECEIVED)
        if (row.round, row.sender) == (step, sender)
    )


def _at(view: View, label: str, step: int, receiver: str) -> Any:
    """What the cloud sent to an owner in a step."""
    return next(view.value(row) for row in _steps(view, label) if row.round == step and row.receiver == receiver)


def _steps(view: View, label: str) -> Iterator[Row]:
    return view.rows(label, Kind.SENT)


def _rank(matrix: Reals, noise: float = 0.0) -> int:
    """Numerical rank of what crossed in float32; singular values up to `noise` count as zero."""
    values = np.linalg.svd(matrix, compute_uv=False)
    smallest = max(noise, float(values.max(initial=0.0) * max(matrix.shape) * np.finfo(np.float32).eps))
    return int((values > smallest).sum())


def _rounding(view: View, config: Config) -> float:
    """About the largest singular value that float32's rounding of W1 gives to (W1 - W1') / lr."""
    w1 = np.asarray(next(view.values("w1_mean", Kind.SENT))[1])
    spread = np.sqrt(w1.shape[0]) + np.sqrt(w1.shape[1])
    return float(spread * np.abs(w1).max() * np.finfo(np.float32).eps / config.lr)


def _owners(view: View) -> list[int]:
    return [index_of(party) for party in view.parties if role_of(party) is DATA_OWNER]


def _integer(x: Reals, x_max: int) -> float:
    """Share of the entries that are nearly integers in [0, x_max]."""
    near = np.abs(x - np.rint(x)) < _NEAR
    return float(np.mean(near & (np.rint(x) >= 0) & (np.rint(x) <= x_max)))


def _size(visit: Visit, config: Config, owner: int) -> int:
    rows = visit.rows(config, owner)
    return int(rows.stop - rows.start)


def _line(view: View, of: str, how: str, detail: str, since: int) -> Learned:
    return Learned(", ".join(view.parties), "samples", of, how, detail, since)
