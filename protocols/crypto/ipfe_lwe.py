"""Inner-product functional encryption from LWE over Z_{2^64}.

Abdalla, Bourse, De Caro, Pointcheval, *Simple Functional Encryption Schemes for Inner Products*, PKC 2015, eprint 2015/017,
section on LWE. Symbols: A (d, d) uniform, S (n, d) and E (d, n) small, B = A S^T + E.

    Setup      mpk = (seed of A, B), msk = S
    Encrypt    C0 = R A + E0, C1 = R B + E1 + Delta X          R, E0, E1 small, fresh for each call
    KeyDer     SK = Y S
    Decrypt    C1 Y^T - C0 SK^T = Delta X Y^T + (R E + E1 - E0 S^T) Y^T, rounded to multiples of Delta

Security: selective IND-CPA under LWE with d = 2048, q = 2^64, secrets of variance 1, errors of sigma = 3.2 * 2^10, so that
log2(q / sigma) = 52.3, what the HomomorphicEncryption.org standard (2018) allows for 128 bit at that dimension. Nobody who holds
n independent keys may be trusted less than the authority: they determine S.

Deviations from the paper, and their consequence:
* the compact public key of Lindner and Peikert, CT-RSA 2011 (A square, encryption adds errors of its own), where the paper's proof is
  for the long Regev-style key. This is the usual heuristic; no attack in this project depends on it;
* S and R are centred binomial (variance 1, entries -2 to 2) instead of Gaussian, E, E0, E1 are rounded Gaussians;
* a worst-case bound on the noise does not fit into 64 bits, so correctness is probabilistic. It is checked for each key: `key_derive`
  refuses a key unless Delta exceeds 18 standard deviations of its noise (given S and E). R, E0 and E1 are sub-Gaussian with their
  variance as parameter (E0 and E1 but for their rounding, a part in 10^8), so a product is wrong with probability at most
  2 exp(-9^2 / 2) < 2^-57 over the coins of encryption.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.coins import Coins, Stream, derive
from protocols.crypto.integers.modular import (
    Limbs,
    Words,
    limb_width,
    limbs,
    small_times_small,
    small_times_wide,
    wide_times_small,
)
from protocols.crypto.records import Bounds, Ints, check_range
from protocols.language.errors import BoundError, MalformedError
from protocols.language.integers import signed_type
from protocols.language.message import wire

NAME = "lwe"
SECURITY = (
    "selective IND-CPA under LWE (d 2048, q 2^64), 128 bit; keys are for the holder of fewer than n of them"
)

DIMENSION = 2048
SIGMA = 3.2 * 2**10  # of E, E0 and E1; the secrets S and R have variance 1
_LARGEST_SECRET = 2
_MARGIN = 18  # standard deviations of the noise that fit into Delta
_TAIL = 10  # expected standard deviations beyond which decryption takes the noise for that of a wrong key
_FAILURE_BITS = math.floor((_MARGIN**2 / 8 - math.log(2)) / math.log(2))  # of 2 exp(-(_MARGIN / 2)^2 / 2)
_ROWS = 1024  # rows encrypted at a time
_REMEDY = "lower --weight-scale, --weight-bound or --lr"


@wire
@dataclass(frozen=True)
class LweParams:
    """Bounds on what is carried, and the dimension d; fewer than 2048 is a toy for tests."""

    bounds: Bounds
    dimension: int = DIMENSION

    def __post_init__(self) -> None:
        sizes = (
            (self.bounds.length, self.bounds.x, self.bounds.y) if isinstance(self.bounds, Bounds) else (0,)
        )
        if not all(type(size) is int and size > 0 for size in (*sizes, self.dimension)):
            raise MalformedError("the bounds and the dimension of lwe parameters are positive integers")

    @property
    def delta(self) -> int:
        """The factor of the message: the largest with Delta (4M + 2) < 2^64.

        Twice the room that |<x, y>| <= M needs: a product of up to 3M, as of a sum of ciphertexts, is seen and not wrapped.
        """
        return ((1 << 64) - 1) // (4 * self.bounds.inner + 2)

    @property
    def unit_noise(self) -> float:
        """Expected standard deviation of the noise for a key of norm 1."""
        return SIGMA * math.sqrt(2 * self.dimension + 1)


@wire
@dataclass(frozen=True)
class LwePublicKey:
    """`seed`: 32 public bytes from which A is expanded; `b` (d, n) words."""

    params: LweParams
    seed: bytes
    b: Words

    def __post_init__(self) -> None:
        d, n = self.params.dimension, self.params.bounds.length
        _check(self.b, (d, n), np.uint64, "B of a public key")
        if not isinstance(self.seed, bytes) or len(self.seed) != 32:
            raise MalformedError("the seed of a public key has 32 bytes")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.b.shape

    @cached_property
    def limbs(self) -> Limbs:
        """(A | B) cut for products with R, whose rows have an absolute sum of at most 2 d."""
        both = np.hstack([expand(self.seed, self.params.dimension), self.b])
        return limbs(both, limb_width(_LARGEST_SECRET * self.params.dimension))


@wire
@dataclass(frozen=True)
class LweMasterKey:
    """`s` (n, d): a small secret for each coordinate; `gram` (n, n) = E^T E, from which the noise of a key is computed."""

    params: LweParams
    s: NDArray[np.int8] = field(repr=False)
    gram: NDArray[np.float64] = field(repr=False)

    def __post_init__(self) -> None:
        n = self.params.bounds.length
        _check(self.s, (n, self.params.dimension), np.int8, "a master key")
        _check(self.gram, (n, n), np.float64, "the noise matrix of a master key")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.s.shape


@wire
@dataclass(frozen=True)
class LweCiphertext:
    """`c0` (N, d) and `c1` (N, n) words."""

    c0: Words
    c1: Words

    def __post_init__(self) -> None:
        for words in (self.c0, self.c1):
            if not isinstance(words, np.ndarray) or words.dtype != np.uint64 or words.ndim != 2:
                raise MalformedError("an lwe ciphertext is made of two matrices of 64-bit words")
        if len(self.c0) != len(self.c1):
            raise MalformedError(f"an lwe ciphertext has {len(self.c0)} rows in c0 and {len(self.c1)} in c1")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.c1.shape

    def __len__(self) -> int:
        return len(self.c1)


@wire
@dataclass(frozen=True)
class LweFunctionKey:
    """Keys for the rows of `y` (h, n), which are public: `sk` (h, d) = Y S."""

    y: Ints
    sk: NDArray[np.int32]

    def __post_init__(self) -> None:
        for values in (self.y, self.sk):
            if not isinstance(values, np.ndarray) or values.dtype.kind != "i" or values.ndim != 2:
                raise MalformedError("an lwe function key is made of two matrices of signed integers")
        if len(self.y) != len(self.sk):
            raise MalformedError(f"an lwe function key has {len(self.y)} vectors and {len(self.sk)} keys")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.y.shape


def parameters(bounds: Bounds, dimension: int = DIMENSION) -> LweParams:
    """Parameters for these bounds; `BoundError` if not even a key of norm 1 would decrypt."""
    params = LweParams(bounds, dimension)
    if params.delta <= _MARGIN * params.unit_noise or bounds.length * bounds.y * _LARGEST_SECRET >= 1 << 31:
        raise BoundError(
            f"inner products up to {bounds.inner} leave no room for the noise in 64 bits; {_REMEDY}"
        )
    return params


def describe(params: LweParams) -> str:
    """Parameters and security level in one line."""
    level = "128 bit" if params.dimension >= DIMENSION else "toy"
    return (f"lwe, {level}: d {params.dimension}, q 2^64, log2(q/sigma) {64 - math.log2(SIGMA):.1f}, compact key (heuristic); "
            f"|<x, y>| <= {params.bounds.inner}, Delta 2^{math.log2(params.delta):.1f}, "
            f"error < 2^-{_FAILURE_BITS} a product")  # fmt: skip


def setup(params: LweParams, coins: Coins) -> tuple[LwePublicKey, LweMasterKey]:
    """Draw a master key and its public key."""
    d, n = params.dimension, params.bounds.length
    seed = coins.stream("lwe public seed").bytes(32)
    s = coins.stream("lwe S").centred_binomial(n, d)
    e = coins.stream("lwe E").rounded_gaussian(SIGMA, d, n)
    b = wide_times_small(expand(seed, d), s.T) + e.view(np.uint64)
    noise = e.astype(np.float64)
    return LwePublicKey(params, seed, b), LweMasterKey(params, s, noise.T @ noise)


def encrypt(mpk: LwePublicKey, x: Ints, coins: Coins) -> LweCiphertext:
    """Encrypt the rows of x (N, n); `BoundError` beyond the bound on x."""
    d, n, bounds = mpk.params.dimension, mpk.params.bounds.length, mpk.params.bounds
    _check_rows(x, n, "x")
    check_range(x, bounds.x, "x", "give the data's own maximum as bound")
    secrets, errors = coins.stream("lwe R"), coins.stream("lwe E0 E1")
    both = np.empty((len(x), d + n), dtype=np.uint64)
    for start in range(0, len(x), _ROWS):
        rows = min(_ROWS, len(x) - start)
        both[start : start + rows] = small_times_wide(secrets.centred_binomial(rows, d), mpk.limbs)
        both[start : start + rows] += errors.rounded_gaussian(SIGMA, rows, d + n).view(np.uint64)
    both[:, d:] += x.astype(np.int64).view(np.uint64) * np.uint64(mpk.params.delta)
    return LweCiphertext(both[:, :d], both[:, d:])


def load(mpk: LwePublicKey, ct: LweCiphertext) -> LweCiphertext:
    """Check that a ciphertext that arrived has the dimensions of the key; every word is a valid one."""
    if not isinstance(ct, LweCiphertext):
        raise MalformedError(f"expected an lwe ciphertext, got {type(ct).__name__}")
    _check(ct.c0, (len(ct), mpk.params.dimension), np.uint64, "c0 of a ciphertext")
    _check(ct.c1, (len(ct), mpk.params.bounds.length), np.uint64, "c1 of a ciphertext")
    return ct


def concat(parts: Sequence[LweCiphertext]) -> LweCiphertext:
    """Ciphertexts under one public key, one after the other."""
    return LweCiphertext(np.concatenate([p.c0 for p in parts]), np.concatenate([p.c1 for p in parts]))


def rows(ct: LweCiphertext, start: int, stop: int) -> LweCiphertext:
    """The ciphertexts start, ..., stop - 1."""
    return LweCiphertext(ct.c0[start:stop], ct.c1[start:stop])


def key_derive(msk: LweMasterKey, y: Ints) -> LweFunctionKey:
    """Keys for the rows of y (h, n); `BoundError` beyond the bound on y, or if a key's noise would not fit."""
    bounds = msk.params.bounds
    _check_rows(y, bounds.length, "y")
    check_range(y, bounds.y, "y", _REMEDY)
    sk = small_times_small(y, msk.s)
    vectors = y.astype(np.float64)
    ey2 = np.einsum("ij,ij->i", vectors @ msk.gram, vectors)  # |E y|^2
    sy2 = np.einsum("ij,ij->i", sk.astype(np.float64), sk.astype(np.float64))  # |S y|^2
    noise = np.sqrt(ey2 + SIGMA**2 * (sy2 + (vectors**2).sum(axis=1)))
    if len(noise) and msk.params.delta <= _MARGIN * noise.max():
        raise BoundError(
            f"the noise of the key for row {int(noise.argmax())} would not fit below Delta; {_REMEDY}"
        )
    return LweFunctionKey(y.astype(signed_type(bounds.y)), sk.astype(np.int32))


