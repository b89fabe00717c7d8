"""Forward and backward passes against torch's own differentiation."""

import numpy as np
import pytest
import torch

from protocols import plain
from protocols.language.errors import ConfigError
from protocols.language.options import as_plain, from_plain
from protocols.network import nn
from protocols.network.config import Activation, Loss, Optimizer, Training

RNG = np.random.default_rng(5)


def config(**options):
    return Training(features=6, classes=3, x_max=16, counts=(7,), momentum=0.0, lr=1.0, **options)


@pytest.mark.parametrize("layers", [(5,), (5, 4), (5, 4, 3)])
@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("loss", Loss)
def test_gradients_are_those_of_autograd(layers, activation, loss):
    c = config(layers=layers, activation=activation, loss=loss)
    w1, layers = nn.draw_first(c, RNG), nn.draw_layers(nn.upper_sizes(c), c, RNG)
    x, labels = RNG.integers(0, 17, (7, 6)), RNG.integers(0, 3, 7)
    mine = [w1, *(layer.weight for layer in layers), *(layer.bias for layer in layers)]
    before = [weight.value.clone() for weight in mine]
    leaves = [value.clone().requires_grad_() for value in before]
    total(by_hand(leaves, x, c), labels, loss).backward()
    run = nn.forward_hidden(layers[:-1], nn.scaled(x, 16) @ w1.value.T, c)
    error = nn.forward_output(layers[-1], run.a[-1], c) - nn.one_hot(labels, 3)
    dz1 = nn.backward_hidden(layers[:-1], run, nn.backward_output(layers[-1], run.a[-1], error, c), c)
    nn.descend(w1, nn.first_layer_gradient(dz1, x, 16), c)
    for now, then, leaf in zip(mine, before, leaves, strict=True):
        assert torch.allclose(then - now.value, leaf.grad, atol=1e-6)


def by_hand(leaves, x, c):
    """P of weights W1, W2, ..., b2, ...: an independent forward pass."""
    activate = torch.relu if c.activation is Activation.RELU else torch.sigmoid
    a = activate(torch.tensor(x / 16, dtype=torch.float32) @ leaves[0].T)
    depth = len(c.layers)
    for i in range(depth):
        z = a @ leaves[1 + i].T + leaves[1 + depth + i]
        a = activate(z)
    return torch.softmax(z, 1) if c.loss is Loss.CE else torch.sigmoid(z)


def total(p, labels, loss):
    y = nn.one_hot(labels, 3)
    if loss is Loss.CE:
        return -(y * p.log()).sum() / len(p)
    return torch.nn.functional.binary_cross_entropy(p, y, reduction="sum") / len(p)


def test_momentum_accumulates():
    c = Training(features=2, classes=2, x_max=1, counts=(1,), lr=0.1, momentum=0.5)
    w = nn.track(torch.zeros(2), c)
    for _ in range(2):
        nn.descend(w, torch.ones(2), c)
    assert torch.allclose(w.mean, torch.tensor(1.5)) and torch.allclose(w.value, torch.tensor(-0.25))


def test_adam_is_torch_s_adam():
    c = Training(features=2, classes=2, x_max=1, counts=(1,), lr=0.1, optimizer=Optimizer.ADAM)
    mine, theirs = nn.track(torch.zeros(3), c), torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([theirs], lr=0.1)
    for step in range(4):
        theirs.grad = torch.tensor([1.0, -2.0, 0.1 * step])
        optimizer.step()
        nn.descend(mine, theirs.grad, c)
    assert torch.allclose(mine.value, theirs, atol=1e-6)


def test_accuracy_counts_the_largest_output():
    c = config(layers=(3,))
    identity, x = np.eye(3, 6, dtype=np.float32), np.zeros((4, 6), dtype=int)
    x[[0, 1, 2, 3], [0, 1, 2, 2]] = 16
    assert (
        nn.accuracy(
            identity, [np.eye(3, dtype=np.float32)], [np.zeros(3, np.float32)], c, x, np.array([0, 1, 2, 0])
        )
        == 0.75
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 0},
        {"epochs": 0},
        {"layers": ()},
        {"layers": (3, 0)},
        {"lr": 0.0},
        {"momentum": 1.0},
        {"weight_scale": -1},
        {"weight_bound": 0.0},
        {"lr": np.inf},
        {"weight_bound": np.inf},
        {"lr": np.nan},
        {"label_scale": 0},
        {"weight_scale": 1, "weight_bound": 0.4},
    ],
    ids=str,
)
def test_impossible_configurations_are_refused(wrong):
    with pytest.raises(ConfigError):
        plain.Options(**{"features": 6, "classes": 3, "x_max": 16, "counts": (7,), **wrong})


def test_a_configuration_survives_json():
    c = config(layers=(5, 4), loss=Loss.BCE)
    assert from_plain(Training, as_plain(c)) == c
    with pytest.raises(ConfigError):
        from_plain(Training, {"features": 3})
