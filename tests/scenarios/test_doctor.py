"""`keyhole doctor`: what is missing is said, with how to mend it, and status 1."""

import json
from collections import namedtuple

import pytest
from typer.testing import CliRunner

from scenarios.cli import app
from scenarios.run import doctor

Usage = namedtuple("Usage", "total used free")


def told(*args):
    outcome = CliRunner().invoke(app, ["doctor", *args], env={"COLUMNS": "100"})
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit)
    return outcome.exit_code, outcome.stdout


def state_of(name):
    _, out = told("--json")
    return next((each["state"], each["mend"]) for each in json.loads(out)["checks"] if each["name"] == name)


def test_a_machine_that_runs_these_tests_is_ready():
    status, out = told()
    assert status == 0 and out.rstrip().endswith("ready to run") and "MISSING" not in out
    content = json.loads(told("--json")[1])
    assert content["ready"] and {"python", "libraries", "ray", "memory", "shared memory", "disk"} <= {
        each["name"] for each in content["checks"]
    }


@pytest.mark.parametrize(("free", "state"), [(0, "missing"), (1 << 30, "advice"), (1 << 40, "ok")])
def test_disk(monkeypatch, free, state):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(1 << 41, 0, free))
    assert state_of("disk")[0] == state
    assert told()[0] == (1 if state == "missing" else 0)


def test_memory(monkeypatch):
    monkeypatch.setattr(doctor, "_LEAST_MEMORY", 1 << 60)
    state, mend = state_of("memory")
    assert state == "missing" and "--runtime" in mend and "to mend it: close something" in told()[1]


def test_an_old_python(monkeypatch):
    monkeypatch.setattr(doctor, "_PYTHON", (9, 1))
    assert state_of("python")[0] == "missing"


@pytest.mark.parametrize(("line", "said"), [
    ("no-such-package>=1", "not installed"), ("numpy>=99", "wanted >=99"),
    ("no-such-package>=1; extra == 'dev'", None),
])  # fmt: skip
def test_libraries(monkeypatch, line, said):
    monkeypatch.setattr(doctor, "requires", lambda name: [line])
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
