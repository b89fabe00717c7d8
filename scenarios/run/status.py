"""How far a run came: status.json, which is written before anything else of a run and again when it ends.

A process that is killed writes nothing more: its run says "running" with the number of a process that is
gone. Where a run stands is read from its transcripts, which every host commits as it goes.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from pathlib import Path
from typing import Any

from parties.record.transcript import Transcript
from protocols.language.errors import OUT_OF_MEMORY, DataError, KeyholeError
from scenarios.run.folder import RunFolder, read_json, write_json

NAME = "status.json"


class State(Enum):
    """What became of a run."""

    RUNNING = "running"
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    KILLED = "killed"


@dataclass(frozen=True)
class Status:
    """A run's state; why, if it failed; the steps that were planned; what its digest rests on besides its
    configuration, how often it was resumed, which owners it left out, and why checkpoints that were asked for
    are missing, as they are noted.
    """

    state: State
    reason: str
    steps: int | None
    basis: Mapping[str, Any] = field(default_factory=dict)
    resumed: tuple[Mapping[str, Any], ...] = ()
    dropped: tuple[Mapping[str, Any], ...] = ()
    no_checkpoint: str = ""

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.state is State.COMPLETE


def in_a_line(cause: BaseException) -> str:
    """Why a run failed; not the text of unexpected errors, which may hold values."""
    if isinstance(cause, KeyholeError | OSError):
        return str(cause)
    return OUT_OF_MEMORY if isinstance(cause, MemoryError) else type(cause).__name__


Note = Callable[..., None]


@contextmanager
def noted(run: RunFolder, steps: int, basis: Mapping[str, Any], **more: Any) -> Iterator[Note]:
    """Write what becomes of a run that happens inside of the block; what is yielded notes more of it."""
    said = {"state": State.RUNNING.value, "reason": "", "steps": steps, "process": os.getpid(),
            "host": socket.gethostname(), "born": _born(os.getpid()), "basis": dict(basis),
            **more}  # fmt: skip

    def note(**more: Any) -> None:
        said.update(more)
        write_json(run.path / NAME, said)

    note()
    try:
        yield note
    except BaseException as cause:
        interrupted = isinstance(cause, KeyboardInterrupt)
        why = in_a_line(cause)
        state = State.INTERRUPTED if interrupted else State.FAILED
        _noted_last(run.path / NAME, said | {"state": state.value, "reason": "" if interrupted else why})
        raise
    write_json(run.path / NAME, said | {"state": State.COMPLETE.value})


def _noted_last(path: Path, said: dict[str, Any]) -> None:
    """Write what became of a run that failed; on a full disk in the place of what is there."""
    try:
        write_json(path, said)
    except OSError:
        path.with_name(f"{NAME}.part").unlink(missing_ok=True)
        with suppress(OSError), path.open("r+b") as file:
            file.truncate(file.write(json.dumps(said).encode()))


def set_aside(out: Path | None) -> None:
    """Rename the folder of a run that failed, was interrupted or killed, so that it does not block its
    name.
    """
    if out is None or not (out / NAME).is_file():
        return
    state = status_of(RunFolder(out)).state
    if state in (State.FAILED, State.INTERRUPTED, State.KILLED):
        free = next(
            path for n in count(1) if not (path := out.with_name(f"{out.name}-{state.value}-{n}")).exists()
        )
        out.rename(free)


def status_of(run: RunFolder) -> Status:
    """What became of a stored run; of a folder that does not say, what its files say."""
    path = run.path / NAME
    if not path.is_file():
        finished = any((run.path / name).is_file() for name in ("result.json", "prediction.json"))
        return Status(State.COMPLETE if finished else State.INTERRUPTED, "", None)
    said = read_json(path, _SCHEMA)
    state = State(said["state"])
    if state is State.RUNNING and not _alive(said):
        state = State.KILLED
    resumed, dropped = (tuple(said.get(name, ())) for name in ("resumed", "dropped"))
    basis, unkept = said.get("basis", {}), said.get("no_checkpoint", "")
    return Status(state, said["reason"], said["steps"], basis, resumed, dropped, unkept)


def incomplete(run: RunFolder) -> str:
    """One line on a run that is not complete: why, and where it stands; empty for one that is."""
    status = status_of(run)
    if status.complete:
        return ""
    why = f": {status.reason}" if status.reason else ""
    return f"incomplete: {status.state.value}{why}; {_last(run.transcripts, status.steps)}"


def _last(paths: list[Path], steps: int | None) -> str:
    """Where transcripts end."""
    found: list[tuple[Any, ...]] = []
    for path in paths:
        try:
            with closing(Transcript(path)) as transcript:
                last = transcript.first("SELECT seq, phase, round, label FROM rows ORDER BY seq DESC LIMIT 1")
                found += [last] if last is not None and last[0] >= 0 else []
        except DataError:  # of a run that was killed while it made the file
            continue
    if not found:
        return "no message crossed"
    seq, phase, round_, label = max(found)
    of = f" of {steps}" if phase == "step" and steps is not None else ""
    return f"last message {seq} ({label}) in phase {phase}" + (f", round {round_}{of}" if round_ >= 0 else "")


def _alive(said: dict[str, Any]) -> bool:
    """Whether the process that wrote this may still be at it; of another machine nobody can tell."""
    if said["host"] != socket.gethostname():
        return True
    try:
        os.kill(said["process"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    born = _born(said["process"])
    return "" in (born, said.get("born", "")) or born == said["born"]  # else another process of that number


def _born(process: int) -> str:
    """When a process of this machine began, in ticks of a boot; empty where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
    return f"{boot} {ticks}"


_SCHEMA = {
    "type": "object",
    "required": ["state", "reason", "steps", "process", "host"],
    "properties": {
        "state": {"enum": [state.value for state in State if state is not State.KILLED]},
        "reason": {"type": "string"},
        "steps": {"type": ["integer", "null"], "minimum": 0},
        "process": {"type": "integer", "minimum": 1, "maximum": 1 << 31},
        "host": {"type": "string"},
        "born": {"type": "string"},
        "basis": {"type": "object"},
        "resumed": {"type": "array", "items": {"type": "object"}},
        "dropped": {"type": "array", "items": {"type": "object"}},
        "no_checkpoint": {"type": "string"},
    },
}
