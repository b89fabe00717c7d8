"""Inline and Ray are the same protocol: same digest, same errors, nothing left behind."""

import os
import signal
import sqlite3
import time
from dataclasses import replace

import psutil
import pytest

from parties.datasets import Split
from parties.transcript import Record
from protocols.errors import HostLost, StepError
from protocols.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY
from protocols.session import Session
from scenarios.run import execute, host_specs
from scenarios.runs import new_folder
from tests.conftest import small


def digest_of(runs, **options):
    return runs("plain_fe", **options)[1]["transcript_digest"]


def test_the_digest_depends_on_the_seed_only(runs, tmp_path):
    again = execute(replace(small(), out=tmp_path / "again"))[1]["transcript_digest"]
    assert digest_of(runs) == again == digest_of(runs, record=Record.HEADERS)
    assert digest_of(runs, seed=8) != again


def test_without_a_seed_two_runs_differ(tmp_path):
    digests = {execute(replace(small(seed=None), out=tmp_path / str(i)))[1]["transcript_digest"] for i in range(2)}
    assert len(digests) == 2


@pytest.mark.ray
@pytest.mark.parametrize("options", [{}, {"owners": 5, "split": Split.LABEL}], ids=str)
def test_ray_and_inline_write_the_same_transcript(ray_session, runs, options):
    inline, ray = runs("plain_fe", **options), runs("plain_fe", runtime="ray", attack=("stack", "labels"), **options)
    assert inline[1]["transcript_digest"] == ray[1]["transcript_digest"]
    assert inline[0].faults() == ray[0].faults() == []
    assert [a["applicable"] for a in ray[1]["attacks"]] == [False, True]
    assert inline[1]["learned"] == ray[1]["learned"]


@pytest.mark.ray
def test_hosts_end_with_the_run(ray_session, tmp_path):
    runtime, _ = started(small(runtime="ray"), tmp_path)
    pids = list(runtime.pids.values())
    assert len(set(pids) | {os.getpid()}) == 4 and all(psutil.pid_exists(pid) for pid in pids)
    runtime.finish()
    assert ended(pids)


@pytest.mark.parametrize("runtime", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_failing_step_names_party_step_phase_and_cause(request, runtime, tmp_path):
    if runtime == "ray":
        request.getfixturevalue("ray_session")
    experiment = replace(small(runtime=runtime, weight_bound=0.01, weight_scale=4096), out=tmp_path / "run")
    with pytest.raises(
        StepError, match=r"cloud_trainer: quantised_w1 failed in phase step, round 0: W1 leaves the range"
    ):
        execute(experiment)
    rows = sqlite3.connect(tmp_path / "run" / "transcripts" / "cloud_trainer.sqlite").execute("SELECT label FROM rows")
    assert ("ct",) in rows.fetchall()
    assert not (tmp_path / "run" / "result.json").exists()
    assert "run_failed" in (tmp_path / "run" / "run.log").read_text()


@pytest.mark.ray
def test_a_lost_process_is_reported_with_its_parties(ray_session, tmp_path):
    runtime, session = started(small(runtime="ray", epochs=200), tmp_path)
    os.kill(runtime.pids["key_authority"], signal.SIGKILL)
    experiment = small(epochs=200)
    with pytest.raises(HostLost, match="key_authority"):
        for _ in experiment.scenario.protocol.run(session, experiment.config):
            pass
    runtime.abort()
    assert ended(runtime.pids.values())


@pytest.mark.ray
def test_remote_calls_do_not_depend_on_the_number_of_owners(ray_session, tmp_path):
    calls = {}
    for owners in (2, 24):
        experiment = small(runtime="ray", owners=owners, batch=2, scenario="plain")
        runtime, session = started(experiment, tmp_path / str(owners))
        for _ in experiment.scenario.protocol.run(session, experiment.config):
            pass
        calls[owners] = runtime.remote_calls
        assert len(runtime._rounds) <= 32
        runtime.finish()
    assert calls[2] == calls[24]


def started(experiment, path):
    """A Ray runtime and a session on it, with no message said yet."""
    from parties.runtime.on_ray import RayRuntime

    path.mkdir(exist_ok=True)
    run = new_folder(path / "run", "test")
    runtime = RayRuntime(host_specs(experiment, run))
    protocol = experiment.scenario.protocol
    counts = {DATA_OWNER: experiment.owners, KEY_AUTHORITY: 1, CLOUD_TRAINER: 1}
    return runtime, Session(runtime, protocol.FIGURE, counts, experiment.config)


def ended(pids):
    """Whether all processes are gone within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(alive(pid) for pid in pids):
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
