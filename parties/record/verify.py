"""Whole transcripts: whose views they hold, what crossed, the digest of a run, and whether anything was altered."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from parties.record.transcript import Kind, Record, Row, first, open_transcript, query, read_meta, read_rows
from protocols.language.errors import EncodingError
from protocols.language.message import decode, describe
from protocols.language.roles import EXPERIMENTER


def parties_in(path: Path | str) -> list[str]:
    """The parties whose views a transcript holds."""
    with contextlib.closing(open_transcript(path)) as connection:
        return [
            party for (party,) in query(connection, "SELECT party FROM rows GROUP BY party ORDER BY MIN(id)")
        ]


def edges(path: Path | str) -> list[tuple[str, str, str, int, int]]:
    """(sender, receiver, label, messages, payload bytes) of everything that was sent from a transcript's parties."""
    counted = "SELECT sender, receiver, label, COUNT(*), SUM(nbytes) FROM rows WHERE kind = ? GROUP BY sender, receiver, label"
    with contextlib.closing(open_transcript(path)) as connection:
        return [
            (s, r, label, int(m), int(b)) for s, r, label, m, b in query(connection, counted, Kind.SENT.value)
        ]


def transcript_digest(paths: Iterable[Path | str]) -> str:
    """SHA-256 over the rows of all messages in script order: no time, path or host in it.

    Each message is taken from its sender's row, or its receiver's if the experimenter sent it; memory holds one row at a time
    for each file.
    """

    def sent(path: Path | str) -> Iterator[tuple[Any, ...]]:
        with contextlib.closing(open_transcript(path)) as connection:
            for row in read_rows(
                connection, f"kind IN ('sent', 'output') OR sender = '{EXPERIMENTER.value}' ORDER BY seq", ()
            ):
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
            full = read_meta(connection, "record") == Record.FULL.value
            for row in read_rows(connection, "1 ORDER BY id", ()):
                fault = _payload_fault(connection, row) if full else None
                if fault:
                    yield f"{row.party}, message {row.seq} ({row.label}): {fault}"
                if row.kind in (Kind.SENT, Kind.RECEIVED) and row.sender != EXPERIMENTER.value:
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
    found = first(connection, "SELECT data FROM payloads WHERE sha256 = ?", row.sha256)
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
