"""A first convolution: against torch's, bit by bit against plain training, read by one step."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from parties.adversary.adversary import rebuild
from parties.adversary.attack import NotApplicable
from parties.adversary.attacks import conv as attack
from parties.adversary.solvers.least_squares import LeastSquares
from parties.data import datasets
from parties.record.view import View
from protocols import plain_fe
from protocols.language.errors import ConfigError
from protocols.language.options import as_plain, from_plain
from protocols.language.relations import Instance
from protocols.network import conv, nn
from protocols.network.config import Activation, Gradient, Init, Labels, Optimizer, Scheme
from scenarios.run.attacks import attack_run
from scenarios.run.baseline import train_plain
from scenarios.run.execute import execute
from scenarios.run.hosts import runtime_named
from scenarios.run.predict import predict, query
from tests.adversary.common import carved, rebuilt, stated
from tests.conftest import small
from tests.figures.test_plain_fe import assert_equal

FIRST = {"first": "conv:3x3x3", "samples": 24, "batch": 24}
SPECS = [("conv:4x3x3", (8, 8)), ("conv:2x5x1", (7, 9)), ("conv:3x2x4", (6, 5, 3)), ("conv:2x4x4", (4, 4, 3))]
RNG = np.random.default_rng(3)


def example(spec, shape, count=5):
    layer = conv.parse(spec, shape)
    return (
        layer,
        RNG.integers(0, 256, (count, layer.features)),
        RNG.integers(-99, 99, (layer.kernels, layer.length)),
    )


def torch_s(layer, x, w):
    """The same by torch: channels first, kernels (F, channels, rows, columns); in float64, exact here."""
    rows, columns, channels = layer.shape
    images = torch.tensor(x, dtype=torch.float64).reshape(-1, rows, columns, channels).permute(0, 3, 1, 2)
    return images, torch.tensor(w, dtype=torch.float64).reshape(-1, *layer.size, channels).permute(0, 3, 1, 2)


@pytest.mark.parametrize("spec, shape", SPECS)
def test_products_matrix_and_reals_are_torch_s_convolution(spec, shape):
    layer, x, w = example(spec, shape)
    expected = torch.nn.functional.conv2d(*torch_s(layer, x, w)).flatten(1).numpy()
    assert np.array_equal(conv.products(x, w, layer), expected)
    assert np.array_equal(x @ conv.matrix(w, layer).T, expected)
    reals = nn.first_layer(x, torch.tensor(w, dtype=torch.float32), 255, layer)
    assert np.allclose(reals.numpy(), expected / 255, atol=1e-2)


@pytest.mark.parametrize("spec, shape", SPECS)
def test_gradients_are_those_of_torch_in_all_three_forms(spec, shape):
    layer, x, w = example(spec, shape)
    images, kernels = torch_s(layer, x, w)
    kernels.requires_grad_()
    dz1 = RNG.integers(-9, 9, (len(x), layer.outputs))
    (torch.nn.functional.conv2d(images, kernels).flatten(1) * torch.tensor(dz1)).sum().backward()
    expected = kernels.grad.permute(0, 2, 3, 1).reshape(w.shape).numpy()
    assert np.array_equal(conv.gradient_products(dz1, x, layer), expected)
    assert np.array_equal(conv.folded(dz1.T @ x, layer), expected)
    mean = nn.first_layer_gradient(torch.tensor(dz1, dtype=torch.float32), x, 255, layer)
    assert np.allclose(mean.numpy(), expected / 255 / len(x), rtol=1e-4, atol=1e-3)


def test_many_images_are_taken_in_parts(monkeypatch):
    layer, x, w = example("conv:2x3x3", (8, 8))
    whole = conv.products(x, w, layer), conv.gradient_products(conv.products(x, w, layer), x, layer)
    monkeypatch.setattr(conv, "_ENTRIES", 2 * layer.positions * layer.length)
    assert len(list(conv.parts(5, layer))) == 3
    parts = conv.products(x, w, layer), conv.gradient_products(conv.products(x, w, layer), x, layer)
    assert all(map(np.array_equal, whole, parts))


PROTECTED = [
    {},
    {"scheme": Scheme.DDH},
    {"labels": Labels.FEBO, "gradient": Gradient.FE, "batch": 8},
    {
        "owners": 2,
        "batch": 5,
        "layers": "8,6",
        "hidden": None,
        "optimizer": Optimizer.ADAM,
        "activation": Activation.SIGMOID,
    },
]


@pytest.mark.parametrize("options", PROTECTED, ids=str)
def test_plain_fe_computes_the_bits_of_plain(runs, options):
    run, result = runs("plain_fe", **{**FIRST, **options})
    experiment = small("plain_fe", **{**FIRST, **options})
    assert_equal(run.final_weights(), train_plain(experiment, experiment.config))
    assert run.final_weights()["w1"].shape == (3, 9) and result["config"]["first"] == "conv:3x3x3"
    assert not run.faults() and 0.4 < plain_fe.payload_nbytes(run.config()) / moved(result) < 1.6


def moved(result):
    return sum(edge["bytes"] for edge in result["traffic"])


@pytest.mark.parametrize("labels", [Labels.CLEAR, Labels.OWNER])
def test_mitig2_computes_the_bits_of_plain(whole_runs, labels):
    run, result = whole_runs("mitig2", **FIRST, labels=labels)
    assert_equal(
        run.final_weights(), whole_runs("plain", **FIRST, labels=labels, init=Init.OWNER)[0].final_weights()
    )
    (hidden,) = [
        row for row in result["learned"] if row["party"] == "cloud_trainer" and row["quantity"] == "samples"
    ]
    assert hidden["how"] == "bounded" and "W1 unknown: 108 numbers" in hidden["detail"]


def test_a_convolution_learns(tmp_path):
    options = {"first": "conv:4x3x3", "samples": 600, "epochs": 12, "hidden": 32, "lr": 0.05}
    _, result = execute(replace(small("plain", **options), out=tmp_path / "run"))
    assert result["accuracy"]["test"] > 0.85 and result["accuracy"]["baseline_test"] > 0.85


def test_one_step_gives_every_pixel_to_every_attack(whole_runs):
    run, result = whole_runs("plain_fe", **FIRST)
    names = ["stack", "master_key", "smooth", "lp", "conv"]
    with runtime_named("inline", None) as make:
        rows = attack_run(run, names, ("cloud_trainer",), run.prior(), make.adversary)
    assert [
        (row["attack"], row["metrics"]["exact_pixels"], row["metrics"]["solved_at_step"]) for row in rows
    ] == [(name, 1.0, 0) for name in names]
    exact = {row["quantity"]: row["since_round"] for row in result["learned"] if row["how"] == "exact"}
    assert exact == {"samples": 0, "master key": 0}


def test_kernels_with_common_zeros_need_a_second_step(runs):
    """Two kernels of 3 x 3 have 8 common zeros: rank 64 - 8 although there are 72 equations."""
    run, _ = runs("plain_fe", first="conv:2x3x3", samples=24, batch=8, lr=0.5)
    view = run.view("cloud_trainer")
    found = rebuilt(run, "conv")
    assert found.notes["ranks"] == [[0, 56], [1, 64]] and found.solved_at_step == 1
    assert attack.expected_rank(run.config().conv) == 56
    first = next(row for row in view.rows("sk_w1"))
    with pytest.raises(NotApplicable, match="rank 56 of 64: 8 patterns"):
        rebuilt(run, "conv", until=first.seq)


@pytest.mark.parametrize(
    "kernels, channels, side", [(1, 1, 8), (2, 1, 9), (3, 1, 9), (3, 3, 8), (4, 3, 11), (5, 3, 11)]
)
def test_the_rank_of_one_step_is_the_expected_one(kernels, channels, side):
    layer, _, w = example(f"conv:{kernels}x3x3", (side, side, channels))
    rows = conv.matrix(w, layer)
    assert (
        LeastSquares(layer.features).add(rows) == np.linalg.matrix_rank(rows) == attack.expected_rank(layer)
    )


def test_summed_equations_of_rgb_are_solved_at_the_first_step(tmp_path):
    pictures = RNG.integers(0, 256, (12, 12, 12, 3)).astype(np.uint8)
    np.savez(tmp_path / "rgb.npz", images=pictures, labels=np.arange(12) % 3)
    data = {"dataset": "rgb.npz", "data_dir": tmp_path, "samples": 12, "first": "conv:8x3x3"}
    run, _ = execute(replace(small("plain_fe", **data), out=tmp_path / "run"))
    found = rebuilt(run, "conv")
    assert found.solved_at_step == 0 and found.notes["equations"] == 800 and found.notes["unknowns"] == 432
    assert np.array_equal(np.rint(found.values * 255), run.truth().images)


def test_wrong_keys_give_failures_and_no_images(runs):
    run = runs("plain_fe", **FIRST)[0]
    instance, prior = next(stated(run).of(Instance)), run.prior()
    system, keys, _ = attack.gather(instance)
    z = np.hstack([instance.products(key, 0, None) for key in keys])
    x, right = system.solve_integers(z + (np.arange(len(z)) % 2)[:, None] * RNG.integers(-9, 9, z.shape))
    assert right.tolist() == [i % 2 == 0 for i in range(len(z))] and x[right].max() <= prior.x_max


def test_the_attack_computes_from_the_cloud_s_view_and_nothing_else(runs, tmp_path, monkeypatch):
    """All but the cloud's view is gone, and no data set is read."""
    run, prior = runs("plain_fe", **FIRST)[0], runs("plain_fe", **FIRST)[0].prior()
    here = rebuilt(run, "conv", prior=prior)
    view = View(carved(run, ("cloud_trainer",), tmp_path))
    monkeypatch.setattr(datasets, "load", None)
    there = rebuild("conv", view, prior, RNG)
    assert here.values.tobytes() == there.values.tobytes() and here.index.tobytes() == there.index.tobytes()


