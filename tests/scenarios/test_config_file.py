"""Configuration files: a run once more, a grid of runs, presets; what is wrong with a file in one line."""

import json
import shutil
import tomllib

import pytest
from rich.console import Console
from typer.testing import CliRunner

from protocols.language.errors import ConfigError, DataError
from scenarios.cli import app
from scenarios.run.catalogue import find_scenario
from scenarios.run.certify import certify
from scenarios.run.config_file import read_config
from scenarios.run.execute import execute
from scenarios.run.experiment import prepare
from scenarios.run.folder import load_run
from scenarios.run.options import PRESETS, Preset
from scenarios.show.summary import outcome
from scenarios.study import grid
from scenarios.study.grid import grid_of, grid_table, is_grid, run_grid

TINY = """
scenario = "plain-fe"
samples = 40
hidden = 8
batch = 8
epochs = 1
runtime = "inline"
no-audit = true
"""


def said(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def written(tmp_path, text, name="c.toml"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def unwatched(name, experiment):
    from contextlib import nullcontext

    return nullcontext(lambda event, value: None)


def test_a_run_comes_again_from_what_it_wrote_bit_by_bit(tmp_path):
    config = written(
        tmp_path, TINY + 'seed = 5\nattack = ["stack", "label-outputs"]\ncorrupt = "cloud-trainer"\n'
    )
    first = said("run", config, "--out", tmp_path / "first", "--json")
    assert first.exit_code == 0, first.output
    digest = json.loads(first.stdout)["transcript_digest"]
    for name in ("config.json", "config.toml"):
        again = said("run", tmp_path / "first" / name, "--out", tmp_path / name, "--json")
        assert json.loads(again.stdout)["transcript_digest"] == digest, again.output
        assert (tmp_path / name / "config.toml").read_text() == (
            tmp_path / "first" / "config.toml"
        ).read_text()
    assert not certify(load_run(tmp_path / "config.json")).faults
    options = tomllib.loads((tmp_path / "first" / "config.toml").read_text())
    assert (
        options["layers"] == [8] and options["seed"] == 5 and "out" not in options and "json" not in options
    )


def test_a_run_of_an_encrypted_head_comes_again_too(tmp_path):
    """Its base and what its defence is derived from stand in no other place."""
    asked = {"runtime": "inline", "seed": 1, "key_bits": 2048, "queries": 3, "shots": 2,
             "defence": ("dp:10",), "no_audit": True}  # fmt: skip
    run, result = execute(prepare(find_scenario("reverse_he"), {**asked, "out": tmp_path / "a"}))
    plan = read_config(run.path / "config.json")
    assert dict(plan.options) == {**asked, "runtime": plan.options["runtime"]}
    _, again = execute(prepare(plan.scenario, {**plan.options, "out": tmp_path / "b"}))
    assert again["transcript_digest"] == result["transcript_digest"]


def test_files_are_named_by_whole_paths_in_what_a_run_writes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("a,b,y\n" + "\n".join(f"{k},{k * k % 7},{k % 2}" for k in range(40)))
    asked = {"dataset": "t.csv", "runtime": "inline", "hidden": (4,), "epochs": 1, "class_column": "y"}
    experiment = prepare(find_scenario("plain"), asked)
    assert experiment.asked["dataset"] == str(tmp_path / "t.csv")
    assert f'dataset = "{tmp_path}/t.csv"' in experiment.as_toml()


def test_what_is_given_stands_above_the_file_under_either_name(tmp_path):
    plan = read_config(written(tmp_path, TINY)).with_given({"layers": "16", "samples": 50, "seed": None})
    assert plan.options["layers"] == (16,) and plan.options["samples"] == 50 and plan.options["epochs"] == 1
    plan = read_config(written(tmp_path, 'scenario = "plain"\n[sweep]\nhidden = [8, 9]'))
    for given in ({"hidden": "5"}, {"layers": "5"}):
        with pytest.raises(ConfigError, match="--hidden: the file sweeps it"):
            plan.with_given(given)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('scenario = "plain-fe"\nhiden = 16', "'hiden' is no option of plain-fe; did you mean 'hidden'"),
        ('scenario = "plain-fe"\nweight-scal = 16', "did you mean 'weight_scale'"),
        ('scenario = "mitig2"\nscheme = "lwe"', "'scheme' is no option of mitig2"),
        ('scenario = "plain"\n[sweep]\nepoch = [1, 2]', "did you mean 'epochs'"),
        ('scenario = "plain"\n[sweep]\nepochs = 2', "expected a list of values"),
        ('scenario = "plain"\n[sweep]\nepochs = [2, 2]', "a value stands there twice"),
        ('scenario = "plain"\nepochs = 2\n[sweep]\nepochs = [2, 3]', "stands in .sweep. and beside it"),
        ('scenario = "plain"\nhidden = 2\n[sweep]\nlayers = [[2]]', "stands in .sweep. and beside it"),
        ('scenario = "plain"\n[sweep]\nhidden = [2]\nlayers = [[3]]', "two names of one option"),
        ('scenario = "plain"\nhidden = 2\nlayers = [2]', "'layers' is the same as 'layers'|same as"),
        ('scenario = "plain"\nepochs = "many"', "--epochs: expected"),
        ('scenario = "plain"\nperiod = 0', "'period': expected at least 1, got 0"),
        ('scenario = "plain"\nlayers = [4, 0]', "'layers': expected at least 1, got 0"),
        ('scenario = "plain"\nactivation = "tanh"', "expected one of relu, sigmoid, got 'tanh'"),
        ('senario = "plain"', "names no scenario.*'senario' is no key"),
        ('scenario = "plein"', "unknown scenario 'plein'"),
        ("scenario = ", "cannot be read as TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_that_names_the_key(tmp_path, text, expected):
    with pytest.raises((ConfigError, DataError), match=expected) as error:
        read_config(written(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_config_of_a_run_that_did_not_note_what_was_asked_for_says_so(tmp_path):
    path = written(
        tmp_path, json.dumps({"scenario": "plain", "protocol": "plain", "data": {}}), "config.json"
    )
    with pytest.raises(DataError, match="did not note what was asked for"):
        read_config(path)


@pytest.fixture
def swept(tmp_path):
    sweep = "\n[sweep]\nhidden = [4, 6]\nseed = [0, 1]\n"
    return written(tmp_path, TINY.replace("hidden = 8\n", "") + 'attack = "stack"' + sweep)


def test_a_grid_is_the_product_and_each_run_has_a_folder(tmp_path, swept):
    done = said("run", swept, "--out", tmp_path / "g", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert [row["swept"] for row in rows] == [
        {"hidden": str(h), "seed": s} for h in (4, 6) for s in (0, 1)
    ]  # fmt: skip
    for row in rows:
        run = load_run(tmp_path / "g" / row["run"])
        assert run.result["config"]["layers"] == [int(row["swept"]["hidden"])]
        assert run.result["seed"] == row["swept"]["seed"] and run.result["accuracy"]["test"] == row["test"]
        assert (run.path / "report.html").is_file() and row["attacks"] == {
            "stack": outcome(run.result["attacks"][0])
        }
    header = (tmp_path / "g" / "grid.csv").read_text().splitlines()[0]
    assert header.startswith("run,hidden,seed,status,test")
    assert "stack" in said("run", "--resume", tmp_path / "g").output


def test_what_is_complete_is_not_run_again_and_what_was_stopped_goes_on(tmp_path, swept, monkeypatch):
    carried, stop = [], {"after": 2}

    def counted(experiment, observe=None):
        if len(carried) == stop["after"]:
            raise KeyboardInterrupt
        carried.append(experiment.out.name)
        return execute(experiment)

    monkeypatch.setattr(grid, "execute", counted)
    plan = read_config(swept)
    with pytest.raises(Exception, match="2 of 4 cells are kept"):
        run_grid(plan, tmp_path / "g", unwatched)
    assert is_grid(tmp_path / "g")
    stop["after"] = 99
    (tmp_path / "g" / "cells" / f"{carried[0]}.json").unlink()  # its row alone is lost: the run is there
    _, content = run_grid(grid_of(tmp_path / "g"), tmp_path / "g", unwatched)
    assert len(carried) == 4 and len(set(carried)) == 4 and len(content["rows"]) == 4
    with pytest.raises(ConfigError, match="begun with other options"):
        run_grid(plan.with_given({"samples": 30}), tmp_path / "g", unwatched)


def test_a_run_whose_folder_is_gone_is_carried_out_again(tmp_path, swept):
    plan = read_config(swept)
    _, before = run_grid(plan, tmp_path / "g", unwatched)
    first, second = (tmp_path / "g" / row["run"] for row in before["rows"][:2])
    kept = (second / "result.json").stat().st_mtime_ns
    shutil.rmtree(first)
    shown = said("run", "--resume", tmp_path / "g")
    assert shown.exit_code == 0, shown.output
    assert load_run(first).result["transcript_digest"] and (first / "report.html").is_file()
    assert (second / "result.json").stat().st_mtime_ns == kept


def test_a_grid_speaks_of_options_as_its_file_does_and_of_values_without_marks(tmp_path):
    asked = '[sweep]\ndefence = [[], ["noise:5"]]\ndataset = ["a/", "b c/"]\nhidden = [16]\n'
    plan = read_config(written(tmp_path, f'scenario = "mitig2"\n{asked}'))
    names = [name for name, _, _ in plan.runs()]
    assert names == [
        f"defence-{defence}_dataset-{data}_hidden-16"
        for defence in ("none", "noise-5")
        for data in ("a", "b-c")
    ]
    swept = [row for _, row, _ in plan.runs()]
    assert swept[0] == {"defence": (), "dataset": "a/", "hidden": (16,)}
    table = written_table(
        {
            "scenario": "mitig2",
            "sweep": {"hidden": [[16]]},
            "rows": [
                {
                    "run": "hidden-16",
                    "swept": {"hidden": "16"},
                    "status": "done",
                    "test": 0.5,
                    "baseline_test": 0.5,
                    "seconds": 1.0,
                    "bytes": 9,
                }
            ],
        }
    )
    assert table.split()[3] == "hidden" and "layers" not in table
    assert all(not line.rstrip().endswith("-") for line in table.splitlines())


def written_table(content):
    console = Console(width=100)
    with console.capture() as shown:
        console.print(grid_table(content))
    return shown.get()


def test_a_run_that_fails_is_a_row_and_the_others_are_carried_out(tmp_path):
    text = TINY.replace("epochs = 1", "lr = 1e9") + "weight-bound = 4\n[sweep]\nepochs = [1, 2]\n"
    done = said("run", written(tmp_path, text), "--out", tmp_path / "g", "--json")
    assert done.exit_code == 1
    assert [row["status"] for row in json.loads(done.stdout)["rows"]] == ["failed", "failed"]
    shown = said("run", "--resume", tmp_path / "g")
    assert shown.exit_code == 1 and "failed" in shown.output


def test_presets_are_tables_of_options_that_given_ones_stand_above():
    experiment = prepare(find_scenario("plain"), {"preset": "quick", "runtime": "inline", "epochs": 1})
    assert (experiment.samples, experiment.config.layers, experiment.config.epochs) == (160, (16,), 1)
    listed = CliRunner().invoke(app, ["list", "presets"], env={"COLUMNS": "300"}).output
    for preset in Preset:
        assert f"--preset {preset.value}" in listed
        for name in PRESETS[preset]:
            assert f"--{name}" in listed
    with pytest.raises(ConfigError, match="--data-dir: digits has no files"):
        prepare(find_scenario("plain"), {"preset": "quick", "data_dir": "x"})
