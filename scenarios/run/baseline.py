"""Unprotected training in this process, with no transcript kept: the baseline of a run, and the oracle of the
tests.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from parties.record.transcript import Record
from parties.registry import find_protocol
from parties.runtime.inline import InlineRuntime
from protocols import plain
from protocols.language.options import as_plain
from protocols.language.session import Session, opened
from scenarios.run.experiment import Experiment, Scenario
from scenarios.run.folder import RunFolder, joined, private_folder
from scenarios.run.hosts import host_specs


def train_plain(experiment: Experiment, config: Any) -> Any:
    """The final weights of `plain` with the same data, coins and order, and the given rounding."""
    found = _train("plain", experiment, plain.mirror(config))
    return joined(found) if isinstance(found, list) else found


def train_unprotected(experiment: Experiment) -> Any:
    """What the same training without any protection or rounding reveals at its end; None where the protocol
    names none.
    """
    found = experiment.protocol.unprotected(experiment.config)
    return None if found is None else _trained(_Training(_which(*found, experiment), *found, experiment))


@dataclass(frozen=True)
class _Training:
    """A training, equal to any that comes to the same weights: `which` says on what and with which coins."""

    which: str
    name: str = field(compare=False)
    config: Any = field(compare=False)
    experiment: Experiment = field(compare=False)


def _which(name: str, config: Any, experiment: Experiment) -> str:
    told = [name, as_plain(config), as_plain(experiment.spec), experiment.split.value]
    return sha256(experiment.run_key + json.dumps(told, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=4)
def _trained(training: _Training) -> Any:
    """Once for all protocols and defences that are put beside the same training."""
    return _train(training.name, training.experiment, training.config)


def _train(name: str, experiment: Experiment, config: Any) -> Any:
    protocol = find_protocol(name)
    same = replace(experiment, scenario=Scenario(name, protocol), config=config, record=Record.HEADERS)
    with tempfile.TemporaryDirectory(prefix="keyhole-") as scratch:
        private_folder(Path(scratch) / "transcripts")
        specs = [replace(spec, state=None) for spec in host_specs(same, RunFolder(Path(scratch)))]
        runtime = InlineRuntime(specs)
        counts = same.counts
        *_, revealed = protocol.run(Session(runtime, protocol.FIGURE, counts, config), config)
        runtime.finish()
    return opened(revealed)
