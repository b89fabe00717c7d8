"""Products mod 2^64 by limbs, against Python's integers."""

import numpy as np
import pytest
import torch

from protocols.crypto.integers.modular import (
    all_threads,
    limb_width,
    limbs,
    small_times_small,
    small_times_wide,
    wide_times_small,
)

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


def test_the_number_of_threads_does_not_matter(monkeypatch):
    wide, small = words(64, 300), RNG.integers(-1000, 1000, (300, 50))
    monkeypatch.setattr("protocols.crypto.integers.modular._MANY", 1)
    for processors in (1, 2):
        monkeypatch.setattr("os.cpu_count", lambda processors=processors: processors)
        with all_threads():
            assert torch.get_num_threads() == processors
        assert (wide_times_small(wide, small) == exact(wide, small)).all()


def test_small_products_take_one_thread():
    """16 samples and 32 keys of 2048 numbers: a second one costs processor time, and saves none."""
    with all_threads(16 * 2048 * 32):
        assert torch.get_num_threads() == 1


def test_torch_has_its_threads_back_even_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), all_threads():
        raise ZeroDivisionError
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("shapes", [((0, 5), (5, 3)), ((4, 0), (0, 3)), ((4, 5), (5, 0))], ids=str)
def test_empty_products_are_empty_or_zero(shapes):
    wide, small = words(*shapes[0]), np.zeros(shapes[1], dtype=np.int64)
    product = wide_times_small(wide, small)
    assert product.shape == (shapes[0][0], shapes[1][1]) and not product.any()


@pytest.mark.parametrize("bound", [3, 2**15, 2**22])
def test_small_times_small_is_exact(bound):
    a, b = RNG.integers(-bound, bound, (6, 200)), RNG.integers(-2, 3, (200, 7))
    a[0], b[:, 0] = bound, 2
    assert (small_times_small(a, b) == a @ b).all()


def test_sums_that_would_not_be_exact_are_refused():
    with pytest.raises(OverflowError, match="not exact"):
        small_times_small(np.full((1, 4), 2**40), np.full((4, 1), 2**20))
    with pytest.raises(OverflowError, match="not exact"):
        wide_times_small(words(1, 4), np.full((4, 1), 2**52))


def test_limbs_are_as_wide_as_exactness_allows():
    for total in (1, 2, 3, 4096, 2**52, 2**53):
        width = limb_width(total)
        assert 1 <= width <= 52 and total * (2**width - 1) <= 2**53
