"""BLS12-381 by arkworks, G1 and the pairing: a slow path, for comparison and a level above that of BN254.

An element of G1 or G2 is its wire form: x | y, coordinates of 48 bytes big-endian (as arkworks orders them in
G2), all zero for the neutral element. Both curves have a cofactor, so decoding checks the subgroup. Elements
of GT are Python objects in arrays of width 1. The library keeps the GIL: more workers are of no use here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

from protocols.crypto.groups.elements import Group, Places, Raw, Wire
from protocols.crypto.groups.pairing import Pairing, Target, check_lengths
from protocols.language.errors import MalformedError

_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
_SCALAR = 32  # bytes
_G1 = 96
_G2 = 192


@dataclass(frozen=True)
class BlsGroup(Group):
    """The subgroup of prime order of E(F_p)."""

    def generator(self) -> Raw:
        return _pack([G1Point()])

    def identity(self) -> Raw:
        return np.zeros(_G1, dtype=np.uint8)

    def exp(self, bases: Raw, scalars: Sequence[int], base: Places, scalar: Places) -> Raw:
        points, exponents = _points(bases), [_scalar(s) for s in scalars]
        pairs = zip(base.tolist(), scalar.tolist(), strict=True)
        return _pack([points[i] * exponents[k] for i, k in pairs], len(base))

    def multi_exp(self, points: Raw, exponents: NDArray[np.integer[Any]]) -> Raw:
        signs, magnitudes = exponents < 0, np.abs(exponents.astype(np.int64))
        scalars = [[_scalar(int(m)) for m in row] for row in magnitudes]
        out = []
        for row in points:
            bases = _points(row)
            inverses = [-base for base in bases]
            for sign, scalar in zip(signs.tolist(), scalars, strict=True):
                terms = [inv if s else base for s, base, inv in zip(sign, bases, inverses, strict=True)]
                out.append(G1Point.multiexp_unchecked(terms, scalar))
        return _pack(out, len(points), len(exponents))

    def mul(self, a: Raw, b: Raw) -> Raw:
        a, b = np.broadcast_arrays(a, b)
        return _pack([x + y for x, y in zip(_points(a), _points(b), strict=True)], *a.shape[:-1])

    def invert(self, a: Raw) -> Raw:
        return _pack([-x for x in _points(a)], *a.shape[:-1])

    def encode(self, raw: Raw) -> Wire:
        return raw.copy()

    def _decode(self, wire: Wire) -> Raw:
        return _checked(wire, G1Point.from_xy_bytes_be, self.name)

    def keys(self, raw: Raw) -> NDArray[np.uint64]:
        x = np.ascontiguousarray(raw[..., 32:48]).view(np.uint64)
        low = np.uint64(1 << 56)  # the low bit of a big-endian word read little-endian
        second = x[..., 1] & ~low | (raw[..., 95] & 1).astype(np.uint64) * low
        return np.stack([x[..., 0], second], axis=-1)


@dataclass(frozen=True)
class BlsTarget(Target):
    """GT of BLS12-381."""

    def products(self, a: Raw, b: Raw) -> Raw:
        check_lengths(a, b)
        left = [_points(row) for row in a]
        right = [[G2Point.from_xy_bytes_unchecked_be(p.tobytes()) for p in row] for row in b]
        return _objects([GT.multi_pairing(k, c) for k in left for c in right], (len(a), len(b)))

    def mul(self, a: Raw, b: Raw) -> Raw:
        a, b = np.broadcast_arrays(a, b)
        return _objects([x * y for x, y in zip(a.flat, b.flat, strict=True)], a.shape[:-1])

    def invert(self, a: Raw) -> Raw:
        return _objects([_power(x, _ORDER - 1) for x in a.flat], a.shape[:-1])  # the library has no inverse

    def one(self) -> Raw:
        return _objects([GT.one()], ())

    def keys(self, a: Raw) -> NDArray[np.int64]:
        # of the half that conjugation does not change
        return np.array([int(str(x)[:16], 16) >> 1 for x in a.flat], dtype=np.int64).reshape(a.shape[:-1])


@dataclass(frozen=True)
class BlsPairing(Pairing):
    """The pairing of BLS12-381."""

    def _exp(self, scalars: Sequence[int], second: bool) -> Wire:
        # one addition for every byte of the exponent: 10 times a multiplication's speed
        table, out = _fixed_base(second), []
        for scalar in scalars:
            digits = (scalar % _ORDER).to_bytes(_SCALAR, "little")
            point, *rest = (row[d] for row, d in zip(table, digits, strict=True))
            for more in rest:
                point = point + more
            out.append(bytes(point.to_xy_bytes_be()))
        return np.frombuffer(b"".join(out), np.uint8).reshape(-1, _G2 if second else _G1)

    @contextmanager
    def target(self) -> Iterator[Target]:
        yield BlsTarget()

    def _decode(self, wire: Wire, second: bool) -> Raw:
        return _checked(wire, (G2Point if second else G1Point).from_xy_bytes_be, self.name)


def bls12_381() -> BlsGroup:
    """BLS12-381 G1; about 120 bits by Barbulescu and Duquesne, J. Cryptology 2019 (eprint 2017/334)."""
    return BlsGroup("bls12_381", _ORDER, 120, "XDH (DDH in G1 of a pairing)", _G1)


def bls12_381_pairing() -> BlsPairing:
    """BLS12-381; the level is that of the group."""
    return BlsPairing("bls12_381", _ORDER, 120, _G1, _G2)


def _checked(wire: Wire, parse: Callable[[bytes], Any], name: str) -> Raw:
    """The bytes (N, nbytes) themselves, once the library has taken every row for a point of the subgroup."""
    for i, row in enumerate(wire):
        try:
            parse(row.tobytes())
        except ValueError as cause:
            known = "point is not" in str(cause)
            text = str(cause) if known else "a coordinate is not below the field prime"
            raise MalformedError(f"element {i} of {len(wire)}: {text} ({name})") from None
    return wire.copy()


def _scalar(value: int) -> Scalar:
    return Scalar.from_be_bytes((value % _ORDER).to_bytes(_SCALAR, "big"))


def _points(raw: Raw) -> list[G1Point]:
    return [G1Point.from_xy_bytes_unchecked_be(row.tobytes()) for row in raw.reshape(-1, _G1)]


def _pack(points: Sequence[G1Point], *shape: int) -> Raw:
    wire = b"".join(bytes(point.to_xy_bytes_be()) for point in points)
    return np.frombuffer(wire, np.uint8).reshape(*shape, _G1)


def _objects(elements: Sequence[Any], shape: tuple[int, ...]) -> Raw:
    out = np.empty(len(elements), dtype=object)
    out[:] = elements
    return out.reshape(*shape, 1)


@lru_cache(maxsize=2)
def _fixed_base(second: bool) -> tuple[tuple[Any, ...], ...]:
    """d 256^i g for all bytes i and values d."""
    kind: Any = G2Point if second else G1Point
    base, table = kind(), []
    for _ in range(_SCALAR):
        row = [kind.identity()]
        for _ in range(255):
            row.append(row[-1] + base)
        table.append(tuple(row))
        base = row[-1] + base
    return tuple(table)


def _power(element: Any, exponent: int) -> Any:
    result = GT.one()
    for bit in f"{exponent:b}":
        result = result * result
        if bit == "1":
            result = result * element
    return result
