"""The format of a transcript: what the parties of one host saw, in one SQLite file, written as the run goes.

A row of `rows` is one entry of a party's view: an input, its coins, a message sent or received, an
output, or what the script told a step.
Payloads are the messages' canonical bytes (protocols/language/message.py), stored once for each digest, by
who sent them: a receiver's is found in the file of its sender, which lies beside its own. What zstandard
makes shorter is stored so. Nothing is ever unpickled. Rows are the same whichever payloads a run keeps
(`kept.py`). `writer.py` writes it, `view.py` reads it, `verify.py` checks it.

A file may be a stranger's. It is opened only if its schema is exactly the one that `TABLES` makes: a view, a
trigger or a virtual table would run what the stranger wrote. And since the pages of a damaged table may lead
in circles, a query ends when it has done more than a sound file of that size can ask for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Generator, Iterable
from functools import cache, cached_property, lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from parties.record.kept import Kept
from parties.record.kept import Record as Record
from protocols.language.errors import DataError, EncodingError, NotRecorded
from protocols.language.message import decode, describe
from protocols.language.view import Kind, Row

SCHEMA = 3
_READ = ("2", "3")  # in schema 2 both ends of a message kept it, and nothing was compressed
Frame = NDArray[np.uint8]
TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS payloads (id INTEGER PRIMARY KEY, sha256 BLOB UNIQUE, data BLOB);
CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, party TEXT, kind TEXT, seq INTEGER, phase TEXT,
    round INTEGER, sender TEXT, receiver TEXT, label TEXT, dtype TEXT, shape TEXT, nbytes INTEGER,
    sha256 BLOB);
CREATE TABLE IF NOT EXISTS steps (id INTEGER PRIMARY KEY, party TEXT, after_row INTEGER, phase TEXT,
    round INTEGER, step TEXT);
"""
_ROW_BYTES = 32  # a row takes more: its digest alone has that
_ROW_WORK = 100  # instructions of SQLite's machine that a row may cost a query; about 40 for thirteen columns
_LONGEST = 256  # characters of a label, of the name of a party, ...
_PARTY = re.compile(r"[^\W\d]\w*(:\d{1,9})?")  # as protocols/language/roles.py makes them
_MASTER = "SELECT type, name, sql FROM sqlite_master"
_PAYLOAD = (  # what has another length or type is not read
    "SELECT CASE WHEN typeof(data) = 'blob' AND length(data) <= ? THEN data END "
    "FROM payloads WHERE sha256 = ?"
)
_LAST_RECEIVED = "SELECT sender, MAX(seq) FROM rows WHERE party = ? AND kind = 'received' GROUP BY sender"
_LAST_SENT = "SELECT party, MAX(seq) FROM rows WHERE kind = 'sent' GROUP BY party"
_DAMAGED = "a transcript is damaged: its rows cannot be read"


_TYPES = (int, str, str, int, str, int, str, str, str, str, str, int, bytes)  # of the columns of a row
_texts = itemgetter(*(column for column, kind in enumerate(_TYPES) if kind is str))


@cache
def _know_classes() -> None:
    """A payload may be of any class that crosses; rows are read without, as these take seconds to import."""
    import protocols.mitig1
    import protocols.plain_fe
    import protocols.reverse_he  # noqa: F401


class Entries:
    """The rows of a transcript in their order, without those of messages that were found bad. A step that
    stands after row `least` to `most` stands after the last row that was taken.
    """

    def __init__(self, transcript: Transcript, refused: frozenset[int], behind: int = 0) -> None:
        """Those `behind` an entry."""
        self._rows = transcript.rows("id > ? ORDER BY id", behind)
        self._refused = refused
        self._next: Row | None = None
        self.least = self.most = behind
        self._look()

    def __next__(self) -> Row:
        row = self._next
        if row is None:
            raise StopIteration
        self.least = self.most = row.id
        self._look()
        return row

    def close(self) -> None:
        """End the query."""
        self._rows.close()

    def _look(self) -> None:
        self._next = next(self._rows, None)
        while self._next is not None and self._next.seq in self._refused:
            self.most = self._next.id
            self._next = next(self._rows, None)


