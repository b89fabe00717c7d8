"""A run folder of somebody else's: read as data, refused in one line, at a cost bounded by its size."""

import json
import sqlite3
import struct
import time

import pytest
from typer.testing import CliRunner

from parties.record.transcript import SCHEMA, TABLES, Transcript
from parties.record.view import View
from protocols.language.errors import DataError
from scenarios.cli import app

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"
ROW = "i AS id, 'cloud_trainer' AS party, 'sent' AS kind, i AS seq, '' AS phase, 0 AS round, '' AS sender, " \
      "'' AS receiver, 'x' AS label, 'int' AS dtype, '[]' AS shape, 9 AS nbytes, " \
      "x'00' AS sha256 FROM n"  # fmt: skip
SCHEMAS = {
    "rows as an endless view": ("DROP TABLE rows", f"CREATE VIEW rows AS {ENDLESS} {ROW}"),
    "payloads as an endless view": (
        "DROP TABLE payloads",
        f"CREATE VIEW payloads AS {ENDLESS} i AS id, x'00' AS sha256, zeroblob(900000000) AS data FROM n",
    ),
    "meta as a view": ("ALTER TABLE meta RENAME TO meta2", "CREATE VIEW meta AS SELECT * FROM meta2"),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON rows BEGIN DELETE FROM rows; END",),
    "a virtual table": ("DROP TABLE rows", "CREATE VIRTUAL TABLE rows USING fts5(label)"),
    "a generated column": ("ALTER TABLE rows ADD COLUMN more TEXT AS (zeroblob(100000000))",),
    "a table besides": ("CREATE TABLE more (x)",),
    "an index besides": ("CREATE INDEX more ON rows (label)",),
    "no constraint": ("DROP TABLE payloads", "CREATE TABLE payloads (id INTEGER, sha256 BLOB, data BLOB)"),
}


def said(*words):
    """What the command line says, and its exit status; never a traceback."""
    outcome = CliRunner().invoke(app, list(map(str, words)))
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exception
    return outcome.exit_code, outcome.output


@pytest.mark.parametrize("statements", SCHEMAS.values(), ids=SCHEMAS)
def test_a_schema_of_the_strangers_own_is_refused_in_one_line(copy, change, statements):
    run, path = copy
    change(path, *statements)
    started = time.process_time()
    for words in (["show", run.path, "--verify"], ["show", run.path], ["learned", run.path]):
        status, output = said(*words)
        assert status == 1 and output.count("\n") == 1 and "four tables" in output
    assert time.process_time() - started < 5


def circular(path, rows=3000, levels=12):
    """A transcript with more rows than anybody can count on few pages: each leads to the next many times."""
    with sqlite3.connect(path) as connection:
        connection.executescript(f"PRAGMA page_size = 4096; {TABLES}")
        connection.executemany(
            "INSERT INTO meta VALUES (?, ?)", [("schema", str(SCHEMA)), ("record", "full")]
        )
        row = ("cloud_trainer", "sent", 1, "", 0, "", "", "x", "int", "[]", 9, bytes(32))
        connection.executemany(f"INSERT INTO rows VALUES (NULL{', ?' * 12})", [row] * rows)
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'rows'").fetchone()
    connection.close()
    content = bytearray(path.read_bytes())
    pages = [content[i : i + 4096] for i in range(0, len(content), 4096)]
    leaves = [number for number, page in enumerate(pages, 1) if page[0] == 13 and number > root][:levels]
    for here, there in zip([root, *leaves], leaves, strict=False):
        pages[here - 1] = leading_to(pages[root - 1], there)
    path.write_bytes(b"".join(pages))


def leading_to(inner, number):
    """An interior page, all of whose children are one page."""
    page, child = bytearray(inner), struct.pack(">I", number)
    page[8:12] = child
    for i in range(struct.unpack_from(">H", page, 3)[0]):
        at = struct.unpack_from(">H", page, 12 + 2 * i)[0]
        page[at : at + 4] = child
    return bytes(page)


