"""What of Paillier crosses the wire: parameters, keys, encrypted heads and logits, each refused if it is not one."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from functools import cached_property

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from protocols.crypto.integers.multiexp import Tables, bucket_multi_exp, subset_tables
from protocols.crypto.integers.packing import HeadBounds, slots
from protocols.language.errors import ConfigError, MalformedError
from protocols.language.message import wire

KEY_BITS = 3072
SMALLEST_KEY = 2048  # bits
_LARGEST, _TOY = 8192, 256  # bits
_TAG = 16  # bytes
_EXPONENTS = 1 << 10  # beyond those of any float, and of any product of two

Wire = NDArray[np.uint8]


@wire
@dataclass(frozen=True)
class PaillierParams:
    """What the head is bounded by, and the bits of n; `toy` allows fewer than 2048 and is for tests."""

    bounds: HeadBounds
    key_bits: int = KEY_BITS
    toy: bool = False

    def __post_init__(self) -> None:
        if (
            not isinstance(self.bounds, HeadBounds)
            or type(self.key_bits) is not int
            or type(self.toy) is not bool
        ):
            raise MalformedError("paillier parameters are the bounds of a head, a number of bits and a flag")
        if not (_TOY if self.toy else SMALLEST_KEY) <= self.key_bits <= _LARGEST or self.key_bits % 32:
            raise ConfigError(
                f"--key-bits {self.key_bits} is refused: 2048 bits (about 112 bit of security) are the least that is not within "
                f"reach of factoring, {KEY_BITS} (about 128) the default; up to {_LARGEST} in steps of 32"
            )

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
        """Ciphertexts a feature."""
        return -(-self.bounds.classes // self.per_plaintext)

    @property
    def nbytes(self) -> int:
        """Bytes of a ciphertext."""
        return self.key_bits // 4


@wire
@dataclass(frozen=True)
class PaillierPublicKey:
    """n and h_n = h^n mod n^2."""

    params: PaillierParams
    n: int
    h_n: int

    def __post_init__(self) -> None:
        if (
            not isinstance(self.params, PaillierParams)
            or type(self.n) is not int
            or type(self.h_n) is not int
        ):
            raise MalformedError("a paillier public key is made of parameters and two integers")
        if self.n.bit_length() != self.params.key_bits or self.n % 2 == 0:
            raise MalformedError(
                f"the modulus of a public key must be odd and have {self.params.key_bits} bits"
            )
        if not 1 < self.h_n < self.n**2 or math.gcd(self.h_n, self.n) != 1:
            raise MalformedError("h_n of a public key must be a unit mod n^2 other than 1")

    @cached_property
    def square(self) -> mpz:
        """n^2."""
        return mpz(self.n) ** 2

    @cached_property
    def tag(self) -> bytes:
        """What tells this key from others: the start of SHA-256(n)."""
        return hashlib.sha256(self.n.to_bytes(self.params.key_bits // 8, "big")).digest()[:_TAG]


@wire
@dataclass(frozen=True)
class PaillierSecretKey:
    """The factors of n. Secret."""

    pk: PaillierPublicKey
    p: int = field(repr=False)
    q: int = field(repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.pk, PaillierPublicKey) or type(self.p) is not int or type(self.q) is not int:
            raise MalformedError("a paillier secret key is made of a public key and two integers")
        if self.p * self.q != self.pk.n or self.p == self.q or self.p % 4 != 3 or self.q % 4 != 3:
            raise MalformedError(
                "the factors of a secret key must be those of its modulus, different, and 3 mod 4"
            )

    @cached_property
    def halves(self) -> tuple[tuple[mpz, mpz, mpz], ...]:
        """For p and for q: the prime, its square, and 1 / L((1 + n)^{prime - 1}), which is -1 / (the other prime)."""
        p, q = mpz(self.p), mpz(self.q)
        return ((p, p * p, gmpy2.invert(-q, p)), (q, q * q, gmpy2.invert(-p, q)))

    @cached_property
    def p_inverse(self) -> mpz:
        """1 / p mod q."""
        return gmpy2.invert(self.p, self.q)


@dataclass(frozen=True)
class Batch:
    """`elements` (rows, ciphertexts a row, bytes), big-endian, under the key with this tag."""

    tag: bytes
    elements: Wire

    def __post_init__(self) -> None:
        if type(self.tag) is not bytes or len(self.tag) != _TAG:
            raise MalformedError(f"the tag of a paillier key is {_TAG} bytes")
        array = self.elements
        if (
            not isinstance(array, np.ndarray)
            or array.dtype != np.uint8
            or array.ndim != 3
            or 0 in array.shape[1:]
        ):
            raise MalformedError("paillier ciphertexts are an array of bytes with three axes")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.elements.shape[:2]

    def __len__(self) -> int:
        return len(self.elements)


@wire
@dataclass(frozen=True)
class PaillierHead(Batch):
    """An encrypted head as it crosses: a row for every feature and a last one for the bias."""


@wire
@dataclass(frozen=True)
class PaillierLogits(Batch):
    """Encrypted logits: a row for every input."""


@wire
@dataclass(frozen=True)
class PaillierLoaded(Batch):
    """A validated head, with what is computed of it once. It may be stored, not received."""

    pk: PaillierPublicKey

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.pk, PaillierPublicKey):
            raise MalformedError(f"expected a paillier public key, got {type(self.pk).__name__}")

    @cached_property
    def columns(self) -> tuple[tuple[mpz, ...], ...]:
        """For every chunk of classes the ciphertexts of the features, then of the bias."""
        return tuple(tuple(numbers_of(self.elements[:, chunk])) for chunk in range(self.shape[1]))

    @cached_property
    def tables(self) -> tuple[Tables, ...]:
        """Subset tables of every chunk: 2^8 products for 8 features, 4 MiB for 256 features and 2048 bit."""
        return tuple(subset_tables(column[:-1], self.pk.square) for column in self.columns)

    @cached_property
    def constants(self) -> tuple[mpz, ...]:
        """What every product is multiplied by: the bias and, with signed features, prod_j c_j^{-feature}, which takes off their offset."""
        bounds, square = self.pk.params.bounds, self.pk.square
        if not bounds.signed:
            return tuple(column[-1] for column in self.columns)
        ones = np.full((1, bounds.features), bounds.feature)
        offsets = (bucket_multi_exp(column[:-1], ones, square)[0] for column in self.columns)
        return tuple(
            c[-1] * gmpy2.invert(o, square) % square for c, o in zip(self.columns, offsets, strict=True)
        )


@wire
@dataclass(frozen=True)
class PaillierFloats:
    """phe's encrypted floats: `elements` (rows, columns, bytes) and, in the clear, the exponent of each (rows, columns)."""

    tag: bytes
    elements: Wire
    exponents: NDArray[np.int16]

    def __post_init__(self) -> None:
        Batch(self.tag, self.elements)
        found = self.exponents
        if (
            not isinstance(found, np.ndarray)
            or found.dtype != np.int16
            or found.shape != self.elements.shape[:2]
        ):
            raise MalformedError("the exponents of encrypted floats are one 16-bit integer a ciphertext")
        if np.abs(found.astype(np.int64)).max(initial=0) > _EXPONENTS:
            raise MalformedError("an exponent of an encrypted float is beyond that of any float")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.elements.shape[:2]


def check_elements(pk: PaillierPublicKey, ct: Batch | PaillierFloats, shape: tuple[int, ...]) -> None:
    """Raise `MalformedError` unless ct has this shape and this key's tag, and every element is a unit mod n^2."""
    if not isinstance(ct, Batch | PaillierFloats) or (*ct.shape, ct.elements.shape[-1]) != (
        *shape,
        pk.params.nbytes,
    ):
        raise MalformedError(
            f"{type(ct).__name__} does not fit {shape} ciphertexts of {pk.params.nbytes} bytes"
        )
    if ct.tag != pk.tag:
        raise MalformedError(f"{type(ct).__name__} belongs to another key: its tag differs")
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
