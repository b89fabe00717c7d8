"""Lines of the ledger that were once false, each on a run that shows it."""

import numpy as np
import pytest
from typer.testing import CliRunner

from parties.adversary.adversary import Adversary
from parties.adversary.attack import relations_of
from parties.adversary.knowledge import learned as known_of
from protocols.language.relations import KnownMap, now
from scenarios.cli import app
from scenarios.run.attacks import attack_run
from scenarios.run.folder import load_run
from scenarios.run.learned import QUANTITIES, learned, learned_rows, smallest_coalitions, strongest

SECURE = "mitig2 --owners 4 --batch 4 --labels owner --defence secure-aggregation"
MASKED = "mitig1 --owners 2 --authority owner --defence secure-aggregation"
CLEAR = "mitig1 --owners 2 --authority owner"
DECISION = "reverse-he --release decision"
ASKED_OFTEN = "reverse-he --queries 60"  # more than features, so that logits determine the head
FEBO = "plain-fe --labels febo"


@pytest.fixture
def lines(finished):
    """The lines of a coalition on a finished run."""
    return lambda line, *coalition: learned(load_run(finished(line)), Adversary, coalition)


def said(lines, quantity):
    return {line.how for line in lines if line.quantity == quantity}


@pytest.fixture
def searched(finished, monkeypatch):
    """The search for coalitions on a finished run, without the audit, which only adds lines."""
    monkeypatch.setattr("scenarios.run.learned.held_against_audit", lambda run, lines: list(lines))
    return lambda line: {f.coalition: f for f in smallest_coalitions(load_run(finished(line)), Adversary)}


def test_under_secure_aggregation_cloud_and_authority_read_samples(searched):
    found = searched(SECURE)
    pair = found["cloud_trainer", "key_authority"]
    assert pair.reads and "together: solved in integers" in pair.line.detail
    alone = found["key_authority",]
    assert alone.reads and not alone.settles  # a few samples, by units that one alone moved
    assert alone.line.of == "3 of 48 samples (positions not known)"


def test_a_sum_of_copies_gives_the_samples_that_moved_a_unit_alone(finished, lines):
    run, authority = load_run(finished(SECURE)), ("key_authority",)
    (line,) = [line for line in lines(SECURE, *authority) if line.data.get("samples") == []]
    (row,) = attack_run(run, ["exclusive"], authority, run.prior(), Adversary)
    assert line.how == "exact" and line.of.startswith(f"{row['metrics']['exact_images']} of ")
    assert row["metrics"]["exact_images"] > 0


def test_what_changes_determine_together_is_what_the_attack_solves_rightly(finished, lines):
    run, pair = load_run(finished(SECURE)), ("cloud_trainer", "key_authority")
    (line,) = [line for line in lines(SECURE, *pair) if line.how == "exact" and line.quantity == "samples"]
    (row,) = attack_run(run, ["update"], pair, run.prior(), Adversary)
    assert line.of.startswith(f"{row['metrics']['exact_images']} of ") and row["metrics"]["exact_images"] > 0


def test_a_coalition_that_reads_nothing_says_what_was_tried(finished, searched):
    found = searched(DECISION)
    assert not any(f.reads for f in found.values())
    by_parties = {coalition: f.line for coalition, f in found.items()}
    assert "whitebox rebuilds them approximately" in by_parties["key_authority", "server"].detail
    assert "blackbox" in by_parties["server",].detail
    assert all(line is not None for parties, line in by_parties.items() if parties != ("querier",))
    shown = CliRunner().invoke(app, ["coalitions", str(finished(DECISION))], env={"COLUMNS": "200"}).stdout
    assert "no exact samples found" in shown and "whitebox" in shown and "not analysed" in shown


def test_server_and_consumer_know_of_the_head_what_decisions_say(lines):
    assert said(lines(DECISION, "server", "consumer"), "head") == {"bounded"}


def test_querier_and_authority_solve_for_the_head(lines):
    head = [line for line in lines(ASKED_OFTEN, "querier", "key_authority") if line.quantity == "head"]
    assert "exact" in {line.how for line in head}
    assert any("solved in integers" in line.detail for line in head)


