"""Data of a user's own: tables, folders of pictures, labels of any name, and what is refused in one line."""

import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from parties.data import folders, tables
from parties.data.datasets import DataSpec, described, load
from protocols.language.errors import ConfigError, DataError
from protocols.language.message import decode, encode

RNG = np.random.default_rng(0)
X = RNG.normal(3.0, 2.0, (40, 5))
Y = np.arange(40) % 2


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "own.npz", **arrays)
    return DataSpec(str(tmp_path / "own.npz"))


def lines(tmp_path, text, name="own.csv"):
    (tmp_path / name).write_text(text)
    return DataSpec(str(tmp_path / name), whole=True)


def csv_of(x, y):
    rows = [[*row, label] for row, label in zip(x.tolist(), y, strict=True)]
    return "\n".join(
        [",".join([*(f"c{k}" for k in range(x.shape[1])), "kind"]), *(",".join(map(str, r)) for r in rows)]
    )


def restored(data, x):
    low, high = np.array(data.low), np.array(data.high)
    return low + x / data.x_max * (high - low)


def test_a_table_of_floats_is_moved_by_a_public_map_and_comes_back_to_half_a_step(tmp_path):
    data = load(replace(saved(tmp_path, X=X, y=Y), whole=True))
    assert (data.shape, data.x_max, data.classes) == ((5,), 255, 2)
    assert np.array_equal(data.low, X.min(axis=0)) and np.array_equal(data.high, X.max(axis=0))
    half = (X.max(axis=0) - X.min(axis=0)) / 255 / 2
    assert (np.abs(restored(data, data.x_train.astype(float)) - X) <= half * (1 + 1e-9)).all()
    assert data.x_train.min() == 0 and data.x_train.max() == 255  # all of the range is used


def test_whole_numbers_of_a_table_keep_their_steps(tmp_path):
    x = RNG.integers(-30, 90, (40, 3))
    data = load(replace(saved(tmp_path, X=x, y=Y), whole=True))
    assert np.abs(restored(data, data.x_train.astype(float)) - x).max() < 1e-9
    assert data.x_max == int((x.max(axis=0) - x.min(axis=0)).max())


def test_numbers_in_0_to_1_and_truth_values_are_not_moved(tmp_path):
    unit = load(replace(saved(tmp_path, X=X / 100 + 0.3, y=Y), whole=True))
    assert set(unit.low) == {0.0} and set(unit.high) == {1.0}
    truth = load.__wrapped__(replace(saved(tmp_path, X=X > 3, y=Y > 0), whole=True))
    assert truth.x_max == 1 and np.array_equal(truth.x_train, X > 3) and np.array_equal(truth.y_train, Y)


def test_the_map_covers_the_test_set_too(tmp_path):
    data = load(saved(tmp_path, X=X, y=Y, X_test=X[:6] - 10, y_test=Y[:6]))
    assert np.array_equal(data.low, (X[:6] - 10).min(axis=0)) and data.x_test.shape == (6, 5)


def test_the_map_is_part_of_what_everybody_is_told_and_other_samples_go_through_the_same(tmp_path):
    spec = described(saved(tmp_path, X=X, y=np.where(Y, "sick", "well")))
    assert spec.levels == 255 and spec.class_names == ("sick", "well")
    assert decode(encode(spec)) == spec
    inside = X[::2] * 0.5 + X.mean(axis=0) * 0.5
    np.savez(tmp_path / "more.npz", X=inside, y=np.full(20, "well"))
    other = load(replace(spec, name=str(tmp_path / "more.npz"), whole=True))
    assert other.y_train.tolist() == [1] * 20 and other.classes == 2
    expected = np.rint((inside - X.min(axis=0)) / (X.max(axis=0) - X.min(axis=0)) * 255)
    assert np.array_equal(other.x_train, expected)
    np.savez(tmp_path / "out.npz", X=X + 100, y=np.full(40, "well"))
    with pytest.raises(DataError, match=r"out\.npz: expected .* in column 0, as the map of the run has it"):
        load(replace(spec, name=str(tmp_path / "out.npz"), whole=True))
    np.savez(tmp_path / "strange.npz", X=inside, y=np.full(20, "dead"))
    with pytest.raises(DataError, match="labels among sick, well, got 'dead'"):
        load(replace(spec, name=str(tmp_path / "strange.npz"), whole=True))


