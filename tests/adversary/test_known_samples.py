"""MITIG1: samples from some known ones, through what every key gives on every ciphertext."""

from types import SimpleNamespace

import numpy as np
import pytest

from parties.adversary.attack import Known, NotApplicable, Prior, Relations
from parties.adversary.attacks import known_samples
from protocols.language.relations import Instance, Keys, Map, now
from scenarios.score.metrics import score
from tests.adversary.common import rebuilt, solved, stated
from tests.adversary.test_lattice import DIGITS
from tests.adversary.test_subset_sum import KEYS, STEPS, trained
from tests.conftest import small

RUN = {
    "samples": None,
    "hidden": 8,
    "batch": 4,
    "rounds": 4,
    "epochs": None,
}  # 32 keys, 24 of which are used; n = 16


def attack(run, known=None, *parties):
    return rebuilt(run, "known_samples", *parties, known=known)


def secrets(samples=300, keys=80, seed=0):
    """Digits under a private integer W1: (x, z)."""
    x = small("plain", samples=samples).data.x_train.astype(np.int64)
    w = np.random.default_rng(seed).integers(-9, 10, (keys, x.shape[1]))
    return x, x @ w.T


def test_61_known_samples_give_nearly_all_pixels_of_the_others():
    x, z = secrets()
    found, rank = known_samples.solve_known(z[:61], x[:61], z[61:], 16)
    assert (found == x[61:]).mean() > 0.95 and rank > 45


def test_25_known_samples_in_the_view_of_a_cloud_give_whole_images():
    """The attack on what keys of five steps give on all ciphertexts."""
    x, public = DIGITS[360:456], DIGITS[:360] / 16
    z, known = trained(x, 1), Known(np.arange(25), x[:25], np.zeros(25, np.int64))
    instance = Instance(
        (np.arange(96),),
        lambda: iter([
            Keys(t, SimpleNamespace(elements=[t] * KEYS), map=Map("w1", 0, t)) for t in range(STEPS)
        ]),
        lambda key, block, which: z[which][:, KEYS * key.elements[0] :][:, :KEYS],
        None, None, None, None, columns=64, hides=True,
    )  # fmt: skip
    prior = Prior(16, (8, 8), public, known=known)
    found = solved("known_samples", Relations(lambda: [instance]), prior)
    right = (np.rint(found.values * 16) == x[25:]).all(axis=1)
    whole = found.notes["solved_in_whole_numbers"]
    assert 50 < whole <= right.sum() and right.mean() > 0.85
    assert whole + found.notes["likely_but_for_pixels_that_no_known_sample_shows"] == 71


def test_fewer_known_samples_give_images_near_the_truth():
    x, z = secrets()
    found, _ = known_samples.solve_known(z[:20], x[:20], z[20:], 16)
    errors = ((found - x[20:]) ** 2).mean() / 256, ((x[:20].mean(axis=0) - x[20:]) ** 2).mean() / 256
    assert errors[0] < 0.5 * errors[1]


def test_swapped_products_are_no_better_than_the_prior():
    x, z = secrets()
    found, _ = known_samples.solve_known(np.roll(z[:61], 7, axis=0), x[:61], z[61:], 16)
    assert ((found - x[61:]) ** 2).mean() > ((x[:61].mean(axis=0) - x[61:]) ** 2).mean()


def test_every_key_of_a_run_works_on_every_ciphertext(runs, stamps):
    run, _ = runs("mitig1", **RUN, dataset=stamps)
    (instance,), x = stated(run).of(Instance), run.truth().images.astype(np.int64)
    w = run.view("key_authority")["w1"][1]
    which, (_, keys, *_) = np.array([0, 3, 4, 15]), instance.messages()
    z = instance.products(now(keys.key), 0, which)
    assert np.array_equal(z, x[which] @ w.astype(np.int64).T)


def test_on_a_run_the_images_lie_nearer_than_the_guess_and_known_ones_are_left_out(runs, stamps):
    run, _ = runs("mitig1", **RUN, dataset=stamps)
    found, truth = attack(run, 10), run.truth()
    assert len(found.index) == 6 and not set(found.index) & set(run.prior(known=10).known.index)
    guess = ((run.prior().guess() - truth.pixels(found.index)) ** 2).mean()
    assert score(found, truth, run.prior(), 0)["mse"] < guess and found.notes["keys_used"] == 24


def test_a_sample_in_the_span_of_known_ones_is_exact():
    x, z = secrets(samples=40)
    mixture, seen = x[:1] + x[1:2] - x[2:3], z[:1] + z[1:2] - z[2:3]
    found, _ = known_samples.solve_known(z[:10], x[:10], seen, 16)
    assert np.array_equal(found, np.clip(mixture, 0, 16))


def test_owners_that_begin_a_round_with_the_same_weights_are_solved_together(runs, stamps):
    run, _ = runs("mitig1", **RUN, owners=2, dataset=stamps)
    (group,) = known_samples.groups(stated(run))
    assert [[keys.since for keys in messages] for _, messages in group] == [[0, 1, 3], [0, 1, 3]]


@pytest.mark.parametrize(("scenario", "known", "party", "said"), [
    ("mitig1", None, "cloud_trainer", "give --known"),
    ("mitig1", 4, "key_authority", "holds no Instance|holds no keys that hide"),
    ("mitig2", 4, "cloud_trainer", "holds no Instance|holds no keys that hide"),
    ("plain_fe", 4, "cloud_trainer", "holds no Instance|holds no keys that hide"),
])  # fmt: skip
def test_views_that_do_not_fit_are_not_applicable_with_the_reason(runs, stamps, scenario, known, party, said):
    run, _ = runs(scenario, **({**RUN, "dataset": stamps} if scenario == "mitig1" else {}))
    with pytest.raises(NotApplicable, match=said):
        attack(run, known, party)
