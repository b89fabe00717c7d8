"""What the authority knows: with ciphertexts everything, by its coins; without, an estimate that sharpens
with the weight scale.
"""

from dataclasses import replace

import numpy as np
import pytest

from parties.adversary.adversary import Adversary
from parties.adversary.attack import NotApplicable, Prior
from parties.adversary.attacks.requests import LIMIT, covariance, in_box, normal_equations, read
from parties.adversary.catalogue import ATTACKS, PRESETS, find_target
from parties.record.transcript import Record
from protocols.language.errors import ConfigError
from protocols.network.config import Gradient, Optimizer, Scheme
from scenarios.run.attacks import attack_run
from tests.adversary.common import attacked, rebuilt, stated
from tests.conftest import small

BOTH = ("key_authority", "cloud_trainer")
REQUESTS = {"samples": 40, "hidden": 24, "epochs": 3, "gradient": Gradient.FE}


@pytest.mark.parametrize(
    "options", [{}, {"scheme": Scheme.DDH}, {"owners": 3}, {"gradient": Gradient.FE}], ids=str
)
def test_the_coins_of_the_authority_open_every_ciphertext_from_the_start(runs, options):
    row = attacked(runs("plain_fe", samples=24, batch=8, **options)[0], "authority")
    assert row["attack"] == "master_key" and row["preset"] == "authority" and row["corrupted"] == [*BOTH]
    assert row["metrics"]["exact_pixels"] == 1.0 and row["metrics"]["solved_at_step"] == 0
    assert row["notes"]["matches_public_key"] and row["notes"]["opens_fresh_ciphertext"]
    assert (
        row["notes"]["samples_not_yet_used"] == 24
        and row["notes"]["from"] == "the authority's coins, put through Setup again"
    )


def test_it_needs_no_function_key_at_all(runs):
    run, _ = runs("plain_fe", samples=24, batch=8)
    uploaded = next(row.seq for row in run.view("cloud_trainer").rows("ct"))
    found = rebuilt(run, "master_key", *BOTH, until=uploaded)
    assert np.array_equal(found.values * 16, run.truth().images)
    with pytest.raises(NotApplicable, match="holds no Instance"):
        rebuilt(run, "master_key", *BOTH, until=uploaded - 1)


def test_without_the_cloud_or_without_payloads_there_is_nothing_to_open(runs):
    run, _ = runs("plain_fe", samples=24, batch=8)
    assert "holds no Instance" in attacked(run, "master_key", "key_authority")["why"]
    headers, _ = runs("plain_fe", samples=24, batch=8, record=Record.HEADERS)
    assert attacked(headers, "authority")["why"] == "payloads not recorded"
    requests, _ = runs("plain_fe", **REQUESTS, record=Record.HEADERS)
    assert attacked(requests, "authority_alone")["why"] == "payloads not recorded"


def test_coins_of_another_party_are_no_master_key(runs):
    run, _ = runs("plain_fe", samples=24, batch=8)
    assert (
        "of 64: the function keys do not determine"
        in attacked(run, "master_key", "cloud_trainer", "data_owner:0")["why"]
    )


def test_the_estimate_without_ciphertexts_sharpens_with_the_weight_scale(runs):
    mse = []
    for scale in (64, 1024, 16384):
        row = attacked(runs("plain_fe", **REQUESTS, weight_scale=scale)[0], "authority_alone")
        mse.append(row["metrics"]["mse"])
        assert (
            row["samples"] == 40
            and row["corrupted"] == ["key_authority"]
            and row["metrics"]["solved_at_step"] is None
        )
    assert (
        row["baseline"]["guess"]["mse"] > mse[0] > 1.5 * mse[1] > 3 * mse[2]
        and row["baseline"]["swapped"]["mse"] > 0.05
    )


