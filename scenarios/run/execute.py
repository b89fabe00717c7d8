"""One run from options to result.json: parties, protocol, transcript, knowledge, attacks, scores."""

from __future__ import annotations

import dataclasses
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from parties.adversary.adversary import Adversary
from parties.adversary.behaviours import replaced
from parties.record.log import open_log
from parties.record.transcript import Record
from parties.record.verify import edges as transcript_edges
from parties.runtime.host import HostSpec
from parties.runtime.inline import InlineRuntime
from protocols.crypto.coins import derive
from protocols.language.errors import KeyholeError
from protocols.language.roles import DATA_OWNER, QUERIER, SERVER, Role, party_name
from protocols.language.session import Session, opened
from protocols.network import nn
from protocols.network.config import Config
from scenarios.run.attacks import MakeAdversary, attack_run
from scenarios.run.experiment import FULL_LIMIT_NBYTES, PUBLISHED, Experiment, step_count
from scenarios.run.folder import RunFolder, joined, new_folder, write_json
from scenarios.run.learned import learned, learned_rows
from scenarios.show.charts import draw_knowledge

SCHEMA = 1
_PACKAGES = ("ray", "numpy", "torch", "phe", "cvxopt", "structlog", "cryptography", "mclbn256")

STEPS = ("step", "query")  # the phases that a run repeats

Observe = Callable[[str, int], None]


class RecordTooLarge(KeyholeError):
    """A full transcript would be large and the user did not ask for it."""


def execute(
    experiment: Experiment, observe: Observe = lambda event, value: None
) -> tuple[RunFolder, dict[str, Any]]:
    """Carry out a run and return its folder and result; `observe(event, value)` is told of progress."""
    check_size(experiment)
    run = new_folder(experiment.out, experiment.scenario.name)
    write_json(run.path / "config.json", {**experiment.as_plain(), "parties": parties(experiment)})
    clock, log = Clock(), open_log(run.path / "run.log").bind(host="driver")
    log.info(
        "run_started", scenario=experiment.scenario.name, runtime=experiment.runtime, owners=experiment.owners
    )
    try:
        with ExitStack() as stack:
            watched = stack.enter_context(interruptible(observe))
            make = stack.enter_context(runtime_of(experiment))
            epochs = train(experiment, run, make, clock, watched, log)
            clock.lap("train")
            result = report(experiment, run, epochs)
            clock.lap("report")
            result["learned"] = learned_rows(learned(run, make.adversary))
            write_json(
                run.path / "result.json", {**result, "seconds": clock.seconds()}
            )  # whatever becomes of the attacks
            draw_knowledge(run.path, result["learned"])
            clock.lap("report")
            if experiment.attacks:
                prior = run.prior()
                result["attacks"] = attack_run(
                    run, experiment.attacks, experiment.corrupted, prior, make.adversary
                )
            clock.lap("attack")
            result["accuracy"]["baseline_test"] = baseline(experiment)
            clock.lap("report")
    except BaseException as cause:
        log.error(
            "run_failed", reason=str(cause) if isinstance(cause, KeyholeError) else type(cause).__name__
        )
        raise
    result["seconds"] = clock.seconds()
    write_json(run.path / "result.json", result)
    log.info("run_finished", digest=result["transcript_digest"][:16], seconds=result["seconds"]["total"])
    return run, result


@contextmanager
def interruptible(observe: Observe) -> Iterator[Observe]:
    """An observer that raises `KeyboardInterrupt` after a Ctrl-C that was lost.

    Python drops an exception that is raised while a finalizer runs, and one runs for every value that a script forgets.
    """
    if threading.current_thread() is not threading.main_thread():
        yield observe
        return
    pending = threading.Event()

    def interrupt(number: int, frame: Any) -> None:
        pending.set()
        raise KeyboardInterrupt

    def watched(event: str, value: int) -> None:
        if pending.is_set():
            raise KeyboardInterrupt
        observe(event, value)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield watched
    finally:
        signal.signal(signal.SIGINT, before)


def check_size(experiment: Experiment) -> None:
    """Refuse to fill the disk unasked: a full transcript beyond 2 GB needs `--record`."""
    nbytes = experiment.scenario.protocol.payload_nbytes(experiment.config)
    if experiment.record is Record.FULL and not experiment.record_given and nbytes > FULL_LIMIT_NBYTES:
        raise RecordTooLarge(
            f"full transcripts of this run take about {nbytes / 1e9:.1f} GB; "
            "ask for them with --record full, or keep headers and digests with --record headers"
        )


def parties(experiment: Experiment) -> list[str]:
    """The names of all parties of a run."""
    return [
        party_name(role, i)
        for role in experiment.roles
        for i in range(experiment.owners if role is DATA_OWNER else 1)
    ]


