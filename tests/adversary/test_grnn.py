"""A generator fitted to a gradient: DLG's LeNet on one image, a run, and what it does not take."""

import numpy as np
import pytest

from parties.adversary.attack import NotApplicable, Prior, Relations
from scenarios.score.metrics import ssim
from tests.adversary.common import attacked, rebuilt, solved
from tests.adversary.test_invert import gradient_of, large_digit

SERVER = "key_authority"
SHAPE = (28, 28)


def test_lenet_gives_one_image_and_its_class_away_and_another_gradient_another_image(monkeypatch):
    monkeypatch.setattr("parties.adversary.attacks.grnn._ITERATIONS", 300)
    prior, found = Prior(255, SHAPE), {}
    for number in (0, 1):
        image, label = large_digit(number)
        relation = gradient_of(image, label)
        found[number] = solved("grnn", Relations(lambda seen=relation: [seen], (SERVER,)), prior)
        assert found[number].notes["class_of_each"] == [label]
    image = large_digit(0)[0][None]
    error = {number: np.square(each.values - image).mean() for number, each in found.items()}
    assert error[0] < 0.01 < np.square(prior.guess() - image).mean() and error[1] > 10 * error[0]
    assert ssim(found[0].values, image, SHAPE, 0) > 0.8 > ssim(found[1].values, image, SHAPE, 0)


def test_the_first_image_of_a_run_comes_out(runs_without_ledger):
    given = {"samples": 4, "batch": 1, "first": "conv:6x3x3", "activation": "sigmoid", "hidden": 16}
    row = attacked(runs_without_ledger("fedsgd", **given)[0], "grnn", SERVER)
    assert row["samples"] == 1 and row["metrics"]["ssim"] > 0.9
    assert row["metrics"]["mse"] < row["baseline"]["guess"]["mse"] / 5
    assert row["metrics"]["mse"] < row["baseline"]["swapped"]["mse"] / 5


def test_a_batch_is_refused(runs_without_ledger):
    with pytest.raises(NotApplicable, match="more than one sample"):
        rebuilt(runs_without_ledger("fedsgd", batch=2, samples=4)[0], "grnn", SERVER)
