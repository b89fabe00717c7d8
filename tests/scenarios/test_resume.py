"""A run that was stopped, whatever stopped it, goes on to the end of the run that nothing happened to."""

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner

from parties.record import writer
from parties.record.kept import Kept, Record
from parties.record.view import Kind
from parties.record.witness import Departed
from parties.runtime import dispatch, inline
from protocols.language.errors import ConfigError, DataError
from scenarios.cli import app
from scenarios.run import execute as executing
from scenarios.run import resume as resuming
from scenarios.run.certify import certify
from scenarios.run.execute import execute, resume
from scenarios.run.folder import RunFolder
from scenarios.run.status import State, status_of
from tests.conftest import RESULT_SCHEMA, TINY, small

FORK = multiprocessing.get_context("fork")
LONG = {"epochs": 15}
LEDGER = executing._learned
MANY = {**LONG, "owners": 8, "per_round": 2, "samples": 48, "batch": 4}


@pytest.fixture
def killed(tmp_path):
    """A run, or one that goes on, in a process of its own, killed so many rounds and seconds after that."""

    def run(experiment, rounds, seconds=0.0):
        out = tmp_path / "run"
        started = None if experiment is None else replace(experiment, out=out)
        process = FORK.Process(target=_in_a_thread, args=(started, out, rounds, seconds))
        process.start()
        process.join(timeout=120)
        assert process.exitcode == -signal.SIGKILL
        assert status_of(RunFolder(out)).state is State.KILLED
        return out

    return run


def _in_a_thread(*args):
    """OpenMP keeps its workers by thread, and those of the one that forked are gone."""
    thread = threading.Thread(target=_until_killed, args=args)
    thread.start()
    thread.join()
    os._exit(0)


def _until_killed(experiment, out, rounds, seconds):
    writer._COMMIT_SECONDS = 0.01  # a run of a second would be over before the first
    left = iter(range(rounds))
    for runtime in (dispatch.Dispatcher, inline.InlineRuntime):
        runtime.end_phase = _and_then(
            runtime.end_phase, lambda _: next(left, None) is None and _kill(seconds)
        )
    if experiment is None:
        resume(out)
    else:
        execute(experiment)


def _and_then(method, action):
    def both(self, phase, round_):
        method(self, phase, round_)
        action(self)

    return both


def _kill(seconds):
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(autouse=True)
def no_ledger(monkeypatch):
    """Most of the time of a small run, and nothing of what is looked at here."""
    monkeypatch.setattr(executing, "_learned", lambda *_: [])


@pytest.fixture
def runs(runs_without_ledger):
    return runs_without_ledger


CASES = [
    ("plain_fe", LONG),
    ("plain_fe", {**LONG, "owners": 3}),
    ("mitig2", MANY),
    ("mitig1", {**TINY, "epochs": 3}),
    ("plain", LONG),
    ("he_train", {"epochs": 2}),
    ("reverse_he", {}),
]


@pytest.mark.parametrize("runtime", ["local", "inline"])
@pytest.mark.parametrize(("protocol", "options"), CASES, ids=str)
def test_a_run_whose_command_was_killed_goes_on_to_the_same_end(protocol, options, runtime, killed, runs):
    experiment, rng = small(protocol, **options, runtime=runtime), np.random.default_rng(len(str(options)))
    path = killed(experiment, int(rng.integers(1, max(2, experiment.steps - 1))), float(rng.uniform(0, 0.1)))
    undisturbed = runs(protocol, **options)[1]
    run, result = resume(path)
    assert result["transcript_digest"] == undisturbed["transcript_digest"]
    assert result["accuracy"] == {
        **undisturbed["accuracy"],
        "seconds_by_epoch": result["accuracy"]["seconds_by_epoch"],
    }
    assert run.faults() == [] and status_of(run).complete
    (once,) = result["resumed"]
    assert once["phase"] and once["message"] > 0 and once["seconds"] > 0


ON_RAY = """
from dataclasses import replace
from pathlib import Path
from tests.conftest import small
from tests.scenarios import test_resume as here
out = Path({out!r})
here._until_killed(replace(small("mitig2", **here.MANY, runtime="ray"), out=out), out, 30, 0.2)
"""


