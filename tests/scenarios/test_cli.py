"""The command line, as a user types it: results, exit statuses, one clear line for what is wrong."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from importlib.metadata import version

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner

from parties.adversary.catalogue import ATTACKS, HEAD_ATTACKS, find_attack, summary
from parties.registry import PROTOCOLS, find_protocol, said
from protocols.crypto import paillier
from protocols.language.errors import KeyholeError
from scenarios.cli import app
from scenarios.page.answer import answer
from tests.conftest import RESULT_SCHEMA

TINY = ["--runtime", "inline", "--samples", "48", "--hidden", "8", "--batch", "16", "--epochs", "1"]


def keyhole(*args):
    return CliRunner().invoke(app, [str(a) for a in args], env={"COLUMNS": "140"})


def run(tmp_path, scenario, *args):
    """(outcome, result.json or None) of a tiny run into tmp_path/run."""
    outcome = keyhole("run", scenario, *TINY, "--out", tmp_path / "run", *args)
    path = tmp_path / "run" / "result.json"
    return outcome, json.loads(path.read_text()) if path.exists() else None


def one_line(outcome, status, *words):
    assert outcome.exit_code == status, outcome.output
    assert outcome.stdout == "" and len(outcome.stderr.strip().splitlines()) == 1, outcome.output
    assert "Traceback" not in outcome.stderr and outcome.stderr.startswith("keyhole: ")
    for word in words:
        assert str(word) in outcome.stderr, outcome.stderr


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A finished run with enough steps for every attack."""
    path = tmp_path_factory.mktemp("stored")
    args = ["--runtime", "inline", "--samples", "64", "--hidden", "16", "--epochs", "3", "--seed", "3"]
    attacks = [
        part for name in ("lp", "smooth", "stack", "labels", "master-key") for part in ("--attack", name)
    ]
    assert keyhole("run", "plain-fe", *args, *attacks, "--out", path / "run").exit_code == 0
    return path / "run"


# Audits of small instances take most of such a run; `tests/rules/test_ledger.py` has one for every switch.
RUNS = (
    "plain", "plain-fe", "plain_fe --scheme ddh --no-audit",
    "plain-fe --labels febo --gradient fe --no-audit", "plain-fe --seed 5",
    "plain-fe --owners 3 --split label --no-audit", "plain-fe --attack stack --attack labels",
    "plain-fe --record headers --attack stack",
)  # fmt: skip


@pytest.mark.parametrize("line", RUNS)
def test_every_scenario_runs_and_its_result_fits_the_schema(tmp_path, line):
    outcome, result = run(tmp_path, *line.split())
    assert outcome.exit_code == 0, outcome.output
    jsonschema.validate(result, RESULT_SCHEMA)
    for name in ("config.json", "run.log", "transcripts", "figures"):
        assert (tmp_path / "run" / name).exists()
    assert "who learned what" in outcome.stdout and str(tmp_path) in outcome.stdout


