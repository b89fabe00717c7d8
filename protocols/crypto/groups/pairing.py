"""Pairing groups: e: G1 x G2 -> GT with e(g1^a, g2^b) = e(g1, g2)^{ab}, all three of prime order q.

Everything is batched. Raw of G1 and G2 are arrays (..., width) in an implementation's own form; on the wire
they are affine coordinates x | y, uncompressed, because a square root per point would cost more than every
check together. `decode` checks range, curve equation and, where the curve has a cofactor, the subgroup. What
is computed in GT stays inside a `Target`, for the time of a batch.

|           |         | bytes    | pairing | product of 64, ms | exp, us  | decode, us |
| pairing   | level   | G1   G2  | us      | alone   in a grid | G1   G2  | G1   G2    |
|-----------|---------|----------|---------|-------------------|----------|------------|
| bn254     | 100 bit | 64  128  |   350   |   8.3         6.2 | 32    44 |  7   150   |
| bls12_381 | 120 bit | 96  192  |  1630   |  33          33   | 62   140 | 76   113   |

Medians on one core of a Xeon at 2.5 GHz whose other core is busy; exponentiations are of the fixed bases and
include the encoding. Running times depend on the values: an adversary who measures a party is not considered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.groups.elements import Raw, Wire
from protocols.language.errors import MalformedError

_REACH = 48  # baby steps to begin with: right for logarithms around 2000, the usual ones
_MAX_REACH = 2048  # .8 MB a logarithm on BN254


class Target(ABC):
    """Arithmetic in GT, (..., width), while the library is held; threads of the holder may share it."""

    @abstractmethod
    def products(self, a: Raw, b: Raw) -> Raw:
        """prod_i e(a[k, i], b[j, i]): (h, n, width) in G1 and (N, n, width) in G2 give (h, N, width)."""

    @abstractmethod
    def mul(self, a: Raw, b: Raw) -> Raw:
        """a b, elementwise with broadcasting."""

    @abstractmethod
    def invert(self, a: Raw) -> Raw:
        """a^-1, elementwise."""

    @abstractmethod
    def one(self) -> Raw:
        """The neutral element, (width,)."""

    @abstractmethod
    def keys(self, a: Raw) -> NDArray[np.int64]:
        """Fingerprints (...) of 63 bits or more, the same for an element and its inverse."""


@dataclass(frozen=True)
class Pairing(ABC):
    """Groups of prime order `order` at a level of `security_bits`, with `g1_bytes`, `g2_bytes` an element."""

    name: str
    order: int
    security_bits: int
    g1_bytes: int
    g2_bytes: int

    @property
    def scalar_bytes(self) -> int:
        """Bytes of an exponent in [0, order)."""
        return (self.order.bit_length() + 7) // 8

    def exp_g1(self, exponents: Any) -> Wire:
        """g1^s for an array (...) of integers of any size and sign, encoded: (..., g1_bytes)."""
        return self._powers(exponents, second=False)

    def exp_g2(self, exponents: Any) -> Wire:
        """g2^s for an array (...) of integers of any size and sign, encoded: (..., g2_bytes)."""
        return self._powers(exponents, second=True)

    @abstractmethod
    def _exp(self, scalars: Sequence[int], second: bool) -> Wire:
        """`exp_g1` or, if `second`, `exp_g2` of a list: (len, nbytes)."""

    @abstractmethod
    def _decode(self, wire: Wire, second: bool) -> Raw:
        """`decode_g1` or, if `second`, `decode_g2` for bytes of the right shape (N, nbytes)."""

    @abstractmethod
    def target(self) -> AbstractContextManager[Target]:
        """Hold the library for a batch of computations in GT."""

    def decode_g1(self, wire: Wire) -> Raw:
        """(..., g1_bytes) to (..., width); `MalformedError` unless every entry encodes an element of G1."""
        return self._checked(wire, second=False)

    def decode_g2(self, wire: Wire) -> Raw:
        """(..., g2_bytes) to (..., width); `MalformedError` unless every entry encodes an element of G2."""
        return self._checked(wire, second=True)

    def _powers(self, exponents: Any, second: bool) -> Wire:
        scalars = np.asarray(exponents, dtype=object)
        return self._exp(scalars.ravel().tolist(), second).reshape(*scalars.shape, self._nbytes(second))

    def _nbytes(self, second: bool) -> int:
        return self.g2_bytes if second else self.g1_bytes

    def _checked(self, wire: Wire, second: bool) -> Raw:
        nbytes = self._nbytes(second)
        if not isinstance(wire, np.ndarray) or wire.dtype != np.uint8 or wire.shape[-1:] != (nbytes,):
            raise MalformedError(f"an element of G{1 + second} of {self.name} is {nbytes} bytes (uint8)")
        flat = self._decode(np.ascontiguousarray(wire.reshape(-1, nbytes)), second)
        return flat.reshape(*wire.shape[:-1], flat.shape[-1])


def check_lengths(a: Raw, b: Raw) -> None:
    """Raise `MalformedError` unless vectors (h, n, width), (N, n, width) have one length n of at least 1."""
    if a.shape[1] != b.shape[1] or not a.shape[1]:
        raise MalformedError(f"vectors of {a.shape[1]} and {b.shape[1]} elements have no product")


def logarithms(
    target: Target, bases: Raw, elements: Raw, bound: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The integers z (M,) with |z| <= bound and bases^z = elements (M, width), and which of them exist.

    Baby steps and giant steps (D. Shanks, 1971) with a table per base, from zero outwards in both directions.
    The fingerprints do not tell an element from its inverse, so that a table up to `reach` answers for 2
    reach + 1 exponents. It doubles whenever the search has passed its square: the cost of a z stays within a
    small factor of 2 sqrt|z| multiplications. Two equal fingerprints in one search, 2^-40, would count as not
    found.
    """
    search = _Search.start(target, bases, elements, min(_REACH, bound))
    result, wanted = np.zeros(len(bases), dtype=np.int64), np.arange(len(bases))
    while True:
        value, hit = search.look_up(target)
        result[wanted[hit]] = value[hit]
        wanted, search = wanted[~hit], search.without(hit) if hit.any() else search
        if not wanted.size or search.shift + search.reach >= bound:
            break
        grow = search.reach < _MAX_REACH and search.reach**2 < search.shift
        search = search.grown(target) if grow else search.moved(target)
    found = np.abs(result) <= bound
    found[wanted] = False
    return result, found


