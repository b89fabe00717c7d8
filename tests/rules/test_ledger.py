"""The ledger never says less than a small instance with the same switches determines, for every protocol and
every switch that changes messages.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from parties.adversary.attack import Learned
from scenarios.run.catalogue import PROTOCOLS, find_scenario
from scenarios.run.determined import audited, missing, why_not
from scenarios.run.folder import load_run
from scenarios.run.learned import held_against_audit
from tests.rules.test_digests import LINES, carry_out

# Switches that leave the messages as they are: the group, the rounding, the optimizer's numbers, sizes.
SAME = (
    "plain-fe --scheme ddh", "plain-fe --scheme ddh --group bn254",
    "plain-fe --malicious unit-keys --epochs 3", "plain-fe --optimizer adam --pixels raw --lr 0.001",
    "plain --weight-scale 256 --labels febo --gradient fe",
    "reverse-he --encoding float", "plain-fe --defence fresh-keys --epochs 2", "mitig2 --precision float64",
)  # fmt: skip
AUDIT_ONLY = Path(__file__).with_name("audit_only.txt")
_WEIGHTS = ("weights", "w1", "w1_mean", "w1_copy")
NAMES = {
    "images": ("samples", "x", "images"), "images: inner products": ("gram", "samples", "x", "images"),
    "labels": ("labels",), "trained weights": _WEIGHTS, "first weights": _WEIGHTS,
    "what head hides": ("head",), "images of querier": ("queries", "x"),
    "images of querier: inner products": ("queries", "x"),
}  # fmt: skip
FOLLOWING = ("norms", "differences", "mean")  # go with images
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


def held(line, folder):
    """For each coalition: what an audit found, the lines of the rules, and the lines that are printed."""
    run = load_run(folder)
    scenario, config, mine = find_scenario(line.split()[0].replace("-", "_")), run.config(), ledger(run)
    assert why_not(scenario, config) is None
    by_rules = by_party(mine)
    for coalition, printed in by_party(held_against_audit(run, mine)).items():
        yield coalition, audited(scenario, config, coalition), by_rules[coalition], printed


def only_audited(line, folder):
    """What the rules alone leave out, in the words of `audit_only.txt`."""
    for coalition, finding, by_rules, _ in held(line, folder):
        for each in missing(finding, coalition, by_rules):
            yield f"{line} | {', '.join(coalition)} | {each.detail.partition(':')[0]}"


@pytest.mark.parametrize("line", CHANGED)
def test_the_ledger_holds_against_the_audit(line, finished):
    """What is determined is printed; what the rules find of it by themselves is what they found before."""
    strong = ("clear", "exact", "up to", "determined")
    for coalition, finding, _, printed in held(line, finished(line)):
        for answer in finding.answers:
            hidden = answer.name.removeprefix("what ").removesuffix(" hides")
            kind = "trained weights" if answer.name.startswith("trained weights") else answer.name
            names = NAMES.get(kind, (hidden,))
            if answer.determined and answer.name.partition(": ")[2] not in FOLLOWING:
                told = [each for each in printed if each.quantity in names and each.how in strong]
                assert told, (coalition, answer.name)
    noted = AUDIT_ONLY.read_text(encoding="utf-8").splitlines()
    assert set(only_audited(line, finished(line))) == {row for row in noted if row.startswith(f"{line} | ")}


def test_what_only_audits_find_is_noted_of_lines_that_are_tested():
    noted = AUDIT_ONLY.read_text(encoding="utf-8").splitlines()
    assert len(noted) == len(set(noted)) and {row.partition(" | ")[0] for row in noted} <= set(CHANGED)


def test_every_protocol_is_held_against_an_audit():
    assert {line.split()[0].replace("-", "_") for line in CHANGED} == set(PROTOCOLS)


if __name__ == "__main__":  # writes `audit_only.txt` anew; a commit that does so says why
    rows = set()
    for changed in CHANGED:
        with tempfile.TemporaryDirectory() as folder:
            rows |= set(only_audited(changed, carry_out(changed, "inline", Path(folder))))
    AUDIT_ONLY.write_text("".join(f"{row}\n" for row in sorted(rows)), encoding="utf-8")
