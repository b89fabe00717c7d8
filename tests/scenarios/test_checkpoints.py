"""`--checkpoint-every`: what was computed before a checkpoint is not computed again, whatever was killed and
whichever payloads are kept, and the run ends as the one that nothing happened to.
"""

import json
import os
import signal
import stat
import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from parties.party import Party
from parties.record.kept import Record
from parties.runtime import checkpoint, checkpoints, dispatch
from parties.runtime.plain_state import Lowering, Raising
from protocols.language.errors import DataError, EncodingError, HostLost
from protocols.network import training
from scenarios.run import execute as executing
from scenarios.run.execute import execute, resume
from scenarios.run.folder import RunFolder
from scenarios.run.status import State, status_of
from tests.conftest import TINY, small
from tests.scenarios import test_resume
from tests.scenarios.test_resume import LONG, MANY, _and_then

SECURE = {**MANY, "per_round": 4, "dropout": 0.1, "defence": ("secure-aggregation",)}


killed = test_resume.killed


@pytest.fixture(autouse=True)
def no_ledger(monkeypatch):
    """Most of the time of a small run, and nothing of what is looked at here."""
    monkeypatch.setattr(executing, "_learned", lambda *_: [])


@pytest.fixture
def runs(runs_without_ledger):
    return runs_without_ledger


CASES = [
    ("plain_fe", LONG),
    ("plain_fe", {**LONG, "scheme": "rlwe", "labels": "febo"}),
    ("mitig2", {**MANY, "momentum": 0.9}),
    ("mitig2", SECURE),
    ("fedsgd", {**MANY, "hidden": None, "layers": (8, 6), "optimizer": "adam"}),
    ("mitig1", {**TINY, "epochs": 4}),
    ("reverse_he", {}),
]
RECORDS = [Record.FULL, Record.HEADERS]


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("runtime", ["local", "inline"])
@pytest.mark.parametrize(("protocol", "options"), CASES, ids=str)
def test_a_run_whose_command_was_killed_goes_on_from_a_checkpoint(
    protocol, options, runtime, record, killed, runs, monkeypatch
):
    if protocol == "reverse_he" and record is Record.HEADERS:
        pytest.skip("its base is an input, which headers do not hold: such a run cannot be resumed")
    rounds, every = {"reverse_he": (3, 1), "mitig1": (5, 2)}.get(protocol, (12, 2))
    experiment = small(protocol, **options, runtime=runtime, record=record, checkpoint_every=every)
    path = killed(experiment, rounds, 0.1)
    starts = started_from(monkeypatch)
    run, result = resume(path)
    undisturbed = runs(protocol, **options)[1]
    assert result["transcript_digest"] == undisturbed["transcript_digest"]
    assert result["accuracy"]["test_by_epoch"] == undisturbed["accuracy"]["test_by_epoch"]
    assert starts[-1] > 0 and run.faults() == [] and len(result["resumed"]) == 1
    assert not checkpoint.folder_of(path).exists()


def started_from(monkeypatch):
    """At which checkpoints hosts begin, in the order in which that is decided."""
    found, decide = [], checkpoints.from_checkpoint

    def deciding(specs):
        decided = decide(specs)
        found.append(decided[0].start)
        return decided

    for module in ("scenarios.run.resume", "scenarios.run.leaving_out", "parties.runtime.dispatch"):
        monkeypatch.setattr(f"{module}.from_checkpoint", deciding)
    return found


@pytest.mark.parametrize("protocol", ["plain_fe", "mitig2"])
def test_what_was_before_the_checkpoint_is_not_computed_again(protocol, killed, monkeypatch):
    experiment = small(protocol, **LONG, runtime="inline", checkpoint_every=5)
    path = killed(experiment, 20)
    done, call = [], Party.call

    def counted(self, do, header, told):
        done.append((do.phase, do.round))
        return call(self, do, header, told)

    monkeypatch.setattr(Party, "call", counted)
    monkeypatch.setattr(executing, "_baseline", lambda *_: None)  # a training of its own
    starts = started_from(monkeypatch)
    resume(path)
    assert starts[-1] > 0 and min(round_ for phase, round_ in done if phase == "step") >= 10
    assert not any(phase in ("setup", "upload") for phase, _ in done)


