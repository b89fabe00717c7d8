"""A run folder out of what the mod for Flower recorded (`keyhole_flower`).

Files are read twice: what each says first, its arrays when they are stored, so that memory holds those of
one message at a time. Every array is a message of its own, `given.RECORD.NAME` from the server to a client or
`returned.RECORD.NAME` back, and so is what else a record holds; other kinds of messages than training begin
with their kind, such as `evaluate`. Clients are data owners, in the order of their partitions.

Relations are stated where the weights of the first layer are named: the server has it as it was given and as
a client returned it (`KnownMap`), and its change is a sum over the client's samples (`Update`). That holds
for any number of steps of SGD, with momentum, on any batches, without weight decay, where pixels enter
divided by `unit`; it does not for Adam. Messages that no relation names read "not analysed".
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import ConfigError, DataError
from protocols.language.relations import KnownMap, Map, Update
from protocols.language.roles import DATA_OWNER, SERVER, party_name
from protocols.language.statements import Said, steps
from scenarios.recorder.recorder import Recorder, record
from scenarios.run.fits import fault
from scenarios.run.folder import RunFolder

_CHANGES = 4096  # of copies that are stated: each names a term for every other
_TRAIN = "train"
_EXAMPLES = "num-examples"
_TEXT = {"type": "string", "maxLength": 256}
_HEADER = {
    "type": "object",
    "required": ["version", "type", "group", "node", "partition", "way", "entries"],
    "properties": {
        "version": {"enum": [1]},
        "type": _TEXT, "group": _TEXT, "node": _TEXT, "way": {"enum": ["given", "returned"]},
        "partition": {"type": ["integer", "null"], "minimum": 0, "maximum": 1 << 31},
        "entries": {"type": "array", "items": {
            "type": "object", "required": ["record", "name"],
            "properties": {"record": _TEXT, "name": _TEXT,
                           "array": {"type": "integer", "minimum": 0, "maximum": 1 << 20}},
        }},
    },
}  # fmt: skip

Truth = Callable[[int], tuple[Any, Any]]


@dataclass(frozen=True)
class _Array:
    """An array of a file by its name there."""

    number: str


@dataclass
class _Crossed:
    """One message to a client, or its reply: the file that holds it, and by record and name what it says; of
    arrays, where they are in the file.
    """

    path: Path
    kind: str
    group: str
    client: tuple[int, str]  # its partition (-1 without) and its node
    way: str
    entries: tuple[tuple[str, Any], ...]
    round: int = 0

    @property
    def values(self) -> dict[str, Any]:
        """What is no array."""
        return {name: value for name, value in self.entries if not isinstance(value, _Array)}

    def read(self) -> Iterator[tuple[str, Any]]:
        """Everything that it says, in order, an array after the other."""
        with _opened(self.path) as stored:
            for name, value in self.entries:
                yield name, stored[value.number] if isinstance(value, _Array) else value

    @property
    def trains(self) -> bool:
        """Whether it is of training."""
        return self.kind.partition(".")[0] == _TRAIN

    @property
    def number(self) -> int:
        """Flower's own number of the round; else what the strategy groups messages by."""
        said = [
            value for name, value in self.values.items() if name.endswith((".server-round", ".server_round"))
        ]
        number = said[0] if said and type(said[0]) is int else self.group
        text = str(number)
        return int(text) if text.isdigit() and len(text) < 10 else 0


def gather(
    spool: str | Path,
    out: str | Path | None = None,
    *,
    shape: Sequence[int],
    x_max: int = 255,
    unit: float = 255.0,
    first: str | None = None,
    bias: str | None = None,
    counts: Sequence[int] = (),
    classes: int = 0,
    truth: Truth | None = None,
) -> RunFolder:
    """Make a run folder of a folder of recorded messages.

    `first` and `bias`: the first layer's weights (h, n) or (n, h), and its bias, as RECORD.NAME, such as
    `arrays.0`. `counts`: samples of each client; else what clients say that they trained on. `truth(i)` has
    the images and labels of client i, for scores. Raises `DataError` for files that the mod did not write.
    """
    crossed = _read(Path(spool))
    clients = sorted({each.client for each in crossed})
    owners = {client: party_name(DATA_OWNER, i) for i, client in enumerate(clients)}
    sizes = tuple(counts) or _counts(crossed, clients)
    if sizes and len(sizes) != len(clients):
        raise ConfigError(f"counts: {len(clients)} clients were recorded, got {len(sizes)} numbers")
    _date(crossed)
    crossed.sort(key=lambda each: (each.round, not each.trains, each.kind, each.way, each.client))
    parties = (*owners.values(), SERVER.value)
    with record(out, roles=parties, shape=shape, x_max=x_max, classes=classes, counts=sizes) as r:
        if truth is not None:
            for i, name in enumerate(owners.values()):
                images, labels = truth(i)
                r.truth(name, images=images, labels=labels)
        told: dict[tuple[int, str, str], dict[str, Said]] = {}
        for each in crossed:
            r.begin(each.round)
            sent = _send(r, each, owners[each.client])
            if each.trains:
                told[each.round, owners[each.client], each.way] = sent
        if first is not None:
            _state(r, told, list(owners.values()), sizes, prod(shape), unit, (first, bias))
    return r.run


