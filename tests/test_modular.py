"""Products mod 2^64 by limbs, against Python's integers."""

import numpy as np
import pytest
import torch

from protocols.crypto.modular import limb_width, limbs, small_times_small, small_times_wide, wide_times_small

RNG = np.random.default_rng(3)


def words(*shape):
    return RNG.integers(0, 2**64, shape, dtype=np.uint64, endpoint=False)


def exact(a, b):
    return ((a.astype(object) @ b.astype(object)) % 2**64).astype(np.uint64)


@pytest.mark.parametrize("bound", [1, 2, 1000, 2**20, 2**40])
def test_wide_times_small_is_exact(bound):
    wide, small = words(5, 40), RNG.integers(-bound, bound, (40, 3), endpoint=True)
    wide[0] = 2**64 - 1
    small[:, 0] = bound
    small[:, 1] = -bound
    assert (wide_times_small(wide, small) == exact(wide, small)).all()


def test_small_times_wide_is_exact():
    small, wide = RNG.integers(-2, 3, (4, 100)).astype(np.int8), words(100, 6)
    small[0], small[1], wide[:, 0] = 2, -2, 2**64 - 1
    assert (small_times_wide(small, limbs(wide, limb_width(200))) == exact(small, wide)).all()


def test_the_number_of_threads_does_not_matter():
    wide, small = words(64, 300), RNG.integers(-1000, 1000, (300, 50))
    before, results = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(wide_times_small(wide, small))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert (results[0] == results[1]).all()


@pytest.mark.parametrize("bound", [3, 2**15, 2**22])
def test_small_times_small_is_exact(bound):
    a, b = RNG.integers(-bound, bound, (6, 200)), RNG.integers(-2, 3, (200, 7))
    a[0], b[:, 0] = bound, 2
    assert (small_times_small(a, b) == a @ b).all()


def test_sums_that_would_not_be_exact_are_refused():
    with pytest.raises(OverflowError, match="not exact"):
        small_times_small(np.full((1, 4), 2**40), np.full((4, 1), 2**20))


def test_limbs_are_as_wide_as_exactness_allows():
    for total in (1, 2, 3, 4096, 2**52, 2**60):
        width = limb_width(total)
        assert 1 <= width <= 52 and (total * (2**width - 1) <= 2**53 or width == 1)
