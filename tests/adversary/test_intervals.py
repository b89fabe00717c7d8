"""Which pixels equations determine, and between what the others lie in the box."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from parties.adversary.solvers import intervals as module
from parties.adversary.solvers.intervals import COORDINATES, determined, intervals, spread
from parties.adversary.solvers.systems import systems
from protocols.language.relations import Equations, Instance, now
from tests.adversary.common import stated


def echelon(a):
    """The reduced row echelon form over the rationals."""
    rows, done = [[Fraction(int(v)) for v in row] for row in a], 0
    for column in range(len(a[0])):
        pivot = next((i for i in range(done, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[done], rows[pivot] = rows[pivot], rows[done]
        rows[done] = [v / rows[done][column] for v in rows[done]]
        for i in range(len(rows)):
            if i != done:
                rows[i] = [v - rows[i][column] * w for v, w in zip(rows[i], rows[done], strict=True)]
        done += 1
    return rows[:done]


def vertices(a, b):
    """Every vertex of {A x = b, 0 <= x <= 1}, for A of full row rank: all but r coordinates at a bound."""
    (r, n), found = a.shape, []
    for basis in combinations(range(n), r):
        rest = [j for j in range(n) if j not in basis]
        if abs(np.linalg.det(a[:, basis])) > 1e-9:
            corners = np.indices((2,) * len(rest)).reshape(len(rest), -1)
            inner = np.linalg.solve(a[:, basis], b[:, None] - a[:, rest] @ corners)
            full = np.zeros((n, corners.shape[1]))
            full[list(basis)], full[rest] = inner, corners
            found.append(full[:, ((inner > -1e-9) & (inner < 1 + 1e-9)).all(axis=0)])
    return np.hstack(found)


@pytest.mark.parametrize("seed", range(6))
def test_determined_are_the_unit_rows_of_the_rational_echelon_form(seed):
    rng = np.random.default_rng(seed)
    a = rng.integers(-900, 900, (5, 9)) * (rng.random((5, 9)) < 0.3)
    a = np.vstack([a, rng.integers(-3, 4, (4, 5)) @ a])  # dependent rows in between
    units = {row.index(1) for row in echelon(a) if sum(v != 0 for v in row) == 1}
    assert set(np.flatnonzero(determined(a)).tolist()) == units


def test_a_pixel_with_a_tiny_but_true_freedom_is_not_determined():
    assert determined(np.array([[10**6, 1]])).tolist() == [False, False]
    assert determined(np.array([[10**6, 1], [10**6, 2]])).tolist() == [True, True]
    assert determined(np.zeros((2, 3))).tolist() == [False] * 3


@pytest.mark.parametrize("seed", range(6))
def test_the_bounds_are_those_of_all_vertices(seed):
    rng = np.random.default_rng(seed)
    a, x = rng.integers(-500, 500, (3, 7)), np.clip(rng.normal(0.5, 0.6, 7), 0, 1)
    corners = vertices(a.astype(float), a @ x)
    expected = np.column_stack([corners.min(axis=1), corners.max(axis=1)])
    assert np.allclose(intervals(a, a @ x, np.arange(7)), expected, atol=1e-8)


def test_redundant_equations_change_nothing():
    rng = np.random.default_rng(0)
    a, x = rng.integers(-500, 500, (3, 8)), rng.random(8)
    more = np.vstack([a, a[0] + a[1], 5 * a[2]])
    assert np.allclose(intervals(a, a @ x, np.arange(8)), intervals(more, more @ x, np.arange(8)), atol=1e-8)


def test_a_determined_coordinate_has_no_width():
    a, x = np.array([[0, 7, 0, 0], [3, 0, 2, 5]]), np.array([0.3, 0.25, 0.8, 0.6])
    bounds = intervals(a, a @ x, np.arange(4))
    assert bounds[1] == pytest.approx([0.25, 0.25]) and bounds[1, 0] == bounds[1, 1]
    assert (bounds[[0, 2, 3], 1] > bounds[[0, 2, 3], 0] + 0.1).all()


def test_the_box_alone_pins_what_a_row_of_one_sign_sums_to_zero_or_to_its_most():
    a, x = np.array([[2, 9, 4, 0, 0, 0], [0, 0, 0, 3, 1, 0]]), np.array([0, 0, 0, 1, 1, 0.4])
    assert not determined(a).any()
    bounds = intervals(a, a @ x, np.arange(6))
    assert np.allclose(bounds[:5], x[:5, None], atol=1e-9) and bounds[5].tolist() == [0.0, 1.0]


def test_equations_of_no_image_give_nan_and_no_equations_the_box():
    outside, contradiction = np.array([[1, 1]]), np.array([[1, 1], [2, 2]])
    assert np.isnan(intervals(outside, np.array([2.5]), np.arange(2))).all()
    assert np.isnan(intervals(contradiction, np.array([1.0, 1.0]), np.arange(2))).all()
    assert np.isnan(intervals(np.eye(2), np.array([0.5, 1.5]), np.arange(2))[1]).all()
    assert intervals(np.zeros((0, 3)), np.zeros(0), np.arange(3)).tolist() == [[0.0, 1.0]] * 3


def test_a_point_that_projections_find_is_one_that_the_program_finds_too():
    rng = np.random.default_rng(0)
    a, x = rng.integers(-500, 500, (6, 12)), rng.random(12)
    eq, right = module._orthonormal(a), module._orthonormal(a).to_b.T @ (a @ x)
    reached = [module._reaches(eq, right, k, 0.0) for k in range(12)]
    bounds = [module._bound(eq, right, k, 1.0, 9.0) for k in range(12)]
    assert any(reached) and all(abs(b) < 1e-9 for b, r in zip(bounds, reached, strict=True) if r)
    assert not any(r for b, r in zip(bounds, reached, strict=True) if b > 1e-6) and max(bounds) > 1e-6


def test_a_program_that_runs_out_of_time_is_a_failure_of_its_coordinate():
    rng = np.random.default_rng(0)
    a, x = rng.integers(-500, 500, (195, 200)), rng.random(200)
    assert np.isnan(intervals(a, a @ x, np.array([3]), seconds=0.0)).all()


def test_true_pixels_of_a_run_lie_within(runs):
    run, _ = runs(hidden=48)
    truth, seen = run.truth(), next(stated(run).of(Equations))
    where = spread(truth.shape)
    for k in range(3):
        bounds = intervals(now(seen.a), now(seen.values)[k] / truth.x_max, where)
        true = truth.pixels(seen.samples[k : k + 1])[0, where]
        assert (bounds[:, 0] <= true + 1e-10).all() and (true <= bounds[:, 1] + 1e-10).all()
        assert (bounds[:, 1] - bounds[:, 0] < 1 - 1e-6).any()


def test_every_pixel_of_a_run_is_determined_once_the_rank_of_the_keys_is_full(runs):
    run, _ = runs(epochs=5)
    (system,) = systems(list(stated(run).of(Instance)))
    assert determined(system.vectors).all() == system.full
    assert not determined(system.vectors[:-1]).all()


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (32, 32, 3), (2, 3)])
def test_the_sample_of_coordinates_is_fixed_and_spread_over_the_image(shape):
    where = spread(shape)
    rows, columns = np.unravel_index(where, shape)[:2]
    assert len(set(where.tolist())) == min(COORDINATES, np.prod(shape)) and where.max() < np.prod(shape)
    assert np.array_equal(where, spread(shape))
    halves = {(int(2 * i >= shape[0]), int(2 * j >= shape[1])) for i, j in zip(rows, columns, strict=True)}
    assert len(halves) == 4
