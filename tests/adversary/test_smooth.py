"""The smoothest image behind one observation, from equations alone."""

import numpy as np
import pytest
from scipy.optimize import minimize

from parties.adversary.attack import Prior
from parties.adversary.solvers import lp, smooth
from parties.adversary.solvers.box import Outcome, box
from parties.adversary.solvers.interior import Interior
from parties.adversary.solvers.polytope import differences, equations
from tests.adversary.common import observed, solved
from tests.adversary.test_lp import PRIOR, blobs, weights


def energy(x, shape):
    picture = x.reshape(shape)
    return (np.diff(picture, axis=0) ** 2).sum() + (np.diff(picture, axis=1) ** 2).sum()


@pytest.mark.parametrize("shape", [(3, 5), (4, 3, 3)])
def test_differences_are_those_within_rows_columns_and_channels(shape):
    x = np.random.default_rng(0).random(int(np.prod(shape)))
    assert np.sum((differences(shape) @ x) ** 2) == pytest.approx(energy(x, shape))


def test_inside_the_box_the_solution_is_that_of_the_kkt_equations():
    x, w = 4 + blobs(1, x_max=8)[0], weights(24)
    eq, d = equations(w, PRIOR), differences((8, 8)).toarray()
    kkt = np.block([[d.T @ d, eq.a.T], [eq.a, np.zeros((24, 24))]])
    expected = np.linalg.solve(kkt, np.concatenate([np.zeros(64), eq.right_side(w @ x)]))[:64]
    got, _ = smooth.solve_smooth(w, w @ x, PRIOR)
    assert expected.min() > 0 and expected.max() < 1
    assert np.abs(got - expected).max() < 1e-3


def test_at_the_border_of_the_box_another_solver_finds_the_same_energy():
    x, w = blobs(1)[0][:16] * 0 + np.where(np.indices((4, 4)).sum(0) < 3, 16, 0).ravel(), weights(6, 16)
    eq = equations(w, Prior(16, (4, 4)))
    got, _ = smooth.solve_smooth(w, w @ x, Prior(16, (4, 4)))
    equal = {"type": "eq", "fun": lambda y: eq.a @ y - eq.right_side(w @ x)}
    other = minimize(
        energy, np.full(16, 0.5), args=((4, 4),), bounds=[(0, 1)] * 16, constraints=[equal], tol=1e-10
    )
    assert (got < 1e-3).any() or (got > 1 - 1e-3).any()
    assert energy(got, (4, 4)) == pytest.approx(other.fun, abs=1e-2)


def test_smooth_images_come_out_nearer_than_by_lp_and_projection():
    images, w = blobs(6), weights(24)
    errors = np.zeros((3, 6))
    for k, x in enumerate(images):
        got, info = smooth.solve_smooth(w, w @ x, PRIOR)
        program, _ = lp.solve_lp(w, w @ x, PRIOR)
        errors[:, k] = [((y - x / 16) ** 2).mean() for y in (got, program, info.projection)]
    assert errors[0].mean() < 0.25 * errors[1].mean() < 0.25 * errors[2].mean()


def test_the_image_explains_the_observation_and_is_smoother_than_the_truth():
    x, w = blobs(1, seed=4)[0], weights(30)
    got, info = smooth.solve_smooth(w, w @ x, PRIOR)
    eq = equations(w, PRIOR)
    assert np.abs(eq.a @ got - eq.right_side(w @ x)).max() < 1e-3
    assert energy(got, (8, 8)) < energy(x / 16, (8, 8)) and info.outcome is Outcome.FEASIBLE


def test_colour_images_are_smoothed_channel_by_channel():
    x = np.stack([blobs(1, seed=s)[0] for s in range(3)], axis=1)
    w = weights(30)
    colour = np.zeros((90, 64, 3), dtype=np.int64)
    for channel in range(3):
        colour[30 * channel : 30 * (channel + 1), :, channel] = w
    got, _ = smooth.solve_smooth(
        colour.reshape(90, -1), colour.reshape(90, -1) @ x.ravel(), Prior(16, (8, 8, 3))
    )
    for channel in range(3):
        alone, _ = smooth.solve_smooth(w, w @ x[:, channel], PRIOR)
        assert np.abs(got.reshape(64, 3)[:, channel] - alone).max() < 5e-3


def test_equations_that_no_image_meets_are_a_failure():
    w = weights(30)
    got, info = smooth.solve_smooth(w, w @ np.full(64, 40), PRIOR)
    assert np.isnan(got).all() and info.outcome is Outcome.INFEASIBLE


def test_as_many_equations_as_pixels_give_the_exact_image_and_the_step():
    x, w = blobs(3), weights(64)
    got = solved("smooth", observed((2, range(3), w, x)), PRIOR)
    assert np.array_equal(np.rint(got.values * 16), x) and got.solved_at_step == 2


def test_one_failure_does_not_spoil_the_other_samples():
    x, w = np.vstack([blobs(2), np.full((1, 64), 40)]), weights(30)
    got = solved("smooth", observed((0, range(3), w, x)), PRIOR)
    assert np.isnan(got.values).any(axis=1).tolist() == [False, False, True]
    assert (got.notes["feasible"], got.notes["infeasible"]) == (2, 1)


def test_the_kernel_of_the_equations_and_their_range_lead_to_the_same_point():
    x, w = blobs(1)[0], weights(40)
    eq = equations(w, PRIOR)
    rows, bounds = box(64)
    by_kernel, by_range = (Interior(eq.a, rows, differences((8, 8))) for _ in range(2))
    assert by_kernel._kernel.shape == (64, 24)
    by_range._kernel = None
    points = [interior.solve(eq.right_side(w @ x), bounds) for interior in (by_kernel, by_range)]
    assert np.allclose(points[0].x, points[1].x, atol=1e-6) and points[0].iterations == points[1].iterations
