"""Runs on data of a user's own: what is no image is a sample, and images of any shape keep it."""

import jsonschema
import numpy as np
import pytest
from PIL import Image

from parties.adversary.adversary import Adversary
from parties.adversary.attack import NotApplicable
from parties.adversary.attacks.gram import smoothest
from parties.adversary.solvers.polytope import differences, neighbour_rows
from protocols.language.errors import ConfigError
from scenarios.page.answer import answer
from scenarios.page.page import write_report
from scenarios.run.attacks import attack_run
from scenarios.run.catalogue import find_scenario, schema_of_results
from scenarios.run.certify import certify
from scenarios.run.execute import execute
from scenarios.run.experiment import prepare
from scenarios.run.predict import predict, query
from scenarios.score.metrics import Truth
from scenarios.show.pictures import draw_sprite, grid
from scenarios.show.summary import attack_table, figures, mapped

RNG = np.random.default_rng(1)
SMALL = {"runtime": "inline", "seed": 0, "hidden": (8,), "batch": 8, "epochs": 2, "no_audit": True}


def carried_out(tmp_path, scenario="plain_fe", **more):
    return execute(prepare(find_scenario(scenario), {**SMALL, "out": tmp_path / "run", **more}))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    x = RNG.normal(size=(60, 10))
    names = np.where(x[:, 0] > 0, "high", "low")
    names[:2] = "high", "low"
    np.savez(folder / "table.npz", X=x, y=names)
    attacks = ("smooth", "tv", "lp", "stack")
    return x, *carried_out(folder, dataset=str(folder / "table.npz"), attack=attacks)


def test_rows_of_a_table_have_no_neighbours(table):
    _, _, result = table
    rows = {row["attack"]: row for row in result["attacks"]}
    for name in ("smooth", "tv"):
        assert not rows[name]["applicable"]
        assert rows[name]["why"] == "no image: a sample is a row of 10 columns, which have no neighbours"
    assert rows["lp"]["applicable"] and rows["stack"]["metrics"]["exact_images"] == 48
    assert neighbour_rows((10,), 4).shape == (0, 10)
    with pytest.raises(NotApplicable, match="no image"):
        differences((10,))


def test_the_map_of_a_table_is_written_down_and_said(table):
    x, folder, result = table
    assert result["config"]["levels"] == 255 and result["config"]["low"] == x.min(axis=0).tolist()
    assert folder.spec()[0].high == tuple(x.max(axis=0).tolist())
    said = [str(cell) for column in figures(result, None).columns for cell in column.cells]
    assert any("10 columns" in line and "public" in line and "0 to 255" in line for line in said)


def data_line(config):
    return mapped({"levels": 255, "low": [0.0] * 4, "high": [9.0] * 4, **config})


def test_columns_of_few_values_are_named_with_what_the_attacks_take_them_for(table, tmp_path):
    x, _, result = table
    assert result["config"]["distinct"] == [len(set(column)) for column in whole(x).T]
    assert "needs less" not in mapped(result["config"])
    x = x.copy()
    x[:, 3], x[:, 7], x[:, 8] = np.arange(60) % 2 * 2.1 - 0.7, np.arange(60) % 3, 4.25
    np.savez(tmp_path / "few.npz", X=x, y=np.arange(60) % 2)
    _, result = carried_out(tmp_path, dataset=str(tmp_path / "few.npz"))
    assert [result["config"]["distinct"][k] for k in (3, 7, 8)] == [2, 3, 1]
    said = mapped(result["config"])
    assert "columns 4, 8 are of at most 3 values and taken for 256" in said
    assert "column 9 is constant: there is nothing to learn there" in said
    assert "nothing to learn" not in answer(result)
    jsonschema.validate(result, schema_of_results())


def whole(x):
    low, high = x.min(axis=0), x.max(axis=0)
    return np.rint((x - low) / (high - low) * 255).astype(int)


