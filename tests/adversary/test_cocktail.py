"""Samples taken apart from sums over many: rays where images are dark, independent components elsewhere."""

import numpy as np
import pytest

from parties.adversary.attack import NotApplicable
from parties.adversary.solvers.ica import components, images, scaled
from parties.adversary.solvers.rays import darkened, extreme_ray
from parties.adversary.solvers.rows import by_scale
from tests.adversary.common import attacked, rebuilt

SERVER = "key_authority"


def spans(x, units=100):
    """Orthonormal rows of what random sums of x (b, n) span."""
    mixed = np.random.default_rng(1).standard_normal((units, len(x))) @ x
    return np.linalg.svd(mixed, full_matrices=False)[2][: len(x)]


def test_rays_of_dark_images_are_the_images():
    rng = np.random.default_rng(0)
    x = rng.integers(1, 256, (24, 300)) * (rng.random((24, 300)) < 0.2)
    rows, found = spans(x), set()
    for _ in range(120):
        ray = extreme_ray(rows, np.zeros(300), rng)
        whole = by_scale(ray[None], 1e-5, 255) if ray is not None else ()
        found |= {row.tobytes() for row in whole}
    true = {row.tobytes() for row in x}
    assert found <= true and len(found) >= 20


def test_independent_components_are_independent_sources():
    rng = np.random.default_rng(0)
    x = rng.exponential(size=(16, 2000))
    found = scaled(components(spans(x), rng))
    close = np.abs(np.corrcoef(np.vstack([found, x]))[:16, 16:])
    assert close.max(axis=0).min() > 0.95 and len(set(close.argmax(axis=0))) == 16


def blobs(count, side=16):
    """Whole images (count, side^2) of a few rectangles on black, all about the middle: they have much in
    common.
    """
    rng = np.random.default_rng(3)
    x = np.zeros((count, side, side), np.int64)
    for image in x:
        for _ in range(4):
            (top, left), (down, right) = rng.integers(1, side // 2, 2), rng.integers(side // 2, side, 2)
            image[top:down, left:right] = rng.integers(1, 256)
    return x.reshape(count, -1)


def closest(found, x):
    """Of each image the cosine of the row that comes nearest to it."""
    unit, true = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (found, x))
    return np.abs(unit @ true.T).max(axis=0)


def test_images_in_common_are_told_apart_by_their_differences_and_not_by_their_pixels():
    x = blobs(16)
    rows, rng = spans(x), np.random.default_rng(0)
    by_pixels, by_steps = closest(components(rows, rng), x), closest(images(rows, (16, 16), rng), x)
    assert np.median(by_steps) > 0.999 and np.median(by_pixels) < 0.95
    assert (images(rows, (16, 16), np.random.default_rng(0)).sum(axis=1) > 0).all()


def test_what_is_no_image_is_taken_apart_by_its_values():
    x = np.random.default_rng(0).exponential(size=(16, 2000))
    found = images(spans(x), (1, 2000), np.random.default_rng(0))
    assert closest(found - found.mean(axis=1, keepdims=True), x - x.mean(axis=1, keepdims=True)).min() > 0.95


def test_what_is_near_an_image_becomes_it_by_its_dark_pixels():
    rng = np.random.default_rng(0)
    x = rng.integers(1, 256, (24, 300)) * (rng.random((24, 300)) < 0.2)
    rows = spans(x)
    for image in x:
        near = image + 0.01 * rng.standard_normal(24) @ x
        found = darkened(rows, near)
        assert np.abs(found * image.max() - image).max() < 1e-6 < np.abs(near - image).max()
    assert (darkened(rows, np.ones(300)) == 1).all()  # nothing is dark: left as it was


def test_a_sum_over_an_aggregate_is_whole_samples_and_what_comes_near_the_others(runs_without_ledger):
    run, _ = runs_without_ledger("fedsgd", hidden=64, owners=2, batch=8, samples=16, momentum=0.0, epochs=2,
                                 defence=("secure-aggregation",))  # fmt: skip
    found = rebuilt(run, "cocktail", SERVER)
    true = {row.tobytes() for row in run.truth().images.astype(np.int64)}
    whole = np.rint(found.values[found.per_sample["whole"]] * 16).astype(np.int64)
    assert {row.tobytes() for row in whole} <= true and len(whole) == found.notes["solved"]
    assert found.values.shape == (16, 64) and found.notes["components"] == 16 - len(whole)


def test_a_sum_over_more_samples_than_units_is_refused(runs_without_ledger):
    with pytest.raises(NotApplicable, match="no more than h"):
        rebuilt(runs_without_ledger("fedsgd", hidden=8)[0], "cocktail", SERVER)


@pytest.fixture(scope="module")
def dark(tmp_path_factory):
    """Images of 300 pixels, four of five of them black."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("dark") / "dark.npz"
    x = (rng.integers(1, 256, (80, 15, 20)) * (rng.random((80, 15, 20)) < 0.2)).astype(np.uint8)
    np.savez(path, images=x, labels=np.arange(80) % 2)
    return str(path)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"hidden": 32, "batch": 8}, 8),
        ({"hidden": 48, "batch": 4, "owners": 4, "defence": ("secure-aggregation",)}, 16),
    ],
    ids=["a batch", "an aggregate of four owners"],
)
def test_dark_images_of_a_run_are_taken_apart_exactly(runs_without_ledger, dark, options, count):
    run, _ = runs_without_ledger("fedsgd", dataset=dark, samples=64, **options)
    row = attacked(run, "cocktail", SERVER)
    assert row["samples"] == row["notes"]["solved"] == row["metrics"]["exact_images"] == count
    assert row["metrics"]["mse"] == row["metrics"]["failures"] == 0 == row["metrics"]["solved_at_step"]
    assert not row["notes"]["components"] and row["gain"]["interval"][0] > 0.03
    assert row["baseline"]["guess"]["exact_images"] == row["baseline"]["swapped"]["exact_images"] == 0


def test_where_nothing_is_dark_no_image_is_said_to_be_solved(runs_without_ledger):
    row = attacked(runs_without_ledger("fedsgd", hidden=100)[0], "cocktail", SERVER)
    assert row["notes"]["components"] and row["notes"]["solved"] == row["metrics"]["exact_images"] == 0
