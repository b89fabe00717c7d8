"""BN254 by mcl.

Raw of G1 are 12 uint64 words, of G2 24, of GT 48, as in `mcl`, points with z = 1 or all zero; on the wire x |
y, coordinates of 32 bytes little-endian (in G2 the real part first). G1 has a prime number of points; G2 has
the cofactor 13 * 96757 * ..., so every point that arrives is multiplied by the order: small factors rule out
to check a random combination of many points in one go.

`products` is a matrix product in the exponent: entries of G1 times entries of G2, sums in GT. So V.
Strassen's way to multiply matrices (Numerische Mathematik 13, 1969; in S. Winograd's form with 15 additions)
applies: 7 block products instead of 8, for a few additions. Miller loops are what costs (128 us a term; an
addition in G1 or G2 1 us, in GT 2.5 us), and three levels save a third of them: 6.2 ms instead of 8.2 for a
product of 64 pairings, all told. Sums of Miller loops are formed before the final exponentiation, of which
there is one per entry; a - b there is a times the conjugate of b, which the final exponentiation turns into
the inverse, as conjugation is the power p^6 and the exponent has the factor p^6 - 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.groups import mcl, workers
from protocols.crypto.groups.elements import Raw, Wire
from protocols.crypto.groups.pairing import Pairing, Target, check_lengths
from protocols.language.errors import MalformedError

_CURVE = mcl.BN254
_COORDINATE = mcl.COORDINATE_BYTES
_G2_BASE = (  # the generator of mcl's own samples; the tests check curve, twist and order
    0x1C2141648FED8BA0F2A3FEBE8B98509BF86398D1FD1050C88FC3D88BE3D15DB1,
    0x093772AA06EA4ACF488CE113F4A56AEB6C23264001C1501C1C59CD47FAAC6D0F,
    0x1EB672F0D5335990C9B12F9839B1A8804393211B198237C5ACFC4D69D51186A0,
    0x118C5D037558E51EFDD3CF3530D8C5CB65C52F9CF639ED6D81DDC6C16B76EEC0,
)
_WINDOW = 10  # bits of a window of a fixed base: 26 additions a power, 26 624 points (2.5 MB, in G2 5 MB)
_BATCH = 4096  # exponents whose digits are held as Python integers at a time, 26 each
_LEAF = 4  # Strassen's recursion ends here: Miller loops of fewer terms share their squarings badly


@dataclass(frozen=True)
class _Side:
    """What differs between G1 and G2, with mcl's functions for it."""

    words: int
    nbytes: int
    add: Callable[[int, int, int], None]
    sub: Callable[[int, int, int], None]
    normalize: Callable[[int, int], None]
    format: Callable[[int, int, int, int], int]

    def sums(self, a: Raw, b: Raw, difference: bool = False) -> Raw:
        """a + b or a - b, elementwise; z is not 1 (the Miller loop normalises its arguments for less)."""
        a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
        out = np.empty_like(a)
        combine = self.sub if difference else self.add
        to, left, right = out.ctypes.data, a.ctypes.data, b.ctypes.data
        for at in range(0, a.nbytes, 8 * self.words):
            combine(to + at, left + at, right + at)
        return out

    def normalised(self, a: Raw) -> Raw:
        """The same points with z = 1."""
        out = np.ascontiguousarray(a).copy()
        for at in range(out.ctypes.data, out.ctypes.data + out.nbytes, 8 * self.words):
            self.normalize(at, at)
        return out


def _side(native: mcl.Mcl, second: bool) -> _Side:
    if second:
        add, sub, normalize, text = native.g2_add, native.g2_sub, native.g2_normalize, native.g2_format
        return _Side(mcl.G2_WORDS, 4 * _COORDINATE, add, sub, normalize, text)
    return _Side(mcl.POINT_WORDS, 2 * _COORDINATE, native.add, native.sub, native.normalize, native.format)


