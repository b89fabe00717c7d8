"""Training under CKKS: the same as in the clear up to noise, and nothing in the cloud's view."""

from dataclasses import replace

import numpy as np
import pytest

from parties.adversary.adversary import Adversary
from parties.record.view import Kind
from protocols import he_train
from protocols.he_train import Encryption, Layout, Options, Polynomial
from protocols.language.errors import ConfigError, MalformedError
from scenarios.run.catalogue import find_scenario
from scenarios.run.experiment import prepare
from scenarios.study.audits import audited

pytest.importorskip("tenseal.sealapi", reason="an optional extra")

IRIS = Options(4, 3, 255, (48,), batch=16, epochs=1)
TWICE = {"dataset": "breast_cancer", "samples": 64, "batch": 32}
HIDDEN = {"hidden_units": 4, "samples": 32}


def layers(run):
    rows = [value for _, value in run.view(*run.sources).values("accuracy", Kind.OUTPUT)]
    return [rows[-1][name] for name in ("w1", "w2") if name in rows[-1]]


def both(runs, **options):
    (run, result), (clear, _) = (runs("he_train", **options, encryption=how) for how in ("ckks", "none"))
    return run, result, layers(run), layers(clear)


@pytest.mark.parametrize(
    "options",
    [{}, TWICE, {**HIDDEN, "polynomial": "square"}, {**HIDDEN, "polynomial": "cubic"}],
    ids=["heads", "two classes", "square", "cubic"],
)
def test_weights_are_those_of_the_same_training_in_the_clear(options, runs):
    _, result, found, expected = both(runs, **options)
    assert [each.shape for each in found] == [each.shape for each in expected]
    error = max(np.abs(x - y).max() for x, y in zip(found, expected, strict=True))
    moved = max(np.abs(each).max() for each in expected)
    assert error < 2e-3 < 0.03 < moved
    assert abs(result["accuracy"]["test"] - result["accuracy"]["baseline_test"]) <= 0.02
    assert 0 < result["measured"]["noise of a slot"] < 1e-2
    assert result["measured"]["refreshes"] == result["steps"]


def test_of_many_columns_some_go_on_in_further_ciphertexts(runs):
    run, _, found, expected = both(runs, dataset="digits", samples=32, batch=32)
    (row,) = run.view("cloud_trainer").rows("ct_x", Kind.RECEIVED)
    assert row.shape[0] == he_train.layout(run.config()).parts == 9
    assert np.abs(found[0] - expected[0]).max() < 2e-3


def ledger(run, *parties):
    return Adversary(run.view_sources(parties)).learned()


def test_the_clouds_ledger_says_nothing_found_and_what_was_tried(runs):
    run, _ = runs("he_train")
    mine = ledger(run, "cloud_trainer")
    assert {line.quantity for line in mine} == {"samples", "labels", "weights"}
    assert {line.how for line in mine} == {"nothing found"}
    assert all("no mask comes twice, none is read without a key" in line.detail for line in mine)
    owner = {(line.quantity, line.how) for line in ledger(run, "data_owner:0")}
    assert {("weights of every step, by sample", "clear"), ("weights", "own")} <= owner


def test_a_mask_that_comes_twice_is_reported(runs, monkeypatch):
    run, _ = runs("he_train")
    view = run.view("cloud_trainer")
    assert he_train.looked_for(view)[0] is False
    monkeypatch.setattr(view, "value", lambda row: replace(type(view).value(view, row), seed=bytes(32)))
    found, said = he_train.looked_for(view)
    assert found and "a mask comes twice" in said


def test_in_the_clear_the_ledger_shows_the_samples(runs):
    run, _ = runs("he_train", encryption="none")
    mine = {(line.quantity, line.how) for line in ledger(run, "cloud_trainer")}
    assert {("x", "clear"), ("labels", "clear"), ("weights", "own")} <= mine


@pytest.mark.parametrize("options", [{}, {"hidden_units": 2, "polynomial": "cubic", "epochs": 2}])
def test_the_audit_says_the_same_of_the_cloud(options):
    found = audited(find_scenario("he_train"), options)["findings"]
    (cloud,) = (each for each in found if each["parties"] == ["cloud_trainer"])
    assert cloud["rank"] == 0
    assert not any(quantity["determined"] or quantity["undecided"] for quantity in cloud["quantities"])


def test_in_the_clear_the_audit_sees_the_samples():
    found = audited(find_scenario("he_train"), {"encryption": "none", "epochs": 1})["findings"]
    (cloud,) = (each for each in found if each["parties"] == ["cloud_trainer"])
    assert {q["name"]: q["determined"] for q in cloud["quantities"]}["images"] == 48


def test_ciphertexts_that_do_not_fit_are_refused():
    class Nothing:
        config, held = IRIS, {}

        class Engine:
            @staticmethod
            def load(ct):
                return [type("Vector", (), {"level": 1})]

    state = Nothing()
    state.held = {"engine": Nothing.Engine, "batches": []}
    for count, level in ((2, 1), (1, 4)):
        with pytest.raises(MalformedError, match="expected"):
            he_train.loaded(state, None, count, level)
    assert len(he_train.loaded(state, None, 1, 1)) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"owners": 2}, "one owner"),
        ({"batch": 48, "samples": 48, "hidden_units": 256}, "slots"),
        ({"hidden_units": 6}, "power of two"),
        ({"polynomial": "square"}, "hidden layer"),
        ({"polynomial": "exact"}, "only with --encryption none"),
        ({"lr": 0.0}, "must be"),
    ],
)
def test_what_cannot_be_is_refused_before_it_starts(options, said):
    with pytest.raises(ConfigError, match=said):
        prepare(find_scenario("he_train"), {"dataset": "iris", "samples": 48, **options})


def test_without_the_library_it_refuses_with_the_install_line(monkeypatch):
    monkeypatch.setattr("protocols.crypto.ckks.available", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install 'keyhole\[he\]'"):
        prepare(find_scenario("he_train"), {"dataset": "iris", "samples": 48})
    prepare(find_scenario("he_train"), {"dataset": "iris", "samples": 48, "encryption": "none"})


def test_a_layout_reads_what_it_placed():
    where = he_train.layout(replace(IRIS, features=64, classes=10, batch=30))
    assert where == Layout(4096, 8, 9, 10, 30)
    values = np.random.default_rng(0).normal(size=(65, 10, 30))
    assert np.array_equal(where.read(where.place(values), 65, 30), values)
    assert where.rotations == [512, 1024, 2048]


def test_units_fill_a_stride_so_that_sums_go_round():
    where = he_train.layout(replace(IRIS, hidden_units=8, polynomial=Polynomial.SQUARE))
    assert where.units * where.block == where.stride
    assert replace(IRIS, encryption=Encryption.NONE).levels == 4
