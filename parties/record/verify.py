"""Whole transcripts: what crossed, the digest of a run, and whether anything was altered."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Container, Iterable, Iterator
from contextlib import closing
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from parties.record.transcript import Transcript
from protocols.language.errors import DataError
from protocols.language.roles import EXPERIMENTER
from protocols.language.view import Kind, Row

_BETWEEN_PARTIES = f"kind IN ('sent', 'received') AND sender != '{EXPERIMENTER.value}'"
_MOST_ENDS = 3  # of one message that are looked at; it has two


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


def verify(paths: Iterable[Path | str], complete: bool = True, refused: Container[int] = ()) -> Iterator[str]:
    """Hold payloads against their rows and the two ends of messages against each other; a line per fault.

    Of a run that is not `complete` the other end may be missing where the file of its party ends before it:
    hosts commit by themselves. Of a message that was `refused` one end is enough.
    """
    sources, last = sorted(map(str, paths)), dict[str, int]()
    for path in sources:
        with closing(Transcript(path)) as transcript:
            for row in transcript.rows(f"NOT ({_BETWEEN_PARTIES}) ORDER BY id"):
                yield from _payload_faults(transcript, row) if transcript.kept_of(row) else ()
            found = transcript.first("SELECT MAX(seq) FROM rows WHERE typeof(seq) = 'integer'")
            furthest = -1 if found is None or found[0] is None else found[0]
            last |= dict.fromkeys(transcript.parties(), furthest)
    ends = heapq.merge(*map(_ends, sources), key=lambda end: end[0].seq)
    for seq, both in groupby(ends, key=lambda end: end[0].seq):
        some = list(islice(both, _MOST_ENDS))
        for _, faults in some:
            yield from faults
        if seq not in refused or len(some) > 1:
            yield from _end_faults(seq, [row for row, _ in some], last, complete)


def from_a_party(row: Row) -> bool:
    """Whether it was received from a party, and not from the experimenter."""
    return row.kind is Kind.RECEIVED and row.sender != EXPERIMENTER.value


def _payload_faults(transcript: Transcript, row: Row) -> Iterator[str]:
    try:
        transcript.value(row)
    except DataError as fault:
        yield str(fault)


def _ends(path: str) -> Iterator[tuple[Row, list[str]]]:
    """What the parties of a transcript sent each other and received, by number, and what is wrong with its
    payload.
    """
    with closing(Transcript(path)) as transcript, closing(Transcript(path)) as here:
        for row in transcript.rows(f"{_BETWEEN_PARTIES} ORDER BY seq, id"):
            # What was received is with its sender, and held against its row there; unless it is here as well.
            checked = transcript.kept_of(row) and (not from_a_party(row) or here.holds(row))
            yield row, list(_payload_faults(transcript, row)) if checked else []


def _end_faults(seq: int, ends: list[Row], last: dict[str, int], complete: bool) -> Iterator[str]:
    """Compare the two ends of a message."""
    by_kind = {row.kind: row for row in ends}
    sent, received = by_kind.get(Kind.SENT), by_kind.get(Kind.RECEIVED)
    if len(ends) > len(by_kind):
        yield f"message {seq} ({ends[0].label}): more than two parties say that it is theirs"
    elif sent is not None and received is not None:
        if sent.message != received.message:
            yield (
                f"message {seq} ({sent.label}): what {sent.party} says it sent is not what "
                f"{received.party} says it received"
            )
    else:
        (row,) = ends
        other = row.receiver if row.kind is Kind.SENT else row.sender
        if complete or last.get(other, -1) > seq:
            yield f"{other}, message {seq} ({row.label}): missing; {row.party} has it as {row.kind.value}"
