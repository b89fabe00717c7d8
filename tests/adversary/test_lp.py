"""The linear program on one observation, from equations alone."""

import numpy as np
import pytest
from scipy.optimize import linprog

from parties.adversary.attack import LIMIT, NotApplicable, Prior
from parties.adversary.solvers import lp
from parties.adversary.solvers.box import BOX_MARGIN, Outcome
from parties.adversary.solvers.polytope import equations, neighbour_rows
from tests.adversary.common import observed, solved

PRIOR = Prior(16, (8, 8), threshold=6)


def blobs(count, shape=(8, 8), x_max=16, seed=0):
    """Smooth integer images, (count, n)."""
    rng = np.random.default_rng(seed)
    i, j = np.indices(shape[:2])
    ci, cj = rng.uniform(1, 7, (2, count, 1, 1))
    pictures = x_max * np.exp(-((i - ci) ** 2 + (j - cj) ** 2) / 8)
    return np.rint(pictures).astype(np.int64).reshape(count, -1)


def weights(h, n=64, seed=1):
    return np.rint(np.random.default_rng(seed).uniform(-1, 1, (h, n)) * 256 / np.sqrt(n)).astype(np.int64)


def wrapping_reference(shape, period):
    """What the rows must not be: neighbours that wrap around the border."""
    index = np.arange(shape[0] * shape[1]).reshape(shape)
    near = [np.roll(index, 1, 0), np.roll(index, -1, 0), np.roll(index, 1, 1), np.roll(index, -1, 1)]
    return [
        {int(index[i, j]), *(int(k[i, j]) for k in near)}
        for i, j in np.ndindex(*shape)
        if (i + j) % period == 0
    ]


def test_the_solution_meets_the_equations_the_box_and_the_rows():
    x, w = blobs(1)[0], weights(32)
    got, info = lp.solve_lp(w, w @ x, PRIOR)
    eq = equations(w, PRIOR)
    assert np.abs(eq.a @ got - eq.right_side(w @ x)).max() < 10 * BOX_MARGIN
    assert got.min() >= 0 and got.max() <= 1 and info.outcome is Outcome.FEASIBLE and info.relaxed_by == 0
    assert np.abs(neighbour_rows((8, 8), 4) @ got).max() <= 6 / 16 + 1e-3


def test_the_centre_is_nearer_than_the_projection_and_than_a_vertex():
    images, w = blobs(8), weights(32)
    eq = equations(w, PRIOR)
    rows = neighbour_rows((8, 8), 4).toarray()
    got, projected, vertex = np.zeros((3, 8))
    for k, x in enumerate(images):
        values, info = lp.solve_lp(w, w @ x, PRIOR)
        corner = linprog(
            np.zeros(64), np.vstack([rows, -rows]), np.full(32, 6 / 16), eq.a, eq.right_side(w @ x), (0, 1)
        )
        got[k], projected[k], vertex[k] = (
            ((y - x / 16) ** 2).mean() for y in (values, info.projection, corner.x)
        )
    assert got.mean() < 0.9 * projected.mean() and got.mean() < vertex.mean()


def test_the_projection_is_the_least_norm_correction_of_mid_gray():
    x, w = blobs(1)[0], weights(20)
    _, info = lp.solve_lp(w, w @ x, PRIOR)
    expected = 0.5 + np.linalg.pinv(w) @ (w @ x / 16 - w @ np.full(64, 0.5))
    assert np.allclose(info.projection, expected)


def test_rows_at_the_border_average_the_neighbours_inside():
    rows = neighbour_rows((3, 4), 1).toarray()
    assert rows[0].tolist() == [1, -0.5, 0, 0, -0.5, 0, 0, 0, 0, 0, 0, 0]
    assert np.allclose(rows[5], np.array([0, -1, 0, 0, -1, 4, -1, 0, 0, -1, 0, 0]) / 4)
    assert np.allclose(rows[7], np.array([0, 0, 0, -1, 0, 0, -1, 3, 0, 0, 0, -1]) / 3)


