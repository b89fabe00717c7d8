"""Scenario `vertical_fe`: linear models on columns under quadratic functional encryption, or FedV."""

from parties.registry import find_protocol
from scenarios.run.experiment import Scenario

SCENARIO = Scenario(name="vertical_fe", protocol=find_protocol("vertical_fe"))

if __name__ == "__main__":
    from scenarios.cli import script

    script(SCENARIO.name)