def test_the_attack_does_not_fit_dense_layers_or_split_networks(runs):
    for run, why in ((runs()[0], "dense"), (runs("mitig2", **FIRST)[0], "holds no Instance")):
        with pytest.raises(NotApplicable, match=why):
            rebuilt(run, "conv")


def test_known_kernels_of_a_round_give_the_images_of_other_owners(whole_runs):
    _, result = whole_runs("mitig2", **{**FIRST, "first": "conv:4x3x3", "owners": 3, "batch": 4})
    rows = [row for row in result["learned"] if row["quantity"] == "samples" and "," in row["party"]]
    exact = {row["party"]: (row["of"], row["detail"]) for row in rows if row["how"] == "exact"}
    assert list(exact) == ["cloud_trainer, key_authority", "cloud_trainer, data_owner:0"]
    for (of, detail), solved in zip(exact.values(), (24, 16), strict=True):
        assert of == "all 24 samples" and f"{solved} samples solved in integers" in detail
    (alone,) = [r for r in result["learned"] if r["quantity"] == "samples" and r["party"] == "key_authority"]
    assert alone["how"] == "bounded" and "sums over patches" in alone["detail"]


@pytest.mark.parametrize("scenario", ["plain", "plain_fe", "mitig2"])
def test_the_trained_network_predicts(whole_runs, scenario, tmp_path):
    run, result = whole_runs(scenario, **FIRST)
    _, told = predict(query(run, None, None, 30, "inline", tmp_path / "asked"))
    assert told["samples"] == 30 and 0 <= told["accuracy"] <= 1
    assert not any(row["how"] == "exact" for row in told["learned"]) or scenario == "plain_fe"


@pytest.mark.parametrize(
    "first", ["6x5x5", "conv:6x5", "conv:0x3x3", "conv:ax3x3", "conv:6x5x5x1", "", "conv:2x9x3", "dense"]
)
def test_a_wrong_spec_is_refused_in_one_line(first):
    with pytest.raises(ConfigError, match=r"^--first.*(expects conv:|do not fit)") as told:
        conv.parse(first, (8, 8))
    assert "\n" not in str(told.value)


def test_what_has_no_convolution_says_so():
    with pytest.raises(ConfigError, match="--first is no option of mitig1"):
        small("mitig1", **FIRST)
    with pytest.raises(ConfigError, match="needs images of rows and columns"):
        conv.parse("conv:2x3x3", (64,))


def test_a_configuration_with_a_convolution_survives_json_and_older_ones_are_read():
    config = small("plain_fe", **FIRST).config
    assert from_plain(type(config), as_plain(config)) == config and config.width == 108
    older = {k: v for k, v in as_plain(small("plain_fe").config).items() if k not in ("first", "shape")}
    assert from_plain(type(config), older).conv is None
    with pytest.raises(ConfigError, match="cannot be of shape"):
        replace(config, features=63)
