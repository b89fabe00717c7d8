"""Where a run stood that was stopped: up to which message every host has all in its transcript.

The script is carried out with nobody there. What a host writes for an instruction follows from the
instruction, and hosts commit their entries in order, so that counting them is enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parties.record.continued import Kept, cut_back, holds_nothing, taken
from parties.record.transcript import Transcript
from parties.runtime import checkpoint
from parties.runtime.host import HostSpec, refused_in
from parties.runtime.post import homes
from protocols.language.errors import DataError, Left
from protocols.language.session import DoStep, Group, Publish, Reveal, Runtime, Transfer


@dataclass(frozen=True)
class Stand:
    """Where a run stood: the number of the first message that somebody lacks, if anybody does, and the last
    round that all had ended, with its phase; -1 outside of rounds, and no phase before the first.
    """

    message: int | None
    phase: str
    round: int


def stand_of(specs: Sequence[HostSpec], script: Callable[[Runtime], Iterator[Any]]) -> Stand:
    """Where the transcripts of these hosts end."""
    counted = _Counted(specs)
    try:
        for _ in script(counted):
            pass
    except _Ends as here:
        return Stand(here.message, *counted.last)
    return Stand(None, *counted.last)


def revealed_before(spec: HostSpec, seq: int) -> Any:
    """What a host revealed as message number `seq`, from its transcript; None where that was not kept."""
    with closing(Transcript(spec.transcript)) as transcript, closing(Transcript(spec.transcript)) as full:
        for row in transcript.rows("kind = 'output' AND seq = ?", seq):
            if not full.kept_of(row) and row.dtype == "bool":
                raise DataError(
                    f"{spec.transcript}: the script branches on message {seq}, which was not kept"
                )
            return full.value(row) if full.kept_of(row) else None
    raise DataError(f"{spec.transcript}: what was revealed as message {seq} is missing")


def cut_after(
    specs: Sequence[HostSpec], script: Callable[[Runtime], Iterator[Any]], message: int
) -> int | None:
    """Take out of the transcripts what hosts had said and done ahead, behind the transfer of a message that
    was found bad; returns how many messages others had received of it. None, and all is as it was, where the
    script cannot go on without the sender of that message.
    """
    counted = _Counted(specs, message)
    try:
        for _ in script(counted):
            pass
    except Left:
        return None
    except _Passed:
        pass
    many = {party for spec in specs if spec.role.many for party in spec.parties}
    undone = 0
    for spec in specs:
        if spec.checkpoints is not None:
            checkpoint.forget(Path(spec.checkpoints), spec.name, above=counted.phases)
            checkpoint.forget_revealed(Path(spec.checkpoints), above=message)
        kept = Kept(counted.rows[spec.name], counted.steps[spec.name], frozenset(many - counted.addressed))
        undone += cut_back(Path(spec.transcript), kept, refused_in(spec.config), spec.config)
    return undone


class _Passed(BaseException):
    """The script goes on behind the message that was found bad."""


class _Ends(BaseException):
    """Somebody's entries end before this message; no protocol catches it."""

    def __init__(self, message: int) -> None:
        self.message = message


class _Counted:
    """Counts what each host has written: entries of messages that were taken, and steps."""

    def __init__(self, specs: Sequence[HostSpec], message: int | None = None) -> None:
        """With a `message`, counting ends where the script goes on behind its transfer."""
        self._specs, self._home = {spec.name: spec for spec in specs}, homes(specs)
        self._message, self._passed = message, False
        self._left = {spec.name: _entries(spec) for spec in specs}
        self._members: dict[int, Mapping[str, int]] = {}
        self.last, self.phases = ("", -1), 0
        self.rows, self.steps, self.addressed = Counter[str](), Counter[str](), set[str]()

    def do(self, step: DoStep) -> None:
        self._go_on()
        self.addressed.update(step.group.members)
        if step.told:
            self._wrote(step.seq, self._of(step.group))
        self.steps.update(self._of(step.group))

    def transfer(self, transfer: Transfer) -> None:
        self._go_on()
        wrote = Counter[str]()
        for group in (transfer.senders, transfer.receivers):
            self.addressed.update(group.members)
            if len(group.members) == 1:  # to or from all of the others
                wrote[self._home[group.members[0]]] += transfer.count - len(transfer.refused)
            else:
                wrote.update(self._of(group))
                wrote.subtract(self._home[group.members[i]] for i in transfer.refused)
        self._wrote(transfer.seq, wrote)
        if self._message is not None:
            self._passed = transfer.seq <= self._message < transfer.seq + transfer.count

    def reveal(self, reveal: Reveal) -> Any:
        self._go_on()
        self._wrote(reveal.seq, self._of(reveal.group))
        return revealed_before(self._specs[self._home[reveal.group.members[0]]], reveal.seq)

    def publish(self, publish: Publish) -> None:
        self._go_on()
        self.addressed.update(publish.group.members)
        self._wrote(publish.seq, self._of(publish.group))

    def _go_on(self) -> None:
        if self._passed:
            raise _Passed

    def free(self, group: Group, handle: int) -> None:
        """Nothing is written."""

    def end_phase(self, phase: str, round: int) -> None:
        self.phases += not self._passed
        self.last = phase, round

    def _of(self, group: Group) -> Mapping[str, int]:
        """How many members of a group each host carries."""
        if group.id not in self._members:
            self._members[group.id] = Counter(self._home[member] for member in group.members)
        return self._members[group.id]

    def _wrote(self, seq: int, entries: Mapping[str, int]) -> None:
        for host, count in entries.items():
            self._left[host] -= count
            self.rows[host] += count
        if self._message is None and any(self._left[host] < 0 for host in entries):
            raise _Ends(seq)


def _entries(spec: HostSpec) -> int:
    """How many entries a transcript has of messages that were taken."""
    if holds_nothing(Path(spec.transcript)):
        return 0
    with closing(Transcript(spec.transcript)) as transcript:
        found = transcript.first(f"SELECT COUNT(*) FROM rows WHERE {taken(refused_in(spec.config))}")
    return int(found[0]) if found else 0
