"""Forward and backward passes against torch's own differentiation."""

import numpy as np
import pytest
import torch

from protocols import nn
from protocols.config import Activation, Config, Loss
from protocols.errors import ConfigError

RNG = np.random.default_rng(5)


def config(**options):
    return Config(features=6, classes=3, x_max=16, counts=(7,), momentum=0.0, lr=1.0, **options)


@pytest.mark.parametrize("layers", [(5,), (5, 4), (5, 4, 3)])
@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("loss", Loss)
def test_gradients_are_those_of_autograd(layers, activation, loss):
    c = config(layers=layers, activation=activation, loss=loss)
    upper, x, labels = nn.draw_upper(c, RNG), RNG.integers(0, 17, (7, 6)), RNG.integers(0, 3, 7)
    w1 = nn.draw_first(c, RNG)
    leaves = [p.clone().requires_grad_() for p in (w1, *upper.weights, *upper.biases)]
    mine = [w1, *upper.weights, *upper.biases]
    copy = nn.Upper(leaves[1 : 1 + len(upper.weights)], leaves[1 + len(upper.weights) :], [])
    total(nn.forward(copy, nn.scaled(x, 16) @ leaves[0].T, c).p, labels, loss).backward()
    before = [p.clone() for p in mine]
    run = nn.forward(upper, nn.scaled(x, 16) @ w1.T, c)
    dz1 = nn.backward(upper, run, run.p - nn.one_hot(labels, 3), c)
    w1 -= nn.first_layer_gradient(dz1, x, 16)
    for now, then, leaf in zip(mine, before, leaves, strict=True):
        assert torch.allclose(then - now, leaf.grad, atol=1e-6)


def total(p, labels, loss):
    y = nn.one_hot(labels, 3)
    if loss is Loss.CE:
        return -(y * p.log()).sum() / len(p)
    return torch.nn.functional.binary_cross_entropy(p, y, reduction="sum") / len(p)


def test_momentum_accumulates():
    c = Config(features=2, classes=2, x_max=1, counts=(1,), lr=0.1, momentum=0.5)
    w, v = torch.zeros(2), torch.zeros(2)
    for _ in range(2):
        nn.descend(w, v, torch.ones(2), c)
    assert torch.allclose(v, torch.tensor(1.5)) and torch.allclose(w, torch.tensor(-0.25))


def test_accuracy_counts_the_largest_output():
    c = config(layers=(3,))
    identity, x = np.eye(3, 6, dtype=np.float32), np.zeros((4, 6), dtype=int)
    x[[0, 1, 2, 3], [0, 1, 2, 2]] = 16
    assert (
        nn.accuracy(identity, [np.eye(3, dtype=np.float32)], [np.zeros(3, np.float32)], c, x, np.array([0, 1, 2, 0]))
        == 0.75
    )


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"epochs": 0}, {"layers": ()}, {"layers": (3, 0)}, {"lr": 0.0}, {"momentum": 1.0},
                                   {"weight_scale": -1}, {"weight_bound": 0.0}, {"lr": np.inf}, {"weight_bound": np.inf},
                                   {"lr": np.nan}, {"label_scale": 0}, {"weight_scale": 1, "weight_bound": 0.4}], ids=str)  # fmt: skip
def test_impossible_configurations_are_refused(wrong):
    with pytest.raises(ConfigError):
        Config(**{"features": 6, "classes": 3, "x_max": 16, "counts": (7,), **wrong})


def test_a_configuration_survives_json():
    c = config(layers=(5, 4), loss=Loss.BCE)
    assert Config.from_plain(c.as_plain()) == c
    with pytest.raises(ConfigError):
        Config.from_plain({"features": 3})
