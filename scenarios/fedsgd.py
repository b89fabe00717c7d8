"""Scenario `fedsgd`: federated learning, in which owners train the whole network and a server averages."""

from parties.registry import find_protocol
from scenarios.run.experiment import Scenario

SCENARIO = Scenario(name="fedsgd", protocol=find_protocol("fedsgd"))

if __name__ == "__main__":
    from scenarios.cli import script

    script(SCENARIO.name)
