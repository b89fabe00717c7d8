"""`--log-to`: what a run says of itself is read back from the files of TensorBoard and of MLflow."""

import json
import struct
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from protocols.language.errors import ConfigError, DataError
from scenarios.cli import app
from scenarios.page.answer import answer
from scenarios.run import log_to
from scenarios.run.execute import execute, resume
from scenarios.run.experiment import data_seed
from scenarios.run.log_to import Logged, checked
from tests.conftest import small

GIVEN = {"epochs": 2, "attack": ("stack",)}


def carried_out(tmp_path, *places, name="run", **more):
    return execute(replace(small(**GIVEN, **more), out=tmp_path / name, log_to=places))


def events(folder):
    """({tag: [(step, value)]}, {tag: text}) of the event files of a folder."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="tensorboardX is not installed")
    numbers, texts = {}, {}
    for path in sorted(folder.glob("events.*")):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            event, data = event_pb2.Event.FromString(data[12 : 12 + size]), data[16 + size :]
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    numbers.setdefault(value.tag, []).append((event.step, value.simple_value))
                else:
                    texts[value.tag.removesuffix("/text_summary")] = value.tensor.string_val[0].decode()
    return numbers, texts


def stored(folder):
    """The same of the only run in a store of MLflow."""
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(folder.as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("keyhole").experiment_id])
    numbers = {
        name: [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    texts = {f"config/{name}": value for name, value in run.data.params.items()} | run.data.tags
    return numbers, texts, run.info


@pytest.mark.parametrize("tool", ["tensorboard", "mlflow"])
def test_what_is_written_is_what_the_result_says(tmp_path, tool):
    pytest.importorskip(log_to.TOOLS[tool].package, reason=f"keyhole[{tool}] is not installed")
    run, result = carried_out(tmp_path, f"{tool}:{tmp_path / 'logs'}")
    if tool == "tensorboard":
        numbers, texts = events(tmp_path / "logs" / "run")
    else:
        numbers, texts, info = stored(tmp_path / "logs")
        assert info.status == "FINISHED" and info.run_name == "run"
    steps = result["steps"]
    ends = [steps // 2 - 1, steps - 1]
    close = lambda values: [(step, pytest.approx(value, rel=1e-6)) for step, value in values]  # noqa: E731
    by_epoch = list(zip(ends, result["accuracy"]["test_by_epoch"], strict=True))
    assert numbers["accuracy/test"][:2] == close(by_epoch)
    assert [step for step, _ in numbers["loss/test"]] == ends
    assert numbers["loss/test"][0][1] > 0 and len({value for _, value in numbers["loss/test"]}) == 2
    assert numbers["accuracy/baseline_test"] == close([(steps - 1, result["accuracy"]["baseline_test"])])
    assert numbers["traffic/bytes"] == close([(steps - 1, sum(e["bytes"] for e in result["traffic"]))])
    assert numbers["seconds/total"] == close([(steps - 1, result["seconds"]["total"])])
    curves = [row["data"]["curve"] for row in result["learned"] if row["data"].get("curve")]
    known = {}
    for step, rank, *_ in (point for curve in curves for point in curve):
        known[step] = max(rank, known.get(step, 0))
    assert known and numbers["ledger/cloud_trainer/samples/rank"] == close(sorted(known.items()))
    assert texts["transcript_digest"] == run.digest() and texts["answer"] == answer(result)
    assert texts["config/layers"] == "[8]" and texts["config/epochs"] == "2"
    assert texts["config/security.labels"] == result["security"]["labels"]


def test_metrics_of_attacks_are_numbers_of_the_run():
    row = {
        "attack": "stack",
        "corrupted": ["cloud_trainer", "data_owner:0"],
        "metrics": {"mse": 0.25, "mse_iqr": [0, 1]},
        "gain": {"mean": 0.5},
    }
    result = {"attacks": [row], "accuracy": {"train": None, "test": 0.5, "baseline_test": None},
              "seconds": {}, "traffic": []}  # fmt: skip
    found = log_to._scalars(result)
    assert found["attack/stack/cloud_trainer_data_owner_0/mse"] == 0.25
    assert found["attack/stack/cloud_trainer_data_owner_0/gain"] == 0.5
    assert not any("iqr" in name or "train" in name.split("/")[-1:] for name in found)


def test_the_seed_that_gives_every_key_is_in_no_log(tmp_path):
    for tool in log_to.TOOLS:
        pytest.importorskip(log_to.TOOLS[tool].package)
    seed = 918273645
    places = [f"{tool}:{tmp_path / tool}" for tool in log_to.TOOLS]
    run, result = carried_out(tmp_path, *places, seed=seed)
    assert result["seed"] == seed
    written = [path for tool in log_to.TOOLS for path in (tmp_path / tool).rglob("*") if path.is_file()]
    assert len(written) > 20
    for told in (seed, data_seed(seed)):  # the second is a short hash of the first, which could be tried
        assert not any(str(told).encode() in path.read_bytes() for path in written)
    assert "log_to" not in json.loads((run.path / "config.json").read_text())["options"]


def test_a_run_of_the_same_name_has_a_folder_of_its_own(tmp_path):
    pytest.importorskip("tensorboardX")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        carried_out(tmp_path / folder, f"tensorboard:{tmp_path / 'tb'}")
    assert sorted(path.name for path in (tmp_path / "tb").iterdir()) == ["run", "run-2"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("tensorbord:x", "expected tensorboard:DIR, mlflow:DIR or mlflow:URI"),
        ("tensorboard", "expected tensorboard:DIR"),
        ("mlflow:", "expected tensorboard:DIR"),
    ],
)
def test_what_is_no_place_is_one_line_before_anything_is_written(tmp_path, place, said):
    outcome = CliRunner().invoke(
        app, ["run", "plain", "--runtime", "inline", "--log-to", place, "--out", str(tmp_path / "r")]
    )
    assert outcome.exit_code == 2 and said in outcome.stderr and outcome.stderr.count("\n") == 1
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("tool", ["tensorboard", "mlflow"])
def test_a_missing_package_is_one_line_with_what_to_install(tmp_path, tool, monkeypatch):
    monkeypatch.setattr(log_to, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"not installed: pip install 'keyhole\[{tool}\]'"):
        checked((f"{tool}:x",))
    with pytest.raises(ConfigError, match="not installed"):
        carried_out(tmp_path, f"{tool}:{tmp_path / 'x'}")
    assert not (tmp_path / "run").exists()


def test_a_place_that_cannot_be_opened_stops_a_run_before_it_trains(tmp_path):
    pytest.importorskip("tensorboardX")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        carried_out(tmp_path, f"tensorboard:{tmp_path / 'file'}")
    assert not list((tmp_path / "run" / "transcripts").iterdir())


def test_an_address_is_named_without_its_password():
    assert log_to._public("https://me:secret@host:1/x") == "https://host:1/x"


def test_a_place_that_fails_later_costs_the_log_and_not_the_run(tmp_path):
    class Broken:
        def scalars(self, values, step):
            raise OSError("no space left on device")

        texts = close = scalars

    said = []
    logged = Logged({"mlflow:x": Broken()}, small(), lambda event, **more: said.append((event, more)))
    for _ in range(2):
        logged.observe("test_accuracy", 0.5)
        logged.observe("epoch", 1)
    logged.close(failed=False)
    assert said == [("log_failed", {"to": "mlflow", "reason": "OSError"})]


def test_a_run_that_goes_on_is_logged_where_that_is_asked_for(tmp_path):
    pytest.importorskip("tensorboardX")

    def stopped(event, value):
        if event == "epoch" and value == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(replace(small(**GIVEN), out=tmp_path / "run"), stopped)
    run, result = resume(tmp_path / "run", log_to=(f"tensorboard:{tmp_path / 'tb'}",))
    numbers, texts = events(tmp_path / "tb" / "run")
    assert texts["transcript_digest"] == result["transcript_digest"] == run.digest()
    assert numbers["accuracy/test"][-1][1] == pytest.approx(result["accuracy"]["test"])


def test_a_password_with_any_sign_in_it_is_not_told():
    for where in ("http://me:p@ss@host/x", "http://me:a/b@host/x", "http://host/x"):
        assert log_to._public(where) == "http://host/x"
