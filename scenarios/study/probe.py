"""A few real steps of a run, measured part by part: set-up, upload, every step."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from parties.adversary.attack import Learned
from parties.adversary.knowledge import in_the_clear
from parties.data.datasets import split
from parties.record.log import open_log
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, party_name
from protocols.language.view import Kind
from scenarios.run.execute import Clock, interruptible, train
from scenarios.run.experiment import Experiment
from scenarios.run.folder import RunFolder, private_folder
from scenarios.run.hosts import Runtimes, runtime_named

WARM_STEPS = 2  # the first one pays for what is made once
_ENOUGH_SECONDS = 8.0  # of steps, after which no further one is made

# Seconds, and messages and bytes by edge, by name: "seconds", "bytes data_owner -> cloud_trainer".
Amounts = dict[str, float]


@dataclass(frozen=True)
class Measured:
    """What a run with `batch` samples a step, on `samples` in all, took part by part."""

    batch: int
    samples: int
    setup: Amounts
    upload: Amounts
    steps: tuple[Amounts, ...]
    average: Amounts

    def as_plain(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "batch": self.batch,
            "samples": self.samples,
            "setup_seconds": rounded(self.setup)["seconds"],
            "upload_seconds": rounded(self.upload)["seconds"],
            "step_seconds": [rounded(step)["seconds"] for step in self.steps],
        }


class _Enough(Exception):
    """Ends a run that has been measured."""


class _Stopwatch:
    """A runtime that waits for the end of every phase, notes its seconds, and stops after some steps."""

    def __init__(self, make: Callable[[], Any], last_phase: str) -> None:
        self.laps: list[tuple[str, int, float]] = []
        self._before, self._last_phase = time.perf_counter(), last_phase
        self._runtime = make()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def end_phase(self, phase: str, round: int) -> None:
        self._runtime.end_phase(phase, round)
        self._runtime.settle()
        now = time.perf_counter()
        self.laps.append((phase, round, now - self._before))
        self._before = now
        steps = [seconds for phase, _, seconds in self.laps if phase == "step"]
        if phase == self._last_phase and steps and (len(steps) >= WARM_STEPS or sum(steps) > _ENOUGH_SECONDS):
            raise _Enough


def measure(experiment: Experiment, batch: int, samples: int) -> tuple[Measured, tuple[Learned, ...]]:
    """Run some steps with small batches in a scratch folder; also returns what crossed in the clear."""
    small = _shrunk(experiment, batch, samples)
    watches: list[_Stopwatch] = []
    with (
        tempfile.TemporaryDirectory(prefix="keyhole-") as scratch,
        runtime_named(small.runtime, small.address) as make,
    ):
        private_folder(Path(scratch) / "transcripts")
        run = RunFolder(Path(scratch))

        def hosts(specs: Any, progress: Any) -> _Stopwatch:
            last_phase = "average" if trains_copies(small) else "step"
            watches.append(_Stopwatch(lambda: make.hosts(specs, progress), last_phase))
            return watches[-1]

        try:
            with interruptible(lambda event, value: None) as watched:
                train(
                    small,
                    run,
                    Runtimes(hosts, make.adversary),
                    Clock(),
                    watched,
                    open_log(run.path / "run.log"),
                )
        except _Enough:
            pass
        return _booked(run, watches[0].laps, small.config), tuple(_clear(run, small))


def _shrunk(experiment: Experiment, batch: int, samples: int) -> Experiment:
    """The same with few samples, one owner in a round, and its own key: none is used for two runs."""
    spec = replace(experiment.spec, samples=samples)
    small = replace(experiment, spec=spec, run_key=os.urandom(32), seed=None)
    sizes = tuple(
        len(part) for part in split(small.data.y_train, experiment.owners, experiment.split, spec.seed)
    )
    sized: dict[str, Any] = {"counts": sizes, "batch": batch, "epochs": WARM_STEPS}
    alone = {"rounds": 0, "local_steps": 1, "per_round": int(trains_copies(experiment))}
    sized |= {each.name: alone[each.name] for each in fields(experiment.config) if each.name in alone}
    return replace(small, config=replace(experiment.config, **sized))


def _booked(run: RunFolder, laps: list[tuple[str, int, float]], config: Any) -> Measured:
    """Seconds and messages of each part."""
    parts: dict[tuple[str, int], Amounts] = {}
    for phase, round, seconds in laps:
        _add(parts, (phase, round), "seconds", seconds)
    for row in run.view(*run.sources).rows(None, Kind.SENT):
        edge = f"{_role(row.sender)} -> {_role(row.receiver)}"
        _add(parts, (row.phase, row.round), f"messages {edge}", 1)
        _add(parts, (row.phase, row.round), f"bytes {edge}", row.nbytes)

    def every(name: str) -> list[Amounts]:
        return [
            amounts for (phase, _), amounts in sorted(parts.items()) if phase == name and "seconds" in amounts
        ]

    setup, upload = (summed(*((amounts, 1) for amounts in every(name))) for name in ("setup", "upload"))
    average = (every("average") or [{}])[-1]
    return Measured(config.batch, sample_count(config), setup, upload, tuple(every("step")), average)


def _clear(run: RunFolder, experiment: Experiment) -> list[Learned]:
    """What each role, of many owners the first, received as plain numbers."""
    names = [party_name(role, 0) if role is DATA_OWNER else role.value for role in experiment.roles]
    found = []
    for name in sorted(names, key=lambda name: (name != CLOUD_TRAINER.value, name)):
        view = run.view(name)
        found += in_the_clear(view)
        view.close()
    return found


def sample_count(config: Any) -> int:
    """Samples of all owners; those of which each holds columns count once."""
    return sum(getattr(config, "column_samples", config.counts))


def trains_copies(experiment: Experiment) -> bool:
    """Whether many owners train copies in rounds, as in a split network."""
    return len(experiment.config.counts) > 1 and "per_round" in experiment.scenario.options()


def summed(*terms: tuple[Amounts, float]) -> Amounts:
    """The sum of (amounts, times)."""
    total: Amounts = {"seconds": 0.0}
    for amounts, times in terms:
        for key, value in amounts.items():
            total[key] = total.get(key, 0.0) + times * value
    return total


def _add(parts: dict[tuple[str, int], Amounts], part: tuple[str, int], key: str, value: float) -> None:
    amounts = parts.setdefault(part, {})
    amounts[key] = amounts.get(key, 0.0) + value


def rounded(amounts: Amounts) -> Amounts:
    """To six decimals."""
    return {key: round(value, 6) for key, value in amounts.items()}


def _role(party: str) -> str:
    return party.partition(":")[0]
