"""Transcripts: what the parties of one host saw, in one SQLite file, written as the run goes; here, how it is read back.

A row of `rows` is one entry of a party's view: an input, its coins, a message sent or received, or an output. Payloads are the
messages' canonical bytes (protocols/message.py), stored once for each digest; nothing is ever unpickled. With headers
only, rows are the same and no payload is kept. They are written by `transcript_writer.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import protocols.mitig1
import protocols.plain_fe
import protocols.reverse_he  # noqa: F401  (reading a transcript needs every class that may cross)
from protocols.language.errors import ConfigError, DataError, EncodingError
from protocols.language.message import decode, describe
from protocols.language.roles import EXPERIMENTER
from protocols.network.configs import read_config

SCHEMA = 1
Frame = NDArray[np.uint8]
_LAST = (1 << 63) - 1
_LABELS = "SELECT DISTINCT label FROM rows WHERE party = ? AND seq <= ?"
_DAMAGED = "a transcript is damaged: its rows cannot be read"


class Kind(Enum):
    """The kinds of entries in a view."""

    INPUT = "input"
    COINS = "coins"
    SENT = "sent"
    RECEIVED = "received"
    OUTPUT = "output"


class Record(Enum):
    """How much of every message is kept."""

    FULL = "full"
    HEADERS = "headers"


@dataclass(frozen=True)
class Row:
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
        return (self.seq, self.phase, self.round, self.sender, self.receiver, self.label, self.dtype, list(self.shape),
                self.sha256.hex())  # fmt: skip


_COLUMNS = tuple(field.name for field in fields(Row))


class View:
    """What some parties saw, read from their transcripts: the joint view of a coalition, or one party's.

    `view[label]` is the list of values under a label, in the order in which they crossed; a value that two corrupted parties
    exchanged counts once. Payloads are read one at a time and checked against their digest.
    """

    def __init__(self, sources: Iterable[tuple[str, str]], until: int | None = None) -> None:
        """`sources`: (path of a transcript, party) pairs; rows of other parties in these files are never read.

        With `until`, the view ends with the message of that number: what the parties had seen by then.
        """
        self._sources = tuple((str(path), party) for path, party in sources)
        self._until = until
        self.parties = tuple(party for _, party in self._sources)
        self._connections: dict[str, sqlite3.Connection] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return View, (self._sources, self._until)

    def rows(self, label: str | None = None, *kinds: Kind) -> Iterator[Row]:
        """Entries of the view in order of time, all or those of one label and of some kinds."""
        found = [
            row
            for path, party in self._sources
            for row in _select(self._open(path), party, label, kinds, self._until)
        ]
        seen: set[int] = set()
        for row in sorted(found, key=lambda row: (row.seq, row.id)):
            if row.seq >= 0 and row.seq in seen:
                continue
            seen.add(row.seq)
            yield row

    def values(self, label: str, *kinds: Kind) -> Iterator[tuple[Row, Any]]:
        """(row, value) for every entry of a label, one payload in memory at a time."""
        for row in self.rows(label, *kinds):
            yield row, self.value(row)

    def value(self, row: Row) -> Any:
        """The value of an entry; `DataError` if its payload was not recorded or was altered."""
        path = next(path for path, party in self._sources if party == row.party)
        found = _first(self._open(path), "SELECT data FROM payloads WHERE sha256 = ?", row.sha256)
        if found is None:
            raise DataError(
                f"{row.party}, message {row.seq} ({row.label}): payload not recorded (the run kept headers only)"
            )
        if not isinstance(found[0], bytes) or hashlib.sha256(found[0]).digest() != row.sha256:
            raise DataError(
                f"{row.party}, message {row.seq} ({row.label}): payload was altered after the run"
            )
        try:
            return decode(found[0])
        except EncodingError as cause:
            raise DataError(f"{row.party}, message {row.seq} ({row.label}): {cause}") from None

    def __getitem__(self, label: str) -> list[Any]:
        values = [value for _, value in self.values(label)]
        if not values:
            raise KeyError(
                f"the view of {', '.join(self.parties)} holds no {label!r}; it holds {', '.join(self.labels())}"
            )
        return values

    def __contains__(self, label: str) -> bool:
        return label in self.labels()

    def labels(self) -> tuple[str, ...]:
        """Every label in the view."""
        return tuple(
            sorted(
                {
                    label
                    for path, party in self._sources
                    for (label,) in _query(
                        self._open(path), _LABELS, party, _LAST if self._until is None else self._until
                    )
                }
            )
        )

    def has_payloads(self) -> bool:
        """Whether payloads were recorded, and not headers only."""
        return all(_meta(self._open(path), "record") == Record.FULL.value for path, _ in self._sources)

    @property
    def protocol(self) -> str:
        """The name of the protocol, which is public."""
        return _meta(self._open(self._sources[0][0]), "protocol")

    @property
    def config(self) -> Any:
        """The configuration of the run, which is public: a `Config`, or a `HeadConfig` of reverse_he."""
        path = self._sources[0][0]
        try:
            return read_config(self.protocol, json.loads(_meta(self._open(path), "config")))
        except (ValueError, AttributeError, ConfigError):
            raise DataError(f"{path}: a transcript is damaged: its configuration cannot be read") from None

    def steps(self) -> Iterator[tuple[str, str, int, str, str]]:
        """(party, phase, round, step, public arguments) of every local step."""
        for path, party in self._sources:
            said = "SELECT party, phase, round, step, args FROM steps WHERE party = ? ORDER BY id"
            yield from _query(self._open(path), said, party)

    def close(self) -> None:
        """Close the files."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _open(self, path: str) -> sqlite3.Connection:
        if path not in self._connections:
            self._connections[path] = open_transcript(path)
        return self._connections[path]


