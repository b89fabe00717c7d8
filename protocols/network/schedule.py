"""Which samples are used when: batches of an epoch, rounds of owners with copies, chunks of an upload."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.coins import Stream, derive
from protocols.language.errors import ConfigError
from protocols.language.options import derived, option
from protocols.network.config import Order, Training


class OnBadMessage(Enum):
    """What is done about a message of an owner's that is not what its receiver may take."""

    STOP = "stop"
    DROP = "drop"


@dataclass(frozen=True)
class Dropped:
    """An owner that was left out for message number `message`, which it sent in a round."""

    owner: int = derived("its index", least=0)
    round: int = derived("the round in which it left", least=0)
    message: int = derived("number of the message that its receiver could not take", least=0)


@dataclass(frozen=True)
class Rounds(Training):
    """Where owners train copies: `per_round` of them in a round (0: all), `local_steps` each before they are
    averaged.

    `rounds` rounds in all (0: for `epochs` passes over the data). Of those that take part some may leave
    before their copy reaches A (`dropout`), or send it too late (`late`): each with these probabilities in
    every round. Those that were `dropped` leave at the message that was bad, and take part in no later round.
    """

    per_round: int = option(0, "Owners that take part in a round.", panel="Owners", least=1)
    local_steps: int = option(1, "Steps of each before copies are averaged.", panel="Owners", least=1)
    rounds: int = option(0, "Instead of --epochs.", panel="Owners", least=1)
    dropout: float = option(
        0.0, "Chance of an owner to leave a round before its copy is sent.", panel="Owners", least=0, most=1
    )
    late: float = option(0.0, "Chance that its copy comes too late.", panel="Owners", least=0, most=1)
    on_bad_message: OnBadMessage = option(
        OnBadMessage.STOP,
        "What an owner's message does that its receiver cannot take: stop the run, or drop that owner.",
        panel="Owners",
    )
    dropped: tuple[Dropped, ...] = derived("owners that were left out for a bad message", ())

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.local_steps < 1 or self.rounds < 0 or not 0 <= self.per_round <= len(self.counts):
            raise ConfigError(
                "--local-steps and --rounds must be at least 1, --per-round at most the number of owners"
            )
        if not (self.dropout >= 0 and self.late >= 0 and self.dropout + self.late <= 1):
            raise ConfigError("--dropout and --late are chances: from 0 to 1, together too")

    @property
    def leavers(self) -> str:
        """`some` or `none`: whether copies may be missing in an average."""
        drops = self.on_bad_message is OnBadMessage.DROP
        return "some" if self.dropout or self.late or drops else "none"

    @property
    def everyone(self) -> bool:
        """Whether every owner takes part in every round."""
        return self.per_round in (0, len(self.counts))

    @property
    def members(self) -> int:
        """How many owners take part in a round."""
        return self.per_round or len(self.counts)

    @property
    def sizes(self) -> dict[str, int]:
        """The same, and M owners of a round."""
        sizes = {**super().sizes, "M": self.members}
        return {name: size for name, size in sizes.items() if name != "M" or not self.dropped}


NOBODY_DROPPED: MappingProxyType[str, Any] = MappingProxyType(
    {"on_bad_message": OnBadMessage.STOP, "dropped": ()}
)
_PUBLIC = b"keyhole public randomness, no. 1"  # a key that everybody knows: what follows from it is no secret


@dataclass(frozen=True)
class Batch:
    """Rows `start` to `stop` of one owner's samples; its position `number` in the epoch, and the samples
    before it.
    """

    number: int
    owner: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.stop - self.start


def batches(config: Training) -> Iterator[Batch]:
    """The batches of an epoch, the same in every epoch: each owner's rows in order, the owners taking turns.

    Owners hold their samples in shuffled order, so a batch is a slice. The last one of an owner may be
    smaller.
    """
    number = 0
    for start in range(0, max(config.counts), config.batch):
        for owner, count in enumerate(config.counts):
            if start < count:
                yield Batch(number, owner, start, min(start + config.batch, count))
                number += 1


