"""A protocol, or an attack, that is a file of the user's: what it has to hold, and that every command knows
it.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from parties import registry
from scenarios import load_run
from scenarios.cli import app
from scenarios.run.catalogue import asked_for
from scenarios.run.learned import QUANTITIES, strongest
from scenarios.run.result import result_schema
from tests.scenarios.test_cli import one_line

EXAMPLES = Path(__file__).parents[1] / "examples"
SPLIT, COLUMNS, RIDGE = (EXAMPLES / f"{name}.py" for name in ("split_noise", "columns", "ridge"))
SMALL = ["--samples", "48", "--hidden", "8", "--epochs", "2", "--seed", "7"]


def keyhole(*args):
    return CliRunner().invoke(app, [str(a) for a in args], env={"COLUMNS": "140"})


def run(file, out, *more, runtime="inline"):
    """The folder of a small run of a file."""
    outcome = keyhole("run", file, *SMALL, "--runtime", runtime, "--out", out, *more)
    assert outcome.exit_code == 0, outcome.output
    return load_run(out)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A run of a copy of the example, in a folder of its own."""
    folder = tmp_path_factory.mktemp("mine")
    file = Path(shutil.copy(SPLIT, folder / "mine.py"))
    return run(file, folder / "run", "--noise", "0.2")


def test_the_examples_are_short_and_those_of_the_documentation():
    for path, most, page in ((SPLIT, 60, "add-a-protocol.md"), (RIDGE, 40, "add-an-attack.md")):
        text = path.read_text(encoding="utf-8")
        told = (EXAMPLES.parents[1] / "docs" / page).read_text(encoding="utf-8")
        assert len(text.splitlines()) < most and text in told


def test_its_options_appear_in_help_and_others_are_refused():
    assert "--noise" in keyhole("run", SPLIT, "--help").stdout
    one_line(keyhole("run", SPLIT, "--weight-scale", "4"), 2, "--weight-scale is no option of")
    assert "data_owner -> cloud_trainer     z1" in keyhole("figure", SPLIT).stdout


def test_its_result_has_its_options_and_fits_the_derived_schema(stored):
    import jsonschema

    jsonschema.validate(stored.result, result_schema([asked_for(str(SPLIT)).config]))
    assert stored.result["config"]["noise"] == 0.2


@pytest.mark.parametrize(
    ("runtime", "file", "more"),
    [("local", COLUMNS, ["--owners", "3"]), pytest.param("ray", SPLIT, [], marks=pytest.mark.ray)],
    ids=["columns", "split"],
)
def test_the_digest_is_the_same_in_processes(runtime, file, more, tmp_path, request):
    if runtime == "ray":
        request.getfixturevalue("ray_session")
    inline, other = (run(file, tmp_path / r, *more, runtime=r) for r in ("inline", runtime))
    assert inline.result["transcript_digest"] == other.result["transcript_digest"]
    assert inline.result["learned"] == other.result["learned"]


