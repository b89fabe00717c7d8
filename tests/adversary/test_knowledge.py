"""Who learned what is computed from views, and says what the attacks find."""

import shutil
import sqlite3

import numpy as np
import pytest

from parties.adversary.adversary import Adversary
from parties.adversary.attacks import master_key
from parties.adversary.knowledge import _outdoes, learned
from parties.adversary.rules import Told
from parties.record.transcript import Record
from parties.record.view import View
from protocols.network.config import Gradient, Labels, Scheme
from scenarios.run.catalogue import find_protocol
from tests.conftest import TINY
from tests.scenarios.test_attacks import ENOUGH, attacked


def known(run, *parties):
    items = Adversary(run.view_sources(parties)).learned()
    return {item.quantity: item for item in reversed(items)}  # of several the first


@pytest.mark.parametrize("scheme", Scheme)
def test_the_cloud_knows_samples_and_master_key_from_the_step_that_the_attacks_name(runs, scheme):
    run, _ = runs("plain_fe", **ENOUGH, scheme=scheme)
    items, step = known(run, "cloud_trainer"), attacked(run, "stack")["metrics"]["solved_at_step"]
    lines = Adversary(run.view_sources(("cloud_trainer",))).learned()
    (samples,) = [item for item in lines if item.detail.startswith("rank 64 of 64")]
    assert (samples.how, samples.since_round) == ("exact", step) and "64 of 64 tried" in samples.detail
    key, proven = items["master key"], attacked(run, "master_key")["metrics"]["solved_at_step"]
    assert key.how == "exact" and key.since_round == proven and (proven < step) is (scheme is Scheme.LWE)
    curve = samples.data["curve"]
    assert curve[0][:2] == [0, 16] and curve[-1] == [step, 64, 64] and samples.data["unknowns"] == 64


def test_too_few_keys_bound_the_samples(runs):
    items = known(runs("plain_fe", samples=16)[0], "cloud_trainer")
    assert (
        items["samples"].how == "bounded"
        and "rank 8 of 64" in items["samples"].detail
        and items["master key"].how == "bounded"
    )


@pytest.mark.parametrize(("scheme", "hidden", "said"), [
    (Scheme.DDH, 8, "8 of 64 independent keys"),
    (Scheme.LWE, 8, "of 8 keys gives none that matches the public key; core-SVP by an estimate: 12"),
    (Scheme.RLWE, 16, "by their volume more than one secret fits; core-SVP by an estimate: 128 bit"),
])  # fmt: skip
def test_too_few_keys_for_the_master_key_say_what_was_tried_and_is_left(runs, scheme, hidden, said):
    run, _ = runs("plain_fe", samples=16, hidden=hidden, scheme=scheme)
    key = known(run, "cloud_trainer")["master key"]
    assert key.how == "bounded" and key.since_round is None and said in key.detail


def test_a_short_secret_under_more_pixels_than_a_lattice_takes_is_told(runs, monkeypatch):
    monkeypatch.setattr(master_key, "LATTICE", 63)
    detail = known(runs("plain_fe", samples=16)[0], "cloud_trainer")["master key"].detail
    assert "no lattice tried: more than 63 pixels" in detail and "bit left of the secret" in detail


def test_headers_tell_what_crossed_in_the_clear_but_no_rank(runs):
    items = known(runs("plain_fe", **ENOUGH, record=Record.HEADERS)[0], "cloud_trainer")
    assert items["labels"].how == items["dw1"].how == "clear"
    assert items["samples"].how == "bounded" and "not recorded" in items["samples"].detail


def test_the_authority_sees_the_key_requests(runs):
    items = known(runs("plain_fe", gradient=Gradient.FE)[0], "key_authority")
    assert items["w1"].how == items["dz1"].how == "clear"
    assert items["samples"].how == "bounded" and "up to rounding" in items["samples"].detail


def test_labels_under_febo_are_exact_and_in_the_clear_without(runs):
    febo = known(runs("plain_fe", labels=Labels.FEBO)[0], "cloud_trainer")["labels"]
    assert (febo.how, febo.of, febo.since_round) == ("exact", "48 of 48 samples", 2)
    assert known(runs("plain_fe")[0], "cloud_trainer")["labels"].how == "clear"