def test_rows_never_wrap_around_the_border():
    supports = [set(np.flatnonzero(row)) for row in neighbour_rows((8, 8), 4).toarray()]
    wrapped = wrapping_reference((8, 8), 4)
    assert len(supports) == len(wrapped) == 16
    assert all(own <= other for own, other in zip(supports, wrapped, strict=True)) and supports != wrapped


def test_rows_stay_within_a_channel():
    gray, colour = neighbour_rows((4, 5), 2).toarray(), neighbour_rows((4, 5, 3), 2).toarray()
    assert colour.shape == (3 * len(gray), 60)
    for channel in range(3):
        assert np.array_equal(colour[channel::3, channel::3], gray)
    assert np.count_nonzero(colour) == 3 * np.count_nonzero(gray)


def test_an_image_that_breaks_the_rows_is_relaxed_and_says_by_how_much():
    checkerboard = (np.indices((8, 8)).sum(0) % 2 * 16).ravel()
    w = weights(60)
    got, info = lp.solve_lp(w, w @ checkerboard, PRIOR)
    assert info.outcome is Outcome.RELAXED and 0 < info.relaxed_by <= 10
    assert ((got - checkerboard / 16) ** 2).mean() < 1e-3


def test_equations_that_no_image_meets_are_a_failure():
    w = weights(30)
    got, info = lp.solve_lp(w, w @ np.full(64, 40), PRIOR)
    assert np.isnan(got).all() and info.outcome is Outcome.INFEASIBLE and np.isnan(info.relaxed_by)


def test_contradicting_equations_are_a_failure():
    w = np.vstack([weights(5)] * 2)
    z = np.concatenate([weights(5) @ blobs(1)[0]] * 2)
    assert lp.solve_lp(w, z, PRIOR)[1].outcome is not Outcome.INFEASIBLE
    z[-1] += 1
    assert lp.solve_lp(w, z, PRIOR)[1].outcome is Outcome.INFEASIBLE


@pytest.mark.parametrize("h", [64, 90])
def test_as_many_equations_as_pixels_give_the_exact_image(h):
    x, w = blobs(1)[0], weights(h)
    got, info = lp.solve_lp(w, w @ x, PRIOR)
    assert np.array_equal(np.rint(got * 16), x) and info.outcome is Outcome.FEASIBLE


def test_images_on_the_border_of_the_box_are_found_though_there_is_no_interior():
    x = np.where(np.arange(64) % 9 == 0, 16, 0)
    w = weights(60)
    got, info = lp.solve_lp(w, w @ x, Prior(16, (8, 8), threshold=16))
    assert np.array_equal(np.rint(got * 16), x) and info.outcome is Outcome.FEASIBLE


def test_weights_for_other_images_or_without_content_are_not_applicable():
    with pytest.raises(NotApplicable, match="64 pixels"):
        lp.solve_lp(weights(5, 63), np.zeros(5), PRIOR)
    with pytest.raises(NotApplicable, match="zero"):
        lp.solve_lp(np.zeros((5, 64)), np.zeros(5), PRIOR)


def test_reconstruct_names_the_samples_and_counts_outcomes():
    x, w = blobs(5), weights(30)
    view = observed((0, [4, 1], w, x[:2]), (3, [7, 0, 2], weights(30, seed=9), x[2:]))
    got = solved("lp", view, PRIOR)
    assert got.index.tolist() == [4, 1, 7, 0, 2] and got.values.shape == got.projection.shape == (5, 64)
    assert np.allclose(got.values[1], lp.solve_lp(w, w @ x[1], PRIOR)[0])
    assert (got.notes["feasible"], got.notes["relaxed"], got.notes["infeasible"]) == (5, 0, 0)
    assert got.notes["seconds_per_image_median"] > 0 and got.solved_at_step is None


def test_reconstruct_stops_at_its_limit():
    x, w = blobs(30), weights(8)
    view = observed((0, range(16), w, x[:16]), (1, range(16, 30), w, x[16:]))
    assert solved("lp", view, PRIOR).index.tolist() == list(range(LIMIT))


def test_a_view_without_equations_is_not_applicable():
    with pytest.raises(NotApplicable, match="no step"):
        solved("lp", observed(), PRIOR)