def losing(monkeypatch, host, rounds):
    """Have the process of a host killed after so many rounds."""
    left = iter(range(rounds))
    monkeypatch.setattr(
        dispatch.Dispatcher,
        "end_phase",
        _and_then(
            dispatch.Dispatcher.end_phase, lambda it: next(left, None) == rounds - 1 and _kill(it, host)
        ),
    )


def _kill(runtime, *hosts):
    for host in hosts:
        os.kill(runtime.pids[host], signal.SIGKILL)


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize(
    ("protocol", "options", "host", "rounds"),
    [
        ("mitig2", MANY, "cloud_trainer", 30),
        ("mitig2", SECURE, "key_authority", 60),
        ("mitig2", MANY, "data_owner.1", 40),
        ("plain_fe", LONG, "cloud_trainer", 25),
        ("plain_fe", LONG, "data_owner", 25),
        ("mitig1", {**TINY, "epochs": 4}, "cloud_trainer", 8),
    ],
    ids=str,
)
def test_a_process_that_was_killed_goes_on_from_a_checkpoint(
    protocol, options, host, rounds, record, runs, tmp_path, monkeypatch
):
    losing(monkeypatch, host, rounds)
    starts = started_from(monkeypatch)
    experiment = small(protocol, **options, runtime="local", record=record, checkpoint_every=2)
    run, result = execute(replace(experiment, out=tmp_path / "run"))
    assert result["transcript_digest"] == runs(protocol, **options)[1]["transcript_digest"]
    assert starts[-1] > 0 and run.faults() == []
    assert [each["host"] for each in result["recovered"]] == [host] and "resumed" not in result


def test_processes_that_are_killed_together_and_one_after_another_go_on(runs, tmp_path, monkeypatch):
    left = iter(range(1000))
    at = {20: ("cloud_trainer", "data_owner.0"), 30: ("data_owner.1",), 40: ("key_authority",)}
    end_phase = dispatch.Dispatcher.end_phase

    def ending(self, phase, round_):
        end_phase(self, phase, round_)
        _kill(self, *at.get(next(left), ()))

    monkeypatch.setattr(dispatch.Dispatcher, "end_phase", ending)
    experiment = small("mitig2", **MANY, runtime="local", checkpoint_every=3)
    run, result = execute(replace(experiment, out=tmp_path / "run"))
    assert result["transcript_digest"] == runs("mitig2", **MANY)[1]["transcript_digest"]
    assert {each["host"] for each in result["recovered"]} == {name for names in at.values() for name in names}
    assert run.faults() == []


@pytest.mark.ray
def test_a_process_of_ray_that_was_killed_goes_on_from_a_checkpoint(tmp_path, runs, ray_session, monkeypatch):
    losing(monkeypatch, "cloud_trainer", 30)
    starts = started_from(monkeypatch)
    experiment = small("mitig2", **LONG, runtime="ray", record=Record.HEADERS, checkpoint_every=4)
    run, result = execute(replace(experiment, out=tmp_path / "run"))
    assert result["transcript_digest"] == runs("mitig2", **LONG)[1]["transcript_digest"]
    assert starts[-1] > 0 and run.faults() == []
    assert [each["host"] for each in result["recovered"]] == ["cloud_trainer"]


def test_a_checkpoint_is_for_its_owner_alone_and_goes_when_the_run_is_complete(tmp_path):
    seen, out = {}, tmp_path / "run"

    def observe(event, value):
        if event == "step" and checkpoint.folder_of(out).is_dir():
            for path in (checkpoint.folder_of(out), *checkpoint.folder_of(out).iterdir()):
                seen[path.name] = stat.S_IMODE(path.stat().st_mode)

    before = os.umask(0)
    try:
        execute(
            replace(small("plain_fe", **LONG, checkpoint_every=4, record=Record.HEADERS), out=out), observe
        )
    finally:
        os.umask(before)
    assert seen.pop("checkpoints") == 0o700 and len(seen) > 3 and set(seen.values()) == {0o600}
    assert not checkpoint.folder_of(out).exists()


