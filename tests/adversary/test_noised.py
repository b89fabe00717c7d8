"""Federated learning under the noise of DP: what is stated of it is true, and what an attack still gets."""

import numpy as np
import pytest

from parties.adversary.adversary import Adversary
from parties.adversary.attack import NotApplicable
from protocols.language import relations as r
from protocols.language.relations import now
from scenarios.run.attacks import attack_run
from tests.adversary.common import rebuilt, stated

SERVER = "key_authority"
ALONE = {"samples": 24, "hidden": 32, "batch": 1, "epochs": 5, "momentum": 0.0, "bias": True}


@pytest.fixture(scope="module")
def runs(runs_without_ledger):
    """Attacks look at views."""
    return runs_without_ledger


def noised(run, samples):
    """Noise over what is stated, of every change of a copy: what no sample of the change explains, in units
    of the stated deviation, and how many directions that leaves.
    """
    found = list(stated(run, SERVER))
    maps = {each.map: each for each in found if isinstance(each, r.KnownMap)}
    for each in found:
        if not isinstance(each, r.Noised) or each.update.after.owner < 0:
            continue
        u = each.update
        if not {u.before, u.after} <= maps.keys():
            continue
        change = now(maps[u.before].value) - now(maps[u.after].value)
        basis = np.linalg.svd(samples[u.steps.moved_by(u.terms)], full_matrices=True)
        outside = basis[2][(basis[1] > 1e-9).sum() :]
        yield change @ outside.T / (each.noise * np.linalg.norm(u.terms))


@pytest.mark.parametrize("options", [
    {"batch": 4, "owners": 2, "hidden": 16}, {"batch": 4, "hidden": 16, "local_steps": 2, "bias": True},
], ids=str)  # fmt: skip
def test_the_noise_is_what_is_stated(runs, options):
    run, _ = runs("fedsgd", samples=16, epochs=4, defence=("dp:20000",), **options)
    x = run.truth().images.astype(float)
    found = list(noised(run, x))
    assert len(found) >= 4
    size = np.concatenate([each.ravel() for each in found])
    assert size.std() == pytest.approx(1.0, abs=0.05) and abs(size.mean()) < 0.05
    others = np.concatenate([each.ravel() for each in noised(run, x[::-1])])
    assert others.std() > 1.1  # what other samples leave is more than the noise


def test_a_sample_alone_in_a_batch_is_estimated_where_noise_does_not_drown_it(runs):
    run, _ = runs("fedsgd", defence=("dp:10000",), **ALONE)
    (row,) = attack_run(run, ["bias"], (SERVER,), run.prior(), Adversary)
    assert row["metrics"]["failures"] == 0 and row["metrics"]["mse"] < 0.1 * row["baseline"]["guess"]["mse"]
    assert row["baseline"]["swapped"]["mse"] > row["baseline"]["guess"]["mse"]
    drowned = rebuilt(runs("fedsgd", defence=("dp:8",), **ALONE)[0], "bias", SERVER)
    assert np.isnan(drowned.values).all() and max(drowned.notes["signal_over_noise"]) < 1.1


def test_without_a_bias_a_sample_alone_is_estimated_by_its_direction_and_the_pixel_range(runs):
    run, _ = runs("fedsgd", defence=("dp:10000",), **{**ALONE, "bias": False})
    (row,) = attack_run(run, ["bias"], (SERVER,), run.prior(), Adversary)
    assert row["metrics"]["failures"] == 0 and row["metrics"]["mse"] < 0.2 * row["baseline"]["guess"]["mse"]
    assert row["baseline"]["swapped"]["mse"] > row["baseline"]["guess"]["mse"]
    drowned = rebuilt(runs("fedsgd", defence=("dp:8",), **{**ALONE, "bias": False})[0], "bias", SERVER)
    assert np.isnan(drowned.values).all()
    with pytest.raises(NotApplicable, match="owners add noise in every step"):
        rebuilt(run, "exclusive", SERVER)


def test_of_several_samples_it_says_that_it_does_not_apply(runs):
    run, _ = runs("fedsgd", defence=("dp:10000",), **{**ALONE, "batch": 4})
    with pytest.raises(NotApplicable, match="owners add noise, and the view holds no first layer that one"):
        rebuilt(run, "bias", SERVER)


