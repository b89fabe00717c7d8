"""Heads against torch's autograd, one sample at a time; the integers that they become."""

import numpy as np
import pytest
import torch

from protocols.crypto.coins import Coins
from protocols.language.errors import BoundError, ConfigError
from protocols.network.head import Heads, Protect, Recipe, accuracy, coin_noise, train_heads
from protocols.network.head_integers import HeadFormat, integer_logits, quantise_features, quantise_head

V, N, D, K = 3, 10, 7, 5
RNG = np.random.default_rng(1)
X = RNG.random((V, N, D), dtype=np.float32)
Y = np.tile(np.arange(N) % K, (V, 1))


def by_torch(start, x, y, recipe, noise):
    """One head by autograd, every sample's gradient formed and clipped."""
    layers = [torch.tensor(layer, requires_grad=True) for layer in start]
    for step in range(recipe.steps):
        total = [torch.zeros_like(layer) for layer in layers]
        for row, label in zip(x, y, strict=True):
            a = torch.tensor(row)
            for place, layer in enumerate(layers):
                z = layer[:, :-1] @ a + layer[:, -1]
                a = torch.relu(z) if place < len(layers) - 1 else z
            grads = torch.autograd.grad(torch.nn.functional.cross_entropy(a, torch.tensor(label)), layers)
            norm = torch.sqrt(sum((g**2).sum() for g in grads))
            factor = min(1.0, recipe.clip / float(norm)) if recipe.protect is Protect.DP else 1.0
            total = [t + g * factor for t, g in zip(total, grads, strict=True)]
        for layer, t, z in zip(layers, total, noise[step], strict=True):
            layer.data -= recipe.lr / len(x) * (t + recipe.sigma * recipe.clip * z)
    return [layer.detach().numpy() for layer in layers]


def start_of(recipe, seed):
    tiny = Recipe(steps=1, lr=1e-30, init=recipe.init, hidden=recipe.hidden)
    return train_heads(X, Y, K, tiny, np.random.default_rng(seed)).layers


@pytest.mark.parametrize("hidden", [(), (6,), (6, 4)])
@pytest.mark.parametrize("protect", [Protect.NONE, Protect.DP])
def test_training_is_gradient_descent_with_each_sample_clipped(hidden, protect):
    recipe = Recipe(
        steps=3, lr=0.7, hidden=hidden, protect=protect, clip=0.4, sigma=0.5 * (protect is Protect.DP)
    )
    drawn = []

    def noise(shape):
        drawn.append(RNG.standard_normal(shape, dtype=np.float32))
        return drawn[-1]

    heads = train_heads(X, Y, K, recipe, np.random.default_rng(4), noise)
    layers = len(hidden) + 1
    drawn = drawn or [np.zeros((V, 1, 1), np.float32)] * 3 * layers
    steps = [[torch.tensor(z[1]) for z in drawn[s * layers : (s + 1) * layers]] for s in range(3)]
    expected = by_torch([layer[1] for layer in start_of(recipe, 4)], X[1], Y[1], recipe, steps)
    for found, want in zip(heads.layers, expected, strict=True):
        np.testing.assert_allclose(found[1], want, atol=2e-6)


def test_heads_of_a_batch_are_those_trained_alone_but_for_the_draws():
    recipe = Recipe(init=0.0)
    batch = train_heads(X, Y, K, recipe, np.random.default_rng(0))
    alone = train_heads(X[2:], Y[2:], K, recipe, np.random.default_rng(7))
    np.testing.assert_allclose(batch.weights[2], alone.weights[0], atol=1e-6)


def test_a_one_shot_head_holds_its_samples_less_their_mean():
    heads = train_heads(X[:, :K], Y[:, :K], K, Recipe(steps=2, lr=0.01, init=0.0), np.random.default_rng(0))
    centred = X[:, :K] - X[:, :K].mean(1, keepdims=True)
    cosine = (
        (heads.weights * centred).sum(2)
        / np.linalg.norm(heads.weights, axis=2)
        / np.linalg.norm(centred, axis=2)
    )
    assert cosine.min() > 0.99


def test_relaxloss_keeps_the_loss_near_its_level():
    recipe = Recipe(steps=200, lr=1.0, protect=Protect.RELAXLOSS, level=1.2)
    heads = train_heads(X[:, :K], Y[:, :K], K, recipe, np.random.default_rng(0))
    z = np.stack([Heads((heads.layers[0][v : v + 1],)).logits(X[v, :K])[0] for v in range(V)])
    p = np.exp(z) / np.exp(z).sum(2, keepdims=True)
    loss = -np.log(p[:, np.arange(K), np.arange(K)]).mean(1)
    assert np.all((loss > 0.9) & (loss < 1.5))


def test_noise_from_coins_is_standard_normal_and_never_repeats():
    coins = Coins(bytes(32))
    one, other = (coin_noise(coins.stream("noise"))((20, 1000)) for _ in range(2))
    assert abs(one.mean()) < 0.03 and abs(one.std() - 1) < 0.03 and not np.array_equal(one, other)


def test_accuracy_is_the_share_of_right_classes():
    heads = Heads((np.stack([np.eye(3, 4), -np.eye(3, 4)]).astype(np.float32),))
    assert accuracy(heads, np.eye(3, dtype=np.float32), np.arange(3)).tolist() == [1.0, 0.0]


def test_integer_heads_decide_as_the_real_ones_do():
    heads = train_heads(X, Y, K, Recipe(lr=1.0), np.random.default_rng(0))
    form, features = HeadFormat(), RNG.random((2000, D), dtype=np.float32)
    weights, bias = quantise_head(heads.weights[0], heads.bias[0], form)
    logits = integer_logits(weights, bias, quantise_features(features, form))
    assert np.abs(logits).max() <= form.head_bounds(K, D).logit
    assert np.mean(logits.argmax(1) == heads.logits(features)[0].argmax(1)) >= 0.99


@pytest.mark.parametrize("values", [np.full((2, 3), 8.01), np.full((2, 3), np.nan)])
def test_weights_beyond_the_format_are_refused(values):
    with pytest.raises(BoundError):
        quantise_head(values, np.zeros(2), HeadFormat())


@pytest.mark.parametrize("options", [{"steps": 0}, {"lr": 0.0}, {"protect": Protect.DP}, {"hidden": (0,)}])
def test_recipes_that_train_nothing_are_refused(options):
    with pytest.raises(ConfigError):
        Recipe(**options)
