"""What authority, cloud and owners of a split network learn of other owners' samples, alone and together."""

import pytest

from parties.adversary.adversary import Adversary
from parties.adversary.attacks import known_maps
from protocols.network.config import Authority, Optimizer
from tests.conftest import MANY, TINY

FEW = {**MANY, "hidden": 12}  # too few equations for a lattice of pixels, which takes a minute


def by_coalition(result):
    """{(parties, of): (how, detail)} of what was learned of samples."""
    return {
        (row["party"], row["of"]): (row["how"], row["detail"])
        for row in result["learned"]
        if row["quantity"] == "samples"
    }


def test_authority_and_cloud_solve_for_the_samples_of_a_round(runs):
    known = by_coalition(runs("mitig2", **FEW)[1])
    how, detail = known["cloud_trainer, key_authority", "4 samples of data_owner:0, round 0"]
    assert how == "exact" and "rank 4 for 4 samples; 100% of the pixels" in detail
    how, detail = known["key_authority", "4 samples of data_owner:0, round 0"]
    assert how == "exact" and detail.endswith("of whose whole points 4 of 4 are certain (lattice-span)")
    assert known["cloud_trainer", "all 48 samples"][0] == "bounded"


def test_more_samples_than_h_between_averages_are_not_determined(runs):
    known = by_coalition(runs("mitig2", **{**MANY, "hidden": 4, "batch": 8})[1])
    how, detail = known["cloud_trainer, key_authority", "8 samples of data_owner:0, round 0"]
    assert how == "bounded" and "for 8 samples" in detail


def test_the_update_is_solved_over_several_local_steps_too(runs):
    known = by_coalition(runs("mitig2", **{**FEW, "local_steps": 2})[1])
    assert known["cloud_trainer, key_authority", "8 samples of data_owner:0, round 0"][0] == "exact"


def test_under_adam_the_update_is_no_linear_function(runs):
    known = by_coalition(runs("mitig2", **MANY, optimizer=Optimizer.ADAM, lr=0.01)[1])
    assert "Adam" in known["key_authority", "all 48 samples"][1]


def test_cloud_and_one_owner_solve_for_another_owners_batch_once_averages_have_full_rank(runs):
    result = runs("mitig2", **{**MANY, "hidden": 32, "epochs": 4})[1]
    how, detail = by_coalition(result)["cloud_trainer, data_owner:0", "the first batch of data_owner:1"]
    assert how == "exact" and detail.endswith("32 equations and whole pixels, solved")
    (row,) = [
        r
        for r in result["learned"]
        if (r["party"], r["of"]) == ("cloud_trainer, data_owner:0", "the first batch of data_owner:1")
    ]
    assert row["since_round"] == 0


def test_where_no_lattice_is_tried_averages_are_stacked_until_their_rank_is_full(runs, monkeypatch):
    monkeypatch.setattr(known_maps, "LATTICE", 0)
    options = {**MANY, "hidden": 32, "epochs": 4, "seed": 8}  # a run of its own
    known = by_coalition(runs("mitig2", **options)[1])
    how, detail = known["cloud_trainer, data_owner:0", "the first batch of data_owner:1"]
    assert how == "exact" and "rank 64 of 64; 100%" in detail


def test_cloud_and_one_owner_solve_for_all_others_of_a_round_while_these_are_at_most_h(runs):
    few = by_coalition(runs("mitig2", **{**FEW, "batch": 3})[1])
    assert few["cloud_trainer, data_owner:0", "9 samples of 3 other owners, round 0"][0] == "exact"
    many = by_coalition(runs("mitig2", **{**MANY, "hidden": 8})[1])
    assert many["cloud_trainer, data_owner:0", "12 samples of 3 other owners, round 0"][0] == "bounded"
    assert few["data_owner:0", "9 samples of 3 other owners, round 0"][0] == "bounded"


def test_authority_and_cloud_of_mitig1_open_the_ciphertexts(runs):
    known = by_coalition(runs("mitig1", **TINY)[1])
    assert known["cloud_trainer, key_authority", "all 16 samples"][0] == "exact"
    own = by_coalition(runs("mitig1", authority=Authority.OWNER, **TINY)[1])
    assert {key for key, (how, _) in own.items() if how != "own"} == {("cloud_trainer", "all 16 samples")}


def test_small_steps_are_not_taken_for_more_dimensions_than_samples(runs):
    known = by_coalition(runs("mitig2", owners=2, batch=2, hidden=12, lr=0.0005)[1])
    _, detail = known["key_authority", "2 samples of data_owner:0, round 0"]
    assert detail.startswith("W1 - W1' spans 2 dimensions of their space")


def test_a_larger_coalition_knows_no_less(runs):
    run, _ = runs("mitig2", **FEW)
    joint = Adversary(run.view_sources(("cloud_trainer", "key_authority", "data_owner:1"))).learned()
    assert any(
        item.quantity == "samples" and item.how == "exact" and "data_owner:0" in item.of for item in joint
    )


@pytest.mark.parametrize("authority", Authority)
def test_cloud_and_one_owner_of_mitig1_solve_for_a_sample_once_the_rounded_averages_suffice(
    runs, stamps, authority
):
    options = {"samples": None, "dataset": stamps, "owners": 2, "hidden": 8, "batch": 2, "epochs": None}
    result = runs("mitig1", **options, rounds=5, lr=0.1, authority=authority)[1]
    how, detail = by_coalition(result)["cloud_trainer, data_owner:0", "all samples of data_owner:1"]
    assert how == "exact" and "rank 16 of 16; 1 of 1 tried is solved" in detail
