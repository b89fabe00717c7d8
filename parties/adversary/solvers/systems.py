"""Every key with every ciphertext: the independent equations on each group of samples, from all master keys
that hold it.

Where every epoch has a master key of its own the samples are still the same, so that the equations of all
epochs are one system; where every batch has one, its system has the equations of its own visits. A key that
hides its vector gives equations once its map is known.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.solvers.exact import Echelon, solve_exactly
from protocols.language.relations import Instance, Keys, Map, now

Integers = NDArray[np.int64]
Maps = Mapping[Map, Any]  # known ones, each an array (h, n) or a function that has it


@dataclass
class System:
    """Independent equations V x = z on samples that lie in the same blocks of ciphertexts.

    `vectors` (r, n); `ranks` (round, rank) and `determined` (pixels that have one value) after each message
    that was read.
    """

    instances: list[Instance]
    echelon: Echelon
    ranks: list[tuple[int, int]] = field(default_factory=list)
    determined: list[int] = field(default_factory=list)
    parts: list[tuple[Instance, Any, int]] = field(default_factory=list)  # (under which, keys, round)
    rows: list[Integers] = field(default_factory=list)

    @property
    def blocks(self) -> tuple[Integers, ...]:
        """Positions of the samples, block by block."""
        return self.instances[0].blocks

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return sum(len(block) for block in self.blocks)

    @property
    def vectors(self) -> Integers:
        """The independent vectors (r, n)."""
        return np.vstack([np.zeros((0, self.echelon.columns), dtype=np.int64), *self.rows])

    @property
    def rank(self) -> int:
        """How many equations a sample has."""
        return self.echelon.rank

    @property
    def full(self) -> bool:
        """Whether they determine every sample."""
        return self.echelon.full

    @property
    def since(self) -> int | None:
        """The round in which they came to determine every sample."""
        return self.ranks[-1][0] if self.full and self.ranks else None

    def reached(self, count: int) -> int:
        """The round in which there were so many equations."""
        return next(round_ for round_, rank in self.ranks if rank >= count)

    def take(self, instance: Instance, keys: Keys, vectors: Integers) -> None:
        """Add those of some keys that say something new."""
        fresh = self.echelon.add(vectors)
        if len(fresh):
            self.rows.append(vectors[fresh])
            self.parts.append((instance, instance.rows(now(keys.key), fresh), keys.since))
        self.ranks.append((keys.since, self.rank))
        self.determined.append(int(self.echelon.determined().sum()))

    def products(self, block: int, which: Integers | None = None) -> Integers:
        """Z (m, r) of the samples of a block, by decryption with every key of the system."""
        return np.hstack([instance.products(keys, block, which) for instance, keys, _ in self.parts])

    def solve(self, block: int, which: Integers | None = None) -> Integers | None:
        """The samples (m, n) of a block, where the rank is full; None if no integers solve it."""
        x = solve_exactly(self.vectors, self.products(block, which).T.copy())
        return None if x is None else x.T


def systems(instances: list[Instance], known: Maps | None = None) -> Iterator[System]:
    """One system for each group of samples, from keys whose vectors are told or follow from known maps."""
    groups: dict[bytes, list[Instance]] = {}
    for instance in instances:
        if not instance.across:
            groups.setdefault(b"|".join(block.tobytes() for block in instance.blocks), []).append(instance)
    for group in groups.values():
        yield gather(group, known or {})


def gather(group: list[Instance], known: Maps | None = None) -> System:
    """Read keys, in order of time, until they determine the samples."""
    system = System(group, Echelon(group[0].columns))
    for keys, instance in heapq.merge(*map(_messages, group), key=lambda pair: pair[0].since):
        vectors = vectors_of(instance, keys, known or {})
        if vectors is not None:
            system.take(instance, keys, vectors)
        if system.full:
            break
    return system


def _messages(instance: Instance) -> Iterator[tuple[Keys, Instance]]:
    return ((keys, instance) for keys in instance.messages())


def vectors_of(instance: Instance, keys: Keys, known: Maps) -> Integers | None:
    """The vectors (r, n) of some keys, where they are known."""
    if keys.vectors is not None or instance.rounded is None:
        return keys.vectors
    return instance.rounded(now(known[keys.map])) if keys.map is not None and keys.map in known else None


def maps_known(instances: list[Instance], known: Maps) -> bool:
    """Whether any key hides a map that is known."""
    return any(keys.map in known for instance in instances if instance.hides for keys in instance.messages())
