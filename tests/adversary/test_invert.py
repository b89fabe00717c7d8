"""Images from gradients: DLG's LeNet on one image, batches of runs, and what the relation says."""

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from torch.nn import functional

from parties.adversary.attack import NotApplicable, Prior, Relations
from parties.data.datasets import DataSpec, load
from protocols.language.relations import Gradient
from scenarios.score.metrics import ssim
from tests.adversary.common import attacked, rebuilt, solved, stated

SERVER = "key_authority"
STRIDES = (2, 2, 1)  # of the three convolutions of DLG's LeNet: 12 kernels of 5 x 5, sigmoids between


def lenet(weights, x, y):
    """The mean loss of DLG's LeNet, of images (m, 784)."""
    *convolutions, dense, bias = weights
    a = x.reshape(-1, 1, 28, 28)
    for i, stride in enumerate(STRIDES):
        a = functional.conv2d(a, convolutions[2 * i], convolutions[2 * i + 1], stride=stride, padding=2)
        a = torch.sigmoid(a)
    return -(y * functional.log_softmax(functional.linear(a.flatten(1), dense, bias), 1)).sum(1).mean()


def gradient_of(x, label, seed=0):
    """The relation of one image (784,) under a LeNet whose weights are uniform in +-1/2, as in DLG."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((12, 1, 5, 5), (12,), (12, 12, 5, 5), (12,), (12, 12, 5, 5), (12,), (10, 588), (10,))
    weights = [torch.rand(shape, generator=generator) - 0.5 for shape in shapes]
    for weight in weights:
        weight.requires_grad_()
    y = torch.eye(10)[[label]]
    found = torch.autograd.grad(lenet(weights, torch.tensor(x[None], dtype=torch.float32), y), weights)
    arrays = [weight.detach().numpy() for weight in weights]
    return Gradient(np.array([0]), lambda: arrays, lambda: [g.numpy() for g in found], lenet)


def large_digit(number):
    """A digit of 8 x 8 pixels, enlarged to 28 x 28, and its class."""
    data = load(DataSpec("digits", None, False, 40, 0))
    image = np.clip(zoom(data.x_train[number].reshape(8, 8) / 16, 3.5, order=1), 0, 1)
    return image.ravel(), int(data.y_train[number])


@pytest.mark.parametrize("number", [0, 1])
def test_lenet_gives_one_image_away(number):
    image, label = large_digit(number)
    relation = gradient_of(image, label)
    prior = Prior(255, (28, 28))
    found = solved("invert", Relations(lambda: [relation], (SERVER,)), prior)
    assert found.notes["samples_of_each_class"][0][label] == 1
    assert ssim(found.values, image[None], (28, 28), 0) >= 0.8
    guess = np.tile(prior.guess(), (1, 1))
    assert ssim(guess, image[None], (28, 28), 0) < 0.5


def own_network(weights, x, y):
    """Of images (m, 784): two convolutions with ReLU, a mean over 2 x 2 after each, two dense layers."""
    a = x.reshape(-1, 1, 28, 28)
    for kernels, bias in (weights[:2], weights[2:4]):
        a = functional.avg_pool2d(torch.relu(functional.conv2d(a, kernels, bias, padding=1)), 2)
    a = torch.relu(functional.linear(a.flatten(1), weights[4], weights[5]))
    return -(y * functional.log_softmax(functional.linear(a, weights[6], weights[7]), 1)).sum(1).mean()


def test_a_network_of_its_own_with_several_convolutions_gives_an_image_away():
    """Any loss in torch will do: fedsgd itself has one convolution at most."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((8, 1, 3, 3), (8,), (16, 8, 3, 3), (16,), (64, 784), (64,), (10, 64), (10,))
    weights = [
        (torch.rand(shape, generator=generator) * 2 - 1) / max(np.prod(shape[1:]), 1) ** 0.5
        for shape in shapes
    ]
    image, label = large_digit(0)
    asked, y = [w.clone().requires_grad_() for w in weights], torch.eye(10)[[label]]
    found = torch.autograd.grad(own_network(asked, torch.tensor(image[None], dtype=torch.float32), y), asked)
    relation = Gradient(
        np.array([0]), lambda: [w.numpy() for w in weights], lambda: [g.numpy() for g in found], own_network
    )
    prior = Prior(255, (28, 28))
    rebuilt = solved("invert", Relations(lambda: [relation], (SERVER,)), prior)
    error, guess = (np.square(v - image).mean() for v in (rebuilt.values[0], prior.guess()))
    assert error < guess / 10 and ssim(rebuilt.values, image[None], (28, 28), 0) >= 0.7


def test_batches_under_a_convolution_come_out_far_better_than_the_guess(runs_without_ledger):
    given = {"batch": 4, "samples": 16, "first": "conv:6x3x3", "hidden": 16}
    row = attacked(runs_without_ledger("fedsgd", **given)[0], "invert", SERVER)
    assert row["samples"] == 16
    assert row["metrics"]["mse"] < row["baseline"]["guess"]["mse"] / 2
    assert row["metrics"]["ssim"] > row["baseline"]["guess"]["ssim"] + 0.1


@pytest.mark.parametrize(
    "options",
    [
        {"bias": True, "layers": "9,7", "hidden": None, "momentum": 0.9},
        {"first": "conv:3x3x3", "bias": True, "activation": "sigmoid", "loss": "bce", "momentum": 0.5},
        {"owners": 3, "batch": 4, "per_round": 2, "rounds": 4, "epochs": None, "pixels": "raw", "lr": 0.001},
        {"owners": 3, "batch": 4, "defence": ("secure-aggregation",)},
    ],
    ids=str,
)
def test_the_gradients_of_a_view_are_those_of_its_samples(runs_without_ledger, options):
    run, _ = runs_without_ledger("fedsgd", **options)
    truth, every = run.truth(), list(stated(run, SERVER).of(Gradient))
    assert every and all(each.exact for each in every)
    for each in every[:: max(len(every) // 4, 1)]:
        weights = [torch.tensor(w, dtype=torch.float64).requires_grad_() for w in each.weights()]
        x = torch.tensor(truth.images[each.samples] / truth.x_max)
        y = torch.eye(10, dtype=torch.float64)[truth.labels[each.samples].astype(np.int64)]
        expected = torch.autograd.grad(each.loss(weights, x, y), weights)
        lr = run.config().lr
        for found, right, weight in zip(each.gradients(), expected, weights, strict=True):
            rounding = 2.0**-22 * float(weight.detach().abs().max()) / lr
            assert np.abs(found - right.numpy()).max() <= rounding + 1e-5 * float(right.abs().max())


def test_what_is_no_gradient_of_one_batch_is_named(runs_without_ledger):
    for options, why in (
        ({"batch": 4, "local_steps": 2}, "several steps"),
        ({"optimizer": "adam", "lr": 0.01}, "Adam"),
    ):
        with pytest.raises(NotApplicable, match=why):
            rebuilt(runs_without_ledger("fedsgd", **options)[0], "invert", SERVER)
