"""`--checkpoint-every`: what was computed before a checkpoint is not computed again, whatever was killed and
whichever payloads are kept, and the run ends as the one that nothing happened to.
"""

import hashlib
import json
import os
import shutil
import signal
import stat
import threading
from dataclasses import dataclass, replace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from parties.party import Party
from parties.record.kept import Record
from parties.runtime import checkpoint, checkpoints, dispatch
from parties.runtime.plain_state import Lowering, Raising
from protocols.language.errors import ConfigError, DataError, EncodingError, HostLost
from protocols.language.message import decode, encode
from protocols.network import training
from scenarios.run import execute as executing
from scenarios.run.execute import execute, resume
from scenarios.run.folder import RunFolder
from scenarios.run.status import State, status_of
from tests.conftest import TINY, small
from tests.scenarios import test_resume
from tests.scenarios.test_resume import FORK, LONG, MANY, _and_then

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


def test_checkpoints_go_where_the_run_was_killed_before_they_were_removed(tmp_path):
    process = FORK.Process(target=_killed_at_removal, args=(tmp_path / "run",))
    process.start()
    process.join(timeout=120)
    assert process.exitcode == 9 and checkpoint.folder_of(tmp_path / "run").exists()
    run, _ = resume(tmp_path / "run")
    assert status_of(run).complete and not checkpoint.folder_of(run.path).exists()


def _killed_at_removal(out):
    checkpoint.remove = lambda run: os._exit(9)
    execute(replace(small("plain", **LONG, checkpoint_every=4, runtime="inline"), out=out))


UNSEEDED = {**LONG, "seed": None, "record": Record.HEADERS, "checkpoint_every": 2}


