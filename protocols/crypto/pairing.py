"""Pairing groups: e: G1 x G2 -> GT with e(g1^a, g2^b) = e(g1, g2)^{ab}, all three of prime order q.

Everything is batched. Elements of G1 and G2 are arrays (..., width) in an implementation's own form; on the wire they
are affine coordinates x | y, uncompressed, because a square root per point would cost more than every check together.
`decode` checks range, curve equation and, where the curve has a cofactor, the subgroup. What is computed in GT stays
inside a `Target`, for the time of a batch.

|           |         | G1, G2 on wire | one pairing | product of 64 | G1 exp | G2 exp | decode G1, G2 |
|-----------|---------|----------------|-------------|---------------|--------|--------|---------------|
@@

Medians on one core of a Xeon at 2.5 GHz; exponentiations are of the fixed bases and include the encoding. Running
times depend on the values: an adversary who measures a party is not considered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfigError, MalformedError

Elements = NDArray[Any]  # (..., width) in an implementation's own form
Wire = NDArray[np.uint8]  # (..., g1_bytes or g2_bytes)

NAMES = ("bn254", "bls12_381")

_REACH = 48  # baby steps to begin with: right for logarithms around 2000, the usual ones
_MAX_REACH = 2048  # .8 MB a logarithm on BN254


class Target(ABC):
    """Arithmetic in GT while the library is held; threads of the holder may share it. Elements are (..., width)."""

    @abstractmethod
    def products(self, a: Elements, b: Elements) -> Elements:
        """prod_i e(a[k, i], b[j, i]): (h, n, width) in G1 and (N, n, width) in G2 give (h, N, width)."""

    @abstractmethod
    def mul(self, a: Elements, b: Elements) -> Elements:
        """a b, elementwise with broadcasting."""

    @abstractmethod
    def invert(self, a: Elements) -> Elements:
        """a^-1, elementwise."""

    @abstractmethod
    def one(self) -> Elements:
        """The neutral element, (width,)."""

    @abstractmethod
    def keys(self, a: Elements) -> NDArray[np.int64]:
        """Fingerprints (...) of 63 bits or more, the same for an element and its inverse."""


@dataclass(frozen=True)
class Pairing(ABC):
    """Groups of prime order `order`; `security_bits` is today's estimate; an element has `g1_bytes`, `g2_bytes`."""

    name: str
    order: int
    security_bits: int
    g1_bytes: int
    g2_bytes: int

    @property
    def scalar_bytes(self) -> int:
        """Bytes of an exponent in [0, order)."""
        return (self.order.bit_length() + 7) // 8

    @abstractmethod
    def exp_g1(self, scalars: Sequence[int]) -> Wire:
        """g1^s for integers of any size and sign, encoded: (len, g1_bytes)."""

    @abstractmethod
    def exp_g2(self, scalars: Sequence[int]) -> Wire:
        """g2^s for integers of any size and sign, encoded: (len, g2_bytes)."""

    @abstractmethod
    def _decode(self, wire: Wire, second: bool) -> Elements:
        """`decode_g1` or, if `second`, `decode_g2` for bytes of the right shape (N, nbytes)."""

    @abstractmethod
    def check_elements(self, elements: Any, second: bool, ndim: int) -> None:
        """Raise `MalformedError` unless `elements` has the type and the axes of decoded elements of G1 or G2."""

    @abstractmethod
    def target(self) -> AbstractContextManager[Target]:
        """Hold the library for a batch of computations in GT."""

    def decode_g1(self, wire: Wire) -> Elements:
        """(..., g1_bytes) to (..., width); `MalformedError` unless every entry encodes an element of G1."""
        return self._checked(wire, second=False)

    def decode_g2(self, wire: Wire) -> Elements:
        """(..., g2_bytes) to (..., width); `MalformedError` unless every entry encodes an element of G2."""
        return self._checked(wire, second=True)

    def _checked(self, wire: Wire, second: bool) -> Elements:
        nbytes = self.g2_bytes if second else self.g1_bytes
        if not isinstance(wire, np.ndarray) or wire.dtype != np.uint8 or wire.shape[-1:] != (nbytes,):
            raise MalformedError(f"an element of G{1 + second} of {self.name} is {nbytes} bytes (uint8)")
        flat = self._decode(np.ascontiguousarray(wire.reshape(-1, nbytes)), second)
        return flat.reshape(*wire.shape[:-1], flat.shape[-1])


