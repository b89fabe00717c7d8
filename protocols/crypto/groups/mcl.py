"""The native library mcl (herumi, bundled by the package mclbn256) and the curves of prime order used here.

mcl keeps *the* curve as state of the whole process. A second copy of the library does not help: its state
consists of C++ inline variables that the dynamic linker unifies (STB_GNU_UNIQUE; tried: initialising a copy
changes the original). So whoever computes takes `active(curve)` for the time of a batch: one lock, a check of
what the library really has (3 us), and a change of curve if it must (0.3 ms to BN254, 4 ms to secp256k1; no
memory is lost). Other users of the library in the same process must do the same.

Points are 12 little-endian 64-bit words (x, y, z; z = 1, or all zero for the neutral element), scalars 4
words in mcl's own form. On BN254 there are also G2 (24 words) and the target group (48 words: two halves a +
b w over F_p^6; the inverse is a - b w). Words are reduced Montgomery forms, so equal elements are equal
words. Functions of `Mcl` take plain addresses.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import MalformedError, SchemeError

POINT_WORDS = 12
G2_WORDS = 24
TARGET_WORDS = 48
SCALAR_WORDS = 4
COORDINATE_BYTES = 32
AFFINE = 4096  # mcl's IoEcAffineSerialize: x | y little-endian, all zero for the neutral element
_COMPILED = 44  # MCLBN_COMPILED_TIME_VAR of this build: 4 words a field element, 4 a scalar


@dataclass(frozen=True)
class Curve:
    """A curve y^2 = x^3 + b over F_field with a prime number of points, `number` in mcl's list."""

    name: str
    number: int
    field: int
    order: int
    b: int
    generator: tuple[int, int]


SECP256K1 = Curve(
    name="secp256k1",  # SEC 2, version 2.0, section 2.4.1
    number=102,
    field=2**256 - 2**32 - 977,
    order=0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    b=7,
    generator=(
        0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
        0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
    ),
)
_BN254_FIELD = 0x2523648240000001BA344D80000000086121000000000013A700000000000013
BN254 = Curve(
    name="bn254",  # J.-L. Beuchat et al., Pairing 2010 (eprint 2010/354); not the SNARK curve of this name
    number=0,
    field=_BN254_FIELD,
    order=0x2523648240000001BA344D8000000007FF9F800000000010A10000000000000D,
    b=2,
    generator=(_BN254_FIELD - 1, 1),
)


@dataclass(frozen=True)
class Mcl:
    """The functions used here: of G1 without a prefix, of Fp, G2, the pairing and its target group with one.

    `mul`, `mul_vec`, `g2_mul`, `g2_in_subgroup`, `miller` (a product of Miller loops), `final_exp` and
    `target_pow` (for elements of the target group only) release the GIL; the others take under 5 us and keep
    it. `target_inv` conjugates.
    """

    mul: Callable[[int, int, int], None]
    mul_vec: Callable[[int, int, int, int], None]
    add: Callable[[int, int, int], None]
    sub: Callable[[int, int, int], None]
    neg: Callable[[int, int], None]
    normalize: Callable[[int, int], None]
    scalar: Callable[[int, int, int], int]
    parse: Callable[[int, int, int, int], int]
    format: Callable[[int, int, int, int], int]
    fp: Callable[[int, int, int], int]
    g2_mul: Callable[[int, int, int], None]
    g2_neg: Callable[[int, int], None]
    g2_add: Callable[[int, int, int], None]
    g2_sub: Callable[[int, int, int], None]
    g2_normalize: Callable[[int, int], None]
    g2_parse: Callable[[int, int, int, int], int]
    g2_format: Callable[[int, int, int, int], int]
    g2_in_subgroup: Callable[[int], int]
    miller: Callable[[int, int, int, int], None]
    final_exp: Callable[[int, int], None]
    target_pow: Callable[[int, int, int], None]
    target_mul: Callable[[int, int, int], None]
    target_inv: Callable[[int, int], None]
    init: Callable[[int, int], int]
    order: Callable[[ctypes.Array[ctypes.c_char], int], int]


