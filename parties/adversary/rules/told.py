"""What a rule looks at, and the line that it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import STRENGTH, Prior, Relations
from protocols.language.roles import DATA_OWNER, party_name


@dataclass(frozen=True)
class Told:
    """A line: of what, of whose, how, and in words.

    `since`: the round from which on its rule expects it to hold; None for what says nothing. `samples`:
    positions of the samples that it is about, None for what has no parts. `by`: which derivation of a rule
    that has several.
    """

    quantity: str
    of: str
    how: str
    detail: str
    since: int | None = 0
    data: dict[str, Any] = field(default_factory=dict)
    samples: NDArray[np.int64] | None = None
    by: str = ""

    @property
    def line(self) -> tuple[Any, ...]:
        """The fields in the order of `Learned`, with runs [start, stop) of samples in `data`."""
        runs = {} if self.samples is None else {"samples": runs_of(self.samples)}
        return self.quantity, self.of, self.how, self.detail, self.since, {**self.data, **runs}


def runs_of(samples: NDArray[np.int64]) -> list[list[int]]:
    """Positions as runs [start, stop); samples without names are in none."""
    index = np.unique(samples[samples >= 0])
    edges = np.flatnonzero(np.diff(index) != 1) + 1
    return [[int(run[0]), int(run[-1]) + 1] for run in np.split(index, edges) if len(run)]


def covers(one: Told, other: Told) -> bool:
    """Whether a line says, by the same derivation, at least what another says."""
    if (one.quantity, one.by) != (other.quantity, other.by) or (one.since is None) > (other.since is None):
        return False
    if one.samples is None or other.samples is None:
        same = one.samples is other.samples and one.of == other.of
    else:
        same = bool(np.isin(other.samples, one.samples).all())
    return same and STRENGTH.index(one.how) >= STRENGTH.index(other.how)


@dataclass(frozen=True)
class Sight:
    """What a rule looks at: the relations, the public configuration, and whether arrays can be read."""

    relations: Relations
    config: Any
    payloads: bool

    @property
    def counts(self) -> tuple[int, ...]:
        """Samples of each owner, as far as the configuration says; where owners hold columns of the same
        ones, its `column_samples`.
        """
        said = getattr(self.config, "column_samples", ()) or getattr(self.config, "counts", ())
        return tuple(said or (self.relations.count(),))

    @property
    def all(self) -> str:
        """All samples, in words."""
        return f"all {sum(self.counts)} samples"

    @property
    def index(self) -> NDArray[np.int64]:
        """Positions of all samples."""
        return np.arange(sum(self.counts))

    def of(self, index: NDArray[np.int64], mine: NDArray[np.int64]) -> str:
        """Samples in words: all, if these are all that are not `mine`."""
        named = not (index < 0).any()
        whole = named and len(np.union1d(index, mine)) == sum(self.counts)
        return self.all if whole else f"{len(index)} of {sum(self.counts)} samples"

    def united(self, parts: Iterable[tuple[NDArray[np.int64], int]]) -> tuple[NDArray[np.int64], int]:
        """Positions in any of some parts, each with its round, and the first round by which there were all.

        Rows without names are as many samples as there are rows, up to all: negative positions, no two alike.
        """
        found, rows, since, total = set[int](), 0, 0, sum(self.counts)
        for index, number in parts:
            if len(found) + rows >= total:
                break
            fresh, nameless = set(index[index >= 0].tolist()) - found, int((index < 0).sum())
            found |= fresh
            rows += nameless
            since = max(since, number) if fresh or nameless else since
        if rows and len(found) + rows >= total:
            return self.index, since
        return np.array([*range(-rows, 0), *sorted(found)], np.int64), since

    @property
    def prior(self) -> Prior:
        """The pixel range and shape that the configuration states, and nothing else."""
        shape = getattr(self.config, "shape", ()) or (1, self.config.features)
        return Prior(self.config.x_max, tuple(shape))

    def owner(self, position: int) -> str:
        """The name of the owner of a sample."""
        return party_name(DATA_OWNER, int(np.searchsorted(np.cumsum(self.counts), position, side="right")))


Rule = Callable[[Sight], Iterator[Told]]
