"""Going on with a run that was stopped, whatever stopped it: its transcripts are the checkpoint.

Every host computes its own steps again, from its own coins and inputs and from what it had received; none
waits for another, and nothing is sent. From the first message on that some host had not recorded, the run is
carried out as ever. What is computed again is held against what was recorded, so that a run ends as it would
have ended, or with a line. A run that did not keep every payload is carried out from its first message on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from parties.record.transcript import Record, Transcript
from parties.record.view import Kind
from parties.record.writer import written_to
from parties.runtime.checkpoint import folder_of, remove
from parties.runtime.checkpoints import from_checkpoint
from parties.runtime.host import BEHIND_ALL, HostSpec, Resumed
from parties.runtime.stood import Stand, stand_of
from protocols.language.errors import ConfigError, DataError
from protocols.language.options import from_plain
from protocols.language.session import NO_ROUND, Runtime
from protocols.network.public_base import base_of
from scenarios.run.certify import stored_experiment
from scenarios.run.experiment import Experiment, run_key
from scenarios.run.folder import RunFolder
from scenarios.run.hosts import host_specs
from scenarios.run.report import versions
from scenarios.run.result import Result, ResumedAt
from scenarios.run.status import Note, State, status_of

_LEAVING_SECONDS = 30.0  # of a host whose driver was killed in the middle of a long step
_NO_MATTER = frozenset(["ray", "structlog", "cvxopt"])  # no message depends on them

ATTACK = "attack"

Script = Callable[[Runtime], Iterator[Any]]


def basis() -> dict[str, Any]:
    """What the digest of a run rests on besides its configuration, and over how many hosts owners are
    spread.
    """
    return {
        "versions": {name: each for name, each in versions().items() if name not in _NO_MATTER},
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "processors": os.cpu_count() or 1,
    }


@dataclass(eq=False)
class GoingOn:
    """A run that goes on: what it is made of, how often it was resumed `before`, and where it stood."""

    experiment: Experiment
    basis: Mapping[str, Any]
    before: tuple[Mapping[str, Any], ...]
    note: Note = field(default=lambda **more: None)
    stopped: bool = True  # and not only by this process, which knows the coins, and goes on by itself
    _stand: Stand | None = None
    _began: float = field(default_factory=time.perf_counter)
    _seconds: float | None = None

    def trained(self, run: RunFolder) -> Result | None:
        """What was reported before the attacks began; None if it did not come to that."""
        if not (run.path / "result.json").is_file():
            return None
        self._stand, self._seconds = Stand(None, ATTACK, NO_ROUND), 0.0
        try:
            stored: Result = from_plain(Result, run.result)
        except ConfigError:
            raise DataError(f"{run.path / 'result.json'}: not the result of a run of this version") from None
        return replace(stored, attacks=(), resumed=self.resumed)

    def specs(self, run: RunFolder, script: Script, log: Any) -> list[HostSpec]:
        """What the hosts are told."""
        specs = host_specs(self.experiment, run, self.basis.get("processors"))
        self._stand = stand = stand_of(specs, script)
        log.info("stood", message=stand.message, phase=stand.phase, round=stand.round)
        if not stand.phase:
            self._seconds = 0.0
        self._noted()
        before = BEHIND_ALL if stand.message is None else stand.message
        if self.experiment.record is not Record.FULL:
            before = 0  # what was received cannot be read: all is sent again, and held against its digests
        resumed = Resumed(before, self.experiment.seed is None and self.stopped)
        return from_checkpoint([replace(spec, resumed=resumed) for spec in specs])

    def ended(self, phase: str, number: int) -> None:
        """A round has ended at every host."""
        if self._stand is not None and (phase, number) == (self._stand.phase, self._stand.round):
            self._seconds = round(time.perf_counter() - self._began, 3)
            self._noted()

    @property
    def seconds(self) -> float:
        """Until the hosts had computed again what they held."""
        return self._seconds or round(time.perf_counter() - self._began, 3)

    @property
    def resumed(self) -> tuple[ResumedAt, ...]:
        """Each time that the run was resumed."""
        return tuple(ResumedAt(**each) for each in self.passed)

    @property
    def passed(self) -> list[Mapping[str, Any]]:
        """The same, as it is noted."""
        stand = self._stand
        if stand is None or not self.stopped:
            return list(self.before)
        here = {
            "phase": stand.phase,
            "round": stand.round,
            "message": stand.message,
            "seconds": self._seconds,
        }
        return [*self.before, here]

    def _noted(self) -> None:
        self.note(resumed=self.passed)


def going_on_with(run: RunFolder) -> GoingOn:
    """What is needed to go on with a run; `ConfigError` or `DataError` says in a line why it cannot be."""
    status, path = status_of(run), run.path
    if "asked" in run.settings:
        raise ConfigError(f"{path}: is a prediction; ask again: keyhole predict")
    if status.complete:
        raise ConfigError(f"{path}: is complete; there is nothing to go on with")
    if status.state is State.RUNNING:
        raise ConfigError(f"{path}: is running, as {path}/status.json has it, on this machine or another")
    experiment = stored_experiment(run)
    if not experiment.resumable:
        cause = ConfigError(
            f"{path}: has headers only and was given no seed, so its coins are gone; a run that may have "
            "to be resumed needs --seed, or --record full or consumed"
        )
        forget_checkpoints(run, cause)
        raise cause
    _same_basis(run, status.basis)
    wait_until_left(run)
    for marker in (run.path / "transcripts").glob(".run-*"):
        marker.unlink(missing_ok=True)
    key, base = run_key(experiment.seed), _base(run, experiment)
    experiment = replace(experiment, run_key=key, base=base)
    return GoingOn(experiment, status.basis or basis(), status.resumed)


def forget_checkpoints(run: RunFolder, stopped: BaseException) -> None:
    """Remove the checkpoints of a run that stopped and that nobody can go on with; what stopped it says it
    where they stay.
    """
    if not os.path.lexists(folder_of(run.path)):
        return
    try:
        wait_until_left(run)  # else a host would write one more
        remove(run.path)
    except (DataError, OSError) as cause:
        stopped.add_note(f"its checkpoints, with secrets in them, are still there: {cause}")


def _same_basis(run: RunFolder, then: Mapping[str, Any]) -> None:
    """`DataError` where the run would go on as another one: floats and encodings are those of one version,
    and of one kind of processor.
    """
    now, said = basis(), dict(then.get("versions", {}))
    here = now["versions"]
    other = [f"{name} {here.get(name)}, then {said[name]}" for name in said if here.get(name) != said[name]]
    capability = then.get("instructions", now["instructions"])
    if capability != now["instructions"]:
        other.append(f"a processor with {now['instructions']}, then {capability}")
    if other:
        raise DataError(
            f"{run.path}: would not go on as the run that was begun: {'; '.join(other)}; resume it with those"
        )


def wait_until_left(run: RunFolder) -> None:
    """Wait until no host of the run is left; a host notices that its driver is gone when its step ends."""
    until = time.monotonic() + _LEAVING_SECONDS
    while written_to(run.path / "transcripts"):
        if time.monotonic() > until:
            raise DataError(
                f"{run.path}: a process of the run is still at work; resume it when that has ended"
            )
        time.sleep(0.1)


def _base(run: RunFolder, experiment: Experiment) -> Any:
    """The public base of a run that has one, from the inputs of its parties."""
    pool = getattr(experiment.config, "pool", None)
    if pool is None:
        return None
    for path in run.transcripts:
        with closing(Transcript(path)) as transcript:
            party = next(iter(transcript.parties()), None)
        if party is None:
            continue
        with closing(run.view(party)) as view:
            inputs = {row.label: view.value(row) for row in view.rows(None, Kind.INPUT)}
        return base_of(inputs, experiment.config.shape, pool)
    raise DataError(f"{run.path}: nothing was recorded that the run could go on with; begin it again")
