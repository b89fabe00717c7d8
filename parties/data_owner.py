"""The data owner: reads its share of a data set, which becomes its private input."""

from __future__ import annotations

from typing import Any

from parties.datasets import DataSpec, Split, load, split
from parties.party import Party
from parties.transcript import TranscriptWriter


class DataOwner(Party):
    """A party with private samples: `state.inputs["images"]` (N_i, n) integers and `["labels"]` (N_i,)."""

    def __init__(
        self, name: str, config: Any, key: bytes, transcript: TranscriptWriter, spec: DataSpec, owners: int, how: Split
    ) -> None:
        """Read the data set on the owner's own node and keep this owner's share of it."""
        super().__init__(name, config, key, transcript)
        data = load(spec)
        mine = split(data.y_train, owners, how, spec.seed)[self.state.index]
        self.give_input("images", data.x_train[mine])
        self.give_input("labels", data.y_train[mine])
