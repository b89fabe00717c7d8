"""The mod for Flower, called as Flower calls it, and what becomes of the messages that it wrote."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from parties.adversary.adversary import Adversary
from protocols.language import relations as r
from protocols.language.errors import ConfigError, DataError
from protocols.language.relations import now
from protocols.recorded import relations as related
from scenarios.cli import app
from scenarios.recorder.flower import gather
from scenarios.run.attacks import attack_run
from scenarios.run.folder import load_run
from scenarios.run.learned import learned
from tests.recorder.common import IMAGES, LABELS, X_MAX

sys.path.insert(0, "scenarios/package")
from keyhole_flower import recorder

CLIENTS, EACH, ROUNDS, HIDDEN, LR = 3, 4, 2, 32, 0.5
SIZES = {"shape": (8, 8), "x_max": X_MAX, "unit": X_MAX}


class Array:
    """As `flwr.app.Array`."""

    def __init__(self, values):
        self._values = values

    def numpy(self):
        return self._values


class Content:
    """As `flwr.app.RecordDict`."""

    def __init__(self, arrays, metrics=None, config=None):
        named = {str(k): Array(a) for k, a in enumerate(arrays)}
        self.array_records = {"arrays": named} if arrays else {}
        self.metric_records = {"metrics": metrics} if metrics else {}
        self.config_records = {"config": config} if config else {}


class Message:
    """As `flwr.app.Message`; a reply says nothing of the round."""

    def __init__(self, content, group="", kind="train", error=False):
        self.content, self._error = content, error
        self.metadata = SimpleNamespace(message_type=kind, group_id=group)

    def has_error(self):
        return self._error


def samples(client):
    return slice(client * EACH, (client + 1) * EACH)


def local_step(weights, client):
    """A client's own code: one step of SGD on its samples."""
    w1, b1, w2 = weights
    x, y = (IMAGES[samples(client)] / X_MAX).astype(np.float32), LABELS[samples(client)]
    z = x @ w1.T + b1
    p = np.exp(np.maximum(z, 0) @ w2.T)
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(EACH), y] -= 1
    dz = p @ w2 * (z > 0) / EACH
    new = [w1 - LR * dz.T @ x, b1 - LR * dz.sum(0), w2 - LR / EACH * p.T @ np.maximum(z, 0)]
    return [each.astype(np.float32) for each in new]


def federated(spool, rounds=ROUNDS, config=True):
    """An app: a server that averages, clients of two processes' worth, and the mod in front of their code."""
    rng, mod = np.random.default_rng(1), recorder(spool)
    shapes = ((HIDDEN, 64), (HIDDEN,), (10, HIDDEN))
    weights = [rng.normal(0, 0.3, shape).astype(np.float32) for shape in shapes]
    for t in range(1, rounds + 1):
        copies = []
        for client in rng.permutation(CLIENTS):
            context = SimpleNamespace(node_id=900 - client, node_config={"partition-id": int(client)})

            def own(message, context, client=client):
                arrays = [each.numpy() for each in message.content.array_records["arrays"].values()]
                told = {"num-examples": EACH, "loss": 0.5}
                return Message(Content(local_step(arrays, client), told))

            given = Message(
                Content(weights, None, {"server-round": t, "name": "x"} if config else None), str(t)
            )
            reply = mod(given, context, own)
            copies.append([each.numpy() for each in reply.content.array_records["arrays"].values()])
        weights = [np.mean(each, axis=0) for each in zip(*copies, strict=True)]
    return weights


@pytest.fixture(scope="module")
def spool(tmp_path_factory):
    path = tmp_path_factory.mktemp("flower") / "spool"
    federated(path)
    return path


def truth(client):
    return IMAGES[samples(client)], LABELS[samples(client)]


@pytest.fixture(scope="module")
def run(spool, tmp_path_factory):
    return gather(spool, tmp_path_factory.mktemp("gathered") / "run", first="arrays.0", bias="arrays.1",
                  truth=truth, classes=10, **SIZES)  # fmt: skip


