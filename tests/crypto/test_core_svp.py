"""Hardness of short secrets: against published points, and what function keys leave of ipfe_lwe."""

import math

import numpy as np
import pytest

from parties.adversary.solvers.lattice import Coset
from protocols.crypto import ipfe_lwe as lwe
from protocols.crypto.integers.core_svp import Column, Issued, bits, block_size, delta, lwe_block_size
from protocols.crypto.records import Bounds

FRESH = 256 / math.sqrt(3)  # the length of a row of W1 as training begins
DIGITS, MNIST = lwe.parameters(Bounds(64, 16, 1024)), lwe.parameters(Bounds(784, 255, 1024))


@pytest.mark.parametrize(("n", "q", "sigma", "published"), [
    (1024, 12289, math.sqrt(8), 967),  # New Hope, table 1
    (512, 12289, math.sqrt(12), 449),  # JarJar, the same
    (1024, 2**32 - 1, 3.192, 296),  # BCNS, the same
    (512, 3329, math.sqrt(1.5), 406),  # Kyber512 of round 3, by the lattice estimator
    (768, 3329, 1.0, 623),  # Kyber768, the same
])  # fmt: skip
def test_block_sizes_are_the_published_ones_within_one_per_cent(n, q, sigma, published):
    assert abs(lwe_block_size(n, math.log2(q), sigma, sigma) / published - 1) < 0.01


def test_lwe_with_error_and_secret_alike_is_the_formula_for_a_lattice():
    every = [block_size(512 + m + 1, m * math.log2(12289) + 1, 2.0) for m in range(128, 1024, 8)]
    assert min(filter(None, every)) == lwe_block_size(512, math.log2(12289), 2.0, 2.0)


def test_a_larger_block_reduces_better():
    factors = [delta(beta) for beta in range(2, 500)]
    assert factors == sorted(factors, reverse=True) and bits(40) == 0 < bits(41)


@pytest.mark.parametrize("params", [DIGITS, MNIST], ids=["digits", "mnist"])
def test_more_keys_and_longer_vectors_leave_no_more(params):
    n = params.bounds.length
    every = [lwe.level(params, k, FRESH) for k in range(0, n + 1, max(1, n // 64))]
    assert every == sorted(every, reverse=True) and every[0] == 128 and lwe.level(params, n, FRESH) == 0
    longer = [lwe.level(params, n // 4, norm) for norm in (1, 16, 148, 1024)]
    assert longer == sorted(longer, reverse=True) and lwe.level(params, n // 4) <= longer[-1]


def test_the_levels_of_a_fresh_w1_are_those_that_the_docstring_states():
    assert [lwe.level(DIGITS, k, FRESH) for k in (8, 12, 14, 15, 24, 32)] == [125, 123, 14, 0, 0, 0]
    assert [lwe.level(MNIST, k, FRESH) for k in (100, 200, 250, 300, 350, 400, 450)] == [
        125, 122, 96, 61, 35, 16, 0,
    ]  # fmt: skip


def test_a_column_is_determined_where_counting_bits_says_so_and_lll_finds_it_there():
    rng, n = np.random.default_rng(5), 40
    y = np.rint(rng.uniform(-1, 1, (n, n)) * 256 / math.sqrt(n)).astype(np.int64)
    s = (rng.integers(0, 2, (8, n, 4)) @ np.array([1, 1, -1, -1])).astype(np.int64)
    for keys, unique in ((4, False), (20, True)):
        column = Column(n, keys, FRESH, 1.0)
        assert (column.determined is not None) == unique
        found, _ = Coset.of(y[:keys], np.ones(n)).nearest(s @ y[:keys].T, np.zeros(n))
        assert (found == s).all() == unique


def test_a_run_says_what_its_keys_leave_and_calls_a_weak_budget_void():
    line = lwe.describe(MNIST, Issued(300, 784, FRESH))
    assert line.startswith("lwe, 128 bit, 0 bit left: 128 bit is mpk alone; core-SVP of the secret: ")
    assert "61 bit after the 300 keys of the first step, 0 bit after the 784 of the run" in line
    weak, fair = (lwe.describe(MNIST, Issued(100, k, FRESH, limited=True)) for k in (300, 250))
    assert weak.startswith("lwe, 128 bit, void, 61 bit left:") and "the budget of 300" in weak
    assert fair.startswith("lwe, 128 bit, 96 bit left:")