def _read(spool: Path) -> list[_Crossed]:
    paths = sorted(spool.glob("*.npz")) if spool.is_dir() else []
    if not paths:
        raise DataError(f"{spool}: holds no messages of the mod keyhole_flower")
    return [_crossed(path) for path in paths]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file of the mod; arrays of objects are not read."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            yield stored
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, RecursionError, EOFError):
        raise DataError(f"{path}: not a message of the mod keyhole_flower") from None


def _crossed(path: Path) -> _Crossed:
    """What a file says of itself, and that it holds the arrays that it names."""
    with _opened(path) as stored:
        header = json.loads(bytes(stored["header"]))
        wrong = fault(header, _HEADER)
        if wrong:
            raise DataError(f"{path}: {wrong}")
        entries = []
        for entry in header["entries"]:
            value = _Array(str(entry["array"])) if "array" in entry else entry.get("value")
            if isinstance(value, _Array) and value.number not in stored:
                raise DataError(f"{path}: not a message of the mod keyhole_flower")
            entries.append((f"{entry['record']}.{entry['name']}", value))
    partition = -1 if header["partition"] is None else header["partition"]
    client = (partition, header["node"] if partition < 0 else "")
    return _Crossed(path, header["type"], header["group"], client, header["way"], tuple(entries))


def _date(crossed: Sequence[_Crossed]) -> None:
    """Number the rounds from 0 on. A reply does not say its own: it has that of what was given before it."""
    given: dict[tuple[Any, ...], int] = {}
    for each in crossed:
        key = (each.client, each.kind, each.group)
        each.round = each.number if each.way == "given" else given.get(key, each.number)
        if each.way == "given":
            given[key] = each.round
    places = {number: t for t, number in enumerate(sorted({each.round for each in crossed}))}
    for each in crossed:
        each.round = places[each.round]


def _counts(crossed: Sequence[_Crossed], clients: Sequence[tuple[int, str]]) -> tuple[int, ...]:
    """On how many samples each client says that it trained; nothing if not all say so."""
    found: dict[tuple[int, str], int] = {}
    for each in crossed:
        said = [v for name, v in each.values.items() if name.endswith(f".{_EXAMPLES}") and type(v) is int]
        if each.way == "returned" and each.trains and said and said[0] > 0:
            found[each.client] = max(said[0], found.get(each.client, 0))
    return tuple(found[client] for client in clients) if found.keys() == set(clients) else ()


def _send(r: Recorder, each: _Crossed, owner: str) -> dict[str, Said]:
    """Record what a message holds, each value by itself; returns the arrays by record and name."""
    ends = (SERVER.value, owner) if each.way == "given" else (owner, SERVER.value)
    before = "" if each.trains else f"{each.kind}."
    found = {}
    for name, value in each.read():
        sent = r.send(*ends, **{f"{before}{each.way}.{name}"[:256]: value})
        if isinstance(value, np.ndarray):
            found[name] = sent
    return found


def _state(
    r: Recorder,
    told: Mapping[tuple[int, str, str], dict[str, Said]],
    owners: Sequence[str],
    counts: Sequence[int],
    features: int,
    unit: float,
    names: tuple[str, str | None],
) -> None:
    """What the server may write down of the first layer, and how it moved."""
    if not counts:
        raise ConfigError("counts: clients do not say how many samples they have; give their numbers")
    first, bias = names
    starts = np.concatenate([[0], np.cumsum(counts)])
    pairs = [key for key in told if key[2] == "returned" and (*key[:2], "given") in told][:_CHANGES]
    where: list[NDArray[np.int64]] = []
    for _, owner, _ in pairs:
        i = owners.index(owner)
        where.append(np.arange(starts[i], starts[i + 1]))
    moved = steps(tuple(where))
    for k, (t, owner, _) in enumerate(pairs):
        before, after = Map("w1", -1, t), Map("copy", owners.index(owner), t)
        for which, way in ((before, "given"), (after, "returned")):
            sent = told[t, owner, way]
            for name in filter(None, (first, bias)):
                if name not in sent:
                    raise ConfigError(f"no array {name} crosses in training, but {', '.join(sent) or 'none'}")
            more: dict[str, Any] = {}
            if bias is not None and any(each.name == "bias" for each in fields(KnownMap)):
                more = {"bias": sent[bias].times(1 / unit)}
            r.relation(KnownMap(which, _rows(sent[first], features), **more))
        terms = np.zeros(len(pairs))
        terms[k] = 1 / unit
        labels = (told[t, owner, "given"][first].label, told[t, owner, "returned"][first].label)
        r.relation(Update(before, after, terms, moved, labels=labels, since=t))


def _rows(sent: Said, features: int) -> Said:
    """The weights as (h, n)."""
    if len(sent.shape) != 2 or features not in sent.shape:
        raise ConfigError(f"{sent.label}: expected a first layer on {features} pixels, got {sent.shape}")
    return sent if sent.shape[1] == features else sent.T
