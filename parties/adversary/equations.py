"""The linear equations that a view of plain FE holds: every function key works on every ciphertext of its master key.

Samples are numbered as the view received them: all of owner 0, then owner 1, and so on, each in the order of its uploads. Where each
epoch has a master key of its own, the same samples come encrypted anew, so that the equations of all epochs hold for each; where
each batch has one, a batch has the equations of its own visits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable
from parties.record.view import Kind, Row, View
from protocols import plain_fe
from protocols.language.roles import DATA_OWNER, index_of, party_name
from protocols.network.config import Batch, Config, KeyScope, batches, chunks, steps_per_epoch

_CIPHERTEXTS = ("ct", "ct_labels")


@dataclass(frozen=True)
class Scope:
    """Which keys are taken together: those of an epoch, those for a batch, or (with neither) those of the whole run."""

    epoch: int | None = None
    batch: Batch | None = None

    def holds(self, config: Config, step: int) -> bool:
        """Whether the keys of a step belong to it."""
        epoch, number = divmod(step, steps_per_epoch(config))
        return self.epoch in (None, epoch) and (self.batch is None or self.batch.number == number)


ALL = Scope()


@dataclass(frozen=True)
class Observation:
    """Exact equations z = X w^T on some samples: `index` (m,), `w` (h, n), `z` (m, h), known since round `step`."""

    step: int
    index: NDArray[np.int64]
    w: NDArray[np.int64]
    z: NDArray[np.int64]


@dataclass(frozen=True)
class Keys:
    """n independent function keys (or as many as there are): their vectors, the keys themselves, and the rank by step.

    `determined`: how many pixels the equations determine after each message, as `ranks` has the rank. `steps` says in which step
    each of `keys` came, from which its master key follows; `scope` what they were taken from.
    """

    vectors: NDArray[np.int64]
    keys: tuple[Any, ...]
    ranks: tuple[tuple[int, int], ...]
    columns: int
    determined: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()
    scope: Scope = ALL

    @property
    def full(self) -> bool:
        """Whether the keys determine every sample."""
        return bool(self.ranks) and self.ranks[-1][1] == self.columns

    @property
    def rank(self) -> int:
        """Rank of the keys."""
        return self.ranks[-1][1] if self.ranks else 0

    @property
    def solved_at_step(self) -> int | None:
        """The round in which the rank became n."""
        return self.ranks[-1][0] if self.full else None


def need(view: View, *labels: str) -> None:
    """Raise `NotApplicable` unless the view holds these labels, with payloads.

    Ciphertexts count where they were received: what an owner encrypted itself is its input and no finding.
    """
    for label in labels:
        if label not in view or (label in _CIPHERTEXTS and not received(view, label)):
            raise NotApplicable(f"the view of {', '.join(view.parties)} holds no {label}")
    if not view.has_payloads():
        raise NotApplicable("payloads not recorded")


def received(view: View, label: str) -> bool:
    """Whether a party of the view was sent this label."""
    return any(True for _ in view.rows(label, Kind.RECEIVED))


def offsets(config: Config) -> tuple[int, ...]:
    """Position of each owner's first sample."""
    return tuple(accumulate(config.counts[:-1], initial=0))


def public_key(view: View, label: str = "mpk", scope: Scope = ALL) -> Any:
    """The public key that was published under a label: the first, or that of an epoch or a batch."""
    config = view.config
    if label != "mpk" or config.keys_for is KeyScope.RUN:
        return next(view.values(label))[1]
    if config.keys_for is KeyScope.EPOCH:
        rows = (row for row in view.rows(label) if max(row.round, 0) == (scope.epoch or 0))
        return view.value(next(rows))
    batch = scope.batch or next(batches(config))
    part = batch.start // config.batch
    row = next(row for row in view.rows(label, Kind.RECEIVED) if row.round == part and row.dtype == "list")
    return view.value(row)[batch.owner]


def systems(config: Config) -> Iterator[Scope]:
    """What can be solved by itself: all samples, or each batch where it has keys of its own."""
    if config.keys_for is KeyScope.BATCH:
        yield from (Scope(batch=batch) for batch in batches(config))
    else:
        yield ALL


def instances(config: Config) -> Iterator[Scope]:
    """What has a master key of its own: the whole run, each epoch, or each batch."""
    if config.keys_for is KeyScope.EPOCH:
        yield from (Scope(epoch=epoch) for epoch in range(config.epochs))
    else:
        yield from systems(config)


def independent_keys(view: View, scope: Scope = ALL) -> Keys:
    """Read function keys for samples until their vectors have full rank; `ranks` holds (round, rank) after each message."""
    from parties.adversary.solvers.exact import Echelon

    config = view.config
    echelon = Echelon(config.features)
    vectors, keys, ranks, determined, steps = [], [], [], [], []
    for row in view.rows("sk_w1", Kind.RECEIVED, Kind.SENT):
        if not scope.holds(config, row.round):
            continue
        sk = view.value(row)
        order = _order(config, len(sk.y))
        fresh = order[echelon.add(sk.y[order])]
        if len(fresh):
            vectors.append(np.asarray(sk.y, dtype=np.int64)[fresh])
            keys.append(replace(sk, y=sk.y[fresh], sk=sk.sk[fresh]))
            steps.append(row.round)
        ranks.append((row.round, echelon.rank))
        determined.append(int(echelon.determined().sum()))
        if echelon.full:
            break
    stacked = np.vstack(vectors) if vectors else np.zeros((0, echelon.columns), dtype=np.int64)
    return Keys(stacked, tuple(keys), tuple(ranks), echelon.columns, tuple(determined), tuple(steps), scope)


