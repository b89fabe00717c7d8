"""Checkpoints: what the parties of a host hold at one place of the script, in one file, and its position in
the host's transcript (`--checkpoint-every`).

Every host writes its own at the end of the same rounds, each at the same place of the script, so that those
of one number belong together although nobody waits: a message has crossed before that place at both of its
ends, or at none. Secrets lie in them, keys among them: a file is for its owner alone, and all are removed
when the run is complete.

A file says which host of which run it belongs to, and digests the entries that the host's transcript had; its
SHA-256 stands at its end. One that is damaged, or of another run, is refused. It is no proof against who can
write the transcripts as well: of their file nothing is called or imported but data classes of protocols.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from parties.record.transcript import Transcript
from parties.runtime.plain_state import Lowering, Raising
from protocols.language.errors import DataError, EncodingError
from protocols.language.message import decode, encode
from protocols.language.options import as_plain

_LENGTH = 8  # bytes before a frame
_DIGEST = 32  # bytes behind the last one
_BLOCK = 1 << 20
_VERSION = 2
_NO_CHECKPOINT = (
    OSError, EncodingError, StopIteration, LookupError, TypeError, ValueError, AttributeError, RecursionError
)  # fmt: skip
_FRAMES = "."
_REVEALED = "revealed"
_ROWS = "SELECT party, kind, seq, label, sha256 FROM rows WHERE id > ? AND id <= ? ORDER BY id"


@dataclass(frozen=True)
class Point:
    """A place of the script: phases that had ended there; the last entry and the number of steps that the
    host's transcript had, and the last transfers that it had sent to others, and taken from them. `rows`: a
    digest of the entries up to there.
    """

    phases: int
    row: int = 0
    steps: int = 0
    sent: Mapping[str, int] | None = None
    taken: Mapping[str, int] | None = None
    took: Mapping[str, Sequence[float]] | None = None  # calls and seconds of its steps, for its log
    rows: str = ""


Held = dict[str, dict[str, dict[Any, Any]]]  # of each party: its heap and its state


@dataclass(frozen=True)
class Whose:
    """The host that a checkpoint belongs to: its parties, a digest of what the run is made of, and the
    package of its protocol.
    """

    host: str
    parties: tuple[str, ...]
    run: str
    package: str = ""


def whose(host: str, parties: tuple[str, ...], protocol: Any, config: Any, *more: Any) -> Whose:
    """What a host's checkpoints belong to; `more`: what else the run is made of. Owners that it was left
    without do not count: it was the same run before.
    """
    said = {name: each for name, each in as_plain(config).items() if name != "dropped"}
    what = json.dumps([host, parties, protocol.NAME, said, *more], sort_keys=True)
    module = str(getattr(protocol, "__name__", ""))
    return Whose(host, parties, hashlib.sha256(what.encode()).hexdigest(), module.partition(".")[0])


class Rows:
    """A running digest of the entries of a transcript."""

    def __init__(self, transcript: Path | str) -> None:
        self._path, self._row, self._digest = transcript, 0, hashlib.sha256()

    def until(self, row: int) -> str:
        """The digest of the entries up to one, which is no earlier than the last time; `DataError` for a file
        that is no transcript.
        """
        with closing(Transcript(self._path)) as transcript:
            for *said, sha in transcript.query(_ROWS, self._row, row):
                self._digest.update(f"{said!r} {bytes(sha).hex()}\n".encode())
        self._row = row
        return self._digest.hexdigest()


def folder_of(run: Path | str) -> Path:
    """Where the checkpoints of a run are."""
    return Path(run) / "checkpoints"


def write(folder: Path, whose: Whose, point: Point, held: Held) -> None:
    """Write a checkpoint, whole or not at all; `EncodingError` names what cannot be held, or why nothing can
    be written.
    """
    lowering, frames = Lowering(whose.package), list[Any]()
    index: list[Any] = []
    for party, parts in held.items():
        for part, values in parts.items():
            for key, value in values.items():
                index.append([party, part, key])
                where = f"{party}: {key if part == 'state' else f'value {key}'}"
                try:
                    frames.append(encode(lowering.lowered(value, where)))
                except EncodingError as cause:
                    said = str(cause)
                    raise EncodingError(said if said.startswith(party) else f"{where}: {said}") from None
    lowering.check_apart()
    head = {"version": _VERSION, "run": whose.run, **vars(point), "parties": list(held), "index": index}
    _put(folder, f"{whose.host}{_FRAMES}{point.phases}", (encode(head), *frames))


def write_revealed(folder: Path, seq: int, frame: Any) -> None:
    """Keep what was revealed as a message; `EncodingError` says why it cannot be."""
    _put(folder, f"{_REVEALED}{_FRAMES}{seq}", (frame,))


def revealed(folder: Path, transcript: Path | str, seq: int) -> Any:
    """What was kept of a message; None where nothing was. `DataError` where it is not what the transcript
    says.
    """
    path = folder / f"{_REVEALED}{_FRAMES}{seq}"
    if folder.is_symlink() or not path.is_file():
        return None
    try:
        with _opened(path) as file:
            frame = next(_frames(file))
        with closing(Transcript(transcript)) as rows:
            said = rows.first("SELECT sha256 FROM rows WHERE kind = 'output' AND seq = ?", seq)
        if said is None or bytes(said[0]) != hashlib.sha256(frame.data).digest():
            raise DataError(f"{path}: not what was revealed as message {seq}")
        return decode(frame)
    except (OSError, EncodingError, StopIteration) as cause:
        raise DataError(f"{path}: not what was revealed: {type(cause).__name__}") from None


def _put(folder: Path, name: str, frames: Iterable[Any]) -> None:
    """Write a file for its owner alone, whole or not at all."""
    part, digest = folder / f".{name}.part", hashlib.sha256()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink():
            raise EncodingError(f"{folder} is a link, and checkpoints are written into no other folder")
        part.unlink(missing_ok=True)
        with open(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            for each in frames:
                for piece in (each.nbytes.to_bytes(_LENGTH, "little"), each.data):
                    file.write(piece)
                    digest.update(piece)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / name)
    except OSError as cause:
        raise EncodingError(f"{folder} cannot be written: {cause.strerror}") from None


def read(folder: Path, whose: Whose, phases: int) -> tuple[Point, Held]:
    """A checkpoint; `DataError` where it is none, is damaged, or belongs to another host or run."""
    path = _path(folder, whose.host, phases)
    try:
        with _opened(path) as file:
            frames = _frames(file)
            head = _head(next(frames), path, whose, phases)
            held: Held = {party: {"heap": {}, "state": {}} for party in head["parties"]}
            raising = Raising(whose.package)
            for party, part, key in head["index"]:
                held[party][part][key] = raising.raised(decode(next(frames)))
        return _point(head), held
    except _NO_CHECKPOINT as cause:
        raise DataError(f"{path}: no checkpoint: {type(cause).__name__}") from None


def point_of(folder: Path, whose: Whose, phases: int) -> Point:
    """Where a checkpoint stands; `DataError` as for `read`, but for what its parties held."""
    path = _path(folder, whose.host, phases)
    try:
        with _opened(path) as file:
            return _point(_head(next(_frames(file)), path, whose, phases))
    except _NO_CHECKPOINT as cause:
        raise DataError(f"{path}: no checkpoint: {type(cause).__name__}") from None


def _head(frame: Any, path: Path, whose: Whose, phases: int) -> Mapping[str, Any]:
    """What a checkpoint says of itself."""
    head = decode(frame)
    if not isinstance(head, dict) or head.get("version") != _VERSION:
        raise DataError(f"{path}: a checkpoint of another version")
    if head["run"] != whose.run or head["phases"] != phases:
        raise DataError(f"{path}: a checkpoint of another run, host or place")
    numbers = [head[name] for name in ("row", "steps")]
    for name in ("sent", "taken"):
        numbers += [*(head[name] or {}).values()]
    took = [number for row in (head["took"] or {}).values() for number in _three(row)]
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers) or not all(
        type(number) in (int, float) for number in took
    ):
        raise DataError(f"{path}: a checkpoint with a place that there is not")
    if type(head["rows"]) is not str or not set(head["parties"]) <= set(whose.parties):
        raise DataError(f"{path}: a checkpoint of parties that are not here")
    return head


def _three(row: Any) -> Any:
    calls, seconds, processor = row
    return calls, seconds, processor


def _point(head: Mapping[str, Any]) -> Point:
    return Point(**{each.name: head[each.name] for each in fields(Point)})


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file whose SHA-256 is the one at its end; `DataError` for another one."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise DataError(f"{path}: not a file")
        digest, left = hashlib.sha256(), about.st_size - _DIGEST
        while left > 0 and (block := file.read(min(left, _BLOCK))):
            digest.update(block)
            left -= len(block)
        if left or file.read(_DIGEST) != digest.digest():
            raise DataError(f"{path}: damaged: its SHA-256 is not the one at its end")
        file.seek(0)
        yield file


def _frames(file: BinaryIO) -> Iterator[Any]:
    end = os.fstat(file.fileno()).st_size - _DIGEST
    while file.tell() < end:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if length > end - file.tell():
            raise EncodingError("a part is longer than what is left")
        yield np.frombuffer(file.read(length), np.uint8)


def found(folder: Path | None, host: str) -> set[int]:
    """The numbers of the checkpoints of a host."""
    if folder is None or not folder.is_dir() or folder.is_symlink():
        return set()
    names = (path.name.rpartition(_FRAMES) for path in folder.iterdir() if not path.name.startswith("."))
    return {int(number) for name, _, number in names if name == host and _is_number(number)}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def forget(folder: Path, host: str, below: int = 0, above: int | None = None) -> None:
    """Remove the checkpoints of a host that nobody will go back to."""
    for number in found(folder, host):
        if number < below or (above is not None and number > above):
            _path(folder, host, number).unlink(missing_ok=True)


def forget_revealed(folder: Path, above: int) -> None:
    """Remove what was revealed behind a message which the run goes on from in another way; what was before
    it, a script that goes on needs again, up to its end.
    """
    forget(folder, _REVEALED, above=above)


def remove(run: Path | str) -> None:
    """Remove all of a run; `DataError` where secrets stay. Of a link, where it leads to is left alone."""
    folder = folder_of(run)
    try:
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder)
    except OSError as cause:
        raise DataError(
            f"{folder}: cannot be removed ({cause.strerror}), and secrets lie there: remove it"
        ) from None


def _path(folder: Path, host: str, phases: int) -> Path:
    return folder / f"{host}{_FRAMES}{phases}"
