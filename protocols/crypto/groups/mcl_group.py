"""secp256k1 and G1 of BN254 by mcl: of prime order, so that a point of the curve is in the group.

An element is 12 uint64 words as in `mcl`, with z = 1; the neutral element is all zero. On the wire: x | y, 32
bytes little-endian each. Uncompressed, because a square root per point costs 70 us where the check of the
curve equation costs 1.1 us (digits: 93 405 points, 6.6 s against 0.11 s), for 64 bytes instead of 33. On
BN254 mcl checks the order of every point too, 65 us.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.groups import mcl, workers
from protocols.crypto.groups.elements import Group, Places, Raw, Wire
from protocols.language.errors import MalformedError

_POINT = 8 * mcl.POINT_WORDS  # bytes
_SCALAR = 8 * mcl.SCALAR_WORDS
_WIRE = 2 * mcl.COORDINATE_BYTES
_BUCKETS = 128  # from here on mcl's mulVec sorts into buckets: 128 terms cost less than 64 (214 us, 260 us)
_PAD_FROM = 52  # shorter products are faster as they are


@dataclass(frozen=True)
class MclGroup(Group):
    """The points of `curve`."""

    curve: mcl.Curve

    def generator(self) -> Raw:
        x, y = self.curve.generator
        size = mcl.COORDINATE_BYTES
        wire = np.frombuffer(x.to_bytes(size, "little") + y.to_bytes(size, "little"), np.uint8)
        return self._decode(wire[None]).reshape(-1)

    def identity(self) -> Raw:
        return np.zeros(mcl.POINT_WORDS, dtype=np.uint64)

    def exp(self, bases: Raw, scalars: Sequence[int], base: Places, scalar: Places) -> Raw:
        bases = mcl.points(bases)
        out = np.empty((len(base), mcl.POINT_WORDS), dtype=np.uint64)
        with mcl.active(self.curve) as native:
            fr, turn = (
                mcl.scalars(native, [s % self.order for s in scalars]),
                np.argsort(base, kind="stable"),
            )
            to, left = out.ctypes.data + _POINT * turn, bases.ctypes.data + _POINT * base[turn]
            right = fr.ctypes.data + _SCALAR * scalar[turn]

            def task(piece: tuple[int, int]) -> None:
                places = (part[slice(*piece)].tolist() for part in (to, left, right))
                for here, point, power in zip(
                    *places, strict=True
                ):  # base by base: 3% faster than power by power
                    native.mul(here, point, power)
                    native.normalize(here, here)

            _spread(task, len(base))
        return out

    def multi_exp(self, points: Raw, exponents: NDArray[np.integer[Any]]) -> Raw:
        points = mcl.points(points)
        (count, n), h = points.shape[:2], len(exponents)
        length = _BUCKETS if _PAD_FROM <= n < _BUCKETS else n
        # a negative exponent is a full-size one to mcl: take the inverse of the point instead
        signed = np.concatenate([points, self.invert(points)], axis=1)
        index = np.zeros((h, length), dtype=np.intp)
        index[:, :n] = np.arange(n) + n * (exponents < 0)
        magnitudes = np.zeros((h, length), dtype=np.int64)
        magnitudes[:, :n] = np.abs(exponents.astype(np.int64))
        out = np.empty((count, h, mcl.POINT_WORDS), dtype=np.uint64)
        with mcl.active(self.curve) as native:
            distinct, where = np.unique(magnitudes, return_inverse=True)
            fr = mcl.scalars(native, distinct.tolist())[where.reshape(h, length)]
            to, scalar, row = out.ctypes.data, fr.ctypes.data, _SCALAR * length

            def task(piece: tuple[int, int]) -> None:
                terms = np.empty((length, mcl.POINT_WORDS), dtype=np.uint64)
                term = terms.ctypes.data
                for pair in range(*piece):
                    i, k = divmod(pair, h)
                    here = to + _POINT * pair
                    np.take(signed[i], index[k], axis=0, out=terms, mode="clip")
                    native.mul_vec(here, term, scalar + row * k, length)
                    native.normalize(here, here)

            _spread(task, count * h)
        return out

    def mul(self, a: Raw, b: Raw) -> Raw:
        return self._pairwise(a, b, "add")

    def div(self, a: Raw, b: Raw) -> Raw:
        return self._pairwise(a, b, "sub")

    def invert(self, a: Raw) -> Raw:
        a = mcl.points(a)
        out = np.empty_like(a)
        with mcl.active(self.curve) as native:
            neg, to, source = native.neg, out.ctypes.data, a.ctypes.data
            for at in range(0, a.nbytes, _POINT):
                neg(to + at, source + at)
        return out

    def encode(self, raw: Raw) -> Wire:
        raw = mcl.points(raw)
        count = raw.size // mcl.POINT_WORDS
        out = np.empty(count * _WIRE + 1, dtype=np.uint8)  # mcl ends every text with a zero byte
        with mcl.active(self.curve) as native:
            to, source = out.ctypes.data, raw.ctypes.data
            for i in range(count):
                native.format(to + _WIRE * i, _WIRE + 1, source + _POINT * i, mcl.AFFINE)
        return out[:-1].reshape(*raw.shape[:-1], _WIRE)

    def _decode(self, wire: Wire) -> Raw:
        out = np.empty((len(wire), mcl.POINT_WORDS), dtype=np.uint64)
        with mcl.active(self.curve) as native:
            to, source = out.ctypes.data, wire.ctypes.data
            for i in range(len(wire)):
                if native.parse(to + _POINT * i, source + _WIRE * i, _WIRE, mcl.AFFINE):
                    raise MalformedError(f"element {i} of {len(wire)}: {self._fault(wire[i].tobytes())}")
        return out

    def keys(self, raw: Raw) -> NDArray[np.uint64]:
        odd = raw[..., 4] & np.uint64(1)  # the parity of y tells an element from its inverse
        return np.stack([raw[..., 0], raw[..., 1] & ~np.uint64(1) | odd], axis=-1)

    def _fault(self, wire: bytes) -> str:
        size = mcl.COORDINATE_BYTES
        coordinates = (int.from_bytes(wire[:size], "little"), int.from_bytes(wire[size:], "little"))
        if max(coordinates) >= self.curve.field:
            return f"a coordinate is not below the field prime of {self.name}"
        return f"not a point on {self.name}"

    def _pairwise(self, a: Raw, b: Raw, operation: str) -> Raw:
        a, b = (mcl.points(v) for v in np.broadcast_arrays(a, b))
        out = np.empty_like(a)
        with mcl.active(self.curve) as native:
            combine, normalize = getattr(native, operation), native.normalize
            to, left, right = out.ctypes.data, a.ctypes.data, b.ctypes.data
            for at in range(0, a.nbytes, _POINT):
                combine(to + at, left + at, right + at)
                normalize(to + at, to + at)
        return out


def mcl_group(name: str) -> MclGroup:
    """`secp256k1` or `bn254`."""
    if name == mcl.SECP256K1.name:
        return MclGroup(name, mcl.SECP256K1.order, 128, "DDH", _WIRE, mcl.SECP256K1)
    # 100 bits: the number field sieve of Kim and Barbulescu (CRYPTO 2016, eprint 2015/1027) in GT
    return MclGroup(name, mcl.BN254.order, 100, "XDH (DDH in G1 of a pairing)", _WIRE, mcl.BN254)


def _spread(task: Callable[[tuple[int, int]], None], count: int) -> None:
    """Run `task` over [0, count) in one contiguous piece per core; the pieces write to disjoint places."""
    pieces = min(workers.available(), count // 8)  # a pool takes .3 ms a call, against milliseconds of work
    workers.spread(task, workers.ranges(count, pieces), pieces)
