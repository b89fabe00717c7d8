"""Scenario `plain`: training without protection, the baseline of every other."""

from protocols import plain
from scenarios.run.experiment import Scenario

SCENARIO = Scenario(name="plain", protocol=plain)

if __name__ == "__main__":
    from scenarios.cli import script

    script(SCENARIO.name)
