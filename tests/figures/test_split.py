"""MITIG1 and MITIG2: what they compute, who sees what, and what many owners add."""

import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from parties.data.shares import shares
from parties.record.view import Kind, View
from protocols import mitig2
from protocols.language.errors import ConfigError
from protocols.network.config import Activation, Authority, Init, Labels, Loss, Optimizer, Pixels
from protocols.network.schedule import Visit, rounds, rounds_per_epoch
from protocols.parts import averaging
from scenarios.run.baseline import train_plain
from scenarios.run.execute import execute
from scenarios.run.options import Preset
from tests.adversary.common import payloads
from tests.conftest import MANY, RESULT_SCHEMA, TINY, small


def assert_same_bits(run, plain):
    mine = run.final_weights()
    assert np.array_equal(mine["w1"], plain["w1"])
    for name in ("weights", "biases"):
        assert len(mine[name]) == len(plain[name]) > 0
        assert all(np.array_equal(a, b) for a, b in zip(mine[name], plain[name], strict=True))


@pytest.mark.parametrize("labels", [Labels.CLEAR, Labels.OWNER])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layers": "12,9,7", "hidden": None},
        {"optimizer": Optimizer.ADAM, "lr": 0.01},
        {"activation": Activation.SIGMOID, "loss": Loss.BCE, "pixels": Pixels.RAW, "batch": 10, "lr": 0.005},
    ],
    ids=str,
)
def test_mitig2_computes_the_bits_of_plain(runs, labels, options):
    run, result = runs("mitig2", labels=labels, **{**options, "epochs": 2})
    experiment = small("mitig2", labels=labels, **{**options, "epochs": 2})
    assert_same_bits(run, train_plain(experiment, experiment.config))
    assert result["accuracy"]["test"] == result["accuracy"]["baseline_test"]


@pytest.mark.parametrize("authority", Authority)
def test_mitig1_computes_the_bits_of_plain_with_the_same_rounding(runs, authority):
    run, _ = runs("mitig1", authority=authority, **TINY)
    experiment = small("mitig1", authority=authority, **TINY)
    assert experiment.config.weight_scale == 64
    assert_same_bits(run, train_plain(experiment, experiment.config))


def test_plain_can_be_run_with_the_weights_of_a_split_network(runs):
    mine, theirs = runs("mitig2")[0], runs("plain", init=Init.OWNER)[0]
    assert np.array_equal(mine.final_weights()["w1"], theirs.final_weights()["w1"])


def test_averaging_every_step_is_training_on_all_batches_at_once(runs):
    """An independent formula: W1 <- W1 - lr v, v <- m v + mean over owners of dZ1_i^T X_i / B_i."""
    (run, _), experiment = runs("mitig2", **MANY), small("mitig2", **MANY)
    view = View([(path, party) for party, path in run.sources.items()])
    dz1 = {(row.round, row.receiver): value for row, value in view.values("dz1", Kind.SENT)}
    w1 = next(view.values("w1_mean", Kind.SENT))[1].astype(np.float64)
    parts = [experiment.data.x_train[i] for i in shares(experiment.spec, 4, experiment.split)]
    velocity = np.zeros_like(w1)
    for step, (visit,) in enumerate(rounds(experiment.config)):
        batches = [parts[i][visit.rows(experiment.config, i)] / 16 for i in range(4)]
        gradients = [dz1[step, f"data_owner:{i}"].T @ x / len(x) for i, x in enumerate(batches)]
        velocity = 0.9 * velocity + np.mean(gradients, axis=0)
        w1 = w1 - experiment.config.lr * velocity
    assert np.allclose(run.final_weights()["w1"], w1, atol=1e-5)


def test_every_owner_uses_each_batch_once_in_an_epoch():
    config = mitig2.Options(
        features=4, classes=2, x_max=1, counts=(10, 9, 3), batch=4, epochs=1, per_round=2, init=Init.OWNER
    )
    used = {i: [] for i in range(3)}
    for (visit,) in list(rounds(config))[: rounds_per_epoch(config)]:
        for owner in visit.owners(config):
            used[owner].append(visit.rows(config, owner))
    assert [(s.start, s.stop) for s in used[0][:3]] == [(0, 4), (4, 8), (8, 10)]
    assert [(s.start, s.stop) for s in used[2][:2]] == [(0, 3), (0, 3)]
    assert all(sum(s.stop - s.start for s in used[i]) >= config.counts[i] for i in range(3))


def test_local_steps_use_following_batches():
    config = mitig2.Options(features=4, classes=2, x_max=1, counts=(8, 8), batch=2, local_steps=3)
    first, second = list(rounds(config))[:2]
    assert [v.rows(config, 1).start for v in (*first, *second)] == [0, 2, 4, 6, 0, 2]
    assert first[0] == Visit(turn=0, members=2, local=0)