@pytest.mark.parametrize("ask", ["rows", "where", "parties", "labels"])
def test_pages_that_lead_in_circles_end_a_query_in_bounded_time(tmp_path, ask):
    circular(tmp_path / "t.sqlite")
    transcript, view = Transcript(tmp_path / "t.sqlite"), View([(tmp_path / "t.sqlite", "cloud_trainer")])
    asked = {
        "rows": lambda: list(transcript.rows("1 ORDER BY id")),
        "where": lambda: list(transcript.rows("label = 'y' ORDER BY seq")),
        "parties": transcript.parties,
        "labels": view.labels,
    }
    started = time.process_time()
    with pytest.raises(DataError, match="damaged"):
        asked[ask]()
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "change_to",
    ["label = x'ff'", "seq = 'x'", "seq = 1.5", "shape = '3'", "shape = '[1.5]'", "shape = '[-1]'",
     "kind = 'other'",     "sha256 = 'text'", "nbytes = NULL", "label = hex(zeroblob(1000))", "phase = NULL",
     "shape = replace(hex(zeroblob(60000)), '0', '[')",
     "shape = '[' || replace(hex(zeroblob(60000)), '00', '9') || ']'"],
)  # fmt: skip
def test_a_row_of_the_wrong_type_is_refused(copy, change, change_to):
    run, path = copy
    change(path, f"UPDATE rows SET {change_to} WHERE label = 'dw1'")
    with pytest.raises(DataError, match="damaged"):
        list(run.view("cloud_trainer").rows())


@pytest.mark.parametrize("name", ["", "x:y", "\x1b[2Jcloud", "a b", "x:99999999999", "1"], ids=repr)
def test_a_party_that_cannot_be_one_is_refused(copy, change, name):
    run, path = copy
    change(path, "UPDATE rows SET party = ?", values=(name,))
    status, output = said("show", run.path)
    assert status == 1 and output.isascii() and output.count("\n") == 1 and "party" in output


def test_a_blob_that_is_not_as_long_as_its_row_says_is_not_read(copy, change):
    run, path = copy
    change(path, "UPDATE payloads SET data = zeroblob(50000000) WHERE id = 3")
    assert any("payload altered" in fault for fault in run.faults())


EVIL = "\x1b[2J\x1b]0;owned\x07 \u202e[bold red]x[/bold red] [/] :smile: \x9b31m\nforged"


def evil(content):
    """The same JSON with other words in it, but for what names a file or a party."""
    if isinstance(content, dict):
        keep = (
            "run",
            "party",
            "corrupted",
            "attack",
            "how",
            "data",
            "prior",
            "config",
            "figure",
            "protocol",
            "transcript_digest",
        )
        return {key: value if key in keep else evil(value) for key, value in content.items()}
    if isinstance(content, list):
        return [evil(item) for item in content]
    return EVIL if isinstance(content, str) else content


@pytest.mark.parametrize("column", ["label", "phase", "sender", "receiver", "dtype"])
def test_terminal_escapes_and_markup_in_a_transcript_are_shown_and_not_obeyed(copy, change, column):
    run, path = copy
    change(path, f"UPDATE rows SET {column} = ? WHERE label IN ('dw1', 'sk_w1')", values=(EVIL,))
    for words in (["show", run.path, "--party", "cloud_trainer"], ["show", run.path, "--verify"],
                  ["learned", run.path], ["coalitions", run.path],
                  ["show", run.path, "--label", EVIL, "--party", "cloud_trainer"],
                  ["show", run.path, "--party", "cloud_trainer", "--label", "dw1", "--dump", run.path / "x"],
                  ["attack", run.path, "--attack", "gradient"]):  # fmt: skip
        status, output = said(*words)
        assert status in (0, 1, 2) and all(letter.isprintable() for letter in output.replace("\n", "")), words
        assert "Traceback" not in output and "internal error" not in output and "\nforged" not in output, (
            output
        )
    shown = said("show", run.path, "--party", "cloud_trainer", "--limit", "1000")[1]
    assert "\\x1b[2J" in shown.replace("\n", "") or column != "label"


def test_terminal_escapes_and_markup_in_results_are_shown_and_not_obeyed(copy):
    run, _ = copy
    result = run.path / "result.json"
    result.write_text(json.dumps(evil(json.loads(result.read_text()))))
    for words in (
        ["compare", run.path],
        ["attack", run.path, "--attack", "labels"],
        ["compare", run.path, run.path, "--json"],
    ):
        status, output = said(*words)
        assert status == 0 and all(letter.isprintable() for letter in output.replace("\n", "")), words
    assert "[/]" in said("compare", run.path)[1]


NAMES = ["a#b", "a?mode=rwc", "50%25", "with space", "ünïcode ✓", "a'b\"c"]


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_a_path_is_a_path_whatever_it_spells(copy, tmp_path, name):
    run, _ = copy
    run.path.rename(tmp_path / name)
    status, output = said("show", tmp_path / name, "--verify")
    assert (status, output[:6]) == (0, "intact")
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
