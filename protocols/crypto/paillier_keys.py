"""What of Paillier crosses the wire: parameters, keys, encrypted heads and logits; and a validated head."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from protocols.crypto.integers.multiexp import Tables, bucket_multi_exp, subset_tables
from protocols.crypto.integers.packing import HeadBounds, slots
from protocols.crypto.records import Record, Symbols, Wire, array, nbytes, number, record
from protocols.language.errors import ConfigError, MalformedError

KEY_BITS = 3072
SMALLEST_KEY = 2048  # bits
_LARGEST, _TOY = 8192, 256  # bits
_TAG = 16  # bytes
_EXPONENTS = 1 << 10  # beyond those of any float, and of any product of two


@record
class PaillierParams(Record):
    """What the head is bounded by, and the bits of n; `toy` allows fewer than 2048 and is for tests."""

    bounds: HeadBounds
    key_bits: int = KEY_BITS
    toy: bool = False

    def further(self) -> Symbols:
        if not (_TOY if self.toy else SMALLEST_KEY) <= self.key_bits <= _LARGEST or self.key_bits % 32:
            raise ConfigError(
                f"--key-bits {self.key_bits} is refused: 2048 bits (about 112 bit of security) are the least "
                f"that is not within reach of factoring, {KEY_BITS} (about 128) the default; "
                f"up to {_LARGEST} in steps of 32"
            )
        return {"chunks": self.chunks, "bytes": self.nbytes}

    @property
    def security_bits(self) -> int:
        """By NIST SP 800-57 part 1; 0 for a toy."""
        return 0 if self.key_bits < SMALLEST_KEY else 112 if self.key_bits < KEY_BITS else 128

    @property
    def per_plaintext(self) -> int:
        """Classes in one ciphertext; `BoundError` if a slot does not fit."""
        return slots(self.bounds, self.key_bits)

    @property
    def chunks(self) -> int:
        """Ciphertexts per feature."""
        return -(-self.bounds.classes // self.per_plaintext)

    @property
    def nbytes(self) -> int:
        """Bytes of a ciphertext."""
        return self.key_bits // 4


@record
class PaillierPublicKey(Record):
    """n and h_n = h^n mod n^2."""

    params: PaillierParams
    n: int = number(bits=_LARGEST)
    h_n: int = number(bits=2 * _LARGEST)

    def further(self) -> Symbols:
        if self.n.bit_length() != self.params.key_bits or self.n % 2 == 0:
            raise MalformedError(
                f"the modulus of a public key must be odd and have {self.params.key_bits} bits"
            )
        if not 1 < self.h_n < self.n**2 or math.gcd(self.h_n, self.n) != 1:
            raise MalformedError("h_n of a public key must be a unit mod n^2 other than 1")
        return {"tag": self.tag}

    @cached_property
    def square(self) -> mpz:
        """n^2."""
        return mpz(self.n) ** 2

    @cached_property
    def tag(self) -> bytes:
        """What tells this key from others: the start of SHA-256(n)."""
        return hashlib.sha256(self.n.to_bytes(self.params.key_bits // 8, "big")).digest()[:_TAG]


@record
class PaillierSecretKey(Record):
    """The factors of n. Secret."""

    pk: PaillierPublicKey
    p: int = number(bits=_LARGEST, secret=True)
    q: int = number(bits=_LARGEST, secret=True)

    def further(self) -> Symbols:
        if self.p * self.q != self.pk.n or self.p == self.q or self.p % 4 != 3 or self.q % 4 != 3:
            raise MalformedError(
                "the factors of a secret key must be those of its modulus, different, and 3 mod 4"
            )
        return {}

    @cached_property
    def halves(self) -> tuple[tuple[mpz, mpz, mpz], ...]:
        """For p and for q: the prime, its square, 1 / L((1 + n)^{prime - 1}) = -1 / (the other prime)."""
        p, q = mpz(self.p), mpz(self.q)
        return ((p, p * p, gmpy2.invert(-q, p)), (q, q * q, gmpy2.invert(-p, q)))

    @cached_property
    def p_inverse(self) -> mpz:
        """1 / p mod q."""
        return gmpy2.invert(self.p, self.q)


@record
class PaillierHead(Record):
    """An encrypted head: a row for every feature and a last one for the bias, big-endian."""

    SHAPE = ("d+1", "chunks")
    tag: bytes = nbytes(_TAG, tag=True)
    elements: Wire = array("uint8", "d+1", "chunks", "bytes")


@record
class PaillierLogits(Record):
    """Encrypted logits: a row for every input, big-endian."""

    SHAPE = ("m", "chunks")
    tag: bytes = nbytes(_TAG, tag=True)
    elements: Wire = array("uint8", "m", "chunks", "bytes")


@record
class PaillierFloats(Record):
    """phe's encrypted floats and, in the clear, the exponent of each."""

    SHAPE = ("rows", "columns")
    tag: bytes = nbytes(_TAG, tag=True)
    elements: Wire = array("uint8", "rows", "columns", "bytes")
    exponents: NDArray[np.int16] = array("int16", "rows", "columns")

    def further(self) -> Symbols:
        if np.abs(self.exponents.astype(np.int64)).max(initial=0) > _EXPONENTS:
            raise MalformedError("an exponent of an encrypted float is beyond that of any float")
        return {}


