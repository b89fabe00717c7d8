"""Scenario `reverse_he`: a transfer-learned head under encryption, as Allison, Maciazek and Bourne propose."""

from protocols import reverse_he
from scenarios import head_result
from scenarios.experiment import Scenario
from scenarios.head_experiment import COMMON, OPTIONS, prepare_head

SCENARIO = Scenario(
    name="reverse_he",
    protocol=reverse_he,
    options=OPTIONS,
    common=COMMON,
    prepare=prepare_head,
    scoring=head_result,
)

if __name__ == "__main__":
    from scenarios.cli import script

    script(SCENARIO.name)