def test_an_owner_that_does_not_take_part_keeps_no_weights(tmp_path):
    from parties.runtime.inline import InlineRuntime
    from protocols.language.session import Session
    from scenarios.run.folder import new_folder
    from scenarios.run.hosts import host_specs

    experiment = small("mitig2", **MANY, per_round=2)
    runtime = InlineRuntime(host_specs(experiment, new_folder(tmp_path / "run", "test")))
    session = Session(
        runtime, mitig2.FIGURE, {role: 4 if role.many else 1 for role in experiment.roles}, experiment.config
    )
    list(mitig2.run(session, experiment.config))
    states = [
        host._parties[f"data_owner:{i}"].state
        for i in range(4)
        for host in runtime._hosts
        if f"data_owner:{i}" in host._parties
    ]
    assert len(states) == 4 and all(getattr(state, "w1", None) is None for state in states)
    runtime.finish()


@pytest.mark.parametrize(
    "scenario, options",
    [
        ("mitig2", {}),
        ("mitig2", {**MANY, "labels": Labels.OWNER, "local_steps": 2}),
        ("mitig1", {**TINY, "owners": 2, "batch": 4}),
    ],
    ids=str,
)
def test_processes_and_inline_write_the_same_transcript(runs, scenario, options):
    inline, local = runs(scenario, **options), runs(scenario, runtime="local", **options)
    assert inline[1]["transcript_digest"] == local[1]["transcript_digest"]
    assert inline[0].faults() == local[0].faults() == []


def test_calls_of_a_round_do_not_depend_on_the_number_of_owners(tmp_path, monkeypatch):
    from parties.runtime import dispatch
    from parties.runtime.local import LocalRuntime
    from protocols.language.session import Session
    from scenarios.run.folder import new_folder
    from scenarios.run.hosts import host_specs

    monkeypatch.setattr(dispatch, "_SECONDS_A_CALL", 0)  # a round a call, however fast
    calls = {}
    for owners in (6, 30):
        experiment = small("mitig2", samples=60, owners=owners, batch=10, epochs=None, rounds=3)
        runtime = LocalRuntime(host_specs(experiment, new_folder(tmp_path / str(owners), "test")))
        counts = {role: owners if role.many else 1 for role in experiment.roles}
        list(mitig2.run(Session(runtime, mitig2.FIGURE, counts, experiment.config), experiment.config))
        calls[owners] = runtime.calls
        runtime.finish()
    assert calls[6] == calls[30] > 0


def test_a_scatter_brings_each_host_the_frames_of_its_own_parties_only():
    from parties.runtime.worker import Emit, Worker
    from protocols.language.session import Group, Transfer

    worker, sent = Worker.__new__(Worker), {}
    worker._before = 0
    names = tuple(f"data_owner:{i}" for i in range(4))
    worker._home = {name: "ab"[i % 2] for i, name in enumerate(names)}
    frames = [(i, np.zeros(1, np.uint8)) for i in range(4)]
    worker._host = type("Host", (), {"emit": lambda self, transfer: frames})()
    worker._wire = type("Wire", (), {"send": lambda self, to, seq, some: sent.update({to: some})})()
    transfer = Transfer(0, "p", 0, "x", Group(1, ("c",)), Group(2, names), 0, 1, parts=True)
    worker._emit(Emit(transfer, ("a", "b")))
    assert {host: [i for i, _ in some] for host, some in sent.items()} == {"a": [0, 2], "b": [1, 3]}


@pytest.mark.parametrize(
    ("scenario", "options"), [("mitig1", TINY), ("mitig2", {}), ("mitig2", {"labels": Labels.OWNER})], ids=str
)
def test_the_cloud_sees_no_first_layer(runs, scenario, options):
    run, _ = runs(scenario, **options)
    same = {**options, "init": Init.OWNER, "weight_scale": 64 if scenario == "mitig1" else 0}
    first = runs("plain", **same)[0].view("data_owner")["w1"][0]  # of the same seed: the W1 of step 0
    floats = [run.final_weights()["w1"], first]
    rows = [row for w1 in floats for row in (*w1, *np.rint(w1 * 64).astype(np.int16))]
    rows += [row for w1 in (run.view("key_authority")["w1"] if scenario == "mitig1" else []) for row in w1]
    assert any(
        row.tobytes() in payloads(run, "data_owner:0") for row in rows
    )  # its own output holds the float ones
    assert not any(row.tobytes() in payloads(run, "cloud_trainer") for row in rows)


def test_the_cloud_sees_no_master_key(runs):
    run, _ = runs("mitig1", **TINY)
    msk = run.view("data_owner:0")["msk"][0]
    rows = [row.tobytes() for matrix in (msk.b, msk.b_star) for row in matrix.reshape(-1, 32)[:64]]
    assert all(row in payloads(run, "key_authority") for row in rows)
    assert not any(row in payloads(run, "cloud_trainer") for row in rows)


