"""Scenario `plain`: training without protection, the baseline of every other."""

from parties.registry import find_protocol
from scenarios.run.experiment import Scenario

SCENARIO = Scenario(name="plain", protocol=find_protocol("plain"))

if __name__ == "__main__":
    from scenarios.cli import script

    script(SCENARIO.name)