class Transcript:
    """A transcript that is open for reading."""

    def __init__(self, path: Path | str) -> None:
        """Raises `DataError` if there is no such file, or one that is no transcript."""
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"{path}: no such transcript")
        self._most = self._left = 0
        self._beside: dict[str, list[Transcript]] = {}
        self._sent: dict[str, int] = {}
        try:
            self._connection = _connect(self.path, self._tick)
            found = _tables(self.query(_MASTER))
        except (sqlite3.Error, DataError):
            raise DataError(f"{path}: not a transcript, or a truncated one") from None
        if found != _schema():
            raise DataError(
                f"{path}: not a transcript: a transcript has four tables, and no views or triggers"
            )
        if self.meta("schema") not in _READ:
            raise DataError(f"{path}: not a transcript of schema {SCHEMA}, which this version reads")

    def _tick(self) -> int:
        self._left -= 1
        return self._left < 0

    def query(self, statement: str, *args: Any) -> Generator[tuple[Any, ...], None, None]:
        """The records of a query; `DataError` if the file is damaged there, or has more than it can hold."""
        self._most = 1000 + self._nbytes() // _ROW_BYTES
        yield from self._records(statement, args)

    def _records(self, statement: str, args: tuple[Any, ...]) -> Generator[tuple[Any, ...], None, None]:
        self._left = self._most * _ROW_WORK // _TICK + 1
        try:
            for count, record in enumerate(self._connection.execute(statement, args)):
                if count > self._most:
                    raise DataError(_DAMAGED)
                yield record
        except (sqlite3.Error, UnicodeDecodeError, OverflowError):
            raise DataError(_DAMAGED) from None

    def _nbytes(self) -> int:
        """The size of the file, and of the log beside it that a run has not folded into it yet, or never
        will.
        """
        log = self.path.with_name(f"{self.path.name}-wal")
        return sum(path.stat().st_size for path in (self.path, log) if path.is_file())

    def first(self, statement: str, *args: Any) -> tuple[Any, ...] | None:
        """The first record of a query."""
        with contextlib.closing(self._records(statement, args)) as records:
            return next(records, None)

    def meta(self, key: str) -> str:
        """What the file says of the whole run."""
        found = self.first("SELECT value FROM meta WHERE key = ?", key)
        if found is None:
            raise DataError(f"a transcript lacks its {key}")
        return str(found[0])

    @cached_property
    def kept(self) -> Kept:
        """Which payloads the run kept."""
        more = self.first("SELECT value FROM meta WHERE key = 'kept'")
        return Kept.of(self.meta("record"), None if more is None else str(more[0]))

    def kept_of(self, row: Row) -> bool:
        """Whether the payload of a row was to be kept."""
        return self.kept.keeps(row.party, row.kind, row)

    def parties(self) -> list[str]:
        """The parties whose views it holds, in the order of their first entries."""
        parties = [party for (party,) in self.query("SELECT party FROM rows GROUP BY party ORDER BY MIN(id)")]
        if not all(isinstance(party, str) and _PARTY.fullmatch(party) for party in parties):
            raise DataError(f"{self.path}: a transcript is damaged: it names a party that cannot be one")
        return parties

    def rows(self, where: str, *args: Any) -> Generator[Row, None, None]:
        """The rows for which a condition holds, in the order that it states."""
        for record in self.query(f"SELECT {', '.join(Row._fields)} FROM rows WHERE {where}", *args):
            yield _row(record)

    def value(self, row: Row) -> Any:
        """The value of an entry; `NotRecorded` if its payload was not kept, `DataError` if it is not what the
        row says.
        """
        try:
            return self._payload(row)
        except NotRecorded:
            raise
        except (DataError, EncodingError) as cause:
            raise DataError(f"{row.party}, message {row.seq} ({row.label}): {cause}") from None

    def frame(self, row: Row) -> bytes:
        """The canonical bytes of an entry; `NotRecorded` or `DataError` where they are not kept, missing or
        altered.
        """
        found = self.first(_PAYLOAD, row.nbytes, row.sha256) or self._with_sender(row)
        if found is None and not self.kept_of(row):
            raise NotRecorded(row.label, row.phase, row.round, row.seq)
        if found is None:
            raise DataError("payload missing")
        frame = b"" if found[0] is None else unpacked(found[0], row.nbytes)
        if hashlib.sha256(frame).digest() != row.sha256:
            raise DataError("payload altered")
        return frame

    def first_lacking(self, party: str) -> int | None:
        """The number of a party's first message that its sender had not committed when it was killed: the
        sender's entries, which lie beside, end before it, and nobody has its payload. What is lacking
        otherwise is an error for whoever reads it.
        """
        if not self.kept.some(party):
            return None
        ends = {sender: seq for sender, seq in self.query(_LAST_RECEIVED, party) if isinstance(seq, int)}
        behind = {sender for sender, seq in ends.items() if seq > self._last_sent(sender, seq)}
        if not behind:
            return None
        received = self.rows("party = ? AND kind = 'received' ORDER BY seq", party)
        with contextlib.closing(received) as rows, contextlib.closing(Transcript(self.path)) as kept:
            theirs = (row for row in rows if row.sender in behind and self.kept_of(row))
            return next((row.seq for row in theirs if not kept.keeps(row)), None)

    def _last_sent(self, sender: str, otherwise: int) -> int:
        """The number of the last message in a sender's own transcript; where there is none, `otherwise`."""
        if sender not in self._sent:
            others = self._beside_of(sender)
            found = [dict(other.query(_LAST_SENT)) for other in others]
            self._sent |= {name: seq for each in found for name, seq in each.items() if isinstance(seq, int)}
            self._sent.setdefault(sender, -1 if others else otherwise)
        return self._sent[sender]

    def keeps(self, row: Row) -> bool:
        """Whether the payload of a row is here, or with its sender."""
        return self.holds(row) or any(other.holds(row) for other in self._of_sender(row))

    def holds(self, row: Row) -> bool:
        """Whether the payload of a row is in this file."""
        return self.first("SELECT 1 FROM payloads WHERE sha256 = ?", row.sha256) is not None

    def _with_sender(self, row: Row) -> tuple[Any, ...] | None:
        """The payload of a message as its sender keeps it."""
        kept = (each.first(_PAYLOAD, row.nbytes, row.sha256) for each in self._of_sender(row))
        return next((found for found in kept if found is not None), None)

    def _of_sender(self, row: Row) -> list[Transcript]:
        """The transcripts beside this one that can hold the payload of a message that was received."""
        return self._beside_of(row.sender) if row.kind is Kind.RECEIVED else []

    def _beside_of(self, party: str) -> list[Transcript]:
        """The transcripts beside this one of hosts of a party's role."""
        role = party.partition(":")[0]
        if role not in self._beside:
            known = (path for path in sorted(self.path.parent.glob("*.sqlite")) if path != self.path)
            self._beside[role] = [Transcript(path) for path in known if path.stem.partition(".")[0] == role]
        return self._beside[role]

    def _payload(self, row: Row) -> Any:
        _know_classes()
        value = decode(self.frame(row))
        if describe(value) != (row.dtype, row.shape):
            raise DataError("dtype or shape altered")
        return value

    def close(self) -> None:
        """Close the file, and those beside it that were asked."""
        for others in self._beside.values():
            for other in others:
                other.close()
        self._connection.close()


