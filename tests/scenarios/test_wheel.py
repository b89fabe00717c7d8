"""A wheel works outside the repository: what runs read besides code is in it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("parties", "protocols", "scenarios", "pyproject.toml", "README.md", "LICENSE")
TINY = "samples=48, hidden=8, batch=16, epochs=1, seed=7, runtime='inline', no_audit=True, out='run'"
USED = f"""
import keyhole, scenarios.run.template
run = keyhole.run("mitig2", {TINY}, attack="labels")
print(run.path.resolve(), keyhole.__file__, len(run.learned()) > 0)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which a wheel of a copy of the repository was installed."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, source / part)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "--no-deps", "--wheel-dir", str(source / "dist"), str(source)]
    subprocess.run(wheel, check=True, capture_output=True)
    (built,) = (source / "dist").glob("keyhole-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(built)], check=True)
    return target, built


def outside(installed, folder, *command):
    env = {**os.environ, "PYTHONPATH": str(installed[0])}
    return subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True)


def test_a_run_from_another_folder_is_of_the_installed_package(installed, tmp_path):
    done = outside(installed, tmp_path, "-c", USED)
    assert done.returncode == 0, done.stderr
    path, file, learned = done.stdout.split()
    assert path == str(tmp_path / "run") and learned == "True" and file.startswith(str(installed[0]))
    assert "<svg" in (tmp_path / "run" / "report.html").read_text()


def test_its_commands_work_there(installed, tmp_path):
    for line in ("list", "new protocol mine", "figure ./mine.py"):
        done = outside(installed, tmp_path, "-m", "scenarios", *line.split())
        assert done.returncode == 0 and done.stdout, done.stderr


def test_it_is_typed_and_has_no_tests_and_no_second_copy(installed):
    names = zipfile.ZipFile(installed[1]).namelist()
    assert "keyhole/py.typed" in names and "keyhole/__init__.py" in names
    assert not [name for name in names if name.startswith(("tests/", "scenarios/package"))]
    (metadata,) = (name for name in names if name.endswith("METADATA"))
    text = zipfile.ZipFile(installed[1]).read(metadata).decode()
    assert "License-Expression: GPL-3.0-or-later" in text and "Classifier: Typing :: Typed" in text