def test_without_protection_the_cloud_sees_everything_in_the_clear(runs):
    items = known(runs("plain")[0], "cloud_trainer")
    assert items["x"].how == items["labels"].how == "clear"


def test_an_owner_learns_the_gradients_of_its_own_batches(runs):
    items = known(runs("plain_fe", owners=3)[0], "data_owner:1")
    assert items["dz1"].how == "clear" and set(items) == {"dz1", "dw1", "samples", "labels"}
    assert items["samples"].how == items["labels"].how == items["dw1"].how == "own"


@pytest.mark.parametrize("scenario", ["plain", "plain_fe", "mitig1"])
def test_inputs_are_said_once_and_also_where_a_protocol_states_no_relation(runs, monkeypatch, scenario):
    run, _ = runs(scenario, **TINY)
    for stated in (True, False):
        if not stated:
            monkeypatch.setattr(find_protocol(scenario), "relations", lambda view: iter(()))
        lines = Adversary(run.view_sources(("data_owner:0",))).learned()
        for quantity in ("samples", "labels"):
            (line,) = [item for item in lines if item.quantity == quantity and item.how == "own"]
            assert line.of == "16 of its own"


def test_a_party_knows_the_plain_numbers_that_it_sent(runs, monkeypatch):
    run, _ = runs("plain_fe", gradient=Gradient.FE)
    assert known(run, "cloud_trainer")["w1"].how == "own"
    monkeypatch.setattr(find_protocol("plain_fe"), "relations", lambda view: iter(()))
    assert known(run, "cloud_trainer")["w1"].how == "own"
    both = Adversary(run.view_sources(("cloud_trainer", "key_authority"))).learned()
    assert "own" in [item.how for item in both if item.quantity == "w1"], "together no less than alone"


def test_the_authority_sees_p_in_the_requests_for_label_keys(runs):
    items = known(runs("plain_fe", labels=Labels.FEBO)[0], "key_authority")
    assert items["p"].how == "clear" and items["labels"].how == "bounded"


@pytest.mark.parametrize("other", ["data_owner:0", "key_authority"])
def test_a_coalition_with_the_cloud_knows_what_the_cloud_knows(runs, other):
    run, _ = runs("plain_fe", **ENOUGH, owners=3, labels=Labels.FEBO)
    alone, together = known(run, "cloud_trainer"), known(run, "cloud_trainer", other)
    for quantity in ("samples", "labels", "master key"):
        assert (together[quantity].how, together[quantity].of) == (alone[quantity].how, alone[quantity].of)
        assert together[quantity].how == "exact" and other in together[quantity].party


def test_what_an_owner_encrypted_itself_is_no_finding(runs):
    run, _ = runs("plain_fe", **ENOUGH, owners=3, labels=Labels.FEBO)
    assert known(run, "data_owner:0", "key_authority")["master key"].how == "own"
    lines = Adversary(run.view_sources(("data_owner:0", "key_authority"))).learned()
    for quantity in ("samples", "labels"):  # of the others the requests say something
        assert {item.how for item in lines if item.quantity == quantity} == {"own", "bounded"}


def test_ciphertexts_without_keys_tell_nothing(runs, tmp_path):
    run, _ = runs("plain_fe", **ENOUGH)
    alone = tmp_path / "view.sqlite"
    shutil.copyfile(run.sources["cloud_trainer"], alone)
    with sqlite3.connect(alone) as db:
        db.execute("DELETE FROM rows WHERE label IN ('sk_w1', 'dw1')")
    items = {item.quantity: item for item in Adversary([(str(alone), "cloud_trainer")]).learned()}
    assert (
        items["samples"].how == "nothing found"
        and items["samples"].since_round is None
        and "master key" not in items
    )


def test_fewer_keys_than_pixels_leave_intervals_that_hold_the_truth(runs):
    run, _ = runs("plain_fe", samples=16, hidden=20, scheme=Scheme.DDH)
    line = known(run, "cloud_trainer")["samples"]
    found = [(c, lo, hi) for c, lo, hi in line.data["intervals"] if lo is not None]
    true = run.truth().pixels(np.array([0]))[0]
    assert found and all(lo - 1e-6 <= true[c] <= hi + 1e-6 for c, lo, hi in found)
    assert "rank 20 of 64" in line.detail and "pixels tried" in line.detail


