"""The scenarios by name: those of the project, of installed packages, and the file of a protocol."""

from __future__ import annotations

import importlib
import json

from parties.registry import PROTOCOLS, RECORDED, find_protocol, module_of, opened, trust
from protocols.language.errors import ConfigError
from protocols.language.protocol import completed
from scenarios.run.experiment import Scenario
from scenarios.run.json_schema import Schema

SCENARIOS = PROTOCOLS
__all__ = ["PROTOCOLS", "SCENARIOS", "asked_for", "find_protocol", "find_scenario", "schema_of_results"]


def find_scenario(name: str) -> Scenario:
    """A scenario; `-` and `_` are the same. Raises `ConfigError` that lists the names."""
    plain = name.replace("-", "_")
    if plain in (*SCENARIOS, RECORDED):
        scenario: Scenario = importlib.import_module(f"scenarios.{plain}").SCENARIO
        return scenario
    try:
        protocol = find_protocol(name)
    except ConfigError as cause:
        raise ConfigError(str(cause).replace("unknown protocol", "unknown scenario")) from None
    return Scenario(protocol.NAME, protocol)


def asked_for(name: str) -> Scenario:
    """The scenario that a user names, who may give the path of a file: it is imported, and trusted here from
    now on.
    """
    if not name.endswith(".py"):
        return find_scenario(name)
    source = opened(name)
    protocol = completed(module_of(source))
    if protocol.NAME in (*SCENARIOS, RECORDED):
        raise ConfigError(f"{name}: {protocol.NAME} is the name of another protocol; give NAME another value")
    trust(source)
    return Scenario(protocol.NAME, protocol)


def schema_of_results() -> Schema:
    """The schema of result.json, of every scenario: `result.schema.json` in the repository, which `python -m
    scenarios.run.catalogue > result.schema.json` writes.
    """
    from scenarios.run.result import result_schema

    return result_schema([find_scenario(name).config for name in SCENARIOS])


if __name__ == "__main__":
    print(json.dumps(schema_of_results(), indent=1))
