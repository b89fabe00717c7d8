"""Approximate arithmetic on encrypted vectors of reals: CKKS, levelled, refreshed by whoever holds the key.

J. H. Cheon, A. Kim, M. Kim, Y. Song, *Homomorphic Encryption for Arithmetic of Approximate Numbers*,
ASIACRYPT 2017 (eprint 2016/421), in residue number systems (eprint 2018/931). In R = Z[X] / (X^d + 1) with q
a product of primes, one more of them a level:

    Setup      s of entries -1, 0, 1 uniform, the secret key; key-switching keys of s^2 and of rotated s
    Encode     m in R, whole: with values v at the d / 2 roots zeta^(3^i), i = 0, 1, ..., times a scale Delta
    Encrypt    a uniform, e of deviation 3.2                         ct = (-a s + e + m, a)
    Decrypt    ct_0 + ct_1 s = m + noise, decoded and divided by Delta
    +, *       slot by slot; * multiplies scales and divides by the last prime: it takes a level

The key-holder's half (keys, encryption, decryption) is here, in numpy, from this package's own coins. SEAL
would draw from the operating system, so that no run could be repeated; with a seed of ours it gives every
encryption, and every digit of a key-switching key, of a context the *same* a and e, which opens s^2. The
evaluator's half is Microsoft SEAL's, by `tenseal.sealapi` of TenSEAL: `Engine`. SEAL's arithmetic draws
nothing, so that equal coins give equal bytes. What is made here is in SEAL's own format; tests decrypt it by
SEAL's decryptor.

Scales: level l has one, S_top = 2^30 and S_(l-1) = S_l^2 / q_l, and whatever is at that level has it, so that
sums are of equal scales. `at` goes down by a product with 1.

Noise: SEAL's key switching takes digits from 0 to q - 1, whose mean is not 0. That noise is of low frequency:
the first slots have more of it, up to .001 (d = 8192) or .007 (d = 16384) a rotation, others about .0001.

Security: IND-CPA under ring-LWE with ternary secrets, log2(q P) within what the HomomorphicEncryption.org
standard (2018) allows for 128 bit; circular security is assumed, as key-switching keys hold s^2 under s. Not
IND-CPA^D: B. Li, D. Micciancio (EUROCRYPT 2021, eprint 2020/1533) find s from a ciphertext together with what
it decrypts to, as that tells the noise. So whoever decrypts must not show the other side what came out,
beyond a fresh encryption of it, or must drown the noise first.

Deviations. Rounded Gaussians instead of discrete ones; a is 64-bit words modulo 30-bit primes, off uniform by
2^-34. Ciphertexts are of the secret key, so that c_1 is a seed; there is no public key. Two primes stay at
level 0, where one of 40 bits would do: all residues fit 32 bits.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.coins import Coins, Stream
from protocols.crypto.integers import core_svp
from protocols.crypto.records import (
    Ints,
    Record,
    Symbols,
    array,
    arrived,
    kind_of,
    made_for,
    nbytes,
    number,
    record,
)
from protocols.language.confine import shared
from protocols.language.errors import BoundError, ConfigError, MalformedError

Words = NDArray[np.uint64]
Reals = NDArray[np.float64]

NAME = "ckks"
SECURITY = (
    "IND-CPA under ring-LWE, 128 bit, with circular security; not IND-CPA^D: what decrypts must not be shown "
    "to whoever has the ciphertexts"
)
INSTALL = "pip install 'keyhole[he]'"

SCALE = 2.0**30
_BITS = 30  # of primes, of the special one for key switching too
_SHIFT = np.uint64(32)
_BOTTOM = 2  # primes of level 0
_SIGMA, _TERNARY = 3.2, math.sqrt(2 / 3)  # deviations of e, and of entries of s
_TAG, _SEED = 16, 32  # bytes
_LARGEST = 2.0 ** (_BITS * _BOTTOM - 31)  # what a slot may hold at level 0
# log2(q P) at most, for 128 bit with ternary secrets: HomomorphicEncryption.org, table 1
_STANDARD = ((8192, 218), (16384, 438), (32768, 881))


@record
class CkksParams(Record):
    """The dimension d, and L primes of fresh ciphertexts."""

    dimension: int = number("d", bits=16)
    moduli: int = number("L", bits=5)

    def further(self) -> Symbols:
        """Refuse what has no ring or no level."""
        d = self.dimension
        if d < 8 or d & (d - 1) or self.moduli < _BOTTOM:
            raise MalformedError(f"CkksParams: no ring of dimension {d} with {self.moduli} primes")
        return {"both": 2, "L1": self.moduli + 1}

    @property
    def primes(self) -> tuple[int, ...]:
        """Those of ciphertexts, and the special one."""
        return _primes(self.dimension, self.moduli)

    @property
    def slots(self) -> int:
        """Reals of a ciphertext."""
        return self.dimension // 2

    @property
    def top(self) -> int:
        """Level of a fresh ciphertext: how many products follow each other before a refresh."""
        return self.moduli - _BOTTOM

    @property
    def bits(self) -> int:
        """log2(q P), rounded up."""
        return math.ceil(sum(map(math.log2, self.primes)))

    @property
    def secure(self) -> bool:
        """Whether the standard's table allows it for 128 bit."""
        return any(self.dimension >= d and self.bits <= most for d, most in _STANDARD)

    def scale(self, level: int) -> float:
        """S of a level."""
        found = SCALE
        for at in range(self.top, level, -1):
            found = found * found / self.primes[at + _BOTTOM - 1]
        return found


