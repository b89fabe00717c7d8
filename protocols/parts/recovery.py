"""Secure aggregation that outlives owners which leave: K. Bonawitz et al., CCS 2017, their figure 4.

In every round each owner draws a key for masks with the others and a seed for one of its own, and hands out
shares of both, sealed, through A. At the end A says whose copies it has, and those open, of each that stayed,
its seed, and of each that left, its key, so that A takes the masks off the sum. Where fewer than t of the m
owners of a round stayed, nobody opens anything: the round is lost, and the mean stays as it was.

A copy that comes too late stays masked, by its owner's own mask: that is what the second mask is for. A and t
owners together open every copy of a round; without t of them A has the sum of those that stayed, as it has
where nobody leaves. Who stayed is a row of everybody's view.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from protocols.crypto import aggregate, shamir
from protocols.language.errors import Left
from protocols.language.figure import Arrow, Bytes, sized
from protocols.language.precision import real
from protocols.language.roles import DATA_OWNER, KEY_AUTHORITY
from protocols.language.session import At, Session
from protocols.language.state import Authority, Owner
from protocols.network.config import Aggregation
from protocols.network.schedule import Visit, ends, members
from protocols.parts.averaging import HELD, Alone, InClear, Masked, averaged

_WHEN = "aggregation=secure,leavers=some"
_SHARES = sized(Bytes, f"M {aggregate.SEALED_BYTES}")


class Recoverable(Masked):
    """Many owners, some of which leave; A adds up masked copies, and takes off the masks with shares."""

    SETUP = (
        Arrow("setup", DATA_OWNER, KEY_AUTHORITY, "share_pk", "X25519, for shares",
              when=_WHEN, type=sized(Bytes, "32")),
        Arrow("setup", KEY_AUTHORITY, DATA_OWNER, "share_pks", "those of all owners of a round",
              when=_WHEN, type=sized(Bytes, "M 32")),
        Arrow("setup", DATA_OWNER, KEY_AUTHORITY, "shares", "of its key and its seed, sealed for each",
              when=_WHEN, type=_SHARES),
        Arrow("setup", KEY_AUTHORITY, DATA_OWNER, "sealed", "those for it", when=_WHEN, type=_SHARES),
    )  # fmt: skip
    AVERAGE = (
        Arrow("average", KEY_AUTHORITY, DATA_OWNER, "stayed", "whose copies A has",
              when=_WHEN, type=sized(Bytes, "M", below="2")),
        Arrow("average", DATA_OWNER, KEY_AUTHORITY, "opened", "shares: seeds of those, keys of the others",
              when=_WHEN, type=sized(Bytes, f"M {shamir.SHARE_BYTES}")),
    )  # fmt: skip

    described = MappingProxyType({"aggregation": aggregate.RECOVERABLE})

    @property
    def once(self) -> bool:
        """Keys that others may open are for one round."""
        return False

    def exchange(self, s: Session, o: At, number: int) -> None:
        """Public keys for masks, then those for shares, then the shares, all through A."""
        super().exchange(s, o, number)
        a = s.at(KEY_AUTHORITY)
        keys = a.do(listed_for_shares, s.gather(o.send(a, share_pk=o.do(draw_share_key))))
        o.do(keep_share_keys, a.send(o, share_pks=keys))
        shares = s.gather(o.send(a, shares=o.do(share_secrets, number)))
        o.do(keep_shares, a.send(o, sealed=s.scatter(a.do(addressed, shares), o)), number)

    def average(self, s: Session, o: At, visit: Visit, number: int) -> None:
        """A adds up the copies of those that stayed, which open the masks."""
        a = s.at(KEY_AUTHORITY)
        copies = [(layer.name, self.copies(s, o, layer, visit, number)) for layer in self.layers]
        if not averaged(self.config, number, s.left):
            return
        stayed = a.do(who_stayed, number, *s.left)
        opened = o.do(open_shares, a.send(o, stayed=stayed), number)
        try:
            shares = s.gather(o.send(a, opened=opened))
        except Left:  # what is open stays open, and nothing else is opened: the round is lost
            return
        a.do(put_together, shares, stayed)
        for name, masked in copies:
            a.do(average_opened, name, masked, stayed, number)


# -- O --


def draw_share_key(state: Owner) -> NDArray[np.uint8]:
    """O: a key pair for shares; returns the public key."""
    state.held["share key"], public = aggregate.key_pair(state.coins, aggregate.FOR_SHARES)
    return public


def keep_share_keys(state: Owner, keys: NDArray[np.uint8]) -> None:
    """O: keep the public keys (m, 32) for shares of the owners of a round."""
    state.held["share pks"] = keys


def share_secrets(state: Owner, number: int) -> NDArray[np.uint8]:
    """O: a seed for its own mask; returns shares of it and of its key, sealed: (m, 82), a row for each owner
    of the round.
    """
    held = state.held
    held["seed"] = aggregate.draw_seed(state.coins)
    return aggregate.share(
        state.index, members(state.config, number), held["x25519"], held["seed"],
        held["share key"], held["share pks"], state.coins,
    )  # fmt: skip


def keep_shares(state: Owner, sealed: NDArray[np.uint8], number: int) -> None:
    """O: its shares of the keys and seeds of all owners of a round."""
    held, owners = state.held, members(state.config, number)
    held["shares"] = aggregate.unseal(sealed, state.index, owners, held["share key"], held["share pks"])


def open_shares(state: Owner, stayed: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """O: its shares (m, 33) of the seeds of those that stayed and of the keys of the others; once."""
    owners = members(state.config, number)
    return aggregate.reveal(state.held.pop("shares"), state.index, owners, stayed.astype(bool))


# -- A --


def listed_for_shares(state: Authority, keys: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """A: the public keys (m, 32) for shares, as it relays them."""
    return np.stack(keys)


def addressed(state: Authority, shares: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """A: for each owner of a round what all sealed for it, (m, 82)."""
    return list(np.ascontiguousarray(np.stack(shares).swapaxes(0, 1)))


def who_stayed(state: Authority, number: int, *left: int) -> NDArray[np.uint8]:
    """A: whose copies of a round it has, (m,) of 0 and 1; none of those that `left` for a bad message."""
    return np.isin(members(state.config, number), ends(state.config, number, left).stayed).astype(np.uint8)


def put_together(state: Authority, opened: list[NDArray[np.uint8]], stayed: NDArray[np.uint8]) -> None:
    """A: the seeds of those that stayed and the keys of those that left."""
    state.held["secrets"] = aggregate.secrets(opened, stayed.astype(bool), state.held["pks"])


def average_opened(
    state: Authority, name: str, copies: list[NDArray[np.uint64]], stayed: NDArray[np.uint8], number: int
) -> None:
    """A: a layer <- mean of the copies of those that stayed, from their sum without masks."""
    owners, held = members(state.config, number), state.held
    summed = aggregate.total(copies)
    summed = aggregate.unmasked(
        summed, owners, stayed.astype(bool), held["secrets"], held["pks"], f"{name} {number}"
    )
    HELD[name].take(state, (aggregate.restore(summed) / len(copies)).astype(real()))


AVERAGES: MappingProxyType[tuple[str, Aggregation, str], type[Alone]] = MappingProxyType({
    ("one", Aggregation.CLEAR, "none"): Alone,
    ("many", Aggregation.CLEAR, "none"): InClear,
    ("many", Aggregation.CLEAR, "some"): InClear,
    ("many", Aggregation.SECURE, "none"): Masked,
    ("many", Aggregation.SECURE, "some"): Recoverable,
})  # fmt: skip
