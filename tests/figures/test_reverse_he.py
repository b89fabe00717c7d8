"""Reverse HE: exact logits, a head of which only ciphertexts tell, answers that go where they should."""

import json
from dataclasses import replace

import numpy as np
import pytest

from parties import party
from parties.adversary.adversary import Adversary
from parties.adversary.attack import Relations
from parties.adversary.catalogue import ATTACKS
from parties.adversary.heads.knowledge import lines as lines_about
from parties.adversary.knowledge import learned
from parties.party import fresh_state
from parties.record.view import Kind, Record, View
from parties.runtime.inline import InlineRuntime
from protocols import reverse_he
from protocols.crypto import paillier
from protocols.crypto.coins import Coins, derive
from protocols.crypto.paillier_keys import PaillierFloats, PaillierLogits
from protocols.language.errors import BoundError, ConfigError, MalformedError, StepError
from protocols.language.figure import fits
from protocols.language.head_relations import HeadService
from protocols.language.options import from_plain
from protocols.language.session import Session
from protocols.network.head import Protect
from protocols.network.head_config import Encoding, HeadConfig, Release
from protocols.network.public_base import base_inputs
from scenarios.run.attacks import attack_run
from scenarios.run.catalogue import find_scenario
from scenarios.run.execute import execute
from scenarios.run.experiment import prepare
from scenarios.run.folder import load_run, new_folder
from scenarios.run.hosts import host_specs
from scenarios.run.predict import query
from scenarios.score import head_result
from tests.adversary.common import payloads
from tests.conftest import random_base, small

HIDDEN = {"head": "24-6-5"}
FLOAT = {"encoding": Encoding.FLOAT, "queries": 6}


def known(run, *parties):
    return [(item.quantity, item.how) for item in Adversary(run.view_sources(parties)).learned()]


def answers(run, name, label):
    return np.concatenate([value for _, value in run.view(name).values(label, Kind.RECEIVED)])


def decrypted(run):
    """What the authority's key opens of every answer, by a key drawn again from its coins."""
    view = run.view("key_authority")
    _, sk = paillier.setup(run.config().params, Coins(view["coins"][0].tobytes()))
    return sk, np.concatenate([paillier.decrypt(sk, r) for r in view["r"]])


@pytest.mark.parametrize("options", [{}, HIDDEN], ids=str)
def test_encrypted_logits_are_those_of_the_integer_head(runs, options):
    run, _ = runs("reverse_he", release=Release.LOGITS, **options)
    head = head_result.clear_heads(small("reverse_he", **options))[0]
    expected = head.integer_logits(answers(run, "server", "x"))
    assert expected.dtype == np.int64 and np.array_equal(answers(run, "server", "logits"), expected)
    assert np.array_equal(answers(run, "consumer", "decision"), expected.argmax(1))
    if not options:
        assert np.array_equal(decrypted(run)[1], expected)


@pytest.mark.parametrize("options", [{}, HIDDEN, {"shots": 4}], ids=str)
def test_integers_decide_as_floats_do(options):
    head = head_result.clear_heads(small("reverse_he", **options))[0]
    x = small("reverse_he").data.x_test
    agreed = np.mean(head.integer_logits(x).argmax(1) == head.float_logits(x).argmax(1))
    assert len(x) > 150 and agreed >= 0.99


def test_the_result_says_what_was_measured(runs):
    run, result = runs("reverse_he")
    x, y = run.view("querier")["images"][0], small("reverse_he").data.y_test[:40]
    assert (
        result["accuracy"]["test"] == np.mean(answers(run, "consumer", "decision") == y) > 0.4
        and len(x) == 40
    )
    assert abs(result["accuracy"]["baseline_test"] - result["accuracy"]["test"]) <= 0.025
    assert result["head"]["argmax_agreement"] >= 0.97 and result["head"]["refused"] == 0
    assert result["head"]["bytes"]["ciphertext"] == 128 and min(result["head"]["milliseconds"].values()) > 0
    assert result["attacks"] == [] and run.faults() == []


