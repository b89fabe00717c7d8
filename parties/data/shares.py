"""Which part of a data set a party gets: an owner its share, a querier the samples that it asks about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.data.datasets import DataSpec, Shares, Split, features_of, load, split
from protocols.language.errors import ConfigError


@lru_cache(maxsize=2)
def shares(spec: DataSpec, owners: int, how: Split) -> Shares:
    """Which samples each owner holds; worked out once in a process, where thousands of owners may live."""
    return split(load(spec).y_train, owners, how, spec.seed)


def owned(spec: DataSpec, owners: int, how: Split, index: int) -> dict[str, NDArray[Any]]:
    """The private input of an owner: `images` (N_i, n) integers and `labels` (N_i,); of an encrypted head
    on a base that is known by its features, also `features` (N_i, d).

    Of a split by columns: `images` (N, n_i), slices of all samples next to each other, and labels at the
    first owner alone.
    """
    data, mine = load(spec), shares(spec, owners, how)[index]
    if how is not Split.COLUMNS:
        held: dict[str, NDArray[Any]] = {"images": data.x_train[mine], "labels": data.y_train[mine]}
        return held | ({"features": features_of(spec).of(held["images"])} if spec.by_features else {})
    columns = np.array_split(np.arange(data.x_train.shape[1]), owners)[index]
    if not len(columns):
        raise ConfigError(
            f"--owners: expected at most {data.x_train.shape[1]}, one for each column, got {owners}"
        )
    images = data.x_train[mine][:, columns]
    return {"images": images, "labels": data.y_train[mine]} if index == 0 else {"images": images}


class Owned:
    """The private inputs of some owners, and of nobody else: a process that carries them holds no more."""

    def __init__(self, spec: DataSpec, owners: int, how: Split, indices: Sequence[int]) -> None:
        self._whole: Callable[[int], dict[str, NDArray[Any]]] | None = None
        if how is Split.COLUMNS:  # each has columns of all samples
            self._whole = lambda index: owned(spec, owners, how, index)
            return
        data, found = load(spec), shares(spec, owners, how)
        mine = Shares.of([found[index] for index in indices])
        self._place, self._mine = {index: k for k, index in enumerate(indices)}, mine
        self._held: dict[str, NDArray[Any]] = {
            "images": data.x_train[mine.order], "labels": data.y_train[mine.order]
        }  # fmt: skip
        if spec.by_features:
            self._held["features"] = features_of(spec).of(self._held["images"])

    def __call__(self, index: int) -> dict[str, NDArray[Any]]:
        """The input of one of them, as `owned` has it."""
        if self._whole is not None:
            return self._whole(index)
        rows = self._mine.rows(self._place[index])
        return {label: array[rows] for label, array in self._held.items()}


def forget_data_sets() -> None:
    """Keep no whole data set in this process: those that it carries have their samples."""
    load.cache_clear()
    features_of.cache_clear()
    shares.cache_clear()


def queried(spec: DataSpec, limit: int | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Samples (N, n) and labels (N,) that a querier asks about: those held out, or all if none are."""
    data = load(spec)
    x, y = (
        (data.x_train, data.y_train)
        if data.x_test is None or data.y_test is None
        else (data.x_test, data.y_test)
    )
    return x[:limit], y[:limit]
