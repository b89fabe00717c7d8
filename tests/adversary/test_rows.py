"""Samples that alone moved a unit: by the bias, and by pixels being whole. Each is a sample, or left out."""

import numpy as np
import pytest

from parties.adversary.attack import NotApplicable
from parties.adversary.solvers.moves import unmixed
from parties.adversary.solvers.rows import by_bias, by_scale
from tests.adversary.common import attacked, rebuilt, stated

SERVER = "key_authority"
ALONE = {"bias": True, "hidden": 32, "batch": 1, "lr": 0.005}
SETTINGS = [
    {"bias": True, "hidden": 32, "batch": 8, "epochs": 2},
    {"bias": True, "hidden": 100, "batch": 16, "momentum": 0.0},
    {"bias": True, "hidden": 48, "batch": 4, "owners": 4, "local_steps": 2},
    {"bias": True, "hidden": 100, "batch": 2, "owners": 4, "defence": ("secure-aggregation",)},
]


@pytest.mark.parametrize("name", ["bias", "exclusive"])
def test_of_one_sample_at_a_time_all_are_exact(runs_without_ledger, name):
    row = attacked(runs_without_ledger("fedsgd", **ALONE)[0], name, SERVER)
    assert row["metrics"]["exact_images"] == row["samples"] == 48 and row["notes"]["solved"] == 48
    assert row["baseline"]["guess"]["exact_images"] == row["baseline"]["swapped"]["exact_images"] == 0


@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize("name", ["bias", "exclusive"])
def test_none_is_wrong(runs_without_ledger, name, options):
    row = attacked(runs_without_ledger("fedsgd", **options)[0], name, SERVER)
    assert row["metrics"]["exact_images"] == row["notes"]["solved"] >= 4


@pytest.mark.parametrize("name", ["bias", "exclusive"])
def test_every_sample_with_a_unit_of_its_own_in_the_first_step_is_found(runs_without_ledger, name):
    run, _ = runs_without_ledger("fedsgd", **SETTINGS[1])
    w1 = next(value for _, value in run.view(SERVER).values("w1_mean"))
    active = run.truth().images[:16] / 16 @ w1[:, :-1].T > 0
    alone = np.flatnonzero((active & (active.sum(axis=0) == 1)).any(axis=1))
    assert len(alone) >= 3
    found = rebuilt(run, name, SERVER)
    rows = {row.tobytes() for row in np.rint(found.values[: found.notes["solved"]] * 16).astype(np.int64)}
    missed = [i for i in alone if run.truth().images[i].astype(np.int64).tobytes() not in rows]
    assert len(missed) <= len(alone) // 4  # those whose error is below what float32 carries


def test_without_a_bias_or_a_dense_layer_it_says_so(runs_without_ledger):
    with pytest.raises(NotApplicable, match="no bias"):
        rebuilt(runs_without_ledger("fedsgd")[0], "bias", SERVER)
    for name in ("bias", "exclusive"):
        with pytest.raises(NotApplicable, match="convolution"):
            rebuilt(runs_without_ledger("fedsgd", first="conv:3x3x3")[0], name, SERVER)
    assert attacked(runs_without_ledger("fedsgd")[0], "exclusive", SERVER)["applicable"]


def test_changes_without_what_momentum_carries_over_are_of_one_batch(runs_without_ledger):
    run, _ = runs_without_ledger("fedsgd", **ALONE)
    found = unmixed(stated(run, SERVER))
    assert [len(each.index) for each in found] == [1] * 48
    x = run.truth().images
    for each in found[::7]:
        d, (row,) = each.bias, x[each.index]
        assert np.abs(each.matrix - d[:, None] * row).max() <= 2 * each.noise + 16 * 2 * each.bias_noise


def test_means_of_several_samples_are_taken_for_none():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 17, (6, 64))
    x[:, 0] = 16
    d = np.zeros((4, 6))
    d[0, 2], d[1, :2], d[2, 3:] = 0.3, 0.5, rng.standard_normal(3)
    d[3, [4, 5]] = 1.0
    for rows in (by_bias(d @ x, d.sum(axis=1), (1e-7, 1e-9), 16), by_scale(d @ x, 1e-7, 16)):
        assert rows.tolist() == [x[2].tolist()]


def test_of_few_values_a_wrong_scale_is_not_taken_for_the_right_one():
    """An image of MNIST with ten even levels is nearly whole at 246 / 255 of its scale too."""
    x = np.rint(np.random.default_rng(0).integers(0, 10, (1, 300)) * 255 / 9)
    assert np.abs(x * 246 / 255 - np.rint(x * 246 / 255)).max() < 0.05
    assert by_scale(x / 255, 0.05 / (4 * 255), 255).tolist() == []  # two scales would do: it is left
    many = np.random.default_rng(0).integers(0, 256, (1, 300))
    assert by_scale(many / 255, 0.05 / (4 * 255), 255).tolist() == many.tolist()


def test_a_row_of_which_a_multiple_could_be_the_sample_is_left():
    x = np.zeros((2, 64), np.int64)
    x[0, ::3], x[1, ::5], x[1, 1::5] = 255, 100, 50
    assert by_scale(np.array([[0.2, 0], [0, 0.1]]) @ x, 1e-8, 255).tolist() == []
    scales = np.array([0.2, 0.1])  # known by the bias: two values are enough, one could be chance
    assert by_bias(scales[:, None] * x, scales, (1e-8, 1e-9), 255).tolist() == [x[1].tolist()]
