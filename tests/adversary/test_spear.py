"""SPEAR in its paper's setting, and on runs: what it returns is right, or it says why there is nothing."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from parties.adversary.attack import NotApplicable
from parties.adversary.solvers.sparse import sparse_factors
from tests.adversary.common import attacked, rebuilt

SERVER = "key_authority"


def gradient(seed, samples, hidden, pixels, classes=10):
    """Random images (b, n), standard normal, and the gradient of the first layer and its bias of a ReLU
    network of two hidden layers, in float64.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    x = torch.tensor(rng.standard_normal((samples, pixels)))
    y = torch.tensor(rng.integers(0, classes, samples))
    sizes = (pixels, hidden, hidden, classes)
    weights = [
        (
            (torch.rand(out, into, generator=generator, dtype=torch.float64) * 2 - 1) / into**0.5
        ).requires_grad_()
        for into, out in pairwise(sizes)
    ]
    bias = torch.zeros(hidden, dtype=torch.float64, requires_grad=True)
    a = torch.relu(torch.relu(x @ weights[0].T + bias) @ weights[1].T)
    torch.nn.functional.cross_entropy(a @ weights[2].T, y).backward()
    return x.numpy(), weights[0].grad.numpy(), bias.grad.numpy()


def errors(seed, samples, hidden, pixels):
    x, dw, db = gradient(seed, samples, hidden, pixels)
    found = sparse_factors(dw, samples, 1e-15 * np.abs(dw).max(), np.random.default_rng(seed))
    if found is None:
        return np.inf
    rows = found.rows / np.linalg.lstsq(found.columns, db, rcond=None)[0][:, None]
    return max(np.abs(rows - image).max(axis=1).min() for image in x)


def test_random_images_come_out_in_the_setting_of_the_paper():
    """h 200, B 10: every image to 1e-6 in at least 95 % of 20 batches."""
    assert sum(errors(seed, 10, 200, 784) < 1e-6 for seed in range(20)) >= 19


def test_more_samples_than_units_or_a_wrong_number_of_them_is_nothing():
    _, dw, _ = gradient(0, 6, 40, 64)
    for samples in (5, 7):
        assert sparse_factors(dw, samples, 1e-15, np.random.default_rng(0)) is None
    _, dw, _ = gradient(0, 12, 10, 64)
    assert sparse_factors(dw, 12, 1e-15, np.random.default_rng(0)) is None


@pytest.mark.parametrize("bias", [True, False])
def test_what_it_returns_of_a_run_is_right(runs_without_ledger, bias):
    given = {"bias": bias, "hidden": 200, "batch": 4}
    row = attacked(runs_without_ledger("fedsgd", **given)[0], "spear", SERVER)
    assert row["metrics"]["exact_images"] == row["notes"]["solved"] >= 16
    assert row["baseline"]["guess"]["exact_images"] == row["baseline"]["swapped"]["exact_images"] == 0


def test_its_conditions_are_named(runs_without_ledger):
    with pytest.raises(NotApplicable, match="sparse enough"):
        rebuilt(runs_without_ledger("fedsgd", batch=8, hidden=32)[0], "spear", SERVER)
    with pytest.raises(NotApplicable, match="sums up at least 16"):
        rebuilt(runs_without_ledger("fedsgd", hidden=8)[0], "spear", SERVER)