def decrypt(mpk: LwePublicKey, sk: LweFunctionKey, ct: LweCiphertext) -> NDArray[np.int64]:
    """Inner products (N, h), exact.

    `BoundError` if one exceeds the bound, or if the noise exceeds 10 s, where s = unit_noise |y| is what the public parameters say of it:
    with a key or ciphertext of another instance the result is uniform, and a batch passes with probability
    (min(1, 20 s / Delta) / 2)^(N h): half the range lies beyond the bound. Within a factor 1.1 of the limit of `key_derive` the noise
    tells nothing, and the half alone remains.

    What is right is not refused: if y does not depend on S and E (rows of W1 and dZ1 follow from exact products alone), then
    |E y|^2 + sigma^2 |y S|^2 is a sum of 2 d squares within 1.235 of its mean but for 1e-20 at d = 2048, so that 10 s are more than 9
    standard deviations of the noise, and a right product is refused with probability below 2^-57. For a y chosen with S and E
    known, 10 s can be as few as 10 / (1 + sqrt(n / 2 d)) deviations, 7 at n = 784: one in 2e10 is refused, and none is wrong. The sums
    of a toy spread more.
    """
    load(mpk, ct)
    _check(sk.y, (len(sk.y), mpk.params.bounds.length), sk.y.dtype, "the vectors of a function key")
    _check(sk.sk, (len(sk.y), mpk.params.dimension), np.int32, "a function key")
    check_range(sk.y, mpk.params.bounds.y, "y of a function key", "the key was made for other parameters")
    noisy = wide_times_small(ct.c1, sk.y.T) - wide_times_small(ct.c0, sk.sk.T)
    norms = np.sqrt((sk.y.astype(np.float64) ** 2).sum(axis=1))
    return _round(noisy, mpk.params, mpk.params.bounds.inner, norms)


