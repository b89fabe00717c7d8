"""Copies under masks: whoever holds the coins of all other owners of a round draws their masks again, and
where owners may leave, whoever holds enough shares puts keys and seeds together.

A mask is shared by two owners, and lies open with the key of either; an owner's own mask, where it has one,
with its seed. A copy all of whose masks lie open does so itself. Else the masked words are uniform, and only
their sum, which the average tells, says anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from protocols.crypto import aggregate, shamir
from protocols.crypto.coins import Coins
from protocols.language.relations import Array, KnownMap, Map, Opaque, Plain, Relation
from protocols.language.roles import DATA_OWNER, index_of, role_of
from protocols.language.session import NO_ROUND
from protocols.language.view import Kind, Row, View
from protocols.network.schedule import ends, members, round_count
from protocols.parts.averaging import averaged

_COPIES = {"w1": "copy", "hidden": "hidden_copy", "head": "head_copy"}
_SEALED = (
    "shares of keys and seeds, sealed for one owner each: fewer than {} owners of a round say nothing of them"
)
_WHY = "uniform under masks that cancel in the sum of a round's copies alone"


class Opened:
    """What a view holds of the keys and seeds of a round, by owner; `own`: the owners that are in it."""

    def __init__(self, view: View, number: int) -> None:
        self.members = members(view.config, number)
        self.own = frozenset[int]()
        self.keys: dict[int, bytes] = {}
        self.seeds: dict[int, bytes] = {}
        self._share_keys: dict[int, bytes] = {}
        self.seeded = view.config.leavers == "some"
        self.publics = _publics(view, "pks", number) if view.has_payloads() else np.empty((0, 0), np.uint8)
        if len(self.publics):
            self._by_coins(view, number)
            if self.seeded:
                self._by_shares(view, number)

    def lies_open(self, owner: int) -> bool:
        """Whether all masks of an owner's copy do."""
        return (not self.seeded or owner in self.seeds) and all(
            owner in self.keys or other in self.keys for other in self.members if other != owner
        )

    def without_masks(self, words: Array, owner: int, others: tuple[int, ...], use: str) -> Array:
        """A copy without its own mask and those that it shares with `others`."""
        if self.seeded:
            words = words - aggregate.own_mask(self.seeds[owner], use, words.shape)
        for other in others:
            known, public = (owner, other) if owner in self.keys else (other, owner)
            key, theirs = self.keys[known], self.publics[self.members.index(public)]
            words = words - aggregate.pair_mask(key, theirs, owner, other, use, words.shape)
        return words

    def _by_coins(self, view: View, number: int) -> None:
        """An owner's coins draw its key again, where the public one fits, and its seed."""
        config, own = view.config, set[int]()
        once = config.everyone and not self.seeded
        laps = 0 if once else number * config.members // len(config.counts)
        for row, seed in view.values("coins", Kind.COINS):
            owner = index_of(row.party)
            if role_of(row.party) is not DATA_OWNER or owner not in self.members:
                continue
            coins, public = Coins(bytes(seed)), self.publics[self.members.index(owner)]
            for use in range(laps + 2):  # one for each time that it took part; a round may hold two laps
                private, drawn = aggregate.key_pair(coins)
                if np.array_equal(drawn, public):
                    own.add(owner)
                    self.keys[owner] = private
                    if self.seeded:
                        self.seeds[owner] = aggregate.draw_seed(Coins(coins.key, {aggregate.OWN_MASK: use}))
                        self._share_keys[owner] = aggregate.key_pair(
                            Coins(coins.key, {aggregate.FOR_SHARES: use}), aggregate.FOR_SHARES
                        )[0]
        self.own = frozenset(own)

    def _by_shares(self, view: View, number: int) -> None:
        """Shares that its owners got, and those that were opened to A."""
        count = len(self.members)
        shares: dict[tuple[int, str], dict[int, Array]] = {}
        publics = _publics(view, "share_pks", number)
        for row in view.rows("sealed", Kind.RECEIVED, round=number):
            owner = index_of(row.receiver)
            if owner in self._share_keys and len(publics):
                got = aggregate.unseal(view.value(row), owner, self.members, self._share_keys[owner], publics)
                for k in range(count):
                    for what, share in zip(("key", "seed"), got[k], strict=True):
                        shares.setdefault((k, what), {})[self.members.index(owner)] = share
        stayed = np.isin(self.members, ends(view.config, number).stayed)
        for row in view.rows("opened", Kind.RECEIVED, round=number):
            opened = view.value(row)
            for k in range(count):
                what = "seed" if stayed[k] else "key"
                shares.setdefault((k, what), {})[self.members.index(index_of(row.sender))] = opened[k]
        needed = aggregate.threshold(count)
        for (k, what), held in shares.items():
            if len(held) >= needed:
                points = sorted(held)[:needed]
                weighted = shamir.weights([point + 1 for point in points])
                secret = shamir.join(np.stack([held[point] for point in points]), weighted)
                (self.keys if what == "key" else self.seeds).setdefault(self.members[k], secret)