@pytest.mark.parametrize(
    ("distinct", "said"),
    [
        ([256, 200, 100, 40], None),
        ([32, 200, 200, 200], "column 1 is of 32 values and taken for 256"),
        ([33, 200, 200, 200], None),
        ([2, 200, 2, 200], "columns 1, 3 are of 2 values and taken for 256"),
        ([1, 1, 1, 1], "every column is constant: there is nothing to learn of its samples"),
        ([2] * 9, "columns 1, 2, 3, 4, 5 and 4 more are of 2 values"),
    ],
)
def test_the_line_on_data_says_precisely_which_columns_are_of_few_values(distinct, said):
    line = data_line({"distinct": distinct})
    assert said in line if said else ";" not in line


def test_of_truth_values_two_are_all_that_there_are(tmp_path):
    assert ";" not in data_line({"levels": 1, "distinct": [2, 2, 2, 2]})
    assert "column 1 is of 2 values" in data_line({"levels": 16, "distinct": [2, 9, 9, 9]})


@pytest.mark.parametrize("scenario", ["plain_fe", "mitig2", "plain"])
def test_of_a_table_of_constants_no_leak_is_claimed(tmp_path, scenario):
    np.savez(tmp_path / "same.npz", X=np.full((60, 4), 3), y=np.arange(60) % 2)
    attack = ("stack",) if scenario == "plain_fe" else ()
    _, result = carried_out(tmp_path, scenario, dataset=str(tmp_path / "same.npz"), attack=attack)
    said = answer(result)
    assert said.startswith("Every column of the table is constant: there is nothing to learn of its samples.")
    assert "48 samples" not in said and "rebuilt" not in said and "labels by" in said
    assert result["learned"]  # which result.json and the table have whole


def test_a_table_is_called_samples_in_every_output(table):
    _, folder, result = table
    write_report(folder)
    page = (folder.path / "report.html").read_text().partition("</style>")[2].partition("<script")[0]
    printed = [answer(result), page.replace('class="images"', "")]
    group = attack_table(result["attacks"])
    printed += [str(part) for part in group.renderables if not hasattr(part, "columns")]
    printed += [row["zero_line"] for row in result["attacks"] if row.get("zero_line")]
    assert any("samples" in text for text in printed)
    assert not [text for text in printed if "images" in text]


def test_the_guess_of_own_data_is_the_mean_of_what_is_held_out(tmp_path):
    images = np.clip(RNG.normal(40, 10, (100, 6, 9)), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "own.npz", images=images, labels=np.arange(100) % 4)
    run, result = carried_out(tmp_path, dataset=str(tmp_path / "own.npz"), attack=("lp",))
    guess = result["attacks"][0]["baseline"]["guess"]["mse"]
    assert run.prior().public.shape == (20, 54) and result["accuracy"]["test"] is not None
    assert guess < 2 * (10 / 255) ** 2 < (0.5 - 40 / 255) ** 2 / 5  # mid-gray is far from all of them


def test_images_that_are_not_square_keep_their_shape(tmp_path):
    images = np.zeros((40, 12, 36), np.uint8)
    images[:, 2:9, 20:34] = RNG.integers(90, 256, (40, 7, 14))
    np.savez(tmp_path / "wide.npz", images=images, labels=np.arange(40) % 2)
    run, result = carried_out(
        tmp_path, dataset=str(tmp_path / "wide.npz"), attack=("smooth", "tv"), hidden=(60,), epochs=1
    )
    for row in result["attacks"]:
        assert row["prior"]["shape"] == [12, 36] and row["metrics"]["mse"] < 0.2
        assert (row["sprite"]["width"], row["sprite"]["height"]) == (37, 13)
        with Image.open(run.path / row["sprite"]["file"]) as sprite:
            first = np.asarray(sprite)[:12, :36, 0]
        assert any(np.array_equal(first, image) for image in images)


