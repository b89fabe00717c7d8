"""What a run needs of the machine, what of it is here, and how to mend what is not."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
from packaging.requirements import Requirement

_GIB = 1 << 30
_PYTHON = (3, 11)
_LEAST_MEMORY, _MEMORY = 1 * _GIB, 2.5 * _GIB  # the digits take 1.6 GiB through Ray, all of MNIST 2.1
_LEAST_DISK, _DISK = _GIB // 4, 4 * _GIB  # transcripts beyond 2 GB are refused unless they are asked for
_SHARED = _GIB // 2
_FILES = 4096
_CORES = 2
_NATIVE = {  # by package: the module, where it has another name
    "cryptography": "cryptography.hazmat.bindings._rust", "cvxopt": "cvxopt", "gmpy2": "gmpy2",
    "mclbn256": "mclbn256", "numpy": "numpy", "py_arkworks_bls12381": "py_arkworks_bls12381",
    "python-flint": "flint", "torch": "torch", "zstandard": "zstandard",
}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """What was looked at, whether it is as it has to be, or at least enough, and how to mend it."""

    name: str
    state: str  # ok | advice: slower or for some runs not enough | missing: no run without it
    found: str
    mend: str = ""


def checks() -> list[Check]:
    """All of them; none starts Ray or writes anything that stays."""
    found = [_python(), *_libraries(), _ray(), _memory(), _shared_memory(), *_disk(), _cores(), _files()]
    return [replace(check, mend="") if check.state == "ok" else check for check in found]


def _python() -> Check:
    wanted, found = ".".join(map(str, _PYTHON)), platform.python_version()
    mend = f"install Python {wanted}, and make a new environment with it: python{wanted} -m venv .venv"
    return Check("python", "ok" if sys.version_info >= _PYTHON else "missing", found, mend)


def _libraries() -> Iterator[Check]:
    """Those that the package names, by version; and whether what is compiled of them loads here."""
    try:
        wanted = [Requirement(line) for line in requires("keyhole") or ()]
    except PackageNotFoundError:
        yield Check(
            "keyhole", "advice", "not installed: its libraries are not known",
            "pip install -c constraints.txt -e . in the repository",
        )  # fmt: skip
        return
    here = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    needed = [one for one in here if one.name != "ray"]
    bad = [check for check in map(_library, needed) if check.state != "ok"]
    yield from bad
    if not bad:
        yield Check("libraries", "ok", f"all {len(needed)}, and what is compiled of them loads")


def _library(wanted: Requirement) -> Check:
    mend = f"pip install -c constraints.txt '{wanted.name}{wanted.specifier}'"
    try:
        found = version(wanted.name)
        if not wanted.specifier.contains(found, prereleases=True):
            return Check(wanted.name, "missing", f"{found}, wanted {wanted.specifier}", mend)
        if wanted.name in _NATIVE:
            import_module(_NATIVE[wanted.name])
    except PackageNotFoundError:
        return Check(wanted.name, "missing", "not installed", mend)
    except Exception as cause:  # an extension that was built for another machine fails as it likes
        again = f"pip install --force-reinstall --no-deps -c constraints.txt {wanted.name}"
        return Check(wanted.name, "missing", f"does not load: {type(cause).__name__}: {cause}", again)
    return Check(wanted.name, "ok", found)


def _ray() -> Check:
    """What runs use unless another runtime is asked for."""
    other = "or do without: --runtime local, --runtime inline"
    try:
        return Check("ray", "ok", version("ray"))
    except PackageNotFoundError:
        return Check("ray", "missing", "not installed", f"pip install -c constraints.txt ray; {other}")


def _enough(name: str, amount: float, least: float, advised: float, mend: str) -> Check:
    state = "missing" if amount < least else "advice" if amount < advised else "ok"
    found = f"{amount / _GIB:.1f} GiB free"
    return Check(name, state, found if state == "ok" else f"{found}, advised {advised / _GIB:.1f}", mend)


def _memory() -> Check:
    mend = "close something; --runtime local takes about half of what Ray takes, --runtime inline less"
    return _enough("memory", psutil.virtual_memory().available, _LEAST_MEMORY, _MEMORY, mend)


def _shared_memory() -> Check:
    """Ray's store of objects; what crosses between parties does not use it."""
    path = Path("/dev/shm")
    if not path.is_dir():
        return Check("shared memory", "advice", "no /dev/shm: Ray falls back to files",
                     "in a container: --shm-size=1g")  # fmt: skip
    mend = "in a container: --shm-size=1g; else delete what lies in /dev/shm"
    return _enough("shared memory", shutil.disk_usage(path).free, 0, _SHARED, mend)


def _disk() -> Iterator[Check]:
    places = {"disk": Path.cwd(), "temporary files": Path(tempfile.gettempdir())}
    for name, path in places.items():
        if not os.access(path, os.W_OK):
            yield Check(name, "missing", f"{path} is not writable", "go to another folder, or set TMPDIR")
            continue
        mend = f"free some of {path}; --record consumed and --record headers keep less"
        yield _enough(name, shutil.disk_usage(path).free, _LEAST_DISK, _DISK, mend)


def _cores() -> Check:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    mend = "it works with one: parties wait for each other"
    return Check("processors", "ok" if count >= _CORES else "advice", str(count), mend)


def _files() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= _FILES
    return Check(
        "open files", "ok" if enough else "advice", str(soft), f"ulimit -n {_FILES}, before Ray starts"
    )
