"""Whole transcripts: what crossed, the digest of a run, and whether anything was altered."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from parties.record.transcript import Transcript
from protocols.language.errors import DataError
from protocols.language.roles import EXPERIMENTER
from protocols.language.view import Kind, Row


def parties_in(path: Path | str) -> list[str]:
    """The parties whose views a transcript holds."""
    with closing(Transcript(path)) as transcript:
        return transcript.parties()


def edges(path: Path | str) -> list[tuple[str, str, str, int, int]]:
    """(sender, receiver, label, messages, payload bytes) of all that a transcript's parties sent."""
    asked = "SELECT sender, receiver, label, COUNT(*), SUM(nbytes) FROM rows WHERE kind = ? GROUP BY 1, 2, 3"
    with closing(Transcript(path)) as transcript:
        return [
            (s, r, label, int(m), int(b)) for s, r, label, m, b in transcript.query(asked, Kind.SENT.value)
        ]


def transcript_digest(paths: Iterable[Path | str]) -> str:
    """SHA-256 over the rows of all messages in script order: no time, path or host in it.

    Each message is taken from its sender's row, or its receiver's if the experimenter sent it; memory holds
    one row at a time for each file.
    """

    def sent(path: Path | str) -> Iterator[tuple[Any, ...]]:
        with closing(Transcript(path)) as transcript:
            mine = f"kind IN ('sent', 'output') OR sender = '{EXPERIMENTER.value}' ORDER BY seq"
            for row in transcript.rows(mine):
                yield row.message

    hasher = hashlib.sha256()
    for message in heapq.merge(*(sent(path) for path in paths)):
        hasher.update(json.dumps(message, separators=(",", ":")).encode() + b"\n")
    return hasher.hexdigest()


def verify(paths: Iterable[Path | str], complete: bool = True) -> Iterator[str]:
    """Hold payloads against their rows and the two ends of messages against each other; a line per fault.

    Of a run that is not `complete` the other end may be missing where the file of its party ends before it:
    hosts commit by themselves.
    """
    ends: dict[int, Row] = {}
    last: dict[str, int] = {}
    for path in sorted(map(str, paths)):
        with closing(Transcript(path)) as transcript:
            full, furthest = transcript.full, -1
            for row in transcript.rows("1 ORDER BY id"):
                # What was received is with its sender, and held against its row there.
                yield from _payload_faults(transcript, row) if full and not from_a_party(row) else ()
                furthest = max(furthest, row.seq)
                if row.kind is Kind.SENT or from_a_party(row):
                    yield from _end_faults(ends, row)
            last |= dict.fromkeys(transcript.parties(), furthest)
    for seq, row in sorted(ends.items()):
        other = row.receiver if row.kind is Kind.SENT else row.sender
        if complete or last.get(other, -1) > seq:
            yield f"{other}, message {seq} ({row.label}): missing; {row.party} has it as {row.kind.value}"


def from_a_party(row: Row) -> bool:
    """Whether it was received from a party, and not from the experimenter."""
    return row.kind is Kind.RECEIVED and row.sender != EXPERIMENTER.value


def _payload_faults(transcript: Transcript, row: Row) -> Iterator[str]:
    try:
        transcript.value(row)
    except DataError as fault:
        yield str(fault)


def _end_faults(ends: dict[int, Row], row: Row) -> Iterator[str]:
    """Compare a message with its other end, or keep it until that comes."""
    other = ends.pop(row.seq, None)
    if other is None or other.kind is row.kind:
        ends[row.seq] = row
        return
    sent, received = (row, other) if row.kind is Kind.SENT else (other, row)
    if sent.message != received.message:
        yield (
            f"message {row.seq} ({row.label}): what {sent.party} says it sent is not what "
            f"{received.party} says it received"
        )
