"""Scenario `plain_fe`: training on functionally encrypted samples, as in CryptoNN and NN-EMD."""

from protocols import plain_fe
from scenarios.run.experiment import Scenario

SCENARIO = Scenario(name="plain_fe", protocol=plain_fe, behaviours=("unit_keys",))

if __name__ == "__main__":
    from scenarios.cli import script

    script(SCENARIO.name)
