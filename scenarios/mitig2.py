"""Scenario `mitig2`: split learning without encryption, the second mitigation of Ionita and Ionita."""

from parties.registry import find_protocol
from scenarios.run.experiment import Scenario

SCENARIO = Scenario(name="mitig2", protocol=find_protocol("mitig2"))

if __name__ == "__main__":
    from scenarios.cli import script

    script(SCENARIO.name)