def test_after_the_upload_the_owner_holds_no_head(tmp_path):
    experiment = replace(small("reverse_he", **HIDDEN), out=tmp_path / "run")
    runtime = InlineRuntime(host_specs(experiment, new_folder(tmp_path / "run", "test")))
    session = Session(runtime, reverse_he.FIGURE, dict.fromkeys(experiment.roles, 1), experiment.config)
    next(reverse_he.run(session, experiment.config))
    owner = runtime._home["data_owner:0"]._parties["data_owner:0"]
    layers = head_result.clear_heads(experiment)[0].layers
    assert not hasattr(owner.state, "head") and owner._heap == {} and set(owner.state.held) == {"pk"}
    held = repr(vars(owner.state)).encode() + b"".join(a.tobytes() for a in owner.state.inputs.values())
    assert not any(needle in held for needle in needles(layers[0], experiment.config))
    runtime.finish()


def needles(layer, config):
    """The rows of a layer in every form in which they could cross."""
    fixed = np.rint(layer[:, :-1].astype(float) * (1 << config.form.weight_bits))
    for array in (layer, layer[:, :-1], fixed):
        for dtype in ("<f4", "<f8", "<i2", "<i4", "<i8", ">i8"):
            for row in (*array, *array.T):
                cast = row.astype(dtype)
                if np.count_nonzero(cast) > 3:
                    yield cast[:6].tobytes()


@pytest.mark.parametrize("options", [{}, HIDDEN, FLOAT], ids=str)
def test_the_encrypted_layer_is_in_no_transcript(runs, options):
    run, _ = runs("reverse_he", release=Release.LOGITS, **options)
    head = head_result.clear_heads(small("reverse_he", **options))[0]
    haystack = payloads(run)
    found = list(needles(head.layers[0], run.config()))
    assert len(found) > 50 and not any(needle in haystack for needle in found)
    assert run.view("querier")["images"][0][0].tobytes() in haystack, "the search finds what is there"


def test_who_learned_what(runs):
    run, _ = runs("reverse_he")
    sealed = [("head", "nothing found"), ("samples", "nothing found")]
    assert known(run, "server") == [("queries", "clear"), *sealed]
    assert known(run, "key_authority") == [
        ("logits", "exact"), ("head", "bounded"), ("samples", "bounded"), ("secret key", "own"),
        ("decision", "own"),
    ]  # fmt: skip
    assert known(run, "consumer") == [("decision", "clear"), ("head", "bounded"), ("samples", "bounded")]
    assert known(run, "querier") == [("queries", "own")]
    assert known(run, "data_owner:0") == [("head", "own"), ("samples", "own"), ("labels", "own")]
    for other in ("server", "querier"):
        assert ("head", "exact") in known(run, other, "key_authority")
        assert ("head", "bounded") in known(run, other, "consumer")


def images(run, *parties):
    """What is said of the training images: how, and by what."""
    lines = Adversary(run.view_sources(parties)).learned()
    (found,) = [(item.how, item.detail) for item in lines if item.quantity == "samples"]
    return found


@pytest.mark.parametrize(
    ("options", "parties", "attack"),
    [
        ({}, ("server", "key_authority"), "whitebox"),
        ({}, ("key_authority", "querier"), "logits"),
        ({"release": Release.LOGITS}, ("server",), "logits"),
        ({"release": Release.DECISION}, ("server",), "blackbox"),
        ({}, ("querier", "consumer"), "blackbox"),
        (FLOAT, ("server",), "exponents"),
        ({"record": Record.HEADERS}, ("server", "key_authority"), "whitebox"),
    ],
    ids=str,
)
def test_whatever_is_known_of_a_head_bounds_its_training_images(runs, options, parties, attack):
    how, detail = images(runs("reverse_he", **options)[0], *parties)
    assert how == "bounded" and f"attack {attack}" in detail


def test_images_of_an_opaque_head_are_said_with_what_was_tried(runs):
    how, detail = images(runs("reverse_he")[0], "server")
    assert how == "nothing found" and "whitebox on its ciphertexts" in detail


def test_nothing_is_said_of_the_images_of_an_owner_of_the_coalition(runs):
    lines = Adversary(runs("reverse_he")[0].view_sources(("server", "data_owner:0"))).learned()
    assert [item.how for item in lines if item.quantity == "samples"] == ["own"]


def test_a_service_that_still_answers_bounds_head_and_images():
    service = HeadService(np.arange(2), 100, decide=lambda owner, x: np.zeros(len(x), np.int64))
    lines = list(lines_about(Relations(lambda: [service], ("querier",))))
    assert [(line.quantity, line.of, line.how) for line in lines] == [
        ("head", "2 owners", "bounded"), ("samples", "2 owners", "bounded"),
    ]  # fmt: skip


