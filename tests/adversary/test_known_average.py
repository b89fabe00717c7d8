"""Cloud and one owner: the averages make the others' Z1 exact equations."""

import numpy as np
import pytest

from parties.adversary.attack import NotApplicable
from parties.adversary.attacks import known_maps
from parties.adversary.solvers.products import Stack
from protocols.network.config import Optimizer
from scenarios.score.metrics import score
from tests.adversary.common import rebuilt
from tests.conftest import MANY

BOTH = ("cloud_trainer", "data_owner:1")
OTHERS = [*range(12), *range(24, 48)]


def attack(run, *parties):
    return rebuilt(run, "known_average", *parties or BOTH)


@pytest.mark.parametrize(
    "options", [{}, {"local_steps": 3}, {"optimizer": Optimizer.ADAM, "lr": 0.01}], ids=str
)
def test_with_h_at_least_n_all_other_owners_are_read_exactly(runs, options):
    run, _ = runs("mitig2", **{**MANY, "hidden": 72, **options})
    found = attack(run)
    assert sorted(found.index) == OTHERS and score(found, run.truth(), run.prior(), 0)["exact_pixels"] == 1.0


def test_visits_of_the_same_batch_are_stacked_until_their_rank_suffices(runs, monkeypatch):
    monkeypatch.setattr(known_maps, "LATTICE", 0)
    run, _ = runs("mitig2", **{**MANY, "hidden": 36, "epochs": 4})
    found = attack(run)
    assert (
        found.notes["solved"] == 36
        and found.solved_at_step == 8
        and score(found, run.truth(), run.prior(), 0)["exact_pixels"] == 1.0
    )


def test_fewer_equations_than_pixels_are_solved_at_the_first_visit_by_a_lattice(runs, stamps):
    run, _ = runs("mitig2", samples=None, owners=4, hidden=10, batch=4, dataset=stamps)
    found = attack(run)
    assert found.notes["solved"] == 12 and found.solved_at_step == 0
    assert score(found, run.truth(), run.prior(), 0)["exact_pixels"] == 1.0


def test_with_fewer_equations_images_too_large_for_a_lattice_are_smoothed(runs, monkeypatch):
    monkeypatch.setattr(known_maps, "LATTICE", 0)
    run, _ = runs("mitig2", **{**MANY, "hidden": 30, "epochs": 1})
    found, truth = attack(run), run.truth()
    assert found.notes["smoothed"] == 20 and found.solved_at_step is None
    mse = score(found, truth, run.prior(), 0)["mse"]
    assert mse < 0.4 * ((run.prior().guess() - truth.pixels(found.index)) ** 2).mean()


def test_local_steps_after_an_unsolved_one_are_left_out(runs, monkeypatch):
    monkeypatch.setattr(known_maps, "LATTICE", 0)
    run, _ = runs("mitig2", **{**MANY, "hidden": 30, "epochs": 1, "local_steps": 3})
    found = attack(run)
    assert set(found.index) <= {*range(4), *range(24, 28), *range(36, 40)} and found.notes["used"] == 36


def test_under_mitig1_the_keys_of_the_rounded_average_work_on_every_ciphertext(runs, stamps):
    run, _ = runs("mitig1", samples=None, owners=2, hidden=20, batch=2, epochs=None, rounds=1, dataset=stamps)
    found = attack(run)
    assert found.index.tolist() == list(range(8)) and found.solved_at_step == 0
    assert score(found, run.truth(), run.prior(), 0)["exact_pixels"] == 1.0


def test_under_mitig1_few_keys_are_smoothed_too(runs, stamps):
    run, _ = runs("mitig1", samples=None, owners=2, hidden=8, batch=2, epochs=None, rounds=1, dataset=stamps)
    found = attack(run)
    assert found.notes["first_sample_rank_samples"] == [[0, 8, 8]] and found.solved_at_step is None


def test_swapped_weights_are_no_better_than_the_prior(runs):
    run, _ = runs("mitig2", **{**MANY, "hidden": 30, "epochs": 1})
    prior, truth = run.prior(), run.truth().pixels(np.arange(4))
    w = run.view("data_owner:0")["w1_mean"][0].astype(np.float64)
    z = run.view("cloud_trainer")["z1"][0].astype(np.float64)
    images = Stack.of([np.roll(w, 1, axis=0)]).smoothed(16 * z, prior)
    images = np.where(np.isfinite(images), images, prior.guess())
    assert ((images - truth) ** 2).mean() >= ((prior.guess() - truth) ** 2).mean()


@pytest.mark.parametrize(("scenario", "options", "parties", "said"), [
    ("mitig2", MANY, ("cloud_trainer",), "W1 is unknown"),
    ("mitig2", MANY, ("data_owner:0", "key_authority"), "holds no Products"),
    ("mitig2", {}, ("cloud_trainer", "data_owner:0"), "W1 is unknown"),
    ("mitig2", MANY, ("cloud_trainer", *(f"data_owner:{i}" for i in range(4))), "every owner is corrupted"),
    ("plain_fe", {}, ("cloud_trainer",), "with a W1 that is known"),
])  # fmt: skip
def test_views_that_do_not_fit_are_not_applicable_with_the_reason(runs, scenario, options, parties, said):
    with pytest.raises(NotApplicable, match=said):
        attack(runs(scenario, **options)[0], *parties)


def test_a_view_that_ends_before_the_first_step_gives_nothing(runs):
    run, _ = runs("mitig2", **MANY)
    first = next(iter(run.view("cloud_trainer").rows("z1")))
    with pytest.raises(NotApplicable, match="holds no Products"):
        rebuilt(run, "known_average", *BOTH, until=first.seq - 1)