def dark(path, wide):
    """Rows and columns of the picture's first cell that are dark."""
    with Image.open(path) as picture:
        found = np.asarray(picture.convert("L")).astype(int)
    cell = found[: found.shape[0] // 2]
    return np.flatnonzero((cell < 60).sum(axis=1) > wide), np.flatnonzero((cell < 60).sum(axis=0) > 20)


def test_a_picture_is_as_wide_to_its_height_as_the_image(tmp_path):
    black = np.zeros((1, 12 * 36))
    grid(tmp_path / "wide.png", black, black, (12, 36))
    rows, columns = dark(tmp_path / "wide.png", 60)
    assert 2.6 < (columns[-1] - columns[0]) / (rows[-1] - rows[0]) < 3.4


def test_a_row_of_a_table_is_drawn_as_bars(tmp_path):
    row = np.array([[0.25, 1.0, 0.5]])
    draw_sprite(tmp_path, "a.png", [row, np.full((1, 3), np.nan)], (3,))
    with Image.open(tmp_path / "a.png") as sprite:
        pixels = np.asarray(sprite)
    bars = (pixels[:32, :30, 0] < 128).sum(axis=0)
    assert [bars[5], bars[15], bars[25]] == [8, 32, 16] and (pixels[31, :, 0] < 128)[:30].all()
    assert set(pixels[33:65, :30, 0].ravel()) == {128}


def test_known_rows_of_a_table_pull_to_their_mean_where_nothing_else_is_known():
    known = RNG.random((6, 10)) * 0.1 + 0.6
    found = smoothest(known, known @ np.full((10, 1), 0.65), 1e-3, (10,))
    assert np.abs(found - 0.65).max() < 0.1  # where neighbours would be taken for alike, any level would do


def test_another_file_is_asked_about_as_a_whole_and_through_the_map_of_the_run(table, tmp_path):
    x, folder, _ = table
    np.savez(tmp_path / "more.npz", X=x[:7] * 0.5, y=np.where(x[:7, 0] > 0, "high", "low"))
    asked = query(folder, str(tmp_path / "more.npz"), None, None, "inline", tmp_path / "asked")
    _, result = predict(asked)
    assert result["samples"] == 7
    images = RNG.integers(0, 256, (6, 2, 5), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.array(["high", "low"] * 3))
    with pytest.raises(ConfigError, match=r"trained on a table, .*images\.npz holds images"):
        query(folder, str(tmp_path / "images.npz"), None, None, "inline", None)
    own = query(folder, None, None, None, "inline", tmp_path / "own")
    assert predict(own)[1]["samples"] == 12  # what was held out


@pytest.mark.parametrize("scenario", ["mitig1", "mitig2", "plain", "reverse_he"])
def test_every_protocol_runs_on_a_table(tmp_path, scenario):
    x = RNG.normal(size=(60, 6))
    np.savez(tmp_path / "t.npz", X=x, y=np.arange(60) % 4)
    more = {"runtime": "inline", "seed": 0, "dataset": str(tmp_path / "t.npz"), "out": tmp_path / "run",
            "no_audit": True}  # fmt: skip
    more |= {"key_bits": 2048, "queries": 4} if scenario == "reverse_he" else {"hidden": (4,), "epochs": 1}
    _, result = execute(prepare(find_scenario(scenario), more))
    assert result["config"]["levels"] == 255 and len(result["config"]["low"]) == 6
    assert result["accuracy"]["test"] is not None
    assert not [row for row in result["learned"] if "failed" in row["detail"]]


def test_scoring_a_table_has_no_structural_similarity(table):
    _, folder, result = table
    row = next(row for row in result["attacks"] if row["attack"] == "stack")
    assert "ssim" not in row["metrics"] and isinstance(folder.truth(), Truth)
    again = attack_run(folder, ("smooth_stack",), ("cloud_trainer",), folder.prior(), Adversary)
    assert again[0]["why"].startswith("no image")


def test_what_is_of_own_data_alone_is_written_down_for_them_alone(table, tmp_path):
    """A run on digits is written down as ever: one that was stored earlier is no altered one."""
    spec = prepare(find_scenario("plain"), {"runtime": "inline", "samples": 20, "seed": 0}).as_plain()["data"]
    assert set(spec) == {
        "name", "data_dir", "gray", "samples", "seed", "control", "task_classes", "shots", "takers", "split",
    }  # fmt: skip
    _, folder, result = table
    assert {"low", "high", "levels", "class_names"} <= set(folder.settings["data"])
    jsonschema.validate(result, schema_of_results())
    assert not certify(folder).faults