def open_transcript(path: Path | str) -> sqlite3.Connection:
    """Open a transcript for reading; `DataError` if it is missing or no transcript."""
    if not Path(path).is_file():
        raise DataError(f"{path}: no such transcript")
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False)
        (schema,) = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        connection.execute("SELECT id FROM rows LIMIT 1").fetchall()
    except (sqlite3.Error, TypeError, ValueError):
        raise DataError(f"{path}: not a transcript, or a truncated one") from None
    if schema != str(SCHEMA):
        raise DataError(f"{path}: transcript of schema {schema}, this version reads {SCHEMA}")
    return connection


def _meta(connection: sqlite3.Connection, key: str) -> str:
    found = _first(connection, "SELECT value FROM meta WHERE key = ?", key)
    if found is None:
        raise DataError(f"a transcript lacks its {key}")
    return str(found[0])


def parties_in(path: Path | str) -> list[str]:
    """The parties whose views a transcript holds."""
    with contextlib.closing(open_transcript(path)) as connection:
        return [
            party for (party,) in _query(connection, "SELECT party FROM rows GROUP BY party ORDER BY MIN(id)")
        ]


def edges(path: Path | str) -> list[tuple[str, str, str, int, int]]:
    """(sender, receiver, label, messages, payload bytes) of everything that was sent from a transcript's parties."""
    query = "SELECT sender, receiver, label, COUNT(*), SUM(nbytes) FROM rows WHERE kind = ? GROUP BY sender, receiver, label"
    with contextlib.closing(open_transcript(path)) as connection:
        return [
            (s, r, label, int(m), int(b)) for s, r, label, m, b in _query(connection, query, Kind.SENT.value)
        ]


def transcript_digest(paths: Iterable[Path | str]) -> str:
    """SHA-256 over the rows of all messages in script order: no time, path or host in it.

    Each message is taken from its sender's row; memory holds one row at a time for each file.
    """

    def sent(path: Path | str) -> Iterator[tuple[Any, ...]]:
        with contextlib.closing(open_transcript(path)) as connection:
            for row in _rows(connection, "kind IN ('sent', 'output') ORDER BY seq", ()):
                yield row.message

    hasher = hashlib.sha256()
    for message in heapq.merge(*(sent(path) for path in paths)):
        hasher.update(json.dumps(message, separators=(",", ":")).encode() + b"\n")
    return hasher.hexdigest()


