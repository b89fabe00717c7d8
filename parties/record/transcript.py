"""The format of a transcript: what the parties of one host saw, in one SQLite file, written as the run goes.

A row of `rows` is one entry of a party's view: an input, its coins, a message sent or received, or an output. Payloads
are the messages' canonical bytes (protocols/language/message.py), stored once for each digest; nothing is ever
unpickled. With headers only, rows are the same and no payload is kept. `writer.py` writes it, `view.py` reads it,
`verify.py` checks it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import protocols.mitig1
import protocols.plain_fe
import protocols.reverse_he  # noqa: F401  (reading a transcript needs every class that may cross)
from protocols.language.errors import DataError
from protocols.language.view import Kind, Row

__all__ = ["Kind", "Record", "Row", "first", "open_transcript", "query", "read_meta", "read_rows"]

SCHEMA = 1
Frame = NDArray[np.uint8]
_DAMAGED = "a transcript is damaged: its rows cannot be read"


class Record(Enum):
    """How much of every message is kept."""

    FULL = "full"
    HEADERS = "headers"


_COLUMNS = tuple(field.name for field in fields(Row))


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


def read_meta(connection: sqlite3.Connection, key: str) -> str:
    found = first(connection, "SELECT value FROM meta WHERE key = ?", key)
    if found is None:
        raise DataError(f"a transcript lacks its {key}")
    return str(found[0])


def read_rows(connection: sqlite3.Connection, where: str, args: tuple[Any, ...]) -> Iterator[Row]:
    for record in query(connection, f"SELECT {', '.join(_COLUMNS)} FROM rows WHERE {where}", *args):
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


def query(connection: sqlite3.Connection, statement: str, *args: Any) -> Iterator[tuple[Any, ...]]:
    """The records of a query; `DataError` if the file is damaged where they lie."""
    try:
        yield from connection.execute(statement, args)
    except (sqlite3.Error, UnicodeDecodeError):
        raise DataError(_DAMAGED) from None


def first(connection: sqlite3.Connection, statement: str, *args: Any) -> tuple[Any, ...] | None:
    return next(query(connection, statement, *args), None)
