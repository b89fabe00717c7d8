"""What benches share: figures, runs in scratch folders, the memory of all processes."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from scenarios.run.baseline import train_plain
from scenarios.run.catalogue import find_scenario
from scenarios.run.execute import execute
from scenarios.run.experiment import Experiment, Options, prepare
from scenarios.run.folder import RunFolder


@dataclass(frozen=True)
class Sizes:
    """Sizes given on the command line; None means the size of the stated figure."""

    data_dir: Path
    samples: int | None
    epochs: int | None
    hidden: int | None


@dataclass(frozen=True)
class Figure:
    """One measured figure beside the one that it is meant to reach."""

    bench: str
    what: str
    measured: str
    stated: str = ""
    value: Any = None


def same_weights(experiment: Experiment, run: RunFolder) -> str:
    """Whether the final weights are those of `plain` with the same rounding, bit by bit."""
    weights = run.final_weights()
    oracle = train_plain(experiment, experiment.config)
    pairs = [(weights["w1"], oracle["w1"]), *zip(weights["weights"], oracle["weights"], strict=True),
             *zip(weights["biases"], oracle["biases"], strict=True)]  # fmt: skip
    return "bit-identical" if all(np.array_equal(a, b) for a, b in pairs) else "different"


class Run:
    """A run in a scratch folder that is removed afterwards."""

    def __init__(self, scenario: str, options: dict[str, Any]) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="keyhole-bench-")
        experiment = prepare(find_scenario(scenario), Options(seed=0, **options))
        self._experiment = replace(experiment, out=Path(self._scratch.name) / "run")

    def __enter__(self) -> tuple[Experiment, RunFolder, dict[str, Any]]:
        return self._experiment, *execute(self._experiment)

    def __exit__(self, *exception: object) -> None:
        self._scratch.cleanup()


class Memory:
    """The peak of the proportional set size of this process and all below it, sampled twice a second."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self.peak = max(self.peak, _pss_of_tree())


def _pss_of_tree() -> int:
    me = psutil.Process()
    return sum(_pss(process) for process in (me, *me.children(recursive=True)))


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, OSError):
        return 0
