"""Attacks on real views: exact where they must succeed, "not applicable" with the reason where they must
fail.
"""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from parties.adversary.adversary import Adversary, rebuild
from parties.adversary.attack import NotApplicable, Prior
from parties.adversary.catalogue import ATTACKS, find_attack
from parties.adversary.solvers.systems import systems
from parties.data.datasets import Split
from parties.record.transcript import Record, Transcript
from protocols.language.errors import BoundError, ConfigError, HostLost
from protocols.language.relations import Equations, Instance, now
from protocols.network.config import Gradient, Labels, Scheme
from protocols.parts import keys
from scenarios.run.attacks import attack_run
from scenarios.run.execute import execute
from scenarios.run.hosts import _AdversaryProcess
from tests.adversary.common import stated
from tests.conftest import small

# 64 samples and 16 keys a step: rank 64 is reached within the second epoch.
ENOUGH = {"samples": 64, "hidden": 16, "batch": 16, "epochs": 3}
CLOUD = ("cloud_trainer",)


@pytest.fixture(scope="module")
def runs(runs_without_ledger):
    """Attacks look at views."""
    return runs_without_ledger


def test_one_process_serves_all_who_make_an_adversary_and_a_new_one_where_it_died():
    class Process:
        def __init__(self):
            self.said, self.ended = [], False
            made.append(self)

        def call(self, verb, *args):
            self.said.append((verb, *args))
            if verb == "die":
                raise HostLost("the adversary's process died")

        def close(self):
            self.ended = True

    made, a, b = [], (("a", "cloud_trainer"),), (("b", "key_authority"),)
    kept = _AdversaryProcess(Process)
    first = kept.turned_to(a)
    first.call("learned")
    first.close()
    second = kept.turned_to(b)
    assert len(made) == 1 and not made[0].ended
    assert made[0].said == [("corrupt", a), ("learned",), ("corrupt", ()), ("corrupt", b)]
    with pytest.raises(HostLost):
        second.call("die")
    second.close()
    kept.turned_to(a)
    assert len(made) == 2 and made[0].ended and made[1].said == [("corrupt", a)]
    kept.end()
    assert made[1].ended


def attacked(run, name, corrupted=CLOUD):
    (row,) = attack_run(run, [name], corrupted, run.prior(), Adversary)
    return row


def rebuilt(run, name, *parties):
    adversary = Adversary(run.view_sources(parties or CLOUD))
    return adversary.attack(name, run.prior(), 0)


@pytest.mark.parametrize(
    "options", [{}, {"scheme": Scheme.DDH}, {"owners": 3, "split": Split.LABEL}], ids=str
)
@pytest.mark.parametrize("name", ["stack", "master_key"])
def test_every_pixel_is_exact_once_the_rank_is_full(runs, name, options):
    run, _ = runs("plain_fe", **ENOUGH, **options)
    row = attacked(run, name)
    assert row["applicable"] and row["samples"] == 64 and row["metrics"]["exact_pixels"] == 1.0
    full = next(systems(list(stated(run).of(Instance)))).since
    assert full >= 3
    if name == "master_key" and "scheme" not in options:  # the secret of LWE is short: half of the keys do
        assert row["metrics"]["solved_at_step"] < full and row["notes"]["keys_used"] == 32
    else:
        assert row["metrics"]["solved_at_step"] == full
    assert row["baseline"]["swapped"]["exact_pixels"] < 0.6 and row["baseline"]["guess"]["mse"] > 0.02


def test_the_master_key_is_proven_and_opens_what_was_not_used(runs):
    for scheme in Scheme:
        run, _ = runs("plain_fe", **{**ENOUGH, "hidden": 32, "scheme": scheme})
        notes = attacked(run, "master_key")["notes"]
        assert (
            notes["matches_public_key"]
            and notes["opens_fresh_ciphertext"]
            and notes["samples_not_yet_used"] > 0
        )


@pytest.mark.parametrize("name", ["stack", "master_key"])
def test_too_few_keys_give_nothing_and_the_rank_is_told(runs, name):
    run, _ = runs("plain_fe", samples=16)
    row = attacked(run, name)
    assert not row["applicable"] and "rank 8 of 64" in row["why"] and row["metrics"] == {}


