"""Transcripts of code that is not written in the language.

with keyhole.record("runs/mine", roles=("data_owner:0", "cloud_trainer"), shape=(8, 8), x_max=16) as r:
    r.truth("data_owner:0", images=images, labels=labels)           # for the scorer; the owner's own
    for t, (x, index) in enumerate(batches):
        r.begin(t)
        z = r.send("data_owner:0", "cloud_trainer", z1=x / 16 @ w.T)
        r.relation(Products(index, z.times(16), Map("w1", 0, t)))

`keyhole show`, `learned`, `attack`, `check` and `view` then read the folder as they read that of a run.
Relations are those of `protocols/language/relations.py`, in their units: whole pixels. A message in no
relation reads "not analysed". What is stated is the author's word: a relation that is false misleads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.record.kept import Kept, Record
from parties.record.writer import TranscriptWriter
from parties.registry import RECORDED
from protocols.language import statements
from protocols.language.errors import ConfigError
from protocols.language.message import Header, encode
from protocols.language.options import as_plain
from protocols.language.relations import Own, Relation, Steps
from protocols.language.roles import DATA_OWNER, index_of, role_of
from protocols.language.session import NO_ROUND
from protocols.language.statements import Said
from protocols.language.view import Kind
from protocols.recorded import Options
from scenarios.run.folder import RunFolder, new_folder, write_json
from scenarios.run.options import RUN_OPTIONS
from scenarios.run.status import noted

Roles = Sequence[str] | Mapping[str, str]


class Recorder:
    """Writes what crosses between parties into transcripts, one for each role."""

    def __init__(self, run: RunFolder, parties: Mapping[str, str], config: Options) -> None:
        """`parties`: by what the code calls them, their names in transcripts."""
        self.run, self._parties, self._config = run, parties, config
        self._phase, self._round, self._next = "setup", NO_ROUND, 0
        self._lock = threading.Lock()
        self._steps: dict[int, tuple[int, Steps, set[str]]] = {}
        roles = dict.fromkeys(name.partition(":")[0] for name in parties.values())
        kept = Kept(Record.FULL)
        self._writers = {
            role: TranscriptWriter(run.path / "transcripts" / f"{role}.sqlite", kept, RECORDED, config)
            for role in roles
        }
        for name in self._names:  # so that one that says nothing is there all the same
            self._note(name, Kind.PUBLIC, "parties", list(self._names))

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(self._parties.values())

    def begin(self, round: int) -> None:
        """What is sent from now on belongs to a round of training."""
        if round < 0:
            raise ConfigError(f"a round is a number from 0 on, got {round}")
        self._phase, self._round = "step", int(round)

    def send(self, sender: str, receiver: str, **labelled: Any) -> Said:
        """Record a message: its label, and an array or plain data; a tensor as its numbers.

        Returns what relations refer to it by.
        """
        if len(labelled) != 1:
            raise ConfigError("send records one message: send(sender, receiver, label=array)")
        ((label, value),) = labelled.items()
        ends = self._named(sender), self._named(receiver)
        if ends[0] == ends[1]:
            raise ConfigError(f"{ends[0]} sends itself {label}: only what crosses is recorded")
        value = plain(value)
        frame = encode(value)
        with self._lock:
            header = Header(self._next, self._phase, self._round, *ends, label)
            self._next += 1
            for party, kind in zip(ends, (Kind.SENT, Kind.RECEIVED), strict=True):
                self._writer(party).message(party, kind, header, value, frame)
        return Said(header.seq, label, header.round, ends, getattr(value, "shape", ()))

    def truth(self, owner: str, *, images: Any, labels: Any) -> None:
        """The samples of an owner, for whoever scores attacks, as its own input: whole pixels (N, ...) from 0
        to `x_max`, and labels (N,). Attacks on views of others never see them.
        """
        party, config = self._named(owner), self._config
        if role_of(party) is not DATA_OWNER:
            raise ConfigError(f"{party} is no data owner, so that it has no samples of its own")
        pixels = np.asarray(plain(images))
        pixels = pixels.reshape(len(pixels), -1)
        number = index_of(party)
        if number >= len(config.counts) or pixels.shape != (config.counts[number], config.features):
            said = config.counts[number] if number < len(config.counts) else 0
            raise ConfigError(
                f"truth of {party}: expected {said} samples of {config.features} pixels, as `counts` and "
                f"`shape` say, got {pixels.shape}"
            )
        if not np.array_equal(pixels, np.rint(pixels)) or pixels.min() < 0 or pixels.max() > config.x_max:
            raise ConfigError(f"truth of {party}: expected whole pixels from 0 to {config.x_max}")
        classes = np.asarray(plain(labels)).astype(np.int64)
        if classes.shape != (len(pixels),) or classes.min() < 0:
            raise ConfigError(f"truth of {party}: expected {len(pixels)} labels from 0 on")
        self._note(party, Kind.INPUT, "images", pixels.astype(np.int64))
        self._note(party, Kind.INPUT, "labels", classes)

    def relation(self, stated: Relation) -> None:
        """State what whoever holds the messages that it refers to may write down."""
        messages = list(statements.refers(stated))
        steps = getattr(stated, "steps", None)
        errors = list(getattr(steps, "errors", ())) if steps is not None else []
        labels = dict.fromkeys([*stated.labels, *(each.label for each in messages)])
        if not stated.labels and errors:
            labels |= dict.fromkeys(each.label for each in errors)
        since = max([stated.since, *(each.round for each in messages)])
        stated = replace(stated, labels=tuple(labels), since=since)
        to = self._holders(stated, messages or errors)
        value = statements.as_plain(stated, lambda of: self._numbered(of, to))
        for party in to:
            self._note(party, Kind.PUBLIC, statements.RELATION, value)

    def _holders(self, stated: Relation, messages: Sequence[Said]) -> tuple[str, ...]:
        """Who a relation is given to: everybody who has one of its messages; others could not read it."""
        if isinstance(stated, Own):
            return (self._named(stated.party),)
        found = {party for each in messages for party in each.parties}
        return tuple(name for name in self._names if name in found or not messages)

    def _numbered(self, of: Steps, to: Sequence[str]) -> int:
        """The number of steps that relations share, which are stored with everybody who is told one."""
        number, _, had = self._steps.setdefault(id(of), (len(self._steps), of, set()))
        if not set(to) <= had:
            value = {"number": number, **statements.steps_as_plain(of)}
            for party in set(to) - had:
                self._note(party, Kind.PUBLIC, statements.STEPS, value)
            had |= set(to)
        return number

    def close(self) -> None:
        """Write what is waiting and close the transcripts."""
        for writer in self._writers.values():
            writer.close()

    def _note(self, party: str, kind: Kind, label: str, value: Any) -> None:
        self._writer(party).note(party, kind, label, value)

    def _writer(self, party: str) -> TranscriptWriter:
        return self._writers[party.partition(":")[0]]

    def _named(self, party: str) -> str:
        name = self._parties.get(party, party)
        if name not in self._names:
            raise ConfigError(f"no party {party!r} is recorded; known: {', '.join(self._parties)}")
        return name


@contextmanager
def record(
    path: str | Path | None = None,
    *,
    roles: Roles,
    shape: Sequence[int],
    x_max: int = 255,
    classes: int = 0,
    counts: Sequence[int] = (),
) -> Iterator[Recorder]:
    """Record into a new run folder what crosses between some parties.

    `roles`: names of parties such as `data_owner:0` and `cloud_trainer`, or what the code calls them, with
    such names. `shape`: of an image; pixels are whole numbers up to `x_max`. `counts`: samples of each owner,
    by which positions are numbered. Raises `ConfigError` or `DataError` in one line.
    """
    parties = _checked(dict(roles) if isinstance(roles, Mapping) else {name: name for name in roles})
    sizes = {"x_max": x_max, "classes": classes, "counts": tuple(map(int, counts))}
    config = Options(prod(shape), shape=tuple(map(int, shape)), **sizes)  # type: ignore[arg-type]
    run = new_folder(None if path is None else Path(path), RECORDED)
    prior = {name: RUN_OPTIONS[name].default for name in ("period", "threshold", "known")}
    names = list(parties.values())
    settings = {
        "scenario": RECORDED, "protocol": RECORDED, "file": None, "data": {}, "config": as_plain(config),
        "record": Record.FULL.value, "seed": None, "parties": names,
        "corrupted": [name for name in names if role_of(name) is not DATA_OWNER][:1], "prior": prior,
    }  # fmt: skip
    with noted(run, 0, {}) as note:
        write_json(run.path / "config.json", settings)
        recorder = Recorder(run, parties, config)
        try:
            yield recorder
        finally:
            recorder.close()
        note(basis={"transcript_digest": run.digest()})


def _checked(parties: dict[str, str]) -> dict[str, str]:
    found = {said: name.replace("-", "_") for said, name in parties.items()}
    for name in found.values():
        role, many, index = name.partition(":")
        if (
            not role.isidentifier()
            or (many and not index.isdigit())
            or (role == DATA_OWNER.value) != bool(many)
        ):
            raise ConfigError(f"{name!r} is no party: write such as data_owner:0, cloud_trainer, helper")
    if len(found) < 2 or len(set(found.values())) < len(found):
        raise ConfigError("expected two parties or more, with different names")
    return found


def plain(value: Any) -> Any:
    """A value as it may cross: tensors of torch as arrays, sequences as lists."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        found: NDArray[Any] = value.numpy()
        return found.copy()
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return np.array(value) if isinstance(value, np.ndarray) else value
