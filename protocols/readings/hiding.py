"""Function-hiding encryption: every key that a cloud received, on every ciphertext of the same owner, and the
keys of keys.

A key does not tell its vector, but it is known for which map it was derived: the W1 of its owner in its step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from protocols.crypto import fhipe
from protocols.crypto.coins import Coins
from protocols.crypto.groups import workers
from protocols.language.relations import (
    Array,
    Asked,
    Instance,
    Keys,
    MasterKey,
    Opaque,
    Own,
    Positions,
    Relation,
)
from protocols.language.roles import DATA_OWNER, index_of, party_name
from protocols.language.view import Kind, Row, View
from protocols.network.schedule import Visit
from protocols.readings.path import map_at
from protocols.readings.samples import Kept, of_owner

_SECONDS = 0.006  # about what a product of pairings takes


def instances(view: View, upload_rows: int) -> Iterator[Relation]:
    """An `Instance` for each owner whose ciphertexts the view received, and its master key where the view
    holds it.
    """
    yield Opaque(labels=("pp", "ct"), why="ct: ciphertexts without function keys")
    config = view.config
    rows = [row for row in view.rows("ct", Kind.RECEIVED) if row.phase == "predict"]
    if rows:
        said = "Z1 = W1 x for the W1 of every step of training and the last, all of them unknown"
        yield Asked(sum(row.shape[0] for row in rows), said, labels=("ct", "sk_w1"))
    masters = {index_of(row.receiver): row for row in view.rows("msk")}
    for owner, row in masters.items():
        yield Own("master key", row.party, f"of {party_name(DATA_OWNER, owner)}'s samples", labels=("msk",))
    uploads = {
        (index_of(row.sender), row.round): row
        for row in view.rows("ct", Kind.RECEIVED)
        if row.phase == "upload"
    }
    for owner in range(len(config.counts)):
        pp = _parameters(view, owner)
        if pp is None or (owner, 0) not in uploads:
            continue
        instance = _instance(view, owner, pp, uploads, upload_rows)
        yield instance
        if owner in masters:
            read = _secret(view, masters[owner], owner)
            yield MasterKey(instance, read, "the master key that the view holds", labels=("msk", "pp", "ct"))


def _instance(
    view: View, owner: int, pp: Callable[[], Any], uploads: dict[tuple[int, int], Row], upload_rows: int
) -> Instance:
    config: Any = view.config

    def loaded(part: int, start: int, stop: int) -> Any:
        return fhipe.load(pp(), fhipe.rows(view.value(uploads[owner, part]), start, stop))

    load = Kept(loaded, 256)

    def products(some: Any, block: int, which: Positions | None = None) -> Array:
        which = np.arange(config.counts[owner]) if which is None else which
        parts = [load(*piece) for piece in _pieces(which, upload_rows)]
        return fhipe.decrypt(pp(), some, fhipe.concat(parts), workers.available())

    def unlocked(msk: Any, block: int, which: Positions | None = None) -> Array:
        units = np.eye(config.features, dtype=np.int64)
        coins = Coins(bytes(32))  # whoever opens with the master key hides nothing by its keys
        return products(fhipe.key_derive(msk, units, coins), block, which)

    return Instance(
        (of_owner(config, owner),),
        _keys(view, owner),
        products,
        fhipe,
        pp,
        rows=lambda sk, which: fhipe.concat([fhipe.rows(sk, int(i), int(i) + 1) for i in which]),
        open=unlocked,
        columns=config.features,
        hides=True,
        rounded=lambda w: config.weights.quantise(w).astype(np.int64),
        scale=config.weight_scale,
        seconds=_SECONDS,
        labels=("pp", "ct", "sk_w1"),
    )


def _keys(view: View, owner: int) -> Callable[[], Iterator[Keys]]:
    """The keys of an owner's W1: sent by itself, or by the authority with those of the round's others."""
    config, name = view.config, party_name(DATA_OWNER, owner)

    def read() -> Iterator[Keys]:
        for row in view.rows("sk_w1", Kind.RECEIVED):
            if row.phase != "step":
                continue
            by_owner = row.sender.startswith(DATA_OWNER.value)
            number, local = divmod(row.round, config.local_steps)
            members = Visit(number * config.members, config.members, local).owners(config)
            if (row.sender == name) if by_owner else (owner in members):
                place = None if by_owner else members.index(owner)
                yield Keys(row.round, _key(view, row, place), map=map_at(config, row.round, owner))

    return read


def _key(view: View, row: Row, place: int | None) -> Callable[[], Any]:
    return lambda: view.value(row) if place is None else view.value(row)[place]


def _parameters(view: View, owner: int) -> Callable[[], Any] | None:
    """An owner's public parameters: published by itself, or with all others by the authority."""
    rows = list(view.rows("pp", Kind.RECEIVED))
    mine = [row for row in rows if row.sender == party_name(DATA_OWNER, owner)]
    row = next(iter(mine or [row for row in rows if row.dtype == "list"]), None)
    if row is None:
        return None

    def read() -> Any:
        return view.value(row) if mine else view.value(row)[owner]

    return Kept(read)


def _secret(view: View, row: Row, owner: int) -> Callable[[], Any]:
    def read() -> Any:
        value = view.value(row)
        return value[owner] if isinstance(value, list) else value

    return read


def _pieces(which: Positions, size: int) -> list[tuple[int, int, int]]:
    """(upload, start, stop) of the runs of consecutive positions, none across two uploads of `size` rows."""
    edges = np.flatnonzero((np.diff(which) != 1) | (which[1:] % size == 0)) + 1
    return [(int(r[0]) // size, int(r[0]) % size, int(r[-1]) % size + 1) for r in np.split(which, edges)]
