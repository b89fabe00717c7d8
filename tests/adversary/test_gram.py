"""Inner products of all samples from the changes of Z1, and images from some known ones."""

from dataclasses import replace

import numpy as np
import pytest

from parties.adversary.attack import NotApplicable, Relations
from parties.adversary.attacks import gram
from parties.adversary.knowledge import learned
from parties.adversary.solvers.low_rank import Blocks, Uses, low_rank
from parties.adversary.solvers.moves import placed, positions
from protocols.language import relations
from protocols.language.relations import Map, Steps, Update
from protocols.network.config import Labels, Optimizer
from scenarios.score.metrics import gram_error, score
from tests.adversary.common import attacked, rebuilt, stated
from tests.conftest import MANY

ENOUGH = {"hidden": 40, "epochs": 6}  # 48 samples in 3 batches: 5 revisits of 40 equations for 48 unknowns
FEW = {"samples": 200, "hidden": 32, "epochs": 6}  # 5 revisits of 32 equations for 200 inner products
STEP = {"samples": 16, "hidden": 8, "batch": 4, "lr": 0.5, "momentum": 0.0, "rounds": 2, "epochs": None,
        "weight_scale": 10_000}  # fmt: skip


def truth(run):
    return run.truth().pixels(np.arange(len(run.truth().images)))


def attack(run, *parties, known=None):
    return rebuilt(run, "gram", *parties, known=known)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.0},
        {"labels": Labels.OWNER},
        {"owners": 3, "local_steps": 2},
        {"owners": 4, "per_round": 2},
    ],
    ids=str,
)
def test_revisits_of_mitig2_give_the_gram_matrix(runs, options):
    run, _ = runs("mitig2", **{**ENOUGH, "epochs": 12, **options})
    found = attack(run)
    assert score(found, run.truth(), run.prior(), 0)["relative_error"] < 1e-3
    assert found.notes["pairs_determined"] == 1.0 and found.notes["expected_relative_error"] < 1e-3


def test_with_the_rank_of_the_pixels_few_visits_give_every_inner_product_and_the_images(runs):
    run, _ = runs("mitig2", **FEW)
    found = attack(run)
    error = score(found, run.truth(), run.prior(), 0)["relative_error"]
    assert found.notes["rank_at_most"] == 64 and found.notes["pairs_determined"] == 1.0
    assert error < 1e-5 and error < found.notes["expected_relative_error"] < 100 * error
    assert attacked(run, "lattice_gram")["metrics"]["exact_pixels"] > 0.97
    told = [line.how for line in learned(run.view("cloud_trainer")) if line.quantity == "gram"]
    assert "exact" in told


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_under_noise_the_rank_leaves_a_small_error_that_is_not_understated(runs, seed):
    run, _ = runs("mitig2", samples=140, hidden=32, epochs=12, seed=seed, defence=("noise:10",))
    row = attacked(run, "gram")
    assert row["metrics"]["relative_error"] < 0.5 * row["baseline"]["guess"]["relative_error"]
    assert row["metrics"]["relative_error"] < row["notes"]["expected_relative_error"]
    images, guess = attack(run, known=40), run.prior().guess()
    assert score(images, run.truth(), run.prior(), 0)["mse"] < 0.6 * ((truth(run) - guess) ** 2).mean()


def test_errors_of_other_samples_converge_to_nothing_of_low_rank(runs):
    run, _ = runs("mitig2", **FEW)
    assert gram.gram(stated(run), 16, pixels=64).limited == 64
    assert gram.gram(with_errors_swapped(stated(run)), 16, pixels=64).limited == 0


def moving(rng, count, rank, steps, batch=10, width=4):
    """X (N, n) and its `Uses` under training with random errors; sample 0 is used in the first step alone."""
    x, w = rng.normal(size=(count, rank)), rng.normal(size=(width, rank))
    seen, moves, velocity = [], [], np.zeros_like(w)
    for t in range(steps):
        others = 1 + np.roll(np.arange(count - 1), -(batch - 1) * t)[: batch - 1]
        index = np.append(others, 0) if t == 0 else others
        error = rng.normal(size=(len(index), width))
        seen.append((index, x[index] @ w.T))
        moves.append((index, error))
        velocity = 0.5 * velocity + 0.003 * error.T @ x[index]
        w = w - velocity
    powers = np.cumsum(0.5 ** np.arange(steps))
    terms = np.array(
        [[0.003 * powers[t - u - 1] if u < t else 0.0 for u in range(steps)] for t in range(steps)]
    )
    return x, Uses.of(seen, terms, moves, count)


def test_a_sample_that_was_used_too_rarely_is_not_taken_for_determined():
    x, uses = moving(np.random.default_rng(0), 64, 6, 126)
    found = low_rank(uses, 6, np.random.default_rng(1))
    assert found is not None and not found.determined[0] and found.determined[1:].all()
    assert np.sqrt(np.mean((found.values - x @ x.T)[1:, 1:] ** 2)) < found.noise < 0.1


def test_blocks_of_coefficients_multiply_as_the_matrix_does():
    rng = np.random.default_rng(0)
    a = np.tril(1.0 - 0.9 ** np.abs(np.subtract.outer(np.arange(300), np.arange(300))), -1)
    a[200:, 70] += rng.normal(size=100)
    x = rng.normal(size=(300, 3))
    assert np.allclose(Blocks(a).times(x), a @ x, rtol=1e-10)