def verify(paths: Iterable[Path | str]) -> Iterator[str]:
    """Check every payload against its digest and both ends of every message against each other; yields one line a fault."""
    ends: dict[int, dict[Kind, Row]] = {}
    for path in sorted(map(str, paths)):
        with contextlib.closing(open_transcript(path)) as connection:
            full = _meta(connection, "record") == Record.FULL.value
            for row in _rows(connection, "1 ORDER BY id", ()):
                fault = _payload_fault(connection, row) if full else None
                if fault:
                    yield f"{row.party}, message {row.seq} ({row.label}): {fault}"
                if row.kind in (Kind.SENT, Kind.RECEIVED):
                    pair = ends.setdefault(row.seq, {})
                    pair[row.kind] = row
                    if len(pair) == 2:
                        sent, received = pair[Kind.SENT], pair[Kind.RECEIVED]
                        if sent.message != received.message:
                            yield (f"message {row.seq} ({row.label}): what {sent.party} says it sent is not what "
                                   f"{received.party} says it received")  # fmt: skip
                        del ends[row.seq]
    for seq, pair in sorted(ends.items()):
        (row,) = pair.values()
        other = row.receiver if row.kind is Kind.SENT else row.sender
        yield f"{other}, message {seq} ({row.label}): missing; {row.party} has it as {row.kind.value}"


def _payload_fault(connection: sqlite3.Connection, row: Row) -> str | None:
    found = _first(connection, "SELECT data FROM payloads WHERE sha256 = ?", row.sha256)
    if found is None:
        return "payload missing"
    if (
        not isinstance(found[0], bytes)
        or len(found[0]) != row.nbytes
        or hashlib.sha256(found[0]).digest() != row.sha256
    ):
        return "payload altered"
    try:
        dtype, shape = describe(decode(found[0]))
    except EncodingError as cause:
        return str(cause)
    return None if (dtype, shape) == (row.dtype, row.shape) else "dtype or shape altered"


def _select(
    connection: sqlite3.Connection, party: str, label: str | None, kinds: tuple[Kind, ...], until: int | None
) -> Iterator[Row]:
    where: str = "party = ?"
    args: list[Any] = [party]
    if until is not None:  # inputs and coins carry no number of a message (-1)
        where, args = where + " AND seq <= ?", [*args, until]
    if label is not None:
        where, args = where + " AND label = ?", [*args, label]
    if kinds:
        where += f" AND kind IN ({','.join('?' * len(kinds))})"
        args += [kind.value for kind in kinds]
    return _rows(connection, where + " ORDER BY id", tuple(args))


def _rows(connection: sqlite3.Connection, where: str, args: tuple[Any, ...]) -> Iterator[Row]:
    for record in _query(connection, f"SELECT {', '.join(_COLUMNS)} FROM rows WHERE {where}", *args):
        yield _row(record)


def _row(record: tuple[Any, ...]) -> Row:
    """A row of the table, checked: the file may be damaged, or somebody else's."""
    values: dict[str, Any] = dict(zip(_COLUMNS, record, strict=True))
    try:
        row = Row(
            **values | {"kind": Kind(values["kind"]), "shape": tuple(map(int, json.loads(values["shape"])))}
        )
    except (ValueError, TypeError):
        raise DataError(_DAMAGED) from None
    texts = (row.party, row.phase, row.sender, row.receiver, row.label, row.dtype)
    numbers = (row.id, row.seq, row.round, row.nbytes)
    if not (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(number, int) for number in numbers)
        and isinstance(row.sha256, bytes)
    ):
        raise DataError(_DAMAGED)
    return row


def _query(connection: sqlite3.Connection, statement: str, *args: Any) -> Iterator[tuple[Any, ...]]:
    """The records of a query; `DataError` if the file is damaged where they lie."""
    try:
        yield from connection.execute(statement, args)
    except (sqlite3.Error, UnicodeDecodeError):
        raise DataError(_DAMAGED) from None


def _first(connection: sqlite3.Connection, statement: str, *args: Any) -> tuple[Any, ...] | None:
    return next(_query(connection, statement, *args), None)


__all__ = ["EXPERIMENTER", "Kind", "Record", "Row", "View", "open_transcript", "parties_in",
           "transcript_digest", "verify"]  # fmt: skip
