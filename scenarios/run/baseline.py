"""Unprotected training in this process, with no transcript kept: the baseline of a run, and the oracle of the tests."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from parties.record.transcript import Record
from parties.runtime.inline import InlineRuntime
from protocols import plain
from protocols.language.session import Session, opened
from protocols.network.config import Config
from scenarios.run.catalogue import find_protocol
from scenarios.run.experiment import Experiment, Scenario
from scenarios.run.folder import RunFolder, joined, private_folder


def train_plain(experiment: Experiment, config: Config) -> dict[str, Any]:
    """The final weights of `plain` with the same data, coins and order, and the given rounding."""
    return _train(plain, replace(experiment, scenario=Scenario("plain", plain)), plain.mirror(config))


def train_unprotected(experiment: Experiment) -> dict[str, Any]:
    """The final weights of the same training without any protection or rounding.

    Where many owners train copies that are averaged, that is MITIG2, which neither encrypts nor rounds; else `plain`.
    """
    hook = getattr(experiment.scenario.protocol, "unprotected", plain.unprotected)
    name, config = hook(experiment.config)
    protocol = find_protocol(name)
    return _train(protocol, replace(experiment, scenario=Scenario(name, protocol)), config)


def _train(protocol: ModuleType, experiment: Experiment, config: Config) -> dict[str, Any]:
    from scenarios.run.hosts import host_specs

    same = replace(experiment, config=config, record=Record.HEADERS)
    with tempfile.TemporaryDirectory(prefix="keyhole-") as scratch:
        private_folder(Path(scratch) / "transcripts")
        specs = [replace(spec, state=None) for spec in host_specs(same, RunFolder(Path(scratch)))]
        runtime = InlineRuntime(specs)
        counts = {role: len(same.players(role)) for role in same.roles}
        *_, revealed = protocol.run(Session(runtime, protocol.FIGURE, counts, config), config)
        runtime.finish()
    last = opened(revealed)
    return joined(last) if isinstance(last, list) else dict(last)
