"""A malicious cloud: what it replaces, that the run says so, and that its unit keys open everything."""

import json

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner

from parties.adversary.adversary import Adversary
from parties.adversary.attack import NotApplicable
from parties.record.view import Record
from protocols.language.errors import ConfigError
from protocols.network.config import Scheme
from scenarios.cli import app
from scenarios.run.attacks import attack_run
from tests.adversary.common import CLOUD, attacked, rebuilt
from tests.conftest import RESULT_SCHEMA, small

MALICIOUS = {"samples": 24, "hidden": 24, "batch": 8, "epochs": 2, "malicious": "unit_keys"}


def steps_of(run, party):
    return [(phase, number, step) for _, phase, number, step in run.view(party).steps()]


@pytest.mark.parametrize("options", [{}, {"scheme": Scheme.DDH}, {"owners": 3}], ids=str)
def test_unit_keys_open_every_sample_after_n_over_h_steps(runs, options):
    row = attacked(runs("plain_fe", **MALICIOUS, **options)[0], "unit_keys")
    assert row["metrics"]["exact_pixels"] == 1.0 and row["samples"] == 24
    assert (
        row["metrics"]["solved_at_step"] == 2 and row["notes"]["unit_keys"] == 64
    )  # 64 pixels, 24 keys a step


def test_the_cloud_replaces_one_local_step_and_nothing_else(runs):
    honest = steps_of(runs("plain_fe", **{**MALICIOUS, "malicious": None})[0], *CLOUD)
    deviating = steps_of(runs("plain_fe", **MALICIOUS)[0], *CLOUD)
    changed = [(a, b) for a, b in zip(honest, deviating, strict=True) if a != b]
    assert [number for (_, number, _), _ in changed] == list(range(6))
    assert {(a[2], b[2]) for a, b in changed} == {
        ("protocols.network.training.quantised_w1", "parties.adversary.behaviours.unit_keys.unit_rows")
    }


@pytest.mark.parametrize("party", ["key_authority", "data_owner:0"])
def test_the_steps_of_honest_parties_stay_as_they_are(runs, party):
    honest, _ = runs("plain_fe", **{**MALICIOUS, "malicious": None})
    assert steps_of(runs("plain_fe", **MALICIOUS)[0], party) == steps_of(honest, party)


def test_the_requests_are_unit_vectors_and_then_w1(runs):
    requests = runs("plain_fe", **MALICIOUS)[0].view("key_authority")["w1"]
    units = np.vstack(requests[:3])
    assert (
        np.array_equal(units, np.eye(64)[np.arange(72) % 64]) and units.dtype == requests[3].dtype == np.int16
    )
    assert all(np.count_nonzero(w1) > 1000 for w1 in requests[3:])


def test_result_and_summary_say_that_the_cloud_was_malicious(whole_runs):
    result = whole_runs("plain_fe", **MALICIOUS)[0].result
    assert result["malicious"] == [{"party": "cloud_trainer", "deviation": "unit_keys", "steps": 3,
                                    "step": "parties.adversary.behaviours.unit_keys.unit_rows"}]  # fmt: skip
    assert "MALICIOUS" in result["security"]["cloud"] and result["config"]["deviation"] == "unit_keys"
    jsonschema.validate(result, RESULT_SCHEMA)
    assert "malicious" not in whole_runs()[0].result


def test_other_attacks_use_the_unit_keys_too(runs):
    run, _ = runs("plain_fe", **MALICIOUS)
    for row in attack_run(run, ["stack", "master_key"], CLOUD, run.prior(), Adversary):
        assert row["metrics"]["exact_pixels"] == 1.0 and row["metrics"]["solved_at_step"] == 2


def test_an_honest_run_holds_no_unit_key(runs):
    assert attacked(runs()[0], "unit_keys")["why"].startswith("no key of a unit vector in the view")


def test_until_all_units_were_asked_for_the_other_pixels_are_a_guess(runs):
    run, _ = runs("plain_fe", **MALICIOUS)
    seq = next(row.seq for row in run.view(*CLOUD).rows("sk_w1"))
    found = rebuilt(run, "unit_keys", until=seq)
    truth = run.truth()
    assert found.solved_at_step is None and np.array_equal(found.values[:, :24] * 16, truth.images[:, :24])
    assert np.allclose(found.values[:, 24:], run.prior().guess()[24:])


def test_before_the_first_key_or_without_payloads_nothing_is_found(runs):
    run, _ = runs("plain_fe", **MALICIOUS)
    seq = next(row.seq for row in run.view(*CLOUD).rows("sk_w1"))
    for until in range(seq):
        with pytest.raises(NotApplicable, match="holds no|no key of a unit"):
            rebuilt(run, "unit_keys", until=until)
    assert (
        attacked(runs("plain_fe", **MALICIOUS, record=Record.HEADERS)[0], "unit_keys")["why"]
        == "payloads not recorded"
    )


@pytest.mark.parametrize("party", ["key_authority", "data_owner:0"])
def test_only_the_cloud_holds_the_keys_and_the_ciphertexts(runs, party):
    assert "holds no Instance" in attacked(runs("plain_fe", **MALICIOUS)[0], "unit_keys", party)["why"]


@pytest.mark.parametrize("scenario", ["plain", "mitig2"])
def test_other_protocols_have_no_such_keys(runs, scenario):
    assert "holds no Instance" in attacked(runs(scenario)[0], "unit_keys")["why"]


def test_other_scenarios_refuse_the_option():
    with pytest.raises(ConfigError, match="--malicious is no option of mitig2"):
        small("mitig2", malicious="unit_keys")


def test_the_command_line_takes_the_name_and_refuses_others(tmp_path):
    base = [
        "run",
        "plain-fe",
        "--runtime",
        "inline",
        "--samples",
        "8",
        "--hidden",
        "32",
        "--batch",
        "4",
        "--epochs",
        "1",
        "--seed",
        "1",
    ]
    done = CliRunner().invoke(
        app, [*base, "--malicious", "unit-keys", "--json", "--out", str(tmp_path / "run")]
    )
    assert done.exit_code == 0 and json.loads(done.stdout)["malicious"][0]["steps"] == 2
    refused = CliRunner().invoke(app, [*base, "--malicious", "magic"])
    assert refused.exit_code == 2