def test_texts_name_classes_of_images_too(tmp_path):
    images = RNG.integers(0, 256, (30, 12, 36), dtype=np.uint8)
    data = load(saved(tmp_path, images=images, labels=np.array(["b", "a", "c"] * 10)))
    assert data.class_names == ("a", "b", "c") and data.shape == (12, 36)
    found = {bytes(x): data.class_names[y] for x, y in zip(data.x_train, data.y_train, strict=True)}
    assert all(name == "bac"[[bytes(i.ravel()) for i in images].index(x) % 3] for x, name in found.items())


def test_a_csv_gives_what_an_npz_gives(tmp_path):
    theirs = load(lines(tmp_path, csv_of(X, Y)))
    ours = load(replace(saved(tmp_path, X=X, y=Y), whole=True))
    assert np.array_equal(theirs.x_train, ours.x_train) and np.array_equal(theirs.y_train, Y)
    assert theirs.low == ours.low and theirs.class_names == ()


def test_any_column_of_a_csv_may_be_the_target_and_numbers_of_any_kind_name_classes(tmp_path):
    text = "kind,a,b\n" + "\n".join(f"{3 + 4 * (k % 2)},{k},{k / 7}" for k in range(20))
    spec = lines(tmp_path, text)
    data = load(replace(spec, class_column="kind"))
    assert data.class_names == ("3", "7") and data.y_train.tolist() == [0, 1] * 10 and data.shape == (2,)
    with pytest.raises(DataError, match="--class-column sort: no such column; columns: kind, a, b"):
        load(replace(spec, class_column="sort"))
    with pytest.raises(ConfigError, match="--class-column"):
        DataSpec("digits", class_column="kind")


def test_a_parquet_file_gives_what_a_csv_gives(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {f"c{k}": X[:, k] for k in range(5)} | {"kind": np.where(Y, "on", "off").tolist()}
    parquet.write_table(pyarrow.table(columns), tmp_path / "own.parquet")
    theirs = load(DataSpec(str(tmp_path / "own.parquet"), whole=True))
    ours = load(lines(tmp_path, csv_of(X, np.where(Y, "on", "off"))))
    assert np.array_equal(theirs.x_train, ours.x_train) and np.array_equal(theirs.y_train, ours.y_train)
    assert theirs.class_names == ("off", "on")
    parquet.write_table(pyarrow.table({"a": [1.0, None], "kind": [0, 1]}), tmp_path / "gap.parquet")
    with pytest.raises(DataError, match="a value in every row of column 'a', got 1 nulls"):
        load(DataSpec(str(tmp_path / "gap.parquet")))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"bad\.parquet: expected a readable Parquet file"):
        load(DataSpec(str(tmp_path / "bad.parquet")))


def test_parquet_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "own.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(tables, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'keyhole\[tables\]'"):
        load(DataSpec(str(tmp_path / "own.parquet")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "names of the columns"),
        ("a,b\n", "lines below the names"),
        ("1,2\n3,4\n", "names of the columns, got numbers"),
        ("a,a\n1,2\n", "'a' twice"),
        ("a,b,y\n1,2,0\n1,2\n", "3 values in line 3, got 2"),
        ("a,b,y\n1,,0\n1,2,1\n", "a value in every line of column 'b', got none in line 2"),
        ("a,b,y\n1,nan,0\n1,2,1\n", "finite numbers, got nan in row 1, column 2"),
        ("a,b,y\n1,x,0\n1,y,1\n", "numbers in column 'b', got .*x"),
        ("a,y\n1,0\n2,0\n", "at least two classes, got one"),
        ("a,y\n1,0.5\n2,1\n", "whole numbers or texts in the target column 'y'"),
        ("y\n1\n0\n", "at least two columns"),
    ],
)
def test_an_unusable_csv_is_one_line_that_names_the_file(tmp_path, text, expected):
    with pytest.raises(DataError, match=expected) as error:
        load(lines(tmp_path, text))
    assert str(tmp_path / "own.csv") in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"X": np.where(X[2, 3] == X, np.nan, X)}, "finite numbers, got nan in row 3, column 4"),
        ({"X": np.where(X[2, 3] == X, np.inf, X)}, "finite numbers, got inf"),
        ({"X": X.astype(str)}, "columns of numbers"),
        ({"X": X[:, :0]}, "neither of them 0"),
        ({"X": X[:-1]}, "one label for each of 39 samples"),
        ({"y": np.zeros(40, int)}, "at least two classes, got one"),
        ({"y": np.full(40, "a")}, "at least two classes, got one"),
        ({"X_test": X[:4, :3], "y_test": Y[:4]}, "test samples of 5 columns, got 3"),
        ({"X_test": X[:4], "y_test": Y[:4] + 1}, r"labels in 0\.\.1"),
    ],
)
def test_an_unusable_table_is_one_line_that_names_the_file(tmp_path, change, expected):
    with pytest.raises(DataError, match=expected) as error:
        load(saved(tmp_path, **{"X": X, "y": Y, **change}))
    assert str(tmp_path / "own.npz") in str(error.value) and "\n" not in str(error.value)


