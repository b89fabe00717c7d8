"""Which payloads of a run are kept: one relation on rows, for whoever writes a transcript or reads one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Protocol

from protocols.language.errors import ConfigError, DataError
from protocols.language.figure import Figure
from protocols.language.options import from_plain
from protocols.language.view import Kind

_MESSAGES = (Kind.SENT, Kind.RECEIVED)


class Record(Enum):
    """How much of every message is kept: its payload, that of what relations consume, or none."""

    FULL = "full"
    CONSUMED = "consumed"
    HEADERS = "headers"


class Headed(Protocol):
    """What a row and the header of a message have."""

    @property
    def phase(self) -> str: ...
    @property
    def round(self) -> int: ...
    @property
    def sender(self) -> str: ...
    @property
    def receiver(self) -> str: ...
    @property
    def label(self) -> str: ...


@dataclass(frozen=True)
class First:
    """An arrow of which the messages of its first rounds, below `rounds`, are consumed and no others."""

    phase: str
    sender: str
    receiver: str
    label: str
    rounds: int


@dataclass(frozen=True)
class Kept:
    """Which payloads are kept: by `record`, and whatever a party of `whole`, or of a role there, saw.

    With `Record.CONSUMED` everything is kept but the messages of the arrows `first` from their stated rounds
    on; inputs, coins and what the script tells are, from which every message can be computed again.
    """

    record: Record = Record.FULL
    whole: tuple[str, ...] = ()
    first: tuple[First, ...] = ()

    def keeps(self, party: str, kind: Kind, of: Headed) -> bool:
        """Whether the payload of an entry of a party's view is kept."""
        if self.record is Record.FULL or (self.whole and any(map(self.all, (party, of.sender, of.receiver)))):
            return True
        if self.record is Record.HEADERS or kind not in _MESSAGES:
            return self.record is Record.CONSUMED
        arrow = of.phase, _role(of.sender), _role(of.receiver), of.label
        limit = self._limits.get(arrow)
        return limit is None or of.round < limit

    def some(self, party: str) -> bool:
        """Whether payloads of a party's view are kept, be it not all of them."""
        return self.record is not Record.HEADERS or self.all(party)

    def all(self, party: str) -> bool:
        """Whether all payloads of a party's view are kept."""
        return self.record is Record.FULL or not self._whole.isdisjoint((party, _role(party)))

    @property
    def replayable(self) -> bool:
        """Whether inputs and coins of every party are kept, from which the run can be carried out again."""
        return self.record is not Record.HEADERS

    @property
    def meta(self) -> dict[str, str]:
        """As a transcript states it."""
        if not (self.whole or self.first):
            return {"record": self.record.value}
        first = [list(vars(each).values()) for each in self.first]
        more = json.dumps({"whole": list(self.whole), "first": first})
        return {"record": self.record.value, "kept": more}

    @classmethod
    def of(cls, record: str, more: str | None) -> Kept:
        """As a transcript states it, read; `DataError` where it states nothing of the kind."""
        try:
            said: Any = {} if more is None else json.loads(more)
            names = list(First.__dataclass_fields__)
            arrows = [
                from_plain(First, dict(zip(names, each, strict=True))) for each in said.get("first", ())
            ]
            whole = tuple(str(party) for party in said.get("whole", ()))
            return cls(Record(record), whole, tuple(arrows))
        except (ValueError, TypeError, AttributeError, RecursionError, ConfigError):
            raise DataError("a transcript is damaged: it does not say which payloads it keeps") from None

    @cached_property
    def _whole(self) -> frozenset[str]:
        return frozenset(self.whole)

    @cached_property
    def _limits(self) -> dict[tuple[str, str, str, str], int]:
        return {(each.phase, each.sender, each.receiver, each.label): each.rounds for each in self.first}


def first_rounds(figure: Figure, config: Any, rounds: int) -> tuple[First, ...]:
    """The arrows of a run of which its first epoch, of so many `rounds`, is enough."""
    return tuple(
        First(*arrow.key, rounds) for arrow in figure if arrow.applies(config) and arrow.suffices(config)
    )


def _role(party: str) -> str:
    return party.partition(":")[0]
