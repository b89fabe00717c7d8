"""A transcript for other programs: its entries as a Parquet table, and its messages as a trace that Perfetto
(ui.perfetto.dev) or chrome://tracing draws.

Payloads stay where they are. Memory holds some thousand entries at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any

from parties.record.transcript import Transcript
from protocols.language.errors import ConfigError
from protocols.language.session import NO_ROUND
from protocols.language.view import Kind, Row
from scenarios.run.folder import RunFolder, private_file
from scenarios.show.units import moment

_GROUP = 1 << 16  # entries of a row group
_UNIT = 1000  # microseconds of the trace that stand for one message
_WIDTH = 900  # of them, those that an entry fills
_PHASES, _TURNS, _PARTIES = 1, 2, 3  # threads
_CROSSED = "seq >= 0 AND kind <> 'public'"
_STEPS = (
    "SELECT steps.party, steps.step, steps.phase, steps.round, rows.seq FROM steps "
    "LEFT JOIN rows ON rows.id = steps.after_row ORDER BY steps.id"
)
_NO_CLOCK = (
    "A transcript has no clock: a millisecond of this trace is one message, in the order of their numbers"
)

Event = dict[str, Any]


def write_parquet(run: RunFolder, path: Path) -> Path:
    """Write a table with a row for each entry of each party's view; `ConfigError` without pyarrow.

    A message is there twice, as `sent` and as `received`. Columns are those of a row of a transcript, the
    host whose transcript it is, and whether the payload was to be kept.
    """
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(
            "--to parquet needs pyarrow: pip install pyarrow; in a clone "
            "pip install -c constraints.txt -e '.[export]'"
        ) from None
    word = arrow.dictionary(arrow.int32(), arrow.string())
    kinds = {
        "host": word, "party": word, "kind": word, "seq": arrow.int64(), "phase": word,
        "round": arrow.int64(),
        "sender": word, "receiver": word, "label": word, "dtype": word, "shape": arrow.list_(arrow.int64()),
        "nbytes": arrow.int64(), "sha256": arrow.binary(), "payload_kept": arrow.bool_(),
    }  # fmt: skip
    stated = {name: run.settings[name] for name in ("scenario", "protocol", "config")}
    schema = arrow.schema(list(kinds.items()), metadata={"keyhole": json.dumps(stated)})
    with (
        private_file(path, binary=True) as file,
        parquet.ParquetWriter(file, schema, compression="zstd") as to,
    ):
        records = _records(run)
        while group := list(islice(records, _GROUP)):
            columns = dict(zip(kinds, zip(*group, strict=True), strict=True))
            to.write_table(arrow.table(columns, schema=schema))
    return path


def _records(run: RunFolder) -> Iterator[tuple[Any, ...]]:
    """Entries as rows of the table."""
    for path in run.transcripts:
        with closing(Transcript(path)) as transcript:
            for row in transcript.rows("1 ORDER BY id"):
                yield (path.stem, row.party, row.kind.value, *row[3:], transcript.kept_of(row))


def write_trace(run: RunFolder, path: Path) -> Path:
    """Write Chrome-trace JSON: a thread for each party, an entry as a slice, a message as an arrow, local
    steps as instants; phases and rounds as slices above.
    """
    threads = {party: _PARTIES + k for k, party in enumerate(run.sources)}
    with private_file(path) as file:
        about = {"run": run.path.name, "protocol": run.settings["protocol"], "time": _NO_CLOCK}
        file.write('{"displayTimeUnit": "ms", "otherData": ' + json.dumps(about) + ', "traceEvents": [\n')
        for number, event in enumerate(_events(run, threads)):
            file.write((",\n" if number else "") + json.dumps(event | {"pid": 1}))
        file.write("\n]}\n")
    return path


def _events(run: RunFolder, threads: dict[str, int]) -> Iterator[Event]:
    named = {_PHASES: "phases", _TURNS: "rounds", **{tid: party for party, tid in threads.items()}}
    yield {"ph": "M", "name": "process_name", "tid": 0, "args": {"name": f"{run.path.name}. {_NO_CLOCK}."}}
    for tid, name in named.items():
        yield {"ph": "M", "name": "thread_name", "tid": tid, "args": {"name": name}}
        yield {"ph": "M", "name": "thread_sort_index", "tid": tid, "args": {"sort_index": tid}}
    yield from _spans(run)
    for path in run.transcripts:
        with closing(Transcript(path)) as transcript:
            for row in transcript.rows(f"{_CROSSED} ORDER BY id"):
                yield from _of_row(row, threads[row.party])
            for party, step, phase, round_, seq in transcript.query(_STEPS):
                at = {"ts": (max(seq or 0, 0) + 1) * _UNIT - (_UNIT - _WIDTH), "tid": threads.get(party, 0)}
                said = {"phase": phase, "round": round_}
                yield {"ph": "i", "s": "t", "name": str(step), "cat": "step", **at, "args": said}


def _of_row(row: Row, tid: int) -> Iterator[Event]:
    """An entry as a slice on its party's thread, and its end of the arrow of its message."""
    at = {"ts": row.seq * _UNIT, "tid": tid}
    said = {
        "message": row.seq, "phase": row.phase, "round": row.round, "sender": row.sender,
        "receiver": row.receiver, "type": row.dtype, "shape": list(row.shape), "bytes": row.nbytes,
        "sha256": row.sha256.hex(),
    }  # fmt: skip
    yield {"ph": "X", "name": row.label, "cat": row.kind.value, "dur": _WIDTH, **at, "args": said}
    if row.kind in (Kind.SENT, Kind.RECEIVED):
        end = {"ph": "s"} if row.kind is Kind.SENT else {"ph": "f", "bp": "e"}
        yield {**end, "name": row.label, "cat": "message", "id": row.seq, **at}


def _spans(run: RunFolder) -> Iterator[Event]:
    """Phases and rounds: messages that follow each other in one, from the first to the last."""
    with ExitStack() as stack:
        opened = [stack.enter_context(closing(Transcript(path))) for path in run.transcripts]
        found = merge(*(each.rows(f"{_CROSSED} ORDER BY seq") for each in opened), key=lambda row: row.seq)
        whole: dict[int, tuple[str, int, int]] = {}
        for row in found:
            names = {
                _PHASES: row.phase,
                _TURNS: "" if row.round == NO_ROUND else moment(row.phase, row.round),
            }
            for tid, name in names.items():
                before = whole.get(tid, (name, row.seq, row.seq))
                if before[0] != name:
                    yield from _span(tid, *before)
                    before = name, row.seq, row.seq
                whole[tid] = *before[:2], row.seq
        for tid, before in whole.items():
            yield from _span(tid, *before)


def _span(tid: int, name: str, first: int, last: int) -> Iterator[Event]:
    at = {"ts": first * _UNIT, "dur": (last - first + 1) * _UNIT, "tid": tid}
    if name:
        yield {"ph": "X", "name": name, "cat": "span", **at}
