"""Whole numbers end what holds over the reals: few equations, Gram matrices and spans give the samples."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from parties.adversary.solvers import lattice
from parties.adversary.solvers.order import placed
from tests.scenarios.test_attacks import attacked

DIGITS = load_digits().data.astype(np.int64)[np.random.default_rng(3).permutation(1797)]
PUBLIC, SECRET = DIGITS[:360], DIGITS[360:500]


def spread():
    return PUBLIC.mean(axis=0), np.sqrt(PUBLIC.var(axis=0) + 0.05)


@pytest.mark.parametrize("equations", [32, 24])
def test_half_and_fewer_equations_give_every_image(equations):
    a = np.random.default_rng(0).normal(0, 80, (equations, 64)).round().astype(np.int64)
    guess, deviation = spread()
    x, found = lattice.Coset.of(a, deviation).within(SECRET @ a.T, guess, 0, 16)
    assert found.all() and np.array_equal(x, SECRET)


def test_what_is_returned_satisfies_the_equations_and_what_has_no_solution_is_named():
    a = 2 * np.random.default_rng(0).normal(0, 40, (8, 64)).round().astype(np.int64)
    guess, deviation = spread()
    z = np.vstack([SECRET[:3] @ a.T, SECRET[3] @ a.T + 1])
    x, solvable = lattice.Coset.of(a, deviation).nearest(z, guess)
    assert solvable.tolist() == [True, True, True, False]
    assert np.array_equal(x[:3] @ a.T, z[:3])


def test_a_kernel_is_whole_and_complete():
    a = np.array([[2, 4, 6], [1, 1, 1]])
    (row,) = lattice.kernel(a)
    assert sorted(map(abs, row)) == [1, 1, 2] and not (a @ row).any()


def test_columns_of_a_gram_matrix_without_any_known_sample():
    found = lattice.columns_of_gram(SECRET @ SECRET.T)
    truth = {tuple(column) for column in SECRET.T}
    assert found.values.shape[1] >= found.rank - 2
    assert all(tuple(column) in truth for column in found.values.T)


def test_samples_behind_a_span_whose_mixing_is_unknown():
    mixed = np.random.default_rng(1).normal(0, 0.01, (32, 8)) @ SECRET[:8]
    found, gap = lattice.rows_of_span(mixed.astype(np.float32).astype(np.float64), 8, 16)
    assert gap > 100 and {tuple(row) for row in found} == {tuple(row) for row in SECRET[:8]}


def test_noise_gives_no_span_and_says_so():
    rng = np.random.default_rng(1)
    mixed = rng.normal(0, 0.01, (32, 8)) @ SECRET[:8] + rng.normal(0, 0.01, (32, 64))
    found, gap = lattice.rows_of_span(mixed, 8, 16)
    assert gap < 10 and not len(found)


def test_columns_find_their_pixels_by_public_images():
    found = lattice.columns_of_gram(SECRET @ SECRET.T)
    images, _ = placed(found.values, PUBLIC.astype(np.float64), np.random.default_rng(0))
    assert (images == SECRET).mean() > 0.98


def test_keys_of_one_step_give_every_image_that_a_budget_was_to_protect(runs):
    row = attacked(runs("plain_fe", hidden=32, defence=("key_budget:32",))[0], "lattice")
    assert row["metrics"]["exact_pixels"] == 1.0 and row["metrics"]["solved_at_step"] == 0