def test_floats_bound_the_head_and_fed_back_answers_too(runs):
    assert ("head", "bounded") in known(runs("reverse_he", **FLOAT)[0], "server")
    assert ("head", "exact") in known(runs("reverse_he", **FLOAT)[0], "server", "key_authority")
    assert ("head", "bounded") in known(runs("reverse_he", release=Release.DECISION)[0], "server")
    assert ("head", "bounded") in known(runs("reverse_he", release=Release.LOGITS, **HIDDEN)[0], "server")
    assert ("pre-activations", "exact") in known(
        runs("reverse_he", release=Release.LOGITS, **HIDDEN)[0], "key_authority"
    )


def test_enough_fed_back_logits_are_the_head(runs):
    items = Adversary(runs("reverse_he", release=Release.LOGITS)[0].view_sources(("server",))).learned()
    assert [item.how for item in items if item.quantity == "head"] == ["exact"]
    few = Adversary(
        runs("reverse_he", release=Release.LOGITS, queries=12)[0].view_sources(("server",))
    ).learned()
    assert [item.how for item in few if item.quantity == "head"] == ["bounded"]


@pytest.mark.parametrize("record", Record)
def test_knowledge_and_attacks_bear_with_every_kind_of_record(whole_runs, record):
    run, result = whole_runs("reverse_he", record=record)
    rows = attack_run(run, ATTACKS, ("server", "key_authority"), run.prior(), Adversary)
    assert not any(row["applicable"] for row in rows) and result["learned"]
    assert len(run.truth().images) == 5 and run.config() == from_plain(
        HeadConfig, json.loads(json.dumps(run.settings["config"]))
    )


@pytest.mark.parametrize(
    "options", [{"release": Release.LOGITS}, {"release": Release.LOGITS, **HIDDEN}], ids=str
)
def test_every_prefix_of_every_view_can_be_asked(runs, options):
    run, _ = runs("reverse_he", **options)
    for parties in ((name,) for name in run.sources):
        sizes = [len(lines_of(View(run.view_sources(parties), until))) for until in range(-1, 16)]
        assert sizes == sorted(sizes) and len(lines_of(View(run.view_sources(parties)))) >= sizes[-1]
    together = ("server", "key_authority")
    found = [lines_of(View(run.view_sources(together), until)) for until in range(-1, 16)]
    assert {item.how for item in found[0]} == {"own"} and ("head", "exact") in {
        (item.quantity, item.how) for item in found[-1]
    }


def lines_of(view):
    found = learned(view)
    view.close()
    return found


def authority(config):
    state = fresh_state("key_authority", config, derive(bytes(32), "a"))
    return state, reverse_he.draw_keys(state)


def forged(pk, values):
    """Ciphertexts of these plaintexts, as who holds the public key makes them."""
    numbers = [
        (1 + value * pk.n) * factor % pk.square
        for value, factor in zip(
            values, paillier.blinding(pk, len(values), Coins(bytes(32)).stream("x")), strict=True
        )
    ]
    return PaillierLogits(pk.tag, paillier.bytes_of(numbers, pk.params, len(values), pk.params.chunks))


def test_a_refused_answer_is_said_to_the_consumer_and_not_to_the_server():
    config = small("reverse_he").config
    state, pk = authority(config)
    logits, decision = reverse_he.decide(state, forged(pk, [5 << config.bounds.slot_bits, 1 << 400, 7]), 0)
    assert (
        decision.tolist() == [1, reverse_he.REFUSED, 0]
        and logits[1].tolist() == [0] * 5
        and logits[0, 1] == 5
    )
    assert reverse_he.for_server(state, decision).tolist() == [1, 0, 0]


def test_a_forged_answer_stops_no_run_and_is_counted(tmp_path, monkeypatch):
    honest = reverse_he.encrypted_logits

    def encrypted_logits(state, x, owner):
        r = honest(state, x, owner)
        elements = r.elements.copy()
        elements[0] = forged(state.held["pk"], [1 << 400]).elements[0]
        return PaillierLogits(r.tag, elements)

    load = party.load_step
    monkeypatch.setattr(
        party, "load_step", lambda m, name: encrypted_logits if name == "encrypted_logits" else load(m, name)
    )
    run, result = execute(replace(small("reverse_he", release=Release.DECISION), out=tmp_path / "run"))
    assert result["head"]["refused"] == 2 and answers(run, "consumer", "decision")[[0, 32]].tolist() == [
        -1,
        -1,
    ]
    assert answers(run, "server", "decision").min() == 0


