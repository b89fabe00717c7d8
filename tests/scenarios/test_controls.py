"""Zero lines: the protocol and the attack run again where the secrets are others."""

import numpy as np
import pytest

from parties.adversary.adversary import Adversary
from parties.data.datasets import DataSpec, load
from protocols.language.errors import ConfigError
from protocols.network.config import Labels
from scenarios.run.attacks import attack_run
from scenarios.run.controls import with_controls
from scenarios.show.summary import measure, verdict
from tests.scenarios.test_attacks import CLOUD, ENOUGH


@pytest.fixture(scope="module")
def runs(runs_without_ledger):
    """Attacks look at views."""
    return runs_without_ledger


def controlled(run, name, known=None):
    prior = run.prior(known=known)
    (row,) = with_controls(run, attack_run(run, [name], CLOUD, prior, Adversary), prior)
    return row


def test_swapped_samples_are_those_of_others():
    plain, swapped = (load(DataSpec("digits", samples=40, seed=3, control=c)) for c in ("", "swapped"))
    assert np.array_equal(np.roll(plain.x_train, 20, axis=0), swapped.x_train)
    assert np.array_equal(np.roll(plain.y_train, 20), swapped.y_train) and np.array_equal(
        plain.x_test, swapped.x_test
    )


def test_a_simulator_that_knows_the_labels_draws_held_out_images_of_each_class():
    plain, drawn = (load(DataSpec("digits", samples=40, seed=3, control=c)) for c in ("", "relabelled"))
    held_out = {(x.tobytes(), y) for x, y in zip(plain.x_test, plain.y_test, strict=True)}
    assert np.array_equal(plain.y_train, drawn.y_train)
    assert {(x.tobytes(), y) for x, y in zip(drawn.x_train, drawn.y_train, strict=True)} <= held_out


def test_an_unknown_control_is_refused():
    with pytest.raises(ConfigError, match="swapped"):
        DataSpec("digits", control="other")


@pytest.mark.parametrize("name", ["stack", "master_key", "smooth", "lp"])
def test_an_attack_on_other_secrets_is_no_better_than_its_prior(runs, name):
    row = controlled(runs("plain_fe", **ENOUGH)[0], name)
    for control in row["controls"].values():
        assert control["applicable"] and control["gain"]["interval"][0] <= 0
        assert verdict(row, control, measure(control["metrics"])) == "no better than its prior"


def test_labels_in_the_clear_are_an_allowed_output_and_labels_under_febo_are_not(runs):
    clear = controlled(runs("plain_fe", **ENOUGH)[0], "labels")["controls"]
    febo = controlled(runs("plain_fe", **ENOUGH, labels=Labels.FEBO)[0], "labels")["controls"]
    assert clear["ideal"]["metrics"]["labels_right"] == 1.0 and clear["swapped"]["gain"]["interval"][0] <= 0
    assert all(control["gain"]["interval"][0] <= 0 for control in febo.values())
