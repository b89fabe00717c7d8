"""Scenario `mitig1`: function-hiding encryption, the first mitigation of Ionita and Ionita."""

from parties.registry import find_protocol
from scenarios.run.experiment import Scenario

SCENARIO = Scenario(name="mitig1", protocol=find_protocol("mitig1"))

if __name__ == "__main__":
    from scenarios.cli import script

    script(SCENARIO.name)
