"""Going on with the transcript of a run that was stopped.

The run is carried out from its beginning, and what its transcripts hold is not written again: each entry is
compared with the stored one, and from the end of these on entries are appended as ever. So a run that is
resumed is the run that was begun, or it ends with a line; whatever becomes of it, nothing that was stored is
lost. What a host has received is read from its own transcript.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parties.record.transcript import Entries, Frame, Transcript
from parties.record.witness import STEPS, Departed, after
from parties.record.writer import TranscriptWriter
from protocols.language.errors import DataError
from protocols.language.message import Header, describe, digest
from protocols.language.options import as_plain
from protocols.language.roles import EXPERIMENTER
from protocols.language.view import Kind

_HEARD = f"kind = 'received' AND sender <> '{EXPERIMENTER.value}' AND id > ? ORDER BY id"


class ContinuedTranscript(TranscriptWriter):
    """A host's transcript that is there already, with payloads: compared as far as it goes, then written."""

    def __init__(
        self, path: Path | str, refused: frozenset[int] = frozenset(), behind: tuple[int, int] = (0, 0)
    ) -> None:
        """Raises `DataError` for a file that is no transcript; messages that were `refused` are not said
        again, nor what stands up to a position.
        """
        with contextlib.closing(Transcript(path)) as transcript:
            kept = transcript.kept
        self._begin(path, kept, {})  # first: the file changes into another mode, which no reader may see
        self._stored: _Stored | None = _Stored(path, refused, behind)

    def message(self, party: str, kind: Kind, header: Header, value: Any, frame: Frame) -> None:
        """Compare an entry, or record it; raises `Departed` if another one is stored."""
        if not self._compared(party, kind, header, value, frame):
            super().message(party, kind, header, value, frame)

    def step(self, party: str, step: str, header: Header, public: list[Any], frame: Frame) -> None:
        """Compare a local step, or record it."""
        told = bool(public) and self._compared(party, Kind.PUBLIC, header, public, frame)
        if self._stored is None or not self._stored.step(party, step, header, told):
            self._past()
            super().step(party, step, header, public, frame)

    def position(self) -> tuple[int, int]:
        """The last entry and the number of steps so far."""
        return super().position() if self._stored is None else self._stored.position

    def coins(self) -> dict[str, dict[str, bytes]]:
        """The coins of the parties here by label, of those that had drawn some."""
        return {} if self._stored is None else self._stored.coins()

    def heard(self, first: int, count: int) -> list[tuple[int, Frame]]:
        """(index, frame) of what was received here of the `count` messages from number `first` on, in the
        order of the script; `DataError` for one that is not stored.
        """
        found = [] if self._stored is None else self._stored.heard(first, count)
        if not found:
            raise DataError(f"message {first} is not in the transcript that would be gone on with")
        return found

    def close(self) -> None:
        """Write what is waiting and close the file."""
        self._past()
        super().close()

    def _compared(self, party: str, kind: Kind, header: Header, value: Any, frame: Frame) -> bool:
        """Whether the stored entries go as far as this one."""
        if self._stored is not None and self._stored.message(party, kind, header, value, frame):
            return True
        self._past()
        return False

    def _past(self) -> None:
        """Everything that was stored has been said."""
        if self._stored is not None:
            self._stored.close()
            self._stored = None


