"""The bench of a round against owners held: what it measures of a process, and that it stops one."""

import json
import sys
import time
from pathlib import Path

import psutil
import pytest

from scenarios.study import bench_crowd
from scenarios.study.bench import BENCHES
from scenarios.study.bench_tools import Sizes

HOLDS = "block = bytearray({nbytes}); block[::4096] = b'x' * len(block[::4096])"
TELLS = f"""
import json, subprocess, sys, time
{HOLDS}
child = subprocess.Popen([sys.executable, "-c", {HOLDS + "; input()"!r}], stdin=subprocess.PIPE)
time.sleep(1.5)
now = time.time()
print(json.dumps({{{{"ends": [now, now + 0.5, now + 1.0]}}}}), flush=True)
print(child.pid, flush=True)
time.sleep({{seconds}})
child.communicate(b"\\n")
"""
MANY = 64 << 20


def command(seconds):
    return [sys.executable, "-c", TELLS.format(nbytes=MANY, seconds=seconds)]


def test_rounds_and_memory_of_a_process_and_of_all_below_it(tmp_path):
    found = bench_crowd.timed(command(0.5), tmp_path)
    assert found.round == pytest.approx(0.5) and 1.5 < found.startup < found.seconds
    assert found.driver > MANY and found.processes > found.driver + MANY
    assert "500 ms a round" in found.text and "all processes" in found.text


def test_a_size_that_takes_too_long_is_stopped_with_all_its_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_crowd, "_STOPPING", 0.5)
    found = bench_crowd.timed(command(60), tmp_path, limit=4)
    assert found.round is None and found.text.startswith("stopped at its limit of 4 s")
    child = int((tmp_path / "told").read_text().split()[-1])
    until = time.monotonic() + 10
    while psutil.pid_exists(child) and time.monotonic() < until:
        time.sleep(0.1)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_process_that_fails_says_why(tmp_path):
    found = bench_crowd.timed([sys.executable, "-c", "raise SystemExit('no table')"], tmp_path)
    assert found.round is None and found.text.startswith("failed: no table")


def test_owners_of_one_row_are_trained_and_told(monkeypatch):
    sizes = Sizes(Path("."), 100, None, 8)
    monkeypatch.setattr(bench_crowd, "_ROUNDS", 3)
    found = bench_crowd.held(100, sizes, runtime="local")
    assert found.why == "" and 0 < found.round < found.startup
    assert found.processes > found.driver > 0


def test_without_flower_the_line_that_installs_it_is_named(monkeypatch):
    nothing = bench_crowd.Timed(1.0, 0.1, 3.0, 1, 2)
    monkeypatch.setattr(bench_crowd, "held", lambda owners, sizes: nothing)
    monkeypatch.setattr(bench_crowd.importlib.util, "find_spec", lambda name: None)
    theirs, ours, compared = BENCHES["flower"](Sizes(Path("."), 100, None, None))
    assert (
        theirs.measured == bench_crowd.WITHOUT_FLOWER and "pip install 'flwr[simulation]'" in theirs.measured
    )
    assert ours.value["owners"] == 100 and "unlike" in compared.measured
    json.dumps([vars(each) for each in (ours, theirs, compared)])


def test_the_curve_says_how_flat_it_is(monkeypatch):
    rounds = iter([0.2, 0.4, 0.25, 0.9, 0.3, None])
    monkeypatch.setattr(
        bench_crowd, "held", lambda owners, sizes: bench_crowd.Timed(1.0, next(rounds), 3.0, 1, 2)
    )
    *sizes, flat = BENCHES["crowd"](Sizes(Path("."), 10_000, None, None))
    assert [each.value["owners"] for each in sizes] == [100, 1_000, 10_000]
    assert [[one["round"] for one in each.value["all"]] for each in sizes] == [
        [0.2, 0.9],
        [0.4, 0.3],
        [0.25, None],
    ]
    assert flat.value == pytest.approx(1.5) and flat.stated == bench_crowd.FLAT


def test_a_table_is_the_same_each_time_and_has_every_class():
    (x, y), (again, _) = bench_crowd.table(70_000), bench_crowd.table(70_000)
    assert (x == again).all() and x.shape == (70_000, 64) and set(y.tolist()) == set(range(10))
