"""What a run shows on a terminal while it goes on, and that it shows nothing elsewhere."""

import os
import pty
import re
import subprocess
import sys

import numpy as np
import pytest

from parties.record.view import Kind
from scenarios.run.crossed import Counted
from scenarios.run.execute import execute
from scenarios.show.terminal import progress_of, waiting
from tests.conftest import small

TINY = "--samples 48 --hidden 8 --batch 16 --epochs 4 --runtime inline --no-audit --seed 7".split()


def on_a_terminal(*args):
    """What a command writes to standard error, a terminal of 80 columns; its standard output is a pipe."""
    master, slave = pty.openpty()
    command, env = (
        [sys.executable, "-m", "scenarios", *args],
        {**os.environ, "COLUMNS": "80", "TERM": "xterm"},
    )
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": slave, "env": env}
    started = subprocess.Popen(command, **how)
    os.close(slave)
    told = b""
    while chunk := _read(master):
        told += chunk
    started.communicate(timeout=60)
    os.close(master)
    assert started.returncode == 0
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", told.decode())


def _read(master):
    try:
        return os.read(master, 4096)
    except OSError:  # the other end is closed
        return b""


def test_a_run_says_what_it_does_from_its_beginning_on(tmp_path):
    told = on_a_terminal("run", "mitig2", *TINY, "--out", str(tmp_path / "run"))
    assert told.index("loading") < told.index("reading data") < told.index("12/12")
    assert "epoch 4 · test accuracy 0." in told and "test loss" in told
    assert "cloud_trainer was sent 1 labels, 12 z1 so far" in told


def test_nothing_is_shown_in_a_pipe_with_quiet_and_with_json(tmp_path, capfd):
    command = [sys.executable, "-m", "scenarios", "run", "plain", *TINY, "--out", str(tmp_path / "pipe")]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""
    assert on_a_terminal("run", "plain", *TINY, "--quiet", "--out", str(tmp_path / "q")).strip() == ""
    with progress_of(3, silent=False) as observe, waiting("loading"):
        observe("step", 1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("runtime", ["inline", "local"])
def test_what_a_party_was_sent_is_what_its_view_has(runtime, tmp_path):
    events = []
    experiment = small("mitig2", epochs=2, owners=2, batch=8, runtime=runtime, out=tmp_path / "run")
    run, result = execute(experiment, lambda *event: events.append(event))
    (*_, last) = (value for event, value in events if event == "sent")
    view = run.view("cloud_trainer")
    received = [row.label for row in view.rows(None, Kind.RECEIVED)]
    assert last == {label: received.count(label) for label in dict.fromkeys(received)}
    tests = [value for event, value in events if event == "test_accuracy"]
    assert tests and tests[-1] == result["accuracy"]["test"]
    losses = [value() for event, value in events if event == "test_loss"]
    assert all(0 < loss < 10 for loss in losses) and np.isfinite(losses).all()


class Behind:
    """A runtime that reports rounds later than it is told of them."""

    def transfer(self, transfer): ...
    def end_phase(self, phase, round): ...


class Sent:
    label, count = "z1", 3

    def __init__(self, *receivers):
        self.receivers = type("Group", (), {"members": receivers})


def test_rounds_that_are_not_reported_yet_are_not_counted():
    counted = Counted(Behind(), ("c",))
    for round in range(3):
        counted.transfer(Sent("c"))
        counted.transfer(Sent("c", "d", "e"))
        counted.transfer(Sent("d"))
        counted.end_phase("step", round)
    assert counted.until("step", 0) == {"z1": 4}
    assert counted.until("step", 2) == {"z1": 12} == counted.until("no such phase", 7)