def test_malformed_answers_and_layers_are_refused():
    config = small("reverse_he", **HIDDEN).config
    state, pk = authority(config)
    for layer in (np.zeros((5, 7)), np.zeros((5, 6), np.int64)):
        with pytest.raises(MalformedError):
            reverse_he.keep_last_layers(state, [layer])
    with pytest.raises(BoundError):
        reverse_he.keep_last_layers(state, [np.full((5, 7), 1 << 40, np.int64)])
    with pytest.raises(MalformedError):
        reverse_he.decide(state, np.zeros((3, 1, 128), np.uint8), 0)


def test_the_server_computes_on_images_only():
    experiment = small("reverse_he")
    state = fresh_state("server", experiment.config, bytes(32))
    state.inputs = dict(base_inputs(experiment.base))
    for bad in (np.full((1, 64), 17), np.full((1, 64), -1)):
        with pytest.raises(BoundError):
            reverse_he.phi(state, bad)
    for bad in (np.zeros((1, 63), np.uint8), np.full((1, 64), "0")):
        with pytest.raises(MalformedError):
            reverse_he.phi(state, bad)
    (x,) = [arrow for arrow in reverse_he.FIGURE if arrow.label == "x"]
    assert fits(np.zeros((1, 64), np.uint8), x.type) and not fits(np.zeros((1, 64)), x.type)


def test_no_image_can_exceed_the_bounds():
    experiment = small("reverse_he")
    rng = np.random.default_rng(0)
    images = np.concatenate(
        [rng.integers(0, 2, (500, 64)) * 16, np.zeros((1, 64), int), np.full((1, 64), 16)]
    )
    base = experiment.base
    weight = base.layers[0][:, :-1]
    worst = np.concatenate([images, (weight > 0) * 16])  # of every feature the image that makes it largest
    largest = base.phi(base.inputs(worst / np.float32(16))).max()
    assert 0.99 * base.bound() < largest <= experiment.config.form.feature_bound


def test_another_base_than_the_public_one_is_refused(tmp_path):
    experiment = small("reverse_he")
    other = replace(experiment, base=experiment.base.scaled(2.0), out=tmp_path / "run")
    with pytest.raises(StepError, match="not the one that the configuration names"):
        execute(other)


@pytest.mark.parametrize("bits", [512, 1024, 2047, 2040])
def test_short_keys_are_refused_with_the_reason(bits):
    with pytest.raises(ConfigError, match=f"--key-bits {bits} is refused: 2048 bits .* 3072"):
        small("reverse_he", key_bits=bits, toy=False)
    assert small("reverse_he", key_bits=2048, toy=False).config.params.security_bits == 112