@record
class CkksSecretKey(Record):
    """s, its coefficients. Secret."""

    SHAPE = ("d",)
    params: CkksParams
    tag: bytes = nbytes(_TAG, tag=True)
    s: NDArray[np.int8] = array("int8", "d", secret=True)


@record
class CkksKeys(Record):
    """Key-switching keys: of s^2, and of s rotated by each of `steps` slots; digit by digit, as transforms.

    Their second halves are expanded from the seed.
    """

    SHAPE = ("K", "d")
    params: CkksParams
    steps: Ints = array("int", "K")
    tag: bytes = nbytes(_TAG, tag=True)
    seed: bytes = nbytes(_SEED)
    c0: NDArray[np.uint32] = array("uint32", "K+1", "L", "L1", "d")

    def further(self) -> Symbols:
        """Refuse what is no residue, and rotations that are none."""
        _check_residues(self.c0, self.params.primes, "CkksKeys")
        steps = self.steps.tolist()
        if sorted(set(steps)) != steps or (steps and not 0 < steps[0] <= steps[-1] < self.params.slots):
            raise MalformedError(f"CkksKeys: expected rotations in order, below {self.params.slots}")
        return {}


@record
class CkksFresh(Record):
    """Vectors, freshly encrypted with l primes, as transforms; second halves are expanded from the seed."""

    SHAPE = ("N", "d")
    params: CkksParams
    tag: bytes = nbytes(_TAG, tag=True)
    seed: bytes = nbytes(_SEED)
    c0: NDArray[np.uint32] = array("uint32", "N", "l", "d")

    def further(self) -> Symbols:
        """Refuse what is no residue."""
        _check_residues(self.c0, _level_primes(self.params, self.c0.shape[1]), "CkksFresh")
        return {}


@record
class CkksCiphertext(Record):
    """Vectors that were computed with, at level 0, as transforms: both halves."""

    SHAPE = ("N", "d")
    params: CkksParams
    tag: bytes = nbytes(_TAG, tag=True)
    halves: NDArray[np.uint32] = array("uint32", "N", "both", "l", "d")

    def further(self) -> Symbols:
        """Refuse what is no residue, or of another level."""
        if self.halves.shape[2] != _BOTTOM:
            raise MalformedError(f"CkksCiphertext: expected {_BOTTOM} primes, got {self.halves.shape[2]}")
        _check_residues(self.halves, self.params.primes[:_BOTTOM], "CkksCiphertext")
        return {}


def parameters(levels: int) -> CkksParams:
    """The smallest ring of the standard's table with so many levels; `BoundError` if none has."""
    for dimension, _ in _STANDARD:
        params = CkksParams(dimension, levels + _BOTTOM)
        if params.secure:
            return params
    raise BoundError(f"no ring carries {levels} levels with 128 bit")


def describe(params: CkksParams) -> str:
    """One line for reports: ring, level, notion, and what SEAL does."""
    level = "128 bit by the HE standard's table" if params.secure else "a toy WITHOUT security"
    size = f"d = {params.dimension}, log2(q P) = {params.bits}, {params.top} levels"
    return f"ckks, {level}: {size}, computed with by SEAL, IND-CPA (not IND-CPA^D)"


def available() -> bool:
    """Whether there is an evaluator on this machine."""
    try:
        import tenseal.sealapi  # noqa: F401
    except ImportError:
        return False
    return hasattr(os, "memfd_create")


# --- who holds the key