def test_the_mod_changes_nothing_and_keeps_its_files_to_itself(spool, tmp_path):
    first = federated(tmp_path / "again")
    reply, message = object.__new__(Message), Message(Content([np.ones(2)]))
    reply._error, reply.content = True, None
    context = SimpleNamespace(node_id=1, node_config={})
    seen = []
    told = recorder(tmp_path / "one")(message, context, lambda *given: seen.append(given) or reply)
    assert told is reply and seen == [(message, context)], "a reply with an error is handed on"
    assert len(list((tmp_path / "one").iterdir())) == 1
    files = list(spool.iterdir())
    assert len(files) == 2 * CLIENTS * ROUNDS and all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    assert spool.stat().st_mode & 0o777 == 0o700 and first[0].shape == (HIDDEN, 64)


def test_the_mod_needs_numpy_and_nothing_of_the_project():
    code = ("import sys; sys.path.insert(0, 'scenarios/package'); import keyhole_flower; "
            "of = ('scenarios', 'parties', 'protocols', 'keyhole', 'torch', 'flwr'); "
            "print([name for name in sys.modules if name.split('.')[0] in of])")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_arrays_are_in_memory_one_message_at_a_time(spool, tmp_path, monkeypatch):
    opened, most = set(), []

    class Counted:
        def __init__(self, path, **more):
            self._path, self._stored = path, load(path, **more)

        def __enter__(self):
            opened.add(self._path)
            return self

        def __exit__(self, *exception):
            opened.discard(self._path)
            self._stored.close()

        def __contains__(self, name):
            return name in self._stored

        def __getitem__(self, name):
            most.append((len(opened), name))
            return self._stored[name]

    load = np.load
    monkeypatch.setattr(np, "load", Counted)
    run = gather(spool, tmp_path / "run", first="arrays.0", **SIZES)
    monkeypatch.undo()
    assert {count for count, _ in most} == {1}
    headers, arrays = (sum((name == "header") == is_one for _, name in most) for is_one in (True, False))
    files = list(spool.iterdir())
    assert headers == len(files) and arrays == 3 * len(files)
    assert len([row for row in run.view("server").rows() if row.label.endswith("arrays.0")]) == len(files)


@pytest.mark.parametrize("config", [True, False])
def test_messages_are_in_the_order_of_rounds(tmp_path, config):
    federated(tmp_path / "spool", rounds=3, config=config)
    run = gather(tmp_path / "spool", tmp_path / "run", **SIZES)
    rows = [row for row in run.view("server").rows() if row.label.endswith("arrays.0")]
    assert [row.round for row in rows] == [t for t in range(3) for _ in range(2 * CLIENTS)]
    assert [row.label.split(".")[0] for row in rows[: 2 * CLIENTS]] == ["given"] * 3 + ["returned"] * 3
    assert [row.sender for row in rows[3:6]] == [f"data_owner:{i}" for i in range(3)]
    assert run.config().counts == (EACH,) * CLIENTS


def test_relations_are_true_of_the_clients_samples(run):
    found = list(related(run.view("server")))
    maps = {each.map: each for each in found if isinstance(each, r.KnownMap)}
    updates = [each for each in found if isinstance(each, r.Update)]
    assert len(updates) == CLIENTS * ROUNDS
    x = run.truth().images
    for u in updates:
        change = now(maps[u.before].value) - now(maps[u.after].value)
        index = u.steps.moved_by(u.terms)
        span = np.linalg.lstsq(x[index].T, change.T, rcond=None)[0]
        assert np.abs(x[index].T @ span - change.T).max() < 1e-5 < np.abs(change).max() / 100
        assert len(index) == EACH and (x[index] == IMAGES[samples(u.after.owner)]).all()