def steps_per_epoch(config: Training) -> int:
    """Number of batches in an epoch."""
    return sum(-(-count // config.batch) for count in config.counts)


@dataclass(frozen=True)
class Visit:
    """One local step of a round: the owners that take part, from the turn `turn` on, and which of their steps
    it is.

    Owners take turns in order: turn t belongs to owner t mod N, which then takes part for the (t div N)th
    time.
    """

    turn: int
    members: int
    local: int

    def owners(self, config: Any) -> tuple[int, ...]:
        """Indices of the owners that take part: those whose turn it is and that were not left out before."""
        turns = ((self.turn + j) % len(config.counts) for j in range(self.members))
        gone = {
            each.owner for each in getattr(config, "dropped", ()) if each.round * config.members < self.turn
        }
        return tuple(owner for owner in turns if owner not in gone)

    def position(self, config: Any, owner: int) -> tuple[int, slice]:
        """(epoch, batch) of an owner: its batches in order, again and again, as positions in the order of
        that epoch.
        """
        count, size = len(config.counts), config.batch
        times = (self.turn + (owner - self.turn) % count) // count
        epoch, number = divmod(times * config.local_steps + self.local, -(-config.counts[owner] // size))
        return epoch, slice(number * size, min((number + 1) * size, config.counts[owner]))

    def rows(self, config: Any, owner: int) -> slice | NDArray[np.int64]:
        """The samples that an owner uses: a slice, or an index where the order is permuted for everybody to
        see.

        Where the order is private it is the slice of an order that the owner alone knows (`split.own_rows`).
        """
        epoch, batch = self.position(config, owner)
        return public_order(config, owner, epoch)[batch] if config.order is Order.PUBLIC else batch

    def index(self, config: Any, owner: int) -> NDArray[np.int64]:
        """The same as positions of samples, in an order that is public."""
        return np.arange(config.counts[owner])[self.rows(config, owner)]

    def size(self, config: Any, owner: int) -> int:
        """Samples in the batch of an owner."""
        batch = self.position(config, owner)[1]
        return int(batch.stop - batch.start)


def public_order(config: Training, owner: int, epoch: int) -> NDArray[np.int64]:
    """The permutation of an owner's samples in an epoch that everybody can compute: a public function of both
    numbers.
    """
    return permutation(Stream(derive(_PUBLIC, "order", str(owner), str(epoch))), config.counts[owner])


def permutation(stream: Stream, count: int) -> NDArray[np.int64]:
    """A permutation of `count` samples: the order of as many 64-bit words (equal ones: 1 in 2^64 a pair)."""
    return np.argsort(stream.words(count), kind="stable")


def rounds(config: Rounds) -> Iterator[tuple[Visit, ...]]:
    """The rounds of a run in which owners train copies: the local steps of each."""
    members = config.per_round or len(config.counts)
    for number in range(round_count(config)):
        yield tuple(Visit(number * members, members, local) for local in range(config.local_steps))


def epochs_of_rounds(config: Rounds) -> Iterator[list[tuple[int, tuple[Visit, ...]]]]:
    """The rounds with their numbers, an epoch at a time; the last one may be shorter."""
    numbered = enumerate(rounds(config))
    while epoch := list(islice(numbered, rounds_per_epoch(config))):
        yield epoch


def taking_part(config: Rounds) -> int:
    """How many owners take part in some round: they take turns, so these are the first ones."""
    return min(len(config.counts), config.members * round_count(config))


def members(config: Rounds, number: int) -> tuple[int, ...]:
    """Indices of the owners that take part in a round."""
    return Visit(number * config.members, config.members, 0).owners(config)


@dataclass(frozen=True)
class Ends:
    """How a round ends for its owners, by index: `stayed`, and those whose copy came too late; the others
    left.
    """

    stayed: tuple[int, ...]
    late: tuple[int, ...]


def ends(config: Rounds, number: int, left: Container[int] = ()) -> Ends:
    """Who stays to the end of a round: drawn from public randomness, as everybody sees who is missing; none
    of those that `left` for a bad message.
    """
    owners = members(config, number)
    if config.leavers == "none":
        return Ends(owners, ())
    drawn = Stream(derive(_PUBLIC, "leaves", str(number))).uniform(0.5, len(owners)) + 0.5
    late = drawn >= 1 - config.late
    stayed = (drawn >= config.dropout) & ~late
    found = ([o for o, is_so in zip(owners, which, strict=True) if is_so] for which in (stayed, late))
    return Ends(*(tuple(o for o in which if o not in left) for which in found))


def newcomers(config: Rounds, number: int) -> tuple[int, ...]:
    """The owners that take part in a round for the first time."""
    owners, before = len(config.counts), number * config.members
    return tuple(range(min(before, owners), min(before + config.members, owners)))


def rounds_per_epoch(config: Rounds) -> int:
    """Rounds in which the owner with most samples uses each of them once."""
    owners = len(config.counts)
    visits = owners * -(-max(config.counts) // (config.batch * config.local_steps))
    return -(-visits // (config.per_round or owners))


def round_count(config: Rounds) -> int:
    """Rounds of a run: as asked, or as many as its epochs take."""
    return config.rounds or config.epochs * rounds_per_epoch(config)


def chunk_rows(config: Training, row_nbytes: int, limit: int = 64 << 20) -> int:
    """How many rows an upload carries: whole batches, about `limit` bytes at `row_nbytes` a row."""
    return max(1, limit // (row_nbytes * config.batch)) * config.batch


def chunks(config: Training, rows: int) -> int:
    """How many uploads of `rows` rows the owner with most samples needs."""
    return -(-max(config.counts) // rows)
