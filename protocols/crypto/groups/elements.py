"""Groups of prime order in which discrete logarithms are hard, on arrays of elements.

What they cost, medians on one core of a Xeon at 2.5 GHz (2 cores; `exp` and `multi_exp` on curves of mcl use both and
take a little over half), by scenarios/bench_groups.py. `exp` is one full exponentiation, `encrypt` one vector,
`decrypt` the multi-exponentiation of one decryption (|y| <= 1024, standard deviation 256), `table` the one for discrete
logarithms; digits: n = 64, x <= 16, MNIST: n = 784, x <= 255.

|           |         |               | element  | exp    | encrypt, ms   | decrypt, us    | table, s      |
| group     | level   | assumption    | on wire  | us     | digits  MNIST | digits   MNIST | digits  MNIST |
|-----------|---------|---------------|----------|--------|---------------|----------------|---------------|
| secp256k1 | 128 bit | DDH           |  64 byte |   46   |   3.9     43  |   240     1250 |   1.2     4.9 |
| bn254     | 100 bit | XDH           |  64 byte |   53   |   8.5     96  |   266     1440 |   1.3     5.5 |
| bls12_381 | 120 bit | XDH           |  96 byte |  282   |    31    300  |   387     2700 |   4.3      17 |
| modp2048  | 112 bit | DDH           | 256 byte | 3870   |   253   3090  |  1220    15000 |   1.7     6.7 |

secp256k1 is the default: no pairing, so that plain DDH is the assumption and no attack on a target field lowers the
level; prime order, so that a point on the curve is in the group; and the fastest of the four.
Running times depend on the values: an adversary who measures a party is not considered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import MalformedError

Elements = NDArray[
    Any
]  # (..., width) in a group's own representation, canonical: equal elements are equal arrays
Wire = NDArray[np.uint8]  # (..., nbytes)

_TABULATED = 1 << 14  # largest bound for which `small_powers` keeps a table (3 MB on a curve)


@dataclass(frozen=True)
class Group(ABC):
    """A group of prime order `order`; `security_bits` is today's estimate for `assumption`, `nbytes` that of the wire.

    Arguments are canonical elements of this group: what came from a peer goes through `decode` first.
    """

    name: str
    order: int
    security_bits: int
    assumption: str
    nbytes: int

    @property
    def scalar_bytes(self) -> int:
        """Bytes of an exponent in [0, order)."""
        return (self.order.bit_length() + 7) // 8

    @abstractmethod
    def generator(self) -> Elements:
        """The base g, (width,)."""

    @abstractmethod
    def identity(self) -> Elements:
        """The neutral element, (width,)."""

    @abstractmethod
    def exp(self, bases: Elements, scalars: Sequence[int]) -> Elements:
        """Every base to every power: (N, width) and h integers of any size and sign give (N, h, width)."""

    @abstractmethod
    def multi_exp(self, points: Elements, exponents: NDArray[np.integer[Any]]) -> Elements:
        """prod_j points[i, j]^exponents[k, j]: (N, n, width) and (h, n) integers below 2^62 give (N, h, width).

        Fast for exponents of a few bits, of either sign. Running time depends on the exponents: they must be public.
        """

    @abstractmethod
    def mul(self, a: Elements, b: Elements) -> Elements:
        """a b, elementwise with broadcasting."""

    @abstractmethod
    def invert(self, a: Elements) -> Elements:
        """a^-1, elementwise."""

    @abstractmethod
    def encode(self, elements: Elements) -> Wire:
        """(..., width) to (..., nbytes); one element has one encoding."""

    @abstractmethod
    def _decode(self, wire: Wire) -> Elements:
        """`decode` for bytes of the right shape (N, nbytes)."""

    @abstractmethod
    def keys(self, elements: Elements) -> NDArray[np.uint64]:
        """Fingerprints (..., 2) of the elements: 127 bits or more, the first word spread evenly."""

    def div(self, a: Elements, b: Elements) -> Elements:
        """a / b, elementwise with broadcasting."""
        return self.mul(a, self.invert(b))

    def decode(self, wire: Wire) -> Elements:
        """(..., nbytes) to (..., width), checking that every entry is the canonical encoding of a group element.

        Raises `MalformedError` that says what is wrong: length, range, off the curve, wrong subgroup.
        """
        if not isinstance(wire, np.ndarray) or wire.dtype != np.uint8 or wire.shape[-1:] != (self.nbytes,):
            raise MalformedError(f"an element of {self.name} is {self.nbytes} bytes (uint8)")
        flat = self._decode(np.ascontiguousarray(wire.reshape(-1, self.nbytes)))
        return flat.reshape(*wire.shape[:-1], flat.shape[-1])

    def powers(self, base: Elements, count: int) -> Elements:
        """base^0, ..., base^(count-1), (count, width), by doubling the list."""
        block = self.identity()[None]
        while len(block) < count:
            step = self.exp(base[None], [len(block)])[0, 0]
            block = np.concatenate([block, self.mul(block[: count - len(block)], step)])
        return block

    def exp_small(self, values: NDArray[np.integer[Any]], bound: int) -> Elements:
        """g^values for integers with |values| <= bound, (...) to (..., width); a table look-up up to bound 2^14."""
        if bound <= _TABULATED:
            found: Elements = small_powers(self, bound)[values.astype(np.int64) + bound]
            return found
        distinct, where = np.unique(values, return_inverse=True)
        powers: Elements = self.exp(self.generator()[None], distinct.tolist())[0][where.reshape(values.shape)]
        return powers


@lru_cache(maxsize=8)
def small_powers(group: Group, bound: int) -> Elements:
    """g^-bound, ..., g^bound, (2 bound + 1, width), read-only."""
    positive = group.powers(group.generator(), bound + 1)
    table = np.concatenate([group.invert(positive[:0:-1]), positive])
    table.flags.writeable = False
    return table


def to_bytes(scalars: Sequence[int], nbytes: int) -> Wire:
    """Non-negative integers as big-endian bytes, (len, nbytes)."""
    return np.frombuffer(b"".join(int(s).to_bytes(nbytes, "big") for s in scalars), np.uint8).reshape(
        -1, nbytes
    )


def from_bytes(wire: Wire) -> list[int]:
    """The integers whose big-endian bytes are the rows of `wire`."""
    return [int.from_bytes(row.tobytes(), "big") for row in wire]


def check_wire(array: Any, tail: tuple[int, ...], ndim: int, what: str) -> None:
    """Raise `MalformedError` unless `array` is uint8 with `ndim` axes, the last of them of the sizes `tail`."""
    fits = isinstance(array, np.ndarray) and array.dtype == np.uint8 and array.ndim == ndim
    if not fits or array.shape[ndim - len(tail) :] != tail:
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise MalformedError(f"{what}: expected uint8 with {ndim} axes ending in {tail}, got {got}")