@dataclass(frozen=True)
class MclTarget(Target):
    """GT of BN254; valid while the curve is active."""

    native: mcl.Mcl
    unit: Raw

    def products(self, a: Raw, b: Raw) -> Raw:
        a, b = mcl.points(a), mcl.points(b, mcl.G2_WORDS)
        check_lengths(a, b)
        out = self._miller(a, b)
        at = out.ctypes.data
        for entry in range(at, at + out.nbytes, 8 * mcl.TARGET_WORDS):
            self.native.final_exp(entry, entry)
        return out

    def mul(self, a: Raw, b: Raw) -> Raw:
        a, b = (np.ascontiguousarray(v) for v in np.broadcast_arrays(a, b))
        out = np.empty_like(a)
        mul, to, left, right = self.native.target_mul, out.ctypes.data, a.ctypes.data, b.ctypes.data
        for at in range(0, a.nbytes, 8 * mcl.TARGET_WORDS):
            mul(to + at, left + at, right + at)
        return out

    def invert(self, a: Raw) -> Raw:
        a = np.ascontiguousarray(a)
        out = np.empty_like(a)
        conjugate, to, source = self.native.target_inv, out.ctypes.data, a.ctypes.data
        for at in range(0, a.nbytes, 8 * mcl.TARGET_WORDS):
            conjugate(to + at, source + at)
        return out

    def one(self) -> Raw:
        return self.unit

    def keys(self, a: Raw) -> NDArray[np.int64]:
        return np.ascontiguousarray(a[..., 0]).view(np.int64)  # of the half that conjugation does not change

    def _miller(self, a: Raw, b: Raw) -> Raw:
        """a b^T before the final exponentiation: (r, n) in G1, (c, n) in G2 give (r, c, words)."""
        rows, columns, terms = len(a), len(b), a.shape[1]
        if min(rows, columns) < 2 or terms < 2 * _LEAF:
            return self._direct(a, b)
        if rows % 2:
            return np.concatenate([self._miller(a[:-1], b), self._direct(a[-1:], b)])
        if columns % 2:
            return np.concatenate([self._miller(a, b[:-1]), self._direct(a, b[-1:])], axis=1)
        if terms % 2:
            return self.mul(self._miller(a[:, :-1], b[:, :-1]), self._direct(a[:, -1:], b[:, -1:]))
        return self._strassen(a, b)

    def _strassen(self, a: Raw, b: Raw) -> Raw:
        first, second = _side(self.native, False), _side(self.native, True)
        r, c, t = len(a) // 2, len(b) // 2, a.shape[1] // 2
        a11, a12, a21, a22 = a[:r, :t], a[:r, t:], a[r:, :t], a[r:, t:]
        b11, b21, b12, b22 = b[:c, :t], b[:c, t:], b[c:, :t], b[c:, t:]  # b holds columns as rows
        s1 = first.sums(a21, a22)
        s2 = first.sums(s1, a11, difference=True)
        s3 = first.sums(a11, a21, difference=True)
        s4 = first.sums(a12, s2, difference=True)
        t1 = second.sums(b12, b11, difference=True)
        t2 = second.sums(b22, t1, difference=True)
        t3 = second.sums(b22, b12, difference=True)
        t4 = second.sums(t2, b21, difference=True)
        p1 = self._miller(a11, b11)
        u2 = self.mul(p1, self._miller(s2, t2))
        u3 = self.mul(u2, self._miller(s3, t3))
        p5 = self._miller(s1, t1)
        c11 = self.mul(p1, self._miller(a12, b21))
        c12 = self.mul(self.mul(u2, p5), self._miller(s4, b22))
        c21 = self.mul(u3, self.invert(self._miller(a22, t4)))
        return np.concatenate(
            [np.concatenate([c11, c12], axis=1), np.concatenate([c21, self.mul(u3, p5)], axis=1)]
        )

    def _direct(self, a: Raw, b: Raw) -> Raw:
        a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
        out = np.empty((len(a), len(b), mcl.TARGET_WORDS), dtype=np.uint64)
        terms, to, miller = a.shape[1], out.ctypes.data, self.native.miller
        left, right = a.ctypes.data, b.ctypes.data
        for k in range(len(a)):
            for j in range(len(b)):
                miller(to, left + 96 * terms * k, right + 192 * terms * j, terms)
                to += 8 * mcl.TARGET_WORDS
        return out


@dataclass(frozen=True)
class MclPairing(Pairing):
    """The pairing of BN254."""

    @contextmanager
    def target(self) -> Iterator[Target]:
        with mcl.active(_CURVE) as native:
            unit = np.zeros(mcl.TARGET_WORDS, dtype=np.uint64)
            native.fp(unit.ctypes.data, _little_one().ctypes.data, _COORDINATE)
            yield MclTarget(native, unit)

    def _exp(self, scalars: Sequence[int], second: bool) -> Wire:
        table, reduced = _fixed_base(second), [s % self.order for s in scalars]
        with mcl.active(_CURVE) as native:
            side = _side(native, second)
            point = np.zeros(side.words, dtype=np.uint64)
            out = np.empty(len(scalars) * side.nbytes + 1, dtype=np.uint8)  # mcl ends a text with a zero byte
            to, here, add, text = out.ctypes.data, point.ctypes.data, side.add, side.format
            for start in range(0, len(reduced), _BATCH):
                entries = _windows(reduced[start : start + _BATCH], len(table) >> _WINDOW)
                for row in (entries * (8 * side.words) + table.ctypes.data).tolist():
                    add(here, row[0], row[1])
                    for place in row[2:]:
                        add(here, here, place)
                    text(to, side.nbytes + 1, here, mcl.AFFINE)
                    to += side.nbytes
        return out[:-1].reshape(len(scalars), side.nbytes)

    def _decode(self, wire: Wire, second: bool) -> Raw:
        return self._decode_g2(wire) if second else self._decode_g1(wire)

    def _decode_g1(self, wire: Wire) -> Raw:
        # mcl's own parser multiplies by the order, 60 us, which every point of the curve has; this takes 4 us
        out = np.zeros((len(wire), mcl.POINT_WORDS), dtype=np.uint64)
        with mcl.active(_CURVE) as native:
            one = _little_one()
            fp, to, source, z = native.fp, out.ctypes.data, wire.ctypes.data, one.ctypes.data
            for i, (x, y) in enumerate(_coordinates(wire, 2)):
                if x == y == 0:
                    continue
                if max(x, y) >= _CURVE.field or (y * y - x * x * x - _CURVE.b) % _CURVE.field:
                    raise MalformedError(f"element {i} of {len(wire)}: {self._fault((x, y), 1)}")
                for k, place in enumerate((source + 64 * i, source + 64 * i + 32, z)):
                    fp(to + 96 * i + 32 * k, place, _COORDINATE)
        return out

    def _decode_g2(self, wire: Wire) -> Raw:
        out = np.empty((len(wire), mcl.G2_WORDS), dtype=np.uint64)
        with mcl.active(_CURVE) as native:
            to, source = out.ctypes.data, wire.ctypes.data
            for i in range(len(wire)):
                if native.g2_parse(to + 192 * i, source + 128 * i, 128, mcl.AFFINE):
                    fault = self._fault(_coordinates(wire[i], 4)[0], 2)
                    raise MalformedError(f"element {i} of {len(wire)}: {fault}")
            pieces = workers.ranges(len(wire), 64 * workers.available() if len(wire) > 64 else 1)
            for place in workers.spread(partial(_first_outside, native, to), pieces, workers.available()):
                if place is not None:
                    fault = f"on the curve, but not in the subgroup G2 of {self.name}"
                    raise MalformedError(f"element {place} of {len(wire)}: {fault}")
        return out

    def _fault(self, coordinates: tuple[int, ...], number: int) -> str:
        if max(coordinates) >= _CURVE.field:
            return f"a coordinate is not below the field prime of {self.name}"
        return f"not a point of G{number} of {self.name}"


