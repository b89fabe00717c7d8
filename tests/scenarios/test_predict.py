"""Asking a trained network: the protocol's own confidentiality, and the classes that its weights give."""

import csv
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

from parties.data.shares import queried
from parties.record.transcript import Transcript
from parties.record.view import Kind, View
from parties.runtime.inline import InlineRuntime
from protocols.language.errors import ConfigError, DataError, KeyholeError
from protocols.network import nn
from protocols.network.config import Authority, Labels, Scheme
from scenarios.run.catalogue import find_protocol
from scenarios.run.folder import RunFolder
from scenarios.run.predict import predict, query
from tests.conftest import TINY

CASES = [
    ("plain", {}),
    ("plain_fe", {}),
    ("plain_fe", {"scheme": Scheme.DDH}),
    ("plain_fe", {"scheme": Scheme.RLWE}),
    ("mitig1", TINY),
    ("mitig1", {**TINY, "owners": 2, "authority": Authority.OWNER}),
    ("mitig2", {"owners": 3}),
    ("mitig2", {"labels": Labels.OWNER, "layers": "8,6", "hidden": None}),
]


@pytest.fixture(scope="session")
def runs(runs_without_ledger):
    """Nobody asks here who learned what in a run: do not write into their folders."""
    return runs_without_ledger


@pytest.fixture(scope="module")
def asked(runs, tmp_path_factory):
    """(run, folder of the prediction, its result) of a case."""
    done = {}

    def ask(scenario, options):
        key = str((scenario, options))
        if key not in done:
            run = runs(scenario, **options)[0]
            out = tmp_path_factory.mktemp("predictions") / "run"
            done[key] = (run, *predict(query(run, None, None, 12, "inline", out)))
        return done[key]

    return ask


