"""Products with an unknown map and a quarter of the known samples that linear algebra needs."""

import numpy as np
import pytest

from parties.adversary.solvers import subset_sum
from tests.adversary.test_lattice import DIGITS, PUBLIC, expected

KNOWN, KEYS, STEPS = 25, 16, 5


def trained(x, seed):
    """Z (N, STEPS KEYS) under whole W that moves along the samples, as training moves it; a pixel that is
    zero in all of them stays.
    """
    rng = np.random.default_rng(seed)
    w = 64 * rng.uniform(-0.125, 0.125, (KEYS, x.shape[1]))
    z = []
    for _ in range(STEPS):
        z.append(x @ np.rint(w).astype(np.int64).T)
        w = w + rng.normal(0, 0.02, (KEYS, len(x))) @ x
    return np.hstack(z)


@pytest.mark.parametrize("seed", range(4))
def test_25_known_samples_give_nearly_all_others_and_none_wrong(seed):
    x = DIGITS[360 + 96 * seed : 456 + 96 * seed]
    found = subset_sum.from_known(trained(x, seed), x[:KNOWN], expected(), KEYS)
    right = found.values == x[KNOWN:]
    assert right[found.whole].all() and right[found.shown][:, found.pixels].all()
    assert (found.whole | found.shown).mean() > 0.95 and found.whole.mean() > 0.75


def test_pixels_that_no_known_sample_shows_are_settled_by_the_weights_alone():
    """Pixel 0 is 1 in one image alone: as far as columns go, each pixel of that image could be any."""
    x = DIGITS[360:456].copy()
    x[:, [0, 32]] = 0
    x[60, 0] = 1
    z = trained(x, 3)
    found = subset_sum.from_known(z, x[:KNOWN], expected(), KEYS)
    assert not found.whole[60 - KNOWN] and found.shown[60 - KNOWN]
    assert np.array_equal(found.values[60 - KNOWN][found.pixels], x[60][found.pixels])
    arbitrary = z.copy()
    arbitrary[60] = np.random.default_rng(0).permutation(z[60])
    found = subset_sum.from_known(arbitrary, x[:KNOWN], expected(), KEYS)
    assert not found.whole[60 - KNOWN] and not found.shown[60 - KNOWN]


def test_pixels_that_known_samples_do_not_tell_apart_are_not_claimed():
    x = DIGITS[360:456].copy()
    x[:, [0, 32]] = 0
    x[0, [0, 32]] = 3
    x[60, 0], x[70, 32] = 2, 5
    found = subset_sum.from_known(trained(x, 3), x[:KNOWN], expected(), KEYS)
    assert not found.whole[[60 - KNOWN, 70 - KNOWN]].any()
    assert found.shown.any() and not found.pixels[[0, 32]].any()
    assert (found.values[found.whole] == x[KNOWN:][found.whole]).all()


def test_where_rivals_are_as_near_nothing_is_claimed():
    x = DIGITS[360:456]
    z = trained(x, 0)
    few = subset_sum.from_known(z, x[:6], expected(), KEYS)
    assert not few.whole.any() and not few.shown.any()
    other = subset_sum.from_known(np.vstack([z[:KNOWN][::-1], z[KNOWN:]]), x[:KNOWN], expected(), KEYS)
    assert not other.whole.any() and not other.shown.any()


def test_rivals_are_the_points_of_a_lattice_in_a_ball():
    """Z^2 stretched by 1 and 4: many points; projected from the first vector, 4 Z has 5 in [-10, 10]."""
    basis = np.diag([1.0, 4.0])
    points = sum(a * a + 16 * b * b <= 1600 for a in range(-40, 41) for b in range(-10, 11))
    assert 2 ** subset_sum.rivals(basis, 40.0) == pytest.approx(points, rel=0.03)
    assert 2 ** subset_sum.rivals(basis, 10.0, 1) == pytest.approx(5.0)


def test_a_column_that_was_left_over_finds_its_pixel_by_public_images():
    """Pixel 12, bright in public images, is dark in all known samples here; no other dark pixel fits it."""
    x = DIGITS[360:456].copy()
    x[:, [0, 32, 39]] = 0
    x[:KNOWN, 12], x[KNOWN + 4 :, 12] = 0, 0
    found = subset_sum.from_known(trained(x, 3), x[:KNOWN], expected(), KEYS)
    bright = np.flatnonzero(x[KNOWN:, 12])
    assert len(bright) and found.shown[bright].all() and not found.values[:, 12].any()
    images = subset_sum.with_rest(found, x[:KNOWN].any(axis=0), PUBLIC.astype(np.float64))
    assert np.array_equal(images[:, 12], x[KNOWN:, 12])
    assert np.array_equal(images[found.whole], x[KNOWN:][found.whole])