def _order(config: Config, count: int) -> NDArray[np.int64]:
    """The order in which the rows of a message are tried.

    Those of a convolution come in a fixed random order: one kernel at all of its positions and then the next gives
    independent rows whose condition grows exponentially with the image (from 1e16 at 28 x 28), too much for a
    solution in floating point; random ones have 1e5.
    """
    return np.random.default_rng(0).permutation(count) if config.first else np.arange(count)


def ciphertexts(view: View, scope: Scope = ALL) -> Iterator[tuple[int, Any]]:
    """(position of the first sample, loaded ciphertexts) of every upload under a master key, one in memory at a time."""
    config, mpk = view.config, public_key(view, scope=scope)
    scheme = plain_fe.scheme_of(config)
    for row in view.rows("ct"):
        if _encrypts(config, row, scope):
            yield _position(config, row), scheme.load(mpk, view.value(row))


def inner_products(
    view: View, keys: Keys, limit: int | None = None
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """(position of the first sample, Z (m, number of keys)) for every upload, by decryption with every key.

    A key is applied to the ciphertexts of its own master key; with `limit`, to the first samples of each upload.
    """
    config, uploads = view.config, _Uploads(view)
    scheme = plain_fe.scheme_of(config)
    wanted = keys.scope.batch
    for owner, part in uploads.parts() if wanted is None else [(wanted.owner, wanted.start // config.batch)]:
        z = []
        for step, key in zip(keys.steps, keys.keys, strict=True):
            mpk, ct = uploads.load(owner, part, _epoch(config, step))
            z.append(
                scheme.decrypt(mpk, key, ct if limit is None else scheme.rows(ct, 0, min(limit, ct.shape[0])))
            )
        yield offsets(config)[owner] + part * plain_fe.upload_rows(config), np.hstack(z)


def first_observations(view: View) -> Iterator[Observation]:
    """What each sample gives away when its batch is first used: the equations of that step's keys alone.

    Where a budget refused new keys, those that C was granted last were used in their place.
    """
    config, start = view.config, offsets(view.config)
    scheme, uploads = plain_fe.scheme_of(config), _Uploads(view)
    rows = {row.round: row for row in view.rows("sk_w1")}
    last = None
    for batch in batches(config):
        last = rows.get(batch.number, last if config.budget == "yes" else None)
        if last is None:
            return
        sk = view.value(last)
        mpk, ct = uploads.batch(batch)
        index = start[batch.owner] + np.arange(batch.start, batch.stop)
        yield Observation(batch.number, index, np.asarray(sk.y, dtype=np.int64), scheme.decrypt(mpk, sk, ct))


class _Uploads:
    """Finds the ciphertexts of a batch, with their public key; keeps the last uploads that were read."""

    def __init__(self, view: View) -> None:
        self._config, self._view = view.config, view
        self._rows = {(index_of(row.sender), row.round): row for row in view.rows("ct")}
        self._parts = chunks(self._config, plain_fe.upload_rows(self._config))
        self.load = lru_cache(maxsize=2)(self._load)

    def parts(self) -> list[tuple[int, int]]:
        """(owner, number) of every upload, of the first epoch."""
        return sorted(key for key in self._rows if key[1] < self._parts)

    def _load(self, owner: int, part: int, epoch: int) -> tuple[Any, Any]:
        scheme, row = plain_fe.scheme_of(self._config), self._rows[owner, epoch * self._parts + part]
        mpk = public_key(self._view, scope=_scope(self._config, owner, part, epoch))
        return mpk, scheme.load(mpk, self._view.value(row))

    def batch(self, batch: Batch) -> tuple[Any, Any]:
        """(public key, ciphertexts) of a batch in the first epoch."""
        part, start = divmod(batch.start, plain_fe.upload_rows(self._config))
        mpk, ct = self.load(batch.owner, part, 0)
        return mpk, plain_fe.scheme_of(self._config).rows(ct, start, start + batch.size)


def _scope(config: Config, owner: int, part: int, epoch: int) -> Scope:
    """The instance that an upload belongs to."""
    if config.keys_for is KeyScope.EPOCH:
        return Scope(epoch=epoch)
    if config.keys_for is KeyScope.BATCH:
        return Scope(
            batch=next(b for b in batches(config) if (b.owner, b.start) == (owner, part * config.batch))
        )
    return ALL


def _epoch(config: Config, step: int) -> int:
    """The epoch whose master key the keys of a step belong to; 0 where that does not change."""
    return step // steps_per_epoch(config) if config.keys_for is KeyScope.EPOCH else 0


def _encrypts(config: Config, row: Row, scope: Scope) -> bool:
    """Whether an upload is under the master key of a scope; without any, whether it is of the first epoch."""
    if scope.batch is not None:
        batch = scope.batch
        return (row.sender, row.round) == (party_name(DATA_OWNER, batch.owner), batch.start // config.batch)
    return row.round // chunks(config, plain_fe.upload_rows(config)) == (scope.epoch or 0)


def _position(config: Config, row: Row) -> int:
    parts = chunks(config, plain_fe.upload_rows(config))
    return offsets(config)[index_of(row.sender)] + row.round % parts * plain_fe.upload_rows(config)
