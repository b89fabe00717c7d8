"""Metrics against independent formulas, and what counts as a failure."""

import json

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from parties.adversary.attack import Prior, Quantity, Reconstruction
from protocols.language.errors import DataError
from scenarios.score.metrics import (
    PSNR_CAP_DB,
    Truth,
    baseline_guess,
    baseline_projection,
    gain,
    labels_right,
    nearest_of_class,
    relative_error,
    score,
    ssim,
)

RNG = np.random.default_rng(7)
TRUTH = Truth(RNG.integers(0, 17, (6, 64)), np.arange(6) % 3, 16, (8, 8))
PRIOR = Prior(16, (8, 8))


def images(values, index=None, **rest):
    index = np.arange(len(values)) if index is None else np.asarray(index)
    return Reconstruction(Quantity.IMAGES, index, np.asarray(values), **rest)


def test_an_exact_reconstruction_scores_perfectly():
    got = score(images(TRUTH.images / 16, solved_at_step=4), TRUTH, PRIOR, 0)
    assert (got["mse"], got["exact_pixels"], got["psnr"], got["solved_at_step"]) == (0.0, 1.0, PSNR_CAP_DB, 4)
    assert got["ssim"] == pytest.approx(1.0) and got["samples"] == 6 and got["failures"] == 0


def test_mse_psnr_and_quartiles_follow_their_definitions():
    values = np.clip(TRUTH.images / 16 + RNG.normal(0, 0.2, (6, 64)), 0, 1)
    errors = sorted(
        sum((v - t / 16) ** 2 for v, t in zip(a, b, strict=True)) / 64
        for a, b in zip(values, TRUTH.images, strict=True)
    )
    got = score(images(values), TRUTH, PRIOR, 0)
    assert got["mse"] == pytest.approx(sum(errors) / 6)
    assert got["mse_median"] == pytest.approx((errors[2] + errors[3]) / 2)
    assert got["psnr"] == pytest.approx(-5 * (np.log10(errors[2]) + np.log10(errors[3])))
    assert got["mse_iqr"] == pytest.approx(
        [0.75 * errors[1] + 0.25 * errors[2], 0.25 * errors[3] + 0.75 * errors[4]]
    )


def test_samples_are_scored_by_index():
    order = np.array([5, 0, 3])
    assert score(images(TRUTH.images[order] / 16, order), TRUTH, PRIOR, 0)["mse"] == 0.0
    assert score(images(TRUTH.images[order] / 16), TRUTH, PRIOR, 0)["mse"] > 0.01


def test_a_pixel_is_exact_within_half_a_quantum():
    shift = np.full((6, 64), 0.51 / 16)
    shift[:, :16] = 0.49 / 16
    shift[:, 16:24] = -0.5 / 16
    assert score(images(TRUTH.images / 16 + shift), TRUTH, PRIOR, 0)["exact_pixels"] == 0.25


def test_a_failure_is_scored_as_the_guess_and_has_no_exact_pixel():
    flat = Truth(np.full((4, 64), 8), np.zeros(4), 16, (8, 8))  # the guess, 0.5, would be exact
    values = np.full((4, 64), 0.25)
    values[1, 3] = np.nan
    got = score(images(values), flat, PRIOR, 0)
    assert got["failures"] == 1 and got["exact_pixels"] == 0.0
    assert got["mse"] == pytest.approx(3 * 0.25**2 / 4)


def test_infinite_values_are_failures_too():
    values = TRUTH.images / 16
    values[0, 0] = np.inf
    got = score(images(values), TRUTH, PRIOR, 0)
    assert got["failures"] == 1 and got["exact_pixels"] == pytest.approx(5 / 6)


def test_ssim_follows_the_formula_of_wang():
    a, b = TRUTH.images[0].reshape(8, 8) / 16, TRUTH.images[1].reshape(8, 8) / 16

    def window(x, y):
        cov = np.cov(x.ravel(), y.ravel())
        top = (2 * x.mean() * y.mean() + 1e-4) * (2 * cov[0, 1] + 9e-4)
        return top / ((x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (cov[0, 0] + cov[1, 1] + 9e-4))

    places = [(slice(i, i + 7), slice(j, j + 7)) for i in (0, 1) for j in (0, 1)]
    expected = np.mean([window(a[p], b[p]) for p in places])
    assert ssim(a.reshape(1, -1), b.reshape(1, -1), (8, 8), 0) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(28, 28), (5, 9), (16, 16, 3)], ids=str)
