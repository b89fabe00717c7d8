"""vertical_fe computes, bit by bit, what the same training in the clear does with the same rounding."""

from dataclasses import replace

import numpy as np
import pytest

from parties.data.shares import queried
from parties.record.view import Kind
from protocols import vertical_fe
from protocols.crypto import qfe
from protocols.crypto.coins import Coins
from protocols.crypto.groups import dlog
from protocols.language.errors import BoundError, ConfigError, KeysRefused
from protocols.parts.budget import Refused
from protocols.parts.columns import bounds, forms
from scenarios.run.catalogue import find_scenario
from scenarios.run.execute import execute
from scenarios.run.experiment import prepare
from scenarios.run.folder import load_run
from scenarios.run.predict import predict, query
from scenarios.run.status import status_of
from tests.adversary.common import attacked
from tests.conftest import small

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


@pytest.mark.parametrize("more", [{"target": 1}, {"target": -1, "model": "logistic"}], ids=str)
def test_in_the_clear_it_is_the_same_training_without_rounding_and_the_baseline(runs, more):
    run, result = runs("vertical_fe", **TINY, **more, mode="clear", owners=2)
    truth, config = run.truth(), run.config()
    rounded = in_the_clear(truth.images, truth.labels, config)
    for found, right in zip(weights(run), rounded, strict=True):
        assert 0 < np.abs(found - right).max() < 2 / config.weight_scale
    assert run.settings["parties"] == ["data_owner:0", "data_owner:1", "cloud_trainer"]
    assert result["accuracy"]["baseline_test"] == result["accuracy"]["test"]
    same = runs("vertical_fe", **TINY, **{**more, "mode": "fedv"}, owners=2)[1]["accuracy"]
    assert same["baseline_test"] == result["accuracy"]["test"]


@pytest.mark.parametrize("mode", ["quadratic", "fedv", "clear"])
def test_who_asks_is_told_the_classes_of_the_trained_weights(runs, mode, tmp_path):
    options = {**TINY, "samples": 8, "batch": 4, "epochs": 1, "target": -1, "mode": mode, "owners": 2}
    run = runs("vertical_fe", **options)[0]
    folder, result = predict(query(run, None, None, 6, "inline", tmp_path / "asked"))
    x, y = queried(run.spec()[0], 6)
    told = np.loadtxt(folder.path / "predictions.csv", delimiter=",", skiprows=1, dtype=int)[:, 1]
    steps = np.rint(weights(run)[-1] * 256) if mode != "clear" else weights(run)[-1]
    assert told.tolist() == (x.astype(float) @ steps.T).argmax(axis=1).tolist() and len(set(told)) > 1
    assert result["accuracy"] == (told == y).mean()
    (line,) = (line for line in result["learned"] if line["party"] == "cloud_trainer"
               and line["quantity"] in ("samples", "x"))  # fmt: skip
    assert line["how"] == ("clear" if mode == "clear" else "bounded") and "key" in line["detail"] + "key" * (
        mode == "clear"
    )


def test_one_head_of_many_classes_names_no_class(runs, tmp_path):
    run = runs("vertical_fe", **{**TINY, "samples": 8, "epochs": 1}, target=1, mode="fedv")[0]
    with pytest.raises(ConfigError, match="names no class"):
        predict(query(run, None, None, 4, "inline", tmp_path / "asked"))


BUDGET = {"samples": 16, "batch": 4, "epochs": 2, "lr": 0.1, "owners": 2, "target": 1}


@pytest.mark.parametrize("mode", ["quadratic", "fedv"])
def test_within_a_budget_training_stands_still_where_keys_are_refused(runs, mode):
    run, result = runs("vertical_fe", **BUDGET, mode=mode, defence=("key-budget:3",))
    free = runs("vertical_fe", **{**BUDGET, "mode": "fedv"})[0]
    view = run.view("cloud_trainer")
    (row,), keys = list(view.rows("refused", Kind.RECEIVED)), list(view.rows("sk", Kind.RECEIVED))
    assert result["steps"] == 8 and row.round == (4 if mode == "quadratic" else 3)
    assert view.value(row) == Refused(3, 3) and result["security"]["defence key-budget"].startswith("3: ")
    asked = [np.asarray(value) for _, value in free.view("key_authority").values("w", Kind.RECEIVED)]
    last = np.rint(weights(run)[-1] * 256)
    assert np.array_equal(last, asked[3 if mode == "quadratic" else 2])  # the last that it has keys for
    assert {key.round for key in keys} <= set(range(row.round + (mode == "fedv")))


def test_a_refused_key_ends_a_run_by_name_and_what_crossed_before_can_be_attacked(tmp_path):
    options = {**BUDGET, "no_audit": True, "defence": ("key-budget:4",), "on_refusal": "stop"}
    experiment = replace(small("vertical_fe", **options), out=tmp_path / "run")
    with pytest.raises(KeysRefused, match=r"step 5 \(batch 1\).*budget of 4"):
        execute(experiment)
    run = load_run(tmp_path / "run")
    assert "refused the keys of step 5" in status_of(run).reason and not (run.path / "result.json").exists()
    view = run.view("cloud_trainer")
    assert [row.round for row in view.rows("refused")] == [5] and len(list(view.values("sk"))) == 5
    assert attacked(run, "moments")["metrics"]["exact_images"] == 16  # rank 4 is all that batches of 4 have


@pytest.mark.parametrize(("more", "said"), [
    ({"mode": "clear", "defence": ("key-budget:3",)}, "nobody issues keys"),
    ({"defence": ("key-budget:64",)}, "would never refuse"),
    ({"on_refusal": "stop"}, "^--on-refusal stop: without --defence key-budget:R no key is refused$"),
    ({"on_refusal": "stop", "mode": "fedv"}, "no key is refused"),
], ids=str)  # fmt: skip
def test_a_budget_that_has_no_effect_is_refused(more, said):
    with pytest.raises(ConfigError, match=said):
        small("vertical_fe", **more)


def test_the_baseline_of_a_run_that_stops_has_no_budget_and_is_accepted():
    stops = small("vertical_fe", defence=("key-budget:4",), on_refusal="stop")
    vertical_fe.check(vertical_fe.unprotected(stops.config)[1])


def test_pixels_of_many_levels_are_carried_while_the_weights_are_small(runs):
    config = prepare(
        find_scenario("vertical_fe"), {"dataset": "breast_cancer", "samples": 16, "seed": 1}
    ).config
    worst = config.batch * config.largest * config.x_max
    assert worst > dlog.MAX_BOUND == bounds(config).inner
    msk = qfe.setup(qfe.parameters(bounds(config)), Coins(bytes(32)))[1]
    few, all_ = (np.full((2, 30), value) for value in (100, config.weights.limit))
    assert qfe.key_derive(msk, forms(config, few)).shape == (2, 30)
    with pytest.raises(BoundError, match="lower the weight scale"):
        qfe.key_derive(msk, forms(config, all_))
