"""Scenario `mitig2`: split learning without encryption, the second mitigation of Ionita and Ionita."""

from protocols import mitig2
from protocols.network.config import Init
from scenarios.run.experiment import Scenario

SCENARIO = Scenario(
    name="mitig2",
    protocol=mitig2,
    only=frozenset({"labels", "per_round", "local_steps", "rounds", "init", "first", "defence"}),
    defaults={"weight_scale": 0, "init": Init.OWNER},
)

if __name__ == "__main__":
    from scenarios.cli import script

    script(SCENARIO.name)
