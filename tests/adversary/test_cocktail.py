"""Samples taken apart from sums over many: rays where images are dark, independent components elsewhere."""

import numpy as np
import pytest

from parties.adversary.attack import NotApplicable
from parties.adversary.solvers.ica import components, scaled
from parties.adversary.solvers.rays import extreme_ray
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
