"""Sweep lp on tiny grids: cells, resuming, refusals, files."""

import csv
import json

import numpy as np
import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from parties.runtime import ray_tasks
from protocols.language.errors import ConfigError, DataError
from scenarios.cli import app
from scenarios.study import sweep_lp
from scenarios.study.study import Interrupted, begun
from scenarios.study.sweep_lp import Grid, Place, load_images, sweep

TINY = Grid(("digits",), (16, 40), (4, 2), 4, seed=5)


def keyhole(*args):
    return CliRunner().invoke(app, ["sweep", *map(str, args)], env={"COLUMNS": "140"})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(folder, content) of a finished tiny sweep: do not write into its folder."""
    return sweep(TINY, tmp_path_factory.mktemp("sweep") / "done", "inline", 1)


def stopped_after(count):
    """Let a sweep be interrupted when so many cells are finished."""

    def observe(event, value):
        if event == "cell" and value == count:
            raise KeyboardInterrupt

    return observe


def test_every_cell_is_attacked_through_the_clouds_view_of_a_real_run(done):
    folder, content = done
    assert len(content["rows"]) == len(TINY.places()) == 2 * (2 + 2)
    for row in content["rows"]:
        assert row["samples"] == 4 and row["equations"] == row["hidden"]
        assert row["security"] == "lwe, 128 bit" or row["security"].startswith("lwe, 128 bit")
    runs = [sweep_lp.load_run(folder / "runs" / f"digits-h{h}") for h in TINY.hidden]
    assert np.array_equal(runs[0].truth().images, runs[1].truth().images)


def test_more_equations_leave_less_error_and_attacks_beat_the_guess(done):
    rows = {(row["hidden"], row["attack"], row["period"]): row for row in done[1]["rows"]}
    for name in (("lp", 4), ("lp", 2), ("smooth", None), ("tv", None)):
        assert rows[(40, *name)]["mse"] < rows[(16, *name)]["mse"]
    assert all(rows[(40, n, None)]["mse"] < 0.5 * rows[(40, n, None)]["guess_mse"] for n in ("smooth", "tv"))


def test_a_stopped_sweep_keeps_its_cells_and_goes_on_with_the_others(tmp_path, monkeypatch, done):
    with pytest.raises(Interrupted, match=rf"3 of 8 cells are kept.*--out {tmp_path}"):
        sweep(TINY, tmp_path, "inline", 1, stopped_after(3))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    (tmp_path / "runs" / "digits-h16" / "result.json").unlink()  # half a run is made again
    attacks, attack = [], sweep_lp.attack_view
    monkeypatch.setattr(sweep_lp, "attack_view", lambda *task: attacks.append(task) or attack(*task))
    _, content = sweep(TINY, tmp_path, "inline", 1)
    assert len(attacks) == 5 and (tmp_path / "runs" / "digits-h16" / "result.json").is_file()
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert [row["mse"] for row in content["rows"]] == [row["mse"] for row in done[1]["rows"]]


@pytest.mark.parametrize(
    "options",
    [{"hidden": (16,)}, {"periods": (4,)}, {"images": 5}, {"datasets": ("mnist",)}, {"seed": 6}],
    ids=str,
)
def test_other_options_are_refused_in_a_folder_that_was_begun(done, options):
    with pytest.raises(ConfigError, match=f"begun with other options .{next(iter(options))}.; give those"):
        sweep(Grid(**{**vars(TINY), **options}), done[0], "inline", 1)


def test_without_a_seed_that_of_the_folder_is_taken(done):
    plain = {**json.loads((done[0] / "settings.json").read_text()), "seed": None}
    plain.pop("study")
    assert begun("sweep-lp", done[0], plain)[1]["seed"] == TINY.seed
    assert begun("sweep-lp", done[0].parent / "new", plain)[1]["seed"] not in (None, TINY.seed)
    with pytest.raises(ConfigError, match="begun with other options .study."):
        begun("defences", done[0], plain)


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(DataError, match="exists and is not empty"):
        sweep(TINY, tmp_path, "inline", 1)


def test_the_files_say_what_the_rows_say(done):
    folder, content = done
    assert json.loads(json.dumps(content)) == json.loads((folder / "sweep.json").read_text())
    with (folder / "sweep.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines == [{k: "" if v is None else str(v) for k, v in row.items()} for row in content["rows"]]
    assert content["figures"] == [
        "curves-digits.png", "pictures-digits-by-hidden.png", "pictures-digits-by-period.png"
    ]  # fmt: skip
    for name in content["figures"]:
        picture = imread(folder / name)
        assert min(picture.shape[:2]) > 300 and picture[..., :3].std() > 0.05


def test_stored_images_are_those_that_were_scored(done):
    folder, content = done
    place = Place("digits", 40, "tv", None)
    (mse,) = (row["mse"] for row in content["rows"] if (row["hidden"], row["attack"]) == (40, "tv"))
    stored = load_images(folder, place)
    true = sweep_lp.load_run(folder / "runs" / place.run).truth().pixels(stored["index"])
    assert ((stored["values"] - true) ** 2).mean() == pytest.approx(mse, rel=1e-4)


def test_an_archive_of_colour_images_is_swept(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "tiny.npz",
        images=rng.integers(0, 256, (24, 4, 4, 3), dtype=np.uint8),
        labels=np.arange(24) % 3,
    )
    outcome = keyhole(
        "lp",
        "--datasets",
        tmp_path / "tiny.npz",
        "--hidden",
        "12",
        "--periods",
        "4",
        "--images",
        3,
        "--runtime",
        "inline",
        "--out",
        tmp_path / "out",
        "--json",
    )
    assert outcome.exit_code == 0, outcome.output
    rows = json.loads(outcome.stdout)["rows"]
    assert [row["attack"] for row in rows] == ["lp", "smooth", "tv"] and rows[0]["samples"] == 3


def test_a_terminal_gets_a_table_with_the_protection(done):
    outcome = keyhole("lp", "--datasets", "digits", "--hidden", "16,40", "--periods", "4,2", "--images", 4,
                      "--runtime", "inline", "--out", done[0])  # fmt: skip
    assert outcome.exit_code == 0, outcome.output
    for word in ("digits: mse", "lp 4", "smooth", "tv", "projection", "guess", "lwe, 128 bit", "sweep.csv"):
        assert word in outcome.stdout


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["magic"], 2, "unknown sweep 'magic'; known: lp"),
        (
            ["lp", "--hidden", "a,b"],
            2,
            "--hidden: expected integers of at least 1, such as 350,500, got 'a,b'",
        ),
        (["lp", "--hidden", "0"], 2, "--hidden: expected integers of at least 1"),
        (["lp", "--periods", ""], 2, "--periods: expected integers"),
        (["lp", "--datasets", "imagenet"], 2, "--dataset: expected digits"),
        (["lp", "--datasets", ","], 2, "--datasets: expected different ones"),
        (["lp", "--images", "0"], 2, "--images"),
        (["lp", "--runtime", "cloud"], 2, "--runtime: expected ray or inline"),
        (["lp", "--data-dir", "/nowhere"], 1, "/nowhere/cifar10: no such folder"),
        (["lp", "--processes", "0"], 2, "--processes"),
    ],
    ids=str,
)
def test_wrong_input_is_one_line(tmp_path, args, status, words):
    outcome = keyhole(*args, "--out", tmp_path / "out")
    assert outcome.exit_code == status, outcome.output
    assert outcome.stdout == "" and words in outcome.stderr and not (tmp_path / "out").exists()
    assert len(outcome.stderr.strip().splitlines()) == 1 or words in ("--processes", "--images")


def refuse_or_double(value):
    if value < 0:
        raise ConfigError("expected no negative number")
    return 2 * value


@pytest.mark.ray
def test_tasks_on_ray_come_back_with_their_positions_and_refusals_are_raised_here(ray_session):
    found = dict(ray_tasks.as_completed(refuse_or_double, [(1,), (2,), (3,)], 2))
    assert found == {0: 2, 1: 4, 2: 6}
    with pytest.raises(ConfigError, match="no negative number"):
        list(ray_tasks.as_completed(refuse_or_double, [(1,), (-1,)], 1))