def packed(frame: Frame) -> Any:
    """A payload as it is stored: compressed, where that makes it shorter, by what a reader accepts."""
    if frame.nbytes < _LEAST_PACKED:
        return frame.data
    found = zstandard.ZstdCompressor(level=_LEVEL).compress(frame.data)
    return found if frame.nbytes / _RATIO <= len(found) < frame.nbytes else frame.data


def unpacked(data: bytes, nbytes: int) -> bytes:
    """The frame of `nbytes` bytes out of what was stored; empty if it is none."""
    if len(data) == nbytes:
        return data
    try:
        if nbytes > _RATIO * len(data) or zstandard.frame_content_size(data) != nbytes:
            return b""
        return zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError:
        return b""


_LEVEL = 1  # of zstandard: higher ones gain 2 % on keys and cost more
_RATIO = 64  # what takes less of its own size is stored as it is: a stranger's file cannot fill the memory
_LEAST_PACKED = 256  # bytes
_TICK = 1000


def _connect(path: Path, tick: Callable[[], int]) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
    connection.set_progress_handler(tick, _TICK)
    for setting in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON", "mmap_size = 0"):
        connection.execute(f"PRAGMA {setting}")
    return connection


@lru_cache(maxsize=1)
def _schema() -> frozenset[tuple[Any, ...]]:
    """What `sqlite_master` of a transcript holds."""
    with contextlib.closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(TABLES)
        return _tables(fresh.execute(_MASTER))


def _tables(master: Iterable[tuple[Any, ...]]) -> frozenset[tuple[Any, ...]]:
    """The entries of `sqlite_master`, however their statements are broken into lines."""
    return frozenset((kind, name, " ".join(str(sql).split())) for kind, name, sql in master)


def _row(record: tuple[Any, ...]) -> Row:
    """A row of the table, checked: the file may be damaged, or somebody else's."""
    if tuple(map(type, record)) != _TYPES or max(map(len, _texts(record))) > _LONGEST:
        raise DataError(_DAMAGED)
    number, party, kind, *others, shape, nbytes, sha256 = record
    try:
        return Row._make((number, party, Kind(kind), *others, _shape(shape), nbytes, sha256))
    except (ValueError, RecursionError):
        raise DataError(_DAMAGED) from None


@lru_cache(maxsize=1024)
def _shape(text: str) -> tuple[int, ...]:
    """A shape as it is stored, such as `[16, 64]`."""
    shape = json.loads(text)
    if not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError("not a shape")
    return tuple(shape)
