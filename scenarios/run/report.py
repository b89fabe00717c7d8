"""What a finished run is reported by: accuracy, security, traffic, versions."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any

from parties.adversary.behaviours import replaced
from parties.data.datasets import Split
from parties.record.verify import edges as transcript_edges
from protocols.language.precision import computed_in, precision_of
from protocols.language.roles import party_name
from protocols.network import nn
from scenarios.run.experiment import Experiment
from scenarios.run.folder import RunFolder, joined
from scenarios.run.options import Preset
from scenarios.run.result import Accuracy, Deviating, Edge, PartyTraffic, Published, Result, Scored, Seconds

PUBLISHED = MappingProxyType(
    {
        Preset.PAPER: Published(
            accuracy=0.968,
            minutes=7,
            what="MITIG2 on MNIST",
            source="Ionita and Ionita, RAID 2025, arXiv:2509.21497",
        )
    }
)
_PACKAGES = ("ray", "numpy", "torch", "phe", "cvxopt", "structlog", "cryptography", "mclbn256", "tenseal")


@dataclass(frozen=True)
class Epoch:
    """What a protocol revealed at the end of an epoch, or of a message of queries; accuracy, and training
    seconds so far.
    """

    revealed: Any
    test: float | None
    seconds: float


def accuracy(experiment: Experiment, revealed: Any) -> float | None:
    """Accuracy on the held-out images; None without any, and of a head that nobody reveals, which is scored
    at the end.
    """
    data = experiment.data
    return (
        None
        if experiment.scenario.scoring is not None
        else _accuracy(experiment, revealed, data.x_test, data.y_test)
    )


def _accuracy(experiment: Experiment, revealed: Any, x: Any, y: Any) -> float | None:
    """As the protocol says, or by the weights of a network; None where there is nothing to measure."""
    if x is None or y is None or revealed is None:
        return None
    with computed_in(precision_of(experiment.config)):
        return _measured(experiment, revealed, x, y)


def loss(experiment: Experiment, revealed: Any) -> float | None:
    """The mean loss on the held-out images, of a network whose weights are revealed; None of others."""
    data, parts = experiment.data, revealed if isinstance(revealed, list) else [revealed]
    if data.x_test is None or data.y_test is None or not all(isinstance(part, dict) for part in parts):
        return None
    whole = joined(parts)
    if experiment.scenario.scoring is not None or "w1" not in whole:
        return None
    with computed_in(precision_of(experiment.config)):
        return nn.mean_loss(
            whole["w1"], whole["weights"], whole["biases"], experiment.config, data.x_test, data.y_test
        )


def _measured(experiment: Experiment, revealed: Any, x: Any, y: Any) -> float | None:
    found = experiment.protocol.accuracy(revealed, experiment.config, x, y)
    parts = revealed if isinstance(revealed, list) else [revealed]
    if found is not None or not all(isinstance(part, dict) for part in parts):
        return found
    whole = joined(parts)
    if "w1" not in whole:
        return None
    return nn.accuracy(whole["w1"], whole["weights"], whole["biases"], experiment.config, x, y)


def baseline(experiment: Experiment) -> float | None:
    """Test accuracy of the same training without any protection or rounding, in this process; with the same
    coins if the run has a seed.
    """
    if experiment.data.x_test is None:
        return None
    if experiment.scenario.scoring is not None:
        found: float = experiment.scenario.scoring.baseline(experiment)
        return found
    from scenarios.run.baseline import train_unprotected

    return accuracy(experiment, train_unprotected(experiment))


def report(
    experiment: Experiment, run: RunFolder, epochs: Sequence[Epoch], seconds: Mapping[str, float]
) -> Result:
    """What follows from the configuration and the transcripts."""
    scoring = experiment.scenario.scoring
    scores: Scored = (
        scored(experiment, epochs) if scoring is None else scoring.scored(experiment, run, epochs)
    )
    return Result(
        **stated(experiment, run),
        versions=versions(),
        accuracy=scores.accuracy,
        steps=scores.steps,
        head=scores.head,
        measured=scores.measured,
        seconds=Seconds(**seconds),
    )


def stated(experiment: Experiment, run: RunFolder) -> dict[str, Any]:
    """The keys of a result that follow from configuration and transcripts alone, without any measurement."""
    measured, (edges, parties) = experiment.as_plain(), traffic(run)
    return {
        "scenario": measured["scenario"],
        "protocol": measured["protocol"],
        "security": security(experiment),
        "seed": experiment.seed,
        "config": {
            **measured["data"],
            **measured["config"],
            "runtime": measured["runtime"],
            "record": measured["record"],
            "deviation": experiment.malicious or "none",
            **_held_by_all(experiment),
            **({"distinct": list(experiment.data.distinct)} if experiment.data.distinct else {}),
        },
        "transcript_digest": run.digest(),
        "published": PUBLISHED.get(experiment.preset) if experiment.preset else None,
        "malicious": malicious(experiment, run),
        "traffic": edges,
        "parties": parties,
    }


def _held_by_all(experiment: Experiment) -> dict[str, Any]:
    """The samples of which every owner holds columns, by the protocol's own word or by how data are shared
    out.
    """
    columns = experiment.config.counts[:1] if experiment.split is Split.COLUMNS else ()
    said = tuple(getattr(experiment.config, "column_samples", ())) or columns
    return {"column_samples": list(said)} if said else {}


def scored(experiment: Experiment, epochs: Sequence[Epoch]) -> Scored:
    """Accuracy of the weights after each epoch, and the steps that led there."""
    data, last = experiment.data, epochs[-1] if epochs else Epoch(None, None, 0.0)
    found = Accuracy(
        train=_accuracy(experiment, last.revealed, data.x_train, data.y_train),
        test=last.test,
        baseline_test=None,
        test_by_epoch=tuple(epoch.test for epoch in epochs),
        seconds_by_epoch=tuple(epoch.seconds for epoch in epochs),
    )
    of_itself = experiment.protocol.measured(last.revealed, experiment.config) if epochs else {}
    return Scored(accuracy=found, steps=experiment.steps, measured=of_itself or None)


def malicious(experiment: Experiment, run: RunFolder) -> tuple[Deviating, ...] | None:
    """Who deviated, as its transcript has it: None for an honest run."""
    behaviour = experiment.behaviour
    if behaviour is None:
        return None
    party, often = party_name(behaviour.ROLE), behaviour.steps(experiment.config)
    view = run.view(party)
    found = replaced(view)
    view.close()
    return tuple(
        Deviating(party=party, deviation=behaviour.NAME, steps=min(count, often), step=step)
        for step, count in found.items()
    )


def security(experiment: Experiment) -> dict[str, str]:
    """What protects what, in one line each."""
    protocol = experiment.protocol
    lines = {"protocol": protocol.SECURITY}
    lines |= protocol.describe(experiment.config)
    if experiment.behaviour:
        lines["cloud"] = experiment.behaviour.describe(experiment.config)
    lines["coins"] = (
        "from the operating system" if experiment.seed is None
        else "seeded: no secrecy, as whoever knows the seed holds every key of this run"
    )  # fmt: skip
    return lines


def traffic(run: RunFolder) -> tuple[tuple[Edge, ...], dict[str, PartyTraffic]]:
    """Messages and payload bytes by edge and label, and by party."""
    edges: Counter[tuple[str, str, str, str]] = Counter()
    by_party: dict[str, Counter[str]] = {party: Counter() for party in run.sources}
    for path in run.transcripts:
        for sender, receiver, label, messages, nbytes in transcript_edges(path):
            for what, count in (("messages", messages), ("bytes", nbytes)):
                edges[role_name(sender), role_name(receiver), label, what] += count
                by_party[sender][f"{what}_sent"] += count
                by_party[receiver][f"{what}_received"] += count
    keys = sorted({key[:3] for key in edges})
    rows = tuple(Edge(*key, edges[*key, "messages"], edges[*key, "bytes"]) for key in keys)
    return rows, {party: PartyTraffic(**counts) for party, counts in by_party.items()}


def versions() -> dict[str, str]:
    """Versions of Python, of this project and of what its results rest on."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    """The same, read once: packages are not replaced under a process."""
    found = {"python": platform.python_version()}
    for package in ("keyhole", *_PACKAGES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def role_name(party: str) -> str:
    """The role in the name of a party."""
    return party.partition(":")[0]
