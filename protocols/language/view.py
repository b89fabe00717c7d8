"""What a party saw, as those read it who derive something from it: rows, and the values that they stand for.

`parties/record/transcript.py` has the class that reads stored transcripts; whoever writes `relations(view)`
needs only what is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, NamedTuple, Protocol


class Kind(Enum):
    """The kinds of entries in a view."""

    INPUT = "input"
    COINS = "coins"
    SENT = "sent"
    RECEIVED = "received"
    OUTPUT = "output"
    PUBLIC = "public"  # what the script told a step


class Row(NamedTuple):
    """One entry of a party's view, without its payload."""

    id: int
    party: str
    kind: Kind
    seq: int
    phase: str
    round: int
    sender: str
    receiver: str
    label: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    sha256: bytes

    @property
    def message(self) -> tuple[Any, ...]:
        """The fields that go into the digest of the run, and that both ends of a message share."""
        return (self.seq, self.phase, self.round, self.sender, self.receiver, self.label, self.dtype,
                list(self.shape), self.sha256.hex())  # fmt: skip


class View(Protocol):
    """The joint view of some parties; a value that two of them exchanged counts once."""

    parties: tuple[str, ...]

    def rows(self, label: str | None = None, *kinds: Kind, round: int | None = None) -> Iterator[Row]:
        """Entries in order of time, all or those of one label and of some kinds."""
        ...

    def values(self, label: str, *kinds: Kind) -> Iterator[tuple[Row, Any]]:
        """(row, value) for every entry of a label, one payload in memory at a time."""
        ...

    def value(self, row: Row) -> Any:
        """The value of an entry; `DataError` if its payload was not recorded or was altered."""
        ...

    def once(self, what: tuple[Any, ...], find: Callable[[], Any]) -> Any:
        """What `find` computes of payloads that were read, and that `what` names by their digests: once for
        a view and all that begins it.
        """
        ...

    def labels(self) -> tuple[str, ...]:
        """Every label in the view."""
        ...

    def phases(self) -> tuple[str, ...]:
        """Every phase in the view."""
        ...

    def has_payloads(self) -> bool:
        """Whether payloads were recorded, and not headers only."""
        ...

    @property
    def protocol(self) -> str:
        """The name of the protocol, which is public."""
        ...

    @property
    def config(self) -> Any:
        """The configuration of the run, which is public."""
        ...