def test_ssim_of_many_images_is_that_of_scikit_image_of_each(shape):
    x, y = np.random.default_rng(0).random((2, 12, int(np.prod(shape))))
    side, colours = min(7, *shape[:2]), 2 if len(shape) == 3 else None
    each = [
        structural_similarity(
            a.reshape(shape), b.reshape(shape), win_size=side - (side + 1) % 2, data_range=1.0,
            channel_axis=colours,
        )
        for a, b in zip(x, y, strict=True)
    ]  # fmt: skip
    assert ssim(x, y, shape, 0) == float(np.mean(each))


def test_ssim_takes_colour_and_tiny_images():
    colour = RNG.random((2, 8 * 8 * 3))
    assert ssim(colour, colour, (8, 8, 3), 0) == pytest.approx(1.0)
    assert ssim(colour[:, :16], colour[:, :16], (4, 4), 0) == pytest.approx(1.0)


def test_ssim_draws_at_most_1000_images_by_seed():
    true = RNG.random((1500, 9))
    rebuilt = np.where(np.arange(1500)[:, None] % 2 == 0, true, RNG.random((1500, 9)))
    assert ssim(rebuilt, true, (3, 3), 0) == ssim(rebuilt, true, (3, 3), 0) != ssim(rebuilt, true, (3, 3), 1)


def test_classes_are_scored_under_the_renaming_that_fits_best_and_so_is_their_guess():
    labels = np.repeat(np.arange(4), 25)
    truth = Truth(np.zeros((100, 4), int), labels, 4, (2, 2))
    right = Reconstruction(Quantity.CLASSES, np.arange(100), np.array([2, 0, 3, 1])[labels])
    wrong = Reconstruction(Quantity.CLASSES, np.arange(100), np.tile(np.arange(4), 25))
    assert score(right, truth, PRIOR, 0)["classes_right"] == 1.0
    guess = baseline_guess(wrong, truth, PRIOR)["classes_right"]
    assert 0.25 < guess < 0.4 and abs(score(wrong, truth, PRIOR, 0)["classes_right"] - guess) < 0.1
    assert gain(right, truth, PRIOR)["interval"][0] > 0.5 > 0 >= gain(wrong, truth, PRIOR)["interval"][0]


def test_one_cluster_for_all_is_worth_the_most_frequent_class():
    truth = Truth(np.zeros((4, 4), int), np.array([1, 1, 1, 0]), 4, (2, 2))
    one = Reconstruction(Quantity.CLASSES, np.arange(4), np.zeros(4, int))
    assert score(one, truth, PRIOR, 0)["classes_right"] == 0.75
    assert baseline_guess(one, truth, PRIOR)["classes_right"] == 0.75


def test_labels_right_is_a_share_by_index():
    recon = Reconstruction(Quantity.LABELS, np.array([3, 4, 5, 0]), np.array([0, 1, 0, 0]))
    assert (
        score(recon, TRUTH, PRIOR, 0)["labels_right"]
        == labels_right(np.array([0, 1, 2, 0]), [0, 1, 0, 0])
        == 0.75
    )


def test_a_master_key_is_right_or_a_failure():
    none = np.zeros(0, dtype=np.int64)
    found = Reconstruction(Quantity.MASTER_KEY, none, none, solved_at_step=3)
    assert score(found, TRUTH, PRIOR, 0) == {"samples": 0, "failures": 0, "solved_at_step": 3}
    assert score(Reconstruction(Quantity.MASTER_KEY, none, none), TRUTH, PRIOR, 0)["failures"] == 1


def test_no_sample_gives_no_metric():
    assert score(images(np.zeros((0, 64))), TRUTH, PRIOR, 0) == {
        "samples": 0,
        "failures": 0,
        "solved_at_step": None,
    }


@pytest.mark.parametrize(
    "values, index", [(np.zeros((1, 64)), [6]), (np.zeros((1, 64)), [-1]), (np.zeros((1, 63)), [0])]
)
def test_a_reconstruction_that_does_not_fit_the_truth_is_refused(values, index):
    with pytest.raises(DataError):
        score(images(values, index), TRUTH, PRIOR, 0)


def test_the_guess_is_the_public_mean_or_mid_range():
    public = RNG.random((5, 64))
    everything = images(np.zeros((6, 64)))
    with_public = baseline_guess(everything, TRUTH, Prior(16, (8, 8), public))
    assert with_public["mse"] == pytest.approx(((TRUTH.images / 16 - public.mean(0)) ** 2).mean())
    assert baseline_guess(everything, TRUTH, PRIOR)["mse"] == pytest.approx(
        ((TRUTH.images / 16 - 0.5) ** 2).mean()
    )


