"""What pruning leaves: pixels by the bias are exact or within bounds, and every other attack says why not."""

import numpy as np
import pytest

from parties.adversary.adversary import Adversary
from parties.adversary.attack import NotApplicable
from parties.adversary.solvers.pruned import of_changes, parts_by_bias
from tests.adversary.common import attacked, rebuilt, stated

SERVER = "key_authority"
GIVEN = {"samples": 24, "hidden": 32, "batch": 1, "bias": True, "momentum": 0.0, "lr": 0.005}


def test_half_of_the_entries_give_every_image_of_batches_of_one(runs_without_ledger):
    run, _ = runs_without_ledger("fedsgd", **GIVEN, defence=("prune:0.5",))
    row = attacked(run, "bias", SERVER)
    assert row["metrics"]["exact_images"] == row["notes"]["solved"] == 24
    assert row["baseline"]["swapped"]["exact_images"] == 0


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("share", ["0.5", "0.9"])
def test_the_bounds_of_pixels_hold(runs_without_ledger, batch, share):
    given = {**GIVEN, "batch": batch, "hidden": 64}
    run, _ = runs_without_ledger("fedsgd", **given, defence=(f"prune:{share}",))
    images, found = run.truth().images, 0
    for index, parts, _ in of_changes(stated(run, SERVER), 16):
        for part in parts:
            inside = (images[index] >= part.low) & (images[index] <= part.high)
            assert inside.all(axis=1).any()
            found += 1
    assert found > 4


def test_a_tenth_of_the_entries_still_beats_the_guess(runs_without_ledger):
    run, _ = runs_without_ledger("fedsgd", **GIVEN, defence=("prune:0.9",))
    row = attacked(run, "bias", SERVER)
    assert row["notes"]["solved"] == 0 and max(row["notes"]["pixels_known"]) < 0.6
    assert row["metrics"]["mse"] < row["baseline"]["guess"]["mse"] / 3
    assert row["metrics"]["mse"] < row["baseline"]["swapped"]["mse"] / 3


def test_mixtures_give_nothing():
    rng = np.random.default_rng(0)
    x, errors = rng.integers(0, 17, (2, 64)), rng.standard_normal((16, 2))
    assert parts_by_bias(errors @ x, errors.sum(axis=1), (1e-9, 1e-9), 16) == []


@pytest.mark.parametrize("name", ["exclusive", "spear", "lattice_span", "cocktail", "update"])
def test_what_needs_the_whole_change_says_why_not(runs_without_ledger, name):
    run, _ = runs_without_ledger("fedsgd", **GIVEN, defence=("prune:0.5",))
    with pytest.raises(NotApplicable, match="leave out what moved least"):
        rebuilt(run, name, SERVER)


def test_without_a_bias_nothing_is_alone(runs_without_ledger):
    run, _ = runs_without_ledger("fedsgd", **{**GIVEN, "bias": False}, defence=("prune:0.5",))
    with pytest.raises(NotApplicable, match="in 0 pruned changes"):
        rebuilt(run, "bias", SERVER)


def lines(run):
    found = Adversary(run.view_sources((SERVER,))).learned()
    return [line for line in found if line.quantity == "samples"]


def test_the_ledger_says_what_is_whole_and_what_goes_further(runs_without_ledger):
    whole = lines(runs_without_ledger("fedsgd", **GIVEN, defence=("prune:0.5",))[0])
    assert [line.how for line in whole] == ["exact"] and "(bias)" in whole[0].detail
    left = lines(runs_without_ledger("fedsgd", **GIVEN, defence=("prune:0.9",))[0])
    assert {line.how for line in left} == {"bounded"}
    assert any("further: bias, invert" in line.detail for line in left)
    assert any("grnn (one)" in line.detail for line in left)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"batch": 32, "hidden": 64, "bias": True}, ("further: bias, lattice-span, cocktail", "invert")),
        ({"batch": 4, "defence": ("dp:8",)}, ("tried: not analysed", "invert (up to 64 samples in one)")),
        ({"batch": 8, "local_steps": 2}, ("stationary (up to 256 samples)",)),
        ({"batch": 24, "hidden": 200}, ("spear",)),
        ({"batch": 2, "hidden": 1000, "samples": 8, "defence": ("dp:8",)}, ("tensor (up to 8)",)),
        ({"optimizer": "adam", "lr": 0.01}, ("Adam", "not analysed")),
    ],
    ids=str,
)
def test_a_line_that_bounds_samples_names_the_attacks_that_go_further(runs_without_ledger, given, names):
    found = lines(runs_without_ledger("fedsgd", **given)[0])
    bounded = " | ".join(line.detail for line in found if line.how == "bounded")
    assert all(name in bounded for name in names), bounded
