"""Groups of prime order in which discrete logarithms are hard, and arrays of their elements with operators.

    g ** r          the power of every element, with broadcasting: (N,) ** (N,), (n,) ** (N, 1)
    a * b, a / b    elementwise, with broadcasting
    c @ y.T         the matrix product in the exponent: prod_j c[i, j]^y[k, j]

What they cost, medians on one core of a Xeon at 2.5 GHz (2 cores; `**` and `@` on curves of mcl use both and
take a little over half), by scenarios/study/bench_groups.py. `exp` is one full exponentiation, `encrypt` one
vector, `decrypt` the multi-exponentiation of one decryption (|y| <= 1024, standard deviation 256), `table`
the one for discrete logarithms; digits: n = 64, x <= 16, MNIST: n = 784, x <= 255.

|           |         |               | element  | exp    | encrypt, ms   | decrypt, us    | table, s      |
| group     | level   | assumption    | on wire  | us     | digits  MNIST | digits   MNIST | digits  MNIST |
|-----------|---------|---------------|----------|--------|---------------|----------------|---------------|
| secp256k1 | 128 bit | DDH           |  64 byte |   46   |   3.9     43  |   240     1250 |   1.2     4.9 |
| bn254     | 100 bit | XDH           |  64 byte |   53   |   8.5     96  |   266     1440 |   1.3     5.5 |
| bls12_381 | 120 bit | XDH           |  96 byte |  282   |    31    300  |   387     2700 |   4.3      17 |
| modp2048  | 112 bit | DDH           | 256 byte | 3870   |   253   3090  |  1220    15000 |   1.7     6.7 |

secp256k1 is the default: no pairing, so that plain DDH is the assumption and no attack on a target field
lowers the level; prime order, so that a point on the curve is in the group; and the fastest of the four.
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

from protocols.crypto.coins import Stream
from protocols.language.errors import MalformedError

Raw = NDArray[Any]  # (..., width) in a group's own representation, canonical: equal elements are equal arrays
Wire = NDArray[np.uint8]  # (..., nbytes)
Places = NDArray[np.intp]

_TABULATED = 1 << 14  # largest bound for which `small_powers` keeps a table (3 MB on a curve)


@dataclass(frozen=True, eq=False)
class Elements:
    """An array of elements of `group`; `raw` (*shape, width) are their representations."""

    group: Group
    raw: Raw

    @property
    def shape(self) -> tuple[int, ...]:
        return self.raw.shape[:-1]

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, index: Any) -> Elements:
        """As of numpy's arrays, without an ellipsis."""
        return Elements(self.group, self.raw[index])

    def __mul__(self, other: Elements) -> Elements:
        return Elements(self.group, self.group.mul(self.raw, other.raw))

    def __truediv__(self, other: Elements) -> Elements:
        return Elements(self.group, self.group.div(self.raw, other.raw))

    def __pow__(self, exponents: Any) -> Elements:
        """Powers with integers of any size and sign: one, or an array of them."""
        scalars = np.asarray(exponents, dtype=object)
        shape = np.broadcast_shapes(self.shape, scalars.shape)
        bases, powers = (_places(s, shape) for s in (self.shape, scalars.shape))
        flat = self.raw.reshape(-1, self.raw.shape[-1])
        raw = self.group.exp(flat, scalars.ravel().tolist(), bases, powers)
        return Elements(self.group, raw.reshape(*shape, raw.shape[-1]))

    def __matmul__(self, exponents: NDArray[np.integer[Any]]) -> Elements:
        """(N, n) @ (n, h), fast for exponents of a few bits; they must be public, as the time shows them."""
        return Elements(self.group, self.group.multi_exp(self.raw, exponents.T))

    def inverse(self) -> Elements:
        """1 / a, elementwise."""
        return Elements(self.group, self.group.invert(self.raw))

    def encode(self) -> Wire:
        """(..., nbytes); one element has one encoding."""
        return self.group.encode(self.raw)

    def keys(self) -> NDArray[np.uint64]:
        """Fingerprints (..., 2): 127 bits or more, the first word spread evenly."""
        return self.group.keys(self.raw)


def concatenate(parts: Sequence[Elements]) -> Elements:
    """Elements of one group, one after the other along the first axis."""
    return Elements(parts[0].group, np.concatenate([part.raw for part in parts]))


