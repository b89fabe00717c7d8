"""Entries of a run's transcripts by page and by filter, in SQL: no payload is read, and no column of rows.

Transcripts are opened for each question: a run that is not finished may still be written to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeVar

from parties.record.transcript import Transcript
from protocols.language.errors import DataError
from protocols.language.roles import EXPERIMENTER
from protocols.language.view import Row
from scenarios.page.timeline import Crossing
from scenarios.run.folder import RunFolder

PAGE = 50  # entries
MOST_KINDS = 1000  # of messages, of a transcript; an honest one has some dozens
_MOST_NAMES = 20_000  # that are looked at for what there is to choose from
_AT_ONCE = 4  # transcripts
_END = (1 << 63) - 1
# Of everybody, what was received is listed as it was sent; of a party, as it saw it.
_ONCE = f"(kind <> 'received' OR sender = '{EXPERIMENTER.value}')"
KINDS = {
    "": "main entries",
    "messages": "messages",
    "input": "inputs",
    "public": "arguments of steps",
    "all": "every entry",
}
_OF_KIND = {
    "": "kind <> 'public'",
    "messages": "kind IN ('sent', 'received', 'output')",
    "input": "kind = 'input'",
    "public": "kind = 'public'",
    "all": "1",
}
_CUT = "substr({0}, 1, 256)"  # of a stranger's text
_ROLE = "substr({0}, 1, min(256, instr({0} || ':', ':') - 1))"
_SENT = (
    f"SELECT {_CUT.format('phase')}, {_ROLE.format('sender')}, {_ROLE.format('receiver')}, "
    f"{_CUT.format('label')}, MIN(seq), COUNT(*), SUM(nbytes) FROM rows WHERE kind = 'sent' "
    f"GROUP BY 1, 2, 3, 4 LIMIT {MOST_KINDS}"
)
_NAMES = ", ".join(map(_CUT.format, ("party", "phase", "label")))
_KNOWN = f"SELECT DISTINCT {_NAMES} FROM rows LIMIT {_MOST_NAMES}"
_STEP = "SELECT step FROM steps WHERE party = ? AND after_row < ? ORDER BY id DESC LIMIT 1"


T = TypeVar("T")


class Place(NamedTuple):
    """Where an entry stands in order of time: number of its message, then file, then its place there."""

    seq: int
    file: int
    id: int

    def __str__(self) -> str:
        return ".".join(map(str, self))

    @classmethod
    def of(cls, text: str) -> Place | None:
        """As an address states it; None for what is none."""
        parts = text.split(".")
        try:
            seq, file, id_ = (int(part) for part in parts)
        except ValueError:
            return None
        return (
            cls(seq, file, id_) if -1 <= seq <= _END and 0 <= file <= 1 << 31 and 0 <= id_ <= _END else None
        )


class Entry(NamedTuple):
    """An entry and where it stands."""

    place: Place
    row: Row


@dataclass(frozen=True)
class Wanted:
    """Which entries are asked for: of a party or of all who play a role, of a phase, ...; `seqs`, those of
    messages with these numbers alone.
    """

    party: str = ""
    phase: str = ""
    label: str = ""
    kind: str = ""
    first: int | None = None  # round
    last: int | None = None
    seqs: tuple[int, ...] | None = None

    def condition(self) -> tuple[str, list[Any]]:
        """The same in SQL, and its arguments."""
        parts, args = [_OF_KIND.get(self.kind, "1")], list[Any]()
        if not self.party:
            parts.append(_ONCE)
        elif ":" in self.party:
            parts.append("party = ?")
            args.append(self.party)
        else:
            parts.append("(party = ? OR (party >= ? AND party < ?))")  # `;` comes after `:`
            args += [self.party, f"{self.party}:", f"{self.party};"]
        for column, value in (("phase", self.phase), ("label", self.label)):
            if value:
                parts.append(f"{column} = ?")
                args.append(value)
        for compared, number in (("round >= ?", self.first), ("round <= ?", self.last)):
            if number is not None:
                parts.append(compared)
                args.append(number)
        if self.seqs is not None:
            parts.append("seq IN (SELECT value FROM json_each(?))")
            args.append(json.dumps(self.seqs))
        return " AND ".join(parts), args


@dataclass(frozen=True)
class Page:
    """Entries in order, whether there are some before and after, and how many there are in all."""

    entries: list[Entry]
    before: bool
    after: bool
    total: int


@dataclass(frozen=True)
class Choices:
    """What there is to filter by."""

    parties: list[str]
    phases: list[str]
    labels: list[str]
    rounds: int  # the last one; -1 where messages are in no rounds
    entries: int


class Entries:
    """The entries of a run."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._found: tuple[Any, Choices] | None = None
        self._lock = Lock()

    @property
    def files(self) -> list[Path]:
        """The transcripts, in the order in which places name them."""
        return self._run.transcripts

    def page(self, wanted: Wanted, start: Place | None = None, back: bool = False, most: int = PAGE) -> Page:
        """Up to `most` entries after a place, or with `back` before it; from an end without a place."""
        condition, args = wanted.condition()
        order = "seq DESC, id DESC" if back else "seq, id"

        def asked(file: int, transcript: Transcript) -> tuple[int, list[Entry]]:
            (counted,) = transcript.first(f"SELECT COUNT(*) FROM rows WHERE {condition}", *args) or (0,)
            beyond, place = _beyond(start, file, back)
            where = f"{condition} AND {beyond} ORDER BY {order} LIMIT ?"
            rows = transcript.rows(where, *args, *place, most + 1)
            return counted, [Entry(Place(row.seq, file, row.id), row) for row in rows]

        parts = self._of_each(asked)
        total, found = sum(counted for counted, _ in parts), [each for _, some in parts for each in some]
        found.sort(reverse=back)
        more, found = len(found) > most, found[:most]
        if back:
            return Page(found[::-1], more, start is not None, total)
        return Page(found, start is not None, more, total)

    def entry(self, file: int, id_: int) -> Entry:
        """One entry; `DataError` where there is none."""
        with self._file(file) as transcript:
            row = next(transcript.rows("id = ?", id_), None)
        if row is None:
            raise DataError("there is no such entry")
        return Entry(Place(row.seq, file, id_), row)

    def value(self, entry: Entry) -> Any:
        """The value of an entry; `NotRecorded` or `DataError` as `Transcript.value`."""
        with self._file(entry.place.file) as transcript:
            return transcript.value(entry.row)

    def step_before(self, entry: Entry) -> str:
        """The last local step of the party before an entry; empty if there is none."""
        with self._file(entry.place.file) as transcript:
            found = transcript.first(_STEP, entry.row.party, entry.place.id)
        return "" if found is None else str(found[0])

    def choices(self) -> Choices:
        """What to filter by; asked again only when a transcript has changed."""
        now = [(path, path.stat().st_mtime_ns, path.stat().st_size) for path in _with_logs(self.files)]
        with self._lock:
            if self._found is None or self._found[0] != now:
                self._found = now, self._choices()
            return self._found[1]

    def _choices(self) -> Choices:
        def asked(_: int, transcript: Transcript) -> tuple[set[tuple[Any, ...]], Any, int]:
            last, count = transcript.first("SELECT MAX(round), COUNT(*) FROM rows") or (None, 0)
            return set(transcript.query(_KNOWN)), last, count

        parts = self._of_each(asked)
        known = {tuple(map(str, names)) for some, _, _ in parts for names in some}
        rounds = max((last for _, last, _ in parts if isinstance(last, int)), default=-1)
        entries = sum(count for _, _, count in parts)
        parties, phases, labels = ({names[k] for names in known} for k in range(3))
        roles = {party.partition(":")[0] for party in parties}
        return Choices(sorted(parties | roles), sorted(phases - {""}), sorted(labels), rounds, entries)

    def crossings(self) -> list[Crossing]:
        """What crossed between roles in the whole run, in the order of first messages."""
        parts = self._of_each(lambda _, transcript: list(transcript.query(_SENT)))
        found: dict[tuple[str, ...], list[tuple[int, int, int]]] = {}
        for phase, sender, receiver, label, *numbers in (each for some in parts for each in some):
            key = str(phase), str(sender), str(receiver), str(label)
            found.setdefault(key, []).append((numbers[0], numbers[1], numbers[2]))
        crossed = []
        for (phase, sender, receiver, label), each in found.items():
            first, counts, sizes = zip(*each, strict=True)
            crossed.append(Crossing(phase, sender, receiver, label, min(first), [sum(counts)], [sum(sizes)]))
        return sorted(crossed, key=lambda each: each.first)

    def _of_each(self, asked: Callable[[int, Transcript], T]) -> list[T]:
        """What each transcript answers; they are asked at the same time, as SQLite does not hold the
        interpreter.
        """

        def one(file: int, path: Path) -> T:
            with _opened(path) as transcript:
                return asked(file, transcript)

        files = self.files
        with ThreadPoolExecutor(max(1, min(_AT_ONCE, len(files)))) as pool:
            return list(pool.map(one, range(len(files)), files))

    @contextmanager
    def _file(self, number: int) -> Iterator[Transcript]:
        files = self.files
        if not 0 <= number < len(files):
            raise DataError("there is no such transcript")
        with _opened(files[number]) as transcript:
            yield transcript


def _opened(path: Path) -> closing[Transcript]:
    return closing(Transcript(path))


def _with_logs(files: list[Path]) -> list[Path]:
    logs = [path.with_name(f"{path.name}-wal") for path in files]
    return [*files, *(log for log in logs if log.is_file())]


def _beyond(start: Place | None, file: int, back: bool) -> tuple[str, list[int]]:
    """What holds of the entries of a file beyond a place, in SQL, and its arguments."""
    if start is None:
        return "1", []
    sign = "<" if back else ">"
    if file == start.file:
        return f"(seq, id) {sign} (?, ?)", [start.seq, start.id]
    also = "=" if (file < start.file) == back else ""
    return f"seq {sign}{also} ?", [start.seq]
