"""What the authority, alone and with the cloud, makes of the copies of W1 that it averages."""

from dataclasses import replace

import numpy as np
import pytest

from parties.adversary.attack import NotApplicable, Prior, Quantity
from parties.adversary.attacks import update
from parties.adversary.solvers.moves import changes
from parties.adversary.solvers.portions import Portions
from protocols.language.relations import Steps
from protocols.network.config import Optimizer
from scenarios.score.metrics import score
from tests.adversary.common import rebuilt, stated
from tests.conftest import MANY

BOTH = ("cloud_trainer", "key_authority")
RUN = {**MANY, "hidden": 16}  # 4 owners with 12 samples each in batches of 4


def attack(run, *parties):
    return rebuilt(run, "update", *parties or BOTH)


@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.0}, {"local_steps": 3}, {"per_round": 2}, {"batch": 12}], ids=str
)
def test_cloud_and_authority_read_every_sample_while_those_since_the_average_are_at_most_h(runs, options):
    run, _ = runs("mitig2", **{**RUN, "hidden": 24, **options})
    found = attack(run)
    assert len(found.index) == 48
    assert score(found, run.truth(), run.prior(), 0)["mse"] < 1e-6


def test_each_batch_is_solved_in_the_round_of_its_first_use(runs):
    run, _ = runs("mitig2", **{**RUN, "hidden": 24})
    assert attack(run).notes["solved_by_step"] == [[0, 16], [1, 16], [2, 16]]


def test_mitig1_leaks_alike(runs, stamps):
    run, _ = runs("mitig1", samples=None, owners=2, batch=2, hidden=12, rounds=4, epochs=None, dataset=stamps)
    assert score(attack(run), run.truth(), run.prior(), 0)["mse"] < 1e-6


def test_a_corrupted_owner_is_not_among_what_is_found(runs):
    run, _ = runs("mitig2", **RUN)
    assert attack(run, *BOTH, "data_owner:1").index.tolist() == [*range(12), *range(24, 48)]


def test_the_authority_alone_learns_the_span_of_the_samples(runs):
    run, _ = runs("mitig2", **RUN)
    found = attack(run, "key_authority")
    assert found.quantity is Quantity.SPAN and found.values.shape == (4, 64)
    assert score(found, run.truth(), run.prior(), 0)["relative_error"] < 1e-3


def test_the_span_of_a_round_says_little_of_other_samples(runs):
    run, _ = runs("mitig2", **RUN)
    found = attack(run, "key_authority")
    others = run.truth().pixels(np.arange(24, 48))
    assert np.linalg.norm(others @ found.values.T @ found.values - others) > 0.2 * np.linalg.norm(others)


def test_cloud_and_one_owner_read_all_others_of_a_round_from_averages(runs):
    run, _ = runs("mitig2", **RUN)
    found = attack(run, "cloud_trainer", "data_owner:0")
    assert found.index.tolist() == list(range(12, 48))
    assert score(found, run.truth(), run.prior(), 0)["mse"] < 1e-6


def test_swapped_errors_give_no_sample(runs):
    relations = stated(runs("mitig2", **RUN)[0], *BOTH)
    every = changes(relations)
    steps = every[0][0].steps
    wrong = Steps(steps.samples, steps.known, lambda u: np.roll(steps.error(u), 1, axis=1))
    every = [(replace(u, steps=wrong), change, noise) for u, change, noise in every]
    assert not update.solve_updates(relations, every, Prior(16, (8, 8)))[0].solved.any()


def test_equations_of_later_portions_complete_earlier_ones():
    rng = np.random.default_rng(0)
    x, rows = rng.integers(0, 17, (6, 9)), Portions(6, 9, 16)
    c = rng.normal(size=(6, 8))
    assert not len(rows.add(c[:, :4], c[:, :4].T @ x, 1e-6))
    assert sorted(rows.add(c[:, 4:], c[:, 4:].T @ x, 1e-6)) == list(range(6))
    assert np.array_equal(rows.x, x)


def test_noise_beyond_a_quantum_leaves_a_sample_open():
    rng = np.random.default_rng(0)
    x, rows, c = rng.integers(0, 17, (3, 9)), Portions(3, 9, 16), rng.normal(size=(3, 8))
    assert not len(rows.add(c, c.T @ x + rng.normal(size=(8, 9)), 1.0)) and not rows.solved.any()


@pytest.mark.parametrize(("options", "parties", "said"), [
    ({"optimizer": Optimizer.ADAM, "lr": 0.01}, BOTH, "Adam"),
    ({"hidden": 4, "batch": 12, "epochs": 1}, BOTH, "12 samples since an average, h = 4"),
    ({}, ("cloud_trainer",), "holds no KnownMap"),
])  # fmt: skip
def test_views_that_do_not_fit_are_not_applicable_with_the_reason(runs, options, parties, said):
    with pytest.raises(NotApplicable, match=said):
        attack(runs("mitig2", **{**RUN, **options})[0], *parties)


def test_before_the_first_copy_came_back_nothing_is_known(runs):
    run, _ = runs("mitig2", **RUN)
    first = next(iter(run.view("key_authority").rows("w1_copy")))
    with pytest.raises(NotApplicable, match="before W1 was seen before and after"):
        rebuilt(run, "update", *BOTH, until=first.seq - 1)
