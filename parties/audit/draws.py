"""What a run's parties put in and draw, as one vector of unknowns that can be moved entry by entry.

An unknown belongs to those who know it: an input or a draw to its party, the pad of a secure sum to the two
that share it. Discrete draws (shuffles, keys, tags) stay as they are and count as known to everybody, which
can only add to what is said to be determined.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.coins import Coins, Stream, derive

Reals = NDArray[np.float64]

INPUT, DRAW, COIN, PAD = "input", "first weights", "drawn noise", "pads"


@dataclass(frozen=True)
class Unknown:
    """An array of unknowns: who knows it, its name, its values in the run, and what an entry is measured
    in.
    """

    owners: frozenset[str]
    name: str
    kind: str
    values: Reals
    unit: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape


class Unknowns:
    """The unknowns of a run in the order in which it meets them. With `moved` (an array for some of them) the
    run goes on from values moved by it. `left_out`: what no ideal form shows, by how many data owners have
    to be in a coalition for it to matter.
    """

    def __init__(self, moved: Mapping[str, Reals] | None = None) -> None:
        self.moved = dict(moved or {})
        self.found: dict[str, Unknown] = {}
        self.left_out: dict[str, int] = {}

    def meet(self, owners: frozenset[str], name: str, kind: str, values: Any, unit: float = 1.0) -> Reals:
        """An array of unknowns as the run is to take it."""
        base = np.array(values, dtype=np.float64)
        if name not in self.found:
            self.found[name] = Unknown(owners, name, kind, base, unit)
        return base + self.moved[name] if name in self.moved else base

    def pad(self, low: int, high: int, use: str, shape: tuple[int, ...]) -> Reals:
        """The pad that owners `low` < `high` share for one use."""
        name = f"pad {low} {high} {use}"
        sharing = frozenset({f"data_owner:{low}", f"data_owner:{high}"})
        return self.meet(sharing, name, PAD, _pad(name, shape))


@lru_cache(maxsize=4096)
def _pad(name: str, shape: tuple[int, ...]) -> Reals:
    """A pad's values, which are the same in all runs of an audit."""
    seed = list(hashlib.sha256(name.encode()).digest())
    values = np.random.default_rng(seed).standard_normal(shape)
    values.flags.writeable = False
    return values


class Generator:
    """A party's generator whose reals are unknowns."""

    def __init__(self, inner: np.random.Generator, party: str, unknowns: Unknowns) -> None:
        self._inner, self._party, self._unknowns, self._count = inner, party, unknowns, 0

    def __getattr__(self, name: str) -> Any:
        drawn = getattr(self._inner, name)
        if name not in ("uniform", "normal", "standard_normal", "random"):
            return drawn

        def real(*args: Any, **options: Any) -> Any:
            options.pop("dtype", None)
            values = np.asarray(drawn(*args, **options))
            self._count += 1
            owner = frozenset({self._party})
            return self._unknowns.meet(owner, f"{self._party} draw {self._count}", DRAW, values)

        return real


class Keystream(Stream):
    """A keystream whose reals and words are unknowns; its bytes, and what is below a bound, are not."""

    def __init__(self, key: bytes, party: str, name: str, unknowns: Unknowns) -> None:
        super().__init__(key)
        self._party, self._name, self._unknowns, self._count = party, name, unknowns, 0

    def _met(self, values: Any, unit: float = 1.0) -> Any:
        self._count += 1
        name = f"{self._party} {self._name} {self._count}"
        return self._unknowns.meet(frozenset({self._party}), name, COIN, values, unit)

    def words(self, *shape: int) -> Any:
        """Reals of about the size of what they hide."""
        return self._met(super().words(*shape) / 2.0**62)

    def uniform(self, bound: float, *shape: int) -> Reals:
        steps = (Stream.words(self, *shape) >> np.uint64(11)).astype(np.float64)
        found: Reals = self._met((steps * 2.0**-52 - 1.0) * bound, bound)
        return found

    def rounded_gaussian(self, sigma: float, *shape: int) -> Any:
        u = (Stream.words(self, 2, int(np.prod(shape))) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        normal = np.sqrt(-2 * np.log(u[0] + 2.0**-53)) * np.cos(2 * np.pi * u[1])
        return self._met(sigma * normal.reshape(shape), sigma)

    def centred_binomial(self, *shape: int) -> Any:
        return self._met(super().centred_binomial(*shape))


@dataclass
class AuditCoins(Coins):
    """A party's coins, whose streams are such keystreams."""

    party: str = ""
    unknowns: Unknowns | None = None

    def stream(self, purpose: str) -> Stream:
        use = self.uses.get(purpose, 0)
        self.uses[purpose] = use + 1
        assert self.unknowns is not None
        return Keystream(derive(self.key, purpose, str(use)), self.party, f"{purpose} {use}", self.unknowns)