COMMANDS = [
    ["show"], ["show", "--verify"], ["learned"], ["coalitions"], ["attack", "--attack", "stack"],
    ["attack", "--attack", str(RIDGE), "--controls"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_later_commands_find_the_file_again(stored, command):
    name, *options = command
    registry._files.clear()  # as in a new process
    outcome = keyhole(name, stored.path, *options)
    assert outcome.exit_code == 0, outcome.output


def test_a_changed_a_missing_and_a_strangers_file_are_one_line(stored, tmp_path, monkeypatch):
    shutil.copytree(stored.path, tmp_path / "run")
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    file = tmp_path / "mine.py"
    settings["file"]["path"] = str(file)
    (tmp_path / "run" / "config.json").write_text(json.dumps(settings))
    one_line(keyhole("learned", tmp_path / "run"), 1, "mine.py", "cannot be read")
    file.write_text("raise SystemExit('never run')")
    one_line(keyhole("learned", tmp_path / "run"), 1, "changed since the run", "restore it")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    one_line(
        keyhole("learned", tmp_path / "run"), 1, "is code, and was never run here", f"keyhole figure {file}"
    )


LACKS = {
    "nothing": ("", ["it lacks NAME: write `NAME = ", "it lacks FIGURE", "it lacks Options", "it lacks run"]),
    "other roles": ('ROLES = ("cloud",)', ["ROLES holds what is no role"]),
    "no arrow": (
        "from protocols.language.roles import *\nROLES = (CLOUD_TRAINER,)\nFIGURE = (1,)",
        ["FIGURE holds what is no arrow"],
    ),
    "no facts": (
        "class Options: pass",
        ["no frozen dataclass", "Options lacks classes, counts, features, x_max"],
    ),
    "run": ("def run(s): ...", ["run takes other arguments: write `def run(s, config):`"]),
    "syntax": ("def", ["cannot be imported: SyntaxError"]),
    "import": ("import nothing_like_it", ["cannot be imported: ModuleNotFoundError"]),
}


@pytest.mark.parametrize("name", LACKS)
def test_what_a_file_lacks_is_named_with_what_to_write(tmp_path, name):
    text, said = LACKS[name]
    (tmp_path / "mine.py").write_text(text)
    one_line(keyhole("run", tmp_path / "mine.py"), 2, *said)


def test_the_name_of_another_protocol_is_refused(tmp_path):
    (tmp_path / "mine.py").write_text(SPLIT.read_text().replace('"split_noise"', '"plain_fe"'))
    one_line(keyhole("run", tmp_path / "mine.py"), 2, "plain_fe is the name of another protocol")


def test_a_file_by_whose_steps_a_value_could_cross_unsent_is_refused_with_its_line(tmp_path):
    text = SPLIT.read_text().replace("from dataclasses", "import random\nfrom dataclasses", 1)
    (tmp_path / "mine.py").write_text(text)
    one_line(keyhole("run", tmp_path / "mine.py"), 1, "line 3: imports random, which is not in the list")


SHARED = """
_kept = {}


def first_layer(state, batch) -> tuple[Any, Any]:
    _kept["x"] = state.inputs["images"]
"""


def test_a_file_that_shares_a_value_is_refused_before_any_of_its_steps_runs(tmp_path):
    file, out = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(SPLIT.read_text(encoding="utf-8") + SHARED, encoding="utf-8")
    one_line(keyhole("run", file, *SMALL, "--runtime", "inline", "--out", out), 1, "_kept")
    assert not out.exists()


def test_a_script_that_leaves_owners_out_is_refused(tmp_path):
    outcome = keyhole("run", SPLIT, *SMALL, "--owners", "3", "--runtime", "inline", "--out", tmp_path / "run")
    one_line(outcome, 2, "data_owner:1 took no part", "s.each")


@pytest.mark.parametrize("wrong", [".w1", "[0]"])
def test_looking_into_what_was_revealed_names_the_rule(tmp_path, wrong):
    text = SPLIT.read_text(encoding="utf-8").replace('why="accuracy")', f'why="accuracy"){wrong}')
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    outcome = keyhole("run", tmp_path / "mine.py", *SMALL, "--runtime", "inline", "--out", tmp_path / "run")
    one_line(outcome, 1, "a script cannot", "let a step compute it")


def test_an_error_in_a_users_script_names_its_line(tmp_path):
    text = SPLIT.read_text(encoding="utf-8").replace(
        '    with s.phase("setup"):', "    with s.phase(undefined):"
    )
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    outcome = keyhole("run", tmp_path / "mine.py", *SMALL, "--runtime", "inline", "--out", tmp_path / "run")
    one_line(outcome, 1, "mine.py:", "NameError")


def test_a_new_protocol_runs_as_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "keyhole run ./my_idea.py" in keyhole("new", "protocol", "my-idea").stdout
    assert run("./my_idea.py", tmp_path / "run").result["protocol"] == "my_idea"
    one_line(keyhole("new", "protocol", "my-idea"), 1, "my_idea.py: exists")
    one_line(keyhole("new", "protocol", "plain"), 2, "cannot be the name")


def test_owners_hold_columns_and_the_first_one_labels(tmp_path):
    found = run(COLUMNS, tmp_path / "run", "--owners", "3")
    inputs = [found.view(f"data_owner:{i}")["images"][0] for i in range(3)]
    assert [x.shape for x in inputs] == [(48, 22), (48, 21), (48, 21)]
    assert np.array_equal(found.truth().images, np.concatenate(inputs, axis=1))
    assert "labels" in found.view("data_owner:0") and "labels" not in found.view("data_owner:1")
    assert found.result["accuracy"]["train"] > 0 and "helper" in found.result["parties"]
    one_line(
        keyhole("run", "plain", "--split", "columns"), 2, "--split columns is not for plain: iid, label, even"
    )
    one_line(
        keyhole("run", COLUMNS, "--owners", "65", "--samples", "100", "--runtime", "inline"), 2, "at most 64"
    )


def test_the_matrix_says_what_a_party_of_a_users_protocol_sent_and_holds(stored, tmp_path):
    def cell(folder, party, names):
        return strongest([row for row in folder.result["learned"] if row["party"] == party], names)

    quantities = dict(QUANTITIES)
    assert cell(stored, "cloud_trainer", quantities["weights"])["how"] == "own", "the cloud drew and sent W1"
    assert cell(stored, "data_owner:0", quantities["samples"])["of"] == "48 of its own"
    held = cell(run(COLUMNS, tmp_path / "run", "--owners", "3"), "data_owner:0", quantities["samples"])
    assert (held["how"], held["of"]) == ("own", "48 of its own") and "columns" in held["detail"]


def test_protocols_of_installed_packages_are_known(monkeypatch):
    module = registry.module_of(registry.opened(str(SPLIT)))

    class Found(dict):
        names = ("split_noise",)

    entry = type("Entry", (), {"load": lambda self: module})()
    monkeypatch.setattr(registry, "_files", {})
    monkeypatch.setattr(registry, "entry_points", lambda group: Found(split_noise=entry))
    assert registry.find_protocol("split-noise").NAME == "split_noise"