def opened(view: View) -> Iterator[Relation]:
    """The copies that lie open, and that the others do not."""
    if view.config.leavers == "some":
        yield _sealed(view)
    for name, called in _COPIES.items():
        label, left = f"{name}_masked", 0
        rows = list(view.rows(label, Kind.RECEIVED))
        if not rows:
            continue
        for place, row in enumerate(rows):
            if place == 0 or row.round != rows[place - 1].round:
                known = Opened(view, row.round)
            owner = index_of(row.sender)
            if owner in known.own:
                continue
            if known.lies_open(owner):
                which = Map(called, owner, row.round)
                since = (row.round + 1) * view.config.local_steps - 1
                yield KnownMap(which, _copy(view, row, known, name), labels=(label,), since=since)
            else:
                left += 1
        yield from _last_mean(view, name, label, rows)
        yield Opaque(labels=(label,), why=_WHY if left else "")


def _sealed(view: View) -> Relation:
    """What sealed shares tell: nothing to fewer owners of a round than it takes; else keys and seeds."""
    config, labels = view.config, ("shares", "sealed")
    mine = {index_of(party) for party in view.parties if role_of(party) is DATA_OWNER}
    needed = aggregate.threshold(config.members)
    most = max(len(mine.intersection(members(config, number))) for number in range(round_count(config)))
    if most < needed:
        return Opaque(labels=labels, why=_SEALED.format(needed))
    return Plain(
        labels=labels, quantity=f"keys and seeds of masks, as {most} owners of a round put shares together"
    )


def _copy(view: View, row: Row, known: Opened, name: str) -> Callable[[], Array]:
    def read() -> Array:
        owner = index_of(row.sender)
        others = tuple(other for other in known.members if other != owner)
        words = known.without_masks(view.value(row), owner, others, f"{name} {row.round}")
        return aggregate.restore(words)

    return read


def _last_mean(view: View, name: str, label: str, rows: list[Row]) -> Iterator[Relation]:
    """The mean after the last round: whoever has all of its masked copies adds them up; nobody is sent it.

    Where owners may leave, the masks of those that stayed must lie open, but for those that cancel.
    """
    number = rows[-1].round
    stayed = averaged(view.config, number)
    copies = {index_of(row.sender): row for row in rows if row.round == number}
    if not stayed or not set(stayed) <= set(copies):
        return
    known = Opened(view, number) if view.config.leavers == "some" else None
    gone = tuple(owner for owner in known.members if owner not in stayed) if known is not None else ()
    if known is not None and not all(
        owner in known.seeds and (owner in known.keys or known.keys.keys() >= set(gone)) for owner in stayed
    ):
        return

    def mean() -> Array:
        words = [view.value(copies[owner]) for owner in stayed]
        if known is not None:
            use = f"{name} {number}"
            words = [
                known.without_masks(own, owner, gone, use) for own, owner in zip(words, stayed, strict=True)
            ]
        return aggregate.restore(aggregate.total(words)) / len(words)

    after = (number + 1) * view.config.local_steps
    which = Map("w1", -1, after) if name == "w1" else Map(f"{name}_mean", -1, number + 1)
    yield KnownMap(which, mean, labels=(label,), since=after - 1)


def _publics(view: View, label: str, number: int) -> Array:
    """The public keys (m, 32) of the owners of a round: its own ones, or those of the beginning."""
    for when in (number, NO_ROUND):
        for row in view.rows(label, round=when):
            keys: Array = view.value(row)
            return keys
    return np.empty((0, aggregate.KEY_BYTES), np.uint8)