def test_where_the_view_tells_classes_the_guess_is_the_mean_of_the_class():
    public, classes = RNG.random((8, 64)), np.array([0, 0, 1, 1, 1, 0, 1, 7])
    prior = Prior(16, (8, 8), public, public_labels=classes)
    recon, truth = images(np.zeros((6, 64))), TRUTH.images / 16
    means = np.stack([public[classes == 0].mean(0), public[classes == 1].mean(0), public.mean(0)])
    labelled = baseline_guess(recon, TRUTH, prior, labelled=True)["mse"]
    assert labelled == pytest.approx(((truth - means[TRUTH.labels]) ** 2).mean())  # no public one is a 2
    assert baseline_guess(recon, TRUTH, prior)["mse"] == pytest.approx(((truth - public.mean(0)) ** 2).mean())
    mean_of_class = images(means[TRUTH.labels])
    assert gain(mean_of_class, TRUTH, prior, labelled=True)["mean"] == 0.0
    assert gain(mean_of_class, TRUTH, prior)["mean"] != 0.0
    gram = Reconstruction(Quantity.GRAM, np.arange(6), np.zeros((6, 6)))
    assert labelled != baseline_guess(gram, TRUTH, prior, labelled=True)["relative_error"] < 1.0


def test_baselines_cover_the_samples_of_the_attack():
    index = np.array([4, 2])
    recon = images(np.zeros((2, 64)), index, projection=TRUTH.images[index] / 16)
    assert baseline_projection(recon, TRUTH, PRIOR, 0)["mse"] == 0.0
    assert baseline_projection(images(np.zeros((2, 64)), index), TRUTH, PRIOR, 0) is None
    assert baseline_guess(recon, TRUTH, PRIOR)["samples"] == 2


def test_a_gram_matrix_and_a_span_are_scored_by_their_relative_error():
    true, index = TRUTH.images / 16, np.arange(6)
    gram = Reconstruction(Quantity.GRAM, index, 1.1 * true @ true.T)
    assert score(gram, TRUTH, PRIOR, 0)["relative_error"] == pytest.approx(0.1)
    basis = np.linalg.qr(true[:3].T)[0].T
    rest = true[3:] - true[3:] @ basis.T @ basis
    expected = np.linalg.norm(rest) / np.linalg.norm(true)
    assert score(Reconstruction(Quantity.SPAN, index, basis), TRUTH, PRIOR, 0)[
        "relative_error"
    ] == pytest.approx(expected)


def test_the_guess_of_a_gram_matrix_comes_from_public_images_alone():
    public = TRUTH.images / 16 + RNG.normal(0, 0.01, (6, 64))
    recon = Reconstruction(Quantity.GRAM, np.arange(6), np.zeros((6, 6)))
    guess = baseline_guess(recon, TRUTH, Prior(16, (8, 8), public))["relative_error"]
    assert 0.02 < guess < 0.5 and guess < baseline_guess(recon, TRUTH, PRIOR)["relative_error"] < 1.0


def test_a_gain_over_the_guess_has_an_interval_that_noise_does_not_leave():
    near, noise = images(TRUTH.images / 16), images(RNG.random((6, 64)))
    assert gain(near, TRUTH, PRIOR)["interval"][0] > 0 > gain(noise, TRUTH, PRIOR)["interval"][1]
    labels = Reconstruction(Quantity.LABELS, np.arange(6), TRUTH.labels)
    assert gain(labels, TRUTH, PRIOR)["mean"] == pytest.approx(2 / 3)
    assert gain(Reconstruction(Quantity.GRAM, np.arange(6), np.eye(6)), TRUTH, PRIOR) is None


def test_scores_are_plain_json():
    got = score(images(TRUTH.images / 16), TRUTH, PRIOR, 0)
    assert json.loads(json.dumps(got, allow_nan=False)) == got


def test_the_relative_error_is_that_of_frobenius():
    gram = RNG.random((3, 3))
    assert relative_error(gram * 1.1, gram) == pytest.approx(0.1)
    assert relative_error(np.zeros((3, 3)), gram) == pytest.approx(1.0)


def test_an_image_of_a_class_is_scored_against_the_owners_nearest_sample_of_it():
    images = np.array([[0, 0], [200, 200], [255, 255], [0, 255], [255, 0], [20, 20]])
    truth = Truth(images, np.array([0, 1, 0, 0, 1, 1]), 255, (1, 2), np.repeat([0, 1], 3))
    values = np.array([[0.9, 0.9], [0.5, 0.5], [0.0, 0.1]])
    found = nearest_of_class(Reconstruction(Quantity.CLASS_IMAGES, np.array([0, 1, 3]), values), truth)
    assert found.quantity is Quantity.IMAGES and found.index.tolist() == [2, 1, 5]
