"""Moments of gradients by random weights: the paper's setting, a wide run, and each condition by its name."""

import numpy as np
import pytest
import torch

from parties.adversary.attack import NotApplicable
from parties.adversary.attacks.tensor import taken_apart
from protocols.language.relations import Gradient
from tests.adversary.common import attacked, rebuilt

SERVER = "key_authority"
PIXELS, SAMPLES, WIDE = 20, 4, 20_000


def gradient(seed, activation, classes, units=WIDE, samples=SAMPLES):
    """Random samples (b, n) of length 1, and the gradient of a network of two layers, the first normal."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    x = rng.standard_normal((samples, PIXELS))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    first = torch.randn(units, PIXELS, generator=generator, dtype=torch.float64)
    last = (torch.rand(classes, units, generator=generator, dtype=torch.float64) * 2 - 1) / units**0.5
    weights = [first, last, torch.zeros(classes, dtype=torch.float64)]

    def loss(weights, x, y):
        outputs = activation(x @ weights[0].T) @ weights[1].T + weights[2]
        return -(y * torch.log_softmax(outputs, 1)).sum(1).mean()

    asked = [weight.clone().requires_grad_() for weight in weights]
    y = torch.eye(classes, dtype=torch.float64)[rng.integers(0, classes, samples)]
    found = [g.numpy() for g in torch.autograd.grad(loss(asked, torch.tensor(x), y), asked)]
    return x, Gradient(np.arange(samples), lambda: [w.numpy() for w in weights], lambda: found, loss)


def cosines(x, rows):
    """Of each sample with the nearest row, up to sign."""
    return np.abs((x / np.linalg.norm(x, axis=1, keepdims=True))
                  @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T).max(axis=1)  # fmt: skip


@pytest.mark.parametrize(
    ("activation", "classes", "order"),
    [(torch.tanh, 2, 3), (torch.sigmoid, 2, 3), (torch.relu, 10, 2)],
    ids=["tanh", "sigmoid", "relu"],
)
def test_random_samples_come_out_of_a_wide_random_network(activation, classes, order):
    x, seen = gradient(0, activation, classes)
    found = taken_apart(seen, PIXELS, np.random.default_rng(0))
    assert found.order == order and cosines(x, found.rows).min() > 0.99
    other = taken_apart(gradient(1, activation, classes)[1], PIXELS, np.random.default_rng(0))
    assert cosines(x, other.rows).max() < 0.8  # of four random ones in 20 dimensions


def test_relu_with_one_output_and_narrow_networks_are_refused():
    for seen, why in (
        (gradient(0, torch.relu, 2)[1], "order 2 is the same for all outputs, order 3 is"),
        (gradient(0, torch.tanh, 2, units=500)[1], "has 500 units"),
        (gradient(0, torch.tanh, 2, units=1500, samples=8)[1], "do not tell 8 samples apart"),
    ):
        with pytest.raises(NotApplicable, match=why):
            taken_apart(seen, PIXELS, np.random.default_rng(0))


def test_the_first_gradient_of_a_wide_run_gives_its_images(runs_without_ledger):
    given = {"samples": 8, "batch": 2, "hidden": 5000}
    row = attacked(runs_without_ledger("fedsgd", **given)[0], "tensor", SERVER)
    assert row["samples"] == 2 and row["metrics"]["ssim"] > 0.9
    assert row["metrics"]["mse"] < row["baseline"]["guess"]["mse"] / 5
    assert row["metrics"]["mse"] < row["baseline"]["swapped"]["mse"] / 5


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"hidden": 32, "batch": 2}, "32 units"),
        ({"layers": "9,7", "hidden": None, "batch": 2}, "two dense layers"),
        ({"batch": 16}, "more than 8 samples"),
    ],
    ids=str,
)
def test_a_run_that_is_not_so_is_told_why(runs_without_ledger, given, why):
    with pytest.raises(NotApplicable, match=why):
        rebuilt(runs_without_ledger("fedsgd", **given)[0], "tensor", SERVER)
