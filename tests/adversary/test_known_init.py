"""A first W1 from a public seed gives samples away; a private one does not."""

import numpy as np
import pytest

from parties.adversary.attack import NotApplicable
from parties.adversary.attacks import known_maps
from parties.adversary.solvers.products import Stack
from protocols.language.errors import ConfigError
from protocols.language.precision import Precision
from protocols.network import nn
from protocols.network.config import Init, Optimizer
from scenarios.run.baseline import train_plain
from scenarios.score.metrics import score
from tests.adversary.common import rebuilt
from tests.conftest import MANY, TINY, small

WIDE = {"hidden": 72, "init": Init.SHARED, "epochs": 1}  # h > n = 64


def attack(run, *parties):
    return rebuilt(run, "known_init", *parties)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": Optimizer.ADAM, "lr": 0.01},
        {"owners": 3, "local_steps": 2},
        {"owners": 4, "per_round": 2},
    ],
    ids=str,
)
def test_with_h_at_least_n_every_batch_is_exact_at_its_first_use(runs, options):
    run, _ = runs("mitig2", **{**WIDE, **options})
    found = attack(run)
    assert np.array_equal(np.rint(found.values * 16), run.truth().images[found.index])
    assert sorted(found.index) == list(range(48)) and found.solved_at_step is not None


def test_with_fewer_neurons_a_first_batch_too_large_for_a_lattice_is_smoothed_and_there_it_stops(
    runs, monkeypatch
):
    monkeypatch.setattr(known_maps, "LATTICE", 0)
    run, _ = runs("mitig2", **{**WIDE, "hidden": 40})
    found, truth = attack(run), run.truth()
    assert list(found.index) == list(range(16)) and found.solved_at_step is None
    assert found.notes["stopped_at_step"] == 0 and found.notes["solved"] == 0
    mse = score(found, truth, run.prior(), 0)["mse"]
    assert mse < 0.3 * ((run.prior().guess() - truth.pixels(found.index)) ** 2).mean()


@pytest.mark.parametrize(("precision", "exact"), [(Precision.SINGLE, False), (Precision.DOUBLE, True)])
def test_in_float64_eight_equations_of_64_pixels_are_enough(runs, precision, exact):
    run, _ = runs("mitig2", init=Init.SHARED, hidden=8, precision=precision)
    found = attack(run)
    assert run.view("cloud_trainer")["z1"][0].dtype == precision.value
    right = np.array_equal(np.rint(found.values * 16), run.truth().images[found.index])
    assert right == exact and (len(found.index) == 48) == exact


def test_keys_of_the_first_step_work_on_all_ciphertexts_of_mitig1(runs, stamps):
    run, _ = runs(
        "mitig1", samples=None, hidden=20, batch=4, rounds=1, epochs=None, init=Init.SHARED, dataset=stamps
    )
    found = attack(run)
    assert np.array_equal(np.rint(found.values * 255), run.truth().images) and found.solved_at_step == 0


def test_with_few_keys_mitig1_gives_smoothed_images(runs, stamps):
    run, _ = runs(
        "mitig1", samples=None, hidden=4, batch=4, rounds=1, epochs=None, init=Init.SHARED, dataset=stamps
    )
    found = attack(run)
    assert found.notes["first_sample_rank_samples"] == [[0, 4, 16]] and found.solved_at_step is None


def test_a_shared_seed_draws_the_same_weights_in_every_run_and_plain_begins_alike(runs):
    run, experiment = runs("mitig2", init=Init.SHARED)[0], small("mitig2", init=Init.SHARED)
    assert np.array_equal(run.final_weights()["w1"], train_plain(experiment, experiment.config)["w1"])
    one, two = (nn.draw_public(experiment.config).value.numpy() for _ in range(2))
    assert np.array_equal(one, two) and np.abs(one).max() <= 1 / 8


def test_another_first_w1_explains_nothing(runs):
    run, _ = runs("mitig2", **WIDE)
    z1 = run.view("cloud_trainer")["z1"][0].astype(np.float64)
    right = nn.draw_public(run.config()).value.numpy().astype(np.float64)
    assert Stack.of([right]).solved(16 * z1, 16) is not None
    assert Stack.of([np.roll(right, 1, axis=0)]).solved(16 * z1, 16) is None


@pytest.mark.parametrize(("scenario", "options", "party", "said"), [
    ("mitig2", {}, "cloud_trainer", "drawn in private"),
    ("mitig1", TINY, "cloud_trainer", "drawn in private"),
    ("mitig2", {**MANY, "init": Init.SHARED}, "key_authority", "holds no Products"),
    ("plain_fe", {}, "cloud_trainer", "drawn in private"),
])  # fmt: skip
def test_views_that_do_not_fit_are_not_applicable_with_the_reason(runs, scenario, options, party, said):
    with pytest.raises(NotApplicable, match=said):
        attack(runs(scenario, **options)[0], party)


def test_a_view_that_ends_early_gives_what_had_crossed(runs):
    run, _ = runs("mitig2", **WIDE)
    second = [row for row in run.view("cloud_trainer").rows("z1")][1]
    assert len(rebuilt(run, "known_init", until=second.seq).index) == 32


def test_a_split_network_has_no_first_weights_of_the_cloud():
    with pytest.raises(ConfigError, match="--init owner, or shared"):
        small("mitig2", init=Init.CLOUD)
