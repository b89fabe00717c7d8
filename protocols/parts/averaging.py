"""Copies of the layers that owners train, and their mean: for one owner there is nothing to average; A sees
the copies, or only their sum.

With many owners each trains a copy of W1 on its own batches; after every `local_steps` steps the authority
averages the copies of those that took part, `per_round` of them in turn. Where not all take part in every
round, an owner forgets its copy, and what its optimizer remembers, at the end of a round: 10 000 owners need
not hold 10 000 copies. Some may leave a round, or be late: the mean is that of the copies which are there in
time, and where none is it stays as it was. A late copy is sent all the same, so that A has it.

`secure_aggregation`: owners mask their copies, so that A learns their sum alone (`crypto/aggregate.py`). With
C it then holds sum_i (W - W_i') = lr sum_i dZ1_i X_i / B: the samples of *all* owners in a round as unknowns
of h equations a pixel, exact while they are at most h together. A and all owners but one subtract their
copies; the average, which every owner of the next round gets, is not protected. Where owners may leave:
`recovery.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto import aggregate
from protocols.language.errors import ConfigError, Left
from protocols.language.figure import Arrow, Bytes, sized
from protocols.language.options import derived, option
from protocols.language.precision import real
from protocols.language.roles import DATA_OWNER, KEY_AUTHORITY
from protocols.language.session import At, Located, Session
from protocols.language.state import Authority, Owner
from protocols.network import training
from protocols.network.config import Aggregation, Init
from protocols.network.schedule import OnBadMessage, Rounds, Visit, ends, members
from protocols.parts.arrays import BETWEEN as HIDDEN
from protocols.parts.arrays import HEAD, MASKED_BETWEEN, MASKED_HEAD, MASKED_W1, W1

Float = NDArray[np.float32]
Step = Callable[..., Any]


@dataclass(frozen=True)
class Held:
    """A layer that owners hold: its name in labels, and the steps that draw it, hand it over and take it."""

    name: str
    start: Step
    give: Step
    take: Step


FIRST = Held("w1", training.start_first, training.give_first, training.take_first)
PUBLIC = replace(FIRST, start=training.start_public_first)
BETWEEN = Held("hidden", training.start_hidden, training.give_hidden, training.take_hidden)
LAST = Held("head", training.start_output, training.give_output, training.take_output)
HELD = MappingProxyType({each.name: each for each in (FIRST, BETWEEN, LAST)})
WHOLE = MappingProxyType({"shallow": (FIRST, LAST), "deep": (FIRST, BETWEEN, LAST)})  # networks, by depth
FIRSTS = MappingProxyType({Init.OWNER: FIRST, Init.SHARED: PUBLIC})


@dataclass(frozen=True)
class Options(Rounds):
    """Rounds in which owners train copies, and whether A sees them; who draws W1."""

    init: Init = option(
        Init.OWNER,
        "Who draws W1: owner, as in a split network; shared: from a public seed; others: plain only.",
        panel="Network",
    )
    aggregation: Aggregation = derived("whether copies are averaged in the clear", Aggregation.CLEAR)


class Alone:
    """One owner holds W1 itself."""

    described: MappingProxyType[str, str] = MappingProxyType({})

    def __init__(self, config: Options, layers: tuple[Held, ...]) -> None:
        self.config, self.layers = config, layers

    def holder(self, s: Session) -> At:
        """Who draws the first weights and holds the last ones."""
        return s.at(DATA_OWNER)

    def set_up(self, s: Session) -> None:
        """Draw the layers."""
        for layer in self.layers:
            self.holder(s).do(layer.start)

    def hand_out(self, s: Session, o: At, number: int) -> None:
        """What the owners of a round begin with: they have it."""

    def give(self, s: Session, o: At) -> None:
        """The same within a phase."""

    def collect(self, s: Session, o: At, visit: Visit, number: int) -> None:
        """What becomes of the layers at the end of a round: they stay."""


class InClear(Alone):
    """Many owners; A sees each copy, and holds the mean."""

    AVERAGE: tuple[Arrow, ...] = (
        Arrow("average", DATA_OWNER, KEY_AUTHORITY, "w1_copy", "W1 after the round; A: mean",
              when="owners=many,aggregation=clear", type=W1),
    )  # fmt: skip
    AVERAGE_HEAD = (
        Arrow("average", DATA_OWNER, KEY_AUTHORITY, "head_copy", "the last layer",
              when="owners=many,labels=owner,aggregation=clear", type=HEAD),
    )  # fmt: skip

    AVERAGE_BETWEEN = (
        Arrow("average", DATA_OWNER, KEY_AUTHORITY, "hidden_copy", "the layers between",
              when="depth=deep,aggregation=clear", type=HIDDEN),
    )  # fmt: skip

    @property
    def adds(self) -> Step:
        """A's step that makes a mean of copies."""
        return average_copies

    def holder(self, s: Session) -> At:
        """A draws the first weights, so that all begin alike, and holds the last ones."""
        return s.at(KEY_AUTHORITY)

    def hand_out(self, s: Session, o: At, number: int) -> None:
        """A gives the mean to the owners of a round."""
        with s.phase("average", number):
            self.give(s, o)

    def give(self, s: Session, o: At) -> None:
        """A gives the mean to owners."""
        a = s.at(KEY_AUTHORITY)
        for layer in self.layers:
            o.do(layer.take, a.send(o, **{f"{layer.name}_mean": a.do(layer.give)}))

    def collect(self, s: Session, o: At, visit: Visit, number: int) -> None:
        """A averages the copies of a round that are there in time: those of the others, once more, where one
        turns out to be none.
        """
        again = True
        while again:
            end, again = ends(self.config, number, s.left), False
            try:
                with s.phase("average", number):
                    if end.stayed:
                        self.average(s, s.each(DATA_OWNER, end.stayed), visit, number)
                    self.too_late(s, end.late, visit, number)
                    if not self.config.everyone:
                        o.do(forget)
            except Left:
                again = True

    def too_late(self, s: Session, owners: tuple[int, ...], visit: Visit, number: int) -> None:
        """Copies that no mean awaits are sent all the same."""
        with suppress(Left):
            for layer in self.layers if owners else ():
                self.copies(s, s.each(DATA_OWNER, owners), layer, visit, number)

    def average(self, s: Session, o: At, visit: Visit, number: int) -> None:
        """A adds up copies."""
        for layer in self.layers:
            copies = self.copies(s, o, layer, visit, number)
            s.at(KEY_AUTHORITY).do(self.adds, layer.name, copies)

    def copies(self, s: Session, o: At, layer: Held, visit: Visit, number: int) -> Located:
        """Owners send A their copies, in the clear."""
        sent = o.send(s.at(KEY_AUTHORITY), **{f"{layer.name}_copy": o.do(layer.give)})
        return s.gather(sent)


