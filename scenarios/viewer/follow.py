"""Following a row of an input through a run: which messages change when it is replaced.

A run that is small is carried out again, in a process of its own, on its stored coins and inputs, with that
one row replaced; each message is held against the stored one. Of another run a small instance of the same
protocol with the same switches is run twice, and says which kinds of messages depend on a sample.

What changes depends on the row. What does not change need not be independent of it: two replacements were
tried, not all.
"""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from parties.record.transcript import Transcript
from protocols.language.errors import DataError, KeyholeError
from protocols.language.message import Header, describe, digest
from protocols.language.roles import DATA_OWNER, role_of
from protocols.language.view import Kind, Row
from protocols.recorded import refused
from scenarios.run.folder import RunFolder, load_run
from scenarios.run.report import role_name
from scenarios.run.status import status_of
from scenarios.show.summary import plural

_SECONDS = 40.0  # of set-up and training, up to which a run is carried out again
_MESSAGES = 20_000
_PATIENCE = 240.0  # seconds after which a process that still works at it is ended
_LOOK_SECONDS = 0.05
_OF_MESSAGES = "kind IN ('sent', 'output') ORDER BY id"
_IN_INSTANCE = ("images", "labels")


class Secret(NamedTuple):
    """A row of a party's input."""

    party: str
    label: str
    row: int

    @property
    def said(self) -> str:
        """In words."""
        return f"row {self.row} of {self.label} of {self.party}"


@dataclass
class Line:
    """Messages of a label on one way between two roles: how many depend on it, of how many, in which rounds,
    and what of them changes. Of a small instance only the changes are known.
    """

    sender: str
    receiver: str
    label: str
    changes: list[str]
    depends: int = 0
    of: int = 0
    first: int = -1
    last: int = -1


@dataclass
class Followed:
    """What was found: the numbers of the messages that change, or None where a small instance said it."""

    seqs: list[int] | None
    of: int
    lines: list[Line]
    how: str
    failed: str = ""


def follow(run: RunFolder, secret: Secret) -> Followed:
    """Which messages of a run depend on a row of an input."""
    why = _too_large(run)
    return _in_instance(run, secret, why) if why else _in_run(run, secret)


def _too_large(run: RunFolder) -> str:
    """Why a run is not carried out again; empty if it is."""
    if run.recorded:
        refused()
    if "asked" in run.settings:
        return "a prediction begins from the state of the run that trained, so it is not carried out again"
    if not status_of(run).complete:
        return "the run is not complete, so it is not carried out again"
    if run.settings.get("record") == "headers":
        return "the run kept no inputs and coins, so it cannot be carried out again"
    seconds = run.result["seconds"]["setup"] + run.result["seconds"]["train"]
    messages = sum(edge["messages"] for edge in run.result["traffic"])
    if seconds > _SECONDS or messages > _MESSAGES:
        return f"the run took {seconds:.0f} s and {messages} messages, too many to carry it out again here"
    return ""


class _Said(NamedTuple):
    """What a row of a transcript says of a message."""

    sender: str
    receiver: str
    label: str
    round: int
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    sha256: bytes


def _said(of: Header | Row, *more: Any) -> _Said:
    return _Said(of.sender, of.receiver, of.label, of.round, *more)


@dataclass
class _Heard:
    """Takes what parties say, and keeps what a row says of each message."""

    said: dict[int, _Said] = field(default_factory=dict)

    def note(self, party: str, kind: Kind, label: str, value: Any) -> None: ...

    def step(self, party: str, step: str, header: Header, public: list[Any], frame: Any) -> None: ...

    def message(self, party: str, kind: Kind, header: Header, value: Any, frame: Any) -> None:
        if kind in (Kind.SENT, Kind.OUTPUT):
            self.said[header.seq] = _said(header, *describe(value), frame.nbytes, digest(frame))