def test_a_round_begins_with_the_mean_of_the_copies_of_the_one_before(runs):
    run, _ = runs("mitig2", labels=Labels.OWNER, owners=3, per_round=2, local_steps=2, epochs=2)
    view = run.view("key_authority")
    for copy, mean in (("w1_copy", "w1_mean"), ("head_copy", "head_mean")):
        copies = [(row.round, value) for row, value in view.values(copy, Kind.RECEIVED)]
        for row, value in view.values(mean, Kind.SENT):
            before = [c for number, c in copies if number == row.round - 1]
            assert row.round == 0 or (
                len(before) == 2 and np.allclose(value, np.mean(before, axis=0), atol=1e-6)
            )


def test_the_cloud_of_a_u_shaped_network_sees_no_label(runs):
    labels = runs("mitig2", labels=Labels.OWNER)[0].truth().labels
    clear, hidden = runs("mitig2")[0], runs("mitig2", labels=Labels.OWNER)[0]
    found = [
        any(
            labels.astype(t).tobytes() in payloads(run, "cloud_trainer")
            for t in (np.int8, np.uint8, np.int16, np.int64)
        )
        for run in (clear, hidden)
    ]
    assert found == [True, False]
    assert "labels" not in hidden.view("cloud_trainer")


def test_each_owner_has_an_instance_of_its_own(runs):
    run, _ = runs("mitig1", **TINY, owners=2)
    keys = [run.view(f"data_owner:{i}")["msk"] for i in range(2)]
    assert [len(own) for own in keys] == [1, 1] and keys[0][0].tag != keys[1][0].tag
    assert not np.array_equal(keys[0][0].b, keys[1][0].b)


@pytest.mark.parametrize(("scenario", "options", "said"), [
    ("mitig2", {"per_round": 1}, "many owners"),
    ("mitig2", {"local_steps": 2}, "many owners"),
    ("mitig2", {"owners": 2, "per_round": 3}, "at most the number of owners"),
    ("mitig2", {"labels": Labels.FEBO}, "clear or owner"),
    ("mitig2", {"weight_scale": 64}, "no option"),
    ("mitig2", {"rounds": 3, "epochs": 3}, "give one of them"),
    ("mitig1", {"weight_scale": 0}, "at least 1"),
    ("mitig1", {"labels": Labels.OWNER}, "no option"),
    ("mitig1", {"group": "secp256k1"}, "bn254"),
    ("mitig1", {"weight_scale": 10**7}, "discrete-logarithm limit"),
    ("plain_fe", {"labels": Labels.OWNER}, "--labels clear or febo"),
    ("plain_fe", {"per_round": 2}, "no option"),
])  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_starts(scenario, options, said):
    with pytest.raises(ConfigError, match=said):
        small(scenario, **options)


def test_the_mean_is_summed_in_order_and_rounded_once():
    copies = [np.full((2, 2), v, np.float32) for v in (1e8, 1.0, -1e8)]
    assert np.array_equal(averaging.mean(copies), np.full((2, 2), np.float32(1 / 3)))


@pytest.mark.parametrize(
    ("scenario", "options"), [("mitig1", {**TINY, "owners": 2}), ("mitig2", {"owners": 3})], ids=str
)
def test_the_attack_on_labels_reads_those_that_the_cloud_was_given(runs, scenario, options):
    (row,) = runs(scenario, **options, attack=("labels",))[1]["attacks"]
    assert row["applicable"] and row["metrics"]["labels_right"] == 1.0
    (refused,) = runs("mitig2", labels=Labels.OWNER, attack=("labels",))[1]["attacks"]
    assert not refused["applicable"] and "holds no Labels" in refused["why"]


def test_a_preset_stands_beside_what_was_published(tmp_path):
    np.savez(
        tmp_path / "raw.npz",
        images=np.random.default_rng(0).integers(0, 256, (40, 4, 4), np.uint8),
        labels=np.arange(40) % 4,
    )
    experiment = small(
        "mitig2",
        preset=Preset.PAPER,
        dataset=str(tmp_path / "raw.npz"),
        samples=None,
        hidden=None,
        batch=None,
        epochs=1,
    )
    config = experiment.config
    assert (config.layers, config.lr, config.momentum, config.pixel_unit) == ((300,), 0.005, 0.0, 1)
    assert config.activation is Activation.SIGMOID and config.loss is Loss.BCE
    result = execute(replace(experiment, out=tmp_path / "run"))[1]
    assert result["published"]["accuracy"] == 0.968 and "arXiv:2509.21497" in result["published"]["source"]
    jsonschema.validate(json.loads(json.dumps(result)), RESULT_SCHEMA)