def setup(params: CkksParams, coins: Coins, steps: Sequence[int]) -> tuple[CkksKeys, CkksSecretKey]:
    """Draw s, and keys for products and for rotations by `steps` slots."""
    stream, tag = coins.stream("ckks setup"), coins.stream("ckks tag").bytes(_TAG)
    d, primes = params.dimension, params.primes
    s = (np.array(stream.below(3, d)) - 1).astype(np.int8)
    rotated = [_rotated(s, pow(3, step, 2 * d)) for step in sorted(set(steps))]
    secret = _transformed(s.astype(np.int64), params)
    targets = [secret * secret % _column(primes), *(_transformed(each, params) for each in rotated)]
    seed = stream.bytes(_SEED)
    a = _uniform(seed, (len(targets), params.moduli), primes, d)
    c0 = np.empty(a.shape, np.uint32)
    special = np.uint64(primes[-1]) % _column(primes[:-1])
    digits = np.arange(params.moduli)
    for k, target in enumerate(targets):
        e = _transformed(stream.rounded_gaussian(_SIGMA, params.moduli, d), params)
        masked = e + _column(primes) - a[k] * secret % _column(primes)
        masked[digits, digits] += target[:-1] * special % _column(primes[:-1])  # P times the target, by digit
        c0[k] = masked % _column(primes)
    wide = np.array(sorted(set(steps)), np.int32)
    return CkksKeys(params, wide, tag, seed, c0), CkksSecretKey(params, tag, s)


def check(keys: CkksKeys, params: CkksParams, steps: Sequence[int]) -> CkksKeys:
    """Keys that arrived, if they have these parameters and rotations."""
    made_for(keys, CkksKeys, params)
    if keys.steps.tolist() != sorted(set(steps)):
        raise MalformedError(f"CkksKeys: expected rotations by {sorted(set(steps))}")
    return keys


def encrypt(sk: CkksSecretKey, values: Any, coins: Coins, level: int | None = None) -> CkksFresh:
    """Encrypt rows of reals (N, d / 2), at the top level or a lower one; `BoundError` beyond 2^29."""
    params = sk.params
    level = params.top if level is None else level
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] != params.slots:
        raise MalformedError(f"expected reals (any, {params.slots}), got {kind_of(values)}")
    if not np.abs(values).max(initial=0) < _LARGEST:
        raise BoundError(f"a real exceeds {_LARGEST:g}, which level 0 cannot hold: lower --lr")
    stream, primes = coins.stream("ckks encrypt"), params.primes[: level + _BOTTOM]
    seed = stream.bytes(_SEED)
    secret = _transformed(sk.s.astype(np.int64), params)[: len(primes)]
    a = _uniform(seed, (len(values),), primes, params.dimension)
    c0 = np.empty(a.shape, np.uint32)
    for row, whole in enumerate(encoded(values, params.scale(level))):
        e = stream.rounded_gaussian(_SIGMA, params.dimension)
        m = _transformed(whole + e, params)[: len(primes)]
        c0[row] = (m + _column(primes) - a[row] * secret % _column(primes)) % _column(primes)
    return CkksFresh(params, sk.tag, seed, c0)


