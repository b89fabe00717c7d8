"""BLS12-381 by arkworks: a slow path, for comparison and for a level above BN254's.

An element of G1 or G2 is its wire form: x | y, coordinates of 48 bytes big-endian (as arkworks orders them in G2), all
zero for the neutral element. Both curves have a cofactor, so `decode` checks the subgroup. Elements of GT are Python
objects in arrays of width 1. The library keeps the GIL: more workers are of no use here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from py_arkworks_bls12381 import GT, G1Point, G2Point

from protocols.crypto.groups.pairing import Elements, Pairing, Target, Wire, check_lengths
from protocols.language.errors import MalformedError

_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
_SCALAR = 32
_G1 = 96
_G2 = 192
_HALF = 576  # hexadecimal digits of the half of a GT element that conjugation does not change


@dataclass(frozen=True)
class BlsTarget(Target):
    """GT of BLS12-381."""

    def products(self, a: Elements, b: Elements) -> Elements:
        check_lengths(a, b)
        left = [[G1Point.from_xy_bytes_unchecked_be(p.tobytes()) for p in row] for row in a]
        right = [[G2Point.from_xy_bytes_unchecked_be(p.tobytes()) for p in row] for row in b]
        return _pack([GT.multi_pairing(k, c) for k in left for c in right], (len(a), len(b)))

    def mul(self, a: Elements, b: Elements) -> Elements:
        a, b = np.broadcast_arrays(a, b)
        return _pack([x * y for x, y in zip(a.flat, b.flat, strict=True)], a.shape[:-1])

    def invert(self, a: Elements) -> Elements:
        return _pack([_power(x, _ORDER - 1) for x in a.flat], a.shape[:-1])  # the library has no inverse

    def one(self) -> Elements:
        return _pack([GT.one()], ())

    def keys(self, a: Elements) -> NDArray[np.int64]:
        return np.array([int(str(x)[:16], 16) >> 1 for x in a.flat], dtype=np.int64).reshape(a.shape[:-1])


@dataclass(frozen=True)
class BlsPairing(Pairing):
    """The pairing of BLS12-381."""

    def exp_g1(self, scalars: Sequence[int]) -> Wire:
        return _exp(scalars, second=False)

    def exp_g2(self, scalars: Sequence[int]) -> Wire:
        return _exp(scalars, second=True)

    @contextmanager
    def target(self) -> Iterator[Target]:
        yield BlsTarget()

    def check_elements(self, elements: Any, second: bool, ndim: int) -> None:
        nbytes = _G2 if second else _G1
        fits = isinstance(elements, np.ndarray) and elements.dtype == np.uint8 and elements.ndim == ndim
        if not fits or elements.shape[-1] != nbytes:
            raise MalformedError(f"expected points of {nbytes} bytes on {ndim} axes")

    def _decode(self, wire: Wire, second: bool) -> Elements:
        parse = G2Point.from_xy_bytes_be if second else G1Point.from_xy_bytes_be
        for i, row in enumerate(wire):
            try:
                parse(row.tobytes())
            except ValueError as cause:
                text = (
                    str(cause)
                    if "point is not" in str(cause)
                    else "a coordinate is not below the field prime"
                )
                raise MalformedError(f"element {i} of {len(wire)}: {text} ({self.name})") from None
        return wire.copy()


def bls12_381() -> BlsPairing:
    """BLS12-381; about 120 bits by Barbulescu and Duquesne, J. Cryptology 2019 (eprint 2017/334)."""
    return BlsPairing("bls12_381", _ORDER, 120, _G1, _G2)


def _exp(scalars: Sequence[int], second: bool) -> Wire:
    """Powers of a generator with one addition for every byte of the exponent; 10 times a multiplication's speed."""
    table, nbytes = _fixed_base(second), _G2 if second else _G1
    out = []
    for scalar in scalars:
        point, *rest = (
            row[d] for row, d in zip(table, (scalar % _ORDER).to_bytes(_SCALAR, "little"), strict=True)
        )
        for more in rest:
            point = point + more
        out.append(bytes(point.to_xy_bytes_be()))
    return np.frombuffer(b"".join(out), np.uint8).reshape(-1, nbytes)


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


def _pack(elements: Sequence[Any], shape: tuple[int, ...]) -> Elements:
    out = np.empty(len(elements), dtype=object)
    out[:] = elements
    return out.reshape(*shape, 1)
