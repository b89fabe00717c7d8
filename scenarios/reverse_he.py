"""Scenario `reverse_he`: a transfer-learned head under encryption (Allison, Maciazek, Bourne)."""

from parties.registry import find_protocol
from scenarios.run.experiment import Scenario
from scenarios.run.head_experiment import LACKS, HeadTask, prepare_head
from scenarios.score import head_result

SCENARIO = Scenario(
    name="reverse_he",
    protocol=find_protocol("reverse_he"),
    task=HeadTask,
    lacks=LACKS,
    prepare=prepare_head,
    scoring=head_result,
)

if __name__ == "__main__":
    from scenarios.cli import script

    script(SCENARIO.name)