class _Stored:
    """What a transcript holds, in its order. Open several times, as a query that is under way does not share
    its bounds with another one.
    """

    def __init__(self, path: Path | str, refused: frozenset[int], behind: tuple[int, int]) -> None:
        self._name = Path(path).stem
        with contextlib.ExitStack() as stack:
            self._open = [stack.enter_context(contextlib.closing(Transcript(path))) for _ in range(4)]
            self._closing = stack.pop_all()
        row, self._count_steps = behind
        self._rows, self._refused = Entries(self._open[0], refused, row), refused
        self._steps: Generator[tuple[Any, ...], None, None] = self._open[1].query(
            f"{STEPS} LIMIT -1 OFFSET ?", self._count_steps
        )
        self._received = self._open[2].rows(_HEARD, row)
        self._next = next(self._received, None)
        self._digested: tuple[Frame | None, bytes] = (None, b"")

    def message(self, party: str, kind: Kind, header: Header, value: Any, frame: Frame) -> bool:
        """Compare the next entry; False behind the last one."""
        row = next(self._rows, None)
        if row is None:
            if next(self._steps, None) is not None:
                raise self._departed(party, header, "comes before a stored step")
            return False
        place = header.seq, header.phase, header.round, header.sender, header.receiver, header.label
        if (party, kind, *place) != (row.party, row.kind, *row.message[:6]):
            raise self._departed(party, header, f"stands where {row.label!r} (message {row.seq}) is stored")
        if (*describe(value), self._digest(frame)) != (row.dtype, row.shape, row.sha256):
            raise self._departed(party, header, "is not the stored one")
        return True

    def step(self, party: str, step: str, header: Header, told: bool) -> bool:
        """Compare the next local step; False behind the last one. `told`: its arguments are stored."""
        found = next(self._steps, None)
        if found is None:
            if told or next(self._rows, None) is not None:
                raise self._departed(party, header, f"belongs to a step {step} that is not stored")
            return False
        said = party, header.phase, header.round, step
        if (found[0], *found[2:]) != said or not after(found[1], self._rows):
            raise self._departed(party, header, f"belongs to a step {step}; {found[4]} is stored")
        self._count_steps += 1
        return True

    @property
    def position(self) -> tuple[int, int]:
        """The last entry that was said again, and the number of steps."""
        return self._rows.least, self._count_steps

    def coins(self) -> dict[str, dict[str, bytes]]:
        """The coins of every party."""
        found: dict[str, dict[str, bytes]] = {}
        for row in list(self._open[3].rows("kind = 'coins' ORDER BY id")):
            value = self._open[3].value(row)
            if not isinstance(value, np.ndarray):
                raise DataError(f"{row.party}: its coins are no array")
            found.setdefault(row.party, {})[row.label] = value.tobytes()
        return found

    def heard(self, first: int, count: int) -> list[tuple[int, Frame]]:
        """(index, frame) of received messages; all of a broadcast are stored once, and read once."""
        found: list[tuple[int, Frame]] = []
        last: tuple[bytes, Frame] | None = None
        while self._next is not None and self._next.seq < first + count:
            row, self._next = self._next, next(self._received, None)
            if row.seq < first or row.seq in self._refused:
                continue
            if last is None or last[0] != row.sha256:
                last = row.sha256, np.frombuffer(self._open[3].frame(row), np.uint8)
            found.append((row.seq - first, last[1]))
        return found

    def close(self) -> None:
        """Close the file: a query that is under way would keep it locked."""
        for query in (self._rows, self._steps, self._received):
            query.close()
        self._closing.close()

    def _digest(self, frame: Frame) -> bytes:
        """SHA-256 of a frame; that of a broadcast is computed once."""
        if frame is not self._digested[0]:
            self._digested = (frame, digest(frame))
        return self._digested[1]

    def _departed(self, party: str, header: Header, how: str) -> Departed:
        where = f"{self._name}: what the run says now departs from its transcript"
        return Departed(f"{where}: {header.label!r} (message {header.seq}) of {party} {how}")


@dataclass(frozen=True)
class Kept:
    """How many entries of messages, and steps, of a transcript stay, and parties of which nothing does."""

    entries: int
    steps: int
    nothing_of: frozenset[str]


def taken(refused: frozenset[int]) -> str:
    """What holds of entries that are messages, but for those that were found bad, in SQL."""
    but = f" AND seq NOT IN ({', '.join(map(str, sorted(refused)))})" if refused else ""
    return f"kind NOT IN ('input', 'coins'){but}"


def cut_back(path: Path, kept: Kept, refused: frozenset[int], config: Any) -> int:
    """Take out of a transcript what stands behind what is kept, and state the run's configuration as it is
    now; returns how many messages of other parties were taken out, which somebody here had received.
    """
    if holds_nothing(path):
        return 0
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        public = json.dumps(as_plain(config))
        db.execute("UPDATE meta SET value = ? WHERE key = 'config'", (public,))
        where = f"SELECT id FROM rows WHERE {taken(refused)} ORDER BY id LIMIT 1 OFFSET ?"
        (first,) = db.execute(where, (kept.entries,)).fetchone() or (_NONE,)
        gone = f"kind = 'received' AND sender <> '{EXPERIMENTER.value}' AND id >= ?"
        (seen,) = db.execute(f"SELECT COUNT(*) FROM rows WHERE {gone}", (first,)).fetchone()
        db.execute("DELETE FROM rows WHERE id >= ?", (first,))
        strangers = [(party,) for party in sorted(kept.nothing_of)]
        db.executemany("DELETE FROM rows WHERE party = ? AND kind IN ('input', 'coins')", strangers)
        last = "SELECT id FROM steps ORDER BY id LIMIT 1 OFFSET ?"
        (step,) = db.execute(last, (kept.steps,)).fetchone() or (_NONE,)
        db.execute("DELETE FROM steps WHERE id >= ?", (step,))
        db.execute("DELETE FROM payloads WHERE sha256 NOT IN (SELECT sha256 FROM rows)")
    return int(seen)


_NONE = 1 << 62  # a number that no row has


def holds_nothing(path: Path) -> bool:
    """Whether a transcript is missing, or a process died while it made the file."""
    if not path.exists():
        return True
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            said = dict(connection.execute("SELECT key, value FROM meta"))
            return "config" not in said  # which is written last
    except sqlite3.OperationalError:
        return True
    except sqlite3.DatabaseError:
        return False
