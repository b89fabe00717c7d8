"""What happens to a machine under a run: each fault is one line with its cause, a status that is true, a
transcript that can be read, and nothing that goes on.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace

import psutil
import pytest

from parties import party
from parties.record.transcript import Transcript
from parties.runtime import dispatch, watch
from protocols.language.errors import DataError, HostLost, StepError
from scenarios.run.execute import execute
from scenarios.run.folder import RunFolder
from scenarios.run.status import State, status_of
from tests.conftest import small
from tests.parties.test_runtimes import ended
from tests.scenarios.test_status import said

LONG = (
    "run",
    "mitig2",
    "--samples",
    "320",
    "--hidden",
    "32",
    "--epochs",
    "4000",
    "--record",
    "full",
    "--json",
)


def begun(out, *words, **more):
    command = [sys.executable, "-m", "scenarios", *LONG, *words, "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def failed_with(process, out):
    """The line with which a run ends that fails: nothing else is said, and the status is the same."""
    told, line = process.communicate(timeout=60)
    assert process.returncode == 1 and told == "" and line.startswith("keyhole: ") and line.count("\n") == 1
    status = status_of(RunFolder(out))
    assert status.state is State.FAILED and f"keyhole: {status.reason}\n" == line
    return line


def test_a_disk_that_is_full_is_named_and_what_was_written_can_be_read(tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))

    out = tmp_path / "run"
    line = failed_with(begun(out, "--runtime", "local", preexec_fn=limit), out)
    assert "the transcript " in line and " cannot be written: " in line
    status, told = said(out, "show", "--verify")
    assert status == 3 and told.startswith("incomplete: failed: the transcript"), told


def z1_arrived(out):
    """Whether the cloud's transcript, as others read it, holds a step: the log is written before that."""
    try:
        with closing(Transcript(out / "transcripts" / "cloud_trainer.sqlite")) as transcript:
            return transcript.first("SELECT 1 FROM rows WHERE label = 'z1' LIMIT 1") is not None
    except DataError:
        return False  # none yet, or half made


@pytest.mark.ray
@pytest.mark.parametrize(("victim", "name"), [("gcs_server", "Ray's GCS"), ("raylet", "Ray's raylet")])
def test_a_part_of_ray_that_dies_is_named_within_seconds(victim, name, tmp_path):
    out = tmp_path / "run"
    process = begun(out, "--runtime", "ray")
    until = time.monotonic() + 300  # until Ray has started, on a machine that does other things as well
    while time.monotonic() < until and process.poll() is None and not z1_arrived(out):
        time.sleep(0.1)
    assert z1_arrived(out), "the run had not come to its steps"
    processes = psutil.Process(process.pid).children(recursive=True)
    (pid,) = [each.pid for each in processes if each.name() == victim]
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    line = failed_with(process, out)
    assert time.monotonic() - began < 20 and line.startswith(f"keyhole: {name}, ") and "is gone" in line
    assert ended([each.pid for each in processes])
    assert not list(out.glob("transcripts/*-wal"))
    assert len(list(RunFolder(out).view("cloud_trainer").rows("z1"))) > 0


def test_memory_that_runs_out_in_a_step_is_named(tmp_path, monkeypatch):
    load_step = party.load_step

    def hungry(*_):
        raise MemoryError

    monkeypatch.setattr(
        party, "load_step", lambda module, name: hungry if name == "update_first" else load_step(module, name)
    )
    with pytest.raises(
        StepError, match=r"^data_owner:0: update_first failed in phase step, round 0: memory ran out$"
    ):
        execute(replace(small("mitig2"), out=tmp_path / "run"))


def test_a_process_that_the_system_ends_for_want_of_memory_is_said_to_be(tmp_path, monkeypatch):
    killed = iter(range(100))
    monkeypatch.setattr(watch, "killed_for_memory", lambda: next(killed))
    monkeypatch.setattr(dispatch, "_LIVES", 0)
    end_phase = dispatch.Dispatcher.end_phase

    def ending(self, phase, round_):
        end_phase(self, phase, round_)
        if phase == "step" and round_ == 3:
            os.kill(self.pids["data_owner"], signal.SIGKILL)

    monkeypatch.setattr(dispatch.Dispatcher, "end_phase", ending)
    with pytest.raises(HostLost, match=r"carried data_owner:0 died \(memory ran out on this machine"):
        execute(replace(small("mitig2", runtime="local", epochs=20), out=tmp_path / "run"))


@pytest.mark.ray
def test_ray_that_cannot_start_says_why(tmp_path):
    out = tmp_path / "run"
    line = failed_with(begun(out, "--runtime", "ray", env={**os.environ, "RAY_TMPDIR": "/proc/nowhere"}), out)
    assert line.startswith("keyhole: Ray cannot start here: ") and "/proc/nowhere" in line