def decrypt(sk: CkksSecretKey, ct: CkksCiphertext) -> tuple[Reals, float]:
    """Rows of reals (N, d / 2), and the noise: the largest imaginary part, each of which was zero.

    `BoundError` where a coefficient comes near the modulus, as with another key.
    """
    arrived(ct, CkksCiphertext, sk)
    params, primes = sk.params, sk.params.primes[:_BOTTOM]
    secret = _transformed(sk.s.astype(np.int64), params)[:_BOTTOM]
    rows, p, q = [], *(np.uint64(prime) for prime in primes)
    inverse = np.uint64(pow(primes[0], -1, primes[1]))
    for first, second in ct.halves.astype(np.uint64):
        low, high = _restored((first + second * secret) % _column(primes), params)
        whole = (low + p * ((high + q - low % q) * inverse % q)).astype(np.int64)
        rows.append(np.where(whole > int(p * q) // 2, whole - int(p * q), whole))
    found = decoded(np.array(rows).reshape(-1, params.dimension), params.scale(0))
    if not np.abs(found).max(initial=0) < _LARGEST:
        raise BoundError(
            "a ciphertext holds no real that was computed with: weights diverged, or another key"
        )
    return found.real.copy(), float(np.abs(found.imag).max(initial=0))


def check_factor(value: float) -> None:
    """Refuse, by `BoundError`, a public real that rounds to 0 at the scale, or that no slot can hold."""
    if not 1 / SCALE <= abs(value) < _LARGEST:
        raise BoundError(f"a factor of {value:g}; expected {1 / SCALE:.1g} to {_LARGEST:.1g}")


def encoded(values: Reals, scale: float) -> NDArray[np.int64]:
    """Whole coefficients (N, d) of reals (N, d / 2)."""
    d = 2 * values.shape[1]
    places, twist = _slot_places(d), np.exp(-1j * np.pi * np.arange(d) / d)
    spectrum = np.zeros((len(values), d), np.complex128)
    spectrum[:, places] = values
    spectrum[:, d - 1 - places] = values
    found: NDArray[np.int64] = np.rint((np.fft.fft(spectrum) / d * twist).real * scale).astype(np.int64)
    return found


def decoded(whole: NDArray[np.int64], scale: float) -> NDArray[np.complex128]:
    """The slots (N, d / 2) of coefficients (N, d)."""
    d = whole.shape[1]
    spectrum = np.fft.ifft(whole * np.exp(1j * np.pi * np.arange(d) / d)) * (d / scale)
    found: NDArray[np.complex128] = spectrum[:, _slot_places(d)]
    return found


def shows_through(ct: CkksFresh) -> bool:
    """Whether vectors can be read without the key: the first half alone holds small reals."""
    primes = ct.params.primes[: ct.c0.shape[1]]
    low = _restored(ct.c0[:, :1].astype(np.uint64), ct.params)[:, 0]
    half = np.uint64(primes[0] // 2)
    spread = np.abs(low.astype(np.int64) - np.where(low > half, primes[0], 0))
    return bool((spread.mean(axis=1) < primes[0] / 8).any())  # uniform ones have a mean of q / 4


def opens_keys(keys: CkksKeys) -> bool:
    """Whether s follows from key-switching keys: digit i encrypts zero at every prime but the i-th."""
    wide, d = len(keys.params.primes), keys.params.dimension
    a = _uniform(keys.seed, keys.c0.shape[:2], keys.params.primes, d)[:, :, :_BOTTOM]
    c0 = keys.c0.reshape(-1, wide, d)[:, :_BOTTOM]
    return _solved(c0, a.reshape(c0.shape), keys.params)


def opens_zeros(ct: CkksFresh) -> bool:
    """Whether s follows from a message that is known to hold zeros."""
    primes = ct.params.primes[: ct.c0.shape[1]]
    a = _uniform(ct.seed, (len(ct.c0),), primes, ct.params.dimension)
    return _solved(ct.c0[:, :_BOTTOM], a[:, :_BOTTOM], ct.params)


def _solved(c0: NDArray[np.uint32], a: Words, params: CkksParams) -> bool:
    """Whether -c0 / a of a row (N, 2, d), or of the difference of two in a row, has entries -1, 0, 1 at a
    prime: so it is s where an encryption of zero lacks noise, or two of them have the same.
    """
    p = _column(params.primes[:_BOTTOM])
    first, second = c0.astype(np.uint64), a
    first = np.concatenate([first, (first[1:] + p - first[:-1]) % p])
    second = np.concatenate([second, (second[1:] + p - second[:-1]) % p])
    quotient = _restored((p - first) % p * _inverse(second, params.primes[:_BOTTOM]) % p, params)
    return bool(((quotient <= 1) | (quotient == p - 1)).all(axis=-1).any())


def _inverse(values: Words, primes: Sequence[int]) -> Words:
    """1 / values (..., l, d) at each prime, by Fermat; of 0 it is 0."""
    found = np.ones_like(values)
    for row, prime in enumerate(primes):
        p = np.uint64(prime)
        for bit in bin(prime - 2)[2:]:
            found[..., row, :] = found[..., row, :] * found[..., row, :] % p
            if bit == "1":
                found[..., row, :] = found[..., row, :] * values[..., row, :] % p
    return found


def block_size(params: CkksParams) -> int:
    """Of BKZ that finds s, by the estimate of `core_svp`, from key-switching keys, whose modulus is q P."""
    return core_svp.lwe_block_size(params.dimension, sum(map(math.log2, params.primes)), _TERNARY, _SIGMA)


# --- who computes


@contextmanager
def _bounded() -> Iterator[None]:
    """What SEAL refuses to compute, as `BoundError`: reals too large or too small for their level."""
    try:
        yield
    except (RuntimeError, ValueError) as cause:
        raise BoundError(f"SEAL cannot compute this: {cause}") from None


class Engine:
    """SEAL's evaluator with the keys of an instance; raises `ConfigError` without SEAL."""

    def __init__(self, keys: CkksKeys) -> None:
        if not available():
            raise ConfigError(f"TenSEAL is not installed, or has no /proc here: {INSTALL}")
        import tenseal.sealapi as seal

        self.params, self.tag, self.seal = keys.params, keys.tag, seal
        self.context = context(keys.params)
        self.evaluator, self._encoder = seal.Evaluator(self.context), seal.CKKSEncoder(self.context)
        data = self.context.first_context_data()
        ids = [data.parms_id()]
        while (data := data.next_context_data()) is not None:
            ids.append(data.parms_id())
        self._ids = ids[::-1]  # by the number of primes, less one
        whole = _uniform(keys.seed, keys.c0.shape[:2], keys.params.primes, keys.params.dimension)
        self._relin = self._switching(seal.RelinKeys(), [(0, keys.c0[0], whole[0])])
        turned = [
            ((pow(3, step, 2 * keys.params.dimension) - 1) // 2, c0, c1)
            for step, c0, c1 in zip(keys.steps.tolist(), keys.c0[1:], whole[1:], strict=True)
        ]
        self._galois = self._switching(seal.GaloisKeys(), turned) if turned else None

    def load(self, ct: CkksFresh) -> list[Slots]:
        """The vectors of a message that arrived."""
        if type(ct) is not CkksFresh:
            raise MalformedError(f"expected CkksFresh, got {type(ct).__name__}")
        if (ct.params, ct.tag) != (self.params, self.tag):
            raise MalformedError("CkksFresh belongs to another instance: its tag differs")
        level = ct.c0.shape[1] - _BOTTOM
        primes = _level_primes(self.params, ct.c0.shape[1])
        halves = zip(ct.c0, _uniform(ct.seed, (len(ct.c0),), primes, self.params.dimension), strict=True)
        return [Slots(self, self.opened(np.stack(pair).astype(np.uint64), level), level) for pair in halves]

    def store(self, vectors: Sequence[Slots]) -> CkksCiphertext:
        """A message of vectors, taken down to level 0."""
        size, shape = 2 * _BOTTOM * self.params.dimension, (2, _BOTTOM, self.params.dimension)
        halves = np.empty((len(vectors), *shape), np.uint32)
        for row, vector in zip(halves, vectors, strict=True):
            lowest = vector.at(0)
            words = lowest.raw.dyn_array()  # SEAL's own memory, of which `lowest` is the owner
            row[...] = np.fromiter(map(words.at, range(size)), np.uint64, size).reshape(shape)
        return CkksCiphertext(self.params, self.tag, halves)

    def opened(self, halves: Words, level: int) -> Any:
        """SEAL's ciphertext of residues (2, l, d) at a level."""
        return self._read(
            self.seal.Ciphertext(), _seal_ciphertext(self._id(level), halves, self.params.scale(level))
        )

    @_bounded()
    def total(self, vectors: Sequence[Slots], others: Sequence[Slots]) -> Slots:
        """sum_k vectors_k * others_k, relinearised and rescaled once."""
        level = _spendable(min(each.level for each in (*vectors, *others)))
        summed = None
        for x, y in zip(vectors, others, strict=True):
            product = self.seal.Ciphertext()
            self.evaluator.multiply(x.at(level).raw, y.at(level).raw, product)
            if summed is None:
                summed = product
            else:
                self.evaluator.add_inplace(summed, product)
        self.evaluator.relinearize_inplace(summed, self._relin)
        return self._rescaled(summed, level)

    @_bounded()
    def scaled(self, x: Slots, factor: float) -> Slots:
        """x times a public real."""
        level, params = _spendable(x.level), self.params
        scale = params.scale(level - 1) * params.primes[level + _BOTTOM - 1] / params.scale(level)
        found = self.seal.Ciphertext()
        self.evaluator.multiply_plain(x.raw, self._plain(factor, level, scale), found)
        return self._rescaled(found, level)

    @_bounded()
    def shifted(self, x: Slots, constant: float) -> Slots:
        """x plus a public real."""
        found = self.seal.Ciphertext()
        self.evaluator.add_plain(x.raw, self._plain(constant, x.level, self.params.scale(x.level)), found)
        return Slots(self, found, x.level)

    @_bounded()
    def combined(self, x: Slots, y: Slots, sign: int) -> Slots:
        """x + y, or x - y."""
        level, found = min(x.level, y.level), self.seal.Ciphertext()
        verb = self.evaluator.add if sign > 0 else self.evaluator.sub
        verb(x.at(level).raw, y.at(level).raw, found)
        return Slots(self, found, level)

    @_bounded()
    def rotated(self, x: Slots, step: int) -> Slots:
        """x with slot i + step, of all in a circle, at slot i."""
        found = self.seal.Ciphertext()
        self.evaluator.rotate_vector(x.raw, step, self._galois, found)
        return Slots(self, found, x.level)

    @_bounded()
    def lowered(self, x: Slots, level: int) -> Slots:
        """x at a lower level: one product with 1, and primes that are dropped."""
        above = x.raw
        if x.level > level + 1:
            above = self.seal.Ciphertext()
            self.evaluator.mod_switch_to(x.raw, self._id(level + 1), above)
        scale = self.params.scale(level) * self.params.primes[level + _BOTTOM] / self.params.scale(x.level)
        found = self.seal.Ciphertext()
        self.evaluator.multiply_plain(above, self._plain(1.0, level + 1, scale), found)
        return self._rescaled(found, level + 1)

    def _rescaled(self, raw: Any, level: int) -> Slots:
        self.evaluator.rescale_to_next_inplace(raw)
        raw.scale = self.params.scale(level - 1)  # the same up to roundings of doubles
        return Slots(self, raw, level - 1)

    def _plain(self, value: float, level: int, scale: float) -> Any:
        found = self.seal.Plaintext()
        self._encoder.encode(float(value), self._id(level), scale, found)
        return found

    def _id(self, level: int) -> list[int]:
        found: list[int] = self._ids[level + _BOTTOM - 1]
        return found

    def _switching(self, into: Any, keys: Sequence[tuple[int, Any, Any]]) -> Any:
        """SEAL's key-switching keys, of (place, c0, c1) in order of the digits."""
        whole = self.context.key_parms_id()
        by_place = {place: (c0, c1) for place, c0, c1 in keys}
        body = [struct.pack("<4Q", *whole), struct.pack("<Q", max(by_place) + 1)]
        for place in range(max(by_place) + 1):
            halves = list(zip(*by_place[place], strict=True)) if place in by_place else []
            body.append(struct.pack("<Q", len(halves)))
            body += [_seal_ciphertext(whole, np.stack(pair).astype(np.uint64), 1.0) for pair in halves]
        return self._read(into, _seal_object(b"".join(body)))

    def _read(self, into: Any, data: bytes) -> Any:
        """SEAL's own loading, which validates what it reads; it takes names of files only."""
        return loaded_into(into, self.context, data)


@dataclass(frozen=True)
class Slots:
    """An encrypted vector at a level, in SEAL's form."""

    engine: Engine
    raw: Any
    level: int

    def __mul__(self, other: Slots | float) -> Slots:
        if isinstance(other, float):
            return self.engine.scaled(self, other)
        return self.engine.total([self], [other])

    def __add__(self, other: Slots | float) -> Slots:
        if isinstance(other, float):
            return self.engine.shifted(self, other)
        return self.engine.combined(self, other, 1)

    def __sub__(self, other: Slots) -> Slots:
        return self.engine.combined(self, other, -1)

    def at(self, level: int) -> Slots:
        """The same at a level that is not above its own."""
        return self if level == self.level else self.engine.lowered(self, level)

    def summed(self, stride: int, count: int) -> Slots:
        """At slot i the sum of the `count`, a power of two, slots i, i + stride, ..., in a circle."""
        found = self
        for k in range(count.bit_length() - 1):
            found = found + self.engine.rotated(found, stride << k)
        return found


def _spendable(level: int) -> int:
    if level < 1:
        raise BoundError("a product at level 0: the level budget is used up, and a refresh is due")
    return level


def rotations(stride: int, count: int) -> list[int]:
    """The rotations that `Slots.summed` takes."""
    return [stride << k for k in range(count.bit_length() - 1)]


def context(params: CkksParams) -> Any:
    """SEAL's context; it refuses what its own table of 128 bit does not allow, of all but toys."""
    import tenseal.sealapi as seal

    asked = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
    asked.set_poly_modulus_degree(params.dimension)
    asked.set_coeff_modulus([seal.Modulus(prime) for prime in params.primes])
    level = seal.SEC_LEVEL_TYPE.TC128 if params.secure else seal.SEC_LEVEL_TYPE.NONE
    found = seal.SEALContext(asked, True, level)
    if not found.parameters_set():
        raise ConfigError(f"SEAL refuses these parameters: {found.parameters_error_message()}")
    return found


def loaded_into(into: Any, context: Any, data: bytes) -> Any:
    """An object of SEAL from its serialised form, through a file in memory."""
    file = os.memfd_create("keyhole")
    try:
        os.write(file, data)
        into.load(context, f"/proc/self/fd/{file}")
    except (RuntimeError, ValueError) as cause:
        raise MalformedError(f"SEAL refuses what arrived: {cause}") from None
    finally:
        os.close(file)
    return into


# --- SEAL's serialised form, not compressed


def _seal_object(body: bytes) -> bytes:
    """A body behind SEAL's header: magic, bytes of the header, version, compression, size."""
    import tenseal.sealapi as seal

    own = seal.Serialization.SEALHeader()
    version = own.version_major, own.version_minor
    return struct.pack("<HBBBBHQ", 0xA15E, 16, *version, 0, 0, 16 + len(body)) + body


def _seal_ciphertext(which: Sequence[int], halves: Words, scale: float) -> bytes:
    """A ciphertext (size, l, d) in the transformed domain."""
    size, primes, d = halves.shape
    words = _seal_object(struct.pack("<Q", halves.size) + halves.astype("<u8").tobytes())
    head = struct.pack("<4QB3QdQ", *which, 1, size, d, primes, scale, 1)
    return _seal_object(head + words)


def seal_secret_key(sk: CkksSecretKey, which: Sequence[int]) -> bytes:
    """The secret key as SEAL has it, for tests."""
    words = _transformed(sk.s.astype(np.int64), sk.params)
    inner = _seal_object(struct.pack("<Q", words.size) + words.astype("<u8").tobytes())
    return _seal_object(struct.pack("<4QQd", *which, words.size, 1.0) + inner)


# --- the ring


@shared
def _primes(d: int, count: int) -> tuple[int, ...]:
    """The largest primes below 2^30 that are 1 mod 2 d, of them the largest, the special one, at the end."""
    found: list[int] = []
    candidate = (1 << _BITS) - 2 * d + 1
    while len(found) <= count:
        if _is_prime(candidate):
            found.append(candidate)
        candidate -= 2 * d
    return (*found[1:], found[0])


def _is_prime(n: int) -> bool:
    """Miller and Rabin, with bases that decide below 2^32."""
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(n, base, odd, twos) for base in (2, 3, 5, 7))


def _passes(n: int, base: int, odd: int, twos: int) -> bool:
    x = pow(base, odd, n)
    return x == 1 or any(pow(x, 1 << k, n) == n - 1 for k in range(twos))


def _level_primes(params: CkksParams, count: int) -> tuple[int, ...]:
    if not _BOTTOM <= count <= params.moduli:
        raise MalformedError(f"expected {_BOTTOM} to {params.moduli} primes, got {count}")
    return params.primes[:count]


def _check_residues(words: NDArray[np.uint32], primes: Sequence[int], what: str) -> None:
    if words.size and (words >= _column(primes)).any():
        raise MalformedError(f"{what}: a residue is not below its prime")


def _column(primes: Sequence[int]) -> Words:
    return np.array(primes, np.uint64)[:, None]


def _uniform(seed: bytes, count: Sequence[int], primes: Sequence[int], d: int) -> Words:
    """Second halves (*count, primes, d) of a seed, which everybody expands."""
    words = Stream(seed).words(*count, len(primes), d)
    found: Words = words % _column(primes)
    return found


def _rotated(s: NDArray[np.int8], element: int) -> NDArray[np.int64]:
    """s(X^element): coefficient j goes to place j * element, with a sign for each turn."""
    d = len(s)
    places = np.arange(d) * element % (2 * d)
    found = np.zeros(d, np.int64)
    found[places % d] = np.where(places < d, s, -s)
    return found


@dataclass(frozen=True)
class _Roots:
    """Powers (L + 1, d) of the least roots of order 2 d, in bit-reversed order as SEAL has them, with
    floor(2^32 w / p); and of their inverses.
    """

    forward: Words
    forward_quotients: Words
    backward: Words
    backward_quotients: Words

    def of(self, back: bool, blocks: int, parts: int, count: int | None = None) -> tuple[Words, Words]:
        """The factors of a layer of so many blocks, with their quotients: (l, parts, 1, blocks / parts)."""
        both = (self.backward, self.backward_quotients) if back else (self.forward, self.forward_quotients)
        shape = (len(self.forward[:count]), blocks // parts, parts)
        w, quotient = (
            each[:count, blocks : 2 * blocks].reshape(shape).swapaxes(1, 2)[:, :, None] for each in both
        )
        return w, quotient


@shared
def _roots(d: int, count: int) -> _Roots:
    primes = _primes(d, count)
    order, tables = _reversed_bits(d), np.empty((2, len(primes), d), np.uint64)
    for row, prime in enumerate(primes):
        root = _least_root(d, prime)
        for table, base in zip(tables, (root, pow(root, -1, prime)), strict=True):
            table[row] = np.array(_geometric(base, d, prime), np.uint64)[order]
    quotients = (tables << np.uint64(32)) // _column(primes)
    return _Roots(*map(_fixed, (tables[0], quotients[0], tables[1], quotients[1])))


def _geometric(base: int, count: int, prime: int) -> list[int]:
    found = [1]
    for _ in range(count - 1):
        found.append(found[-1] * base % prime)
    return found


def _least_root(d: int, prime: int) -> int:
    """The least of the roots of X^d + 1."""
    base = next(
        g for g in range(2, prime) if pow(pow(g, (prime - 1) // (2 * d), prime), d, prime) == prime - 1
    )
    root = pow(base, (prime - 1) // (2 * d), prime)
    return min(_geometric(root, 2 * d, prime)[1::2])


def _reversed_bits(d: int) -> NDArray[np.int64]:
    found = np.zeros(1, np.int64)
    while len(found) < d:
        found = np.concatenate([2 * found, 2 * found + 1])
    return found


def _fixed(words: NDArray[Any]) -> NDArray[Any]:
    """The same, which nobody can change."""
    found = words.copy()
    found.flags.writeable = False
    return found


@shared
def _slot_places(d: int) -> NDArray[np.int64]:
    """Which of the roots zeta^(2 k + 1) is slot i: zeta^(3^i)."""
    powers = _geometric(3, d // 2, 2 * d)
    return _fixed((np.array(powers, np.int64) - 1) // 2)


def _transformed(whole: NDArray[np.int64], params: CkksParams) -> Words:
    """Values (..., L + 1, d) of whole coefficients (..., d) at the roots of each prime, in SEAL's order.

    D. Harvey's butterflies: products by V. Shoup's are below 2 p, sums below 4 p < 2^32, reduced at the end.
    """
    primes, roots = _column(params.primes), _roots(params.dimension, params.moduli)
    x = np.mod(whole[..., None, :], primes.astype(np.int64)).astype(np.uint64)
    lead, inner = x.shape[:-1], _inner(params.dimension)
    blocks = 1
    while blocks < params.dimension // inner:
        _forward(x.reshape(*lead, blocks, 2, -1, 1), roots.of(False, blocks, blocks), primes)
        blocks *= 2
    x = np.ascontiguousarray(x.reshape(*lead, blocks, inner).swapaxes(-1, -2))  # long rows to the end
    part = 1
    while part < inner:
        _forward(x.reshape(*lead, part, 2, -1, blocks), roots.of(False, blocks * part, part), primes)
        part *= 2
    return x.swapaxes(-1, -2).reshape(*lead, params.dimension) % primes


def _restored(values: Words, params: CkksParams) -> Words:
    """Coefficients (..., l, d) of such values of the first primes."""
    count = values.shape[-2]
    primes, roots = _column(params.primes[:count]), _roots(params.dimension, params.moduli)
    lead, inner = values.shape[:-1], _inner(params.dimension)
    blocks = params.dimension // inner
    x = np.ascontiguousarray(values.reshape(*lead, blocks, inner).swapaxes(-1, -2))
    part = inner // 2
    while part:
        _backward(x.reshape(*lead, part, 2, -1, blocks), roots.of(True, blocks * part, part, count), primes)
        part //= 2
    x = np.ascontiguousarray(x.swapaxes(-1, -2)).reshape(*lead, params.dimension)
    blocks //= 2
    while blocks:
        _backward(x.reshape(*lead, blocks, 2, -1, 1), roots.of(True, blocks, blocks, count), primes)
        blocks //= 2
    inverse = [pow(params.dimension, -1, prime) for prime in params.primes[:count]]
    return x % primes * _column(inverse) % primes


def _inner(d: int) -> int:
    """How many neighbours the last layers of a transform stay among."""
    return 128 if d >= 1024 else 2


def _forward(pairs: Words, factors: tuple[Words, Words], primes: Words) -> None:
    """(low, high) to (low + w high, low - w high), in place: (..., l, blocks, 2, m, n), values below 4 p."""
    (w, quotient), p = factors, primes[:, :, None, None]
    low, high = pairs[..., 0, :, :], pairs[..., 1, :, :]
    moved = high * w - (high * quotient >> _SHIFT) * p
    np.minimum(low, low - 2 * p, out=low)  # below zero it wraps, and is the larger
    np.add(low, 2 * p - moved, out=high)
    low += moved


def _backward(pairs: Words, factors: tuple[Words, Words], primes: Words) -> None:
    """(low, high) to (low + high, w (low - high)), in place, values below 2 p."""
    (w, quotient), p = factors, primes[:, :, None, None]
    low, high = pairs[..., 0, :, :], pairs[..., 1, :, :]
    moved = low + 2 * p - high
    low += high
    np.minimum(low, low - 2 * p, out=low)
    np.subtract(moved * w, (moved * quotient >> _SHIFT) * p, out=high)
