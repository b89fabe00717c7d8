"""Exact accounting for full-batch gradient descent with Gaussian noise (DP-SGD without sampling).

J. Dong, A. Roth, W. Su, *Gaussian Differential Privacy*, J. Royal Statistical Society B 84 (2022),
arXiv:1905.02383. One release of a sum of gradients clipped to norm C, plus noise of standard deviation sigma
C, is 1/sigma-GDP; T of them, each computed from those before, are mu-GDP with mu = sqrt(T) / sigma, exactly.
mu-GDP is the same as (epsilon, delta)-DP for all

    delta(epsilon) = Phi(-epsilon / mu + mu / 2) - e^epsilon Phi(-epsilon / mu - mu / 2)

(corollary 2.13; Balle and Wang, ICML 2018).

No bound is lost on the way: the noise found here is the least that keeps the promise against who sees every
step. A release of the last weights alone may tell less.

Neighbours: one sample is added or removed, and sigma C is the noise on the *sum*, not on the mean. If one
sample may be replaced by another the sum moves by 2 C, and mu doubles. A delta of N^-1.1 is what the
literature prints, and .17 at N = 5: nearly vacuous, because an algorithm that publishes its whole training
set with probability delta, and nothing otherwise, is (0, delta)-DP. Print it beside every epsilon.
"""

from __future__ import annotations

import math

from scipy import optimize, special

from protocols.language.errors import ConfigError

_SMALLEST_MU = 1e-9


def delta_of(mu: float, epsilon: float) -> float:
    """The least delta for which mu-GDP implies (epsilon, delta)-DP; by logarithms, for large epsilon."""
    upper = float(special.log_ndtr(-epsilon / mu + mu / 2))
    lower = float(special.log_ndtr(-epsilon / mu - mu / 2))
    return -math.exp(upper) * math.expm1(min(0.0, epsilon + lower - upper))


def mu_of(sigma: float, steps: int) -> float:
    """mu of `steps` noisy sums, each with noise of standard deviation sigma C."""
    return math.sqrt(steps) / sigma


def sigma_for(epsilon: float, delta: float, steps: int) -> float:
    """The least sigma with which `steps` steps are (epsilon, delta)-DP; `ConfigError` for no such promise."""
    _check(epsilon, delta)
    if steps < 1:
        raise ConfigError(f"the number of noisy steps must be positive, got {steps}")
    largest = 1.0
    while delta_of(largest, epsilon) < delta:
        largest *= 2
    mu = optimize.brentq(
        lambda m: delta_of(m, epsilon) - delta, _SMALLEST_MU, largest, xtol=1e-12, rtol=1e-12
    )
    return math.sqrt(steps) / float(mu)


def epsilon_for(sigma: float, delta: float, steps: int) -> float:
    """The least epsilon for which `steps` steps with this sigma are private; the inverse of `sigma_for`."""
    _check(0.0, delta)
    if not sigma > 0 or steps < 1:
        raise ConfigError(f"sigma and the number of noisy steps must be positive, got {sigma:g} and {steps}")
    mu, largest = mu_of(sigma, steps), 1.0
    if delta_of(mu, 0.0) <= delta:
        return 0.0
    while delta_of(mu, largest) > delta:
        largest *= 2
    return float(optimize.brentq(lambda e: delta_of(mu, e) - delta, 0.0, largest, xtol=1e-12, rtol=1e-12))


def usual_delta(samples: int) -> float:
    """N^-1.1."""
    if samples < 2:
        raise ConfigError(f"a delta of N^-1.1 needs at least two samples, got {samples}")
    return math.pow(samples, -1.1)


def _check(epsilon: float, delta: float) -> None:
    if not (math.isfinite(epsilon) and epsilon >= 0 and 0 < delta < 1):
        raise ConfigError(
            f"expected --epsilon of at least 0 and a delta between 0 and 1, got {epsilon:g} and {delta:g}"
        )
