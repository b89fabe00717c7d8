"""Z_q[X] / (X^d + 1) for a power of two d, with q a product of primes below 2^27: a residue number system.

Polynomials are arrays (d, R) of R columns, one array for each prime, so that every step of a transform works
on contiguous rows. The transform is that of P. Longa, M. Naehrig, CANS 2016 (eprint 2016/504); products by
its constants are V. Shoup's, which leave a result below 2 p. With p < 2^27 thirteen layers stay below 2^32
without any reduction between them, and all is exact in 64 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.crypto.integers.modular import all_threads

Words = NDArray[np.uint64]
Integers = NDArray[np.integer[Any]]

LARGEST = 8192  # d; all primes are 1 mod 2 d
_COLUMNS = 32  # of a transform at a time: they stay in the cache
_SHIFT = np.uint64(32)


def _primes(count: int) -> tuple[int, ...]:
    """The largest primes below 2^27 that are 1 mod 2 d."""
    found: list[int] = []
    candidate = (1 << 27) - 2 * LARGEST + 1
    while len(found) < count:
        if all(candidate % k for k in range(3, 11586, 2)):  # to the root of 2^27
            found.append(candidate)
        candidate -= 2 * LARGEST
    return tuple(found)


PRIMES = _primes(8)


@dataclass(frozen=True)
class Constants:
    """Factors w (any shape), with floor(2^32 w / p)."""

    w: Words
    quotient: Words

    @classmethod
    def of(cls, values: list[int], p: int) -> Constants:
        """From integers below p."""
        w = np.array(values, dtype=np.uint64)
        return cls(w, (w << _SHIFT) // np.uint64(p))

    def part(self, start: int, stop: int) -> Constants:
        """Some of them, as a column for each."""
        return Constants(self.w[start:stop, None, None], self.quotient[start:stop, None, None])

    def times(self, x: Words, p: np.uint64) -> Words:
        """w x mod p for x < 2^32, as a representative below 2 p."""
        return self.w * x - ((self.quotient * x) >> _SHIFT) * p


@dataclass(frozen=True)
class Tables:
    """What transforms of length d modulo p need."""

    forward: Constants  # powers of the 2d-th root, in bit-reversed order
    layers: tuple[Constants, ...]  # powers of the inverse d-th root, layer by layer
    last: Constants  # inverse powers of the 2d-th root, by d


@lru_cache(maxsize=64)
def tables(d: int, p: int) -> Tables:
    """The tables of a transform."""
    root = next(r for x in range(2, p) if pow(r := pow(x, (p - 1) // (2 * d), p), d, p) == p - 1)
    back, bits = pow(root, -1, p), d.bit_length() - 1
    reverse = [int(f"{k:0{bits}b}"[::-1], 2) for k in range(d)]
    layers = []
    for m in (1 << layer for layer in range(bits)):
        step = pow(back, d // m, p)
        layers.append(Constants.of([pow(step, k, p) for k in range(m)], p))
    last = [pow(back, j, p) * pow(d, -1, p) % p for j in range(d)]
    powers = Constants.of([pow(root, k, p) for k in reverse], p)
    return Tables(powers, tuple(layers), Constants.of(last, p))


def transform(x: Integers, p: int) -> Words:
    """The values of the columns of x (d, R), any integers, at the odd powers of the root; below p."""
    d, table, prime = len(x), tables(len(x), p), np.uint64(p)
    out = np.mod(x.astype(np.int64), p).astype(np.uint64)
    for start in range(0, out.shape[1], _COLUMNS):
        a = np.ascontiguousarray(out[:, start : start + _COLUMNS])
        groups = 1
        while groups < d:
            pairs = a.reshape(groups, 2, d // groups // 2, -1)
            u, v = pairs[:, 0], table.forward.part(groups, 2 * groups).times(pairs[:, 1], prime)
            pairs[:, 1] = u + (2 * prime - v)
            u += v
            groups *= 2
        out[:, start : start + _COLUMNS] = a % prime
    return out


def restored(values: Words, p: int) -> Words:
    """The columns (d, R) that have these values, which are below p; below p."""
    d, table, prime = len(values), tables(len(values), p), np.uint64(p)
    out = np.empty_like(values)
    for start in range(0, out.shape[1], _COLUMNS):
        a = np.array(values[:, start : start + _COLUMNS], order="C")
        for layer in table.layers:
            size = len(layer.w)
            pairs = a.reshape(d // size // 2, 2, size, -1)
            u, v = pairs[:, 0], Constants(layer.w[:, None], layer.quotient[:, None]).times(pairs[:, 1], prime)
            pairs[:, 1] = u + (2 * prime - v)
            u += v
        last = Constants(table.last.w[:, None], table.last.quotient[:, None])
        out[:, start : start + _COLUMNS] = last.times(a, prime) % prime
    return out


def rotations(c: Integers, at: Integers, p: int) -> NDArray[np.int64]:
    """The rows (len(at), d) whose products with the coefficients of s are those of c s at the places `at`."""
    word = c.astype(np.int64)
    both = np.concatenate([(p - word) % p, word])
    rows: NDArray[np.int64] = both[at.astype(np.int64)[:, None] + (len(c) - np.arange(len(c)))[None]]
    return rows


def product(a: Integers, b: Integers, p: int) -> NDArray[np.int64]:
    """a (m, k) @ b (k, n) mod p, for a from 0 to p - 1 and k <= 8192: exact float products of limbs of b.

    13 bits of b, 27 of a and 13 of k make 53, what float64 holds; the lowest limb is centred.
    """
    residue = np.mod(b.astype(np.int64), p)
    residue -= p * (residue > p // 2)
    high = (residue + (1 << 12)) >> 13
    parts = [residue - (high << 13), *([high] if high.any() else [])]
    left = torch.from_numpy(a.astype(np.float64))
    with all_threads(a.size * b.shape[1]):
        sums = [(left @ torch.from_numpy(part.astype(np.float64))).numpy().astype(np.int64) for part in parts]
    found: NDArray[np.int64] = sums[0] if len(sums) == 1 else sums[0] + (sums[1] % p << 13)
    return found % p


def lift(residues: list[NDArray[np.int64]], primes: tuple[int, ...]) -> NDArray[Any]:
    """The integers within +-q / 2 that have these residues; Python's where q exceeds 62 bits."""
    value: NDArray[Any] = residues[0]
    q = primes[0]
    for residue, p in zip(residues[1:], primes[1:], strict=True):
        digit = (residue - (value % p).astype(np.int64)) * pow(q, -1, p) % p
        if (q * p).bit_length() > 62:
            value, digit = value.astype(object), digit.astype(object)
        value = value + digit * q
        q *= p
    return np.where(value > q // 2, value - q, value)
