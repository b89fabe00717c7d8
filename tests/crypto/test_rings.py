"""Rings modulo word-sized primes: against a product by definition, at the ends of what is exact."""

import numpy as np
import pytest

from protocols.crypto.integers.rings import LARGEST, PRIMES, lift, product, restored, rotations, transform

RNG = np.random.default_rng(3)


def multiplied(a, b, p):
    """a b in Z_p[X] / (X^d + 1), by definition."""
    d = len(a)
    full = np.append(np.convolve(a.astype(object), b.astype(object)), 0)
    return ((full[:d] - full[d:]) % p).astype(np.int64)


def test_the_primes_have_roots_for_every_dimension_and_leave_room_for_lazy_sums():
    for p in PRIMES:
        assert p < 1 << 27 and p % (2 * LARGEST) == 1 and pow(3, p - 1, p) == 1
        assert p * (2 * LARGEST.bit_length() + 1) < 1 << 32
    assert len(set(PRIMES)) == len(PRIMES)


@pytest.mark.parametrize("d", [2, 8, 64, 256])
@pytest.mark.parametrize("p", PRIMES[::3])
def test_products_of_transforms_are_those_of_the_ring(d, p):
    a, b = RNG.integers(-(2**45), 2**45, (2, d, 3))
    c = restored(transform(a, p) * transform(b, p) % np.uint64(p), p)
    assert (c[:, 1].astype(np.int64) == multiplied(a[:, 1], b[:, 1], p)).all()


@pytest.mark.parametrize("value", [0, 1, -1, "p - 1"])
def test_extreme_coefficients_come_back_from_the_largest_transform(value):
    p = PRIMES[0]
    x = np.full((LARGEST, 2), p - 1 if isinstance(value, str) else value)
    assert (restored(transform(x, p), p).astype(np.int64) == x % p).all()


def test_single_coefficients_are_products_with_rotations():
    p, d = PRIMES[0], 64
    a, s, at = RNG.integers(0, p, d), RNG.integers(-(2**40), 2**40, d), np.array([0, 5, 63, 5])
    assert (product(rotations(a, at, p), s[:, None], p)[:, 0] == multiplied(a, s, p)[at]).all()


def test_matrix_products_are_exact_at_the_largest_words_and_lengths():
    p = PRIMES[0]
    a = np.full((2, LARGEST), p - 1)
    for b in (p - 1, p // 2, p // 2 + 1, 4095, 4096, (1 << 26) - 1):
        expected = (p - 1) * b * LARGEST % p
        assert (product(a, np.full((LARGEST, 1), b), p) == expected).all()


@pytest.mark.parametrize("count", [2, 3, 8])
def test_residues_are_lifted_to_the_integers_around_zero(count):
    primes, q = PRIMES[:count], int(np.prod(np.array(PRIMES[:count], dtype=object)))
    values = [0, 1, -1, q // 2, -(q // 2), 12345678901234 % (q // 2)]
    found = lift([np.array([v % p for v in values]) for p in primes], primes)
    assert [int(v) for v in found] == values
