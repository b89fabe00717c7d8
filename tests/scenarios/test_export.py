"""Transcripts for other programs: a Parquet table and a trace for Perfetto hold what is in the rows."""

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
from typer.testing import CliRunner

from protocols.language.view import Kind
from scenarios.cli import app
from scenarios.show import export


@pytest.fixture(scope="module")
def run(whole_runs):
    return whole_runs("mitig2", owners=4, batch=4)[0]


@pytest.fixture(scope="module")
def rows(run):
    return [row for party in run.sources for row in run.view(party).rows()]


def exported(run, to, path):
    outcome = CliRunner().invoke(app, ["export", str(run.path), "--to", to, "-o", str(path)])
    assert outcome.exit_code == 0, outcome.output
    assert outcome.output.strip() == str(path) and path.stat().st_mode & 0o777 == 0o600
    return path


def test_a_table_holds_every_entry_as_it_is(run, rows, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    monkeypatch.setattr(export, "_GROUP", 10)
    file = parquet.ParquetFile(exported(run, "parquet", tmp_path / "entries.parquet"))
    columns = (
        "party",
        "kind",
        "seq",
        "phase",
        "round",
        "sender",
        "receiver",
        "label",
        "dtype",
        "shape",
        "nbytes",
    )
    found = Counter(
        (*(tuple(each[name]) if name == "shape" else each[name] for name in columns), each["sha256"])
        for each in file.read().to_pylist()
    )
    assert found == Counter((row.party, row.kind.value, *row[3:]) for row in rows)
    assert file.num_row_groups == -(-len(rows) // 10)
    stated = json.loads(file.schema_arrow.metadata[b"keyhole"])
    assert stated["protocol"] == "mitig2" and stated["config"] == run.settings["config"]


def test_a_table_says_which_payloads_were_kept(whole_runs, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    for record, kept in (("full", {True}), ("headers", {False})):
        run = whole_runs("plain", record=record)[0]
        path = exported(run, "parquet", tmp_path / f"{record}.parquet")
        assert set(parquet.read_table(path)["payload_kept"].to_pylist()) == kept


def test_without_pyarrow_the_line_says_what_to_install(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    outcome = CliRunner().invoke(app, ["export", str(run.path), "--to", "parquet", "-o", str(tmp_path / "x")])
    assert outcome.exit_code == 2 and "pip install pyarrow" in outcome.output and not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def trace(run, tmp_path_factory):
    return json.loads(
        exported(run, "chrome-trace", tmp_path_factory.mktemp("trace") / "trace.json").read_text()
    )


def test_a_trace_has_a_thread_for_each_party_and_a_slice_for_each_entry(trace, rows, run):
    events = trace["traceEvents"]
    names = {each["tid"]: each["args"]["name"] for each in events if each["name"] == "thread_name"}
    assert set(names.values()) == {*run.sources, "phases", "rounds"}
    found = Counter((names[e["tid"]], e["cat"], e["name"], e["args"]["message"], e["args"]["sha256"], e["ts"])
                    for e in events if e["ph"] == "X" and e["cat"] != "span")  # fmt: skip
    crossed = [row for row in rows if row.seq >= 0 and row.kind is not Kind.PUBLIC]
    assert found == Counter(
        (r.party, r.kind.value, r.label, r.seq, r.sha256.hex(), 1000 * r.seq) for r in crossed
    )
    assert "no clock" in trace["otherData"]["time"]


def test_every_arrow_of_a_trace_has_two_ends_inside_slices(trace, run):
    events = trace["traceEvents"]
    ends = {kind: Counter(e["id"] for e in events if e["ph"] == kind) for kind in "sf"}
    assert ends["s"] == ends["f"] and sum(ends["s"].values()) == sum(
        e["messages"] for e in run.result["traffic"]
    )
    slices = {(e["tid"], e["ts"]) for e in events if e["ph"] == "X"}
    assert all((e["tid"], e["ts"]) in slices for e in events if e["ph"] in "sf")


def test_rounds_and_phases_of_a_trace_do_not_overlap_and_hold_their_messages(trace):
    events = trace["traceEvents"]
    spans = {tid: sorted((e["ts"], e["ts"] + e["dur"], e["name"]) for e in events
                         if e["ph"] == "X" and e["tid"] == tid) for tid in (1, 2)}  # fmt: skip
    for found in spans.values():
        assert found and all(one[1] <= two[0] for one, two in pairwise(found))
    assert [name for *_, name in spans[2]].count("step 0") == 1
    for each in events:
        if each["ph"] == "X" and each["cat"] == "sent":
            assert any(
                begin <= each["ts"] < end and name == each["args"]["phase"] for begin, end, name in spans[1]
            )


def test_steps_of_a_trace_stand_with_their_party(trace, run):
    events = trace["traceEvents"]
    names = {each["tid"]: each["args"]["name"] for each in events if each["name"] == "thread_name"}
    found = Counter((names[e["tid"]], e["name"]) for e in events if e["ph"] == "i")
    views = [run.view(party) for party in run.sources]
    assert found == Counter((party, step) for view in views for party, _, _, step in view.steps())


def test_strangers_text_cannot_leave_its_string(run, tmp_path):
    import shutil
    import sqlite3

    from scenarios.run.folder import load_run

    copy = shutil.copytree(run.path, tmp_path / "run")
    with sqlite3.connect(copy / "transcripts" / "cloud_trainer.sqlite") as database:
        database.execute("UPDATE rows SET label = ?", ('"}], "x": [{"\n',))
    path = export.write_trace(load_run(copy), tmp_path / "trace.json")
    assert set(json.loads(path.read_text())) == {"displayTimeUnit", "otherData", "traceEvents"}


def test_help_names_the_forms():
    text = subprocess.run(
        [sys.executable, "-m", "scenarios", "export", "--help"], capture_output=True, text=True
    ).stdout
    assert "parquet" in text and "chrome-trace" in text
