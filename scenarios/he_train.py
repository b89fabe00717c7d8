"""Scenario `he_train`: training on encrypted samples, with encrypted weights that the owner refreshes."""

from parties.registry import find_protocol
from scenarios.run.experiment import Scenario

SCENARIO = Scenario(name="he_train", protocol=find_protocol("he_train"))

if __name__ == "__main__":
    from scenarios.cli import script

    script(SCENARIO.name)