def test_a_text_file_that_would_fill_the_memory_is_refused_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_LARGEST_CSV", 1 << 20)
    with (tmp_path / "own.csv").open("wb") as file:
        file.truncate(3 << 20)
    with pytest.raises(DataError, match="at most 1 MiB, got 3 MiB"):
        load(DataSpec(str(tmp_path / "own.csv")))


def test_pipes_and_folders_in_the_place_of_tables_are_refused(tmp_path):
    for name in ("a.csv", "a.parquet"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match="not a file"):
            load(DataSpec(str(tmp_path / name)))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a folder"):
        load(DataSpec(str(tmp_path / "pipe")))
    with pytest.raises(DataError, match="no such folder"):
        load(DataSpec(str(tmp_path / "nowhere")))


def test_a_class_keeps_its_last_sample_and_nothing_to_hold_out_is_said(tmp_path):
    labels = np.array([0] * 9 + [1] + [2])
    data = load(saved(tmp_path, X=X[:11], y=labels))
    assert sorted(set(data.y_train)) == [0, 1, 2] and set(data.y_test) == {0} and data.classes == 3
    with pytest.raises(DataError, match="two samples of some class"):
        load.__wrapped__(saved(tmp_path, X=X[:3], y=np.arange(3)))


def pictures(folder, shape=(12, 36), mode="L", count=6, suffix="png"):
    for k in range(count):
        for c, name in enumerate(("cat", "dog")):
            (folder / name).mkdir(parents=True, exist_ok=True)
            pixels = RNG.integers(0, 200, (*shape, 3) if mode == "RGB" else shape, dtype=np.uint8) + c
            Image.fromarray(pixels).save(folder / name / f"{k}.{suffix}")


def test_a_folder_of_class_folders_is_read_with_its_shape(tmp_path):
    pictures(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    data = load(DataSpec(str(tmp_path), whole=True))
    assert data.shape == (12, 36) and data.class_names == ("cat", "dog") and len(data.x_train) == 12
    with Image.open(tmp_path / "dog" / "3.png") as picture:
        expected = np.asarray(picture).ravel()
    assert np.array_equal(data.x_train[9], expected) and data.y_train[9] == 1


def test_colour_pictures_and_a_test_set_beside_the_training_set(tmp_path):
    pictures(tmp_path / "train", mode="RGB", suffix="jpg")
    pictures(tmp_path / "test", mode="RGB", count=2)
    data = load(DataSpec(str(tmp_path)))
    assert data.shape == (12, 36, 3) and (len(data.x_train), len(data.x_test)) == (12, 4)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (lambda path: Image.new("L", (5, 5)).save(path / "dog" / "9.png"), "36 x 12 pixels"),
        (lambda path: (path / "dog" / "9.png").write_bytes(b"no picture"), "expected a PNG or JPEG file"),
        (lambda path: os.mkfifo(path / "dog" / "9.png"), "expected a file"),
        (lambda path: (path / "emu").mkdir(), "PNG or JPEG files, got none"),
        (lambda path: Image.new("I;16", (36, 12)).save(path / "dog" / "9.png"), "eight bits a channel"),
    ],
)
def test_a_folder_with_something_else_in_it_is_one_line(tmp_path, broken, expected):
    pictures(tmp_path)
    broken(tmp_path)
    with pytest.raises(DataError, match=expected) as error:
        load(DataSpec(str(tmp_path)))
    assert "\n" not in str(error.value)


def test_pictures_that_unpack_to_too_much_are_refused_by_their_headers(tmp_path, monkeypatch):
    pictures(tmp_path)
    monkeypatch.setattr(folders, "LARGEST", 1 << 12)
    monkeypatch.setattr(folders, "_read", None)
    with pytest.raises(DataError, match="MiB of pixels"):
        load(DataSpec(str(tmp_path)))