@pytest.mark.parametrize("stopping", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("runtime", ["inline", "local"])
def test_checkpoints_go_where_nobody_can_go_on_with_the_run(runtime, stopping, tmp_path):
    seen, out = [], tmp_path / "run"

    def observe(event, value):
        if event == "step" and value == 12:
            seen.append(checkpoint.folder_of(out).exists())
            raise stopping

    with pytest.raises(stopping):
        execute(replace(small("plain", **UNSEEDED, runtime=runtime), out=out), observe)
    assert seen == [True] and not checkpoint.folder_of(out).exists()


def test_checkpoints_go_where_going_on_is_refused(killed):
    path = killed(small("plain", **UNSEEDED, runtime="inline"), 12)
    assert checkpoint.folder_of(path).exists()
    with pytest.raises(ConfigError, match="its coins are gone"):
        resume(path)
    assert not checkpoint.folder_of(path).exists()


def test_nothing_is_written_through_a_link(tmp_path):
    out, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()

    def observe(event, value):
        if event == "setup" and not os.path.lexists(checkpoint.folder_of(out)):
            checkpoint.folder_of(out).symlink_to(elsewhere)

    run, _ = execute(
        replace(small("plain_fe", **LONG, checkpoint_every=2, record=Record.HEADERS), out=out), observe
    )
    assert list(elsewhere.iterdir()) == [] and not os.path.lexists(checkpoint.folder_of(out))
    assert "is a link" in status_of(run).no_checkpoint


def test_secrets_that_stay_are_said(tmp_path, monkeypatch):
    def refused(folder):
        raise PermissionError(13, "Permission denied")

    checkpoint.folder_of(tmp_path).mkdir()
    monkeypatch.setattr(checkpoint.shutil, "rmtree", refused)
    with pytest.raises(DataError, match="cannot be removed .Permission denied.*secrets"):
        checkpoint.remove(tmp_path)


def test_what_was_revealed_behind_a_cut_goes(tmp_path):
    for name in ("revealed.3", "revealed.8", "host.8"):
        (tmp_path / name).write_bytes(b"")
    checkpoint.forget_revealed(tmp_path, above=5)
    assert {path.name for path in tmp_path.iterdir()} == {"revealed.3", "host.8"}


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
HERE = __name__.partition(".")[0]  # as the package of a protocol


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
    lowering, raising = Lowering(HERE), Raising(HERE)
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


def test_a_checkpoint_that_names_another_class_runs_nothing(monkeypatch):
    import_module = MagicMock()
    for entry in (["c", "dataclasses", "Field", [0]], ["c", "protocols.network.schedule", "np.ndarray", []],
                  ["k", "subprocess", "Popen"], ["k", "os", "system"], ["k", "antigravity", "x"],
                  ["k", "parties.party", "Path"], ["e", "builtins", "dict", "x"],
                  ["e", "protocols.network.schedule", "Dropped", "x"]):  # fmt: skip
        with monkeypatch.context() as patch, pytest.raises(DataError, match="a checkpoint names"):
            patch.setattr("parties.runtime.plain_state.importlib.import_module", import_module)
            Raising().raised({"new": [["s", 1], entry], "value": 1})
    import_module.assert_not_called()


@pytest.mark.parametrize("name", ["seed", "default_rng", "shuffle", "nosuch"])
def test_a_checkpoint_calls_nothing_of_numpy_but_bit_generators(name):
    before = np.random.get_state()[1].copy()
    with pytest.raises(DataError):
        Raising().raised(generator(name))
    assert np.array_equal(before, np.random.get_state()[1])


def generator(name):
    entries = [["s", "bit_generator"], ["s", name], ["d", [0], [1]], ["g", 2]]
    return {"new": entries, "value": 3}


@pytest.mark.parametrize(
    ("entries", "value"),
    [
        ([["k", "protocols.nosuch", "X"]], 0),
        ([["k", "protocols..", "X"]], 0),
        ([["k", "protocols", "X"]], 0),
        ([["k", 3, "X"]], 0),
        ([["s", 1]], -1),
        ([["s", 1]], "x"),
        ([["s", 1], ["t", [-1]]], 1),
        ([["s", "x"], ["T", 0]], 1),
        ([["L", [1]], ["d", [0], [0]]], 1),
        ([["a", np.zeros((2, 2)), [5, 6], True]], 0),
        ([["c", "protocols.network.schedule", "Dropped", []]], 0),
        ([[]], 0),
        ([3], 0),
    ],
    ids=str,
)
def test_a_value_that_is_none_is_refused(entries, value):
    with pytest.raises(DataError):
        Raising().raised({"new": entries, "value": value})


WHOSE = checkpoint.Whose("host", ("p",), "a run")


def put(folder, frames, name="host.1"):
    """A file as a stranger writes it, with the right SHA-256."""
    text = b"".join(len(each).to_bytes(8, "little") + bytes(each) for each in frames)
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text + hashlib.sha256(text).digest())


def frames_of(path):
    text, frames = path.read_bytes()[:-32], []
    while text:
        length = int.from_bytes(text[:8], "little")
        frames.append(text[8 : 8 + length])
        text = text[8 + length :]
    return frames


@pytest.fixture
def stranger(tmp_path):
    """A checkpoint that is right but for what is given."""

    def write(frame=None, **more):
        folder = tmp_path / "checkpoints"
        checkpoint.write(folder, WHOSE, checkpoint.Point(1), {"p": {"heap": {0: 1.5}, "state": {}}})
        head, *rest = frames_of(folder / "host.1")
        head = encode({**decode(head), **more}).tobytes()
        put(folder, [head if frame is None else frame, *rest])
        return folder

    return write


def test_a_checkpoint_that_is_right_is_read(stranger):
    assert checkpoint.read(stranger(), WHOSE, 1)[1] == {"p": {"heap": {0: 1.5}, "state": {}}}


@pytest.mark.parametrize(
    "more",
    [
        {"row": "x"}, {"row": -1}, {"steps": 10**30}, {"row": None}, {"sent": {"a": "x"}}, {"sent": 3},
        {"took": {"a": [1]}}, {"took": {"a": ["x", 1, 1]}}, {"rows": 3}, {"parties": ["q"]}, {"parties": 3},
        {"index": [["q", "heap", 0]]}, {"index": [["p", "nope", 0]]}, {"index": [["p", "heap", [1]]]},
        {"index": 3}, {"index": [["p", "heap", 0]] * 2}, {"phases": 2}, {"run": "another"}, {"version": 1},
        {"frame": encode([1, 2]).tobytes()}, {"frame": b""},
    ],
    ids=str,
)  # fmt: skip
def test_a_strangers_head_is_refused_in_a_line(more, stranger):
    with pytest.raises(DataError) as raised:
        checkpoint.read(stranger(**more), WHOSE, 1)
    assert "host.1: " in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("length", [(1 << 64) - 1, 1 << 61, 1 << 20])
