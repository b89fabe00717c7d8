"""True and false positive rates of reconstructions."""

import numpy as np
import pytest

from protocols.language.errors import DataError
from scenarios.score.roc import (
    Trial,
    auc,
    binomial_interval,
    curve,
    least_errors,
    rates,
    trial,
    trial_against,
)

RNG = np.random.default_rng(0)
TRUTH = RNG.random((40, 3, 2, 6))


def test_an_attack_that_rebuilds_exactly_is_told_from_every_null():
    found = rates(trial(TRUTH[:, :, 1], TRUTH))
    assert found["tpr_at_fpr_01"] == found["tpr_at_fpr_10"] == found["auc"] == 1.0
    assert found["positives"] == 120 and found["nulls"] == 480 and found["mse"] == 0.0


def test_an_attack_that_knows_nothing_has_the_rate_of_its_null():
    truth = RNG.random((500, 3, 1, 4))
    found = rates(trial(RNG.random((500, 3, 4)), truth))
    assert found["interval_01"][0] <= 0.01 <= found["interval_01"][1]
    assert found["interval_10"][0] <= 0.10 <= found["interval_10"][1]
    assert abs(found["auc"] - 0.5) < 0.03


def test_one_image_for_every_victim_is_no_success():
    found = rates(trial(np.broadcast_to(TRUTH.mean((0, 2)), (40, 3, 6)), TRUTH))
    assert found["tpr_at_fpr_01"] == 0.0 and found["auc"] == pytest.approx(0.5, abs=0.02)


def test_failures_are_as_far_as_can_be():
    rebuilt = np.where(np.arange(40)[:, None, None] % 2, np.nan, TRUTH[:, :, 0])
    assert rates(trial(rebuilt, TRUTH))["tpr_at_fpr_10"] == 0.5


def test_classes_have_nulls_of_their_own():
    errors, nulls = np.array([[0.1, 10.0]] * 50), np.array([[1.0, 11.0]] * 200)
    found = rates(Trial(errors, nulls))
    assert found["tpr_at_fpr_01"] == 1.0 and found["tpr_pooled_01"] == 0.5


def test_the_least_error_is_over_the_images_of_the_class():
    expected = np.minimum(0.01, ((TRUTH[:, :, 1] + 0.1 - TRUTH[:, :, 0]) ** 2).mean(2))
    np.testing.assert_allclose(least_errors(TRUTH[:, :, 1] + 0.1, TRUTH), expected)


def test_random_weights_are_a_null_of_any_number():
    found = trial_against(TRUTH[:, :, 0], RNG.random((100, 3, 6)), TRUTH)
    assert found.nulls.shape == (100, 3) and rates(found)["tpr_at_fpr_01"] == 1.0


def test_the_curve_passes_through_the_rates():
    found = trial(TRUTH[:, :, 0] + 0.6 * RNG.random((40, 3, 6)), TRUTH)
    allowed, tpr = curve(found)
    assert np.all(np.diff(tpr) >= 0) and tpr[0] == 0 and tpr[-1] == 1
    assert tpr[np.searchsorted(allowed, 0.1)] == pytest.approx(rates(found)["tpr_at_fpr_10"], abs=0.02)


def test_auc_counts_pairs():
    a, b = RNG.integers(0, 5, 30).astype(float), RNG.integers(0, 5, 40).astype(float)
    pairs = (a[:, None] < b).mean() + 0.5 * (a[:, None] == b).mean()
    assert auc(a, b) == pytest.approx(pairs)


@pytest.mark.parametrize(
    ("hits", "samples", "expected"),
    [(0, 10, (0.0, 0.3085)), (5, 10, (0.1871, 0.8129)), (10, 10, (0.6915, 1.0))],
)
def test_intervals_are_those_of_clopper_and_pearson(hits, samples, expected):
    assert binomial_interval(hits, samples) == pytest.approx(expected, abs=1e-4)


def test_too_few_victims_for_a_null_are_refused():
    with pytest.raises(DataError):
        trial(TRUTH[:4, :, 0], TRUTH[:4])