def test_the_ledger_names_the_attack_that_goes_further(runs):
    run, _ = runs("fedsgd", defence=("dp:10000",), **ALONE)
    (line,) = [
        line
        for line in Adversary(run.view_sources((SERVER,))).learned()
        if line.quantity == "samples" and "owners add noise" in line.detail
    ]
    assert line.how == "bounded" and "further: bias" in line.detail


def of_labels(run, *parties):
    lines = Adversary(run.view_sources(parties or (SERVER,))).learned()
    return {line.how: line for line in lines if line.quantity == "labels" and line.how != "own"}


@pytest.mark.parametrize(
    ("epsilon", "least", "how"), [(10000, 1.0, "exact"), (100, 0.75, "bounded"), (8, 0, "bounded")]
)
def test_labels_are_read_off_the_bias_of_the_outputs(runs, epsilon, least, how):
    run, _ = runs("fedsgd", defence=(f"dp:{epsilon}",), **ALONE)
    (row,) = attack_run(run, ["labels"], (SERVER,), run.prior(), Adversary)
    assert row["applicable"] and row["metrics"]["labels_right"] >= least
    told = of_labels(run)
    assert how in told and told[how].data["samples"] == [[0, 24]]
    assert "under noise" in told[how].detail
    sure = (
        np.concatenate([np.arange(a, b) for a, b in told["exact"].data["samples"]]) if "exact" in told else []
    )
    found = rebuilt(run, "labels", SERVER)
    assert len(sure) == found.notes["certain"]
    assert (found.values[found.per_sample["deviations"] > 6] == run.truth().labels[sure]).all()


SILENT = (
    {"defence": ("dp:8",), "batch": 4}, {"defence": ("dp:8",), "batch": 4, "local_steps": 2},
    {"defence": ("dp:1000000",), "batch": 1, "owners": 3}, {"defence": ("clip:.1",), "batch": 4},
    {"defence": ("dp:8", "secure-aggregation"), "batch": 4, "owners": 3, "epochs": 1},
    {"defence": ("prune:.9",), "batch": 4, "momentum": 0.9},
    {"optimizer": "adam", "batch": 4, "local_steps": 2},
    {"first": "conv:3x3x3", "defence": ("dp:8",), "batch": 4},
    {"defence": ("dp:8", "secure-aggregation"), "batch": 12, "owners": 2, "epochs": 1},
)  # fmt: skip


@pytest.mark.parametrize("options", SILENT, ids=str)
def test_labels_are_never_said_to_be_hidden_by_what_owners_do_to_their_changes(runs, options):
    """By the rules alone, whatever an audit of a small instance says: of every sample of the others."""
    run, _ = runs("fedsgd", **{"samples": 24, "hidden": 8, "epochs": 2, "momentum": 0.0, **options})
    told = of_labels(run)
    assert told.keys() & {"bounded", "exact"}
    runs_of = [part for line in told.values() for part in line.data["samples"]]
    assert {i for start, stop in runs_of for i in range(start, stop)} == set(range(24))


def test_an_owner_that_sees_averages_is_told_something_of_the_labels_of_the_others(runs):
    run, _ = runs("fedsgd", samples=24, hidden=8, epochs=2, batch=4, owners=3, defence=("dp:8",))
    assert of_labels(run, "data_owner:1")["bounded"].data["samples"] == [[0, 8], [16, 24]]
    assert not of_labels(runs("fedsgd", samples=24, hidden=8, owners=1)[0], "data_owner:0")


def test_what_momentum_keeps_of_pruned_entries_is_no_sign_of_one_sample(runs):
    run, _ = runs("fedsgd", samples=12, hidden=8, batch=1, epochs=2, momentum=0.9, defence=("prune:.9",))
    found = rebuilt(run, "labels", SERVER)
    assert len(found.index) == 1  # of the first round
    run, _ = runs("fedsgd", samples=12, hidden=8, batch=1, epochs=2, momentum=0.0, defence=("prune:.5",))
    found = rebuilt(run, "labels", SERVER)
    (row,) = attack_run(run, ["labels"], (SERVER,), run.prior(), Adversary)
    assert row["metrics"]["labels_right"] > 0.9
