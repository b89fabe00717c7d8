"""Checkpoints: what the parties of a host hold at one place of the script, in one file, and its position in
the host's transcript (`--checkpoint-every`).

Every host writes its own at the end of the same rounds, each at the same place of the script, so that those
of one number belong together although nobody waits: a message has crossed before that place at both of its
ends, or at none. Secrets lie in them, keys among them: a file is for its owner alone, and all are removed
when the run is complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from parties.runtime.plain_state import Lowering, Raising
from protocols.language.errors import DataError, EncodingError
from protocols.language.message import decode, encode

_LENGTH = 8  # bytes before a frame
_VERSION = 1
_FRAMES = "."


@dataclass(frozen=True)
class Point:
    """A place of the script: phases that had ended there; the last entry and the number of steps that the
    host's transcript had, and the last transfers that it had sent to others, and taken from them.
    """

    phases: int
    row: int = 0
    steps: int = 0
    sent: Mapping[str, int] | None = None
    taken: Mapping[str, int] | None = None
    took: Mapping[str, Sequence[float]] | None = None  # calls and seconds of its steps, for its log


Held = dict[str, dict[str, dict[Any, Any]]]  # of each party: its heap and its state


def folder_of(run: Path | str) -> Path:
    """Where the checkpoints of a run are."""
    return Path(run) / "checkpoints"


def write(folder: Path, host: str, point: Point, held: Held) -> None:
    """Write a checkpoint, whole or not at all; `EncodingError` names what cannot be held."""
    lowering, frames = Lowering(), list[Any]()
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
    head = {"version": _VERSION, **vars(point), "parties": list(held)}
    folder.mkdir(mode=0o700, exist_ok=True)
    path = _path(folder, host, point.phases)
    part_of = path.with_name(f".{path.name}.part")
    part_of.unlink(missing_ok=True)
    with open(os.open(part_of, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        for each in (encode({**head, "index": index}), *frames):
            file.write(each.nbytes.to_bytes(_LENGTH, "little"))
            file.write(each.data)
        file.flush()
        os.fsync(file.fileno())
    part_of.replace(path)


def read(folder: Path, host: str, phases: int) -> tuple[Point, Held]:
    """A checkpoint; `DataError` where it is none."""
    path = _path(folder, host, phases)
    try:
        frames = _frames(path)
        head = decode(next(frames))
        held: Held = {party: {"heap": {}, "state": {}} for party in head["parties"]}
        raising = Raising()
        for party, part, key in head["index"]:
            held[party][part][key] = raising.raised(decode(next(frames)))
        if head["version"] != _VERSION:
            raise DataError(f"{path}: a checkpoint of another version")
        return _point(head), held
    except (OSError, EncodingError, StopIteration, KeyError, TypeError, ValueError, IndexError) as cause:
        raise DataError(f"{path}: no checkpoint: {type(cause).__name__}") from None


def point_of(folder: Path, host: str, phases: int) -> Point:
    """Where a checkpoint stands; `DataError` where it is none."""
    path = _path(folder, host, phases)
    try:
        return _point(decode(next(_frames(path))))
    except (OSError, EncodingError, StopIteration, KeyError, TypeError) as cause:
        raise DataError(f"{path}: no checkpoint: {type(cause).__name__}") from None


def _point(head: Mapping[str, Any]) -> Point:
    return Point(*(head[each.name] for each in fields(Point)))


def _frames(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        while True:
            length = file.read(_LENGTH)
            if not length:
                return
            frame = np.frombuffer(file.read(int.from_bytes(length, "little")), np.uint8)
            yield frame


def found(folder: Path | None, host: str) -> set[int]:
    """The numbers of the checkpoints of a host."""
    if folder is None or not folder.is_dir():
        return set()
    names = (path.name.rpartition(_FRAMES) for path in folder.iterdir() if not path.name.startswith("."))
    return {int(number) for name, _, number in names if name == host and number.isdigit()}


def forget(folder: Path, host: str, below: int = 0, above: int | None = None) -> None:
    """Remove the checkpoints of a host that nobody will go back to."""
    for number in found(folder, host):
        if number < below or (above is not None and number > above):
            _path(folder, host, number).unlink(missing_ok=True)


def remove(run: Path | str) -> None:
    """Remove all of a run."""
    shutil.rmtree(folder_of(run), ignore_errors=True)


def _path(folder: Path, host: str, phases: int) -> Path:
    return folder / f"{host}{_FRAMES}{phases}"
