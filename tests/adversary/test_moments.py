"""`moments`: batches from gradients of linear models, on made-up gradients and on real transcripts."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from parties.adversary.attack import Relations
from parties.adversary.attacks import moments
from parties.adversary.knowledge import learned
from parties.adversary.rules import Sight
from parties.adversary.rules.statements import differenced
from protocols.crypto import qfe
from protocols.language.relations import Gradients
from tests.adversary.common import attacked

SCALE = 256 * 16
VERTICAL = {"samples": 16, "batch": 4, "epochs": 2, "owners": 2}


def pictures(size, seed=0):
    """Smooth images of 64 pixels up to 16, with dark borders."""
    rng = np.random.default_rng(seed)
    x = np.clip(rng.integers(0, 17, (size, 8, 8)) + rng.integers(-6, 7, (size, 8, 1)), 0, 16)
    x[:, :, 0] = 0
    return x.reshape(size, 64)


def gradients(x, steps, heads=(0,), change=0, seed=0):
    """Of models of so many steps, for each head; `change` is added to one entry."""
    rng, count = np.random.default_rng(seed), len(heads)
    w = rng.integers(-99, 100, (steps, count, 64))
    w[0] = 0
    t = rng.choice([-1, 1], (len(x), count))
    values = np.einsum("shm,mn->shn", np.einsum("shn,mn->shm", w, x) - SCALE * t.T, x)
    values[min(1, steps - 1), 0, 5] += change
    return t, Gradients(
        np.arange(len(x)),
        w.reshape(-1, 64),
        lambda some: values[np.isin(np.arange(steps), some)].reshape(-1, 64),
        np.tile(heads, steps),
        np.repeat(np.arange(steps), count),
        SCALE,
    )


def same(found, x):
    return sorted(map(tuple, found.tolist())) == sorted(map(tuple, x.tolist()))


@pytest.mark.parametrize("size", [1, 8, 16, 32])
def test_a_batch_is_exact_after_one_step_more_than_it_has_samples(size):
    x = pictures(size)
    early, late = (moments.opened(gradients(x, steps)[1], 16) for steps in (size, size + 1))
    assert early.rows is None and early.rank == size - 1
    assert late.since == size and np.array_equal(late.matrix, x.T @ x) and same(late.rows, x)


def test_heads_count_as_steps_and_their_targets_follow():
    x = pictures(12)
    t, relation = gradients(x, 4, heads=(0, 1, 2, 3))
    found = moments.opened(relation, 16)
    assert found.since == 3 and same(found.rows, x)
    rows = [next(i for i in range(12) if np.array_equal(x[i], row)) for row in found.rows]
    assert np.array_equal(moments.targets(relation, found.rows), t[rows])
    assert moments.targets(relation, found.rows[:, ::-1]) is None


@pytest.mark.parametrize("change", [1, -1000])
def test_gradients_of_something_else_give_nothing(change):
    found = moments.opened(gradients(pictures(8), 12, change=change)[1], 16)
    assert found.matrix is None and found.rows is None


def test_pixels_beyond_the_range_are_no_batch():
    assert moments.opened(gradients(pictures(8), 12)[1], 4).rows is None


def test_equal_and_empty_images_are_found_as_often_as_they_are_there():
    x = pictures(6)
    x[3] = 0
    found = moments.opened(gradients(x, 8)[1], 16)
    assert found.rank == 5 and same(found.rows, x)


def test_fewer_columns_than_samples_give_the_whole_matrix_and_no_batch():
    x = np.random.default_rng(0).integers(0, 17, (8, 64)) * (np.arange(64) < 4)
    wide = gradients(x, 6)[1]
    cut = replace(
        wide, weights=np.asarray(wide.weights)[:, :4], values=lambda some: wide.values(some)[:, :4]
    )  # columns that are zero move nothing
    found = moments.opened(cut, 16)
    assert found.rank == 4 and found.since == 4 and np.array_equal(found.matrix, (x.T @ x)[:4, :4])
    assert found.rows is None
    assert moments.root(np.array([[25]]), 1, 2, 16) is None  # 5 and 0, or 3 and 4
    config = SimpleNamespace(counts=(8,), x_max=16, shape=(2, 2), features=4)
    lines = list(differenced(Sight(Relations(lambda: [cut]), config, True)))
    assert [line.how for line in lines] == ["bounded"]
    assert "rank 4 of 4, and so whole, entry by entry, of 1 of 1 batches tried" in lines[0].detail


@pytest.mark.parametrize("more", [{"target": 1}, {"target": -1, "model": "logistic"}], ids=str)
def test_every_image_of_a_real_run_is_exact(runs, more):
    row = attacked(runs("vertical_fe", **VERTICAL, **more)[0], "moments")
    assert row["metrics"]["exact_images"] == 16 and row["metrics"]["failures"] == 0
    assert row["metrics"]["solved_at_step"] == (4 if more["target"] == 1 else 1)


def test_a_short_run_a_view_without_keys_and_errors_are_not_applicable(runs):
    short = attacked(runs("vertical_fe", **{**VERTICAL, "epochs": 1, "batch": 8}, target=1)[0], "moments")
    assert "1 directions, for batches of 8" in short["why"]
    run = runs("vertical_fe", **VERTICAL, target=1)[0]
    assert "holds no Gradients" in attacked(run, "moments", "key_authority")["why"]


@pytest.mark.parametrize("mode", ["quadratic", "fedv"])
@pytest.mark.parametrize("party", ["key_authority", "data_owner:1"])
def test_the_cloud_with_the_authority_or_an_owner_opens_everything(runs, mode, party):
    run = runs("vertical_fe", **VERTICAL, target=1, mode=mode)[0]
    row = attacked(run, "master_key", "cloud_trainer", party)
    assert row["metrics"]["exact_images"] == 16 and not row["metrics"]["failures"]


def test_a_ledger_opens_each_gradient_once(runs, monkeypatch):
    run, opened = runs("vertical_fe", **VERTICAL, target=1)[0], []
    decrypt = qfe.decrypt

    def counted(mpk, sk, ct, *more):
        opened.append((bytes(sk.elements), bytes(ct.gamma)))
        return decrypt(mpk, sk, ct, *more)

    monkeypatch.setattr(qfe, "decrypt", counted)
    view = run.view("cloud_trainer")
    before = learned(view, run.moments())
    assert any(line.how == "exact" and line.since_round == 4 for line in before)
    assert 8 < len(opened) == len(set(opened))
    assert learned(view, run.moments()) == before and len(opened) == len(set(opened))
    assert (
        learned(view.headers(), run.moments()) != before
    )  # what is known of payloads is not said of headers
