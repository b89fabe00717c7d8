"""Federated learning: what one owner computes, what is averaged, and what owners do to their changes."""

import numpy as np
import pytest
import torch

from parties.record.view import Kind
from protocols.language.errors import ConfigError
from protocols.network import dp, nn
from protocols.network.config import Activation, Loss, Optimizer, Pixels
from protocols.parts import changes
from scenarios.run.baseline import train_plain
from tests.adversary.common import stated
from tests.conftest import small
from tests.figures.test_split import assert_same_bits


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": True, "layers": "12,9,7", "hidden": None},
        {"first": "conv:3x3x3", "bias": True},
        {"batch": 6, "local_steps": 4},
        {"optimizer": Optimizer.ADAM, "lr": 0.01},
        {"activation": Activation.SIGMOID, "loss": Loss.BCE, "pixels": Pixels.RAW, "batch": 10, "lr": 0.005},
    ],
    ids=str,
)
def test_one_owner_computes_the_bits_of_plain(runs_without_ledger, options):
    run, result = runs_without_ledger("fedsgd", **{**options, "epochs": 2})
    experiment = small("fedsgd", **{**options, "epochs": 2})
    assert_same_bits(run, train_plain(experiment, experiment.config))
    assert result["accuracy"]["test"] == result["accuracy"]["baseline_test"]


def test_one_step_without_momentum_is_a_step_of_all_owners_on_their_joint_batch(runs_without_ledger):
    """FedSGD: the mean of copies is a step with the mean of the gradients, up to rounding."""
    many, _ = runs_without_ledger("fedsgd", owners=4, batch=3, momentum=0.0, rounds=1, epochs=None)
    start = next(value for _, value in many.view("key_authority").values("w1_mean"))
    truth, config = many.truth(), many.config()
    first = np.concatenate([np.arange(3) + 12 * owner for owner in range(4)])
    layers = next(v for _, v in many.view("key_authority").values("head_mean", Kind.SENT))
    weight = torch.tensor(start, requires_grad=True)
    hidden = torch.relu(nn.scaled(truth.images[first], config.x_max) @ weight.T)
    outputs = hidden @ torch.tensor(layers[:, :-1]).T + torch.tensor(layers[:, -1])
    torch.nn.functional.cross_entropy(outputs, torch.tensor(truth.labels[first].astype(np.int64))).backward()
    expected = start - config.lr * weight.grad.numpy()
    assert np.allclose(many.final_weights()["w1"], expected, rtol=0, atol=1e-7)
    assert not np.allclose(expected, start, rtol=0, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"first": "conv:2x3x3"}, {"layers": "7,6", "hidden": None}], ids=str)
def test_no_gradient_of_a_sample_is_longer_than_its_bound(runs_without_ledger, options):
    given = {
        **options,
        "samples": 48,
        "batch": 1,
        "bias": True,
        "momentum": 0.0,
        "rounds": 12,
        "epochs": None,
    }
    moved = {}
    for name, defence in (("clear", ()), ("clipped", ("clip:0.5",))):
        run, _ = runs_without_ledger("fedsgd", **given, defence=defence)
        moved[name] = [np.sqrt(total) for total in lengths(run)]
    assert max(moved["clipped"]) <= 0.5 * 1.001 and min(moved["clear"][:1]) > 0.6
    assert np.isclose(moved["clipped"][0], 0.5, rtol=1e-3)


def lengths(run):
    """Squared lengths of the changes of each round, over the learning rate."""
    view, lr = run.view("key_authority"), run.config().lr
    for number in range(12):
        total = 0.0
        for name in ("w1", "hidden", "head"):
            rows = {(r.label, r.round): r for r in view.rows(None) if r.phase == "average"}
            if (f"{name}_mean", number) in rows:
                before, after = (view.value(rows[f"{name}_{w}", number]) for w in ("mean", "copy"))
                total += float((((before.astype(float) - after) / lr) ** 2).sum())
        yield total


def test_noise_has_the_deviation_that_its_epsilon_asks_for(runs_without_ledger):
    given = {"momentum": 0.0, "batch": 16, "defence": ("dp:2",)}
    noisy, quiet = (
        runs_without_ledger("fedsgd", **{**given, "defence": d})[0] for d in (("dp:2",), ("clip:1",))
    )
    config = noisy.config()
    assert changes.visits(config) == 1
    sigma = changes.sigma(config)
    assert np.isclose(dp.epsilon_for(sigma, dp.usual_delta(48), 1), 2.0, rtol=1e-6)
    first = [next(v for _, v in run.view("key_authority").values("w1_copy")) for run in (noisy, quiet)]
    noise = (first[0].astype(float) - first[1]) / config.lr * 16
    assert abs(noise.std() / sigma - 1) < 0.15  # 512 numbers: 3 % expected
    relations = stated(noisy, "key_authority")
    assert "noise" in next(r.why for r in relations if type(r).__name__ == "Without")


def test_pruned_copies_move_in_the_largest_entries_alone(runs_without_ledger):
    given = {"momentum": 0.0, "bias": True}
    pruned, whole = (
        next(
            v
            for _, v in runs_without_ledger("fedsgd", **given, defence=d)[0]
            .view("key_authority")
            .values("w1_copy")
        )
        for d in (("prune:0.9",), ())
    )
    start = next(
        v
        for _, v in runs_without_ledger("fedsgd", **given)[0]
        .view("key_authority")
        .values("w1_mean", Kind.SENT)
    )
    kept = pruned != start
    assert abs(kept.mean() - 0.1) < 0.01 and np.array_equal(pruned[kept], whole[kept])
    assert np.abs(whole - start)[kept].min() >= np.abs(whole - start)[~kept].max()


def test_secure_aggregation_gives_the_same_means(runs_without_ledger):
    given = {"owners": 3, "batch": 4, "layers": "8,6", "hidden": None, "bias": True}
    clear = runs_without_ledger("fedsgd", **given)[0].final_weights()
    masked = runs_without_ledger("fedsgd", **given, defence=("secure-aggregation",))[0].final_weights()
    assert np.allclose(clear["w1"], masked["w1"], rtol=0, atol=1e-6)
    assert all(
        np.allclose(a, b, rtol=0, atol=1e-6) for a, b in zip(clear["weights"], masked["weights"], strict=True)
    )


def test_what_cannot_keep_its_promise_is_refused():
    for options in (
        {"defence": ("dp:1",), "optimizer": Optimizer.ADAM},
        {"defence": ("prune:1",)},
        {"defence": ("secure-aggregation",)},
    ):
        with pytest.raises(ConfigError):
            small("fedsgd", **options)
    with pytest.raises(ConfigError, match="--bias"):
        small("plain", bias=True, weight_scale=256)
