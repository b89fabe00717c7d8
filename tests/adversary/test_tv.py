"""The image of least total variation behind one observation, from equations alone."""

import numpy as np
import pytest
from scipy.optimize import linprog

from parties.adversary.attack import Prior
from parties.adversary.solvers import smooth, tv
from parties.adversary.solvers.box import Outcome
from parties.adversary.solvers.polytope import differences, equations
from tests.adversary.common import observed, solved
from tests.adversary.test_lp import PRIOR, blobs, weights


def boxes(count, seed=0):
    """Piecewise constant integer images, (count, 64): two rectangles on black."""
    rng = np.random.default_rng(seed)
    pictures = np.zeros((count, 8, 8), dtype=np.int64)
    for picture in pictures:
        for level in (8, 16):
            top, left = rng.integers(0, 5, 2)
            picture[top : top + 3, left : left + 3] = level
    return pictures.reshape(count, -1)


def variation(x, shape=(8, 8)):
    return np.abs(differences(shape) @ x).sum()


def least_variation(eq, shape):
    """The same minimum by a general linear program: variables x, and t with -t <= D x <= t."""
    d = differences(shape).toarray()
    one, n = np.eye(len(d)), d.shape[1]
    rows = np.block([[d, -one], [-d, -one]])
    equal = np.hstack([eq[0], np.zeros((len(eq[1]), len(d)))])
    bounds = [(0, 1)] * n + [(0, None)] * len(d)
    return linprog(np.r_[np.zeros(n), np.ones(len(d))], rows, np.zeros(2 * len(d)), equal, eq[1], bounds).fun


@pytest.mark.parametrize("x", [boxes(1)[0], blobs(1)[0]], ids=["edges", "blob"])
def test_a_general_linear_program_finds_the_same_variation(x):
    w = weights(20)
    eq = equations(w, PRIOR)
    got, info = tv.solve_tv(w, w @ x, PRIOR)
    assert variation(got) == pytest.approx(least_variation((eq.a, eq.right_side(w @ x)), (8, 8)), rel=0.01)
    assert info.outcome is Outcome.FEASIBLE and 0 < info.iterations <= 500


def test_the_image_is_in_the_box_and_explains_the_observation():
    x, w = boxes(1, seed=3)[0], weights(24)
    got, _ = tv.solve_tv(w, w @ x, PRIOR)
    eq = equations(w, PRIOR)
    assert got.min() >= 0 and got.max() <= 1
    assert np.abs(eq.a @ got - eq.right_side(w @ x)).max() < 0.5 / 16


def test_edges_come_out_nearer_than_by_the_smoothest_image():
    images, w = boxes(6), weights(36)
    errors = np.zeros((3, 6))
    for k, x in enumerate(images):
        got, info = tv.solve_tv(w, w @ x, PRIOR)
        smoothest, _ = smooth.solve_smooth(w, w @ x, PRIOR)
        errors[:, k] = [((y - x / 16) ** 2).mean() for y in (got, smoothest, info.projection)]
    assert errors[0].mean() < 0.2 * errors[1].mean() < 0.2 * errors[2].mean()


def test_images_solved_together_are_those_solved_alone():
    images, w = boxes(5), weights(24)
    solve = tv.prepare(equations(w, PRIOR), PRIOR)
    together = solve.many(images @ w.T)
    for x, (got, info) in zip(images, together, strict=True):
        alone, said = solve(w @ x)
        assert np.allclose(got, alone, atol=1e-9) and info.iterations == said.iterations


def test_more_images_than_a_block_holds_come_back_in_order(monkeypatch):
    monkeypatch.setattr(tv, "_BLOCK", 2)
    images, w = boxes(5), weights(56)
    together = tv.prepare(equations(w, PRIOR), PRIOR).many(images @ w.T)
    assert np.array_equal(np.rint([got * 16 for got, _ in together]), images)


def test_colour_images_vary_channel_by_channel():
    x = np.stack([boxes(1, seed=s)[0] for s in range(3)], axis=1)
    w = weights(30)
    colour = np.zeros((90, 64, 3), dtype=np.int64)
    for channel in range(3):
        colour[30 * channel : 30 * (channel + 1), :, channel] = w
    got, _ = tv.solve_tv(colour.reshape(90, -1), colour.reshape(90, -1) @ x.ravel(), Prior(16, (8, 8, 3)))
    for channel in range(3):
        alone, _ = tv.solve_tv(w, w @ x[:, channel], PRIOR)
        assert variation(got.reshape(64, 3)[:, channel]) == pytest.approx(variation(alone), rel=0.01)


@pytest.mark.parametrize("level", [40, -3])
def test_equations_that_no_image_meets_are_a_failure(level):
    w = weights(30)
    got, info = tv.solve_tv(w, w @ np.full(64, level), PRIOR)
    assert np.isnan(got).all() and info.outcome is Outcome.INFEASIBLE


def test_dependent_equations_that_contradict_are_a_failure_and_spoil_no_other(monkeypatch):
    x, w = boxes(3), np.vstack([weights(24), weights(24)[:1]])
    seen = observed((0, range(3), w, x))
    monkeypatch.setattr(tv.Equations, "contradict", lambda eq, z: bool(np.array_equal(z, w @ x[1])))
    got = solved("tv", seen, PRIOR)
    assert np.isnan(got.values).any(axis=1).tolist() == [False, True, False]
    assert (got.notes["feasible"], got.notes["infeasible"]) == (2, 1)


def test_as_many_equations_as_pixels_give_the_exact_image_and_the_step():
    x, w = blobs(3), weights(64)
    got = solved("tv", observed((2, range(3), w, x)), PRIOR)
    assert np.array_equal(np.rint(got.values * 16), x) and got.solved_at_step == 2


@pytest.mark.parametrize("limit", [2, 30])
def test_the_prior_says_how_many_samples_are_attacked(limit):
    x, w = boxes(25), weights(32)
    view = observed((0, range(10), w, x[:10]), (1, range(10, 25), w, x[10:]))
    got = solved("tv", view, Prior(16, (8, 8), limit=limit))
    assert got.index.tolist() == list(range(min(limit, 25)))