@pytest.mark.parametrize(
    "options", [{}, {"labels": Labels.FEBO}, {"labels": Labels.FEBO, "owners": 3}, {"owners": 3}], ids=str
)
def test_labels_are_exact(runs, options):
    run, _ = runs("plain_fe", **options)
    row = attacked(run, "labels")
    assert (
        row["metrics"]["labels_right"] == 1.0
        and row["samples"] == 48
        and row["metrics"]["solved_at_step"] == 0
    )
    assert row["baseline"]["guess"]["labels_right"] < 0.3 and row["baseline"]["swapped"]["labels_right"] < 0.6


def test_labels_of_plain_training_are_read_too(runs):
    assert attacked(runs("plain")[0], "labels")["metrics"]["labels_right"] == 1.0


@pytest.mark.parametrize("name", ["lp", "smooth", "tv"])
def test_one_observation_beats_its_baselines(runs, name):
    run, _ = runs("plain_fe", **{**ENOUGH, "hidden": 40})
    row = attacked(run, name)
    mse = {"attack": row["metrics"]["mse"], **{k: v["mse"] for k, v in row["baseline"].items()}}
    assert row["samples"] == 20 and row["metrics"]["failures"] == 0
    assert (
        mse["attack"] < mse["guess"] and mse["attack"] < mse["swapped"] and mse["attack"] <= mse["projection"]
    ), mse


def test_one_observation_holds_the_equations_of_its_own_step_only(runs):
    run, _ = runs("plain_fe", **ENOUGH)
    truth = run.truth()
    observations = list(stated(run).of(Equations))
    assert [o.since for o in observations] == list(range(12))
    assert sorted(np.concatenate([o.samples for o in observations[:4]])) == list(range(64))
    for o in observations[:4]:
        w, z = now(o.a), now(o.values)
        assert w.shape == (16, 64) and np.array_equal(truth.images[o.samples].astype(int) @ w.T, z)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("party", ["key_authority", "data_owner:0"])
def test_a_view_that_lacks_what_an_attack_needs_is_not_applicable(runs, name, party):
    result = rebuilt(runs("plain_fe", **ENOUGH)[0], name, party)
    assert result.reconstruction is None and result.why


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("options", [{}, {"labels": Labels.FEBO}], ids=str)
def test_headers_hold_nothing_to_attack(runs, name, options):
    result = rebuilt(runs("plain_fe", **ENOUGH, record=Record.HEADERS, **options)[0], name)
    assert result.reconstruction is None and result.why == "payloads not recorded"


@pytest.mark.parametrize("name", ["lp", "smooth", "tv", "stack", "master_key"])
def test_swapped_secrets_give_no_image(runs, name, tmp_path):
    """The keys of one run on the ciphertexts of another: refused, or no better than the prior's guess."""
    run, _ = runs("plain_fe", **ENOUGH)
    other, _ = runs("plain_fe", **{**ENOUGH, "seed": 99})
    shutil.copytree(run.path, tmp_path / "run")
    path = tmp_path / "run" / "transcripts" / "cloud_trainer.sqlite"
    graft(path, other.sources["cloud_trainer"], "ct")
    with pytest.raises(BoundError, match="another instance"):
        rebuild(
            name, type(run)(tmp_path / "run").view("cloud_trainer"), run.prior(), np.random.default_rng(0)
        )


def graft(path, source, label):
    """Replace the payloads of a label by those of another run's transcript."""
    with (
        sqlite3.connect(path) as into,
        closing(Transcript(source)) as out,
        closing(Transcript(source)) as full,
    ):
        for row in out.rows("label = ? ORDER BY id", label):
            into.execute("INSERT INTO payloads (sha256, data) VALUES (?, ?)", (row.sha256, full.frame(row)))
            into.execute(
                "UPDATE rows SET sha256 = ?, nbytes = ? WHERE label = ?", (row.sha256, row.nbytes, label)
            )


