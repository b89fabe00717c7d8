"""Which part of a data set a party gets: an owner its share, a querier the samples that it asks about."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.data.datasets import DataSpec, Split, load, split
from protocols.language.errors import ConfigError


@lru_cache(maxsize=2)
def shares(spec: DataSpec, owners: int, how: Split) -> tuple[NDArray[np.int64], ...]:
    """Which samples each owner holds; worked out once in a process, where thousands of owners may live."""
    return split(load(spec).y_train, owners, how, spec.seed)


def owned(spec: DataSpec, owners: int, how: Split, index: int) -> dict[str, NDArray[Any]]:
    """The private input of an owner: `images` (N_i, n) integers and `labels` (N_i,).

    Of a split by columns: `images` (N, n_i), slices of all samples next to each other, and labels at the
    first owner alone.
    """
    data, mine = load(spec), shares(spec, owners, how)[index]
    if how is not Split.COLUMNS:
        return {"images": data.x_train[mine], "labels": data.y_train[mine]}
    columns = np.array_split(np.arange(data.x_train.shape[1]), owners)[index]
    if not len(columns):
        raise ConfigError(
            f"--owners: expected at most {data.x_train.shape[1]}, one for each column, got {owners}"
        )
    images = data.x_train[mine][:, columns]
    return {"images": images, "labels": data.y_train[mine]} if index == 0 else {"images": images}


def queried(spec: DataSpec, limit: int | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Samples (N, n) and labels (N,) that a querier asks about: those held out, or all if none are."""
    data = load(spec)
    x, y = (
        (data.x_train, data.y_train)
        if data.x_test is None or data.y_test is None
        else (data.x_test, data.y_test)
    )
    return x[:limit], y[:limit]
