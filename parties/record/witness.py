"""A witness stands where a transcript's writer stands in a run, and holds what would be written against what
is stored.

A party whose message departs from the stored one is named once. From there on everybody is given the stored
message, so that nobody else is blamed for what follows from it.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from parties.record.transcript import Entries, Frame, Transcript
from protocols.language.errors import KeyholeError
from protocols.language.message import Header, describe, digest, encode
from protocols.language.session import NO_ROUND
from protocols.language.view import Kind, Row


def after(row: Any, entries: Entries) -> bool:
    """Whether a step that stands after a row stands after the last one that was taken."""
    return isinstance(row, int) and entries.least <= row <= entries.most


STEPS = "SELECT party, after_row, phase, round, step FROM steps ORDER BY id"
_SAID = {
    Kind.SENT: "does not follow from its inputs, coins and steps",
    Kind.OUTPUT: "does not follow from its inputs, coins and steps",
    Kind.RECEIVED: "is not what was published",
    Kind.PUBLIC: "is not what the script tells the step",
}


class Departed(KeyholeError):
    """The script says another entry than the one that is stored: nothing after it can be compared."""


class Ended(Departed):
    """The stored entries end before the script does."""


class Witness:
    """Compares one host's entries, in their order, with a stored transcript that holds payloads."""

    def __init__(self, path: Path | str, refused: frozenset[int] = frozenset()) -> None:
        """`refused`: messages that were found bad, which nobody says again."""
        self.name, self.messages = Path(path).stem, 0
        # Three times open: a query that is under way does not share its bounds with another one.
        self._open = [Transcript(path) for _ in range(3)]
        self._rows = Entries(self._open[0], refused)
        self._steps: Generator[tuple[Any, ...], None, None] = self._open[1].query(STEPS)
        self._count = 0
        self._departing: dict[int, Row] = {}
        self._first: dict[str, str] = {}
        self._more: dict[str, int] = {}
        self._step_fault = self._unlisted = ""
        self._digested: tuple[Frame | None, bytes] = (None, b"")

    def note(self, party: str, kind: Kind, label: str, value: Any) -> None:
        """Compare an input or the coins of a party."""
        self.message(party, kind, Header(-1, "", NO_ROUND, "", "", label), value, encode(value))

    def message(self, party: str, kind: Kind, header: Header, value: Any, frame: Frame) -> None:
        """Compare an entry; raises `Departed` if another one is stored in its place."""
        row, self._count = next(self._rows, None), self._count + 1
        if row is None:
            lacks = f"{_entry(kind, header)} of {party} is missing"
            raise Ended(f"order: the entries of {self.name} end before the script does: {lacks}")
        self._step_fault = self._step_fault or self._unlisted
        said = (
            party,
            kind,
            header.seq,
            header.phase,
            header.round,
            header.sender,
            header.receiver,
            header.label,
        )
        if said != (row.party, row.kind, *row.message[:6]):
            there = f"{row.kind.value} {row.label!r} (message {row.seq}) of {row.party}"
            raise Departed(
                f"order: entry {self._count} of {self.name} is {there}; by the script it is "
                f"{_entry(kind, header)} of {party}"
            )
        self.messages += kind in (Kind.SENT, Kind.OUTPUT)
        if (*describe(value), self._digest(frame)) != (row.dtype, row.shape, row.sha256):
            self._depart(row)

    def step(self, party: str, step: str, header: Header, public: list[Any], frame: Frame) -> None:
        """Compare a local step and what it is told."""
        if public:
            self.message(party, Kind.PUBLIC, header, public, frame)
        found = next(self._steps, None)
        if not self._stands(found, party, header, step) and not self._step_fault:
            there = "none" if found is None else f"{found[4]} of {found[0]}, after entry {found[1]}"
            fault = (
                f"steps: {self.name} lists {there}, where {party} runs {step} in phase {header.phase}, "
                f"after entry {self._count}"
            )
            if found is None:  # a run that was stopped may end before this step
                self._unlisted = self._unlisted or fault
            else:
                self._step_fault = fault

    def _stands(self, found: tuple[Any, ...] | None, party: str, header: Header, step: str) -> bool:
        """Whether a stored step is this one, and stands after the entries so far."""
        said = party, header.phase, header.round, step
        return found is not None and (found[0], *found[2:]) == said and after(found[1], self._rows)

    def stored(self, seq: int, frame: Frame) -> Frame:
        """The frame of message `seq` as it is stored: the given one, unless it departs."""
        row = self._departing.pop(seq, None)
        return frame if row is None else encode(self._open[2].value(row))

    def faults(self) -> list[str]:
        """What departs, a line for each party."""
        more = {party: f" (and {n} more of its messages)" for party, n in self._more.items() if n}
        said = [f"{fault}{more.get(party, '')}" for party, fault in self._first.items()]
        return said + ([self._step_fault] if self._step_fault else [])

    def finish(self) -> None:
        """Raise `Departed` if more is stored than the script says."""
        row = next(self._rows, None)
        if row is not None:
            raise Departed(
                f"order: the script ends before the entries of {self.name} do: entry {self._count + 1} is "
                f"{row.kind.value} {row.label!r} (message {row.seq}) of {row.party}"
            )
        self._step_fault = self._step_fault or self._unlisted
        step = next(self._steps, None)
        if step is not None and not self._step_fault:
            self._step_fault = f"steps: {self.name} lists {step[4]} of {step[0]} after the end of the script"

    def close(self) -> None:
        """Close the file; a query that is under way would keep it open, and locked."""
        self._rows.close()
        self._steps.close()
        for transcript in self._open:
            transcript.close()

    def _depart(self, row: Row) -> None:
        if row.kind in (Kind.SENT, Kind.OUTPUT):
            self._departing[row.seq] = row
        if row.party in self._first:
            self._more[row.party] += 1
            return
        what = "steps: " if row.kind is Kind.PUBLIC else ""
        said = _SAID.get(row.kind, "is not as it was given")
        self._first[row.party], self._more[row.party] = (
            f"{what}{row.party}, message {row.seq} ({row.label}): {said}", 0,
        )  # fmt: skip

    def _digest(self, frame: Frame) -> bytes:
        """SHA-256 of a frame; that of a broadcast is computed once."""
        if frame is not self._digested[0]:
            self._digested = (frame, digest(frame))
        return self._digested[1]


def _entry(kind: Kind, header: Header) -> str:
    return f"{kind.value} {header.label!r} (message {header.seq})"
