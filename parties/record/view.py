"""Views: what some parties saw, read back from their transcripts."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from parties.record.transcript import Kind, Record, Row, first, open_transcript, query, read_meta, read_rows
from protocols.language.errors import ConfigError, DataError, EncodingError
from protocols.language.message import decode
from protocols.network.configs import read_config

__all__ = ["Kind", "Record", "Row", "View"]

_LAST = (1 << 63) - 1
_LABELS = "SELECT DISTINCT label FROM rows WHERE party = ? AND seq <= ?"


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
        found = first(self._open(path), "SELECT data FROM payloads WHERE sha256 = ?", row.sha256)
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
                    for (label,) in query(
                        self._open(path), _LABELS, party, _LAST if self._until is None else self._until
                    )
                }
            )
        )

    def has_payloads(self) -> bool:
        """Whether payloads were recorded, and not headers only."""
        return all(read_meta(self._open(path), "record") == Record.FULL.value for path, _ in self._sources)

    @property
    def protocol(self) -> str:
        """The name of the protocol, which is public."""
        return read_meta(self._open(self._sources[0][0]), "protocol")

    @property
    def config(self) -> Any:
        """The configuration of the run, which is public: a `Config`, or a `HeadConfig` of reverse_he."""
        path = self._sources[0][0]
        try:
            return read_config(self.protocol, json.loads(read_meta(self._open(path), "config")))
        except (ValueError, AttributeError, ConfigError):
            raise DataError(f"{path}: a transcript is damaged: its configuration cannot be read") from None

    def steps(self) -> Iterator[tuple[str, str, int, str, str]]:
        """(party, phase, round, step, public arguments) of every local step."""
        for path, party in self._sources:
            said = "SELECT party, phase, round, step, args FROM steps WHERE party = ? ORDER BY id"
            yield from query(self._open(path), said, party)

    def close(self) -> None:
        """Close the files."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _open(self, path: str) -> sqlite3.Connection:
        if path not in self._connections:
            self._connections[path] = open_transcript(path)
        return self._connections[path]


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
    return read_rows(connection, where + " ORDER BY id", tuple(args))
