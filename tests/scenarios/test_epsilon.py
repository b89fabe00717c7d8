"""Audited epsilon: never more than a mechanism has, and enough to catch one whose noise is off."""

from dataclasses import replace

import numpy as np
import pytest

from parties.adversary.heads.membership import taken_and_left
from protocols.language.errors import DataError
from protocols.network.dp import epsilon_for, sigma_for, usual_delta
from protocols.network.head import Protect, Recipe
from scenarios.score.epsilon import audited_epsilon, most

K, RUNS = 5, 1000
RNG = np.random.default_rng(5)
FEATURES = np.abs(RNG.standard_normal((20, K, 16))).astype(np.float32)
LABELS = np.tile(np.arange(K), (20, 1))
DELTA = usual_delta(K)


def private(epsilon):
    return Recipe(protect=Protect.DP, sigma=sigma_for(epsilon, DELTA, Recipe().steps))


def audited(recipe, seed=0):
    found = taken_and_left(FEATURES, LABELS, K, recipe, RUNS, np.random.default_rng(seed))
    return audited_epsilon(*found, DELTA)


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
def test_a_gaussian_mechanism_has_at_least_what_is_audited(mu):
    true, rng = epsilon_for(1 / mu, 0.01, 1), np.random.default_rng(3)
    found = [
        audited_epsilon(rng.standard_normal(2000) + mu, rng.standard_normal(2000), 0.01) for _ in range(20)
    ]
    assert sum(each > true for each in found) <= 3  # 95 % each
    assert np.median(found) > 0.3 * true


def test_statistics_that_say_nothing_bound_nothing():
    rng = np.random.default_rng(0)
    assert audited_epsilon(rng.standard_normal(2000), rng.standard_normal(2000), 0.1) < 0.1
    assert audited_epsilon(np.zeros(100), np.zeros(100), 0.1) == 0.0


def test_whether_a_sample_is_missing_is_a_question_too():
    """A statistic that only ever betrays the absence."""
    rng = np.random.default_rng(0)
    taken, left = rng.random(2000), np.where(rng.random(2000) < 0.5, -1.0, rng.random(2000))
    assert audited_epsilon(taken, left, 0.01) > 4.0


def test_the_most_that_runs_can_show_is_what_a_perfect_test_shows():
    assert audited_epsilon(np.ones(500), np.zeros(500), 0.1) == most(500, 0.1)
    assert most(5000, 0.1) > most(500, 0.1)
    with pytest.raises(DataError):
        audited_epsilon(np.ones(5), np.zeros(4), 0.1)


@pytest.mark.parametrize("epsilon", [2.0, 4.0])
def test_heads_have_at_most_the_epsilon_that_was_promised(epsilon):
    assert 0.0 < audited(private(epsilon)) < epsilon


def test_noise_that_is_too_small_for_the_promise_is_found():
    promised = private(2.0)
    assert audited(replace(promised, sigma=promised.sigma / 8)) > 2.0
