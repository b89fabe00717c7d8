"""Copies under masks: whoever holds the coins of all other owners of a round draws their masks again.

A mask is shared by two owners; the copy of an owner of which all partners are corrupted lies open. Else the
masked words are uniform, and only their sum, which the average tells, says anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from protocols.crypto import aggregate
from protocols.crypto.coins import Coins
from protocols.language.relations import Array, KnownMap, Map, Opaque, Relation
from protocols.language.roles import DATA_OWNER, index_of, role_of
from protocols.language.session import NO_ROUND
from protocols.language.view import Kind, Row, View
from protocols.network.schedule import Visit

_COPIES = {"w1": "copy", "head": "head_copy"}
_WHY = "uniform under masks that cancel in the sum of a round's copies alone"


def opened(view: View) -> Iterator[Relation]:
    """The copies that lie open, and that the others do not."""
    for name, called in _COPIES.items():
        label, left = f"{name}_masked", 0
        rows = list(view.rows(label, Kind.RECEIVED))
        keys: dict[int, bytes] = {}
        for place, row in enumerate(rows):
            if place == 0 or (row.round != rows[place - 1].round and not view.config.everyone):
                keys = _private_keys(view, row.round)
            owner = index_of(row.sender)
            others = set(_members(view.config, row.round)) - {owner}
            if others <= keys.keys() and owner not in keys:
                value = _copy(view, row, owner, {other: keys[other] for other in others}, name)
                since = (row.round + 1) * view.config.local_steps - 1
                yield KnownMap(Map(called, owner, row.round), value, labels=(label,), since=since)
            left += owner not in keys and not others <= keys.keys()
        if rows:
            yield from _last_mean(view, name, label, rows)
            yield Opaque(labels=(label,), why=_WHY if left else "")


def _last_mean(view: View, name: str, label: str, rows: list[Row]) -> Iterator[Relation]:
    """The mean after the last round: whoever has all of its masked copies adds them up; nobody is sent it."""
    number = rows[-1].round
    copies = {index_of(row.sender): row for row in rows if row.round == number}
    if set(copies) != set(_members(view.config, number)):
        return

    def mean() -> Array:
        words = [view.value(row) for row in copies.values()]
        return aggregate.restore(aggregate.total(words)) / len(words)

    after = (number + 1) * view.config.local_steps
    which = Map("w1", -1, after) if name == "w1" else Map("head_mean", -1, number + 1)
    yield KnownMap(which, mean, labels=(label,), since=after - 1)


def _members(config: Any, number: int) -> tuple[int, ...]:
    return tuple(Visit(number * config.members, config.members, 0).owners(config))


def _publics(view: View, number: int) -> dict[int, Array]:
    """The public key of each owner for a round: its own ones, or those of the beginning."""
    for row, keys in view.values("pks"):
        if row.round in (number, NO_ROUND):
            return dict(zip(_members(view.config, number), keys, strict=True))
    return {}


def _private_keys(view: View, number: int) -> dict[int, bytes]:
    """The private key for masks of each owner of a round in the view, from its coins, where the public one
    fits.
    """
    if not view.has_payloads():
        return {}
    config, publics, found = view.config, _publics(view, number), {}
    lap = 0 if config.everyone else number * config.members // len(config.counts)
    for row, seed in view.values("coins", Kind.COINS):
        owner = index_of(row.party)
        if role_of(row.party) is not DATA_OWNER or owner not in publics:
            continue
        coins = Coins(bytes(seed))
        for _ in range(lap + 2):  # one for each time that it took part; a round may hold two laps
            private, public = aggregate.key_pair(coins)
            if np.array_equal(public, publics[owner]):
                found[owner] = private
    return found


def _copy(view: View, row: Row, owner: int, keys: dict[int, bytes], name: str) -> Callable[[], Array]:
    def read() -> Array:
        public = _publics(view, row.round)[owner]
        words = aggregate.unmask(view.value(row), owner, keys, public, f"{name} {row.round}")
        return aggregate.restore(words)

    return read
