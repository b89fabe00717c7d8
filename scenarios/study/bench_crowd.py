"""What a round costs against the owners that are held, here and in the simulation of Flower: 100 take part.

Every size is a process of its own, which is stopped where it takes too long. Its memory is the sum over it
and all processes below it of their proportional set sizes (PSS: a page that k processes share counts 1/k in
each), sampled several times a second; shared memory of Ray's object store counts as far as it is touched.
Start-up is from the start of the process to the end of the first round, a round the mean of those after it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from parties.record.transcript import Record
from protocols.language.errors import KeyholeError
from scenarios.study.bench_tools import Figure, Sizes, pss

PER_ROUND = 100
OWNERS = (100, 1_000, 10_000, 100_000, 1_000_000)
CLIENTS = (100, 1_000, 10_000)
FLAT = "flat within a factor of 1.3"
WITHOUT_FLOWER = (
    "not measured: flwr is not installed; in an environment of its own, as it pins another Ray: "
    "python -m venv VENV && VENV/bin/pip install 'flwr[simulation]', then --flower VENV/bin/python"
)
# What is alike in both, and what is not.
ALIKE = (
    "alike: one row of 64 features an owner, a network 64-32-10, 100 owners a round, one step of each, the "
    "mean of what they send, one machine"
)
UNLIKE = (
    "unlike: MITIG2 splits the network (four messages an owner and round, the upper layer stays at the "
    "cloud), computes in torch and records every message with its digest; Flower sends the whole network to "
    "each client and back, computes in numpy and records nothing; its rounds are fewer, as they take longer"
)

_FLOWER = Path(__file__).with_name("flower_job.py")  # not imported: it is for another Python
_FEATURES, _CLASSES, _TEST = 64, 10, 200
_ROUNDS, _FLOWER_ROUNDS = 20, 4
_REPEATS = 2
_SECONDS = 150.0  # that a size may take
_SAMPLED = 0.3  # seconds between two samples of memory
_STOPPING = 15.0  # seconds that a process which took too long has to end by itself


@dataclass(frozen=True)
class Timed:
    """What a process took: seconds until its first round had ended, of a round after it, and in all; peak PSS
    in bytes, of itself and with all processes below it. Without rounds: `why`.
    """

    startup: float | None
    round: float | None
    seconds: float
    driver: int
    processes: int
    why: str = ""

    @property
    def text(self) -> str:
        """In a line."""
        if self.startup is None or self.round is None:
            return f"{self.why} after {self.seconds:.0f} s; {self._memory}"
        rounds = f"{self.round * 1e3:.0f} ms a round, start-up {self.startup:.1f} s"
        return f"{rounds}, {self.seconds:.1f} s in all; {self._memory}"

    @property
    def _memory(self) -> str:
        return f"peak PSS {self.driver / 2**30:.2f} GiB, all processes {self.processes / 2**30:.2f} GiB"


Side = Callable[[int], Timed]


def crowd(sizes: Sizes) -> Iterator[Figure]:
    """A round of MITIG2 against owners held, headers only."""
    rounds: list[float] = []
    for figure in _of_sizes("crowd", _up_to(OWNERS, sizes), {"here": lambda owners: held(owners, sizes)}):
        rounds += [] if figure.value["round"] is None else [figure.value["round"]]
        yield figure
    if len(rounds) > 1:
        apart = max(rounds) / min(rounds)
        what = f"a round, dearest against cheapest of {len(rounds)} sizes"
        yield Figure("crowd", what, f"{apart:.2f}", FLAT, apart)


def flower(sizes: Sizes) -> Iterator[Figure]:
    """The same job here and in Flower, side by side."""
    python = python_with_flower(sizes)
    sides: dict[str, Side] = {"here": lambda owners: held(owners, sizes)}
    if python is not None:
        yield Figure("flower", "versions of Flower and its Ray", versions(python))
        sides["Flower"] = lambda owners: in_flower(python, owners, sizes)
    else:
        yield Figure("flower", "Flower", WITHOUT_FLOWER)
    yield from _of_sizes("flower", _up_to(CLIENTS, sizes), sides)
    yield Figure("flower", "what is compared", f"{ALIKE}; {UNLIKE}")


def python_with_flower(sizes: Sizes) -> str | None:
    """The Python that was given, or this one if it has Flower."""
    return sizes.flower or (sys.executable if importlib.util.find_spec("flwr") else None)


def _of_sizes(bench: str, sizes: Sequence[int], sides: Mapping[str, Side]) -> Iterator[Figure]:
    """Every size on every side."""
    cells = {
        f"{owners} owners, {min(PER_ROUND, owners)} a round, {side}": (owners, partial(sides[side], owners))
        for owners in sizes for side in sides
    }  # fmt: skip
    yield from beside(bench, cells)


def beside(bench: str, cells: Mapping[str, tuple[int, Callable[[], Timed]]]) -> Iterator[Figure]:
    """Every cell, (owners, what takes its time), and then all of them again: what else a machine does comes
    and goes, and only adds. Of each the faster one counts.
    """
    took = [[take() for _, take in cells.values()] for _ in range(_REPEATS)]
    for (what, (owners, _)), each in zip(cells.items(), zip(*took, strict=True), strict=True):
        timed = min(each, key=lambda one: (one.round is None, one.round))
        value = {**asdict(timed), "owners": owners, "all": [asdict(one) for one in each]}
        yield Figure(bench, f"{what}: faster of {_REPEATS}", timed.text, value=value)


def held(owners: int, sizes: Sizes, **more: Any) -> Timed:
    """MITIG2 with so many owners of one row, through Ray; a warm round needs `PER_ROUND` of them."""
    with tempfile.TemporaryDirectory(prefix="keyhole-crowd-") as scratch:
        images, labels = table(owners + _TEST)
        path = Path(scratch) / "table.npz"
        arrays = {
            "images": images[:owners].reshape(-1, 8, 8), "labels": labels[:owners],
            "test_images": images[owners:].reshape(-1, 8, 8), "test_labels": labels[owners:],
        }  # fmt: skip
        with open(path, "wb") as file:  # in a folder that nobody else may read
            np.savez(file, **arrays)
        del images, labels, arrays
        options = {
            "dataset": str(path), "owners": owners, "per_round": min(PER_ROUND, owners), "rounds": _ROUNDS,
            "local_steps": 1, "hidden": sizes.hidden or 32, **more,
        }  # fmt: skip
        return trained_here(options, Path(scratch))


def trained_here(options: Mapping[str, Any], scratch: Path) -> Timed:
    """A training, headers only, in a process of its own."""
    asked = {"record": Record.HEADERS.value, "seed": 0, "no_audit": True, "out": str(scratch / "run")}
    command = [sys.executable, "-m", "scenarios.study.crowd_job", json.dumps({**asked, **options})]
    return timed(command, scratch)


def in_flower(python: str, clients: int, sizes: Sizes) -> Timed:
    """The job in Flower's simulation, by the Python that has it."""
    images, labels = table(clients)
    job = {
        "per_round": min(PER_ROUND, clients), "rounds": _FLOWER_ROUNDS, "hidden": sizes.hidden or 32,
        "unit": 255, "local_steps": 1, "lr": 0.1, "momentum": 0.0,
    }  # fmt: skip
    return trained_in_flower(python, job, images, labels, np.arange(clients + 1))


