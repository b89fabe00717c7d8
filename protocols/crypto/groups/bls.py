"""G1 of BLS12-381 by arkworks: a slow path, for comparison.

An element is its wire form: x | y, 48 bytes big-endian each, all zero for the neutral element. The curve has a
cofactor, so `decode` checks the subgroup too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from py_arkworks_bls12381 import G1Point, Scalar

from protocols.crypto.groups.elements import Elements, Group, Wire
from protocols.language.errors import MalformedError

_NBYTES = 96
_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001


@dataclass(frozen=True)
class BlsGroup(Group):
    """The subgroup of prime order of E(F_p)."""

    def generator(self) -> Elements:
        return _pack([G1Point()])

    def identity(self) -> Elements:
        return np.zeros(_NBYTES, dtype=np.uint8)

    def exp(self, bases: Elements, scalars: Sequence[int]) -> Elements:
        exponents = [_scalar(s) for s in scalars]
        products = [base * e for base in _points(bases) for e in exponents]
        return _pack(products, len(bases), len(scalars))

    def multi_exp(self, points: Elements, exponents: NDArray[np.integer[Any]]) -> Elements:
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

    def mul(self, a: Elements, b: Elements) -> Elements:
        a, b = np.broadcast_arrays(a, b)
        return _pack([x + y for x, y in zip(_points(a), _points(b), strict=True)], *a.shape[:-1])

    def invert(self, a: Elements) -> Elements:
        return _pack([-x for x in _points(a)], *a.shape[:-1])

    def encode(self, elements: Elements) -> Wire:
        return elements.copy()

    def _decode(self, wire: Wire) -> Elements:
        for i, row in enumerate(wire):
            try:
                G1Point.from_xy_bytes_be(row.tobytes())
            except ValueError as cause:
                text = (
                    str(cause)
                    if "point is not" in str(cause)
                    else "a coordinate is not below the field prime"
                )
                raise MalformedError(f"element {i} of {len(wire)}: {text} ({self.name})") from None
        return wire.copy()

    def keys(self, elements: Elements) -> NDArray[np.uint64]:
        x = np.ascontiguousarray(elements[..., 32:48]).view(np.uint64)
        low = np.uint64(1 << 56)  # the low bit of a big-endian word read little-endian
        return np.stack(
            [x[..., 0], x[..., 1] & ~low | (elements[..., 95] & 1).astype(np.uint64) * low], axis=-1
        )


def bls12_381() -> BlsGroup:
    """BLS12-381 G1; about 120 bits by Barbulescu and Duquesne, J. Cryptology 2019 (eprint 2017/334)."""
    return BlsGroup("bls12_381", _ORDER, 120, "XDH (DDH in G1 of a pairing)", _NBYTES)


def _scalar(value: int) -> Scalar:
    return Scalar.from_be_bytes((value % _ORDER).to_bytes(32, "big"))


def _points(elements: Elements) -> list[G1Point]:
    return [G1Point.from_xy_bytes_unchecked_be(row.tobytes()) for row in elements.reshape(-1, _NBYTES)]


def _pack(points: Sequence[G1Point], *shape: int) -> Elements:
    wire = b"".join(bytes(point.to_xy_bytes_be()) for point in points)
    return np.frombuffer(wire, np.uint8).reshape(*shape, _NBYTES)