class Clock:
    """Wall-clock seconds by phase of the run."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps = dict.fromkeys(("setup", "train", "attack", "report"), 0.0)

    def lap(self, name: str) -> None:
        """Book the time since the last lap under a name."""
        now = time.perf_counter()
        self._laps[name] += now - self._last
        self._last = now

    def since(self, name: str) -> float:
        """Seconds since a lap ended that was booked last, or 0 if it was not."""
        return round(time.perf_counter() - self._last, 3) if self._laps[name] else 0.0

    def seconds(self) -> dict[str, float]:
        """Seconds by name, and in total."""
        return {
            name: round(s, 3)
            for name, s in {**self._laps, "total": time.perf_counter() - self._start}.items()
        }


@dataclasses.dataclass(frozen=True)
class Runtimes:
    """How this run makes hosts and adversaries."""

    hosts: Callable[[list[HostSpec], Callable[[str, int], None]], Any]
    adversary: MakeAdversary


def runtime_of(experiment: Experiment) -> AbstractContextManager[Runtimes]:
    """The runtime of a run."""
    return runtime_named(experiment.runtime, experiment.address)


@contextmanager
def runtime_named(name: str, address: str | None) -> Iterator[Runtimes]:
    """The runtime that was asked for; a Ray session on this machine ends with the block."""
    if name == "inline":
        yield Runtimes(InlineRuntime, Adversary)
        return
    from parties.runtime import on_ray

    with on_ray.cluster(address):
        yield Runtimes(on_ray.RayRuntime, on_ray.RayAdversary)


def train(
    experiment: Experiment, run: RunFolder, make: Runtimes, clock: Clock, observe: Observe, log: Any
) -> list[dict[str, Any]]:
    """Run the protocol; returns one entry an epoch, or a message of queries, with what was revealed and when."""
    started = False

    def progress(phase: str, round: int) -> None:
        nonlocal started
        if phase in STEPS and not started:
            started = True
            clock.lap("setup")
            log.info("training_started")
        observe(phase, round)

    runtime = make.hosts(host_specs(experiment, run), progress)
    counts = {role: experiment.owners if role is DATA_OWNER else 1 for role in experiment.roles}
    protocol, config = experiment.scenario.protocol, experiment.config
    epochs = []
    try:
        instead = experiment.behaviour.INSTEAD if experiment.behaviour else {}
        session = Session(runtime, protocol.FIGURE, counts, config, instead)
        for epoch, revealed in enumerate(protocol.run(session, config), start=1):
            trained, weights = clock.since("setup"), opened(revealed)
            weights = joined(weights) if isinstance(weights, list) else weights
            epochs.append({"weights": weights, "test": accuracy(experiment, weights), "seconds": trained})
            if experiment.scenario.scoring is None:
                log.info("epoch_finished", epoch=epoch, test_accuracy=epochs[-1]["test"])
            observe("epoch", epoch)
        runtime.finish()
    except BaseException:
        runtime.abort()
        raise
    return epochs


def host_specs(experiment: Experiment, run: RunFolder) -> list[HostSpec]:
    """One host a role; many owners share as many hosts as there are processors."""
    key, specs = experiment.run_key, []
    for role in experiment.roles:
        names = [party_name(role, i) for i in range(experiment.owners if role is DATA_OWNER else 1)]
        hosts = min(len(names), os.cpu_count() or 1)
        for h in range(hosts):
            here = tuple(
                names[h::hosts]
            )  # owners take turns in order, so that those of a round are spread over hosts
            specs.append(
                _host_spec(
                    experiment, run, role, role.value if hosts == 1 else f"{role.value}.{h}", here, key
                )
            )
    return specs


def _host_spec(
    experiment: Experiment, run: RunFolder, role: Role, name: str, here: tuple[str, ...], key: bytes
) -> HostSpec:
    owner, querier, base = role is DATA_OWNER, role is QUERIER, experiment.base
    given = base is not None and role in (DATA_OWNER, SERVER)
    return HostSpec(
        name=name,
        role=role,
        parties=here,
        keys=tuple(derive(key, party) for party in here),
        protocol=experiment.scenario.protocol.NAME,
        config=experiment.config,
        transcript=str((run.path / "transcripts" / f"{name}.sqlite").resolve()),
        log=str((run.path / "run.log").resolve()),
        record=experiment.record,
        data=experiment.spec if owner or querier else None,
        owners=experiment.owners if owner else 0,
        split=experiment.how,
        state=str((run.path / "state").resolve()),
        asking=querier,
        limit=experiment.config.queries if querier else None,
        public=experiment.scenario.protocol.base_inputs(base) if given else (),
    )


def accuracy(experiment: Experiment, weights: dict[str, Any]) -> float | None:
    """Accuracy on the held-out images; None without any, and of a head that nobody reveals, which is scored at the end."""
    data = experiment.data
    if experiment.scenario.scoring is not None or data.x_test is None or data.y_test is None:
        return None
    return _accuracy(weights, experiment.config, data.x_test, data.y_test)


def _accuracy(weights: dict[str, Any], config: Config, x: Any, y: Any) -> float:
    return nn.accuracy(weights["w1"], weights["weights"], weights["biases"], config, x, y)


def baseline(experiment: Experiment) -> float | None:
    """Test accuracy of the same training without any protection or rounding, in this process; with the same coins if the run has a seed."""
    if experiment.data.x_test is None:
        return None
    if experiment.scenario.scoring is not None:
        found: float = experiment.scenario.scoring.baseline(experiment)
        return found
    from scenarios.run.baseline import train_unprotected

    return accuracy(experiment, train_unprotected(experiment))


def report(experiment: Experiment, run: RunFolder, epochs: list[dict[str, Any]]) -> dict[str, Any]:
    """The parts of result.json that follow from the configuration and the transcripts."""
    scoring = experiment.scenario.scoring
    return {
        "schema": SCHEMA,
        "scenario": experiment.scenario.name,
        "protocol": experiment.scenario.protocol.NAME,
        "security": security(experiment),
        "seed": experiment.seed,
        "config": {**experiment.as_plain()["data"], **experiment.config.as_plain(), "runtime": experiment.runtime,
                   "record": experiment.record.value, "deviation": experiment.malicious or "none"},
        "versions": versions(experiment.runtime),
        "transcript_digest": run.digest(),
        **(scored(experiment, epochs) if scoring is None else scoring.scored(experiment, run, epochs)),
        **({"published": dict(PUBLISHED[experiment.preset])} if experiment.preset else {}),
        **malicious(experiment, run),
        **traffic(run),
        "learned": [],
        "attacks": [],
    }  # fmt: skip


def scored(experiment: Experiment, epochs: list[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy of the weights after each epoch, and the steps that led there."""
    data, last = experiment.data, epochs[-1]
    return {
        "accuracy": {
            "train": _accuracy(last["weights"], experiment.config, data.x_train, data.y_train),
            "test": last["test"],
            "baseline_test": None,
            "test_by_epoch": [epoch["test"] for epoch in epochs],
            "seconds_by_epoch": [epoch["seconds"] for epoch in epochs],
        },
        "steps": step_count(experiment.scenario.protocol, experiment.config),
    }