@dataclass(frozen=True)
class _Search:
    """Where M searches are: `up`, `down` (M, width) are the elements times base^-shift and base^shift.

    `table` (rows, reach + 1, width) holds base^0 ... base^reach in row `row[m]` for search m, `keys` (M,
    reach + 1) their fingerprints, `forward` and `backward` the strides base^(2 reach + 1) and base^-(2 reach
    + 1).
    """

    reach: int
    shift: int
    up: Raw
    down: Raw
    table: Raw
    row: NDArray[np.intp]
    keys: NDArray[np.int64]
    forward: Raw
    backward: Raw

    @classmethod
    def start(cls, target: Target, bases: Raw, elements: Raw, reach: int) -> _Search:
        one = np.broadcast_to(target.one(), bases.shape)
        return cls._with(target, np.stack([one, bases], axis=1), reach, 0, elements, elements)

    @classmethod
    def _with(cls, target: Target, table: Raw, reach: int, shift: int, up: Raw, down: Raw) -> _Search:
        base = table[:, 1:2]
        while table.shape[1] <= reach:  # base^0 ... base^k times base^k
            more = target.mul(table[:, 1 : reach + 2 - table.shape[1]], table[:, -1:])
            table = np.concatenate([table, more], axis=1)
        top = table[:, reach]
        forward = target.mul(target.mul(top, top), base[:, 0])
        row = np.arange(len(table))
        return cls(reach, shift, up, down, table, row, target.keys(table), forward, target.invert(forward))

    def look_up(self, target: Target) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The logarithms (M,) that the table reaches from here, and which those are."""
        above, hit_up = self._match(target, self.up)
        below, hit_down = self._match(target, self.down) if self.shift else (above, hit_up)
        return np.where(hit_up, self.shift + above, below - self.shift), hit_up | hit_down

    def _match(self, target: Target, elements: Raw) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The exponents in [-reach, reach] of elements (M, width), and which were found, compared in full."""
        equal = self.keys == target.keys(elements)[:, None]
        hit, exponent = equal.any(axis=1), equal.argmax(axis=1)
        rows = np.flatnonzero(hit)
        mine, theirs = elements[rows], self.table[self.row[rows], exponent[rows]]
        same = (mine == theirs).all(axis=1)
        hit[rows] = same | (target.mul(mine, theirs) == target.one()).all(axis=1)
        exponent[rows] *= np.where(same, 1, -1)
        return exponent, hit

    def moved(self, target: Target) -> _Search:
        """One stride further from zero."""
        up, down = target.mul(self.up, self.backward), target.mul(self.down, self.forward)
        return replace(self, shift=self.shift + 2 * self.reach + 1, up=up, down=down)

    def grown(self, target: Target) -> _Search:
        """In the same place with a table of twice the reach."""
        return self._with(target, self.table[self.row], 2 * self.reach, self.shift, self.up, self.down)

    def without(self, over: NDArray[np.bool_]) -> _Search:
        """The searches that are not over."""
        arrays = ("up", "down", "row", "keys", "forward", "backward")
        return replace(self, **{name: getattr(self, name)[~over] for name in arrays})
