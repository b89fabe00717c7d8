"""Accounting of noisy gradient descent, against tabulated figures and the definition of differential
privacy.
"""

import numpy as np
import pytest
from scipy.stats import norm

from protocols.language.confine import check_step
from protocols.language.errors import ConfigError
from protocols.network.dp import delta_of, epsilon_for, mu_of, sigma_for, usual_delta

TABLE = [
    (10, 1, 6.61),
    (10, 5, 2.50),
    (10, 20, 1.09),
    (10, 80, 0.50),
    (5, 1, 5.06),
    (5, 2, 3.58),
    (5, 5, 2.18),
    (5, 10, 1.49),
    (5, 20, 1.01),
    (5, 40, 0.69),
    (5, 80, 0.48),
    (5, 160, 0.33),
]


@pytest.mark.parametrize("samples, epsilon, sigma", TABLE)
def test_noise_is_that_of_the_table(samples, epsilon, sigma):
    assert sigma_for(epsilon, usual_delta(samples), 32) == pytest.approx(sigma, abs=0.0051)


@pytest.mark.parametrize("mu", [0.05, 0.7, 3.0, 12.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 2.0, 9.0])
def test_delta_is_the_largest_advantage_of_any_threshold(mu, epsilon):
    # (epsilon, delta)-DP by its definition: P(A) - e^epsilon Q(A) at the worst set, a half line for
    # N(mu, 1) against N(0, 1)
    t = np.linspace(-10, 250, 2_000_001)
    worst = (norm.sf(t - mu) - np.exp(epsilon) * norm.sf(t)).max()
    assert delta_of(mu, epsilon) == pytest.approx(worst, abs=1e-8)


@pytest.mark.parametrize(
    "epsilon, delta, steps", [(1, 1e-5, 32), (0.01, 1e-12, 1), (160, 0.17, 32), (0, 0.1, 7), (700, 1e-6, 3)]
)
def test_noise_and_epsilon_are_each_others_inverse(epsilon, delta, steps):
    sigma = sigma_for(epsilon, delta, steps)
    assert delta_of(mu_of(sigma, steps), epsilon) == pytest.approx(delta, rel=1e-6)
    assert epsilon_for(sigma, delta, steps) == pytest.approx(epsilon, rel=1e-6, abs=1e-8)


def test_noise_grows_with_the_root_of_the_steps():
    assert sigma_for(3, 1e-3, 400) == pytest.approx(20 * sigma_for(3, 1e-3, 1))


def test_large_epsilons_overflow_nothing_and_deltas_stay_in_range():
    deltas = [delta_of(mu, epsilon) for mu in (1e-6, 1.0, 50.0) for epsilon in (0.0, 1.0, 1e3, 1e6)]
    assert all(0 <= delta <= 1 for delta in deltas)
    assert delta_of(50.0, 1000.0) == pytest.approx(norm.cdf(5.0), abs=1e-3)


def test_noise_that_promises_more_than_asked_has_epsilon_zero():
    assert epsilon_for(1000.0, 0.1, 1) == 0.0


@pytest.mark.parametrize(
    "epsilon, delta, steps",
    [(-1, 0.1, 1), (np.inf, 0.1, 1), (np.nan, 0.1, 1), (1, 0, 1), (1, 1, 1), (1, 0.1, 0)],
)
def test_what_is_no_promise_is_refused(epsilon, delta, steps):
    with pytest.raises(ConfigError, match="expected --epsilon|must be positive"):
        sigma_for(epsilon, delta, steps)


def test_noise_of_zero_and_too_few_samples_are_refused():
    with pytest.raises(ConfigError, match="sigma"):
        epsilon_for(0.0, 0.1, 1)
    with pytest.raises(ConfigError, match="two samples"):
        usual_delta(1)


def step(state, epsilon):
    """What the step of a protocol will do."""
    return sigma_for(epsilon, usual_delta(10), 32), epsilon_for(1.0, 0.1, 32)


def test_steps_may_compute_their_noise():
    check_step(step)
