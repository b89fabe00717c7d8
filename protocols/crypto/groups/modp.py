"""The quadratic residues modulo the 2048-bit safe prime of RFC 3526, group 14: a slow path without any curve.

An element is its wire form, 256 bytes big-endian. p = 2 q + 1 with p = 7 mod 8, so that 2 is a residue and
generates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from protocols.crypto.groups.elements import Group, Places, Raw, Wire
from protocols.language.errors import MalformedError

_NBYTES = 256
MODULUS = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)


@dataclass(frozen=True)
class ModpGroup(Group):
    """Squares modulo `MODULUS`."""

    def generator(self) -> Raw:
        return _pack([mpz(2)])

    def identity(self) -> Raw:
        return _pack([mpz(1)])

    def exp(self, bases: Raw, scalars: Sequence[int], base: Places, scalar: Places) -> Raw:
        numbers, exponents = _ints(bases), [mpz(s % self.order) for s in scalars]
        pairs = ((numbers[i], exponents[k]) for i, k in zip(base.tolist(), scalar.tolist(), strict=True))
        # powmod_sec: these exponents are secret
        return _pack([gmpy2.powmod_sec(b, e, MODULUS) if e else mpz(1) for b, e in pairs], len(base))

    def multi_exp(self, points: Raw, exponents: NDArray[np.integer[Any]]) -> Raw:
        keys = [[int(y) for y in row] for row in exponents]
        out: list[mpz] = []
        for row in points:
            bases = _ints(row)
            inverses = [gmpy2.invert(base, MODULUS) for base in bases]
            out.extend(_product(bases, inverses, key) for key in keys)
        return _pack(out, len(points), len(exponents))

    def mul(self, a: Raw, b: Raw) -> Raw:
        a, b = np.broadcast_arrays(a, b)
        return _pack([x * y % MODULUS for x, y in zip(_ints(a), _ints(b), strict=True)], *a.shape[:-1])

    def invert(self, a: Raw) -> Raw:
        return _pack([gmpy2.invert(x, MODULUS) for x in _ints(a)], *a.shape[:-1])

    def encode(self, elements: Raw) -> Wire:
        return elements.copy()

    def _decode(self, wire: Wire) -> Raw:
        for i, value in enumerate(_ints(wire)):
            if not 0 < value < MODULUS:
                raise MalformedError(f"element {i} of {len(wire)}: not in [1, p) of {self.name}")
            if gmpy2.jacobi(value, MODULUS) != 1:
                where = f"element {i} of {len(wire)}"
                raise MalformedError(f"{where}: not in the subgroup of squares of {self.name}")
        return wire.copy()

    def keys(self, elements: Raw) -> NDArray[np.uint64]:
        # a hash: small powers of 2 have the same low words
        rows = elements.reshape(-1, _NBYTES)
        digests = b"".join(blake2b(row.tobytes(), digest_size=16).digest() for row in rows)
        return np.frombuffer(digests, np.uint64).reshape(*elements.shape[:-1], 2)


def modp2048() -> ModpGroup:
    """RFC 3526 group 14; 112 bits by NIST SP 800-57 part 1."""
    return ModpGroup("modp2048", (MODULUS - 1) // 2, 112, "DDH", _NBYTES)


def _product(bases: Sequence[mpz], inverses: Sequence[mpz], exponents: Sequence[int]) -> mpz:
    product = mpz(1)
    for base, inverse, e in zip(bases, inverses, exponents, strict=True):
        product = product * gmpy2.powmod(inverse if e < 0 else base, abs(e), MODULUS) % MODULUS
    return product


def _ints(elements: Raw) -> list[mpz]:
    return [mpz(int.from_bytes(row.tobytes(), "big")) for row in elements.reshape(-1, _NBYTES)]


def _pack(values: Sequence[mpz], *shape: int) -> Raw:
    wire = b"".join(int(v).to_bytes(_NBYTES, "big") for v in values)
    return np.frombuffer(wire, np.uint8).reshape(*shape, _NBYTES)
