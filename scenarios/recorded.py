"""Recordings of other code, as a scenario: what can be asked of a stored one, and a refusal to run any."""

from __future__ import annotations

from typing import Any

from parties.registry import RECORDED, find_protocol
from protocols.recorded import refused
from scenarios.run.experiment import Experiment, Scenario


def prepare(scenario: Scenario, asked: dict[str, Any]) -> Experiment:
    """There is nothing to prepare."""
    refused()


SCENARIO = Scenario(name=RECORDED, protocol=find_protocol(RECORDED), prepare=prepare)
