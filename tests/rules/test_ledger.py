"""The ledger never says less than a small instance with the same switches determines, for every protocol and
every switch that changes messages.
"""

from dataclasses import replace

import pytest

from parties.adversary.attack import Learned
from scenarios.run.catalogue import PROTOCOLS, find_scenario
from scenarios.run.determined import audited, missing, why_not
from scenarios.run.folder import load_run
from scenarios.run.learned import held_against_audit
from tests.rules.test_digests import LINES

# Switches that leave the messages as they are: the group, the rounding, the optimizer's numbers, sizes.
SAME = (
    "plain-fe --scheme ddh", "plain-fe --scheme ddh --group bn254",
    "plain-fe --malicious unit-keys --epochs 3", "plain-fe --optimizer adam --pixels raw --lr 0.001",
    "plain --weight-scale 256 --labels febo --gradient fe",
    "reverse-he --encoding float", "plain-fe --defence fresh-keys --epochs 2", "mitig2 --precision float64",
)  # fmt: skip
CAUGHT = [
    ("mitig2", "cloud_trainer", "gram"),
    ("mitig2", "cloud_trainer", "labels"),
    ("mitig2 --labels owner --layers 8,6", "cloud_trainer", "labels"),
    ("plain-fe", "key_authority", "samples"),
    ("plain-fe", "key_authority", "labels"),
]
# Those of `CAUGHT` first, while what was differentiated for them is remembered.
CHANGED = sorted(
    (line for _, line in LINES if line not in SAME), key=lambda line: line not in {row[0] for row in CAUGHT}
)


def ledger(run):
    """Who learned what, as the run found it in its own views."""
    return [Learned(**row) for row in run.result["learned"]]


def by_party(lines):
    parties = dict.fromkeys(line.party for line in lines)
    return {tuple(party.split(", ")): [line for line in lines if line.party == party] for party in parties}


@pytest.mark.parametrize(("line", "party", "quantity"), CAUGHT)
def test_a_ledger_without_one_of_its_lines_is_caught(line, party, quantity, finished):
    run = load_run(finished(line))
    scenario, config = find_scenario(line.split()[0].replace("-", "_")), run.config()
    whole = by_party(held_against_audit(run, ledger(run)))[party,]
    finding = audited(scenario, config, (party,))
    without = [each for each in whole if each.quantity != quantity or each.how in ("own", "bounded")]
    assert len(without) < len(whole)
    assert quantity in [each.quantity for each in missing(finding, (party,), without)]
    weaker = [replace(each, how="bounded") if each.quantity == quantity else each for each in whole]
    assert missing(finding, (party,), weaker)


@pytest.mark.parametrize("line", CHANGED)
def test_the_ledger_holds_against_the_audit(line, finished):
    run = load_run(finished(line))
    scenario, config = find_scenario(line.split()[0].replace("-", "_")), run.config()
    assert why_not(scenario, config) is None
    for coalition, lines in by_party(held_against_audit(run, ledger(run))).items():
        finding = audited(scenario, config, coalition)
        assert not missing(finding, coalition, lines), coalition


def test_every_protocol_is_held_against_an_audit():
    assert {line.split()[0].replace("-", "_") for line in CHANGED} == set(PROTOCOLS)