def test_by_default_the_key_has_3072_bits_and_no_option_makes_a_toy(capsys):
    from scenarios.cli import app

    experiment = prepare(find_scenario("reverse_he"), dict(base=random_base()))
    assert experiment.config.key_bits == 3072 and not experiment.config.toy
    with pytest.raises(SystemExit) as ended:
        app(["run", "reverse-he", "--toy"])
    assert ended.value.code == 2
    assert "toy" in reverse_he.describe(small("reverse_he").config)["scheme"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"head": "30-5"}, "must be 24"),
        ({"head": "24-11"}, "expected 2 to 10"),
        ({"head": "24-8-8-5"}, "one hidden layer"),
        ({"head": "wide"}, "expects widths"),
        ({"defence": ("dp",)}, "dp:EPSILON"),
        ({"defence": ("noise:1",)}, "knows dp:EPSILON"),
        ({"shots": 500}, "training samples"),
        ({"epochs": 3}, "no option"),
        ({"corrupt": ("cloud_trainer",)}, "no party"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        small("reverse_he", **options)


def test_logits_that_do_not_fit_are_refused_before_anything_starts():
    with pytest.raises(ConfigError, match="64 bits"):
        small("reverse_he", weight_bound=float(1 << 22), **HIDDEN)


def test_floats_are_marked_as_leaking_and_cross_with_their_exponents(runs):
    run, result = runs("reverse_he", **FLOAT)
    head = run.view("server")["head"][0]
    assert isinstance(head, PaillierFloats) and head.shape == (5, 25) and len(np.unique(head.exponents)) > 1
    assert "LEAKING" in result["security"]["scheme"] and result["head"]["argmax_agreement"] == 1.0


def test_a_defence_is_trained_with_coins_of_the_owner(runs):
    experiment = small("reverse_he", defence=("dp:10",))
    assert experiment.config.recipe.protect is Protect.DP and experiment.config.recipe.sigma == pytest.approx(
        1.49, abs=0.01
    )
    one, again, other = (
        head_result.clear_heads(small("reverse_he", defence=("dp:10",), seed=s))[0].layers[0]
        for s in (7, 7, 8)
    )
    assert np.array_equal(one, again) and not np.allclose(one, other)
    assert np.abs(one).max() > 2 * np.abs(head_result.clear_heads(small("reverse_he"))[0].layers[0]).max()


def test_the_owners_samples_are_so_many_of_every_class_and_no_query():
    data = small("reverse_he", shots=3).data
    assert np.bincount(data.y_train).tolist() == [3] * 5 and set(data.y_test) == set(range(5))
    assert not {x.tobytes() for x in data.x_train} & {x.tobytes() for x in data.x_test}


def test_there_is_no_asking_after_the_run(runs):
    run, _ = runs("reverse_he")
    assert not list((run.path / "state").glob("*"))
    with pytest.raises(ConfigError, match="asks within its run"):
        query(load_run(run.path), None, None, None, "inline", None)


MANY = {"owners": 3, "queries": 34}  # two messages of queries, each answered by every head


def test_every_owner_has_a_head_that_answers_every_query(runs):
    run, result = runs("reverse_he", **MANY, release=Release.LOGITS)
    heads = head_result.clear_heads(small("reverse_he", **MANY))
    view, asked = run.view("server"), answers(run, "server", "x")
    assert len(view["head"]) == 3 and not np.array_equal(heads[0].layers[0], heads[1].layers[0])
    told = view["logits"]
    for i, head in enumerate(heads):
        assert np.array_equal(np.concatenate(told[i::3]), head.integer_logits(asked))
    assert result["head"]["queries"] == 3 * 34 and result["config"]["shots"] == 1 and run.faults() == []
    assert [sorted(view["labels"][0]) for view in map(run.view, sorted(run.sources)[1:4])] == [
        [0, 1, 2, 3, 4]
    ] * 3


@pytest.mark.parametrize(
    ("options", "parties", "attack"),
    [
        ({**MANY, "release": Release.LOGITS}, ("server",), "logits"),
        (MANY, ("server", "key_authority"), "whitebox"),
        ({}, ("server", "key_authority"), "whitebox"),
        (FLOAT, ("server",), "exponents"),
    ],
    ids=str,
)
def test_attacks_on_heads_work_on_stored_runs(runs, options, parties, attack):
    run, _ = runs("reverse_he", **options)
    (row,) = attack_run(run, (attack,), parties, run.prior(), Adversary)
    assert row["applicable"], row["why"]
    assert row["samples"] == 5 * len(run.config().counts) and "mse" in row["baseline"]["guess"]
    if attack != "exponents":
        assert row["metrics"]["mse"] < 0.8 * row["baseline"]["guess"]["mse"]


def test_the_informed_attack_takes_all_samples_but_one(runs):
    run, _ = runs("reverse_he")
    both = ("server", "key_authority")
    (row,) = attack_run(run, ("informed",), both, run.prior(known=4), Adversary)
    assert row["samples"] == 1 and row["metrics"]["mse"] < 0.5 * row["baseline"]["guess"]["mse"]
    (few,) = attack_run(run, ("informed",), both, run.prior(known=3), Adversary)
    assert "but one have to be known" in few["why"]


@pytest.mark.parametrize(
    ("attack", "why"),
    [
        ("whitebox", "no key to them"),
        ("blackbox", "the run is over"),
        ("oracle", "the run is over"),
        ("informed", "no HeadWeights"),
    ],
)
def test_what_the_view_lacks_is_said(runs, attack, why):
    run, _ = runs("reverse_he")
    (row,) = attack_run(run, (attack,), ("server",), run.prior(), Adversary)
    assert not row["applicable"] and why in row["why"]
