"""`keyhole doctor`: what is missing is said, with how to mend it, and status 1."""

import json
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scenarios.cli import app
from scenarios.run import doctor

Usage = namedtuple("Usage", "total used free")
Memory = namedtuple("Memory", "available")
GIB = 1 << 30


class Machine:
    """A machine that has what a run needs, whatever the one is that the tests run on."""

    def __init__(self, monkeypatch):
        self._patch = monkeypatch
        self.memory(8 * GIB)
        self.disk(64 * GIB)
        self.cores(4)
        self.files(1 << 16)
        monkeypatch.setattr(doctor.os, "access", lambda path, mode: True)
        monkeypatch.setattr(doctor, "requires", lambda name: ["numpy>=1", "ray>=2"])
        monkeypatch.setattr(doctor, "version", {"numpy": "2.0", "ray": "2.9"}.__getitem__)

    def memory(self, free):
        self._patch.setattr(doctor.psutil, "virtual_memory", lambda: Memory(free))

    def disk(self, free, shared=64 * GIB):
        usage = {Path("/dev/shm"): Usage(1 << 41, 0, shared)}
        self._patch.setattr(
            doctor.shutil, "disk_usage", lambda path: usage.get(Path(path), Usage(1 << 41, 0, free))
        )

    def cores(self, count):
        self._patch.setattr(doctor.os, "sched_getaffinity", lambda process: set(range(count)), raising=False)

    def files(self, count):
        self._patch.setattr(doctor.resource, "getrlimit", lambda what: (count, count))


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    return Machine(monkeypatch)


def told(*args):
    outcome = CliRunner().invoke(app, ["doctor", *args], env={"COLUMNS": "100"})
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit)
    return outcome.exit_code, outcome.stdout


def state_of(name):
    _, out = told("--json")
    return next((each["state"], each["mend"]) for each in json.loads(out)["checks"] if each["name"] == name)


def test_a_machine_that_has_everything_is_ready():
    status, out = told()
    assert status == 0 and out.rstrip().endswith("ready to run") and "MISSING" not in out
    content = json.loads(told("--json")[1])
    assert content["ready"] and {each["name"]: each["state"] for each in content["checks"]} == dict.fromkeys(
        ["python", "libraries", "ray", "memory", "shared memory", "disk", "temporary files", "processors",
         "open files"], "ok",
    )  # fmt: skip


def test_the_libraries_of_these_tests_are_as_the_package_wants_them(monkeypatch):
    monkeypatch.setattr(doctor, "requires", metadata.requires)
    monkeypatch.setattr(doctor, "version", metadata.version)
    assert state_of("libraries") == ("ok", "") and state_of("ray") == ("ok", "")


AMOUNTS = [(0, "missing"), (GIB // 4 - 1, "missing"), (GIB, "advice"), (4 * GIB, "ok")]


@pytest.mark.parametrize(("free", "state"), AMOUNTS)
def test_disk(machine, free, state):
    machine.disk(free)
    assert state_of("disk")[0] == state_of("temporary files")[0] == state
    assert told()[0] == (1 if state == "missing" else 0)


def test_a_folder_that_is_not_writable(monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    state, mend = state_of("disk")
    assert state == "missing" and "TMPDIR" in mend and "not writable" in told()[1]


@pytest.mark.parametrize(("free", "state"), [(GIB - 1, "missing"), (2 * GIB, "advice"), (3 * GIB, "ok")])
def test_memory(machine, free, state):
    machine.memory(free)
    found, mend = state_of("memory")
    assert found == state and ("--runtime" in mend) == (state != "ok")
    assert ("close something" in told()[1]) == (state != "ok")
    assert told()[0] == (1 if state == "missing" else 0)


def test_what_is_advised_is_no_reason_to_stop(machine):
    machine.disk(64 * GIB, shared=1)
    machine.cores(1)
    machine.files(256)
    assert [state_of(name)[0] for name in ("shared memory", "processors", "open files")] == ["advice"] * 3
    status, out = told()
    assert status == 0 and "--shm-size=1g" in out and "ulimit -n 4096" in out


def test_an_old_python(monkeypatch):
    monkeypatch.setattr(doctor, "_PYTHON", (9, 1))
    assert state_of("python")[0] == "missing"


@pytest.mark.parametrize(("line", "said"), [
    ("no-such-package>=1", "not installed"), ("numpy>=99", "wanted >=99"),
    ("no-such-package>=1; extra == 'dev'", None),
])  # fmt: skip
def test_libraries(monkeypatch, line, said):
    monkeypatch.setattr(doctor, "requires", lambda name: [line])
    monkeypatch.setattr(doctor, "version", metadata.version)
    status, out = told()
    if said is None:
        assert status == 0
    else:
        name, _, _ = line.partition(">=")
        assert (
            status == 1 and said in out and f"pip install -c constraints.txt '{line}'" in out and name in out
        )


def test_a_library_that_does_not_load(monkeypatch):
    monkeypatch.setattr(doctor, "_NATIVE", {"numpy": "no_such_module_of_numpy"})
    assert state_of("numpy")[0] == "missing" and "--force-reinstall" in state_of("numpy")[1]