@lru_cache(maxsize=1)
def _library() -> Mcl:
    from mclbn256 import mclbn256

    handle = mclbn256.loaded_libraries["libmclbn256"]._handle
    free = ctypes.CDLL(None, handle=handle)  # views of our own: others' argtypes stay as they are
    held = ctypes.PyDLL(None, handle=handle)
    at, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int

    def bind(library: ctypes.CDLL, name: str, result: type | None, *arguments: type) -> Callable[..., Any]:
        function = library[name]
        function.argtypes, function.restype = arguments, result
        return cast(Callable[..., Any], function)

    return Mcl(
        mul=bind(free, "mclBnG1_mul", None, at, at, at),
        mul_vec=bind(free, "mclBnG1_mulVec", None, at, at, at, size),
        add=bind(held, "mclBnG1_add", None, at, at, at),
        sub=bind(held, "mclBnG1_sub", None, at, at, at),
        neg=bind(held, "mclBnG1_neg", None, at, at),
        normalize=bind(held, "mclBnG1_normalize", None, at, at),
        scalar=bind(held, "mclBnFr_setLittleEndianMod", number, at, at, size),
        parse=bind(held, "mclBnG1_setStr", number, at, at, size, number),
        format=bind(held, "mclBnG1_getStr", size, at, size, at, number),
        fp=bind(held, "mclBnFp_setLittleEndianMod", number, at, at, size),
        g2_mul=bind(free, "mclBnG2_mul", None, at, at, at),
        g2_neg=bind(held, "mclBnG2_neg", None, at, at),
        g2_add=bind(held, "mclBnG2_add", None, at, at, at),
        g2_sub=bind(held, "mclBnG2_sub", None, at, at, at),
        g2_normalize=bind(held, "mclBnG2_normalize", None, at, at),
        g2_parse=bind(held, "mclBnG2_setStr", number, at, at, size, number),
        g2_format=bind(held, "mclBnG2_getStr", size, at, size, at, number),
        g2_in_subgroup=bind(free, "mclBnG2_isValidOrder", number, at),
        miller=bind(free, "mclBn_millerLoopVec", None, at, at, at, size),
        final_exp=bind(free, "mclBn_finalExp", None, at, at),
        target_pow=bind(free, "mclBnGT_pow", None, at, at, at),
        target_mul=bind(held, "mclBnGT_mul", None, at, at, at),
        target_inv=bind(held, "mclBnGT_inv", None, at, at),
        init=bind(held, "mclBn_init", number, number, number),
        order=bind(held, "mclBn_getCurveOrder", size, ctypes.c_char_p, size),
    )


@lru_cache(maxsize=1)
def _lock() -> threading.RLock:
    return threading.RLock()


@contextmanager
def active(curve: Curve) -> Iterator[Mcl]:
    """Hold the library with `curve` switched on, for one batch.

    Threads that the holder starts may use the functions too; they must not call `active`. Raises
    `SchemeError` if the library does not take the curve.
    """
    with _lock():
        library = _library()
        if _order(library) != curve.order and (
            library.init(curve.number, _COMPILED) or _order(library) != curve.order
        ):
            raise SchemeError(
                f"mcl does not offer the curve {curve.name}; install mclbn256 1.3.5 for this platform"
            )
        yield library


def points(raw: NDArray[Any], words: int = POINT_WORDS) -> NDArray[Any]:
    """A contiguous array that mcl may be handed: a wrong type or width would read foreign memory."""
    if raw.dtype != np.uint64 or raw.shape[-1:] != (words,):
        raise MalformedError(f"expected points of {words} uint64, got {raw.dtype} {raw.shape}")
    return np.ascontiguousarray(raw)


def scalars(native: Mcl, values: Sequence[int]) -> NDArray[np.uint64]:
    """Integers in [0, order) in mcl's form, (len, 4)."""
    size = 8 * SCALAR_WORDS
    source = np.frombuffer(b"".join(v.to_bytes(size, "little") for v in values), np.uint8)
    out = np.empty((len(values), SCALAR_WORDS), dtype=np.uint64)
    to, start = out.ctypes.data, source.ctypes.data
    for at in range(0, out.nbytes, size):
        native.scalar(to + at, start + at, size)
    return out


def _order(library: Mcl) -> int:
    # not by mclBn_getCurveType, which keeps the old number when a curve without pairing is switched on
    text = ctypes.create_string_buffer(128)
    length = library.order(text, 128)
    return int(text.raw[:length] or b"0")
