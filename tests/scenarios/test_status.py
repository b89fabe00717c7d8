"""What becomes of a run is written first and last, and every reader says it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from parties.record.transcript import Transcript
from protocols.language.errors import DataError, StepError
from scenarios.cli import app
from scenarios.run import execute as executing
from scenarios.run.execute import execute
from scenarios.run.folder import RunFolder
from scenarios.run.status import State, incomplete, status_of
from tests.conftest import small


def said(path, *words):
    outcome = CliRunner().invoke(app, [words[0], str(path), *words[1:]])
    return outcome.exit_code, outcome.output


@pytest.fixture
def stopped(tmp_path):
    """A run in a process of its own, stopped by a signal in the middle of training."""
    started = []

    def run(number):
        out = tmp_path / "run"
        words = [  # large batches: few steps until it is stopped, which all that reads them goes through
            "run",
            "mitig2",
            "--samples",
            "1400",
            "--batch",
            "700",
            "--hidden",
            "32",
            "--record",
            "full",
            "--epochs",
            "4000",
            "--runtime",
            "inline",
            "--out",
            str(out),
        ]
        process = subprocess.Popen(
            [sys.executable, "-m", "scenarios", *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        started.append(process)
        until = time.monotonic() + 60
        while time.monotonic() < until and not _steps(out):
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        return out, process.returncode, err.decode()

    yield run
    for process in started:
        process.kill()


def _steps(out):
    """How many steps every party of a run has committed to disk so far."""
    rounds = []
    for name in ("cloud_trainer", "data_owner"):
        try:
            with closing(Transcript(out / "transcripts" / f"{name}.sqlite")) as transcript:
                found = transcript.first("SELECT MAX(round) FROM rows WHERE phase = 'step'")
                rounds.append(found[0] or 0)
        except DataError:
            return 0
    return min(rounds)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_run_that_is_told_to_stop_says_so_in_a_line_and_can_be_read(stopped, number):
    out, status, err = stopped(number)
    how = f"to go on: keyhole run --resume {out}"
    assert status == 1 and err == f"keyhole: interrupted; what was recorded so far is kept; {how}\n"
    assert status_of(RunFolder(out)).state is State.INTERRUPTED
    status, told = said(out, "show", "--verify")
    assert status == 3 and told.startswith("incomplete: interrupted; last message "), told
    assert "replayed: " in told


def test_a_run_that_was_killed_is_incomplete_and_not_altered(stopped):
    out, status, _ = stopped(signal.SIGKILL)
    assert status == -signal.SIGKILL and json.loads((out / "status.json").read_text())["state"] == "running"
    status, told = said(out, "show", "--verify")
    assert status == 3 and told.startswith("incomplete: killed; last message "), told
    for words in (("learned", "--no-audit"), ("show",), ("attack", "--attack", "labels"), ("coalitions",)):
        status, told = said(out, *words)
        assert status == 0 and "incomplete: killed" in told, (words, told)
    status, told = said(out, "attack", "--attack", "labels", "--controls")
    assert status == 2 and "--controls repeats a whole run" in told
    execute(replace(small("mitig2"), out=out))
    assert [path.name for path in sorted(out.parent.glob("run*"))] == ["run", "run-killed-1"]


def test_a_run_that_goes_on_is_said_to_be_running(runs, tmp_path):
    run, _ = runs()
    assert incomplete(run) == "" and status_of(run).state is State.COMPLETE
    said = json.loads((run.path / "status.json").read_text())
    assert said["process"] == os.getpid()
    (tmp_path / "status.json").write_text(json.dumps({**said, "state": "running"}))
    (tmp_path / "transcripts").mkdir()
    assert incomplete(RunFolder(tmp_path)) == "incomplete: running; no message crossed"
    (tmp_path / "status.json").write_text(json.dumps({**said, "state": "done"}))
    with pytest.raises(DataError, match="state"):
        incomplete(RunFolder(tmp_path))


def test_training_that_diverges_stops_where_a_message_is_not_finite(tmp_path):
    experiment = replace(small("mitig2", lr=1e30), out=tmp_path / "run")
    with pytest.raises(StepError, match=r"cannot send dz1 in phase step, round \d+: it is not finite"):
        execute(experiment)
    run = RunFolder(tmp_path / "run")
    status = status_of(run)
    assert status.state is State.FAILED and "not finite" in status.reason
    assert said(run.path, "show", "--verify")[0] == 3
    with pytest.raises(StepError):
        execute(experiment)
    assert (tmp_path / "run-failed-1").is_dir()


def test_a_finished_folder_is_not_set_aside(runs):
    run, _ = runs()
    with pytest.raises(DataError, match="exists and is not empty"):
        execute(replace(small("mitig2"), out=run.path))


def test_a_ledger_that_fails_does_not_lose_the_run(monkeypatch, tmp_path):
    def broken(*_):
        raise StopIteration

    monkeypatch.setattr(executing, "learned", broken)
    _, result = execute(replace(small("mitig2"), out=tmp_path / "run"))
    (line,) = result["learned"]
    assert line["how"] == "not analysed" and "StopIteration" in line["detail"]
    assert result["accuracy"]["test"] is not None and status_of(RunFolder(tmp_path / "run")).complete


def test_a_status_that_hides_what_was_forged_is_a_fault(runs, tmp_path):
    shutil.copytree(runs()[0].path, tmp_path / "run")
    path = tmp_path / "run" / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": "interrupted"}))
    status, told = said(tmp_path / "run", "show", "--verify")
    assert status == 1 and told.startswith("altered: status: ")