def test_a_length_is_bounded_by_what_is_left(length, tmp_path):
    text = length.to_bytes(8, "little") + bytes(50)
    (tmp_path / "host.1").write_bytes(text + hashlib.sha256(text).digest())
    with pytest.raises(DataError, match="host.1: no checkpoint"):
        checkpoint.read(tmp_path, WHOSE, 1)


def test_names_that_are_no_numbers_are_no_checkpoints(tmp_path):
    for name in ("host.\u00b2", "host.x", "host.-1", "other.3", "host.3"):
        (tmp_path / name).write_bytes(b"")
    assert checkpoint.found(tmp_path, "host") == {3}


def _flipped(path):
    text = bytearray(path.read_bytes())
    text[len(text) // 2] ^= 1
    path.write_bytes(text)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def _swapped(path):
    """Another owner's, of the same place."""
    other = path.with_name(path.name.replace("cloud_trainer", "key_authority"))
    path.write_bytes(other.read_bytes())


def _to_nowhere(path):
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("harm", [_flipped, _cut, _swapped, _to_nowhere])
def test_a_checkpoint_that_is_harmed_is_refused_and_the_one_before_taken(
    harm, record, killed, runs, monkeypatch
):
    path = killed(small("mitig2", **MANY, runtime="inline", record=record, checkpoint_every=2), 30)
    numbers = sorted(checkpoint.found(checkpoint.folder_of(path), "cloud_trainer"))
    harm(checkpoint.folder_of(path) / f"cloud_trainer.{numbers[-1]}")
    starts = started_from(monkeypatch)
    run, result = resume(path)
    assert result["transcript_digest"] == runs("mitig2", **MANY)[1]["transcript_digest"]
    assert starts[-1] == (numbers[-2] if len(numbers) > 1 else 0) and run.faults() == []
    (line,) = refusals(run)
    assert f"cloud_trainer.{numbers[-1]}: " in line


def refusals(run):
    events = [json.loads(line) for line in (run.path / "run.log").read_text().splitlines()]
    return [each["reason"] for each in events if each["event"] == "checkpoint_refused"]


@pytest.mark.parametrize(
    ("seed", "other", "why"), [(None, {}, "another transcript"), (3, {"lr": 0.3}, "another run")], ids=str
)
def test_checkpoints_of_another_run_are_refused(seed, other, why, killed, tmp_path, monkeypatch):
    options = {**MANY, "seed": seed, "runtime": "inline", "checkpoint_every": 2}
    experiment = small("mitig2", **options)
    other = small("mitig2", **options, **other) if other else replace(experiment, run_key=os.urandom(32))
    theirs = killed(other, 30)
    shutil.move(checkpoint.folder_of(theirs), tmp_path / "theirs")
    shutil.rmtree(theirs)
    path = killed(experiment, 30)
    shutil.rmtree(checkpoint.folder_of(path))
    shutil.move(tmp_path / "theirs", checkpoint.folder_of(path))
    starts = started_from(monkeypatch)
    run, _ = resume(path)
    assert (
        run.faults() == []
        and starts[-1] == 0
        and refusals(run)
        and all(why in line for line in refusals(run))
    )


def test_what_was_revealed_is_held_against_the_transcript(killed):
    path = killed(small("mitig2", **MANY, runtime="inline", record=Record.HEADERS, checkpoint_every=2), 60)
    first = f"revealed.{min(checkpoint.found(checkpoint.folder_of(path), 'revealed'))}"
    _flipped(checkpoint.folder_of(path) / first)
    with pytest.raises(DataError, match=f"{first}: damaged"):
        resume(path)
    put(checkpoint.folder_of(path), [encode(np.zeros(3)).tobytes()], first)
    with pytest.raises(DataError, match="not what was revealed"):
        resume(path)