@cache
def get_pairing(name: str) -> Pairing:
    """The pairing called `name`, one of `NAMES`; raises `ConfigError` for another."""
    if name == "bn254":  # imported here: each needs a library that a run without it need not load
        from protocols.crypto.pairing_mcl import bn254

        return bn254()
    if name == "bls12_381":
        from protocols.crypto.pairing_bls import bls12_381

        return bls12_381()
    raise ConfigError(f"there is no pairing {name!r}; choose one of {', '.join(NAMES)}")


def logarithms(
    target: Target, bases: Elements, elements: Elements, bound: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The integers z (M,) with |z| <= bound and bases^z = elements (M, width), and which of them exist.

    Baby steps and giant steps (D. Shanks, 1971) with a table per base, from zero outwards in both directions. The
    fingerprints do not tell an element from its inverse, so a table up to `reach` answers for 2 reach + 1 exponents.
    It doubles whenever the range searched has passed its square, which keeps the cost of any z within a small
    factor of 2 sqrt|z| multiplications. Two equal fingerprints in a search (2^-40) would count as not found.
    """
    result, found = np.zeros(len(bases), dtype=np.int64), np.zeros(len(bases), dtype=np.bool_)
    wanted = np.arange(len(bases))
    search = _Search.start(target, bases, elements, min(_REACH, bound))
    while True:
        value, hit = search.look_up(target)
        result[wanted[hit]], found[wanted[hit]] = value[hit], True
        wanted = wanted[~hit]
        if not wanted.size or search.shift + search.reach >= bound:
            found &= np.abs(result) <= bound
            return result, found
        search = search.next(target, ~hit)


@dataclass(frozen=True)
class _Search:
    """The state of some searches: base^0 ... base^reach, and elements base^shift and base^-shift away.

    `table` (M, reach + 1, width) with its fingerprints `keys`, `strides` = base^(2 reach + 1) and its inverse.
    """

    reach: int
    shift: int
    table: Elements
    keys: NDArray[np.int64]
    strides: tuple[Elements, Elements]
    up: Elements
    down: Elements

    @classmethod
    def start(cls, target: Target, bases: Elements, elements: Elements, reach: int) -> _Search:
        one = np.broadcast_to(target.one(), bases.shape)
        table = _grown(target, np.stack([one, bases], axis=1), reach)
        return cls(reach, 0, table, target.keys(table), _strides(target, table, reach, reach), elements, elements)

    def look_up(self, target: Target) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The logarithms of the elements (M,) that the table reaches from here, and which those are."""
        above, hit_up = self._at(target, self.up)
        if not self.shift:
            return above, hit_up
        below, hit_down = self._at(target, self.down)
        return np.where(hit_up, above + self.shift, below - self.shift), hit_up | hit_down

    def next(self, target: Target, rest: NDArray[np.bool_]) -> _Search:
        """The searches that are not over, one stride further on."""
        table, keys, up, down = self.table[rest], self.keys[rest], self.up[rest], self.down[rest]
        strides, reach = (self.strides[0][rest], self.strides[1][rest]), self.reach
        if reach**2 < self.shift and reach < _MAX_REACH:
            reach = 2 * reach
            table = _grown(target, table, reach)
            keys, strides = target.keys(table), _strides(target, table, self.reach, reach)
        elif self._just_grown:
            strides = _strides(target, table, reach, reach)
        ...
