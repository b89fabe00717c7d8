"""`--log-to tensorboard:DIR`, `mlflow:DIR` or `mlflow:URI`: a run in the tools that compare runs elsewhere.

What is logged is what result.json holds: accuracy and loss on held-out samples as epochs end; at the end the
scalars of the result, the rank of what parties hold after each step, configuration, digest and the answer.
Steps are counted as in the ledger, from 0. The run's seed is not logged: who knows it holds every key.

A place that cannot be opened stops a run before it begins. One that fails later costs the log and not the
run.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from protocols.language.errors import ConfigError, DataError
from scenarios.page.answer import answer
from scenarios.run.experiment import Experiment
from scenarios.run.folder import RunFolder, private_folder

Scalars = Mapping[str, float]
_LONGEST = 500  # characters of a value of the configuration: counts of a million owners are none
_SPELT = re.compile(r"[^\w./ -]")  # what neither tool takes in a name


class Sink(Protocol):
    """Where a run is logged."""

    def scalars(self, values: Scalars, step: int) -> None: ...
    def texts(self, values: Mapping[str, str]) -> None: ...
    def close(self, failed: bool) -> None: ...


class TensorBoard:
    """Event files in DIR/NAME OF THE RUN."""

    def __init__(self, where: str, run: RunFolder) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(private_folder(_free(Path(where), run.path.name))))

    def scalars(self, values: Scalars, step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def texts(self, values: Mapping[str, str]) -> None:
        for name, text in values.items():
            self._writer.add_text(name, text)

    def close(self, failed: bool) -> None:
        del failed  # event files have no such mark
        self._writer.close()


class MLflow:
    """A run of the experiment `keyhole`, in a folder or at an address that MLflow knows."""

    def __init__(self, where: str, run: RunFolder) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nobody is told that a run took place
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder needs no data base
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a server that is away is said at once
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient

        if "://" not in where:
            folder = Path(where) if Path(where).exists() else private_folder(Path(where))
            where = folder.resolve().as_uri()
        self._client = MlflowClient(where)
        self._metric, self._param, self._tag = Metric, Param, RunTag
        known = self._client.get_experiment_by_name("keyhole")
        number = known.experiment_id if known else self._client.create_experiment("keyhole")
        self._run = self._client.create_run(number, run_name=run.path.name).info.run_id

    def scalars(self, values: Scalars, step: int) -> None:
        now = time.time_ns() // 1_000_000
        self._client.log_batch(self._run, [self._metric(n, v, now, step) for n, v in values.items()])

    def texts(self, values: Mapping[str, str]) -> None:
        settings = [self._param(n.removeprefix("config/"), v) for n, v in values.items() if "/" in n]
        for start in range(0, len(settings), 100):  # of a batch, MLflow says
            self._client.log_batch(self._run, params=settings[start : start + 100])
        tags = [self._tag(name, text) for name, text in values.items() if "/" not in name]
        self._client.log_batch(self._run, tags=tags)

    def close(self, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


@dataclass(frozen=True)
class _Tool:
    """What logs: the package that it needs, and how a sink is opened."""

    package: str
    open: Callable[[str, RunFolder], Sink]


TOOLS: Mapping[str, _Tool] = {
    "tensorboard": _Tool("tensorboardX", TensorBoard),
    "mlflow": _Tool("mlflow", MLflow),
}


def checked(places: tuple[str, ...]) -> tuple[str, ...]:
    """The places, folders by their whole paths; `ConfigError` for what is none, and for a package that is
    missing.
    """
    return tuple(dict.fromkeys(f"{tool}:{where}" for tool, where in map(_parted, places)))


def _parted(place: str) -> tuple[str, str]:
    tool, _, where = place.partition(":")
    if tool not in TOOLS or not where:
        raise ConfigError(f"--log-to: expected tensorboard:DIR, mlflow:DIR or mlflow:URI, got {place!r}")
    if find_spec(TOOLS[tool].package) is None:
        raise ConfigError(
            f"--log-to {tool}: {TOOLS[tool].package} is not installed: pip install 'keyhole[{tool}]'"
        )
    return tool, where if "://" in where else str(Path(where).expanduser().resolve())


class Logged:
    """Tells every sink of a run what is observed of it, and at its end what came of it."""

    def __init__(self, sinks: Mapping[str, Sink], experiment: Experiment, log: Callable[..., None]) -> None:
        self._sinks, self._log = dict(sinks), log
        self._steps = experiment.steps / max(1, getattr(experiment.config, "epochs", 1))
        self._seen: dict[str, float] = {}

    def observe(self, event: str, value: Any) -> None:
        """Keep accuracy and loss, and log them as the epoch ends."""
        if not self._sinks:
            return
        if event in ("test_accuracy", "test_loss"):
            value = value() if callable(value) else value
            if value is not None:
                self._seen[f"{event.removeprefix('test_')}/test"] = float(value)
        elif event == "epoch":
            self._each(lambda sink: sink.scalars(self._seen, max(0, round(self._steps * value) - 1)))
            self._seen = {}

    def finish(self, result: Mapping[str, Any]) -> None:
        """Log what result.json holds."""
        last = max(0, result["steps"] - 1)

        def told(sink: Sink) -> None:
            sink.texts(_texts(result))
            sink.scalars(_scalars(result), last)
            for step, values in _curves(result):
                sink.scalars(values, step)

        self._each(told)

    def close(self, failed: bool) -> None:
        """Close what is open."""
        self._each(lambda sink: sink.close(failed))

    def _each(self, told: Callable[[Sink], None]) -> None:
        for place, sink in list(self._sinks.items()):
            try:
                told(sink)
            except Exception as cause:  # of a disk that is full, a server that went away
                del self._sinks[place]
                self._log("log_failed", to=place.partition(":")[0], reason=type(cause).__name__)


@contextmanager
def logged(experiment: Experiment, run: RunFolder, log: Callable[..., None]) -> Iterator[Logged]:
    """The places of a run, open; `DataError` for one that cannot be opened. `log` is told of one that fails
    later.
    """
    sinks: dict[str, Sink] = {}
    for place in checked(experiment.log_to):
        tool, where = _parted(place)
        try:
            sinks[place] = TOOLS[tool].open(where, run)
        except DataError as cause:
            raise DataError(f"--log-to {tool}: {cause}") from None
        except Exception as cause:
            said = " ".join(str(cause).split()).replace(where, _public(where))[:200]
            said += "; for a data base: pip install mlflow" if where.startswith("sqlite") else ""
            raise DataError(f"--log-to {tool}: {_public(where)} cannot be opened: {said}") from None
    found = Logged(sinks, experiment, log)
    try:
        yield found
    except BaseException:
        with suppress(Exception):
            found.close(failed=True)
        raise
    found.close(failed=False)


def _public(where: str) -> str:
    """An address without the name and password that may stand in it."""
    scheme, slashes, rest = where.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if slashes else where


def _free(folder: Path, name: str) -> Path:
    """A folder of this name, or of the next number, that is not there yet."""
    names = (name if n == 1 else f"{name}-{n}" for n in count(1))
    return next(folder / each for each in names if not (folder / each).exists())


def _name(*parts: str) -> str:
    return "/".join(_SPELT.sub("_", part) for part in parts)


def _scalars(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a result, by names with `/`."""
    found: dict[str, Any] = {
        f"accuracy/{name}": result["accuracy"][name] for name in ("train", "test", "baseline_test")
    }
    found |= {f"seconds/{name}": value for name, value in result["seconds"].items()}
    found |= {
        f"traffic/{name}": sum(edge[name] for edge in result["traffic"]) for name in ("messages", "bytes")
    }
    for row in result["attacks"]:
        named = str(row.get("preset") or row["attack"])
        whose = "+".join(row["corrupted"])
        numbers = {**row["metrics"], "gain": (row.get("gain") or {}).get("mean")}
        found |= {_name("attack", named, whose, key): value for key, value in numbers.items()}
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _curves(result: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, float]]]:
    """(step, what is known by then) of every curve of the ledger, step by step."""
    at: dict[int, dict[str, float]] = {}
    for row in result["learned"]:
        named = _name("ledger", row["party"], row["quantity"], "rank")
        for point in row["data"].get("curve") or ():
            values = at.setdefault(int(point[0]), {})
            values[named] = max(float(point[1]), values.get(named, 0.0))  # of two lines what says more
    yield from sorted(at.items())


def _texts(result: Mapping[str, Any]) -> dict[str, str]:
    """What is no number: digest, answer, what protects, versions, and the configuration."""
    found = {
        "scenario": result["scenario"],
        "transcript_digest": result["transcript_digest"],
        "answer": answer(result),
        "keyhole": result["versions"]["keyhole"],
    }
    # The seed of the shuffles is a short hash of the run's seed, which gives every key: that could be tried.
    told = {name: value for name, value in result["config"].items() if name != "seed"}
    config = {_name("config", name): str(value) for name, value in told.items()}
    config |= {_name("config", f"security.{name}"): line for name, line in result["security"].items()}
    return found | {name: _short(text) for name, text in config.items()}


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
