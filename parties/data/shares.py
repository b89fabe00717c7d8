"""Which part of a data set a party gets: an owner its share, a querier the samples that it asks about."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.data.datasets import DataSpec, Split, load, split


@lru_cache(maxsize=2)
def shares(spec: DataSpec, owners: int, how: Split) -> tuple[NDArray[np.int64], ...]:
    """Which samples each owner holds; worked out once in a process, where thousands of owners may live."""
    return split(load(spec).y_train, owners, how, spec.seed)


def owned(spec: DataSpec, owners: int, how: Split, index: int) -> dict[str, NDArray[Any]]:
    """The private input of an owner: `images` (N_i, n) integers and `labels` (N_i,)."""
    data, mine = load(spec), shares(spec, owners, how)[index]
    return {"images": data.x_train[mine], "labels": data.y_train[mine]}


def queried(spec: DataSpec, limit: int | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Samples (N, n) and labels (N,) that a querier asks about: those held out, or all if none are."""
    data = load(spec)
    x, y = (
        (data.x_train, data.y_train)
        if data.x_test is None or data.y_test is None
        else (data.x_test, data.y_test)
    )
    return x[:limit], y[:limit]