def test_the_coefficients_give_the_weights_that_the_protocol_computed(runs):
    run, _ = runs("mitig2", **MANY, hidden=16, local_steps=2)
    updates = list(stated(run).of(Update))
    means = {row.round: value for row, value in run.view("key_authority").values("w1_mean")}
    last, x = max(means), run.truth().images.astype(float)
    terms = positions(updates)[Map("w1", -1, 2 * last)]
    assert np.allclose(means[0] - placed(terms, updates[0].steps, 48).T @ x, means[last], atol=1e-5)


def test_one_update_of_mitig1_gives_the_inner_products_of_its_batch_with_all(runs):
    run, _ = runs("mitig1", **STEP)
    found = attack(run)
    assert gram_error(found.values, truth(run)[found.index]) < 0.02
    assert np.isfinite(found.values[:4]).all() and np.isnan(found.values[4:, 4:]).all()
    assert found.notes["samples_with_all_pairs"] == 4 and found.solved_at_step == 1


@pytest.mark.parametrize(("known", "bound"), [(16, 0.06), (40, 0.01)])
def test_known_samples_turn_the_gram_matrix_into_images(runs, known, bound):
    run, _ = runs("mitig2", **ENOUGH)
    found = attack(run, known=known)
    assert len(found.index) == 48 - known and not set(found.index) & set(run.prior(known=known).known.index)
    assert score(found, run.truth(), run.prior(), 0)["mse"] < bound


def test_swapped_errors_give_no_inner_product(runs):
    """The same solver with every dZ1 under the name of another sample is no better than taking all images for
    alike.
    """
    run, _ = runs("mitig2", **ENOUGH)
    found, products = gram.gram(with_errors_swapped(stated(run)), 16).values, truth(run) @ truth(run).T
    alike = truth(run).mean(axis=0)
    assert np.linalg.norm(found - products) > np.linalg.norm(alike @ alike - products)


def with_errors_swapped(relations):
    """The same relations with every dZ1 under the name of another sample of its batch."""
    listed = list(relations)
    steps = next(r for r in listed if isinstance(r, Update)).steps

    def swapped(u):
        return steps.error(u)[np.random.default_rng(u).permutation(len(steps.samples[u]))]

    wrong = Steps(steps.samples, steps.known, swapped)
    listed = [replace(r, steps=wrong) if isinstance(r, Update) else r for r in listed]
    return Relations(lambda: listed)


def test_errors_are_read_once_and_as_many_are_kept_as_there_is_room_for(monkeypatch):
    read = []

    def error(u):
        read.append(u)
        return np.full((2, 4), float(u))

    monkeypatch.setattr(relations, "_REMEMBERED", 2 * 2 * 4 * 8)
    steps = Steps((np.arange(2),) * 3, 3, error)
    for _ in range(2):
        assert [steps.error(u)[0, 0] for u in range(3)] == [0.0, 1.0, 2.0]
    assert read == [0, 1, 2, 2]
    with pytest.raises(ValueError, match="read-only"):
        steps.error(0)[:] = 7


def test_images_from_noise_are_no_better_than_the_mean_of_the_known_ones(runs):
    run, _ = runs("mitig2", **ENOUGH)
    x, rng = truth(run), np.random.default_rng(0)
    products = x[:16] @ x[16:][rng.permutation(32)].T
    wrong = gram.smoothest(x[:16], products, 1e-3, (8, 8))
    assert ((wrong - x[16:]) ** 2).mean() > ((x[:16].mean(axis=0) - x[16:]) ** 2).mean()


def test_unknowns_that_the_equations_leave_open_are_not_reported():
    rng = np.random.default_rng(0)
    x, c = rng.random((6, 9)), np.zeros((6, 4))
    c[:3] = rng.normal(size=(3, 4))
    c[3:5] = rng.normal(size=4)  # samples 3 and 4 always move together, sample 5 never
    z0 = rng.normal(size=(2, 4))
    part = gram.solve_gram([np.zeros((6, 4)), c[:, :4]], [z0, z0 - x[:2] @ x.T @ c])
    assert np.isnan(part.values[3:]).all() and np.allclose(part.values[:3], x[:3] @ x[:2].T)


@pytest.mark.parametrize(("scenario", "options", "said"), [
    ("mitig2", {"optimizer": Optimizer.ADAM, "lr": 0.01}, "Adam"),
    ("mitig2", {}, "second use of any batch"),
    ("mitig2", {"epochs": 2}, "no inner product is determined: rank"),
    ("plain_fe", {}, "holds no Products|second use"),
])  # fmt: skip
def test_views_that_do_not_fit_are_not_applicable_with_the_reason(runs, scenario, options, said):
    with pytest.raises(NotApplicable, match=said):
        attack(runs(scenario, **options)[0])


def test_a_view_that_ends_before_the_second_keys_is_not_applicable(runs):
    run, _ = runs("mitig1", **STEP)
    *_, second = run.view("cloud_trainer").rows("sk_w1")
    for seq in range(0, second.seq, 3):
        with pytest.raises(NotApplicable):
            rebuilt(run, "gram", until=seq)


def test_too_many_samples_are_refused_and_said_so(runs):
    with pytest.raises(NotApplicable, match="48 samples"):
        gram.gram(stated(runs("mitig2", **ENOUGH)[0]), 16, samples=40)


def test_every_run_says_what_its_cloud_knows_of_inner_products(whole_runs):
    def lines(result):
        return [
            (row["how"], row["since_round"])
            for row in result["learned"]
            if (row["quantity"], row["party"]) == ("gram", "cloud_trainer")
        ]

    assert lines(whole_runs("mitig2", **ENOUGH)[1]) == [("exact", 8)]  # every batch has come back twice
    assert lines(whole_runs("mitig2")[1]) == [("bounded", None)]
    assert lines(whole_runs("mitig1", **STEP)[1]) == [("bounded", 1)]
