"""A host: the parties of one role that share a process, and the transcript they write.

Every runtime drives hosts with the same instructions (`crew.py`), so what a party computes and what its view
holds do not depend on where it runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from parties.data.datasets import DataSpec, Split
from parties.data.shares import Owned, queried
from parties.party import Drawn, Party, drawn_from
from parties.record.continued import ContinuedTranscript, holds_nothing
from parties.record.kept import Kept
from parties.record.log import open_log
from parties.record.transcript import Frame, Transcript
from parties.record.writer import Recorder, TranscriptWriter
from parties.registry import Source, find_protocol
from parties.runtime import checkpoint
from parties.runtime.crew import Crew
from protocols.language.errors import DataError, EncodingError
from protocols.language.message import Header, decode, encode
from protocols.language.roles import Role, index_of
from protocols.language.session import DoStep, Reveal, Transfer
from protocols.language.view import Kind

BEHIND_ALL = 1 << 62  # a number that no message has


@dataclass(frozen=True)
class Resumed:
    """That a run goes on with the transcripts it left: all hosts have what was sent before message number
    `before` in theirs. Without a seed, parties have their coins from there as well (`coins`).
    """

    before: int
    coins: bool


@dataclass(frozen=True)
class HostSpec:
    """Everything that a host is told: who lives there, and what they may know.

    `keys` holds each party's own key and nobody else's; coins are drawn from it and `bound`, a digest of what
    they protect. `data` is given to those alone who hold samples: a share of them each, or with `asking` the
    first `limit` held-out ones, to ask about. `public` arrays become inputs of each party by their labels.
    What the parties keep at the end goes into the folder `state`, one file for each; `restored` is such a
    folder of another run, from which they begin.
    """

    name: str
    role: Role
    parties: tuple[str, ...]
    keys: tuple[bytes, ...]
    protocol: str
    file: Source | None  # of a protocol that is a file: imported where the host runs, before `config` is read
    config: Any  # of the protocol's own class
    transcript: str
    log: str
    kept: Kept
    data: DataSpec | None = None
    owners: int = 0
    split: Split = Split.IID
    state: str | None = None
    restored: str | None = None
    asking: bool = False
    limit: int | None = None
    bound: str = ""
    public: tuple[tuple[str, NDArray[Any]], ...] = field(default=(), repr=False)
    resumed: Resumed | None = None
    checkpoints: str | None = None  # the folder where they are written
    start: int = 0  # the one that is gone on from: so many phases had ended there

    def __repr__(self) -> str:
        return f"HostSpec({self.name}, {len(self.parties)} parties)"


class Host(Crew):
    """A crew that writes a transcript and a log."""

    def __init__(self, spec: HostSpec) -> None:
        torch.set_num_threads(
            1
        )  # float sums depend on the number of threads; exact products raise it for themselves
        self.name = spec.name
        self._log = open_log(Path(spec.log)).bind(host=spec.name)
        self._point, held = _checkpoint(spec)
        self._transcript = _transcript(spec, self._point)
        seats = _Seats(spec, self._transcript, held)
        super().__init__(seats)
        self._spec, self._seats = spec, seats
        self._rows = checkpoint.Rows(spec.transcript)
        self._said: set[tuple[str, str]] = set()
        # Calls, seconds, processor seconds of a step.
        self._took: dict[str, tuple[int, float, float]] = {
            step: (int(calls), seconds, processor)
            for step, (calls, seconds, processor) in (self._point.took or {}).items()
        }
        self._log.info(
            "parties_started", role=spec.role.value, parties=len(spec.parties), record=spec.kept.record.value
        )

    def do(self, step: DoStep) -> None:
        began, before = time.perf_counter(), time.thread_time()
        super().do(step)
        calls, seconds, processor = self._took.get(step.step, (0, 0.0, 0.0))
        seconds, processor = seconds + time.perf_counter() - began, processor + time.thread_time() - before
        self._took[step.step] = calls + 1, seconds, processor

    def emit(self, transfer: Transfer) -> list[tuple[int, Frame]]:
        frames = super().emit(transfer)
        self._note("message_sent", transfer, frames)
        return frames

    def receive(self, transfer: Transfer, frames: Sequence[tuple[int, Frame]]) -> None:
        super().receive(transfer, frames)
        self._note("message_received", transfer, frames)

    def heard(self, transfer: Transfer) -> list[tuple[int, Frame]]:
        """The frames of a transfer that was received before the run was resumed; that of a broadcast has
        index 0.
        """
        if not isinstance(self._transcript, ContinuedTranscript):
            raise DataError(f"{self.name}: the transcript that would be gone on with is missing")
        found = self._transcript.heard(transfer.seq, transfer.count)
        broadcast = len(transfer.senders.members) == 1 and not transfer.parts
        return [(0, found[0][1])] if broadcast and found else found

    def reveal(self, reveal: Reveal) -> Frame:
        (name,) = reveal.group.members
        self._log.info("value_revealed", party=name, why=reveal.label, phase=reveal.phase, round=reveal.round)
        return super().reveal(reveal)

    def keep_state(self) -> None:
        """Write what each party keeps of the run into a file that only its owner may read."""
        if self._spec.state is None:
            return
        folder = Path(self._spec.state)
        folder.mkdir(mode=0o700, exist_ok=True)
        protocol = find_protocol(self._spec.protocol)
        for name, party in self._parties.items():
            kept = protocol.kept(party.state)
            if kept:
                with open(os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
                    file.write(encode(kept).data)

    @property
    def point(self) -> checkpoint.Point:
        """The checkpoint that it began from."""
        return self._point

    def keep_checkpoint(
        self, phases: int, confirmed: int, sent: Mapping[str, int], taken: Mapping[str, int]
    ) -> str:
        """Write what the parties here hold, where so many phases have ended; older ones go that stand before
        the one which is `confirmed` to be every host's. Returns why it could not be written.
        """
        if self._spec.checkpoints is None:
            return f"{self.name} runs on another node, and its checkpoints would be lost with it"
        row, steps = self._transcript.position()
        rows = self._rows.until(row)
        point = checkpoint.Point(phases, row, steps, dict(sent), dict(taken), dict(self._took), rows)
        try:
            held = {name: party.holds() for name, party in self._seats.items()}
            checkpoint.write(Path(self._spec.checkpoints), whose(self._spec), point, held)
        except EncodingError as cause:
            return str(cause)
        checkpoint.forget(Path(self._spec.checkpoints), self.name, below=confirmed)
        return ""

    def spoken(self) -> Generator[tuple[int, bytes], None, None]:
        """(number, frame) of every message sent or revealed here so far, in order, from the transcript."""
        self._transcript.sync()
        with (
            closing(Transcript(self._spec.transcript)) as rows,
            closing(Transcript(self._spec.transcript)) as full,
        ):
            for row in rows.rows("kind IN ('sent', 'output') ORDER BY id"):
                yield row.seq, full.frame(row)

    def close(self, failed: bool = False) -> None:
        """Finish the transcript; of a run that failed, with what others may not have lived to write."""
        if failed:
            self._transcript.keep_received()
        self._transcript.close()
        for step, (calls, seconds, processor) in self._took.items():
            self._log.info("step_timed", step=step, calls=calls, seconds=seconds, processor_seconds=processor)
        self._log.info("transcript_closed")

    def _note(self, event: str, transfer: Transfer, frames: Sequence[tuple[int, Frame]]) -> None:
        """Log the first message of each label in a phase; the transcript holds them all."""
        if (event + transfer.phase, transfer.label) not in self._said:
            self._said.add((event + transfer.phase, transfer.label))
            sender, receiver = transfer.senders.members[0], transfer.receivers.members[0]
            self._log.info(
                event, phase=transfer.phase, label=transfer.label, sender=sender, receiver=receiver,
                messages=transfer.count, nbytes=sum(frame.nbytes for _, frame in frames),
                first_of_its_label=True,
            )  # fmt: skip


def forget_transcript(spec: HostSpec) -> None:
    """Remove what a host wrote whose process died: the one in its place writes it again. That of a run that
    was resumed is gone on with once more: others may have nothing of what it was sent before.
    """
    if spec.resumed is None and not spec.start:
        _remove(Path(spec.transcript))


def _remove(transcript: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        transcript.with_name(f"{transcript.name}{suffix}").unlink(missing_ok=True)


class _Seats(dict[str, Party]):
    """The parties of a host, each made when it first takes part: of thousands a round has a few."""

    def __init__(self, spec: HostSpec, transcript: TranscriptWriter, held: checkpoint.Held) -> None:
        """`held`: what those that take part had at a checkpoint."""
        super().__init__()
        self._spec, self._transcript = spec, transcript
        self._keys = dict(zip(spec.parties, spec.keys, strict=True))
        self._coins = _coins(spec, transcript)
        self._inputs = inputs_of(spec)  # read at once, so that data that cannot be read fail the start
        for name, parts in held.items():
            self._new(name, _Silent()).take_up(parts, transcript)
        for name in () if spec.role.many else spec.parties:
            self[name]  # the only one of its role has a view, whatever it is told

    def __contains__(self, party: object) -> bool:
        return party in self._keys

    def __missing__(self, name: str) -> Party:
        return self._new(name, self._transcript)

    def _new(self, name: str, transcript: Recorder) -> Party:
        spec = self._spec
        drawn = self._coins.get(name) or drawn_from(self._keys[name], spec.bound)
        party = Party(name, spec.config, drawn, transcript)
        for label, array in {**self._inputs(party.state.index), **dict(spec.public)}.items():
            party.give_input(label, array)
        if spec.restored is not None:
            self._restore(Path(spec.restored) / name, party)
        return self.setdefault(name, party)

    def _restore(self, kept: Path, party: Party) -> None:
        if not kept.exists():
            return
        try:
            find_protocol(self._spec.protocol).restore(party.state, decode(kept.read_bytes()))
        except (EncodingError, KeyError, TypeError, ValueError, RuntimeError):
            raise DataError(f"{kept}: not what {party.name} kept of a run of this version") from None


class _Silent:
    """Where a party is told to that is not new."""

    def note(self, party: str, kind: Kind, label: str, value: Any) -> None: ...
    def message(self, party: str, kind: Kind, header: Header, value: Any, frame: Frame) -> None: ...
    def step(self, party: str, step: str, header: Header, public: list[Any], frame: Frame) -> None: ...


def whose(spec: HostSpec) -> checkpoint.Whose:
    """What the checkpoints of a host belong to; its coins are among the entries that they digest."""
    protocol = find_protocol(spec.protocol)
    return checkpoint.whose(spec.name, spec.parties, protocol, spec.config, spec.bound, spec.kept.meta)


def _checkpoint(spec: HostSpec) -> tuple[checkpoint.Point, checkpoint.Held]:
    """What a host begins from, and what its parties had then."""
    if not spec.start or spec.checkpoints is None:
        return checkpoint.Point(0), {}
    return checkpoint.read(Path(spec.checkpoints), whose(spec), spec.start)


def _transcript(spec: HostSpec, point: checkpoint.Point) -> TranscriptWriter:
    """A new transcript, or that of the run that is gone on with."""
    path = Path(spec.transcript)
    if (spec.resumed is not None or spec.start) and path.exists():
        if not holds_nothing(path):
            return ContinuedTranscript(path, refused_in(spec.config), (point.row, point.steps))
        _remove(path)
    return TranscriptWriter(spec.transcript, spec.kept, spec.protocol, spec.config)


def refused_in(config: Any) -> frozenset[int]:
    """The messages of a run for which their senders were left out."""
    return frozenset(each.message for each in getattr(config, "dropped", ()))


def _coins(spec: HostSpec, transcript: TranscriptWriter) -> dict[str, Drawn]:
    """What parties of a resumed run drew from that was given no seed."""
    if spec.resumed is None or not spec.resumed.coins or not isinstance(transcript, ContinuedTranscript):
        return {}
    return {name: Drawn(**keys) for name, keys in transcript.coins().items() if len(keys) == 2}


def inputs_of(spec: HostSpec) -> Callable[[int], dict[str, NDArray[Any]]]:
    """The private input of a party by its index: what it asks about, without labels; its share; or nothing.

    A host keeps the samples of its own owners alone.
    """
    if spec.data is None:
        return lambda index: {}
    if spec.asking:
        images = queried(spec.data, spec.limit)[0]
        return lambda index: {"images": images}
    return Owned(spec.data, spec.owners, spec.split, [index_of(party) for party in spec.parties])