def trained_in_flower(python: str, job: Mapping[str, Any], images: Any, labels: Any, first: Any) -> Timed:
    """A job of clients in Flower's simulation: of images (N, n) and labels (N,) client m holds the rows from
    `first[m]` on, (M + 1,).
    """
    with tempfile.TemporaryDirectory(prefix="keyhole-crowd-") as scratch:
        for name, array in (("x.npy", images), ("y.npy", labels), ("first.npy", first)):
            with open(Path(scratch) / name, "wb") as file:
                np.save(file, array)
        whole = {**job, "owners": len(first) - 1, "features": images.shape[1], "folder": scratch}
        return timed([python, str(_FLOWER), json.dumps(whole)], Path(scratch))


def table(rows: int) -> tuple[Any, Any]:
    """A made table: features (rows, 64) from 0 to 255, and classes by the largest of ten random forms."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (rows, _FEATURES), dtype=np.uint8)
    forms = rng.normal(size=(_FEATURES, _CLASSES)).astype(np.float32)
    labels = [np.argmax((part - 127.5) @ forms, axis=1) for part in np.array_split(images, -(-rows // 65536))]
    return images, np.concatenate(labels)


def timed(command: Sequence[str], scratch: Path, limit: float = _SECONDS) -> Timed:
    """Run a command that prints the ends of its rounds, and watch its memory; it is stopped at the limit."""
    driver = processes = 0
    with open(scratch / "told", "wb") as told, open(scratch / "errors", "wb") as errors:
        began, clock = time.time(), time.perf_counter()
        process = subprocess.Popen(command, stdout=told, stderr=errors, start_new_session=True)
        late = False
        try:
            while process.poll() is None and not late:
                mine, all_of_them = _memory(process.pid)
                driver, processes = max(driver, mine), max(processes, all_of_them)
                time.sleep(_SAMPLED)
                late = time.perf_counter() - clock > limit
        finally:  # also of a bench that is interrupted
            if process.poll() is None:
                _stop(process)
    seconds = time.perf_counter() - clock
    ends = _ends((scratch / "told").read_text(encoding="utf-8", errors="replace"))
    if late or len(ends) < 2:
        why = f"stopped at its limit of {limit:.0f} s" if late else _last_line(scratch / "errors")
        return Timed(None, None, seconds, driver, processes, why)
    return Timed(ends[0] - began, (ends[-1] - ends[0]) / (len(ends) - 1), seconds, driver, processes)


def _up_to(numbers: Sequence[int], sizes: Sizes) -> list[int]:
    """The sizes, up to the one that was given for samples: an owner holds one."""
    return [number for number in numbers if not sizes.samples or number <= sizes.samples]


def _ends(told: str) -> list[float]:
    """The ends of rounds, from the only line that states them."""
    for line in told.splitlines():
        if line.startswith('{"ends"'):
            found: Mapping[str, list[float]] = json.loads(line)
            return found["ends"]
    return []


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"failed: {lines[-1][:200] if lines else 'it said nothing'}"


def _memory(pid: int) -> tuple[int, int]:
    """PSS of a process, and of it and all below it."""
    try:
        process = psutil.Process(pid)
        below = process.children(recursive=True)
    except psutil.Error:
        return 0, 0
    mine = pss(process)
    return mine, mine + sum(map(pss, below))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and all below it: first with a word, then without."""
    try:
        everybody = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.Error:
        everybody = []
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOPPING)
    for each in everybody:
        with contextlib.suppress(psutil.Error):
            each.kill()  # of psutil: not another process that has the number by now
    process.wait()


def versions(python: str) -> str:
    """Those of Flower and of its Ray; `KeyholeError` where it has none."""
    asked = "import flwr, ray; print(f'flwr {flwr.__version__}, ray {ray.__version__}')"
    found = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False, timeout=60)
    if found.returncode:
        raise KeyholeError(f"{python} has no flwr[simulation]")
    return found.stdout.strip()
