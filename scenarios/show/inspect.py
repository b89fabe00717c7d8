"""Looking into a stored run: its rows as a table, one payload in a file, its integrity."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from parties.record.view import Kind, Row, View
from protocols.language.errors import ConfigError, DataError
from scenarios.run.folder import RunFolder, private_file
from scenarios.run.manifest import stored_hash
from scenarios.show.printable import printable
from scenarios.show.summary import plural, size

_COLUMNS = tuple("kind seq phase round sender receiver label dtype shape size sha256".split())
_NAMES = ("kind", "sender", "receiver", "label")
_LEFT_OUT = ("phase", "dtype", "sha256")  # on a narrow terminal
_WIDE = 120


def rows_table(
    run: RunFolder,
    party: str | None,
    label: str | None,
    limit: int,
    offset: int = 0,
    round: int | None = None,
    width: int = 140,
) -> Table:
    """A page of the rows of one party's view, or of everybody's sent messages in script order; what does not
    fit into `width` characters is left out, but never a part of a name.
    """
    view = run.view(party) if party else View(tuple((path, name) for name, path in run.sources.items()))
    kinds = () if party else (Kind.SENT, Kind.OUTPUT)
    shown = [column for column in _COLUMNS if width >= _WIDE or column not in _LEFT_OUT]
    table = Table(box=None, padding=(0, 2 if width >= _WIDE else 1, 0, 0))
    for column in shown:
        table.add_column(column, no_wrap=column in _NAMES, overflow="fold")
    having = {"label": label, "round": round}
    found, total = view.page(offset, limit, *kinds, **{k: v for k, v in having.items() if v is not None})
    if not total:
        raise DataError(f"no rows match; labels here: {_some(view.labels())}")
    for row in found:
        cells = dict(zip(_COLUMNS, _cells(row), strict=True))
        table.add_row(*(cells[column] for column in shown))
    more = "; --limit shows more" if offset + len(found) < total else ""
    after = f" after the first {offset}" if offset else ""
    told = [] if len(found) == total else [f"{len(found)} of {total} rows{after}{more}"]
    told += [] if width >= _WIDE else [f"{', '.join(_LEFT_OUT)}: at {_WIDE} columns"]
    table.caption = "\n".join(told) or None
    return table


def _cells(row: Row) -> tuple[str, ...]:
    seq, round_ = ("" if number < 0 else str(number) for number in (row.seq, row.round))
    shape = "x".join(map(str, row.shape))
    words = (row.kind.value, seq, row.phase, round_, row.sender, row.receiver, row.label, row.dtype, shape,
             size(row.nbytes), row.sha256.hex()[:12])  # fmt: skip
    return tuple(map(printable, words))


def dump_payload(run: RunFolder, party: str | None, label: str | None, path: Path) -> str:
    """Write the first payload that matches; returns a line that says what was written."""
    if party is None or label is None:
        raise ConfigError("--dump needs --party and --label")
    view = run.view(party)
    row = next(iter(view.rows(label)), None)
    if row is None:
        raise DataError(f"{view.parties[0]} saw no {label}; it saw {_some(view.labels())}")
    value = view.value(row)
    if path.suffix == ".npy" and isinstance(value, np.ndarray):
        with private_file(path, binary=True) as file:
            np.save(file, value, allow_pickle=False)
    else:
        with private_file(path) as file:
            file.write(json.dumps(_plain(value), indent=1) + "\n")
    shape = "x".join(map(str, row.shape))
    return printable(f"{path}: {row.label} of {view.parties[0]}, message {row.seq}, {row.dtype} {shape}")


def _some(labels: Sequence[str], most: int = 40) -> str:
    return ", ".join(labels[:most]) + (f" and {len(labels) - most} more" if len(labels) > most else "")


def _plain(value: Any) -> Any:
    """A value as JSON-able data; arrays become lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value):
        return {"type": type(value).__name__} | {
            f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)
        }
    return value


def verified(run: RunFolder, console: Console) -> None:
    """Certify the run; prints what was checked, or every fault, and then exits with status 1; with 3 for a
    run that did not come to its end.
    """
    from scenarios.run.certify import certify

    found = certify(run)
    for fault in found.faults[:20]:
        console.print(f"altered: {printable(fault)}", highlight=False, soft_wrap=True)
    if found.faults:
        console.print(plural(len(found.faults), "fault"), highlight=False)
        raise typer.Exit(1)
    manifest = None if found.incomplete else stored_hash(run)
    told = found.incomplete or f"intact: {len(run.sources)} parties, digest {run.digest()}"
    for line in (told, *([f"manifest {manifest}"] if manifest else []), *found.told):
        console.print(printable(line), highlight=False, soft_wrap=True)
    if found.incomplete:
        raise typer.Exit(3)