def test_a_copy_lies_open_to_whoever_holds_its_masks(lines):
    pair = lines(MASKED, "key_authority", "data_owner:0")
    assert "w1_masked" not in {line.quantity for line in pair if line.how == "nothing found"}
    (copy,) = [line for line in pair if line.quantity == "weights" and line.of == "data_owner:1"]
    assert copy.how == "exact"
    assert said(lines(MASKED, "key_authority"), "w1_masked") == {"nothing found"}
    assert "nothing found" in said(lines(SECURE, "key_authority", "data_owner:0"), "w1_masked")


def test_the_copy_behind_the_masks_is_the_one_that_crosses_without_them(finished):
    view = load_run(finished(MASKED)).view("key_authority", "data_owner:0")
    mean, opened = sorted(
        (k for k in relations_of(view).of(KnownMap) if "w1_masked" in k.labels), key=lambda k: k.map.owner
    )
    clear = load_run(finished(CLEAR)).view("key_authority")  # the same coins, and so the same training
    copies = {row.sender: value for row, value in clear.values("w1_copy")}
    assert opened.map.owner == 1
    assert np.abs(now(opened.value) - copies["data_owner:1"]).max() <= 2.0**-32
    assert mean.map.owner == -1 and len(copies) == 2  # nobody is sent it: the masks cancel in the sum
    assert np.abs(now(mean.value) - np.mean(list(copies.values()), axis=0, dtype=float)).max() <= 2.0**-32


@pytest.mark.parametrize(
    ("line", "coalition", "quantity", "detail", "since"),
    [
        (FEBO, ("cloud_trainer",), "labels", "Y = P + (Y - P)", 2),  # the last of three batches
        (FEBO, ("key_authority",), "labels", "p of each sample", 2),
        ("plain-fe --gradient fe", ("cloud_trainer",), "samples", "keys for dZ1", 2),
        ("plain-fe", ("cloud_trainer",), "samples", "dZ1 and dW1", 0),
        ("mitig2 --init shared --hidden 32", ("cloud_trainer",), "samples", "solved in integers, to step", 2),
        ("mitig2 --owners 4 --batch 4 --per-round 2 --rounds 5 --local-steps 2",
         ("cloud_trainer", "data_owner:0"), "samples", "W1 - W1' and dZ1", 3),
        ("mitig2 --owners 4 --batch 4 --epochs 2",
         ("cloud_trainer", "key_authority"), "samples", "24 changes", 2),
    ],
)  # fmt: skip
def test_a_line_holds_since_the_round_that_completes_it_and_not_before(
    line, coalition, quantity, detail, since, finished, lines
):
    run = load_run(finished(line))
    told = [x for x in lines(line, *coalition) if x.quantity == quantity and detail in x.detail]
    found = min(told, key=lambda x: x.since_round)  # of one batch, where another line speaks of all
    assert found.since_round == since
    ends = dict(run.moments())

    def says(end):
        kept = [x for x in known_of(run.view(*coalition).before(end)) if x.quantity == quantity]
        runs = found.data.get("samples")
        return any(x.how == found.how and x.data.get("samples") == runs for x in kept)

    assert says(ends[since]) and (since == 0 or not says(ends[since - 1]))


def test_whoever_trains_w1_is_said_to_have_it(finished, lines):
    names = dict(QUANTITIES)["weights"]
    for line, party in ((FEBO, "cloud_trainer"), ("mitig2", "data_owner:0"), ("plain", "cloud_trainer")):
        assert strongest(learned_rows(lines(line, party)), names)["how"] == "own", line


def test_an_owner_that_is_sent_dz1_follows_w1(lines):
    (weights,) = [line for line in lines(FEBO, "data_owner:0") if line.quantity == "weights"]
    assert weights.how == "bounded" and "dZ1^T X_B of its own samples" in weights.detail
    assert said(lines("plain-fe --gradient fe", "data_owner:0"), "weights") == set()