def check_master_key(mpk: LwePublicKey, s: NDArray[Any]) -> bool:
    """Whether s (n, d) explains the public key: B - A S^T is small in every entry, which it is for no other small s."""
    if (
        s.shape != (mpk.params.bounds.length, mpk.params.dimension)
        or np.abs(s).max(initial=0) > _LARGEST_SECRET
    ):
        return False
    rest = (mpk.b - wide_times_small(expand(mpk.seed, mpk.params.dimension), s.T)).view(np.int64)
    return bool(np.abs(rest).max() < _TAIL * SIGMA)


def open_with_master_key(mpk: LwePublicKey, s: NDArray[Any], ct: LweCiphertext) -> NDArray[np.int64]:
    """The encrypted vectors (N, n) themselves: keys for all unit vectors are the rows of s."""
    load(mpk, ct)
    noisy = ct.c1 - wide_times_small(ct.c0, s.T)
    return _round(noisy, mpk.params, mpk.params.bounds.x, np.ones(mpk.params.bounds.length))


@lru_cache(maxsize=4)
def expand(seed: bytes, d: int) -> Words:
    """A (d, d) from its public seed; a stream of its own, keyed by nothing secret."""
    a = Stream(derive(seed, "lwe A")).words(d, d)
    a.flags.writeable = False
    return a


