"""A round of federated learning, here and in the simulation of Flower: the same owners, the same steps.

1000 owners hold the digits, one or two images each, and 50 take part in a round: one local step (FedSGD), and
five (FedAvg). What a process takes is measured as in `bench_crowd.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from parties.data.datasets import DataSpec, Split, load
from parties.data.shares import owned
from scenarios.run.experiment import data_seed
from scenarios.study.bench_crowd import (
    WITHOUT_FLOWER,
    Timed,
    beside,
    python_with_flower,
    trained_here,
    trained_in_flower,
    versions,
)
from scenarios.study.bench_tools import Figure, Sizes

_OWNERS, _PER_ROUND = 1000, 50
_LR = {1: 1.0, 5: 0.1}  # by local steps; momentum is forgotten where owners take turns
_MOMENTUM = 0.9
_ROUNDS, _FLOWER_ROUNDS = 20, 10

ALIKE = (
    "alike: the same images at the same owners, a network 64-32-10, the same local steps with momentum on "
    "all that an owner holds, the plain mean of the copies, one machine"
)
UNLIKE = (
    "unlike: Keyhole computes in torch, records every message with its digest at both ends, and its owners "
    "take turns; Flower computes in numpy, records nothing, and draws its clients; its rounds are fewer"
)


def fedsgd(sizes: Sizes) -> Iterator[Figure]:
    """The job on digits, here and in Flower."""
    python = python_with_flower(sizes)
    told = WITHOUT_FLOWER if python is None else versions(python)
    yield Figure("fedsgd", "versions of Flower and its Ray", told)
    owners, cells = sizes.samples or _OWNERS, dict[str, tuple[int, Callable[[], Timed]]]()
    for steps in _LR:
        said = f"{owners} owners, {min(_PER_ROUND, owners)} a round, {steps} local steps"
        cells[f"{said}, here"] = owners, partial(here, owners, steps, sizes)
        if python is not None:
            cells[f"{said}, Flower"] = owners, partial(there, python, owners, steps, sizes)
    yield from beside("fedsgd", cells)
    yield Figure("fedsgd", "what is compared", f"{ALIKE}; {UNLIKE}")


def here(owners: int, steps: int, sizes: Sizes, **more: Any) -> Timed:
    """`fedsgd` through Ray."""
    options = {"scenario": "fedsgd", "owners": owners, "rounds": _ROUNDS, **_both(owners, steps, sizes)}
    with tempfile.TemporaryDirectory(prefix="keyhole-crowd-") as scratch:
        return trained_here({**options, **more}, Path(scratch))


def there(python: str, owners: int, steps: int, sizes: Sizes) -> Timed:
    """The same in Flower's simulation."""
    job = {"rounds": _FLOWER_ROUNDS, "unit": load(_spec()).x_max, **_both(owners, steps, sizes)}
    return trained_in_flower(python, job, *rows(owners))


def rows(owners: int) -> tuple[Any, Any, Any]:
    """Images (N, n) and labels (N,) in the order of their owners, as a run of seed 0 has them, and the first
    row of each owner, (M + 1,).
    """
    held = [owned(_spec(), owners, Split.IID, i) for i in range(owners)]
    first = np.cumsum([0, *(len(each["labels"]) for each in held)])
    images, labels = (np.concatenate([each[name] for each in held]) for name in ("images", "labels"))
    return images, labels, first


def _both(owners: int, steps: int, sizes: Sizes) -> dict[str, Any]:
    return {
        "per_round": min(_PER_ROUND, owners), "local_steps": steps, "hidden": sizes.hidden or 32,
        "lr": _LR[steps], "momentum": _MOMENTUM,
    }  # fmt: skip


def _spec() -> DataSpec:
    return DataSpec("digits", seed=data_seed(0))
