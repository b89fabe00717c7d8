"""Training under CKKS: the same as in the clear up to noise, and nothing in the cloud's view."""

from dataclasses import replace

import numpy as np
import pytest

from parties.adversary.adversary import Adversary
from parties.adversary.attack import Relations
from parties.adversary.rules.statements import unopened
from parties.adversary.rules.told import Sight
from parties.record.view import Kind
from protocols import he_train
from protocols.crypto import ckks
from protocols.crypto.coins import Coins
from protocols.he_train import Encryption, Layout, Options, Polynomial
from protocols.language.errors import ConfigError, MalformedError
from protocols.language.relations import Unopened
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
    for said in (
        "no mask comes twice, none is read without a key",
        "encryptions of zero (digits of keys, and W = 0) do not open the key",
        "of one call of a sieve; the standard's 128 bit count all calls and their steps, and are 99 of these",
    ):
        assert all(said in line.detail for line in mine)
    owner = {(line.quantity, line.how) for line in ledger(run, "data_owner:0")}
    assert {("weights of every step, by sample", "clear"), ("weights", "own"), ("master key", "own")} <= owner


SEALED = ("samples", "labels", "weights")


def altered(view, monkeypatch, **labels):
    """The view, with the first message of each of these labels as a function makes it."""
    firsts = {label: next(iter(view.rows(label, Kind.RECEIVED))) for label in labels}

    def value(row):
        found = type(view).value(view, row)
        return labels[row.label](found) if row == firsts.get(row.label) else found

    monkeypatch.setattr(view, "value", value)
    return he_train.looked_for(view)


@pytest.mark.parametrize(
    ("pair", "read"),
    [
        (("keys", "ct_x"), {"samples"}),
        (("keys", "ct_w"), set()),
        (("ct_w", "ct_y"), {"labels"}),
        (("ct_x", "ct_y"), set()),
    ],
)
def test_a_mask_that_comes_twice_is_reported(runs, monkeypatch, pair, read):
    view = runs("he_train")[0].view("cloud_trainer")
    assert he_train.looked_for(view)[0] == dict.fromkeys(SEALED, "nothing found")
    found, said = altered(view, monkeypatch, **dict.fromkeys(pair, lambda it: replace(it, seed=bytes(32))))
    assert found == {**dict.fromkeys(SEALED, "bounded"), **dict.fromkeys(read, "exact")}
    assert "a mask comes twice" in said


def told(run, tried):
    """Lines of the rule; `tried`: what was found and said, None without payloads."""
    stated = Unopened(np.arange(48), lambda: tried)
    relations = Relations(lambda: iter([stated]), ("cloud_trainer",))
    return list(unopened(Sight(relations, run.config(), tried is not None)))


@pytest.mark.parametrize("label", ["keys", "ct_w"])
def test_a_key_that_known_plaintexts_open_is_reported(runs, monkeypatch, label):
    run, _ = runs("he_train")
    config, coins = run.config(), Coins(bytes(32))
    with monkeypatch.context() as patch:
        patch.setattr(
            "protocols.crypto.coins.Stream.rounded_gaussian", lambda self, _, *shape: np.zeros(shape, int)
        )
        keys, sk = ckks.setup(config.params, coins, he_train.layout(config).rotations)
        zeros = np.zeros((he_train.layout(config).parts, config.params.slots))
        made = {"keys": keys, "ct_w": ckks.encrypt(sk, zeros, coins)}[label]
    view = run.view("cloud_trainer")
    found, said = altered(view, monkeypatch, **{label: lambda it: made})
    assert found == dict.fromkeys((*SEALED, "master key"), "exact") and ") open the key" in said
    lines = [each for each in told(run, (found, said)) if each.how == "exact"]
    assert [each.quantity for each in lines] == list(found) and all(each.since == 0 for each in lines)


def test_without_payloads_the_ledger_does_not_say_that_nothing_was_found(runs):
    lines = told(runs("he_train")[0], None)
    assert {(each.quantity, each.how) for each in lines} == {(name, "undecided") for name in SEALED}


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
        ({"lr": 1e-9}, "--lr 1e-09 gives a factor of -4e-12; expected 9e-10 to 5e"),
        ({"lr": 1e-8, "hidden_units": 2}, "factor of -1.2e-10"),
        ({"lr": 4e-10, "hidden_units": 2, "polynomial": "square"}, "factor of 8e-10"),
        ({"lr": 1e9}, "--lr 1e\\+09 gives a factor"),
        ({"lr": 1e300}, "--lr 1e\\+300 gives a factor"),
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
