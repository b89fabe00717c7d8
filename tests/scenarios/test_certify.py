"""`show --verify`: what was replaced is named, however consistently it was replaced."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import asdict

import pytest
from typer.testing import CliRunner

from parties.adversary.attack import Learned
from parties.record.transcript import Transcript
from parties.record.verify import transcript_digest
from parties.runtime import inline, replay
from protocols.language.message import describe, digest, encode
from scenarios.cli import app
from scenarios.run import certify as certify_module
from scenarios.run.certify import certify
from scenarios.run.folder import RunFolder
from scenarios.run.learned import FAILED
from scenarios.run.manifest import stored_hash, write_manifest


class Forger:
    """Replaces parts of a run folder so that digests, both ends and figures of traffic still fit."""

    def __init__(self, path):
        self.path = path
        self.files = sorted((path / "transcripts").glob("*.sqlite"))

    def sql(self, statement, *values):
        """Returns how many rows of all transcripts it changed."""
        changed = 0
        for file in self.files:
            with closing(sqlite3.connect(file)) as connection, connection:
                changed += connection.execute(statement, values).rowcount
        return changed

    def payload(self, change, where):
        """Replace the value of every row for which a condition holds, with its digest, type and shape."""
        for file in self.files:
            with closing(Transcript(file)) as transcript:
                found = [(row, transcript.value(row)) for row in transcript.rows(where)]
            with closing(sqlite3.connect(file)) as connection, connection:
                for row, value in found:
                    changed = change(value)
                    frame, (dtype, shape) = encode(changed), describe(changed)
                    sha, of = digest(frame), (dtype, json.dumps(shape), frame.nbytes)
                    connection.execute(
                        "INSERT OR IGNORE INTO payloads (sha256, data) VALUES (?, ?)", (sha, frame.tobytes())
                    )
                    connection.execute(
                        "UPDATE rows SET sha256 = ?, dtype = ?, shape = ?, nbytes = ? WHERE id = ?",
                        (sha, *of, row.id),
                    )

    def json(self, name, *keys, value):
        """Replace one value in a JSON file, by a function of the old one."""
        content = json.loads((self.path / name).read_text())
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value(inner[keys[-1]])
        (self.path / name).write_text(json.dumps(content))

    def config(self, field, value):
        """Replace an option wherever it is written down."""
        self.json("config.json", "config", field, value=value)
        self.json("result.json", "config", field, value=value)
        for file in self.files:
            with closing(sqlite3.connect(file)) as connection, connection:
                (text,) = connection.execute("SELECT value FROM meta WHERE key = 'config'").fetchone()
                said = json.loads(text)
                said[field] = value(said[field])
                connection.execute("UPDATE meta SET value = ? WHERE key = 'config'", (json.dumps(said),))

    def settle(self, manifest):
        """Let the digest in result.json, and with `manifest` all that manifest.json says, fit again."""
        self.json("result.json", "transcript_digest", value=lambda _: transcript_digest(self.files))
        if manifest:
            write_manifest(RunFolder(self.path))


def said(path):
    outcome = CliRunner().invoke(app, ["show", str(path), "--verify"])
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exception
    return outcome.exit_code, outcome.output


def swapped_messages(forger):
    """Two messages change places, at both ends, with what is told to steps."""
    first, second = 1, 2
    for old, new in ((first, -7), (second, first), (-7, second)):
        forger.sql("UPDATE rows SET seq = ? WHERE seq = ?", new, old)


def swapped_entries(forger):
    """Two entries of the owner change places in its file; they keep their numbers."""
    rows = "SELECT id FROM rows WHERE party = 'data_owner:0' AND kind = 'sent' ORDER BY id LIMIT 2"
    with (
        closing(sqlite3.connect(forger.path / "transcripts" / "data_owner.sqlite")) as connection,
        connection,
    ):
        (a,), (b,) = connection.execute(rows).fetchall()
        for old, new in ((a, 10**6), (b, a), (10**6, b)):
            connection.execute("UPDATE rows SET id = ? WHERE id = ?", (new, old))


def without_last_message(forger):
    with closing(sqlite3.connect(forger.files[0])) as connection:
        (last,) = connection.execute("SELECT MAX(seq) FROM rows WHERE kind = 'output'").fetchone()
    forger.sql("DELETE FROM rows WHERE seq >= ?", last)


def inverted(images):
    return images.max() - images


INPUT = "kind = 'input' AND label = '{}'"
COINS = "kind = 'coins' AND label = '{}' AND party = '{}'"

# How a part is replaced; what names it if the manifest is as it was, and if it is made to fit.
FORGERIES = {
    "images": (
        lambda f: f.payload(inverted, INPUT.format("images")),
        "inputs: those of data_owner",
        r"data_owner:0, message \d+ \(\w+\): does not follow from its inputs, coins",
    ),
    "labels": (
        lambda f: f.payload(lambda y: y[::-1].copy(), INPUT.format("labels")),
        "inputs: those of data_owner",
        r"data_owner:0, message \d+ \(labels\): does not follow from its inputs",
    ),
    "coins of the authority": (
        lambda f: f.payload(lambda k: k ^ 1, COINS.format("coins", "key_authority")),
        "coins: those of key_authority",
        r"key_authority, message \d+ \(mpk\): does not follow from its inputs, coins",
    ),
    "coins for weights": (
        lambda f: f.payload(lambda k: k ^ 1, COINS.format("weights", "cloud_trainer")),
        "coins: those of cloud_trainer",
        r"cloud_trainer, message \d+ \(\w+\): does not follow from its inputs, coins",
    ),
    "config": (
        lambda f: f.config("lr", lambda lr: 2 * lr),
        "config: config.json is not the one",
        r"cloud_trainer, message \d+ \(\w+\): does not follow",
    ),
    "config of more epochs": (
        lambda f: (
            f.config("epochs", lambda n: n + 1),
            f.json("result.json", "steps", value=lambda n: 2 * n),
        ),
        "config: config.json is not the one",
        "result: security in result.json",  # what more keys would leave of the secret
    ),
    "config.json alone": (
        lambda f: f.json("config.json", "config", "batch", value=lambda n: n + 1),
        "config: config.json is not the one",
        "config: cloud_trainer.sqlite holds another configuration",
    ),
    "name of a step": (
        lambda f: f.sql("UPDATE steps SET step = 'protocols.x.nothing' WHERE step LIKE '%start_model'"),
        "steps: those of cloud_trainer",
        "steps: cloud_trainer lists protocols.x.nothing",
    ),
    "place of a step": (
        lambda f: f.sql("UPDATE steps SET after_row = after_row + 1 WHERE party = 'key_authority'"),
        "steps: those of key_authority",
        "steps: key_authority lists",
    ),
    "arguments of steps": (
        lambda f: f.payload(lambda told: [*told, 1], "kind = 'public' AND party = 'cloud_trainer'"),
        "steps: those of cloud_trainer",
        r"steps: cloud_trainer, message \d+ \(arguments\): is not what the script tells",
    ),
    "order of messages": (swapped_messages, "order: those of", "order: entry"),
    "order of entries": (swapped_entries, "order: those of data_owner", "order: entry"),
    "an end cut off": (without_last_message, "order: those of", "order: the entries of cloud_trainer end"),
    "accuracy": (
        lambda f: f.json("result.json", "accuracy", "test", value=lambda share: 1 - share),
        "result: result.json is not the one",
        "result: accuracy, test, in result.json",
    ),
    "traffic": (
        lambda f: f.json("result.json", "traffic", 0, "bytes", value=lambda n: n + 1),
        "result: result.json is not the one",
        "result: traffic in result.json",
    ),
    "security": (
        lambda f: f.json("result.json", "security", "coins", value=lambda line: "all is well"),
        "result: result.json is not the one",
        "result: security in result.json",
    ),
}


@pytest.fixture
def forger(runs, tmp_path):
    """A copy of a run without a seed, whose parts a test may replace."""
    run, _ = runs("plain_fe", seed=None)
    shutil.copytree(run.path, tmp_path / "run")
    return Forger(tmp_path / "run")


@pytest.mark.parametrize("fitting", [False, True], ids=["manifest kept", "manifest made to fit"])
@pytest.mark.parametrize("name", FORGERIES)
def test_what_was_replaced_is_named(forger, name, fitting):
    forge, *told = FORGERIES[name]
    forge(forger)
    forger.settle(manifest=fitting)
    assert RunFolder(forger.path).faults() == []  # neither digests nor ends tell
    status, output = said(forger.path)
    assert status == 1, output
    assert any(re.match(f"altered: ({told[fitting]})", line) for line in output.splitlines()), output


def test_one_owner_of_many_is_named_and_nobody_else(runs, tmp_path):
    run, _ = runs("mitig2", owners=4, batch=4)
    shutil.copytree(run.path, tmp_path / "run")
    forger = Forger(tmp_path / "run")
    forger.payload(inverted, f"{INPUT.format('images')} AND party = 'data_owner:2'")
    forger.settle(manifest=False)
    assert said(forger.path)[1].count("altered:") >= 1
    assert {line.split()[4] for line in said(forger.path)[1].splitlines() if "inputs" in line} == {
        "data_owner:2"
    }
    forger.settle(manifest=True)
    lines = said(forger.path)[1].splitlines()
    assert len(lines) == 2 and lines[0].startswith("altered: data_owner:2, message"), lines
    assert "more of its messages" in lines[0] and lines[1] == "1 fault"


def test_first_weights_that_do_not_follow_from_the_seed_are_named(runs, tmp_path):
    shutil.copytree(runs()[0].path, tmp_path / "run")
    forger = Forger(tmp_path / "run")
    for file in ("config.json", "result.json"):
        forger.json(file, "seed", value=lambda seed: seed + 1)
    forger.settle(manifest=True)
    status, output = said(forger.path)
    assert status == 1 and "altered: coins: those of key_authority do not follow from the seed" in output


def test_a_folder_without_its_manifest_or_with_another_hash_is_told(forger):
    forger.json("manifest.json", "manifest", value=lambda _: "0" * 64)
    assert said(forger.path)[1].startswith("altered: manifest.json: its hash is not that of what it lists")
    (forger.path / "manifest.json").unlink()
    assert said(forger.path)[1].startswith("altered: manifest.json: missing")


def test_what_a_party_kept_is_held_against_the_replay(forger):
    kept = forger.path / "state" / "key_authority"
    *rest, last = kept.read_bytes()
    kept.write_bytes(bytes([*rest, last ^ 1]))
    status, output = said(forger.path)
    assert status == 1 and output.startswith("altered: state: what key_authority kept")


def test_what_nothing_computes_again_changes_the_hash_that_was_printed(forger):
    noted = stored_hash(RunFolder(forger.path))
    forger.json("result.json", "seconds", "total", value=lambda seconds: seconds / 2)
    forger.settle(manifest=True)
    status, output = said(forger.path)
    assert status == 0 and noted not in output and "not computed again: attacks" in output


@pytest.mark.parametrize("change", [
    lambda rows: [{**row, "how": "bounded"} if row["how"] == "clear" else row for row in rows],
    lambda rows: [row for row in rows if row["quantity"] != "labels"],
    lambda rows: [*rows, {**rows[0], "quantity": "master key"}],
])  # fmt: skip
def test_what_a_result_says_of_who_learned_what_is_computed_again(forger, change):
    forger.json("result.json", "learned", value=change)
    forger.settle(manifest=True)
    status, output = said(forger.path)
    assert status == 1 and output.startswith("altered: result: what "), output


def test_lines_that_an_audit_added_are_computed_again(forger, monkeypatch):
    added = Learned("cloud_trainer", "images: spread", "others", "determined", "by an audit", None)
    monkeypatch.setattr(certify_module, "held_against_audit", lambda run, lines: [*lines, added])
    forger.json("result.json", "learned", value=lambda rows: [*rows, asdict(added)])
    forger.settle(manifest=True)
    assert "computed again: who learned what" in said(forger.path)[1]
    forger.json("result.json", "learned", value=lambda rows: [{**row, "how": "exact"} for row in rows])
    forger.settle(manifest=True)
    assert said(forger.path)[0] == 1


def test_a_ledger_that_failed_is_no_crash_and_says_what_was_not_computed(forger, monkeypatch):
    def failing(*_):
        raise StopIteration

    line = Learned("all parties", FAILED, "all", "not analysed", "the ledger itself failed", None)
    forger.json("result.json", "learned", value=lambda _: [asdict(line)])
    forger.settle(manifest=True)
    status, output = said(forger.path)
    assert status == 0 and "not compared: who learned what (the ledger failed in the run; here: " in output
    monkeypatch.setattr(certify_module, "learned", failing)
    status, output = said(forger.path)
    assert status == 0 and output.startswith("intact") and "computed again: accuracy" in output
    assert "who learned what (the ledger failed in the run, and here: StopIteration)" in output


KINDS = [
    ("plain", {}), ("mitig2", {}), ("mitig2", {"labels": "owner"}), ("plain_fe", {"malicious": "unit_keys"}),
    ("plain_fe", {"owners": 4, "samples": 48, "batch": 4, "epochs": 2}),
    ("mitig2", {"owners": 4, "batch": 4, "defence": ("secure-aggregation",)}),
    ("he_train", {}), ("reverse_he", {}), ("reverse_he", {"owners": 2, "release": "decision", "seed": None}),
]  # fmt: skip


@pytest.mark.parametrize(("scenario", "options"), KINDS, ids=str)
def test_runs_of_every_kind_are_intact_and_replayed_without_a_host(runs, monkeypatch, scenario, options):
    run, _ = runs(scenario, **options)
    monkeypatch.setattr(inline, "Host", None)
    found = certify(RunFolder(run.path))
    assert found.faults == () and re.match(r"replayed: [1-9]\d* messages", found.told[0])
    assert found.told[1].startswith("computed again: accuracy (")


def test_headers_alone_say_what_was_checked_and_what_was_not(runs, tmp_path):
    run, _ = runs("plain_fe", record="headers")
    status, output = said(run.path)
    assert status == 0 and "headers only: checked" in output and "not replayed, as no payloads" in output
    shutil.copytree(run.path, tmp_path / "run")
    forger = Forger(tmp_path / "run")
    forger.sql("UPDATE rows SET sha256 = zeroblob(32) WHERE kind = 'input' AND label = 'images'")
    status, output = said(forger.path)
    assert status == 1 and output.startswith("altered: inputs: those of data_owner")


def test_the_prefix_of_a_run_that_did_not_finish_is_replayed(forger):
    for name in ("result.json", "manifest.json", "status.json"):
        (forger.path / name).unlink()
    for file in forger.files:
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("DELETE FROM rows WHERE seq >= 20")
    status, output = said(forger.path)
    assert (
        status == 3
        and "replayed:" in output
        and output.startswith("incomplete: interrupted; last message 19")
    )
    forger.payload(inverted, INPUT.format("images"))
    assert "altered: data_owner:0, message" in said(forger.path)[1]


def test_no_key_and_no_seed_is_told(forger, runs):
    seeded = runs(seed=987654321)[0]
    for path in (forger.path, seeded.path):
        view = RunFolder(path).view("key_authority", "data_owner", "cloud_trainer")
        keys = [value.tobytes() for label in ("coins", "weights") for value in view[label]]
        view.close()
        told = said(path)[1] + (path / "manifest.json").read_text()
        assert keys and not any(key.hex() in told for key in keys) and "987654321" not in told


def test_a_run_prints_the_hash_of_its_manifest(tmp_path):
    words = "run plain --runtime inline --samples 48 --hidden 8 --epochs 1 --no-audit --out".split()
    output = CliRunner().invoke(app, [*words, str(tmp_path / "run")]).output
    assert f"manifest  {stored_hash(RunFolder(tmp_path / 'run'))}" in output


def test_the_replay_reads_no_data_set(forger, monkeypatch):
    def refuse(*_):
        raise AssertionError("a data set was read")

    monkeypatch.setattr("parties.data.datasets.load", refuse)
    monkeypatch.setattr("parties.data.shares.load", refuse)
    run = RunFolder(forger.path)
    from scenarios.run.certify import stored_experiment

    experiment = stored_experiment(run)
    counts = experiment.counts
    found = replay.replay(run.transcripts, experiment.protocol, experiment.config, counts, {})
    assert (found.faults, found.ended) == ((), "") and found.messages == 17


def test_a_frame_that_departs_is_replaced_by_the_stored_one(forger):
    """Else everybody after the first party that departs would be blamed."""
    forger.payload(inverted, INPUT.format("images"))
    forger.settle(manifest=True)
    named = {line.split()[1] for line in said(forger.path)[1].splitlines() if line.startswith("altered")}
    assert named == {"data_owner:0,"}
