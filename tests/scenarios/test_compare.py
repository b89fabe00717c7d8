"""Runs side by side: `keyhole run compare`, `keyhole compare`, and costs extrapolated from a few steps."""

import csv
import io
import json
import shutil
from contextlib import nullcontext
from dataclasses import asdict, replace

import jsonschema
import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from parties.adversary.attack import Learned
from parties.record.transcript import Record
from protocols.language.errors import ConfigError, StepError
from protocols.network.config import Scheme
from scenarios.run.catalogue import PROTOCOLS, find_scenario
from scenarios.run.execute import execute
from scenarios.run.experiment import prepare
from scenarios.run.folder import RunFolder
from scenarios.show.charts import draw_comparison
from scenarios.show.comparison_table import show_comparison
from scenarios.show.units import span
from scenarios.study import compare as scenario
from scenarios.study import cost, leakage
from scenarios.study.comparison import differences, extrapolated_row, finished_row, ignored_notes, refused_row
from scenarios.study.comparison_schema import compare_schema
from tests.conftest import small
from tests.scenarios.test_cli import keyhole, one_line

TINY = ["--runtime", "inline", "--samples", "16", "--hidden", "2", "--batch", "8", "--epochs", "1",
        "--no-audit"]  # fmt: skip
COMPARE_SCHEMA = compare_schema()
NAMES = [each.name for each in scenario.contenders()]


def rows_of(content):
    return {row["name"]: row for row in content["rows"]}


