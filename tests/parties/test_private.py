"""A run folder is for its owner alone: 0700, its files 0600, whatever the umask is."""

import os
import stat

import pytest
from typer.testing import CliRunner

from protocols.language.errors import DataError
from scenarios.cli import app
from scenarios.run.folder import new_folder, private_file


@pytest.fixture
def umask():
    """The umask of somebody who hides nothing."""
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(folder):
    """What in a folder has other permissions than it should, the folder included."""
    expected = {True: 0o700, False: 0o600}
    return [
        str(path) for path in (folder, *folder.rglob("*"))
        if stat.S_IMODE(path.stat().st_mode) != expected[path.is_dir()]
    ]  # fmt: skip


def keyhole(*words):
    outcome = CliRunner().invoke(app, list(map(str, words)))
    assert outcome.exit_code == 0, outcome.output


def test_whatever_a_run_and_those_who_read_it_write_is_for_its_owner_alone(tmp_path, umask):
    out, small = tmp_path / "run", ("--samples", 48, "--hidden", 8, "--epochs", 1, "--runtime", "inline")
    keyhole("run", "plain-fe", *small, "--attack", "smooth", "--out", out)
    keyhole("predict", out, "--samples", 4, "--runtime", "inline")
    keyhole("learned", out)
    keyhole("show", out, "--party", "cloud_trainer", "--label", "dw1", "--dump", out / "dw1.npy")
    keyhole("compare", out, "--out", tmp_path / "compare")
    assert list(out.glob("figures/*.png")) and open_to_others(out) == [] == open_to_others(
        tmp_path / "compare"
    )


def test_an_empty_folder_that_is_there_becomes_private(tmp_path, umask):
    (tmp_path / "run").mkdir(mode=0o777)
    assert open_to_others(new_folder(tmp_path / "run", "x").path) == []


@pytest.mark.parametrize(
    "make", [lambda path: path.write_text("x"), lambda path: (path / "x").mkdir(parents=True)]
)
def test_what_is_there_is_not_touched(tmp_path, make):
    make(tmp_path / "run")
    before = (tmp_path / "run").stat()
    with pytest.raises(DataError, match="exists and is not empty"):
        new_folder(tmp_path / "run", "x")
    assert (tmp_path / "run").stat().st_mode == before.st_mode


def test_a_file_is_whole_or_not_there_and_follows_no_link(tmp_path):
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "a.json.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ZeroDivisionError), private_file(tmp_path / "a.json") as file:
        file.write("half")
        raise ZeroDivisionError
    assert not (tmp_path / "a.json").exists() and (tmp_path / "elsewhere").read_text() == "kept"
