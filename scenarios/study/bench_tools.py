"""What benches share: figures, runs in scratch folders, the memory of all processes."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from scenarios.run.baseline import train_plain
from scenarios.run.catalogue import find_scenario
from scenarios.run.execute import execute
from scenarios.run.experiment import Experiment, prepare
from scenarios.run.folder import RunFolder


@dataclass(frozen=True)
class Sizes:
    """Sizes given on the command line; None means the size of the stated figure."""

    data_dir: Path
    samples: int | None
    epochs: int | None
    hidden: int | None
    flower: str | None = None  # a Python that has flwr[simulation]

    def over(self, **options: Any) -> dict[str, Any]:
        """Options of a run, with the sizes that were given in place of its own."""
        given = {"samples": self.samples, "epochs": self.epochs, "hidden": self.hidden}
        return {**options, **{name: value for name, value in given.items() if value}}

    def mnist(self, **options: Any) -> dict[str, Any]:
        """The same on MNIST."""
        return self.over(dataset="mnist", data_dir=self.data_dir / "mnist", **options)


@dataclass(frozen=True)
class Figure:
    """One measured figure beside the one that it is meant to reach."""

    bench: str
    what: str
    measured: str
    stated: str = ""
    value: Any = None


class Run:
    """A run in a scratch folder that is removed afterwards."""

    def __init__(self, scenario: str, options: dict[str, Any]) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="keyhole-bench-")
        experiment = prepare(find_scenario(scenario), dict(seed=0, **options))
        self._experiment = replace(experiment, out=Path(self._scratch.name) / "run")

    def __enter__(self) -> Carried:
        return self._experiment, *execute(self._experiment)

    def __exit__(self, *exception: object) -> None:
        self._scratch.cleanup()


Carried = tuple[Experiment, RunFolder, dict[str, Any]]


def run_figures(bench: str, what: str, carried: Carried, stated: Mapping[str, str]) -> Iterator[Figure]:
    """Of a run, what `stated` has a goal for (`protected` seconds, `accuracy`, ...), and its attacks."""
    experiment, run, result = carried
    accuracy, seconds = result["accuracy"], result["seconds"]
    if "protected" in stated:
        text = f"{seconds['setup'] + seconds['train']:.1f} ({_laps(seconds)})"
        yield Figure(bench, f"{what}: seconds, set-up and training", text, stated["protected"], seconds)
    if "accuracy" in stated:
        text = f"{accuracy['test']:.4f} ({accuracy['baseline_test']:.4f})"
        yield Figure(bench, f"{what}: test accuracy (unprotected)", text, stated["accuracy"], accuracy)
    if "seconds" in stated:
        text = f"{seconds['total']:.1f} ({_laps(seconds)})"
        yield Figure(bench, f"{what}: seconds in all", text, stated["seconds"], seconds)
    if "weights" in stated:
        yield Figure(bench, f"{what}: weights against plain", same_weights(experiment, run), "bit-identical")
    for row in result["attacks"]:
        shown = {k: row["metrics"][k] for k in _SHOWN if k in row["metrics"]}
        text = json.dumps(shown) if row["applicable"] else f"not applicable: {row['why']}"
        yield Figure(bench, f"{what}: {row['attack']}", text, "exact, with its step", row["metrics"])


_SHOWN = ("exact_pixels", "labels_right", "solved_at_step")


def _laps(seconds: dict[str, float]) -> str:
    return " · ".join(f"{name} {seconds[name]:.1f}" for name in ("setup", "train", "attack", "report"))


def same_weights(experiment: Experiment, run: RunFolder) -> str:
    """Whether the final weights are those of `plain` with the same rounding, bit by bit."""
    weights, oracle = run.final_weights(), train_plain(experiment, experiment.config)
    layers = [[w["w1"], *w["weights"], *w["biases"]] for w in (weights, oracle)]
    return "bit-identical" if all(map(np.array_equal, *layers)) else "different"


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

    def figure(self, bench: str, stated: str) -> Figure:
        """The peak as a figure."""
        what = f"{'MNIST: ' if bench == 'mitig2' else ''}peak memory of all processes (PSS)"
        return Figure(bench, what, f"{self.peak / 2**30:.2f} GiB", stated, self.peak)

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self.peak = max(self.peak, _pss_of_tree())


def _pss_of_tree() -> int:
    me = psutil.Process()
    return sum(pss(process) for process in (me, *me.children(recursive=True)))


def pss(process: psutil.Process) -> int:
    """The proportional set size of a process in bytes; 0 of one that is gone."""
    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, OSError):
        return 0