@dataclass(frozen=True)
class Group(ABC):
    """A group of prime order `order` at a level of `security_bits` under `assumption`, `nbytes` an element.

    Implementations work on representations: canonical elements of this group, as `decode` made them of what
    came from a peer.
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

    @property
    def g(self) -> Elements:
        """The generator."""
        return Elements(self, self.generator())

    @property
    def one(self) -> Elements:
        """The neutral element."""
        return Elements(self, self.identity())

    def draw(self, stream: Stream, *shape: int) -> NDArray[Any]:
        """Uniform exponents, as Python's integers."""
        count = int(np.prod(shape, dtype=np.int64))
        return np.array(stream.below(self.order, count), dtype=object).reshape(shape)

    def small(self, values: NDArray[np.integer[Any]], bound: int) -> Elements:
        """g^values for integers with |values| <= bound; a table look-up up to bound 2^14."""
        if bound <= _TABULATED:
            table: Elements = small_powers(self, bound)
            return table[values.astype(np.int64) + bound]
        distinct, where = np.unique(values, return_inverse=True)
        found: Elements = self.g**distinct
        return found[where.reshape(values.shape)]

    def decode(self, wire: Wire) -> Elements:
        """The elements (...) that bytes (..., nbytes) encode, if every entry is a canonical encoding.

        Raises `MalformedError` that says what is wrong: length, range, off the curve, wrong subgroup.
        """
        if not isinstance(wire, np.ndarray) or wire.dtype != np.uint8 or wire.shape[-1:] != (self.nbytes,):
            raise MalformedError(f"an element of {self.name} is {self.nbytes} bytes (uint8)")
        flat = self._decode(np.ascontiguousarray(wire.reshape(-1, self.nbytes)))
        return Elements(self, flat.reshape(*wire.shape[:-1], flat.shape[-1]))

    @abstractmethod
    def generator(self) -> Raw:
        """The base g, (width,)."""

    @abstractmethod
    def identity(self) -> Raw:
        """The neutral element, (width,)."""

    @abstractmethod
    def exp(self, bases: Raw, scalars: Sequence[int], base: Places, scalar: Places) -> Raw:
        """bases[base[p]] ^ scalars[scalar[p]] for every p: (P, width)."""

    @abstractmethod
    def multi_exp(self, points: Raw, exponents: NDArray[np.integer[Any]]) -> Raw:
        """prod_j points[i, j]^exponents[k, j]: (N, n, width), (h, n) below 2^62 give (N, h, width)."""

    @abstractmethod
    def mul(self, a: Raw, b: Raw) -> Raw:
        """a b, elementwise with broadcasting."""

    @abstractmethod
    def invert(self, a: Raw) -> Raw:
        """a^-1, elementwise."""

    @abstractmethod
    def encode(self, raw: Raw) -> Wire:
        """(..., width) to (..., nbytes)."""

    @abstractmethod
    def _decode(self, wire: Wire) -> Raw:
        """`decode` for bytes of the right shape (N, nbytes)."""

    @abstractmethod
    def keys(self, raw: Raw) -> NDArray[np.uint64]:
        """Fingerprints (..., 2) of elements."""

    def div(self, a: Raw, b: Raw) -> Raw:
        """a / b, elementwise with broadcasting."""
        return self.mul(a, self.invert(b))


def powers(base: Elements, count: int) -> Elements:
    """base^0, ..., base^(count-1), by doubling the list."""
    block = base.group.one[None]
    while len(block) < count:
        block = concatenate([block, block[: count - len(block)] * base ** len(block)])
    return block


@lru_cache(maxsize=8)
def small_powers(group: Group, bound: int) -> Elements:
    """g^-bound, ..., g^bound, (2 bound + 1,), read-only."""
    positive = powers(group.g, bound + 1)
    table = concatenate([positive[:0:-1].inverse(), positive])
    table.raw.flags.writeable = False
    return table


def to_bytes(scalars: Sequence[int] | NDArray[Any], nbytes: int) -> Wire:
    """Non-negative integers as big-endian bytes, (len, nbytes)."""
    data = b"".join(int(s).to_bytes(nbytes, "big") for s in scalars)
    return np.frombuffer(data, np.uint8).reshape(-1, nbytes)


def from_bytes(wire: Wire) -> list[int]:
    """The integers whose big-endian bytes are the rows of `wire`."""
    return [int.from_bytes(row.tobytes(), "big") for row in wire]


def _places(shape: tuple[int, ...], full: tuple[int, ...]) -> Places:
    """Where each entry of a broadcast array lies in the flat one."""
    places: Places = np.arange(np.prod(shape, dtype=np.intp), dtype=np.intp).reshape(shape)
    return np.broadcast_to(places, full).ravel()
