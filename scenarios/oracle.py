"""Plain training in this process, with no transcript kept: the baseline of a run, and the oracle of the tests."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from parties.runtime.inline import InlineRuntime
from parties.transcript import Record
from protocols import plain
from protocols.config import Config
from protocols.roles import CLOUD_TRAINER, DATA_OWNER
from protocols.session import Session
from scenarios.experiment import Experiment, Scenario
from scenarios.runs import RunFolder


def train_plain(experiment: Experiment, config: Config) -> dict[str, Any]:
    """The final weights of `plain` with the same data, coins and order, and the given rounding.

    A run without a seed has coins of its own, and then so has this one: the weights differ as two runs do.
    """
    from scenarios.run import host_specs

    same = replace(experiment, scenario=Scenario("plain", plain), config=config, record=Record.HEADERS)
    with tempfile.TemporaryDirectory(prefix="keyhole-") as scratch:
        (Path(scratch) / "transcripts").mkdir()
        runtime = InlineRuntime([replace(spec, state=None) for spec in host_specs(same, RunFolder(Path(scratch)))])
        counts = {DATA_OWNER: same.owners, CLOUD_TRAINER: 1}
        *_, weights = plain.run(Session(runtime, plain.FIGURE, counts, config), config)
        runtime.finish()
    last: dict[str, Any] = weights
    return last