def read(folder):
    return json.loads((folder / "compare.json").read_text())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(outcome, folder) of all protocols, run for real."""
    folder = tmp_path_factory.mktemp("compare") / "out"
    options = ["--seed", "5", "--weight-scale", "100", "--attack", "stack", "--out", folder]
    return keyhole("run", "compare", *TINY, *options), folder


@pytest.fixture(scope="module")
def guessed(tmp_path_factory):
    """The same without a budget: what encrypts is extrapolated."""
    folder = tmp_path_factory.mktemp("compare") / "out"
    return keyhole(
        "run", "compare", *TINY, "--seed", "5", "--weight-scale", "100", "--budget", "0", "--out", folder
    ), folder


def test_every_protocol_runs_on_the_same_data_and_seed(done):
    outcome, folder = done
    assert outcome.exit_code == 0, outcome.output
    rows = rows_of(read(folder))
    assert list(rows) == NAMES and {row["status"] for row in rows.values()} == {"done"}
    assert len({(row["seed"], row["config"]["seed"]) for row in rows.values()}) == 1
    for row in rows.values():
        assert asdict(finished_row(RunFolder(folder / row["run"]), row["run"], row["ignored"])) == row


def test_the_table_names_every_protocol_with_its_security(done):
    text = done[0].stdout
    lines = [next(line for line in text.splitlines() if line.strip().startswith(name)) for name in NAMES]
    said = dict(zip(NAMES, lines, strict=True))
    known = {"plain": "none", "plain-fe lwe": "lwe, 128 bit", "mitig1": "fhipe in bn254",
             "plain-fe ddh": "ddh in secp256k1", "mitig2": "no encryption", "vertical-fe fedv": "ddh in",
             "vertical-fe quadratic": "qfe in bn254"}  # fmt: skip
    for name, security in known.items():
        assert security in said[name]
    assert "bytes by edge" in text and "what each party saw" in text and "attacks" in text


def test_the_table_fits_a_narrow_terminal(done):
    console = Console(width=100, record=True, file=io.StringIO())
    show_comparison(console, read(done[1]))
    lines = console.export_text().splitlines()
    line = next(line for line in lines if line.strip().startswith("mitig1 "))
    assert max(map(len, lines)) <= 100 and line.rstrip().endswith("kB")


@pytest.mark.parametrize("which", ["done", "guessed"])
def test_the_files_fit_their_schema_and_each_other(which, request):
    _, folder = request.getfixturevalue(which)
    content = read(folder)
    jsonschema.validate(content, COMPARE_SCHEMA)
    with (folder / "compare.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["name"] for line in lines] == [row["name"] for row in content["rows"]] == NAMES
    for line, row in zip(lines, content["rows"], strict=True):
        assert line["extrapolated"] == str(row["extrapolated"]) and line["security"] == row["security"]
        assert float(line["seconds_train"]) == row["seconds"]["train"] and int(line["bytes"]) == row["bytes"]
        assert line["accuracy_test"] == ("" if row["extrapolated"] else str(row["accuracy"]["test"]))
    assert imread(folder / "compare.png")[..., :3].std() > 0.05


def test_what_an_option_means_nothing_to_is_named(done):
    assert (
        "mitig2, fedsgd and he-train ignore --weight-scale" in read(done[1])["notes"]
        and "mitig2, fedsgd and he-train ignore --weight-scale" in done[0].stdout
    )
    rows = [refused_row(name, None, "", ["--scheme"]) for name in ("a", "b", "c")]
    assert ignored_notes(rows) == ["a, b and c ignore --scheme"]


def test_the_json_is_all_that_is_printed_and_a_seed_that_was_drawn_is_named(tmp_path, monkeypatch):
    few(monkeypatch, "plain", "plain_fe")
    outcome = keyhole(
        "run", "compare", *TINY, "--budget", "0", "--scheme", "lwe", "--json", "--out", tmp_path / "out"
    )
    content = json.loads(outcome.stdout)
    assert content == read(tmp_path / "out") and outcome.stderr == ""
    assert [row["name"] for row in content["rows"]] == ["plain", "plain-fe lwe"]
    assert content["seed_drawn"] and f"seed {content['rows'][0]['seed']} drawn" in content["notes"][0]
    assert "plain ignores --scheme" in content["notes"]


def test_what_is_extrapolated_says_so_and_follows_from_what_was_measured(guessed):
    outcome, folder = guessed
    assert outcome.exit_code == 0, outcome.output
    rows = rows_of(read(folder))
    assert [name for name, row in rows.items() if not row["extrapolated"]] == ["plain", "mitig2", "fedsgd"]
    for row in (row for row in rows.values() if row["extrapolated"]):
        c = row["cost"]
        per = {name: (c[name]["fixed"]["seconds"], c[name]["each"]["seconds"]) for name in ("upload", "step")}
        setup = c["setup"]["seconds"] + c["warm_up"]["seconds"] + per["upload"][0] + 16 * per["upload"][1]
        assert row["seconds"]["setup"] == pytest.approx(setup, rel=1e-3, abs=1e-4)
        assert row["seconds"]["train"] == pytest.approx(
            2 * per["step"][0] + 16 * per["step"][1], rel=1e-3, abs=1e-4
        )
        assert row["accuracy"]["test"] is None and row["run"] is None
    assert "mitig1 is extrapolated to about" in outcome.stdout and "\n  extrapolated" in outcome.stdout


def test_what_is_extrapolated_has_the_messages_and_bytes_of_the_real_run(done, guessed):
    real, foreseen = rows_of(read(done[1])), rows_of(read(guessed[1]))
    for name in (name for name, row in foreseen.items() if row["extrapolated"]):
        for one, two in zip(real[name]["edges"], foreseen[name]["edges"], strict=True):
            assert {**one, "bytes": 0} == {**two, "bytes": 0}
            assert two["bytes"] == pytest.approx(one["bytes"], rel=0.01)


def test_what_crossed_in_the_clear_is_known_of_an_extrapolated_run_too(done, guessed):
    def clear(folder):
        learned = rows_of(read(folder))["plain-fe lwe"]["learned"]
        return {(item["party"], item["quantity"]) for item in learned if item["how"] == "clear"}

    assert clear(done[1]) == clear(guessed[1]) >= {("key_authority", "w1"), ("cloud_trainer", "labels")}


def test_a_probe_of_many_owners_foresees_the_bytes_of_copies_and_averages(tmp_path):
    experiment = small("mitig1", samples=8, hidden=2, batch=2, owners=2, local_steps=2)
    row = asdict(extrapolated_row(experiment, cost.probe(experiment), ""))
    _, result = execute(replace(experiment, out=tmp_path / "run"))
    assert {(e["sender"], e["receiver"]) for e in row["edges"]} == {
        (e["sender"], e["receiver"]) for e in result["traffic"]
    }
    assert row["bytes"] == pytest.approx(sum(edge["bytes"] for edge in result["traffic"]), rel=0.01)


def few(monkeypatch, *names):
    """Let `compare` run only some scenarios."""
    monkeypatch.setattr(
        scenario,
        "contenders",
        lambda given={}: tuple(
            scenario.Contender(
                find_scenario(n), Scheme(given["scheme"]) if n == "plain_fe" and given.get("scheme") else None
            )
            for n in names
        ),
    )


def measured(batch, samples, *steps):
    return cost.Measured(
        batch, samples, {"seconds": 1.0}, {"seconds": 0.1 * samples}, tuple({"seconds": s} for s in steps), {}
    )


def test_two_batch_sizes_tell_what_a_step_costs_from_what_a_sample_costs():
    experiment = small("plain_fe")  # 48 samples, 3 steps of 16
    two = cost.Cost((measured(1, 1, 9.0, 5.0), measured(4, 4, 8.0, 8.0)))
    assert two.step.fixed["seconds"] == pytest.approx(4.0) and two.step.each["seconds"] == pytest.approx(1.0)
    assert cost.total_seconds(two, experiment) == pytest.approx(1.0 + 4.0 + 48 * 0.1 + 3 * 4.0 + 48 * 1.0)


def test_one_batch_size_counts_everything_as_the_samples():
    one = cost.Cost((measured(1, 1, 5.0),))
    assert one.step.fixed["seconds"] == 0.0 and one.warm_up_seconds == 0.0
    assert cost.total_seconds(one, small("plain_fe")) == pytest.approx(1.0 + 48 * 0.1 + 48 * 5.0)


def test_noise_makes_no_part_of_a_cost_negative():
    slower_alone = cost.Cost((measured(1, 1, 9.0), measured(4, 4, 8.0))).step
    steep = cost.Cost((measured(1, 1, 0.1), measured(4, 4, 8.0))).step
    assert (slower_alone.fixed["seconds"], slower_alone.each["seconds"]) == (8.0, 0.0)
    assert (steep.fixed["seconds"], steep.each["seconds"]) == (0.0, 2.0)


def test_within_the_budget_it_is_run_and_beyond_it_is_not(monkeypatch):
    experiment = small("plain_fe")
    monkeypatch.setattr(
        cost, "measure", lambda _, batch, samples: (measured(batch, batch, 0.5 + 0.01 * batch), ())
    )
    assert scenario._over_budget(experiment, 1e6) is None
    assert len(scenario._over_budget(experiment, 1.0).measured) == 2


def test_a_protocol_that_fails_leaves_the_others(tmp_path, monkeypatch):
    def fail(experiment, observe):
        if experiment.scenario.name == "mitig2":
            raise StepError("cloud_trainer: upper_layers in step 3: broken")
        return execute(experiment, observe)

    few(monkeypatch, "mitig2", "plain")
    monkeypatch.setattr(scenario, "execute", fail)
    outcome = keyhole("run", "compare", *TINY, "--budget", "0", "--seed", "1", "--out", tmp_path / "out")
    content = read(tmp_path / "out")
    assert (
        outcome.exit_code == 1
        and "mitig2 failed: cloud_trainer: upper_layers in step 3: broken" in outcome.stdout
    )
    assert [row["status"] for row in content["rows"]] == ["failed", "done"]
    jsonschema.validate(content, COMPARE_SCHEMA)


def test_a_defect_is_named_by_its_type_only(tmp_path, monkeypatch):
    few(monkeypatch, "plain")
    monkeypatch.setattr(scenario, "execute", lambda *_: 1 / 0)
    options = dict(samples=16, hidden=4, runtime="inline", seed=1, out=tmp_path / "out")
    _, content = scenario.compare(options, 0, lambda experiment: nullcontext())
    assert rows_of(content)["plain"]["why"].startswith("internal error: ZeroDivisionError; run it alone")


def test_a_protocol_that_refuses_its_options_is_a_row_that_says_so(tmp_path, monkeypatch):
    options = dict(samples=16, hidden=4, runtime="inline", defence=("noise:1",), seed=1, out=tmp_path / "out")
    few(monkeypatch, "mitig1", "mitig2")
    _, content = scenario.compare(options, 0, lambda experiment: nullcontext(lambda event, value: None))
    row = rows_of(content)["mitig1"]
    assert (
        rows_of(content)["mitig2"]["status"] == "done"
        and row["status"] == "failed"
        and "noise" in row["why"]
        and row["config"] is None
    )
    jsonschema.validate(content, COMPARE_SCHEMA)


def test_who_is_corrupted_but_takes_no_part_is_left_out():
    prepared = [scenario._prepared(each, dict(samples=16, corrupt=("key_authority",), attack=("stack",)))
                for each in scenario.contenders()]  # fmt: skip
    left = {each.contender.name for each in prepared if each.ignored}
    assert left >= {"plain", "mitig2"} and not left & {"plain-fe lwe", "mitig1", "fedsgd", "vertical-fe fedv"}
    assert all(each.experiment.attack == (() if each.ignored else ("stack",)) for each in prepared)


@pytest.mark.parametrize(
    ("group", "takes"), [("secp256k1", {"plain-fe ddh"}), ("bls12_381", {"plain-fe ddh", "mitig1"})]
)
def test_a_group_goes_to_those_that_have_it(group, takes):
    prepared = [scenario._prepared(each, dict(samples=16, group=group)) for each in scenario.contenders()]
    assert {each.contender.name for each in prepared if "--group" not in each.ignored} == takes


def test_every_protocol_that_trains_takes_part_and_what_is_asked_for_is_the_only_one():
    training = {name.replace("_", "-") for name in PROTOCOLS if find_scenario(name).task is None}
    assert {name.split()[0] for name in NAMES} == training >= {"plain", "fedsgd", "vertical-fe"}
    assert {"plain-fe lwe", "plain-fe ddh", "vertical-fe quadratic", "vertical-fe fedv"} <= set(NAMES)
    asked = [each.name for each in scenario.contenders({"scheme": Scheme.DDH, "mode": "fedv"})]
    assert set(NAMES) - set(asked) == {"plain-fe lwe", "vertical-fe quadratic"}


def test_a_way_to_share_that_a_protocol_has_not_is_ignored_there():
    prepared = [
        scenario._prepared(each, dict(samples=16, owners=2, split="label")) for each in scenario.contenders()
    ]
    said = {each.contender.name: ("--split" in each.ignored, each.refusal) for each in prepared}
    assert said["vertical-fe fedv"] == (True, None) and said["mitig2"] == (False, None)


@pytest.mark.parametrize(
    "asked", [{"dataset": "digits", "samples": 480}, {"dataset": "breast_cancer"}], ids=str
)
def test_nobody_refuses_the_documented_comparison_and_one_owner_stands_for_many(asked):
    prepared = [scenario._prepared(each, {**asked, "owners": 2}) for each in scenario.contenders()]
    assert [each.refusal for each in prepared if each.refusal] == []
    owners = {each.contender.name: (each.experiment.owners, each.ignored) for each in prepared}
    assert owners.pop("he-train") == (1, ("--owners",))
    assert set(owners.values()) == {(2, ())}
    (alone,) = (each.experiment.config for each in prepared if each.contender.name == "he-train")
    assert {sum(alone.counts)} == {sum(each.experiment.config.counts) for each in prepared if
                                   "columns" not in each.experiment.scenario.protocol.SPLITS}  # fmt: skip


def test_who_says_that_it_has_one_owner_refuses_more():
    for name in {each.scenario.name for each in scenario.contenders()}:
        if find_scenario(name).protocol.MANY_OWNERS:
            assert len(small(name, samples=48, owners=2).config.counts) == 2
        else:
            with pytest.raises(ConfigError, match="--owners 1, got 2"):
                small(name, samples=48, owners=2)


def test_what_has_one_owner_is_run_in_a_comparison_of_many_and_said(tmp_path, monkeypatch):
    few(monkeypatch, "plain", "he_train")
    options = ["--budget", "1e6", "--seed", "1", "--owners", "2", "--out", tmp_path / "out"]
    outcome = keyhole("run", "compare", *TINY, *options)
    assert outcome.exit_code == 0, outcome.output
    content = read(tmp_path / "out")
    assert {row["status"] for row in content["rows"]} == {"done"}
    assert any("he-train ignores" in note and "--owners" in note for note in content["notes"])


def test_what_each_party_rebuilds_stands_beside_what_it_costs(done, guessed):
    real, foreseen = (rows_of(read(folder)) for _, folder in (done, guessed))
    cloud = {name: row["rebuilt"][0] for name, row in real.items() if name != "fedsgd"}
    assert cloud["plain"]["how"] == "clear" and cloud["vertical-fe fedv"]["how"] == "exact"
    assert {each["party"] for each in cloud.values()} == {"cloud_trainer"}
    (owner,) = (each for each in real["mitig2"]["rebuilt"] if each["party"].startswith("data_owner"))
    assert owner["how"] == "own"
    assert {each["how"] for each in foreseen["vertical-fe fedv"]["rebuilt"]} == {"undecided", "own"}
    for (outcome, folder), mark in ((done, ""), (guessed, "~")):
        (line,) = (
            line for line in (folder / "compare.md").read_text().splitlines() if line.startswith("| mitig1")
        )
        assert f"| {mark}{span(leakage.cost_seconds(rows_of(read(folder))['mitig1']))} |" in line
        assert "cost, and what each party can rebuild" in outcome.stdout
        assert imread(folder / "leakage.png")[..., :3].std() > 0.02 and (folder / "leakage.svg").is_file()


def test_nothing_run_and_no_audit_is_undecided_and_never_nothing():
    experiment = small("vertical_fe", samples=8, batch=4, mode="fedv", no_audit=True)
    clear = [Learned("key_authority", "w", "cloud_trainer", "clear", "", 0)]
    lines = leakage.as_rows(leakage.of_small_instance(experiment, clear))
    found = leakage.rebuilt(lines, ["cloud_trainer", "key_authority"], 1)
    assert {(each["party"], each["how"]) for each in found} == {
        (party, "undecided") for party in ("cloud_trainer", "key_authority")}  # fmt: skip
    audited = leakage.of_small_instance(replace(experiment, no_audit=False), clear)
    found = leakage.rebuilt(leakage.as_rows(audited), ["cloud_trainer"], 1)
    assert {each["party"]: each["how"] for each in found}["cloud_trainer"] == "determined"


def test_of_lines_that_are_as_sure_the_one_of_more_samples_counts():
    def line(of, how, since, quantity="samples"):
        return {
            "party": "cloud_trainer",
            "quantity": quantity,
            "of": of,
            "how": how,
            "detail": of,
            "since_round": since,
        }

    lines = [line("16 of the 16 samples of batch 0", "exact", 3), line("128 of 480 samples", "exact", 40),
             line("all 480 samples", "bounded", 0), line("others", "clear", 0, "labels")]  # fmt: skip
    (found,) = leakage.rebuilt(lines, ["cloud_trainer"], 2)
    assert (found["how"], found["of"]) == ("exact", "128 of 480 samples")
    (none,) = leakage.rebuilt([{**lines[0], "how": "own"}], ["data_owner"], 2)
    assert none["how"] == "nothing found"


def test_compare_with_options_of_a_run_runs_all_and_with_runs_shows_them(tmp_path, monkeypatch):
    few(monkeypatch, "plain")
    outcome = keyhole("compare", *TINY, "--dataset", "iris", "--seed", "5", "--out", tmp_path / "out")
    assert outcome.exit_code == 0, outcome.output
    assert read(tmp_path / "out")["rows"][0]["config"]["name"] == "iris"
    one_line(keyhole("compare", tmp_path / "out" / "plain", "--dataset", "iris"), 2, "plain")


def test_large_transcripts_that_were_not_asked_for_keep_headers():
    experiment, note = scenario._recordable(small("plain_fe", epochs=200_000), "plain-fe lwe")
    assert experiment.record is Record.HEADERS and "plain-fe lwe keeps headers only" in note
    asked = prepare(find_scenario("plain_fe"), dict(samples=48, epochs=200_000, record=Record.FULL))
    assert scenario._recordable(asked, "plain-fe lwe") == (asked, "")


def test_a_run_that_did_not_come_to_its_end_is_marked_in_a_comparison(runs, tmp_path):
    whole, half = runs("mitig2")[0].path, tmp_path / "half"
    shutil.copytree(whole, half)
    said = json.loads((half / "status.json").read_text())
    (half / "status.json").write_text(json.dumps({**said, "state": "interrupted"}))
    outcome = keyhole("compare", whole, half, "--out", tmp_path / "out")
    assert f"({half}) is incomplete: interrupted; last message" in " ".join(outcome.stdout.split())
    content = read(tmp_path / "out")
    assert [row["status"] for row in content["rows"]] == ["done", "incomplete"]
    jsonschema.validate(content, COMPARE_SCHEMA)
    (half / "result.json").unlink()
    one_line(keyhole("compare", half), 1, "incomplete: interrupted; last message")


def test_stored_runs_are_compared_and_what_differs_is_said(runs, tmp_path):
    one, two = runs("plain")[0].path, runs("plain_fe", scheme=Scheme.LWE, epochs=2, seed=8)[0].path
    outcome = keyhole("compare", one, two, "--json", "--out", tmp_path / "out")
    content = json.loads(outcome.stdout)
    jsonschema.validate(content, COMPARE_SCHEMA)
    assert content == read(tmp_path / "out")
    assert content["differences"]["--epochs"] == {"plain": 1, "plain-fe lwe": 2}
    assert {"--seed", "the shuffle of the data", "--weight-scale"} <= set(content["differences"])
    assert "--epochs differs: 1 (plain); 2 (plain-fe lwe)" in content["notes"]


def test_attacks_are_shown_beside_a_guess(runs):
    outcome = keyhole(
        "compare", runs("plain_fe", attack=("stack", "labels", "lp"), batch=4)[0].path, runs("plain")[0].path
    )
    (line,) = (line for line in outcome.stdout.splitlines() if " labels 100.0%" in line)
    assert outcome.exit_code == 0 and line.split()[0] == "labels" and line.rstrip().endswith("%")


def test_runs_of_one_name_are_told_apart_by_their_folders(runs):
    path = runs("plain")[0].path
    assert keyhole("compare", path).exit_code == 0
    content = json.loads(keyhole("compare", path, path, "--json").stdout)
    assert [row["name"] for row in content["rows"]] == [f"plain ({path})"] * 2
    assert differences(content["rows"][:1]) == {}


def test_wrong_input_is_one_line(tmp_path, runs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one_line(keyhole("compare", tmp_path / "none"), 1, "no such run folder")
    one_line(keyhole("compare", tmp_path), 1, "not a run folder")
    one_line(keyhole("compare", runs("plain")[0].path, "--out", runs("plain")[0].path), 1, "not empty")
    one_line(keyhole("run", "compare", "--epochs", "0"), 2, "--epochs")
    one_line(keyhole("run", "compare", "--dataset", "mnist", "--data-dir", tmp_path / "none"), 1, "none")
    one_line(keyhole("run", "compare", "--budget", "-1"), 2, "--budget")
    one_line(keyhole("run", "plain", "--budget", "5"), 2, "--budget is no option of plain")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "file").touch()
    one_line(keyhole("run", "compare", *TINY, "--out", tmp_path), 1, "not empty")


def test_extrapolated_bars_are_drawn_differently(tmp_path, guessed):
    rows = read(guessed[1])["rows"]
    draw_comparison(tmp_path / "a.png", rows)
    draw_comparison(tmp_path / "b.png", [{**row, "extrapolated": False} for row in rows])
    assert not np.array_equal(imread(tmp_path / "a.png"), imread(tmp_path / "b.png"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0042, "4.2 ms"),
        (0.9996, "1.0 s"),
        (12.34, "12.3 s"),
        (599.9, "599.9 s"),
        (600, "10.0 min"),
        (7200, "2.0 h"),
        (200_000, "2.3 d"),
    ],
)
def test_times_are_said_in_a_readable_unit(seconds, text):
    assert span(seconds) == text
