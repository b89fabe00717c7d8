"""Views: what some parties saw, read back from their transcripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.record.transcript import Record, Transcript
from parties.registry import read_config
from protocols.language.errors import ConfigError, DataError
from protocols.language.view import Kind, Row

__all__ = ["Kind", "Record", "Row", "View"]

_LAST = (1 << 63) - 1
_KNOWN = 4096  # results that a view keeps


class View:
    """What some parties saw, read from their transcripts: the joint view of a coalition, or one party's.

    `view[label]` is the list of values under a label, in the order in which they crossed; a value that two
    corrupted parties exchanged counts once. Payloads are read one at a time and checked against their digest.
    """

    def __init__(
        self, sources: Iterable[tuple[str, str]], until: int | None = None, headed: bool = False
    ) -> None:
        """`sources`: (path of a transcript, party) pairs; rows of other parties in these files are never
        read.

        With `until`, the view ends with the message of that number: what the parties had seen by then. With
        `headed`, payloads count as not recorded.
        """
        self._sources = tuple((str(path), party) for path, party in sources)
        self._until, self._headed = until, headed
        self.parties = tuple(party for _, party in self._sources)
        self._transcripts: dict[str, Transcript] = {}
        self._known: dict[tuple[Any, ...], Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return View, (self._sources, self._until, self._headed)

    def rows(self, label: str | None = None, *kinds: Kind, round: int | None = None) -> Iterator[Row]:
        """Entries of the view in order of time, all or those of one label, of some kinds and of a round."""
        having = {"label": label, "round": round}
        return self._ordered(kinds, {name: value for name, value in having.items() if value is not None})

    def _ordered(self, kinds: tuple[Kind, ...], having: dict[str, Any]) -> Iterator[Row]:
        found = [row for path, party in self._sources for row in self._select(path, party, kinds, having)]
        seen: set[int] = set()
        for row in sorted(found, key=lambda row: (row.seq, row.id)):
            if row.seq >= 0 and row.seq in seen:
                continue
            seen.add(row.seq)
            yield row

    def page(self, offset: int, limit: int, *kinds: Kind, **having: Any) -> tuple[list[Row], int]:
        """Up to `limit` entries after the first `offset` in order of time, and how many there are in all: of
        some kinds, and with the values that `having` gives columns. Only numbers are read of the others.
        """
        numbers = np.sort(np.concatenate([self._numbers(*source, kinds, having) for source in self._sources]))
        first_of_its_number = np.ones(len(numbers), dtype=np.bool_)
        first_of_its_number[1:] = (numbers[1:] != numbers[:-1]) | (numbers[1:] < 0)
        numbers = numbers[first_of_its_number]
        chosen = numbers[offset : offset + limit]
        if not len(chosen):
            return [], len(numbers)
        between = {"seq >=": int(chosen[0]), "seq <=": int(chosen[-1])}
        found = View(self._sources, self._end)._ordered(kinds, {**having, **between})
        before = offset - int(np.searchsorted(numbers, chosen[0]))
        return list(islice(found, before, before + len(chosen))), len(numbers)

    def _numbers(
        self, path: str, party: str, kinds: tuple[Kind, ...], having: dict[str, Any]
    ) -> NDArray[np.int64]:
        """The numbers of the entries of a party."""
        where, args = self._condition(party, kinds, having)
        found = self._open(path).query(f"SELECT seq FROM rows WHERE {where}", *args)
        try:
            return np.fromiter((seq for (seq,) in found), np.int64)
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"{path}: a transcript is damaged: its rows cannot be read") from None

    def values(self, label: str, *kinds: Kind) -> Iterator[tuple[Row, Any]]:
        """(row, value) for every entry of a label, one payload in memory at a time."""
        for row in self.rows(label, *kinds):
            yield row, self.value(row)

    def value(self, row: Row) -> Any:
        """The value of an entry; `NotRecorded` if its payload was not kept, `DataError` if it was altered."""
        return self._open(next(path for path, party in self._sources if party == row.party)).value(row)

    def __getitem__(self, label: str) -> list[Any]:
        values = [value for _, value in self.values(label)]
        if not values:
            raise KeyError(
                f"the view of {', '.join(self.parties)} holds no {label!r}, but {', '.join(self.labels())}"
            )
        return values

    def __contains__(self, label: str) -> bool:
        return label in self.labels()

    def labels(self) -> tuple[str, ...]:
        """Every label in the view."""
        return self._distinct("label")

    def phases(self) -> tuple[str, ...]:
        """Every phase in the view."""
        return self._distinct("phase")

    def _distinct(self, column: str) -> tuple[str, ...]:
        last = self._end
        asked = f"SELECT DISTINCT {column} FROM rows WHERE party = ? AND seq <= ?"
        found = [each for path, party in self._sources for each in self._open(path).query(asked, party, last)]
        return tuple(sorted({str(value) for (value,) in found}))

    def has_payloads(self) -> bool:
        """Whether payloads were recorded, be it of some messages alone, and not headers only."""
        return not self._headed and any(self._open(path).kept.some(party) for path, party in self._sources)

    def keeps(self, row: Row) -> bool:
        """Whether the payload of an entry was to be kept."""
        path = next(path for path, party in self._sources if party == row.party)
        return not self._headed and self._open(path).kept_of(row)

    def headers(self) -> View:
        """The same view, read by its headers alone."""
        return self._like(self._sources, self._end, headed=True)

    def whole(self) -> View | None:
        """The part of it that belongs to parties of whose views every payload was kept, if that is a part."""
        found = [(path, party) for path, party in self._sources if self._open(path).kept.all(party)]
        return self._like(found, self._end) if 0 < len(found) < len(self._sources) else None

    @property
    def protocol(self) -> str:
        """The name of the protocol, which is public."""
        return self._open(self._sources[0][0]).meta("protocol")

    @cached_property
    def config(self) -> Any:
        """The configuration of the run, which is public: of the protocol's own class."""
        path = self._sources[0][0]
        try:
            return read_config(self.protocol, json.loads(self._open(path).meta("config")))
        except (ValueError, TypeError, AttributeError, RecursionError, ConfigError):
            raise DataError(f"{path}: a transcript is damaged: its configuration cannot be read") from None

    @cached_property
    def _end(self) -> int:
        """The number of the last message: as given; of a run that was killed, whose hosts commit by
        themselves, the last before one whose payload its sender had not committed.
        """
        if self._until is not None:
            return self._until
        lacking = (self._open(path).first_lacking(party) for path, party in self._sources)
        return min((seq - 1 for seq in lacking if seq is not None), default=_LAST)

    def steps(self) -> Iterator[tuple[str, str, int, str]]:
        """(party, phase, round, step) of every local step."""
        for path, party in self._sources:
            said = "SELECT party, phase, round, step FROM steps WHERE party = ? ORDER BY id"
            yield from self._open(path).query(said, party)

    def before(self, seq: int) -> View:
        """The same view as it was after the message of that number."""
        found = self._like(self._sources, min(seq, self._end), self._headed)
        found._known = self._known
        return found

    def once(self, what: tuple[Any, ...], find: Callable[[], Any]) -> Any:
        """What `find` computes of payloads that `what` names by their digests: once for a view and all that
        begins it. The caller has read these payloads, so that none counts that was not kept.
        """
        if what not in self._known:
            while len(self._known) >= _KNOWN:
                del self._known[next(iter(self._known))]
            self._known[what] = find()
        return self._known[what]

    def _like(self, sources: Iterable[tuple[str, str]], until: int, headed: bool = False) -> View:
        found = View(sources, until, headed)
        if "config" in vars(self):
            vars(found)["config"] = self.config
        return found

    def close(self) -> None:
        """Close the files."""
        for transcript in self._transcripts.values():
            transcript.close()
        self._transcripts.clear()

    def _open(self, path: str) -> Transcript:
        if path not in self._transcripts:
            self._transcripts[path] = Transcript(path)
        return self._transcripts[path]

    def _select(
        self, path: str, party: str, kinds: tuple[Kind, ...], having: dict[str, Any]
    ) -> Iterator[Row]:
        where, args = self._condition(party, kinds, having)
        return self._open(path).rows(f"{where} ORDER BY id", *args)

    def _condition(
        self, party: str, kinds: tuple[Kind, ...], having: dict[str, Any]
    ) -> tuple[str, list[Any]]:
        """What holds of the rows of a party that are asked for, in SQL, and its arguments; `having` may say
        `seq >=` instead of the name of a column.
        """
        wanted: dict[str, Any] = {"party": party, **having}
        if self._end != _LAST:  # inputs and coins carry no number of a message (-1)
            wanted["seq <= "] = self._end
        where = " AND ".join(f"{name} ?" if " " in name else f"{name} = ?" for name in wanted)
        if kinds:
            where += f" AND kind IN ({','.join('?' * len(kinds))})"
        return where, [*wanted.values(), *(kind.value for kind in kinds)]
