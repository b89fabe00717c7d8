"""Scenario `mitig1`: function-hiding encryption, the first mitigation of Ionita and Ionita."""

from protocols import mitig1
from protocols.network.config import Init
from scenarios.run.experiment import Scenario

SCENARIO = Scenario(
    name="mitig1",
    protocol=mitig1,
    only=frozenset(
        {
            "group",
            "weight_scale",
            "weight_bound",
            "labels",
            "authority",
            "per_round",
            "local_steps",
            "rounds",
            "init",
            "defence",
        }
    ),
    defaults={"weight_scale": 64, "init": Init.OWNER, "group": "bn254"},
    digits={"layers": (16,), "epochs": 5},
)

if __name__ == "__main__":
    from scenarios.cli import script

    script(SCENARIO.name)
