"""Scenario `mitig2`: split learning without encryption, the second mitigation of Ionita and Ionita."""

from protocols import mitig2
from scenarios.run.experiment import Scenario

SCENARIO = Scenario(name="mitig2", protocol=mitig2)

if __name__ == "__main__":
    from scenarios.cli import script

    script(SCENARIO.name)