@pytest.mark.ray
def test_a_run_on_ray_whose_command_was_killed_goes_on_to_the_same_end(tmp_path, runs, ray_session):
    out = tmp_path / "run"
    command = [sys.executable, "-c", ON_RAY.format(out=str(out))]
    assert subprocess.run(command, check=False, timeout=120).returncode == -signal.SIGKILL
    run, result = resume(out)
    assert result["transcript_digest"] == runs("mitig2", **MANY)[1]["transcript_digest"]
    assert result["resumed"][0]["message"] > 0 and run.faults() == []
    assert [path.name for path in (out / "transcripts").iterdir() if path.suffix != ".sqlite"] == []


def test_a_run_without_a_seed_goes_on_with_the_coins_in_its_views(killed, monkeypatch):
    monkeypatch.setattr(executing, "_learned", LEDGER)  # which is certified as well
    path = killed(small("plain_fe", **LONG, runtime="local", seed=None), 20)
    coins = [drawn(path, party) for party in ("data_owner:0", "key_authority", "cloud_trainer")]
    run, result = resume(path)
    assert result["resumed"][0]["message"] > 0 and certify(run).faults == ()
    assert coins == [drawn(path, party) for party in ("data_owner:0", "key_authority", "cloud_trainer")]
    assert len({*coins}) == 3


@pytest.mark.parametrize("runtime", ["local", "inline"])
@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        ("plain_fe", {**LONG, "record": Record.CONSUMED}),
        ("mitig2", {**MANY, "record": Record.HEADERS}),
        ("mitig2", {**MANY, "record_full": ("data_owner:1",)}),
    ],
    ids=str,
)
def test_a_run_that_kept_few_payloads_is_sent_again(protocol, options, runtime, killed, runs):
    path = killed(small(protocol, **options, runtime=runtime), 10, 0.1)
    undisturbed = runs(protocol, **options)
    run, result = resume(path)
    assert result["transcript_digest"] == undisturbed[1]["transcript_digest"]
    assert result["resumed"][0]["message"] > 0 and run.faults() == []
    assert [payloads(each) for each in run.transcripts] == [
        payloads(each) for each in undisturbed[0].transcripts
    ]


def payloads(path):
    with sqlite3.connect(path) as connection:
        return sorted(connection.execute("SELECT sha256 FROM payloads"))


def test_a_run_without_a_seed_that_kept_what_is_consumed_goes_on(killed, monkeypatch):
    monkeypatch.setattr(executing, "_learned", LEDGER)  # which is certified as well
    path = killed(small("plain_fe", **LONG, runtime="local", seed=None, record=Record.CONSUMED), 20)
    coins = [drawn(path, party) for party in ("data_owner:0", "key_authority", "cloud_trainer")]
    run, result = resume(path)
    assert result["resumed"][0]["message"] > 0 and certify(run).faults == ()
    assert coins == [drawn(path, party) for party in ("data_owner:0", "key_authority", "cloud_trainer")]


def drawn(path, party):
    with closing(RunFolder(path).view(party)) as view:
        return tuple(row.sha256 for row in view.rows(None, Kind.COINS))


def test_a_run_that_is_killed_again_and_loses_a_process_goes_on_again(killed, runs):
    killed(small("mitig2", **MANY, runtime="local"), 8, 0.1)
    path = killed(None, 20, 0.1)
    with pytest.MonkeyPatch.context() as patch:
        lose = iter([False] * 30 + [True])  # a host, in the part that is new
        patch.setattr(
            dispatch.Dispatcher,
            "end_phase",
            _and_then(dispatch.Dispatcher.end_phase, lambda runtime: next(lose, False) and _lose(runtime)),
        )
        run, result = resume(path)
    assert result["transcript_digest"] == runs("mitig2", **MANY)[1]["transcript_digest"]
    first, second = result["resumed"]
    assert 0 < first["message"] <= second["message"]
    assert [each["host"] for each in result["recovered"]] == ["cloud_trainer"] and run.faults() == []
    jsonschema.validate(json.loads(json.dumps(result)), RESULT_SCHEMA)


def _lose(runtime):
    os.kill(runtime.pids["cloud_trainer"], signal.SIGKILL)