@pytest.mark.parametrize("gradient", Gradient)
def test_the_first_gradient_gives_its_batch_away_before_the_rank_is_full(runs, gradient):
    run, _ = runs("plain_fe", **{**ENOUGH, "hidden": 32}, gradient=gradient)
    lines = [
        item for item in Adversary(run.view_sources(("cloud_trainer",))).learned() if "batch 0" in item.of
    ]
    assert [(item.how, item.since_round) for item in lines] == [("exact", 0)]


def test_authority_and_cloud_open_everything_with_the_coins(runs):
    run, _ = runs("plain_fe", samples=16)
    lines = Adversary(run.view_sources(("key_authority", "cloud_trainer"))).learned()
    assert ("exact", 0) in {(item.how, item.since_round) for item in lines if item.quantity == "samples"}


def test_of_batches_that_have_no_keys_yet_nothing_is_said(runs):
    run, _ = runs("plain_fe", samples=40, hidden=32, defence=("batch_keys",))
    early = View(run.view_sources(("cloud_trainer",))).before(run.moments()[0][1])
    (exact,) = [line for line in learned(early) if line.how == "exact" and "whole pixels" in line.detail]
    assert exact.of == "16 of 16 tried" and exact.since_round == 0


def test_batches_are_bounded_from_the_step_of_their_own_keys(runs):
    run, _ = runs("plain_fe", samples=40, defence=("batch_keys",))
    source, ends = run.view_sources(("cloud_trainer",)), run.moments()
    early = View(source).before(ends[0][1])
    (line,) = [each for each in Adversary(source).learned(ends) if "8 equations" in each.detail]
    assert (line.of, line.how, line.since_round) == ("all 40 samples", "bounded", 2)
    (line,) = [each for each in learned(early) if "8 equations" in each.detail]
    assert line.of == "16 of 40 samples" and sum(b - a for a, b in line.data["samples"]) == 16


@pytest.mark.parametrize("switches", [{"defence": ("augment:1",)},
                                      {"defence": ("unlinkable",), "labels": Labels.OWNER}])  # fmt: skip
def test_rows_without_names_are_as_many_samples_as_there_are_rows(runs, switches):
    run, _ = runs("mitig2", samples=40, **switches)
    source, ends = run.view_sources(("cloud_trainer",)), run.moments()
    early = View(source).before(ends[0][1])
    (line,) = [each for each in Adversary(source).learned(ends) if "W1 unknown" in each.detail]
    assert (line.of, line.since_round) == ("all 40 samples", 2)
    (line,) = [each for each in learned(early) if "W1 unknown" in each.detail]
    assert line.of == "16 of 40 samples"
    assert "not computed" in known(run, "cloud_trainer")["gram"].detail


def test_authority_and_cloud_read_every_batch_of_which_a_map_is_known(runs):
    secure = {"owners": 4, "samples": 64, "batch": 8, "epochs": 2, "defence": ("secure_aggregation",)}
    run, _ = runs("mitig2", **secure, hidden=96)
    lines = Adversary(run.view_sources(("cloud_trainer", "key_authority"))).learned()
    (line,) = [each for each in lines if "map by map" in each.detail]
    assert (line.of, line.how, line.since_round) == ("all 64 samples", "exact", 1)


def test_what_half_the_pixels_in_keys_or_one_visit_leaves_open_is_solved_by_more(runs):
    run, _ = runs("plain_fe", samples=40, epochs=3, seed=931, defence=("fresh_keys",))
    lines = Adversary(run.view_sources(("cloud_trainer",))).learned()
    found = {line.detail.split(":")[0]: line.of for line in lines if line.how == "exact"}
    assert found["dZ1 and dW1"] == "all 40 samples"  # the last line of it, of all batches
    (lattice,) = [of for detail, of in found.items() if "equations and whole pixels" in detail]
    assert lattice == "all 40 samples"


def test_samples_that_are_all_exact_leave_no_bounded_inner_products():
    gram = Told("gram", "all 4 samples", "bounded", "not computed")
    assert _outdoes(Told("samples", "all 4 samples", "exact", ""), gram)
    assert not _outdoes(Told("samples", "2 of 4 samples", "exact", ""), gram)
    assert not _outdoes(Told("samples", "all 4 samples", "up to", ""), gram)
