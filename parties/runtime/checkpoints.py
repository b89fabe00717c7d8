"""When checkpoints are written and which one is gone on from, as a driver decides it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from parties.record.continued import holds_nothing
from parties.record.log import open_log
from parties.record.transcript import Frame, Record, Transcript
from parties.runtime import checkpoint
from parties.runtime.host import HostSpec, whose
from parties.runtime.stood import revealed_before
from parties.runtime.worker import Report
from protocols.language.errors import DataError, EncodingError

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
        self._unkept(why)
        return bool(why)

    def _unkept(self, why: str) -> None:
        if why and not self.unkept:
            self.unkept, self.every = why, 0
            self.told(why)

    def keep(self, spec: HostSpec, seq: int, frame: Frame) -> None:
        """Keep what was revealed, where no transcript does: a script that goes on needs it again."""
        if self.every and spec.checkpoints is not None and spec.kept.record is Record.HEADERS:
            try:
                checkpoint.write_revealed(Path(spec.checkpoints), seq, frame)
            except EncodingError as cause:
                self._unkept(str(cause))

    def revealed(self, spec: HostSpec, seq: int) -> Any:
        """What was revealed before the checkpoint that the run goes on from."""
        found = None
        if spec.checkpoints is not None:
            found = checkpoint.revealed(Path(spec.checkpoints), spec.transcript, seq)
        return revealed_before(spec, seq) if found is None else found


def from_checkpoint(specs: Sequence[HostSpec]) -> list[HostSpec]:
    """Hosts as they go on from the last checkpoint that all of them have, or from the beginning. One that is
    damaged, or of another run, is refused with a line in the log.
    """
    numbers = [{n for n in checkpoint.found(_folder(spec), spec.name) if n > 0} for spec in specs]
    common = set.intersection(*numbers) if numbers else set[int]()
    start = next((n for n in sorted(common, reverse=True) if all(_holds(spec, n) for spec in specs)), 0)
    return [replace(spec, start=start) for spec in specs]


def _folder(spec: HostSpec) -> Path | None:
    return None if spec.checkpoints is None else Path(spec.checkpoints)


def _holds(spec: HostSpec, number: int) -> bool:
    """Whether a checkpoint is a host's own, and its transcript is there up to it."""
    transcript = Path(spec.transcript)
    try:
        point = checkpoint.point_of(Path(spec.checkpoints or "."), whose(spec), number)
        if holds_nothing(transcript):
            return False
        with closing(Transcript(transcript)) as stored:
            found = stored.first(
                "SELECT (SELECT COALESCE(MAX(id), 0) FROM rows), (SELECT COUNT(*) FROM steps)"
            )
        if found is None or found[0] < point.row or found[1] < point.steps:
            return False
        if checkpoint.Rows(transcript).until(point.row) != point.rows:
            raise DataError(f"{spec.checkpoints}/{spec.name}.{number}: a checkpoint of another transcript")
    except DataError as cause:
        open_log(Path(spec.log)).bind(host="driver").warning("checkpoint_refused", reason=str(cause))
        return False
    return True