def _round(noisy: Words, params: LweParams, bound: int, norms: NDArray[np.float64]) -> NDArray[np.int64]:
    """The nearest multiples of Delta, after checking bound and noise; `norms` (h,) are those of the keys."""
    delta = np.int64(params.delta)
    z, rest = np.divmod(noisy.view(np.int64), delta)
    above = rest > delta // 2
    z += above
    rest -= above * delta
    if np.abs(z).max(initial=0) > bound:
        raise BoundError(f"an inner product exceeds the bound {bound}, or the key is of another instance")
    if (np.abs(rest) > _TAIL * params.unit_noise * norms).any():
        raise BoundError(
            "the noise of an inner product is too large: the key or the ciphertext is of another instance"
        )
    return z


def _check_rows(values: Ints, length: int, what: str) -> None:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iu" or values.ndim != 2:
        raise MalformedError(f"{what}: expected a matrix of integers")
    if values.shape[1] != length:
        raise MalformedError(f"{what}: expected vectors of length {length}, got {values.shape[1]}")


def _check(values: Any, shape: tuple[int, ...], dtype: Any, what: str) -> None:
    if not isinstance(values, np.ndarray) or values.dtype != dtype or values.shape != shape:
        raise MalformedError(f"{what}: expected {np.dtype(dtype).name} of shape {shape}")
