"""When checkpoints are written and which one is gone on from, as a driver decides it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from parties.record.continued import holds_nothing
from parties.record.transcript import Frame, Record, Transcript
from parties.runtime import checkpoint
from parties.runtime.host import HostSpec
from parties.runtime.stood import revealed_before
from parties.runtime.worker import Report
from protocols.language.errors import DataError
from protocols.language.message import decode

REPEATED = ("step", "query")  # the phases whose rounds are counted


class Checkpoints:
    """What a driver does about checkpoints: every so many rounds one, until a host cannot write it."""

    def __init__(self) -> None:
        self.every = 0
        self.unkept = ""  # why there are none any more
        self.told: Callable[[str], None] = lambda line: None

    def due(self, phase: str, round: int) -> bool:
        """Whether one is written where a round ends."""
        return self.every > 0 and phase in REPEATED and (round + 1) % self.every == 0

    def lost(self, reports: Sequence[Report]) -> bool:
        """Whether a host could not write one; then no more are asked for."""
        why = next((report.unkept for report in reports if report.unkept), "")
        if why and not self.unkept:
            self.unkept, self.every = why, 0
            self.told(why)
        return bool(why)

    def keep(self, spec: HostSpec, seq: int, frame: Frame) -> None:
        """Keep what was revealed, where no transcript does: a script that goes on needs it again."""
        if self.every and spec.checkpoints is not None and spec.kept.record is Record.HEADERS:
            path = _revealed(spec, seq)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            part = path.with_name(f".{path.name}.part")
            part.unlink(missing_ok=True)
            with open(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                file.write(frame.data)
            part.replace(path)

    def revealed(self, spec: HostSpec, seq: int) -> Any:
        """What was revealed before the checkpoint that the run goes on from."""
        path = _revealed(spec, seq)
        return decode(path.read_bytes()) if path.is_file() else revealed_before(spec, seq)


def _revealed(spec: HostSpec, seq: int) -> Path:
    return Path(spec.checkpoints or ".") / f"revealed.{seq}"


def from_checkpoint(specs: Sequence[HostSpec]) -> list[HostSpec]:
    """Hosts as they go on from the last checkpoint that all of them have, or from the beginning."""
    numbers = [
        {n for n in checkpoint.found(_folder(spec), spec.name) if n > 0 and _holds(spec, n)} for spec in specs
    ]
    start = max(set.intersection(*numbers), default=0) if numbers else 0
    return [replace(spec, start=start) for spec in specs]


def _folder(spec: HostSpec) -> Path | None:
    return None if spec.checkpoints is None else Path(spec.checkpoints)


def _holds(spec: HostSpec, number: int) -> bool:
    """Whether a host's transcript is there up to a checkpoint of its own."""
    transcript = Path(spec.transcript)
    try:
        point = checkpoint.point_of(Path(spec.checkpoints or "."), spec.name, number)
        if holds_nothing(transcript):
            return False
        with closing(Transcript(transcript)) as stored:
            found = stored.first(
                "SELECT (SELECT COALESCE(MAX(id), 0) FROM rows), (SELECT COUNT(*) FROM steps)"
            )
    except DataError:
        return False
    return found is not None and found[0] >= point.row and found[1] >= point.steps
