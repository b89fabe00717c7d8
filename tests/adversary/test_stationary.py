"""Samples from trained weights: two classes in a wide network, sums over owners, and what is refused."""

import numpy as np
import pytest
import torch

from parties.adversary.attack import NotApplicable, Prior, Relations
from parties.data.datasets import DataSpec, load
from protocols.language.relations import Trained
from tests.adversary.common import attacked, rebuilt, solved

SHAPE, SAMPLES, WIDE = (8, 8), 6, 3000


def loss(weights, x, y):
    outputs = torch.relu(x @ weights[0].T) @ weights[1].T + weights[2]
    return -(y * torch.log_softmax(outputs, 1)).sum(1).mean()


def digits(skipped):
    """Images (m, 64) of 3 and 8, after those that are skipped, and which."""
    data = load(DataSpec("digits", None, False, 1400, 0))
    which = [np.flatnonzero(data.y_train == c)[skipped : skipped + SAMPLES // 2] for c in (3, 8)]
    return data.x_train[np.concatenate(which)] / 16, np.repeat([0, 1], SAMPLES // 2)


def trained(skipped):
    """The relation of a network that learned some digits, all at once."""
    x, labels = digits(skipped)
    generator = torch.Generator().manual_seed(0)
    first = (torch.rand(WIDE, 64, generator=generator) * 2 - 1) / 8
    last = (torch.rand(2, WIDE, generator=generator) * 2 - 1) / WIDE**0.5
    begun = [first, last, torch.zeros(2)]
    weights = [w.clone().requires_grad_() for w in begun]
    inputs, y = torch.tensor(x, dtype=torch.float32), torch.eye(2)[labels]
    for _ in range(100):
        for w, g in zip(weights, torch.autograd.grad(loss(weights, inputs, y), weights), strict=True):
            w.data -= 0.05 * g
    ends = [[w.detach().numpy() for w in each] for each in (begun, weights)]
    return x, Trained(np.arange(SAMPLES), lambda: ends[0], lambda: ends[1], loss)


def nearest(x, rows):
    """Mean squared error of each image from the nearest row."""
    return np.square(x[:, None] - rows[None]).mean(axis=2).min(axis=1)


def test_images_of_two_classes_come_out_of_a_wide_network(monkeypatch):
    monkeypatch.setattr("parties.adversary.attacks.stationary._ITERATIONS", 1600)
    prior, found = Prior(16, SHAPE), {}
    for skipped in (0, 30):
        relation = trained(skipped)[1]
        found[skipped] = solved("stationary", Relations(lambda seen=relation: [seen], ()), prior)
    x, data = digits(0)[0], load(DataSpec("digits", None, False, 1400, 0))
    means = np.stack([data.x_train[data.y_train == c][60:].mean(axis=0) / 16 for c in (3, 8)])
    mine, control = (np.median(nearest(x, each.values)) for each in found.values())
    assert mine < 0.7 * np.median(nearest(x, means)) and mine < 0.5 * control
    assert "hours" in found[0].notes["extrapolated"]


def test_a_sum_over_owners_of_several_steps_gives_more_than_the_guess(runs_without_ledger, monkeypatch):
    monkeypatch.setattr("parties.adversary.attacks.stationary._ITERATIONS", 800)
    given = {"owners": 4, "samples": 8, "batch": 2, "hidden": 3000, "epochs": 60, "momentum": 0.0, "lr": 0.1,
             "defence": ("secure-aggregation",)}  # fmt: skip
    row = attacked(runs_without_ledger("fedsgd", **given)[0], "stationary", "key_authority")
    assert row["samples"] == 8 and row["notes"]["from"] == "the first and the last weights"
    assert row["metrics"]["mse"] < 0.8 * row["baseline"]["guess"]["mse"]
    assert row["metrics"]["mse"] < 0.5 * row["baseline"]["swapped"]["mse"]


def test_what_is_no_sum_of_gradients_or_a_job_for_a_gpu_is_refused(runs_without_ledger):
    for options, why in (({"optimizer": "adam", "lr": 0.01}, "Adam"), ({"samples": 300}, "at most 256")):
        with pytest.raises(NotApplicable, match=why):
            rebuilt(runs_without_ledger("fedsgd", **options)[0], "stationary", "key_authority")