def bn254() -> MclPairing:
    """BN254; 100 bits by Kim and Barbulescu, CRYPTO 2016 (eprint 2015/1027): the number field sieve in GT."""
    return MclPairing(_CURVE.name, _CURVE.order, 100, 2 * _COORDINATE, 4 * _COORDINATE)


def _first_outside(native: mcl.Mcl, base: int, piece: tuple[int, int]) -> int | None:
    return next((i for i in range(*piece) if not native.g2_in_subgroup(base + 192 * i)), None)


def _little_one() -> Wire:
    one = np.zeros(_COORDINATE, dtype=np.uint8)
    one[0] = 1
    return one


def _coordinates(wire: Wire, each: int) -> list[tuple[int, ...]]:
    data, size = wire.tobytes(), _COORDINATE
    numbers = [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]
    return [tuple(numbers[at : at + each]) for at in range(0, len(numbers), each)]


def _windows(scalars: Sequence[int], number: int) -> NDArray[np.int64]:
    """Where the digits of integers in [0, order) stand in a fixed base's table: (N, `number` of windows)."""
    data = np.frombuffer(b"".join(s.to_bytes(_COORDINATE, "little") for s in scalars), np.uint8)
    bits = np.unpackbits(data.reshape(-1, _COORDINATE), axis=1, bitorder="little")
    padded = np.zeros((len(scalars), number * _WINDOW), dtype=np.int64)
    padded[:, : bits.shape[1]] = bits[:, : padded.shape[1]]
    digits: NDArray[np.int64] = padded.reshape(len(scalars), number, _WINDOW) @ (1 << np.arange(_WINDOW))
    digits += np.arange(number) << _WINDOW
    return digits


@lru_cache(maxsize=2)
def _fixed_base(second: bool) -> Raw:
    """d 2^(w i) g for all windows i and digits d, (windows 2^w, words), normalised, read-only."""
    windows = -(-_CURVE.order.bit_length() // _WINDOW)
    with mcl.active(_CURVE) as native:
        side, base = _side(native, second), _base(native, second)
        table = np.zeros((windows, 1 << _WINDOW, side.words), dtype=np.uint64)
        for window in table:
            window[1] = base
            filled = 2
            while filled < len(window):  # d + filled - 1 = (filled - 1) + d
                top = np.broadcast_to(window[filled - 1], (filled - 1, side.words))
                more = side.sums(window[1:filled], top)[: len(window) - filled]
                window[filled : filled + len(more)] = more
                filled += len(more)
            window[:] = side.normalised(window)
            base = side.sums(window[-1:], window[1:2])[0]
    flat = table.reshape(-1, side.words)
    flat.flags.writeable = False
    return flat


def _base(native: mcl.Mcl, second: bool) -> Raw:
    coordinates = _G2_BASE if second else _CURVE.generator
    wire = np.frombuffer(b"".join(v.to_bytes(_COORDINATE, "little") for v in coordinates), np.uint8)
    base = np.empty(mcl.G2_WORDS if second else mcl.POINT_WORDS, dtype=np.uint64)
    parse = native.g2_parse if second else native.parse
    if parse(base.ctypes.data, wire.ctypes.data, len(wire), mcl.AFFINE):
        raise MalformedError("mcl refuses the generators of bn254")
    return base