def test_a_run_that_was_killed_while_it_was_attacked_is_attacked_again(tmp_path, runs, monkeypatch):
    experiment = replace(small("plain_fe", attack=("labels",)), out=tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(executing, "attack_run", lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            execute(experiment)
    before = {path.name: path.read_bytes() for path in RunFolder(tmp_path / "run").transcripts}
    with monkeypatch.context() as patch:
        patch.setattr(executing, "train", None)  # it has trained
        run, result = resume(tmp_path / "run")
    assert [row["attack"] for row in result["attacks"]] == ["labels"]
    assert result["resumed"][0] == {"phase": "attack", "round": -1, "message": None, "seconds": 0.0}
    undisturbed = runs("plain_fe", attack=("labels",))[1]
    assert result["attacks"][0]["metrics"] == undisturbed["attacks"][0]["metrics"]
    assert {path.name: path.read_bytes() for path in run.transcripts} == before and run.faults() == []


@pytest.fixture
def stopped(tmp_path):
    """A run that failed in the middle of training, at every host at once."""

    def run(**options):
        left = iter(range(5))

        def observe(event, value):
            if event == "step" and next(left, None) is None:
                raise MemoryError

        with pytest.raises(MemoryError):
            execute(replace(small("mitig2", **{**LONG, **options}), out=tmp_path / "run"), observe)
        return tmp_path / "run"

    return run


def resumed_by_command(path, *more):
    outcome = CliRunner().invoke(app, ["run", "--resume", str(path), *more])
    return outcome.exit_code, outcome.output


def test_the_command_goes_on_with_a_run(stopped, runs):
    path = stopped()
    status, told = resumed_by_command(path, "--json")
    assert status == 0 and json.loads(told)["resumed"][0]["round"] == 5
    assert json.loads(told)["transcript_digest"] == runs("mitig2", **LONG)[1]["transcript_digest"]
    status, told = resumed_by_command(path)
    assert (status, told) == (2, f"keyhole: {path}: is complete; there is nothing to go on with\n")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("plain",), "give no scenario"),
        (("--resume", "nowhere"), "nowhere: no such run folder"),
        ((), "Usage"),
    ],
)
def test_what_cannot_be_resumed_is_said_in_a_line(words, why):
    words = ("--resume", "nowhere", *words) if words == ("plain",) else words
    outcome = CliRunner().invoke(app, ["run", *words])
    assert why in outcome.output and (outcome.exit_code != 0 or not words)


def test_headers_without_a_seed_are_nothing_to_go_on_with(stopped):
    path = stopped(record=Record.HEADERS, seed=None)
    before = (path / "status.json").read_bytes()
    with pytest.raises(ConfigError, match="has headers only and was given no seed, .* needs --seed, or"):
        resume(path)
    assert (path / "status.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"instructions": "VSX"}, r"a processor with \w+, then VSX"),
        ({"versions": {"torch": "0.4"}}, r"torch [\w.+]+, then 0\.4"),
    ],
)
def test_a_run_of_another_version_or_processor_is_not_gone_on_with(stopped, change, why):
    path = stopped()
    said = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps({**said, "basis": {**said["basis"], **change}}))
    with pytest.raises(DataError, match=why):
        resume(path)


def test_a_run_that_is_still_at_work_is_left_alone(stopped, monkeypatch):
    path = stopped()
    monkeypatch.setattr(resuming, "_LEAVING_SECONDS", 0.0)
    left = writer.TranscriptWriter(path / "transcripts" / "other", Kept())
    with pytest.raises(DataError, match="a process of the run is still at work"):
        resume(path)
    left.close()
    (path / "transcripts" / "other").unlink()
    said = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps({**said, "state": "running"}))
    with pytest.raises(ConfigError, match="is running"):
        resume(path)
    (path / "status.json").write_text(json.dumps({**said, "state": "running", "born": "another boot 1"}))
    assert status_of(RunFolder(path)).state is State.KILLED and resume(path)[1]["resumed"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            "UPDATE rows SET sha256 = zeroblob(32) WHERE label = 'z1' AND round = 1",
            "'z1' .* is not the stored one",
        ),
        ("UPDATE rows SET label = 'z2' WHERE label = 'z1' AND round = 1", "stands where 'z2'"),
        ("UPDATE steps SET step = 'protocols.mitig2.other' WHERE id = 7", "protocols.mitig2.other is stored"),
        ("DELETE FROM steps WHERE id > 3", "that is not stored"),
    ],
)
def test_a_transcript_that_is_not_of_this_run_is_left_as_it_is(stopped, change, why):
    path = stopped()
    owner = path / "transcripts" / "data_owner.sqlite"
    with closing(sqlite3.connect(owner)) as connection:
        connection.execute(change)
        connection.commit()
    stored = list(sqlite3.connect(owner).execute("SELECT * FROM rows ORDER BY id"))
    with pytest.raises(Departed, match=why):
        resume(path)
    assert list(sqlite3.connect(owner).execute("SELECT * FROM rows ORDER BY id")) == stored
