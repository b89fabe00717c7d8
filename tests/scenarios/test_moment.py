"""When an attack begins to succeed, found by bisection over the messages of a view."""

import pytest

from parties.adversary.adversary import Adversary
from parties.adversary.dates import first as first_position
from scenarios.run.attacks import attack_run
from scenarios.run.moment import with_moments
from scenarios.show.summary import moment_table
from tests.scenarios.test_attacks import CLOUD, ENOUGH


@pytest.fixture(scope="module")
def runs(runs_without_ledger):
    """Attacks look at views."""
    return runs_without_ledger


def moments(run, name):
    rows = attack_run(run, [name], CLOUD, run.prior(), Adversary)
    (row,) = with_moments(run, rows, run.prior())
    return row


@pytest.mark.parametrize("guess", [None, *range(7)])
@pytest.mark.parametrize("first", range(7))
def test_bisection_finds_the_first_position_from_which_on_it_holds(first, guess):
    asked = []

    def holds(position):
        asked.append(position)
        return position >= first

    assert first_position(7, holds, guess) == first
    assert guess != first or set(asked) <= {6, first, first - 1}, "a right guess is confirmed, not searched"
    assert first_position(7, lambda position: False, guess) is None
    assert first_position(0, lambda position: True, guess) is None


def test_stack_succeeds_with_the_keys_of_the_step_that_completes_the_rank(runs):
    row = moments(runs("plain_fe", **ENOUGH)[0], "stack")
    found = row["first_success"]["any"]
    assert (found["label"], found["receiver"]) == ("sk_w1", "cloud_trainer")
    assert found["round"] == row["metrics"]["solved_at_step"] and found == row["first_success"]["all"]


def test_one_message_less_does_not_suffice(runs):
    run, _ = runs("plain_fe", **ENOUGH)
    seq = moments(run, "stack")["first_success"]["all"]["seq"]
    adversary = Adversary(run.view_sources(CLOUD))
    before, after = (
        adversary.attack("stack", run.prior(), 0, until).reconstruction for until in (seq - 1, seq)
    )
    assert before is None and after is not None


def test_labels_are_known_with_the_upload(runs):
    found = moments(runs("plain_fe")[0], "labels")["first_success"]["any"]
    assert (found["phase"], found["label"]) == ("upload", "labels")


def test_a_message_outside_of_rounds_is_told_by_the_name_of_its_phase(runs):
    row = moments(runs("plain_fe")[0], "labels")
    row["first_success"]["any"] |= {"phase": "setup", "round": -1}
    (when,) = (column for column in moment_table([row]).columns if column.header == "when")
    assert list(when.cells) == ["setup", "upload 0"]


def test_the_first_sample_of_an_attack_that_grows_is_dated_before_the_last(runs):
    found = moments(runs("plain_fe", **{**ENOUGH, "hidden": 32})[0], "gradient")["first_success"]
    assert (found["any"]["round"], found["any"]["label"], found["all"]["round"]) == (0, "dw1", 3)


def test_an_attack_that_never_succeeds_is_never_dated(runs):
    row = moments(runs("plain_fe", samples=16)[0], "lp")
    assert (
        row["applicable"]
        and row["first_success"]["any"] is None
        and "none met" in row["first_success"]["criterion"]
    )


def test_an_attack_that_solves_some_images_is_dated_by_those(runs):
    row = moments(runs("plain_fe")[0], "gradient")
    found = row["first_success"]
    assert 0 < row["metrics"]["exact_images"] < row["samples"]
    assert found["criterion"].startswith("images exact in every pixel, of those that it rebuilt")
    assert (found["any"]["label"], found["any"]["round"]) == ("dw1", 0)
    assert found["any"]["seq"] <= found["all"]["seq"]
