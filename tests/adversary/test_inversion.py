"""UnSplit on MITIG2: what a surrogate and inputs, fitted in turn, make of Z1."""

import numpy as np
import pytest
import torch

from parties.adversary.attack import LIMIT, NotApplicable, Prior, Quantity
from parties.adversary.attacks import inversion
from parties.record.view import Record
from protocols.language.relations import now
from protocols.network.config import Labels, Optimizer
from tests.adversary.common import rebuilt, stated
from tests.conftest import MANY, TINY

SHAPE = (4, 6)


def pictures(count, seed):
    """Images of one bright blob each, (count, 24) in [0, 1], of varied brightness."""
    rng = np.random.default_rng(seed)
    place, (i, j) = rng.random((count, 2)) * np.array(SHAPE), np.indices(SHAPE)
    near = [np.exp(-((i - a) ** 2 + (j - b) ** 2) / 4) for a, b in place]
    return np.reshape(near, (count, 24)) * rng.uniform(0.2, 1.0, (count, 1))


def attacked(run, prior=None, until=None):
    return rebuilt(run, "inversion", prior=prior, until=until)


@pytest.mark.parametrize(
    "options", [{}, MANY, {"labels": Labels.OWNER}, {"optimizer": Optimizer.ADAM}], ids=str
)
def test_the_first_samples_come_back_as_images_with_their_positions(runs, options):
    found = attacked(runs("mitig2", **options)[0])
    assert found.quantity is Quantity.IMAGES and found.values.shape == (LIMIT, 64)
    assert len(set(found.index.tolist())) == LIMIT and np.isfinite(found.values).all()
    assert found.values.min() >= 0 and found.values.max() <= 1
    assert found.notes["loss_after"] < 1e-3 < found.notes["loss_before"]


@pytest.mark.parametrize("more", [{}, {"per_round": 2, "local_steps": 2}], ids=str)
def test_each_batch_is_put_where_its_samples_stand(runs, more):
    run, _ = runs("mitig2", **MANY, **more)
    images, local = run.truth().pixels(np.arange(48)), more.get("local_steps", 1)
    means = {row.round: w1 for row, w1 in run.view("key_authority").values("w1_mean")}
    seen = [s for s in inversion.first_batches(stated(run)) if s.since % local == 0]
    assert len(seen) >= 3 and len({s.samples[0] for s in seen}) == len(seen)
    for s in seen:
        assert np.allclose(now(s.values) / 16, images[s.samples] @ means[s.since // local].T, atol=1e-5)


def test_what_a_rotation_leaves_alone_beats_the_mean_image():
    public, private = pictures(400, 1), pictures(60, 2)
    z = private @ inversion.draw_surrogate(200, 24, np.random.default_rng(3)).T
    begin = inversion.start(z, Prior(255, SHAPE, public), np.random.default_rng(4))
    error, mean = ((begin - private) ** 2).mean(), ((public.mean(axis=0) - private) ** 2).mean()
    assert error < 0.9 * mean


def test_invariants_do_not_change_under_rotation_and_scale():
    rng = np.random.default_rng(0)
    z, turn = rng.random((9, 5)), np.linalg.qr(rng.normal(size=(5, 5)))[0]
    assert np.allclose(inversion.invariants(z), inversion.invariants(3.0 * z @ turn))


def test_the_features_of_the_regression_are_all_products_of_two():
    assert inversion._quadratic(np.array([[2.0, 3.0]])).tolist() == [[1, 2, 3, 4, 6, 9]]


def test_the_surrogate_explains_z_and_is_the_nearest_to_the_drawn_one():
    rng = np.random.default_rng(0)
    x, z, first = (torch.as_tensor(rng.random(s)) for s in ((4, 10), (4, 3), (3, 10)))
    w = inversion.solve_surrogate(x, z, first)
    least = first + torch.linalg.pinv(x).mm(z - x @ first.T).T
    assert torch.allclose(w, least, atol=1e-4) and torch.allclose(x @ w.T, z, atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 2), (1, 24)])
def test_variation_is_the_mean_squared_step_to_the_neighbours(shape):
    x = np.random.default_rng(0).random((3, 24))
    picture = x.reshape(3, *shape)
    steps = [np.diff(picture, axis=d) ** 2 for d in (1, 2)]
    expected = sum(step.mean() for step in steps if step.size)
    assert inversion.variation(torch.as_tensor(x), shape).item() == pytest.approx(expected)


def test_without_public_images_it_starts_at_gray_and_says_so(runs):
    run, _ = runs("mitig2")
    found = attacked(run, Prior(16, (8, 8)))
    assert found.notes["start"] == "mid-range" and found.values.shape == (LIMIT, 64)


def test_its_draws_come_from_rng_alone_and_leave_torch_untouched(runs):
    run, _ = runs("mitig2")
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second = attacked(run), attacked(run)
    assert np.array_equal(first.values, second.values) and torch.equal(state, torch.get_rng_state())


def test_a_prefix_of_a_view_gives_the_samples_seen_so_far(runs):
    run, _ = runs("mitig2")
    seq = next(run.view("cloud_trainer").rows("z1")).seq
    assert attacked(run, until=seq).index.tolist() == list(range(16))
    with pytest.raises(NotApplicable, match="no Products"):
        attacked(run, until=seq - 1)


@pytest.mark.parametrize(("scenario", "party", "options", "said"), [
    ("mitig1", "cloud_trainer", TINY, "holds no Products"),
    ("plain_fe", "cloud_trainer", {}, "holds no Products"),
    ("mitig2", "data_owner:0", {}, "holds no Products"),
    ("mitig2", "cloud_trainer", {"record": Record.HEADERS}, "payloads not recorded"),
    ("mitig2", "cloud_trainer", {"defence": ("augment:1",)}, "moves its images anew at each visit"),
    ("mitig2", "cloud_trainer", {"defence": ("unlinkable",), "labels": "owner"}, "shuffles its samples"),
])  # fmt: skip
def test_other_views_are_not_applicable_with_the_reason(runs, scenario, party, options, said):
    run, _ = runs(scenario, **options)
    with pytest.raises(NotApplicable, match=said):
        rebuilt(run, "inversion", party)