@pytest.mark.parametrize(("scenario", "options"), CASES, ids=str)
def test_the_classes_are_those_of_the_trained_weights(asked, scenario, options):
    run, folder, result = asked(scenario, options)
    weights, config = run.final_weights(), run.config()
    if getattr(config, "weight_scale", 0):  # the weights that the cloud decrypts with are rounded
        weights["w1"] = np.rint(weights["w1"] * config.weight_scale).astype(np.float32) / config.weight_scale
    x, y = queried(run.spec()[0], 12)
    expected = nn.accuracy(weights["w1"], weights["weights"], weights["biases"], config, x, y)
    with open(folder.path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == result["samples"] == 12 and result["accuracy"] == expected
    assert [int(row["label"]) for row in rows] == y.tolist()
    assert np.mean([row["predicted"] == row["label"] for row in rows]) == expected


@pytest.mark.parametrize(("scenario", "options"), CASES, ids=str)
def test_a_prediction_sends_exactly_the_arrows_of_its_figure(asked, scenario, options):
    run, folder, _ = asked(scenario, options)
    view = View(tuple((path, name) for name, path in folder.sources.items()))
    rows = view.rows(None, Kind.SENT)
    sent = {(r.phase, r.sender.partition(":")[0], r.receiver.partition(":")[0], r.label) for r in rows}
    assert sent == {a.key for a in find_protocol(scenario).PREDICT if a.applies(run.config())}
    assert folder.faults() == []


@pytest.mark.parametrize(("scenario", "options"), CASES[1:], ids=str)
def test_the_cloud_sees_no_queried_sample(asked, scenario, options):
    run, folder, _ = asked(scenario, options)
    x = queried(run.spec()[0], 12)[0]
    rows = Transcript(folder.sources["cloud_trainer"]).query("SELECT data FROM payloads")
    seen = b"".join(bytes(data) for (data,) in rows)
    needles = [
        image.astype(t)[:32].tobytes() for image in x for t in (np.uint8, np.int16, np.int64, np.float32)
    ]
    needles += [(image[:32] / 16).astype(t).tobytes() for image in x for t in (np.float32, np.float64)]
    assert not any(needle in seen for needle in needles)


def test_what_is_kept_for_it_is_readable_by_its_owner_only_and_never_the_samples(runs):
    run, _ = runs("plain_fe")
    files = sorted((run.path / "state").iterdir())
    assert [file.name for file in files] == ["cloud_trainer", "data_owner:0", "key_authority"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600} and (
        run.path / "state"
    ).stat().st_mode & 0o777 == 0o700
    assert not any(b"images" in file.read_bytes() for file in files)


def test_of_many_owners_one_asks_and_what_the_cloud_keeps_does_not_grow_with_them(runs, tmp_path):
    many, one = (runs("plain_fe", samples=60, owners=owners)[0].path / "state" for owners in (20, 1))
    assert [file.name for file in sorted(many.iterdir())] == [
        "cloud_trainer",
        "data_owner:0",
        "key_authority",
    ]
    for name in ("cloud_trainer", "data_owner:0"):
        assert (many / name).stat().st_size == (one / name).stat().st_size


def test_coins_are_fresh_so_that_no_mask_is_used_twice(runs, tmp_path):
    run, _ = runs("plain_fe")
    folders = [predict(query(run, None, None, 4, "inline", tmp_path / str(i)))[0] for i in range(2)]
    cts = [folder.view("cloud_trainer")["ct"][0] for folder in folders]
    assert not np.array_equal(cts[0].c0, cts[1].c0)
    coins = {folder.view("data_owner")["coins"][0].tobytes() for folder in (*folders, run)}
    assert len(coins) == 3


def test_processes_tell_the_same_classes(asked, tmp_path):
    run, folder, _ = asked("mitig2", {"owners": 3})
    again = predict(query(run, None, None, 12, "local", tmp_path / "run"))[0]
    assert (again.path / "predictions.csv").read_text() == (folder.path / "predictions.csv").read_text()


def test_other_pixels_are_refused(runs, tmp_path):
    np.savez(tmp_path / "other.npz", images=np.zeros((9, 5, 5), np.uint8), labels=np.arange(9) % 3)
    with pytest.raises(ConfigError, match="trained on 64 pixels of 0 to 16"):
        query(runs("mitig2")[0], str(tmp_path / "other.npz"), None, None, "inline", None)


def test_a_run_that_did_not_finish_is_refused(runs, tmp_path):
    shutil.copytree(runs("mitig2")[0].path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "state")
    with pytest.raises(DataError, match="did not finish"):
        query(RunFolder(tmp_path / "run"), None, None, None, "inline", None)


@pytest.mark.parametrize("damage", [b"", b"\x00" * 40, "swap"])
def test_a_damaged_state_is_one_line(runs, tmp_path, damage):
    shutil.copytree(runs("mitig2")[0].path, tmp_path / "run")
    state = tmp_path / "run" / "state"
    content = (state / "data_owner:0").read_bytes() if damage == "swap" else damage
    (state / "cloud_trainer").write_bytes(content)
    with pytest.raises(KeyholeError, match="cloud_trainer"):
        predict(replace(query(RunFolder(tmp_path / "run"), None, None, 4, "inline", tmp_path / "out")))


def test_the_keys_of_training_open_what_is_asked_under_plain_fe(runs, tmp_path):
    run, _ = runs("plain_fe", samples=64, hidden=16, batch=8, epochs=2)
    result = predict(query(run, None, None, 12, "inline", tmp_path / "out"))[1]
    (known,) = [row for row in result["learned"] if row["quantity"] == "samples"]
    assert (known["party"], known["how"], known["of"]) == (
        "cloud_trainer",
        "exact",
        "the 12 samples asked about",
    )
    assert "12 of 12 tried are solved" in known["detail"]


def test_too_few_keys_of_training_bound_what_is_asked(asked):
    for scenario, options in (("plain_fe", {}), ("mitig1", TINY), ("mitig2", {"owners": 3})):
        (known,) = [row for row in asked(scenario, options)[2]["learned"] if row["quantity"] == "samples"]
        assert known["how"] == "bounded" and known["of"] == "the 12 samples asked about"


def test_a_missing_state_names_the_file(runs, tmp_path):
    shutil.copytree(runs("mitig2")[0].path, tmp_path / "run")
    (tmp_path / "run" / "state" / "cloud_trainer").unlink()
    with pytest.raises(DataError, match="state/cloud_trainer: missing"):
        query(RunFolder(tmp_path / "run"), None, None, None, "inline", None)


def test_the_start_of_processes_is_not_counted(runs, tmp_path, monkeypatch):
    class Late(InlineRuntime):
        def __init__(self, *args):
            super().__init__(*args)
            time.sleep(1.0)

    monkeypatch.setattr("scenarios.run.hosts.InlineRuntime", Late)
    run = runs("plain_fe")[0]
    _, result = predict(query(run, None, None, 4, "inline", tmp_path / "out"))
    assert 0 < result["seconds"] < 1.0
