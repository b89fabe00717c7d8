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

from parties.record.continued import holds_nothing
from parties.record.transcript import Transcript
from parties.runtime.host import HostSpec
from parties.runtime.post import homes
from protocols.language.errors import DataError
from protocols.language.session import DoStep, Group, Publish, Reveal, Runtime, Transfer

_SAID = "SELECT COUNT(*) FROM rows WHERE kind NOT IN ('input', 'coins')"


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


class _Ends(BaseException):
    """Somebody's entries end before this message; no protocol catches it."""

    def __init__(self, message: int) -> None:
        self.message = message


class _Counted:
    """Counts what each host has written."""

    def __init__(self, specs: Sequence[HostSpec]) -> None:
        self._specs, self._home = {spec.name: spec for spec in specs}, homes(specs)
        self._left = {spec.name: _entries(Path(spec.transcript)) for spec in specs}
        self._members: dict[int, Mapping[str, int]] = {}
        self.last = "", -1

    def do(self, step: DoStep) -> None:
        if step.told:
            self._wrote(step.seq, self._of(step.group))

    def transfer(self, transfer: Transfer) -> None:
        wrote = Counter[str]()
        for group in (transfer.senders, transfer.receivers):
            if len(group.members) == 1:  # to or from all of the others
                wrote[self._home[group.members[0]]] += transfer.count
            else:
                wrote.update(self._of(group))
        self._wrote(transfer.seq, wrote)

    def reveal(self, reveal: Reveal) -> Any:
        self._wrote(reveal.seq, self._of(reveal.group))
        return revealed_before(self._specs[self._home[reveal.group.members[0]]], reveal.seq)

    def publish(self, publish: Publish) -> None:
        self._wrote(publish.seq, self._of(publish.group))

    def free(self, group: Group, handle: int) -> None:
        """Nothing is written."""

    def end_phase(self, phase: str, round: int) -> None:
        self.last = phase, round

    def _of(self, group: Group) -> Mapping[str, int]:
        """How many members of a group each host carries."""
        if group.id not in self._members:
            self._members[group.id] = Counter(self._home[member] for member in group.members)
        return self._members[group.id]

    def _wrote(self, seq: int, entries: Mapping[str, int]) -> None:
        for host, count in entries.items():
            self._left[host] -= count
        if any(self._left[host] < 0 for host in entries):
            raise _Ends(seq)


def _entries(path: Path) -> int:
    """How many entries a transcript has but for inputs and coins."""
    if holds_nothing(path):
        return 0
    with closing(Transcript(path)) as transcript:
        found = transcript.first(_SAID)
    return int(found[0]) if found else 0
