"""vertical_fe computes, bit by bit, what the same training in the clear does with the same rounding."""

import numpy as np
import pytest

from parties.record.view import Kind
from protocols import vertical_fe
from protocols.language.errors import ConfigError
from scenarios.run.catalogue import find_scenario
from scenarios.run.experiment import prepare

TINY = {"samples": 40, "batch": 16, "epochs": 2, "lr": 0.1}


def weights(run):
    return [np.asarray(v) for _, v in run.view("cloud_trainer").values("accuracy", Kind.OUTPUT)]


def in_the_clear(x, y, config):
    """W after every epoch, from samples (N, n) and labels (N,), sample by sample."""
    scale, top, size = config.weight_scale, config.x_max, config.batch
    times, slope = (1, 1) if config.model is vertical_fe.Model.LINEAR else (2, 4)
    w, found = np.zeros((len(config.heads), x.shape[1])), []
    for _ in range(config.epochs):
        for first in range(0, len(x), size):
            rounded = np.rint(w * scale).astype(np.int64)
            g = np.zeros(w.shape, np.int64)
            for row, label in zip(
                x[first : first + size].astype(np.int64), y[first : first + size], strict=True
            ):
                for k, head in enumerate(config.heads):
                    t = 1 if label == head else -1
                    g[k] += (rounded[k] @ row - times * scale * top * t) * row
            count = len(x[first : first + size])
            w = w - g * (config.lr / (slope * count * scale * top**2))
        found.append(w)
    return found


@pytest.mark.parametrize("more", [
    {"target": 1}, {"target": 3, "owners": 3, "model": "logistic"}, {"mode": "fedv", "owners": 2},
    {"mode": "fedv", "target": 0, "model": "logistic"},
], ids=str)  # fmt: skip
def test_weights_are_those_of_training_in_the_clear_bit_by_bit(runs, more):
    run, result = runs("vertical_fe", **TINY, **more)
    truth, config = run.truth(), run.config()
    expected = in_the_clear(truth.images, truth.labels, config)
    assert len(expected) == 2 and np.abs(expected[-1]).max() > 0.02
    for found, right in zip(weights(run), expected, strict=True):
        assert np.array_equal(found, right)
    x, y = truth.images, truth.labels
    assert result["accuracy"]["train"] == vertical_fe.accuracy(expected[-1], config, x, y)


def test_heads_for_all_classes_learn_each_what_one_learns_alone(runs):
    every, one = (
        runs("vertical_fe", **TINY, **more)[0]
        for more in ({"mode": "fedv", "owners": 2, "target": -1}, {"target": 1})
    )
    assert np.array_equal(weights(every)[-1][1:2], weights(one)[-1])


@pytest.mark.parametrize(("more", "said"), [
    ({"target": 10}, "--target: expected a class below 10"), ({"split": "iid"}, "--split iid is not for"),
    ({"owners": 65, "samples": 100}, "at most 64"), ({"weight_scale": 1 << 20}, "discrete-logarithm limit"),
    ({"mode": "fedv", "weight_scale": 1 << 22}, "discrete-logarithm limit"),
    ({"weight_scale": 0}, "weight-scale"),
], ids=str)  # fmt: skip
def test_what_cannot_be_carried_out_is_refused_beforehand(more, said):
    with pytest.raises(ConfigError, match=said):
        prepare(find_scenario("vertical_fe"), {"samples": 40, "seed": 7, **more})


def test_accuracy_of_one_head_is_whether_a_sample_is_of_its_class():
    config = vertical_fe.Options(features=2, classes=3, x_max=1, counts=(4,), target=2)
    x, y = np.array([[1, 0], [0, 1], [1, 1], [0, 0]]), np.array([2, 0, 1, 1])
    assert vertical_fe.accuracy(np.array([[1.0, -2.0]]), config, x, y) == 1.0
    every = vertical_fe.Options(features=2, classes=2, x_max=1, counts=(4,))
    assert vertical_fe.accuracy(np.array([[1.0, 0.0], [0.0, 1.0]]), every, x, np.array([0, 1, 1, 1])) == 0.5