def test_learned_and_attacks_read_the_app(run):
    lines = learned(load_run(run.path), Adversary, ("server",))
    how = {line.quantity: line.how for line in lines}
    assert how["returned.arrays.0"] == "clear" and how["returned.arrays.2"] == "not analysed"
    exact = [line for line in lines if (line.quantity, line.how) == ("samples", "exact")]
    assert exact and exact[0].detail.endswith("(lattice-span)")
    rows = attack_run(run, ["lattice_span", "bias"], ("server",), run.prior(), Adversary)
    for row in rows:
        assert row["metrics"]["exact_images"] >= EACH, row


def test_the_attack_bias_needs_the_bias(spool, tmp_path):
    run = gather(spool, tmp_path / "run", first="arrays.0", truth=truth, **SIZES)
    (row,) = attack_run(run, ["bias"], ("server",), run.prior(), Adversary)
    assert not row["applicable"] and "no bias" in row["why"]


def test_without_the_name_of_a_layer_nothing_is_stated(spool, tmp_path):
    run = gather(spool, tmp_path / "run", **SIZES)
    assert {line.how for line in learned(run, Adversary, ("server",))} <= {"not analysed", "own"}


def test_the_command_gathers_or_says_what_is_wrong(spool, tmp_path):
    def keyhole(*args):
        return CliRunner().invoke(app, [str(a) for a in args], env={"COLUMNS": "140"})

    size = ("--shape", "8,8", "--x-max", X_MAX, "--unit", X_MAX)
    outcome = keyhole("gather", spool, *size, "--first", "arrays.0", "--out", tmp_path / "run")
    assert outcome.exit_code == 0 and outcome.stdout.strip() == str(tmp_path / "run"), outcome.output
    assert keyhole("show", tmp_path / "run", "--verify").exit_code == 0
    for more, why in ((("--first", "arrays.9"), "no array arrays.9"), (("--first", "arrays.2"), "64 pixels"),
                      (("--counts", "3,x"), "whole numbers"), (("--counts", "3"), "3 clients were recorded"),
                      (("--unit", "0"), "above 0")):  # fmt: skip
        outcome = keyhole("gather", spool, *size, *more, "--out", tmp_path / f"out{why[:3]}")
        assert outcome.exit_code == 2 and why in outcome.stderr, outcome.output


HEADER = {
    "version": 1,
    "type": "train",
    "group": "1",
    "node": "1",
    "partition": 0,
    "way": "given",
    "entries": [],
}
ENTRY = {"record": "arrays", "name": "0", "array": 0}
STRANGE = [
    b"no zip", {"header": {**HEADER, "version": 2}}, {"header": {**HEADER, "way": "up"}},
    {"header": {**HEADER, "partition": "0"}}, {"header": {**HEADER, "entries": [ENTRY]}}, {"other": HEADER},
    {"header": {**HEADER, "entries": [{**ENTRY, "record": "x" * 300}]}},
    {"header": {**HEADER, "entries": [ENTRY]}, "0": np.array([{}], dtype=object)},
]  # fmt: skip


@pytest.mark.parametrize("content", STRANGE, ids=range(len(STRANGE)))
def test_a_file_that_the_mod_did_not_write_is_refused(tmp_path, content):
    path = tmp_path / "1.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        arrays = {name: value if isinstance(value, np.ndarray)
                  else np.frombuffer(json.dumps(value).encode(), np.uint8)
                  for name, value in content.items()}  # fmt: skip
        np.savez(path, allow_pickle=True, **arrays)
    with pytest.raises(DataError, match=r"1\.npz"):
        gather(tmp_path, tmp_path / "run", **SIZES)


def test_an_empty_folder_and_clients_without_sizes_are_said(tmp_path):
    with pytest.raises(DataError, match="holds no messages"):
        gather(tmp_path, tmp_path / "run", **SIZES)
    mod = recorder(tmp_path / "spool")
    message, context = Message(Content([np.ones((2, 64))])), SimpleNamespace(node_id=1, node_config={})
    mod(message, context, lambda *given: Message(Content([np.ones((2, 64))])))
    with pytest.raises(ConfigError, match="counts"):
        gather(tmp_path / "spool", tmp_path / "run", first="arrays.0", **SIZES)
