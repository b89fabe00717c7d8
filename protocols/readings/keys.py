"""Inner-product encryption: which keys and which ciphertexts of a view belong to one master key.

There is one for the whole run, or one for each epoch, whose samples come encrypted anew, or one for each
batch. A key works on every ciphertext of its master key, whatever it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from protocols.crypto import ipfe_ddh
from protocols.crypto.coins import Coins
from protocols.language.message import encode
from protocols.language.relations import (
    Array,
    Asked,
    Equations,
    Instance,
    Keys,
    MasterKey,
    Opaque,
    Own,
    Positions,
    Relation,
)
from protocols.language.roles import KEY_AUTHORITY, index_of
from protocols.language.view import Kind, Row, View
from protocols.network.config import KeyScope
from protocols.network.schedule import Batch, batches, chunks, steps_per_epoch
from protocols.readings.samples import Kept, in_rounds, of_batch, offsets


@dataclass(frozen=True)
class Encryption:
    """How a protocol encrypts: the scheme, its parameters, how many samples an upload has, and under which
    labels it crosses.

    `across`: rows of X_B^T are encrypted, batch by batch, in place of samples.
    """

    scheme: ModuleType
    parameters: Any
    rows: int
    mpk: str = "mpk"
    ct: str = "ct"
    sk: str = "sk_w1"
    across: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of time."""
        return self.mpk, self.ct, self.sk


