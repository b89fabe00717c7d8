"""A run folder that a test may damage."""

import shutil
import sqlite3

import pytest

from scenarios.run.folder import RunFolder


@pytest.fixture
def copy(runs, tmp_path):
    """A run folder, and the path of the cloud's transcript in it."""
    run, _ = runs()
    shutil.copytree(run.path, tmp_path / "run")
    return RunFolder(tmp_path / "run"), tmp_path / "run" / "transcripts" / "cloud_trainer.sqlite"


@pytest.fixture
def change():
    """Changes something in a database."""

    def changed(path, *statements, values=()):
        with sqlite3.connect(path) as connection:
            for statement in statements:
                connection.execute(statement, values)
        connection.close()

    return changed