def test_the_schema_refuses_what_is_no_result(stored):
    result = json.loads((stored / "result.json").read_text())
    jsonschema.validate(result, RESULT_SCHEMA)
    for change in (
        {"schema": 2},
        {"transcript_digest": "x"},
        {"accuracy": {}},
        {"unknown": 1},
        {"learned": [{"how": "guessed"}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**result, **change}, RESULT_SCHEMA)


def test_json_prints_the_result_and_nothing_else(tmp_path):
    outcome, result = run(tmp_path, "plain-fe", "--json")
    assert json.loads(outcome.stdout) == result and outcome.stderr == ""


def test_a_scenario_is_a_script_too(tmp_path):
    command = [
        sys.executable,
        "-m",
        "scenarios.plain_fe",
        *TINY,
        "--seed",
        "1",
        "--json",
        "--no-audit",
        "--out",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and json.loads(done.stdout)["scenario"] == "plain_fe", done.stderr


@pytest.mark.parametrize(
    "line", ["--debug show RUN", "show --debug RUN", "show RUN --debug", "show RUN -- --debug"]
)
def test_debug_may_stand_anywhere_before_two_dashes(line, tmp_path):
    outcome = keyhole(*line.replace("RUN", str(tmp_path / "none")).split())
    if line.endswith("-- --debug"):
        assert outcome.exit_code == 2 and "unexpected" in outcome.stderr
    else:
        assert isinstance(outcome.exception, KeyholeError)
    assert keyhole("show", tmp_path / "none").exit_code in (1, 2)  # and no longer


def test_list_is_one_screen_and_of_a_kind_says_what_each_is():
    lines = CliRunner().invoke(app, ["list"], env={"COLUMNS": "80"}).stdout.splitlines()
    assert len(lines) <= 24 and all(len(line) <= 80 for line in lines)
    assert "secp256k1" in keyhole("list", "schemes").stdout
    one_line(keyhole("list", "schemas"), 2, "known: protocols, schemes, attacks")


def test_show_keeps_names_whole_in_80_columns(stored):
    lines = CliRunner().invoke(app, ["show", str(stored)], env={"COLUMNS": "80"}).stdout.splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines)
    row = next(line for line in lines if "sk_w1" in line)
    assert "key_authority" in row and "cloud_trainer" in row
    assert "phase, dtype, sha256: at 120 columns" in lines[-1]


def test_list_and_figure_print():
    listed = keyhole("list").stdout
    for word in ("plain-fe", "lwe", "master-key", "digits", "FILE.npz"):
        assert word in listed
    assert "key_authority -> cloud_trainer" in keyhole("figure", "plain-fe").stdout
    assert keyhole("figure", "plain_fe", "--mermaid").stdout.startswith("sequenceDiagram")


HEAVY = {"cvxopt", "flint", "gmpy2", "matplotlib", "ray", "scipy", "skimage", "sklearn", "torch"}
LOADED = (
    "import sys; from scenarios.cli import app; app(standalone_mode=False); "
    "print(*sys.modules, file=sys.stderr)"
)


@pytest.mark.parametrize(
    "line", ["--help", "list", "run --help", "audit --help", "attack --help", "show RUN"]
)
def test_what_computes_nothing_waits_for_no_library_that_computes(stored, line):
    """Torch alone takes a second and a half of processor time to import."""
    args = [str(stored) if word == "RUN" else word for word in line.split()]
    done = subprocess.run([sys.executable, "-c", LOADED, *args], capture_output=True, text=True, timeout=120)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "scenarios" in loaded and not loaded & HEAVY, done.stderr if done.returncode else loaded & HEAVY


def test_version_and_short_help():
    assert keyhole("--version").stdout.strip() == version("keyhole")
    for args in (("-h",), ("run", "mitig2", "-h"), ("report", "-h")):
        outcome = keyhole(*args)
        assert outcome.exit_code == 0 and "Usage:" in outcome.stdout


def test_a_run_ends_with_its_answer_and_its_page(tmp_path):
    outcome, result = run(tmp_path, "mitig2", "--no-audit")
    assert outcome.exit_code == 0 and answer(result)[:40] in " ".join(outcome.stdout.split())
    assert "report.html" in outcome.stdout and (tmp_path / "run" / "report.html").stat().st_size > 10_000


def test_the_list_says_what_the_modules_say():
    for name in (*ATTACKS, *HEAD_ATTACKS):
        assert summary(name) == find_attack(name).SUMMARY
    for name in PROTOCOLS:
        module = find_protocol(name)
        assert said(f"protocols.{name}", "SUMMARY", "SECURITY") == [module.SUMMARY, module.SECURITY]
    assert said("protocols.crypto.paillier", "SECURITY") == [paillier.SECURITY]


def test_show_prints_verifies_and_dumps(stored, tmp_path):
    assert "sk_w1" in keyhole("show", stored).stdout
    assert "received" in keyhole("show", stored, "--party", "cloud-trainer", "--label", "dw1").stdout
    assert "intact: 3 parties" in keyhole("show", stored, "--verify").stdout
    assert (
        keyhole(
            "show", stored, "--party", "key_authority", "--label", "w1", "--dump", tmp_path / "w1.npy"
        ).exit_code
        == 0
    )
    assert np.load(tmp_path / "w1.npy").shape == (16, 64)
    assert (
        keyhole(
            "show", stored, "--party", "cloud_trainer", "--label", "sk_w1", "--dump", tmp_path / "sk.json"
        ).exit_code
        == 0
    )
    assert json.loads((tmp_path / "sk.json").read_text())["type"] == "LweFunctionKey"


def test_an_altered_payload_is_named_and_fails(stored, tmp_path):
    shutil.copytree(stored, tmp_path / "run")
    with sqlite3.connect(tmp_path / "run" / "transcripts" / "data_owner.sqlite") as connection:
        sha, seq = connection.execute("SELECT sha256, seq FROM rows WHERE label = 'dw1'").fetchone()
        connection.execute("UPDATE payloads SET data = zeroblob(4) WHERE sha256 = ?", (sha,))
    outcome = keyhole("show", tmp_path / "run", "--verify")
    assert outcome.exit_code == 1 and f"data_owner:0, message {seq} (dw1): payload altered" in outcome.stdout


def test_a_stored_run_is_attacked_again_with_the_same_outcome(stored):
    during = json.loads((stored / "result.json").read_text())["attacks"]
    names = [part for row in during for part in ("--attack", row["attack"])]
    again = json.loads(keyhole("attack", stored, *names, "--json").stdout)
    for one, two in zip(during, again, strict=True):
        drop = ("seconds", "notes")
        assert {k: v for k, v in one.items() if k not in drop} == {
            k: v for k, v in two.items() if k not in drop
        }
    assert all(row["applicable"] for row in again)
    assert (
        "not applicable"
        in keyhole("attack", stored, "--attack", "stack", "--corrupt", "key-authority").stdout
    )


def test_pictures_are_written(stored):
    for name in ("lp", "smooth", "stack", "master_key"):
        assert (stored / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


WRONG = [
    (["run", "nothing"], "unknown scenario"),
    (["run", "plain-fe", "--attack", "magic"], "unknown attack"),
    (["run", "plain-fe", "--dataset", "imagenet"], "--dataset"),
    (["run", "plain", "--scheme", "lwe"], "--scheme is no option of plain"),
    (["run", "plain-fe", "--samples", "10", "--owners", "11"], "--owners"),
    (["run", "plain-fe", "--owners", "0"], "--owners"),
    (["run", "plain-fe", "--samples", "0"], "--samples"),
    (["run", "plain-fe", "--batch", "0"], "--batch"),
    (["run", "plain-fe", "--epochs", "0"], "--epochs"),
    (["run", "plain-fe", "--lr", "0"], "--lr"),
    (["run", "plain-fe", "--layers", "8,x"], "--layers"),
    (["run", "plain-fe", "--layers", "8,0"], "--layers"),
    (["run", "plain-fe", "--layers", "8", "--hidden", "9"], "--hidden"),
    (["run", "plain-fe", "--weight-scale", "0"], "--weight-scale"),
    (["run", "plain-fe", "--scheme", "ddh", "--group", "tiny"], "group"),
    (["run", "plain-fe", "--corrupt", "cloud,data_owner"], "no party 'cloud'"),
    (["run", "plain-fe", "--corrupt", "data_owner:1"], "data_owner:1"),
    (["run", "plain-fe", "--runtime", "inline", "--address", "auto"], "--address"),
    (["run", "plain-fe", "--gray"], "gray"),
    (["figure", "nothing"], "unknown protocol"),
    (["bench", "nothing"], "unknown bench"),
]


@pytest.mark.parametrize(("args", "word"), WRONG, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_wrong_usage_is_one_line_and_status_2_and_leaves_no_folder(args, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one_line(keyhole(*args), 2, word)
    assert list(tmp_path.iterdir()) == []


REFUSED = ("run", "run plain --epochs many", "run plain --no-such", "run plain --seed -1", 
           "run plain --record some", "nothing", "attack x")  # fmt: skip


@pytest.mark.parametrize("line", REFUSED)
def test_what_the_parser_refuses_is_status_2(line):
    assert keyhole(*line.split()).exit_code == 2


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


BROKEN = {
    "missing": lambda path: path,
    "empty": lambda path: (path.write_bytes(b""), path)[1],
    "corrupt": lambda path: (path.write_bytes(b"PK\x03\x04 nonsense"), path)[1],
    "no labels": lambda path: npz(path, images=np.zeros((4, 8, 8), np.uint8)),
    "lengths differ": lambda path: npz(path, images=np.zeros((4, 8, 8), np.uint8), labels=np.arange(3)),
    "NaN": lambda path: npz(path, images=np.full((4, 8, 8), np.nan), labels=np.arange(4)),
    "labels negative": lambda path: npz(
        path, images=np.zeros((4, 8, 8), np.uint8), labels=np.array([-1, 0, 1, 2])
    ),
    "no images": lambda path: npz(path, images=np.zeros((0, 8, 8), np.uint8), labels=np.zeros(0, int)),
    "wrong shape": lambda path: npz(path, images=np.zeros(4, np.uint8), labels=np.arange(4)),
}


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_unusable_data_is_one_line_and_status_1(broken, tmp_path):
    path = BROKEN[broken](tmp_path / "data.npz")
    one_line(keyhole("run", "plain-fe", "--runtime", "inline", "--dataset", path), 1, "data.npz")


def test_missing_data_folders_are_one_line_and_status_1(tmp_path):
    one_line(keyhole("run", "plain-fe", "--dataset", "mnist", "--data-dir", tmp_path / "none"), 1, "none")
    one_line(keyhole("run", "plain-fe", "--dataset", "cifar10"), 1, "--data-dir")


def test_a_folder_in_use_and_a_run_that_is_none_are_refused(stored, tmp_path):
    outcome, _ = run(stored.parent, "plain-fe")
    one_line(outcome, 1, "not empty")
    one_line(keyhole("show", tmp_path / "none"), 1, "no such run folder")
    one_line(keyhole("show", tmp_path), 1, "not a run folder")
    one_line(keyhole("show", stored, "--party", "cloud"), 2, "no party 'cloud'", "cloud_trainer")
    one_line(keyhole("show", stored, "--label", "nothing"), 1, "labels here")
    one_line(keyhole("attack", stored, "--attack", "magic"), 2, "unknown attack")
    one_line(keyhole("attack", stored, "--attack", "stack", "--corrupt", "data_owner:7"), 2, "data_owner:7")


@pytest.mark.parametrize("damage", ["missing", "truncated", "config"])
def test_a_damaged_run_folder_is_one_line(stored, tmp_path, damage):
    shutil.copytree(stored, tmp_path / "run")
    path = tmp_path / "run" / "transcripts" / "cloud_trainer.sqlite"
    if damage == "config":
        (tmp_path / "run" / "config.json").write_text("{")
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:3000])
    outcome = keyhole("attack", tmp_path / "run", "--attack", "stack")
    one_line(outcome, 1, "cloud_trainer" if damage != "config" else "config.json")


def test_a_large_full_transcript_is_asked_for(tmp_path):
    outcome = keyhole("run", "plain-fe", "--epochs", "500", "--out", tmp_path / "run")
    one_line(outcome, 1, "GB", "--record full", "--record headers")
    assert not (tmp_path / "run").exists()


def test_data_without_a_test_set_are_tested_on_a_fifth_of_them(tmp_path):
    rng = np.random.default_rng(0)
    path = npz(tmp_path / "own.npz", X=rng.random((30, 5, 5)), y=np.arange(30) % 3)
    outcome = keyhole(
        "run",
        "plain-fe",
        "--runtime",
        "inline",
        "--dataset",
        path,
        "--hidden",
        "20",
        "--epochs",
        "2",
        "--attack",
        "stack",
        "--out",
        tmp_path / "run",
        "--json",
    )
    result = json.loads(outcome.stdout)
    assert result["config"]["counts"] == [24] and result["attacks"][0]["prior"]["public_images"] == 6
    assert result["accuracy"]["test"] in [k / 6 for k in range(7)]
    assert result["attacks"][0]["metrics"]["exact_pixels"] == 1.0
    jsonschema.validate(result, RESULT_SCHEMA)


def test_the_seed_fixes_the_digest_and_is_warned_of(tmp_path):
    results = [
        run(tmp_path / str(i), "plain-fe", *seed)[1]
        for i, seed in enumerate((["--seed", "4"], ["--seed", "4"], [], []))
    ]
    digests = [result["transcript_digest"] for result in results]
    assert digests[0] == digests[1] and len(set(digests)) == 3
    assert (
        "seeded: no secrecy" in results[0]["security"]["coins"]
        and "operating system" in results[2]["security"]["coins"]
    )


def test_an_interrupted_run_says_so_and_leaves_a_readable_transcript(tmp_path):
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "scenarios",
        "run",
        "plain-fe",
        "--runtime",
        "inline",
        "--samples",
        "64",
        "--hidden",
        "8",
        "--epochs",
        "100000",
        "--record",
        "full",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log, deadline = out / "run.log", time.monotonic() + 60
    try:
        while time.monotonic() < deadline and not (log.exists() and "epoch_finished" in log.read_text()):
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    said = "keyhole: interrupted; what was recorded so far is kept"
    assert (
        process.returncode == 1 and stderr.strip().startswith(said) and len(stderr.strip().splitlines()) == 1
    )
    assert "sk_w1" in keyhole("show", out).stdout and "run_failed" in (out / "run.log").read_text()