@dataclass(frozen=True)
class PaillierLoaded:
    """A validated head, with what is computed of it once. It is no record and cannot cross."""

    pk: PaillierPublicKey
    elements: Wire

    @cached_property
    def columns(self) -> tuple[tuple[mpz, ...], ...]:
        """For every chunk of classes the ciphertexts of the features, then of the bias."""
        return tuple(tuple(numbers_of(self.elements[:, chunk])) for chunk in range(self.elements.shape[1]))

    @cached_property
    def tables(self) -> tuple[Tables, ...]:
        """Subset tables of every chunk: 2^8 products for 8 features, 4 MiB for 256 features and 2048 bit."""
        return tuple(subset_tables(column[:-1], self.pk.square) for column in self.columns)

    @cached_property
    def constants(self) -> tuple[mpz, ...]:
        """What every product is multiplied by: the bias.

        With signed features also by prod_j c_j^{-feature}, which takes off their offset.
        """
        bounds, square = self.pk.params.bounds, self.pk.square
        if not bounds.signed:
            return tuple(column[-1] for column in self.columns)
        ones = np.full((1, bounds.features), bounds.feature)
        offsets = [bucket_multi_exp(column[:-1], ones, square)[0] for column in self.columns]
        pairs = zip(self.columns, offsets, strict=True)
        return tuple(column[-1] * gmpy2.invert(offset, square) % square for column, offset in pairs)


def check_units(pk: PaillierPublicKey, ct: PaillierHead | PaillierLogits | PaillierFloats) -> None:
    """Raise `MalformedError` unless every element is a unit mod n^2."""
    product, n = mpz(1), mpz(pk.n)
    for i, c in enumerate(numbers_of(ct.elements)):
        if not 0 < c < pk.square:
            raise MalformedError(f"element {i} of {type(ct).__name__}: not in [1, n^2)")
        product = product * c % n
    if gmpy2.gcd(product, n) != 1:  # one gcd for all: a product is a unit only if every factor is one
        raise MalformedError(f"an element of {type(ct).__name__} is no unit mod n")


def numbers_of(elements: Wire) -> list[mpz]:
    """Big-endian integers along the last axis, in one list."""
    rows = np.ascontiguousarray(elements).reshape(-1, elements.shape[-1])
    return [mpz(int.from_bytes(row.tobytes(), "big")) for row in rows]


def bytes_of(values: list[mpz], params: PaillierParams, *shape: int) -> Wire:
    """Elements mod n^2 as they cross, (*shape, bytes)."""
    data = b"".join(int(value).to_bytes(params.nbytes, "big") for value in values)
    return np.frombuffer(data, np.uint8).reshape(*shape, params.nbytes)
