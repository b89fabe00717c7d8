"""An attack that crashes costs its own row and nothing else of a run."""

import json

import jsonschema
import pytest
from typer.testing import CliRunner

from scenarios.cli import app
from scenarios.page.page import page
from scenarios.run.catalogue import find_scenario
from scenarios.run.execute import execute
from scenarios.run.experiment import prepare
from tests.conftest import RESULT_SCHEMA

BODIES = {
    "bad": "raise ValueError(f'pixel {relations.count()}')",
    "odd": "return Reconstruction(Quantity.IMAGES, np.arange(4), np.zeros((4, 3)))",
    "none": "return None",
    "dies": "os._exit(3)",
}


@pytest.fixture
def files(tmp_path):
    """An attack of the user's own for each body."""
    for name, body in BODIES.items():
        (tmp_path / f"{name}.py").write_text(
            "import os\n\nimport numpy as np\n\n"
            "from parties.adversary.attack import Quantity, Reconstruction\n\n"
            f'NAME, SUMMARY, CONSUMES = "{name}", "an attack that goes wrong", ()\n\n\n'
            f"def solve(relations, prior, rng):\n    {body}\n"
        )
    return {name: str(tmp_path / f"{name}.py") for name in BODIES}


def run_with(tmp_path, attacks, runtime="inline"):
    asked = {"samples": 24, "layers": (8,), "batch": 8, "epochs": 1, "runtime": runtime, "seed": 3,
             "no_audit": True, "attack": attacks, "out": tmp_path / "run"}  # fmt: skip
    return execute(prepare(find_scenario("plain_fe"), asked))


def logged(run):
    lines = map(json.loads, (run.path / "run.log").read_text().splitlines())
    return {line["attack"]: line for line in lines if line["event"] == "attack_failed"}


def test_the_rest_of_the_run_is_there_and_the_crash_is_a_row(tmp_path, files):
    run, result = run_with(tmp_path, (files["bad"], files["odd"], files["none"], "label-outputs"))
    jsonschema.validate(result, RESULT_SCHEMA)
    assert run.result["attacks"] == json.loads(json.dumps(result["attacks"]))
    rows = {row["attack"]: row for row in result["attacks"]}
    assert [name for name, row in rows.items() if row.get("failed")] == ["bad", "odd", "none"]
    assert not any(rows[name]["applicable"] for name in ("bad", "odd", "none"))
    assert rows["bad"]["why"] == "ValueError in bad.py, line 11"
    assert "while it was scored" in rows["odd"]["why"] and "solve must return" in rows["none"]["why"]
    assert result["accuracy"]["baseline_test"] is not None and result["learned"]
    assert rows["label_outputs"]["applicable"] or rows["label_outputs"]["why"]
    assert run.faults() == []


def test_the_log_has_the_calls_and_no_value(tmp_path, files):
    run, _ = run_with(tmp_path, (files["bad"], files["odd"]))
    found = logged(run)
    assert set(found) == {"bad", "odd"}
    assert any(call.startswith(f"{files['bad']}:11 in solve") for call in found["bad"]["calls"])
    assert found["bad"]["calls"][-1] == "ValueError"
    assert "pixel 24" not in (run.path / "run.log").read_text() + (run.path / "result.json").read_text()


def test_an_adversary_that_dies_is_started_again_for_the_next(tmp_path, files):
    run, result = run_with(tmp_path, (files["dies"], "label-outputs"), "local")
    dead, next_ = result["attacks"]
    assert dead["failed"] and dead["corrupted"] == ["cloud_trainer"] and "process died" in dead["why"]
    assert not next_.get("failed") and next_["attack"] == "label_outputs"
    assert logged(run)["dies"]["reason"] == dead["why"]


def test_it_is_said_where_results_are_shown(tmp_path, files):
    run, _ = run_with(tmp_path, (files["bad"],))
    shown = page([run])
    assert "failed: ValueError in bad.py, line 11" in shown and "not applicable: ValueError" not in shown


def test_an_attack_that_is_asked_for_by_itself_fails_as_before(tmp_path, files):
    run, _ = run_with(tmp_path, ())
    outcome = CliRunner().invoke(app, ["attack", str(run.path), "--attack", files["bad"]])
    assert outcome.exit_code == 1 and "bad.py:11" in outcome.stderr
