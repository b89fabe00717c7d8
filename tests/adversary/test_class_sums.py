"""`class_sums`: what first gradients of linear models say of classes, made up and on real transcripts."""

import numpy as np
import pytest

from parties.adversary.attacks.class_sums import counted, summed
from parties.adversary.knowledge import learned
from protocols.language.relations import ClassSums
from tests.adversary.common import attacked, rebuilt
from tests.adversary.test_moments import pictures

AUTHORITY = "key_authority"


def sums(y, heads=range(10), classes=10, noise=0.0, seed=0):
    """Samples with labels `y`, and what is known of their classes."""
    x, heads = pictures(len(y), seed), np.array(heads)
    t = 2 * (np.array(y)[:, None] == heads) - 1
    off = np.random.default_rng(1).uniform(-noise, noise, (len(heads), 64))
    return x, ClassSums(np.arange(len(y)), t.T @ x + off, np.full(len(heads), noise), heads, classes)


def test_sums_of_classes_are_exact_and_counts_lie_within_their_bounds():
    y = np.array([0, 0, 0, 1, 2, 2, 5])
    x, seen = sums(y)
    found, right = summed(seen, 16), np.bincount(y, minlength=10)
    assert np.array_equal(found.sums, np.stack([x[y == c].sum(axis=0) for c in range(10)]))
    assert (found.least <= right).all() and (right <= found.most).all()
    assert found.alone[[1, 5]].any() and (right[found.alone] == 1).all()
    assert counted(found, len(y)).sum() == len(y)


@pytest.mark.parametrize("noise", [0.3, 4.0])
def test_errors_are_within_what_is_said_of_them(noise):
    y = np.array([0, 0, 1, 2, 2, 7])
    x, seen = sums(y, noise=noise)
    found = summed(seen, 16)
    far = np.abs(found.sums - np.stack([x[y == c].sum(axis=0) for c in range(10)])).max()
    assert (far == 0) == (noise == 0.3) and far <= found.error and (found.error < 0.5) == (noise == 0.3)


def test_one_head_leaves_a_difference_unless_the_batch_is_one_sample():
    assert summed(sums([1, 2, 1], heads=[1])[1], 16) is None
    assert summed(sums([0, 1, 1], heads=[0, 1], classes=2)[1], 16) is None
    for label, said in ((1, 1), (4, -1)):
        x, seen = sums([label], heads=[1])
        found = summed(seen, 16)
        assert found.classes[found.alone].tolist() == [said] and np.array_equal(found.sums[found.alone], x)


BUDGET = {"samples": 32, "batch": 16, "epochs": 1, "owners": 2, "key_budget": 1, "target": -1}


def test_a_key_budget_leaves_the_first_gradients(runs):
    run = runs("vertical_fe", **BUDGET)[0]
    truth, found = run.truth(), rebuilt(run, "class_sums")
    alone = np.flatnonzero(found.per_sample["count"] == 1)
    pairs = {(*row, label) for *row, label in np.column_stack([truth.images, truth.labels]).tolist()}
    for i in alone:
        image = np.rint(found.values[i] * truth.x_max).astype(int).tolist()
        assert (*image, int(found.per_sample["label"][i])) in pairs
    right = [np.bincount(truth.labels[b : b + 16], minlength=10) for b in (0, 16)]
    assert np.array_equal(np.bincount(found.per_sample["label"]), sum(right))
    metrics = attacked(run, "class_sums")["metrics"]
    assert metrics["exact_images"] == len(alone) == sum((each == 1).sum() for each in right) > 0
    assert "directions" in attacked(run, "moments")["why"]


@pytest.mark.parametrize("more", [{}, {"target": 1}], ids=str)
@pytest.mark.parametrize("party", ["cloud_trainer", AUTHORITY])
def test_labels_are_never_said_to_be_nothing(runs, party, more):
    run = runs("vertical_fe", **{**BUDGET, **more})[0]
    lines = [line for line in learned(run.view(party), run.moments()) if line.quantity == "labels"]
    first = [line for line in lines if line.how == "bounded"]
    assert first and first[0].data["samples"] == [[0, 32 if party == "cloud_trainer" else 16]]
    assert ("less that of all others" in first[0].detail) == bool(more)
    exact = [line for line in lines if line.how == "exact"]
    assert bool(exact) == (party == "cloud_trainer" and not more)
    headers = [line for line in learned(run.view(party).headers()) if line.quantity == "labels"]
    assert headers and headers[0].how == "bounded"


def test_the_authority_sees_the_first_sums_rounded(runs):
    run = runs("vertical_fe", **BUDGET)[0]
    truth, found = run.truth(), rebuilt(run, "class_sums", AUTHORITY)
    assert found.index.tolist() == list(range(16))
    assert np.array_equal(np.bincount(found.per_sample["label"]), np.bincount(truth.labels[:16]))
    why = attacked(runs("vertical_fe", **{**BUDGET, "target": 1})[0], "class_sums", AUTHORITY)["why"]
    assert "leave no sum of a single class" in why