@pytest.mark.parametrize("options", [{"momentum": 0.0}, {"owners": 2}, {"malicious": "unit_keys"}], ids=str)
def test_momentum_owners_and_missing_requests_are_accounted_for(runs, options):
    row = attacked(runs("plain_fe", **REQUESTS, weight_scale=4096, **options)[0], "authority_alone")
    assert row["applicable"] and row["metrics"]["mse"] < 0.5 * row["baseline"]["guess"]["mse"]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_equations_are_those_of_training(runs, momentum):
    """With the requests replaced by what training without rounding would give, the truth solves the normal
    equations.
    """
    run, _ = runs("plain_fe", **REQUESTS, weight_scale=4096, momentum=momentum)
    config, truth = run.config(), run.truth()
    requests, index = read(stated(run, "key_authority")), np.arange(40)
    w, v, exact = requests.w[0].copy(), 0.0, []
    for dz1, samples in zip(requests.dz1, requests.used, strict=True):
        exact.append(w.copy())
        v = momentum * v + dz1 @ (truth.images[samples] / config.x_max) / len(samples)
        w -= config.lr * v
    gram, right = normal_equations(replace(requests, w=np.array([*exact, w])), index)
    assert np.allclose(gram @ truth.images, right, atol=1e-9 * np.abs(gram).max())


def test_the_estimate_stays_in_the_box_and_is_the_prior_without_equations():
    prior = Prior(16, (2, 2), np.random.default_rng(0).random((50, 4)))
    nothing = in_box(np.zeros((3, 3)), np.zeros((3, 4)), prior)
    assert np.allclose(nothing, prior.guess(), atol=1e-6)
    x = in_box(np.eye(3) * 1e6, np.full((3, 4), 2e6), prior)
    assert (x <= 1).all() and x.min() > 0.99 and (np.linalg.eigvalsh(covariance(Prior(16, (2, 2)))) > 0).all()


def test_a_prefix_of_the_requests_concerns_the_samples_of_its_steps(runs):
    run, _ = runs("plain_fe", **REQUESTS, weight_scale=1024)
    seq = [row.seq for row in run.view("key_authority").rows("w1")]
    prefix = rebuilt(run, "gradient", "key_authority", until=seq[1])
    assert prefix.index.tolist() == list(range(16)) and prefix.values.shape == (16, 64)
    for until in (seq[0], seq[1] - 1):
        with pytest.raises(NotApplicable, match="fewer than two times|holds no"):
            rebuilt(run, "gradient", "key_authority", until=until)


def test_runs_that_it_does_not_fit_are_not_applicable(runs):
    adam, _ = runs("plain_fe", **REQUESTS, optimizer=Optimizer.ADAM)
    assert "uses Adam" in attacked(adam, "authority_alone")["why"]
    assert "fewer than two times" in attacked(runs()[0], "authority_alone")["why"]
    split, _ = runs("mitig2", owners=3, samples=48)
    assert "fewer than two times" in attacked(split, "gradient", "key_authority")["why"]


def test_presets_are_attacks_with_a_coalition(runs):
    assert all(preset.attack in ATTACKS and preset.corrupted for preset in PRESETS.values()) and LIMIT >= 1437
    with pytest.raises(ConfigError, match="authority-alone"):
        find_target("magic")
    with pytest.raises(ConfigError, match="no party 'key_authority' takes part"):
        small("plain", attack=("authority",))
    with pytest.raises(ConfigError, match="no party 'key_authority'"):
        attacked(runs("plain")[0], "authority")


def test_each_preset_is_handed_its_own_coalition_only(runs):
    run, _ = runs("plain_fe", samples=24, batch=8)
    rows = attack_run(
        run, ["labels", "authority", "authority_alone", "stack"], ("cloud_trainer",), run.prior(), Adversary
    )
    assert [row["corrupted"] for row in rows] == [
        ["cloud_trainer"],
        [*BOTH],
        ["key_authority"],
        ["cloud_trainer"],
    ]
    assert attack_run(run, [], ("cloud_trainer",), run.prior(), Adversary) == []