def _in_run(run: RunFolder, secret: Secret) -> Followed:
    from parties.runtime.replay import again_with
    from scenarios.run.certify import stored_experiment

    made = stored_experiment(run)
    instead = made.behaviour.INSTEAD if made.behaviour else {}

    def carried_out(replaced: dict[tuple[str, str], NDArray[Any]]) -> tuple[dict[int, _Said], str]:
        heard = _Heard()
        failed = again_with(
            run.transcripts, made.protocol, made.config, made.counts, instead, replaced, heard
        )  # fmt: skip
        return heard.said, failed

    others = list(_others(_input(run, secret), secret))
    known, failed = carried_out({})
    changed: dict[int, set[str]] = {}
    for other in others:
        said, stopped = carried_out({(secret.party, secret.label): other})
        failed = failed or stopped
        for seq in known.keys() | said.keys():
            # Where the script could not go on, what is missing is no change.
            changes = _changes(known.get(seq), said.get(seq)) if seq in said or not stopped else set()
            if changes:
                changed.setdefault(seq, set()).update(changes)
    how = (
        "The run was carried out again on its own coins and inputs: as it was, and with this row replaced, "
        f"in {plural(len(others), 'way')}."
    )
    if known != {row.seq: _said(row, row.dtype, row.shape, row.nbytes, row.sha256) for row in _messages(run)}:
        how += (
            " As it was, it came out with other numbers than those stored, as floats do on another machine "
            "or with other versions; what is compared came out here."
        )
    return Followed(sorted(changed), len(known), list(_lines(known, changed)), how, failed)


def _messages(run: RunFolder) -> Iterator[Row]:
    for path in run.transcripts:
        with closing(Transcript(path)) as transcript:
            yield from transcript.rows(_OF_MESSAGES)


def _input(run: RunFolder, secret: Secret) -> NDArray[Any]:
    with closing(run.view(secret.party)) as view:
        row = next(view.rows(secret.label, Kind.INPUT), None)
        value = None if row is None else view.value(row)
    if not isinstance(value, np.ndarray) or not value.ndim:
        raise DataError(f"{secret.party} has no input {secret.label} that has rows")
    if not 0 <= secret.row < len(value):
        raise DataError(f"{secret.label} of {secret.party} has rows 0 to {len(value) - 1}")
    return value


def _others(array: NDArray[Any], secret: Secret) -> Iterator[NDArray[Any]]:
    """The input with the row replaced, in two ways: turned within the range of the array, and by another row
    of it. All numbers stay within the bounds that the run was made with.
    """
    turned = array.copy()
    turned[secret.row] = array.max() - (array[secret.row] - array.min())
    moved = array.copy()
    unlike = [k for k in range(len(array)) if not np.array_equal(array[k], array[secret.row])]
    moved[secret.row] = array[unlike[0]] if unlike else array[secret.row]
    found = [each for each in (turned, moved) if not np.array_equal(each, array)]
    if not found:
        raise DataError(f"{secret.said}: all numbers of {secret.label} are equal, so there is no other row")
    yield from found


def _changes(before: _Said | None, after: _Said | None) -> set[str]:
    """What of a message is another; `number` where it does not cross in one of the runs."""
    if before is None or after is None or before[:4] != after[:4]:
        return {"number"}
    found = {"type"} if before.dtype != after.dtype else set()
    found |= {"size"} if (before.shape, before.nbytes) != (after.shape, after.nbytes) else set()
    return found | ({"content"} if before.sha256 != after.sha256 else set())


def _lines(known: dict[int, _Said], changed: dict[int, set[str]]) -> Iterator[Line]:
    """A line for each way and label that depends, in the order of first messages."""
    lines: dict[tuple[str, str, str], Line] = {}
    for seq in sorted(known):
        row = known[seq]
        key = role_name(row.sender), role_name(row.receiver), row.label
        line = lines.setdefault(key, Line(*key, []))
        line.of += 1
        if seq in changed:
            line.first = row.round if not line.depends else line.first
            line.last = row.round
            line.depends += 1
            line.changes = sorted({*line.changes, *changed[seq]})
    yield from (line for line in lines.values() if line.depends)


