"""A run whose processes do not get on ends in a line that names party, phase and round; nothing is left of
it.
"""

import os
import signal
import time
from dataclasses import replace

import pytest

from parties.party import Party
from parties.runtime import dispatch, local, watch, wire
from parties.runtime.watch import Watch
from parties.runtime.wire import Pulse
from protocols.language.errors import Stalled
from scenarios.run.execute import execute
from scenarios.run.folder import RunFolder
from scenarios.run.status import State, status_of
from tests.conftest import small
from tests.parties.test_runtimes import IN_PROCESSES, ended, pids_of_runs


@pytest.mark.parametrize("name", IN_PROCESSES)
def test_a_process_that_was_stopped_is_named_and_nothing_is_left(name, request, tmp_path, monkeypatch):
    if name == "ray":
        request.getfixturevalue("ray_session")
    pids, stopped, began = pids_of_runs(monkeypatch), [], []
    end_phase = dispatch.Dispatcher.end_phase

    def stopping(self, phase, round_):
        end_phase(self, phase, round_)
        if phase == "step" and round_ == 20 and not stopped:
            stopped.append(self.pids["data_owner"])
            began.append(time.monotonic())
            os.kill(stopped[0], signal.SIGSTOP)

    monkeypatch.setattr(dispatch.Dispatcher, "end_phase", stopping)
    with pytest.raises(Stalled) as raised:
        execute(replace(small("mitig2", runtime=name, epochs=400), out=tmp_path / "run"))
    line, took = str(raised.value), time.monotonic() - began[0]
    assert took < 20
    assert line.startswith("data_owner:0: the process hangs, it has not answered for ")
    assert "cloud_trainer waits for z1 (message " in line and "of data_owner:0) in phase step, round " in line
    assert stopped and set(stopped) < set(pids) and ended(pids)
    run = RunFolder(tmp_path / "run")
    assert status_of(run).state is State.FAILED
    assert not list(run.path.glob("transcripts/cloud_trainer.sqlite-*"))  # it was closed
    came = len(
        run.view("cloud_trainer")["z1"]
    )  # what it was sent last as well, which the owner had not written
    assert line.endswith(f" in phase step, round {came}") and status_of(run).reason == line


def test_a_step_that_does_not_end_is_named(tmp_path, monkeypatch):
    pids, call = pids_of_runs(monkeypatch), Party.call
    monkeypatch.setattr(local, "_CLOSING_SECONDS", 1.0)  # which it is given to close its transcript

    def endless(self, do, header, told):
        while do.step == "first_layer" and do.round == 7:
            pass
        call(self, do, header, told)

    monkeypatch.setattr(Party, "call", endless)  # in every process that is forked
    with pytest.raises(Stalled) as raised:
        execute(replace(small("mitig2", runtime="local", epochs=20, deadline=3.0), out=tmp_path / "run"))
    said = "first_layer in phase step, round 7 takes longer than 3 s; --deadline SECONDS allows more"
    assert str(raised.value) == f"data_owner:0: {said}"
    assert len(pids) == 2 and ended(pids)
    assert len(list(RunFolder(tmp_path / "run").view("cloud_trainer").rows("z1"))) == 7


def test_a_message_that_never_comes_is_named(tmp_path, monkeypatch):
    pids, send = pids_of_runs(monkeypatch), wire.Wire.send

    def losing(self, to, seq, frames):
        if seq < 40:
            send(self, to, seq, frames)

    monkeypatch.setattr(wire.Wire, "send", losing)
    with pytest.raises(Stalled) as raised:
        execute(replace(small("mitig2", runtime="local", epochs=20, deadline=3.0), out=tmp_path / "run"))
    line = str(raised.value)
    assert line.startswith("nothing has crossed for 3 s: ") and "waits for " in line and "(message 4" in line
    assert ended(pids)


def test_time_in_which_the_driver_itself_stood_still_does_not_count(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(watch.wire, "pulse", lambda *_: Pulse(3, doing="forward in phase step, round 1"))
    looking = Watch((), b"")
    looking._carried, looking.deadline = {"a": "a"}, 60.0
    for _ in range(3):
        now[0] += 3600  # a lid that was closed
        assert looking.look({"a": ("", 0)}, {}) == []
    with pytest.raises(Stalled, match=r"a: forward in phase step, round 1 takes longer than 60 s"):
        for _ in range(60):
            now[0] += 2
            looking.look({"a": ("", 0)}, {})


def test_a_process_that_keeps_its_threads_waiting_is_slow_and_one_that_spends_nothing_hangs(monkeypatch):
    now, spent = [100.0], [1.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(watch.wire, "pulse", lambda *_: None)
    monkeypatch.setattr(watch, "processor_seconds", lambda pid: spent[0])
    looking = Watch((), b"")
    looking._carried = {"a": "a"}
    for _ in range(60):
        now[0], spent[0] = now[0] + 2, spent[0] + 0.1
        looking.look({"a": ("", 0)}, {"a": 1})
    with pytest.raises(Stalled, match=r"a: the process hangs, it has not answered for 8 s"):
        for _ in range(5):
            now[0] += 2
            looking.look({"a": ("", 0)}, {"a": 1})
    assert looking.hung == {"a"}