def test_old_checkpoints_go_as_newer_ones_are_every_hosts(tmp_path):
    out, most = tmp_path / "run", []

    def observe(event, value):
        if event == "step":
            most.append(len(checkpoint.found(checkpoint.folder_of(out), "cloud_trainer")))

    execute(replace(small("plain_fe", **LONG, checkpoint_every=1), out=out), observe)
    assert 1 <= max(most) <= 2


def test_what_cannot_be_written_is_said_and_the_run_goes_on_without(runs, tmp_path, monkeypatch, capsys):
    update = training.update_w1

    def odd(state, dw1):
        update(state, dw1)
        state.held["lock"] = ODD

    monkeypatch.setattr(training, "update_w1", odd)
    losing(monkeypatch, "data_owner", 20)
    experiment = small("mitig2", **LONG, runtime="local", checkpoint_every=2)
    run, result = execute(replace(experiment, out=tmp_path / "run"))
    assert result["transcript_digest"] == runs("mitig2", **LONG)[1]["transcript_digest"]
    assert [each["host"] for each in result["recovered"]] == ["data_owner"]
    events = [json.loads(line) for line in (run.path / "run.log").read_text().splitlines()]
    (why,) = [each["reason"] for each in events if each["event"] == "no_checkpoint"]
    assert why == "data_owner:0: held['lock'] is a Odd"
    assert status_of(run).no_checkpoint == why


class Odd:
    """What no checkpoint can hold."""


ODD = Odd()


def test_headers_without_checkpoints_end_with_a_line(tmp_path, monkeypatch):
    losing(monkeypatch, "cloud_trainer", 20)
    experiment = small("mitig2", **LONG, runtime="local", record=Record.HEADERS)
    with pytest.raises(HostLost, match="died"):
        execute(replace(experiment, out=tmp_path / "run"))
    assert status_of(RunFolder(tmp_path / "run")).state is State.FAILED


@dataclass
class Pair:
    """Two that are one."""

    a: torch.Tensor
    b: object


def there_and_back(value):
    lowering, raising = Lowering(), Raising()
    plain = lowering.lowered(value, "x")
    lowering.check_apart()
    return raising.raised(plain)


def test_state_comes_back_as_it_was():
    rng, base = np.random.default_rng(3), np.arange(12.0).reshape(3, 4)
    rng.random(5)
    tensor = torch.from_numpy(base)
    shared = [1, 2]
    fixed = np.arange(3)
    fixed.flags.writeable = False
    held = {
        ("ct", 1): (None, True, 2**200, b"x", "y", 1.5),
        "rng": rng,
        "pair": Pair(tensor, base),
        "lists": [shared, shared],
        "order": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "fixed": fixed,
        "empty": np.zeros((0, 4), np.uint8),
        "scalar": np.float32(0.1),
        "record": Record.FULL,
    }
    found = there_and_back(held)
    assert found[("ct", 1)] == held[("ct", 1)] and found["record"] is Record.FULL
    assert found["rng"].random() == rng.random()
    found["pair"].a[0, 0] = 7
    assert found["pair"].b[0, 0] == 7 and base[0, 0] == 0, "a tensor and the array behind it are one"
    found["lists"][0].append(3)
    assert found["lists"][1] == [1, 2, 3]
    assert found["order"].flags.f_contiguous and np.array_equal(found["order"], held["order"])
    assert not found["fixed"].flags.writeable and found["empty"].shape == (0, 4)
    assert found["scalar"] == held["scalar"] and type(found["scalar"]) is np.float32


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (threading.Lock(), "x is a lock"),
        ({"a": [1, {2, 3}]}, r"x\['a'\]\[1\] is a set"),
        (np.array([None]), "x is an array of object"),
        ((lambda a: [a, a[1:]])(np.zeros(4)), "shares its memory"),
    ],
)
def test_what_cannot_be_written_is_named(value, why):
    with pytest.raises(EncodingError, match=why):
        there_and_back(value)


def test_a_checkpoint_that_names_another_class_runs_nothing():
    for plain in ({"new": [["c", "subprocess", "Popen", []]], "value": 0},
                  {"new": [["k", "os", "system"]], "value": 0},
                  {"new": [["k", "antigravity", "x"]], "value": 0}):  # fmt: skip
        with pytest.raises(DataError):
            Raising().raised(plain)