def _in_instance(run: RunFolder, secret: Secret, why: str) -> Followed:
    """What a small instance of the same protocol says, with the switches of the run."""
    from scenarios.run.catalogue import find_scenario
    from scenarios.run.small import small_experiment, small_of
    from scenarios.study.audit_influence import influence

    if secret.label not in _IN_INSTANCE or role_of(secret.party) is not DATA_OWNER:
        known = " and ".join(_IN_INSTANCE)
        raise DataError(f"{why}; and in a small instance nothing but {known} of a data owner is replaced")
    scenario = find_scenario(run.settings["scenario"])
    given = small_of(scenario, run.config())
    with tempfile.TemporaryDirectory(prefix="keyhole-follow-") as name:
        folder = Path(name)
        base, other = (small_experiment(scenario, given, folder, what) for what in ("", secret.label))
        found = influence(base, {secret.label: other}, folder)
    lines: dict[tuple[str, str, str], Line] = {}
    for each in found:
        key = role_name(each.sender), role_name(each.receiver), each.label
        line = lines.setdefault(key, Line(*key, []))
        line.changes = sorted({*line.changes, *each.changes})
    how = (
        f"{why[0].upper()}{why[1:]}. Instead, a small instance of the same protocol with the same switches, "
        f"on random samples, was run twice, with one row of {secret.label} replaced. It says which kinds of "
        "messages depend on a sample, not which messages of this run."
    )
    return Followed(None, 0, list(lines.values()), how)


class Follower:
    """Follows one row at a time, in a process of its own; what was found is kept."""

    def __init__(self, run: RunFolder) -> None:
        self._path = str(run.path)
        self._found: dict[Secret, Followed | str] = {}
        self._at: tuple[Secret, SpawnProcess, Connection] | None = None
        self._lock = threading.Lock()  # pages are made in threads

    def known(self, secret: Secret) -> Followed | str | None:
        """What was found, or why nothing was; None if nobody asked, or it is not finished."""
        with self._lock:
            self._look()
            return self._found.get(secret)

    def ask(self, secret: Secret, seconds: float) -> Followed | str | None:
        """The same, and a process is started for it; waits a while for what it finds."""
        until = time.monotonic() + seconds
        while (found := self.known(secret)) is None and time.monotonic() < until:
            with self._lock:
                if self._at is None and secret not in self._found:
                    self._begin(secret)
            time.sleep(_LOOK_SECONDS)
        return found

    @property
    def busy(self) -> Secret | None:
        """What is being followed."""
        at = self._at
        return None if at is None else at[0]

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._at is not None:
            self._at[1].kill()
            self._at[1].join()
            self._at[2].close()
            self._at = None

    def _begin(self, secret: Secret) -> None:
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(self._path, secret, theirs), daemon=True)
        process.start()
        theirs.close()
        self._at = secret, process, mine

    def _look(self) -> None:
        if self._at is None or not self._at[2].poll():
            return
        secret, _, pipe = self._at
        try:
            self._found[secret] = pipe.recv()
        except EOFError:
            self._found[secret] = "the process that followed it died"
        self._end()


def _work(path: str, secret: Secret, pipe: Connection) -> None:
    """Follow a row, in a process of its own, which ends by itself when it takes too long."""
    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the server
    signal.signal(signal.SIGALRM, _late)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
    found: Followed | str
    try:
        found = follow(load_run(path), secret)
    except KeyholeError as cause:
        found = str(cause)
    except _TooLong:
        found = f"it took longer than {_PATIENCE:.0f} s, and was ended"
    except Exception as cause:
        found = f"internal error: {type(cause).__name__}"
    pipe.send(found)
    pipe.close()


class _TooLong(BaseException):
    """It takes too long; no `except Exception` of a script may hold it."""


def _late(number: int, frame: Any) -> None:
    raise _TooLong