class Masked(InClear):
    """Many owners; A adds up masked copies, whose masks cancel in the sum."""

    SETUP: tuple[Arrow, ...] = (
        Arrow("setup", DATA_OWNER, KEY_AUTHORITY, "pk", "X25519, for masks",
              when="aggregation=secure", type=sized(Bytes, "32")),
        Arrow("setup", KEY_AUTHORITY, DATA_OWNER, "pks", "those of all owners of a round",
              when="aggregation=secure", type=sized(Bytes, "M 32")),
    )  # fmt: skip
    AVERAGE: tuple[Arrow, ...] = (
        Arrow("average", DATA_OWNER, KEY_AUTHORITY, "w1_masked", "W1 + masks; A: their sum",
              when="aggregation=secure", type=MASKED_W1),
    )  # fmt: skip
    AVERAGE_HEAD = (
        Arrow("average", DATA_OWNER, KEY_AUTHORITY, "head_masked", "the last layer",
              when="labels=owner,aggregation=secure", type=MASKED_HEAD),
    )  # fmt: skip

    AVERAGE_BETWEEN = (
        Arrow("average", DATA_OWNER, KEY_AUTHORITY, "hidden_masked", "the layers between",
              when="depth=deep,aggregation=secure", type=MASKED_BETWEEN),
    )  # fmt: skip

    described = MappingProxyType({"aggregation": aggregate.SECURITY})

    @property
    def adds(self) -> Step:
        """The same, of masked copies."""
        return average_masked

    @property
    def once(self) -> bool:
        """Whether keys for masks last for the whole run: where everyone takes part in every round."""
        return self.config.everyone

    def set_up(self, s: Session) -> None:
        """The same, and A relays everybody's public key."""
        super().set_up(s)
        if self.once:
            self.exchange(s, s.each(DATA_OWNER), 0)

    def hand_out(self, s: Session, o: At, number: int) -> None:
        """The same; where keys do not last, the owners of a round draw some for it."""
        super().hand_out(s, o, number)
        if not self.once:
            with s.phase("setup", number):
                self.exchange(s, o, number)

    def exchange(self, s: Session, o: At, number: int) -> None:
        """Each owner's public key, relayed to all by A."""
        a = s.at(KEY_AUTHORITY)
        keys = a.do(listed, s.gather(o.send(a, pk=o.do(draw_key))))
        o.do(keep_public_keys, a.send(o, pks=keys))

    def copies(self, s: Session, o: At, layer: Held, visit: Visit, number: int) -> Located:
        """Owners send A their copies, masked."""
        masked = o.do(mask_copy, layer.name, visit, number)
        return s.gather(o.send(s.at(KEY_AUTHORITY), **{f"{layer.name}_masked": masked}))