@dataclass(frozen=True)
class Scope:
    """Which master key: that of an epoch, of a batch, or (with neither) of the whole run."""

    epoch: int | None = None
    batch: Batch | None = None

    def holds(self, config: Any, step: int) -> bool:
        """Whether the keys of a step belong to it."""
        epoch, number = divmod(step, steps_per_epoch(config))
        return self.epoch in (None, epoch) and (self.batch is None or self.batch.number == number)

    def uploads(self, config: Any, parts: int) -> list[tuple[int, int]]:
        """(owner, round) of the uploads that belong to it."""
        if self.batch is not None:
            return [(self.batch.owner, self.batch.start // config.batch)]
        first = (self.epoch or 0) * parts
        return [(owner, first + k) for owner in range(len(config.counts)) for k in range(parts)]


def scopes(config: Any) -> Iterator[Scope]:
    """Every master key of a run."""
    if config.keys_for is KeyScope.EPOCH:
        yield from (Scope(epoch=epoch) for epoch in range(config.epochs))
    elif config.keys_for is KeyScope.BATCH:
        yield from (Scope(batch=batch) for batch in batches(config))
    else:
        yield Scope()


def instances(view: View, how: Encryption) -> Iterator[Relation]:
    """An `Instance` for each master key whose ciphertexts the view received, and the master key where it can
    be drawn again.
    """
    yield Opaque(labels=how.labels[:2], why=f"{how.ct}: ciphertexts without function keys")
    uploads = {
        (index_of(row.sender), row.round): row
        for row in view.rows(how.ct, Kind.RECEIVED)
        if row.phase == "upload"
    }
    yield from asked(view, how)
    if KEY_AUTHORITY.value in view.parties and not how.across:
        yield Own("master key", KEY_AUTHORITY.value, "drawn by the authority itself")
    for number, scope in enumerate(scopes(view.config) if uploads else ()):
        instance = _instance(view, how, scope, uploads)
        if instance is None:
            continue
        yield instance
        if KEY_AUTHORITY.value in view.parties and number == 0 and scope.batch is None and not how.across:
            yield MasterKey(
                instance,
                _replayed(view, how, instance.mpk),
                "the authority's coins, put through Setup again",
                labels=how.labels[:2],
            )


def asked(view: View, how: Encryption) -> Iterator[Asked]:
    """The ciphertexts of a query."""
    rows = [row for row in view.rows(how.ct, Kind.RECEIVED) if row.phase == "predict"]
    if rows:
        own = view.config.keys_for is KeyScope.BATCH
        said = "they have an instance of their own: the keys of training do not work on them" if own else ""
        read = None if own else lambda: view.value(rows[0])
        yield Asked(sum(row.shape[0] for row in rows), said, read, labels=(how.ct, how.sk))


def _instance(
    view: View, how: Encryption, scope: Scope, uploads: dict[tuple[int, int], Row]
) -> Instance | None:
    config, mpk = view.config, _public_key(view, how, scope)
    found = [uploads[key] for key in scope.uploads(config, chunks(config, how.rows)) if key in uploads]
    if mpk is None or not found:
        return None
    parts = _parts(config, how, found)

    def loaded(block: int) -> Any:
        row, number, _ = parts[block]
        value = view.value(row)
        return how.scheme.load(mpk(), value[number] if how.across else value)

    load = Kept(loaded, 2)

    def products(some: Any, block: int, which: Positions | None = None) -> Array:
        ct = load(block)
        if which is None:
            return np.asarray(how.scheme.decrypt(mpk(), some, ct))
        runs = np.split(which, np.flatnonzero(np.diff(which) != 1) + 1)
        return np.vstack(
            [how.scheme.decrypt(mpk(), some, how.scheme.rows(ct, int(r[0]), int(r[-1]) + 1)) for r in runs]
        )

    def unlocked(msk: Any, block: int, which: Positions | None = None) -> Array:
        x: Array = how.scheme.open_with_master_key(mpk(), msk, load(block))
        return x if which is None else x[which]

    return Instance(
        tuple(index for _, _, index in parts),
        _keys(view, how, scope),
        products,
        how.scheme,
        mpk,
        rows=lambda sk, which: replace(sk, y=sk.y[which], sk=sk.sk[which]),
        open=unlocked,
        columns=config.features,
        layer=config.conv,
        across=how.across,
        labels=how.labels,
    )


def _parts(config: Any, how: Encryption, rows: list[Row]) -> list[tuple[Row, int, Positions]]:
    """(row, which of its items, positions of its samples) of every block of ciphertexts."""
    first, parts, found = offsets(config), chunks(config, how.rows), []
    for row in rows:
        owner, start = index_of(row.sender), row.round % parts * how.rows
        stop = min(start + how.rows, config.counts[owner])
        if not how.across:
            found.append((row, 0, first[owner] + np.arange(start, stop)))
            continue
        for k, begin in enumerate(range(start, stop, config.batch)):
            found.append((row, k, first[owner] + np.arange(begin, min(begin + config.batch, stop))))
    return found


def _keys(view: View, how: Encryption, scope: Scope) -> Callable[[], Iterator[Keys]]:
    def read() -> Iterator[Keys]:
        for row in view.rows(how.sk, Kind.RECEIVED, Kind.SENT):
            if row.phase != "step" or not scope.holds(view.config, row.round):
                continue
            sk = view.value(row)
            if view.config.first and not how.across:
                # One kernel at all of its positions and then the next gives independent rows whose condition
                # grows exponentially with the image (from 1e16 at 28 x 28); in a fixed random order it is
                # 1e5.
                order = np.random.default_rng(0).permutation(len(sk.y))
                sk = replace(sk, y=sk.y[order], sk=sk.sk[order])
            yield Keys(row.round, sk, np.asarray(sk.y, dtype=np.int64))

    return read


def _public_key(view: View, how: Encryption, scope: Scope) -> Callable[[], Any] | None:
    """The public key of a scope, read once."""
    rows = list(view.rows(how.mpk, Kind.RECEIVED))
    if scope.batch is not None:
        batch = scope.batch
        rows = [row for row in rows if row.round == batch.start // view.config.batch and row.dtype == "list"]
    elif scope.epoch is not None:
        rows = [row for row in rows if max(row.round, 0) == scope.epoch]
    if not rows:
        return None

    def read() -> Any:
        value = view.value(rows[0])
        return value if scope.batch is None else value[scope.batch.owner]

    return Kept(read)


def _replayed(view: View, how: Encryption, published: Callable[[], Any]) -> Callable[[], Any]:
    """The first master key by the scheme's Setup, the first use of the authority's coins; None if it is not
    the published one.
    """

    def secret() -> Any:
        coins = (
            view.value(row) for row in view.rows("coins", Kind.COINS) if row.party == KEY_AUTHORITY.value
        )
        mpk, msk = how.scheme.setup(how.parameters, Coins(bytes(next(coins))))
        if not np.array_equal(encode(mpk), encode(published())):
            return None
        return msk if how.scheme is ipfe_ddh else msk.s

    return secret


def observations(view: View, how: Encryption) -> Iterator[Relation]:
    """What each use of a batch gives away: the equations of that step's keys on the ciphertexts of its
    samples.

    Where a budget refused new keys, those that the cloud was granted last are used in their place.
    """
    config, keys = view.config, in_rounds(view, how.sk, Kind.RECEIVED)
    uploads = {(index_of(row.sender), row.round): row for row in view.rows(how.ct, Kind.RECEIVED)}
    if not keys or not uploads:
        return
    epoch, last, first = list(batches(config)), dict[Scope, Row](), offsets(config)
    found = {scope: _instance(view, how, scope, uploads) for scope in scopes(config)}
    for step in range(max(keys) + 1 if config.budget == "no" else len(epoch) * config.epochs):
        batch = epoch[step % len(epoch)]
        scope = next(s for s in found if s.holds(config, step))
        instance, row = found[scope], keys.get(step, last.get(scope) if config.budget == "yes" else None)
        if row is None or instance is None:
            continue
        last[scope] = row
        block, start = divmod(batch.start, how.rows)
        block = _block(instance, first[batch.owner] + block * how.rows)
        read = _observed(view, row, instance, block, np.arange(start, start + batch.size))
        a, z = (lambda read=read: read()[0]), (lambda read=read: read()[1])
        yield Equations(of_batch(config, batch, first), a, z, labels=how.labels, since=step)


def _block(instance: Instance, first: int) -> int:
    return next(k for k, index in enumerate(instance.blocks) if index[0] == first)


def _observed(view: View, row: Row, instance: Instance, block: int, which: Positions) -> Callable[[], Any]:
    def read() -> tuple[Array, Array]:
        sk = view.value(row)
        return np.asarray(sk.y, dtype=np.int64), instance.products(sk, block, which)

    return Kept(read)
