"""Scenario `plain_fe`: training on functionally encrypted samples, as in CryptoNN and NN-EMD."""

from parties.registry import find_protocol
from scenarios.run.experiment import Scenario

SCENARIO = Scenario(name="plain_fe", protocol=find_protocol("plain_fe"), behaviours=("unit_keys",))

if __name__ == "__main__":
    from scenarios.cli import script

    script(SCENARIO.name)
