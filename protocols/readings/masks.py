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
from protocols.language.view import Kind, Row, View
from protocols.network.schedule import Visit

_COPIES = {"w1": "copy", "head": "head_copy"}
_WHY = "uniform under masks that cancel in the sum of a round's copies alone"


def opened(view: View) -> Iterator[Relation]:
    """The copies that lie open, and that the others do not."""
    for name, called in _COPIES.items():
        label, left = f"{name}_masked", 0
        rows = list(view.rows(label, Kind.RECEIVED))
        keys = _private_keys(view) if rows else {}
        for row in rows:
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


def _private_keys(view: View) -> dict[int, bytes]:
    """The private key for masks of each owner in the view, from its coins, if the public one fits it."""
    if not view.has_payloads():
        return {}
    publics, found = next(iter(view.values("pks")), None), {}
    for row, coins in view.values("coins", Kind.COINS):
        if role_of(row.party) is DATA_OWNER and publics is not None:
            private, public = aggregate.key_pair(Coins(bytes(coins)))
            if np.array_equal(public, publics[1][index_of(row.party)]):
                found[index_of(row.party)] = private
    return found


def _copy(view: View, row: Row, owner: int, keys: dict[int, bytes], name: str) -> Callable[[], Array]:
    def read() -> Array:
        publics = next(iter(view.values("pks")))[1]
        words = aggregate.unmask(view.value(row), owner, keys, publics, f"{name} {row.round}")
        return aggregate.restore(words)

    return read
