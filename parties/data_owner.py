"""The data owner: reads its share of a data set, which becomes its private input."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.data.datasets import DataSpec, Split, load, split
from parties.party import Party
from parties.record.writer import TranscriptWriter


@lru_cache(maxsize=2)
def shares(spec: DataSpec, owners: int, how: Split) -> tuple[NDArray[np.int64], ...]:
    """Which samples each owner holds; worked out once in a process, where thousands of owners may live."""
    return split(load(spec).y_train, owners, how, spec.seed)


def queried(spec: DataSpec, limit: int | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Samples (N, n) and labels (N,) that a querier asks about: the held-out ones, or all if none are held out."""
    data = load(spec)
    x, y = (
        (data.x_train, data.y_train)
        if data.x_test is None or data.y_test is None
        else (data.x_test, data.y_test)
    )
    return x[:limit], y[:limit]


class Querier(Party):
    """A data owner that asks the trained network: `state.inputs["images"]` (N, n) integers; nobody needs labels."""

    def __init__(
        self,
        name: str,
        config: Any,
        key: bytes,
        transcript: TranscriptWriter,
        spec: DataSpec,
        limit: int | None,
    ) -> None:
        """Read the samples on the querier's own node."""
        super().__init__(name, config, key, transcript)
        self.give_input("images", queried(spec, limit)[0])


class DataOwner(Party):
    """A party with private samples: `state.inputs["images"]` (N_i, n) integers and `["labels"]` (N_i,)."""

    def __init__(
        self,
        name: str,
        config: Any,
        key: bytes,
        transcript: TranscriptWriter,
        spec: DataSpec,
        owners: int,
        how: Split,
    ) -> None:
        """Read the data set on the owner's own node and keep this owner's share of it."""
        super().__init__(name, config, key, transcript)
        data = load(spec)
        mine = shares(spec, owners, how)[self.state.index]
        self.give_input("images", data.x_train[mine])
        self.give_input("labels", data.y_train[mine])