def test_results_depend_on_the_view(runs):
    one = rebuilt(runs("plain_fe", **ENOUGH)[0], "smooth").reconstruction
    two = rebuilt(runs("plain_fe", **{**ENOUGH, "seed": 99})[0], "smooth").reconstruction
    assert not np.array_equal(one.values, two.values)


def test_unknown_attacks_and_parties_are_refused(runs):
    with pytest.raises(ConfigError, match=r"known: .*labels.*, master-key"):
        find_attack("magic")
    with pytest.raises(ConfigError, match="no party 'cloud'"):
        attacked(runs()[0], "stack", ("cloud",))
    assert find_attack("master-key") is find_attack("master_key") and find_attack("lp").NAME == "lp"


def test_a_guess_is_the_public_mean_or_mid_range():
    assert (Prior(16, (2, 2)).guess() == 0.5).all()
    assert (Prior(16, (1, 2), np.array([[0.0, 1.0], [1.0, 1.0]])).guess() == [0.5, 1.0]).all()


def test_gradients_under_encryption_leak_alike(runs):
    run, _ = runs("plain_fe", **ENOUGH, gradient=Gradient.FE)
    assert attacked(run, "stack")["metrics"]["exact_pixels"] == 1.0


def test_not_applicable_is_a_result_and_not_a_crash(runs):
    view = runs("plain")[0].view("cloud_trainer")
    with pytest.raises(NotApplicable, match="holds no Instance"):
        rebuild("stack", view, Prior(16, (8, 8)), np.random.default_rng(0))


def test_the_small_runs_are_what_the_tests_say():
    assert small().config.layers == (8,) and sum(small().config.counts) == 48


@pytest.mark.parametrize("name", ["labels", "lp", "master_key", "smooth", "stack"])
@pytest.mark.parametrize("others", [(), ("data_owner:2",)], ids=str)
def test_owners_and_the_authority_hold_no_ciphertexts_but_their_own(runs, name, others):
    run, _ = runs("plain_fe", **ENOUGH, owners=3, split=Split.LABEL, labels=Labels.FEBO)
    result = rebuilt(run, name, "data_owner:0", *others, "key_authority")
    assert result.reconstruction is None and "holds no" in result.why


@pytest.mark.parametrize("name", ["stack", "labels"])
@pytest.mark.parametrize("other", ["data_owner:1", "key_authority"])
def test_a_coalition_with_the_cloud_knows_what_the_cloud_knows(runs, name, other):
    run, _ = runs("plain_fe", **ENOUGH, owners=3, split=Split.LABEL, labels=Labels.FEBO)
    together, alone = (
        rebuilt(run, name, "cloud_trainer", other).reconstruction,
        rebuilt(run, name).reconstruction,
    )
    assert np.array_equal(together.values, alone.values) and np.array_equal(together.index, alone.index)


def test_samples_are_found_at_their_place_in_many_uploads(monkeypatch, tmp_path):
    monkeypatch.setattr(keys, "chunk_rows", lambda config, nbytes: config.batch)
    options = {**ENOUGH, "batch": 8, "owners": 3, "split": Split.LABEL, "labels": Labels.FEBO}
    run, _ = execute(replace(small("plain_fe", **options), out=tmp_path / "run"))
    assert len(list(run.view("cloud_trainer").rows("ct"))) == 9
    for name in ("stack", "master_key"):
        assert attacked(run, name)["metrics"]["exact_pixels"] == 1.0
    assert attacked(run, "labels")["metrics"]["labels_right"] == 1.0
    truth = run.truth()
    for o in stated(run).of(Equations):
        assert np.array_equal(truth.images[o.samples].astype(int) @ now(o.a).T, now(o.values))


def test_of_a_run_that_was_killed_the_labels_of_its_steps_are_known(runs, tmp_path):
    run, _ = runs("plain_fe", labels=Labels.FEBO)
    shutil.copytree(run.path, tmp_path / "run")
    with sqlite3.connect(tmp_path / "run" / "transcripts" / "cloud_trainer.sqlite") as db:
        db.execute("DELETE FROM rows WHERE phase = 'step' AND round >= 2")
    row = attacked(type(run)(tmp_path / "run"), "labels")
    assert row["samples"] == 32 and row["metrics"]["labels_right"] == 1.0