def malicious(experiment: Experiment, run: RunFolder) -> dict[str, Any]:
    """Who deviated, as its transcript has it: empty for an honest run."""
    behaviour = experiment.behaviour
    if behaviour is None:
        return {}
    party = party_name(behaviour.ROLE)
    view, often = run.view(party), behaviour.steps(experiment.config)
    found = [
        {"party": party, "deviation": behaviour.NAME, "steps": min(count, often), "step": step}
        for step, count in replaced(view).items()
    ]
    view.close()
    return {"malicious": found}


def security(experiment: Experiment) -> dict[str, str]:
    """What protects what, in one line each."""
    protocol = experiment.scenario.protocol
    lines = {"protocol": protocol.SECURITY}
    if hasattr(protocol, "describe"):
        lines |= protocol.describe(experiment.config)
    if experiment.behaviour:
        lines["cloud"] = experiment.behaviour.describe(experiment.config)
    lines["coins"] = (
        "from the operating system" if experiment.seed is None
        else "reproducible: whoever knows the seed holds every key of this run"
    )  # fmt: skip
    return lines


def traffic(run: RunFolder) -> dict[str, Any]:
    """Messages and payload bytes by edge and label, and by party."""
    edges: dict[tuple[str, str, str], list[int]] = {}
    by_party = {party: dict.fromkeys(_COUNTERS, 0) for party in run.sources}
    for path in run.transcripts:
        for sender, receiver, label, messages, nbytes in transcript_edges(path):
            edge = edges.setdefault((_role(sender), _role(receiver), label), [0, 0])
            edge[0], edge[1] = edge[0] + messages, edge[1] + nbytes
            for party, way in ((sender, "sent"), (receiver, "received")):
                by_party[party][f"messages_{way}"] += messages
                by_party[party][f"bytes_{way}"] += nbytes
    rows = [
        {"sender": s, "receiver": r, "label": label, "messages": m, "bytes": b}
        for (s, r, label), (m, b) in sorted(edges.items())
    ]
    return {"traffic": rows, "parties": by_party}


_COUNTERS = ("messages_sent", "messages_received", "bytes_sent", "bytes_received")


def versions(runtime: str) -> dict[str, str]:
    """Versions of Python, of this project and of what its results rest on."""
    found = {"python": platform.python_version()}
    for package in ("keyhole", *_PACKAGES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _role(party: str) -> str:
    return party.partition(":")[0]
