"""The linear equations on the samples of a batch that the first layer's gradients give: dW1 = dZ1^T X_B / B.

Three views of plain FE hold them, each in its own form:

* the cloud under `gradient=fe` holds function keys for the rounded dZ1 of every step, and each of them works on the `ct_batch` of every
  batch: exact integer equations;
* the cloud under `gradient=owner` sent dZ1 and received dW1, both in float32;
* the authority under `gradient=fe` sees the rounded W1 and dZ1 of every step: `key_requests.py`.

Samples are numbered as in `equations.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.equations import offsets, public_key
from parties.adversary.solvers.exact import Echelon, solve_determined
from parties.record.view import Kind, Row, View
from protocols import plain_fe
from protocols.network.config import Batch, Config, batches, steps_per_epoch

Reals = NDArray[np.float64]
_FLOAT = 2.0**-24  # the relative error of one rounding to float32


@dataclass(frozen=True)
class Visit:
    """What one use of a batch says of its samples X (B, n): A X = b + error, with |error| at most `bound` in each row.

    `a` (r, B), `b` (r, n) and `bound` (r,) in pixel steps; rows that say nothing are left out.
    """

    step: int
    a: Reals
    b: Reals
    bound: Reals


@dataclass(frozen=True)
class Opened:
    """Samples that exact equations gave away: positions `index` (m,), integers `x` (m, n), and since which round each (m,)."""

    index: NDArray[np.int64]
    x: NDArray[np.int64]
    steps: NDArray[np.int64]


def positions(config: Config, batch: Batch) -> NDArray[np.int64]:
    """Where the samples of a batch stand among all."""
    return offsets(config)[batch.owner] + np.arange(batch.start, batch.stop)


def rounds_of(view: View, label: str, *kinds: Kind) -> dict[int, Row]:
    """The rows of a label in training, by round; those of a prediction are left out."""
    return {row.round: row for row in view.rows(label, *kinds) if row.phase == "step"}


# --- the cloud, gradient=fe ---------------------------------------------------------------------------------------------------


@dataclass
class BatchKeys:
    """Independent keys for vectors of length B, as they concern a batch of `size` samples: beyond them it holds zeros.

    `steps` (size,): the round whose keys determined a sample, -1 while none did.
    """

    size: int
    echelon: Echelon = field(init=False)
    keys: list[Any] = field(default_factory=list)
    steps: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.echelon, self.steps = Echelon(self.size), np.full(self.size, -1, dtype=np.int64)

    def add(self, round_: int, sk: Any) -> None:
        """Take the keys of a step that say something new."""
        fresh = self.echelon.add(sk.y[:, : self.size])
        if len(fresh):
            self.keys.append(replace(sk, y=sk.y[fresh], sk=sk.sk[fresh]))
            self.steps[self.echelon.determined() & (self.steps < 0)] = round_


def batch_keys(view: View) -> dict[int, BatchKeys]:
    """The keys for dZ1 by the size of the batches that they serve; read until they determine every sample of each."""
    found = {batch.size: BatchKeys(batch.size) for batch in batches(view.config)}
    for row, sk in view.values("sk_dz1", Kind.RECEIVED, Kind.SENT):
        for keys in found.values():
            keys.add(row.round, sk)
        if all(keys.echelon.full for keys in found.values()):
            break
    return found


def opened_batches(view: View) -> Iterator[Opened]:
    """What the keys for dZ1 open: the samples of every batch in the view, one batch in memory at a time."""
    config, mpk = view.config, public_key(view, "mpk_batch")
    scheme, keys = plain_fe.scheme_of(config), batch_keys(view)
    for batch, ct in _batch_ciphertexts(view):
        some = keys[batch.size]
        if not some.keys:
            continue
        vectors = np.vstack([np.asarray(key.y, dtype=np.int64) for key in some.keys])[:, : batch.size]
        loaded = scheme.load(mpk, ct)
        z = np.hstack([scheme.decrypt(mpk, key, loaded) for key in some.keys])  # (n, keys)
        solved = solve_determined(vectors, z.T)
        if solved is None:
            continue
        which = solved[0] & (solved[1] <= config.x_max).all(axis=1)
        yield Opened(positions(config, batch)[which], solved[1][which], some.steps[which])


def _batch_ciphertexts(view: View) -> Iterator[tuple[Batch, Any]]:
    """(batch, ciphertexts of the rows of X_B^T) of every upload that came."""
    config, rows = view.config, plain_fe.upload_rows(view.config)
    by_start = {(batch.owner, batch.start): batch for batch in batches(config)}
    for row, cts in view.values("ct_batch", Kind.RECEIVED):
        owner = int(row.sender.partition(":")[2])
        for i, ct in enumerate(cts):
            yield by_start[owner, row.round * rows + i * config.batch], ct


# --- the cloud, gradient=owner ------------------------------------------------------------------------------------------------


def owner_visits(view: View) -> Iterator[tuple[Batch, Iterator[Visit]]]:
    """Every batch with its visits, in order, of which dW1 came back in the clear."""
    config, per_epoch = view.config, steps_per_epoch(view.config)
    sent, back = rounds_of(view, "dz1"), rounds_of(view, "dw1", Kind.RECEIVED)
    for batch in batches(config):
        steps = [t for t in sorted(back) if t % per_epoch == batch.number and t in sent]
        yield batch, (_owner_visit(view, t, sent[t], back[t]) for t in steps)


def _owner_visit(view: View, step: int, sent: Row, back: Row) -> Visit:
    """dZ1^T X = B unit dW1.

    The owner rounds X / unit, a sum of B products and its quotient by B to float32: (B + 3) roundings at most of a sum that no
    order of adding makes larger than |dZ1|^T x_max.
    """
    config, a = view.config, np.asarray(view.value(sent), dtype=np.float64).T
    size = a.shape[1]
    b = np.asarray(view.value(back), dtype=np.float64) * size * config.pixel_unit
    bound = (size + 3) * _FLOAT * np.abs(a).sum(axis=1) * config.x_max
    used = bound > 0  # a unit that no sample of the batch activates says nothing
    return Visit(step, a[used], b[used], bound[used])
