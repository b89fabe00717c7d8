"""Images from inner products and labels, turned back by labelled public images."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from sklearn.datasets import load_digits

from parties.adversary.adversary import Adversary
from parties.adversary.knowledge import learned
from parties.adversary.solvers.alignment import Unturned, aligned, factor_of, orthogonal
from protocols.network.config import Labels
from scenarios.run.attacks import attack_run
from scenarios.score.metrics import score
from scenarios.show.summary import attack_table, doubted, outcome
from tests.adversary.common import CLOUD, attacked, rebuilt, stated
from tests.adversary.test_gram import FEW

DIGITS = load_digits()
SHUFFLED = np.random.default_rng(0).permutation(len(DIGITS.data))  # it is sorted by writers
MINE, OTHERS = SHUFFLED[:1200], SHUFFLED[1200:]
X, LABELS = DIGITS.data[MINE], DIGITS.target[MINE].astype(np.int64)
PUBLIC, THEIRS = DIGITS.data[OTHERS], DIGITS.target[OTHERS].astype(np.int64)


def exact(values):
    return float((np.rint(values) == X).mean())


def of_classes():
    return np.stack([PUBLIC[c == THEIRS].mean(axis=0) for c in range(10)])[LABELS]


def test_a_gram_matrix_of_digits_with_labels_is_the_images():
    products = X @ X.T
    found = aligned(factor_of(products, 1e-3)[0], LABELS, PUBLIC, THEIRS, 16)
    assert exact(found.values) > 0.9 and found.apart < 0.15 and found.confirmed
    assert np.mean((found.values - X) ** 2) < 0.02 * np.mean((of_classes() - X) ** 2)


def test_a_hundredth_of_noise_costs_some_pixels_and_not_the_images():
    products, rng = X @ X.T, np.random.default_rng(0)
    noise = 0.01 * np.sqrt(np.mean(products**2))
    points, cut = factor_of(products + noise * rng.standard_normal(products.shape), noise)
    assert points.shape[1] < 60 and cut  # small directions are under the noise
    found = aligned(points, LABELS, PUBLIC, THEIRS, 16, cut)
    assert np.mean((found.values - X) ** 2) < 0.1 * np.mean((of_classes() - X) ** 2)


def test_wrong_public_labels_turn_nothing():
    wrong = np.random.default_rng(0).permutation(THEIRS)
    found = aligned(factor_of(X @ X.T, 1e-3)[0], LABELS, PUBLIC, wrong, 16)
    assert np.mean((found.values - X) ** 2) > np.mean((of_classes() - X) ** 2) and found.apart > 0.2
    assert not found.confirmed


def test_what_cannot_be_turned_is_said():
    points, _ = factor_of(X[:100] @ X[:100].T, 1e-3)
    with pytest.raises(Unturned, match="no class has two"):
        aligned(points, np.full(100, 11), PUBLIC, THEIRS, 16)
    with pytest.raises(Unturned, match="rank"):
        aligned(points, LABELS[:100], PUBLIC[:, :20], THEIRS, 16)


def test_points_of_one_direction_and_of_none():
    one, labels = np.repeat([3.0, 5.0], 20)[:, None], np.repeat([0, 1], 20)
    points, cut = factor_of(one @ one.T, 1e-6)
    found = aligned(points, labels, one + 0.0, labels, 16, cut)
    assert np.allclose(found.values, one, atol=1e-3)
    with pytest.raises(Unturned, match="errors"):
        aligned(factor_of(one @ one.T, 1e6)[0], labels, one, labels, 16)


def test_an_orthogonal_factor_is_nearest():
    slope = np.random.default_rng(0).normal(size=(4, 9))
    turn = orthogonal(slope)
    assert np.allclose(turn @ turn.T, np.eye(4), atol=1e-6)
    assert np.trace(slope.T @ turn) == pytest.approx(np.linalg.norm(slope, "nuc"))


def test_the_cloud_alone_rebuilds_images_without_a_known_sample(runs):
    run, _ = runs("mitig2", **FEW)
    row = attacked(run, "gram_public")
    assert row["metrics"]["mse"] < 0.2 * row["baseline"]["guess"]["mse"]  # a guess by class
    assert row["metrics"]["mse"] < 0.2 * row["baseline"]["swapped"]["mse"]
    assert row["notes"]["public_images_with_labels"] == 360


def test_a_rotation_that_is_wrong_is_not_confirmed_and_what_is_worse_than_the_guess_is_said(runs):
    """The adversary's public images have the classes of others: nothing it could know from its view."""
    run, _ = runs("mitig2", **FEW)
    prior = run.prior()
    wrong = replace(prior, public_labels=np.random.default_rng(0).permutation(prior.public_labels))
    (row,) = attack_run(run, ["gram_public"], CLOUD, wrong, Adversary)
    (right,) = attack_run(run, ["gram_public"], CLOUD, prior, Adversary)
    assert row["applicable"] and not row["notes"]["rotation_confirmed"]
    assert right["notes"]["rotation_confirmed"] and doubted(right) == ""
    assert row["notes"]["levels_from_whole"] > right["notes"]["levels_from_whole"]
    assert row["gain"]["interval"][1] < 0 and outcome(row).endswith(", worse than the guess")
    assert doubted(row).startswith("worse than the guess; its rotation is not confirmed: 0.")
    console = Console(width=200)
    with console.capture() as shown:
        console.print(attack_table([row, right]))
    assert shown.get().count("worse than the guess") == 1


def test_the_right_images_of_other_places_are_no_better_than_a_guess(runs):
    run, _ = runs("mitig2", **FEW)
    found, truth = rebuilt(run, "gram_public"), run.truth()
    guess = attacked(run, "gram_public")["baseline"]["guess"]["mse"]
    values = found.values.copy()
    object.__setattr__(found, "values", values[np.roll(np.arange(len(values)), 1)])
    assert score(found, truth, run.prior(), 0)["mse"] > guess


def test_without_labels_nothing_tells_the_rotation(runs):
    run, _ = runs("mitig2", **{**FEW, "labels": Labels.OWNER})
    row = attacked(run, "gram_public")
    assert not row["applicable"] and "Labels" in row["why"]


def test_the_ledger_names_what_ends_the_rotation_where_no_lattice_does(runs):
    run, _ = runs("mitig2", samples=70, hidden=32, epochs=8, defence=("dither:0.3",))
    (line,) = [
        line
        for line in learned(run.view("cloud_trainer"))
        if line.quantity == "samples" and line.how == "bounded"
    ]
    assert "inner products of 70" in line.detail and "gram-public" in line.detail
    assert attacked(run, "gram_public")["applicable"]
    assert stated(run).count() == 70