def check(config: Options) -> None:
    """Refuse rounds that no masks can protect, and owners that nobody can go on without."""
    if config.on_bad_message is OnBadMessage.DROP and len(config.counts) == 1:
        raise ConfigError("--on-bad-message drop: nobody can go on without the one owner; give --owners")
    if config.aggregation is Aggregation.SECURE and not 1 < config.members <= aggregate.MEMBERS:
        raise ConfigError(
            f"--defence secure-aggregation is for rounds of 2 to {aggregate.MEMBERS} owners, "
            f"not {config.members}: set --owners and --per-round"
        )


def averaged(config: Options, number: int, left: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The owners whose copies make the mean of a round; none where it stays as it was: too few stayed."""
    stayed = ends(config, number, left).stayed
    recovers = config.aggregation is Aggregation.SECURE and config.leavers == "some"
    too_few = recovers and len(stayed) < aggregate.threshold(len(members(config, number)))
    return () if too_few else stayed


def mean(copies: list[Float]) -> Float:
    """Mean of arrays of one shape, summed in their order in float64."""
    total = np.zeros(copies[0].shape)
    for copy in copies:
        total += copy
    return (total / len(copies)).astype(real())


# -- O --


def draw_key(state: Owner) -> NDArray[np.uint8]:
    """O: a key pair for its masks; returns the public key."""
    state.held["x25519"], public = aggregate.key_pair(state.coins)
    return public


def keep_public_keys(state: Owner, keys: NDArray[np.uint8]) -> None:
    """O: keep the public keys (m, 32) of the owners that mask together."""
    state.held["pks"] = keys


def mask_copy(state: Owner, name: str, visit: Visit, number: int) -> NDArray[np.uint64]:
    """O: its copy of a layer under the masks of a round, and under its own where it has a seed."""
    members, held = visit.owners(state.config), state.held
    words, use = aggregate.fixed(HELD[name].give(state), len(members)), f"{name} {number}"
    private, publics = held["x25519"], held["pks"]
    return aggregate.mask(words, state.index, members, private, publics, use, held.get("seed"))


def forget(state: Owner) -> None:
    """O: keep nothing of a round but its samples."""
    state.w1 = state.hidden = state.output = None


# -- A --


def listed(state: Authority, keys: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """A: the public keys (m, 32) of the owners that mask together, as it relays them."""
    state.held["pks"] = relayed = np.stack(keys)
    return relayed


def average_copies(state: Authority, name: str, copies: list[Float]) -> None:
    """A: a layer <- mean of the copies."""
    HELD[name].take(state, mean(copies))


def average_masked(state: Authority, name: str, copies: list[NDArray[np.uint64]]) -> None:
    """A: a layer <- mean of the copies, from their sum, in which the masks cancel."""
    total = aggregate.restore(aggregate.total(copies))
    HELD[name].take(state, (total / len(copies)).astype(real()))
