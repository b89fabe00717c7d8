"""The scenarios and protocols by name."""

from __future__ import annotations

import importlib
from types import ModuleType

from protocols.language.errors import ConfigError
from scenarios.run.experiment import Scenario
from scenarios.run.json_schema import Schema
from scenarios.run.result import result_schema

SCENARIOS = ("plain", "plain_fe", "mitig1", "mitig2", "reverse_he")
PROTOCOLS = ("plain", "plain_fe", "mitig1", "mitig2", "reverse_he")


def find_scenario(name: str) -> Scenario:
    """A scenario; `-` and `_` are the same. Raises `ConfigError` that lists the names."""
    scenario: Scenario = importlib.import_module(f"scenarios.{_known(name, SCENARIOS, 'scenario')}").SCENARIO
    return scenario


def find_protocol(name: str) -> ModuleType:
    """The module of a protocol; `-` and `_` are the same. Raises `ConfigError` that lists the names."""
    return importlib.import_module(f"protocols.{_known(name, PROTOCOLS, 'protocol')}")


def schema_of_results() -> Schema:
    """The schema of result.json, of every scenario."""
    return result_schema([find_scenario(name).config for name in SCENARIOS])


def _known(name: str, names: tuple[str, ...], what: str) -> str:
    plain = name.replace("-", "_")
    if plain not in names:
        raise ConfigError(f"unknown {what} {name!r}; known: {', '.join(n.replace('_', '-') for n in names)}")
    return plain
