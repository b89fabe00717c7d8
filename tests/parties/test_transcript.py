"""Transcripts: what is kept, what an altered one is told by, and that opening one runs nothing."""

import hashlib
import itertools
import os
import pickle
import signal
import sqlite3
import threading
import time

import numpy as np
import pytest
import zstandard

from parties.record import writer as transcript_writer
from parties.record.kept import Kept
from parties.record.transcript import Transcript
from parties.record.verify import parties_in, transcript_digest, verify
from parties.record.view import Kind, Record, View
from parties.record.writer import TranscriptWriter
from protocols.language.errors import DataError, TranscriptError
from protocols.language.message import Header, digest, encode
from tests.conftest import MANY


def first(path, label):
    return next(View([(str(path), "cloud_trainer")]).rows(label))


def test_an_intact_run_has_no_faults(copy):
    run, _ = copy
    assert run.faults() == []


def test_an_altered_payload_is_named_by_party_and_sequence_number(copy, change):
    """Its sender keeps it, for both."""
    run, path = copy
    row, kept = first(path, "dw1"), path.with_name("data_owner.sqlite")
    change(kept, "UPDATE payloads SET data = zeroblob(length(data)) WHERE sha256 = ?", values=(row.sha256,))
    named = f"data_owner:0, message {row.seq} (dw1)"
    assert any(fault.startswith(named) and "altered" in fault for fault in run.faults())
    with pytest.raises(DataError, match=f"message {row.seq} .dw1.*altered"):
        run.view("cloud_trainer").value(row)


@pytest.mark.parametrize(
    "change_to",
    ["label = 'dw2'", "round = 77", "shape = '[1, 2]'", "dtype = 'int8'", "sender = 'key_authority'"],
)
def test_an_altered_header_is_found(copy, change_to, change):
    run, path = copy
    row = first(path, "dw1")
    change(path, f"UPDATE rows SET {change_to} WHERE seq = ? AND kind = 'received'", values=(row.seq,))
    assert any(f"message {row.seq} " in fault for fault in run.faults())


def test_a_payload_replaced_together_with_its_digest_is_found_by_the_other_end(copy):
    run, path = copy
    row = first(path, "dw1")
    forged = encode(np.zeros(row.shape, np.float32))
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO payloads (sha256, data) VALUES (?, ?)", (digest(forged), forged.tobytes())
        )
        connection.execute("UPDATE rows SET sha256 = ? WHERE seq = ?", (digest(forged), row.seq))
    connection.close()
    assert any(f"message {row.seq} " in fault and "says it sent" in fault for fault in run.faults())


def test_a_deleted_row_is_found(copy, change):
    run, path = copy
    row = first(path, "dw1")
    change(path, "DELETE FROM rows WHERE seq = ?", values=(row.seq,))
    assert any(f"cloud_trainer, message {row.seq} (dw1): missing" in fault for fault in run.faults())


def test_a_message_that_both_ends_alter_alike_changes_the_digest(copy, change):
    run, path = copy
    row = first(path, "dw1")
    for name in ("cloud_trainer", "data_owner"):
        change(
            path.with_name(f"{name}.sqlite"), "UPDATE rows SET round = 9999 WHERE seq = ?", values=(row.seq,)
        )
    assert any("transcript digest" in fault for fault in run.faults())


@pytest.mark.parametrize("content", [b"", b"no database at all", None], ids=["empty", "text", "truncated"])
def test_a_damaged_file_is_one_clear_error(copy, content):
    _, path = copy
    path.write_bytes(path.read_bytes()[:5000] if content is None else content)
    with pytest.raises(DataError, match="cloud_trainer.sqlite|damaged"):
        list(View([(str(path), "cloud_trainer")]).rows())


def read_all(path):
    view = View([(str(path), "cloud_trainer")])
    return (
        [view.value(row) for row in view.rows()],
        view.labels(),
        view.config,
        list(view.steps()),
        list(verify([path])),
    )


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_damaged_is_told_as_an_error_of_ours(copy, seed):
    _, path = copy
    intact, rng, refused = path.read_bytes(), np.random.default_rng(seed), 0
    for _ in range(8):
        bytes_ = np.frombuffer(intact, np.uint8)[
            : rng.integers(100, len(intact)) if seed % 2 else None
        ].copy()
        bytes_[rng.integers(0, min(len(bytes_), 98304), 1000)] = rng.integers(0, 256, 1000)  # the first pages
        path.write_bytes(bytes_.tobytes())
        try:
            read_all(path)
        except DataError:
            refused += 1
    assert refused > 4


def test_a_payload_of_the_wrong_type_is_refused(copy, change):
    run, path = copy
    change(path.with_name("data_owner.sqlite"), "UPDATE payloads SET data = 'text'")
    with pytest.raises(DataError, match="altered"):
        run.view("cloud_trainer")["dw1"]
    assert any("payload altered" in fault for fault in run.faults())


def test_a_payload_is_stored_once_and_compressed_where_that_makes_it_shorter(copy, change):
    run, path = copy
    every = {sha: len(data) for file in run.transcripts for sha, data in _stored(file).items()}
    views = [Transcript(file) for file in run.transcripts]
    rows = [row for view in views for row in view.rows("kind != 'received' ORDER BY id")]
    assert {row.sha256 for row in rows} <= every.keys()
    assert all(every[row.sha256] <= row.nbytes for row in rows)
    keys = [row for row in rows if row.label == "sk_w1"]
    assert keys and all(every[row.sha256] < row.nbytes / 2 for row in keys)
    for view, kept in zip(views, map(_stored, run.transcripts), strict=True):
        own = {row.sha256 for row in view.rows("kind != 'received' ORDER BY id")}
        assert kept.keys() == own and all(view.keeps(row) for row in list(view.rows("1 ORDER BY id")))
        view.close()


def _stored(path):
    with sqlite3.connect(path) as connection:
        found = dict(connection.execute("SELECT sha256, data FROM payloads"))
    connection.close()
    return found


@pytest.mark.parametrize("size", [1000, 1 << 40])
def test_a_payload_that_claims_to_unpack_to_far_more_is_altered(copy, change, size):
    """16 MB of zeros in 500 bytes, under a row that says so, or says less."""
    run, path = copy
    row, bomb = first(path, "dw1"), zstandard.ZstdCompressor().compress(bytes(1 << 24))
    kept = path.with_name("data_owner.sqlite")
    change(kept, "UPDATE payloads SET data = ? WHERE sha256 = ?", values=(bomb, row.sha256))
    change(path, "UPDATE rows SET nbytes = ? WHERE seq = ?", values=(size, row.seq))
    with pytest.raises(DataError, match="altered"):
        run.view("cloud_trainer").value(first(path, "dw1"))


def test_a_view_ends_where_a_sender_that_was_killed_had_committed_no_more(copy, change):
    run, path = copy
    sent = [row.seq for row in run.view("data_owner").rows("dw1", Kind.SENT)]
    kept = path.with_name("data_owner.sqlite")
    change(
        kept,
        "DELETE FROM payloads WHERE sha256 IN (SELECT sha256 FROM rows WHERE seq >= ?)",
        values=(sent[1],),
    )
    change(kept, "DELETE FROM rows WHERE seq >= ?", values=(sent[1],))
    assert (
        len(run.view("cloud_trainer")["dw1"]) == 1
        and max(r.seq for r in run.view("cloud_trainer").rows()) < sent[1]
    )


@pytest.mark.parametrize("lost", ["payload", "file"])
def test_a_view_of_which_something_is_lost_otherwise_is_no_shorter_one(copy, change, lost):
    """Nothing may be found less because somebody took a file away."""
    run, path = copy
    kept = path.with_name("data_owner.sqlite")
    if lost == "file":
        kept.unlink()
    else:
        change(kept, "DELETE FROM payloads WHERE sha256 IN (SELECT sha256 FROM rows WHERE label = 'dw1')")
    with pytest.raises(DataError, match=r"\(dw1\): payload missing"):
        run.view("cloud_trainer")["dw1"]


def test_a_payload_that_a_receiver_has_besides_is_checked_too(copy, change):
    run, path = copy
    row = first(path, "dw1")
    change(path, "INSERT INTO payloads (sha256, data) VALUES (?, 'text')", values=(row.sha256,))
    assert any(fault.startswith(f"cloud_trainer, message {row.seq}") for fault in run.faults())


def test_a_pickle_in_a_transcript_is_refused_and_not_run(copy, tmp_path):
    _, path = copy
    row, target = first(path, "dw1"), tmp_path / "executed"
    evil = pickle.dumps(type("Evil", (), {"__reduce__": lambda self: (os.mkdir, (str(target),))})())
    sha = hashlib.sha256(evil).digest()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO payloads (sha256, data) VALUES (?, ?)", (sha, evil))
        connection.execute("UPDATE rows SET sha256 = ?, nbytes = ? WHERE seq = ?", (sha, len(evil), row.seq))
    connection.close()
    with pytest.raises(DataError):
        list(View([(str(path), "cloud_trainer")]).values("dw1"))
    assert list(verify([path])) and not target.exists()


def test_files_are_readable_by_their_owner_only(runs):
    run, _ = runs()
    assert {os.stat(path).st_mode & 0o777 for path in run.transcripts} == {0o600}


def test_a_view_reads_only_its_party_though_others_share_the_file(tmp_path):
    path = tmp_path / "t.sqlite"
    writer = TranscriptWriter(path, Kept())
    for party, value in (("data_owner:0", 1), ("data_owner:1", 2)):
        writer.note(party, Kind.INPUT, "number", value)
    writer.close()
    assert parties_in(path) == ["data_owner:0", "data_owner:1"]
    assert View([(str(path), "data_owner:1")])["number"] == [2]


def test_a_joint_view_counts_a_message_between_corrupted_parties_once(runs):
    run, _ = runs()
    both = run.view("cloud_trainer", "key_authority")
    assert len(list(both.rows("w1"))) == len(list(run.view("cloud_trainer").rows("w1"))) == 3


def message(writer, seq, value):
    writer.message("a", Kind.SENT, Header(seq, "step", 0, "a", "b", "x"), value, encode(value))


def test_equal_payloads_are_stored_once_and_nothing_waits_after_the_end(tmp_path):
    writer, value = TranscriptWriter(tmp_path / "t.sqlite", Kept()), np.zeros(1000)
    for seq in range(50):
        message(writer, seq, value)
    writer.close()
    transcript = Transcript(tmp_path / "t.sqlite")
    assert transcript.first("SELECT COUNT(*) FROM payloads") == (1,)
    assert transcript.first("SELECT COUNT(*) FROM rows") == (50,)
    assert writer._waiting_bytes == 0 and not writer._waiting and not writer._file._rows


def test_parties_wait_for_a_slow_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(transcript_writer, "_WAITING_BYTES", 100_000)
    writer, nbytes = TranscriptWriter(tmp_path / "t.sqlite", Kept()), encode(np.zeros(10_000)).nbytes
    write, waiting = writer._file.row, []
    writer._file.row = lambda *entry: (time.sleep(0.01), waiting.append(writer._waiting_bytes), write(*entry))
    for seq in range(20):
        message(writer, seq, np.zeros(10_000))
    writer.close()
    assert len(waiting) == 20 and max(waiting) < 100_000 + 2 * nbytes


def test_a_transcript_that_cannot_be_written_stops_the_party(tmp_path):
    writer, failed = TranscriptWriter(tmp_path / "t.sqlite", Kept()), threading.Event()

    def full(*entry):
        failed.set()
        raise sqlite3.OperationalError("database or disk is full")

    writer._file.row = full
    writer.note("a", Kind.INPUT, "x", 1)
    assert failed.wait(10)
    with pytest.raises(TranscriptError, match="disk is full"):
        writer.close()
    with pytest.raises(TranscriptError, match="disk is full"):
        writer.note("a", Kind.INPUT, "x", 2)


def test_headers_only_keeps_digests_and_no_payloads(runs):
    full, headers = runs()[0], runs("plain_fe", record=Record.HEADERS)[0]
    assert transcript_digest(full.transcripts) == transcript_digest(headers.transcripts)
    assert not headers.view("cloud_trainer").has_payloads() and full.view("cloud_trainer").has_payloads()
    assert (
        sum(p.stat().st_size for p in headers.transcripts)
        < sum(p.stat().st_size for p in full.transcripts) / 5
    )
    with pytest.raises(DataError, match="not recorded"):
        headers.view("cloud_trainer")["dw1"]


def test_a_killed_run_leaves_a_readable_prefix(tmp_path):
    path, child = tmp_path / "t.sqlite", os.fork()
    if child == 0:
        writer = TranscriptWriter(path, Kept())
        for seq in itertools.count():
            message(writer, seq, np.array([seq]))
    deadline = time.monotonic() + 60
    while (
        time.monotonic() < deadline and len(recorded(path)) < 3000
    ):  # more than a file without its log could hold
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    values = recorded(path)
    assert len(values) >= 3000 and all(value == [seq] for seq, value in enumerate(values))


def recorded(path):
    try:
        return [value for _, value in View([(str(path), "a")]).values("x")]
    except DataError:
        return []


def test_a_page_of_a_view_is_that_part_of_its_rows(runs):
    run, _ = runs("mitig2", **MANY)
    for parties in (("cloud_trainer",), ("data_owner:1",), ("cloud_trainer", "data_owner:0", "data_owner:3")):
        view = run.view(*parties)
        for kinds, having in (((), {}), ((Kind.SENT,), {}), ((), {"label": "z1"}), ((), {"round": 2})):
            rows = [
                row
                for row in view.rows(having.get("label"), *kinds)
                if having.get("round", row.round) == row.round
            ]
            for offset, limit in ((0, 5), (1, 3), (7, 1), (len(rows) - 2, 9), (len(rows), 4)):
                found, total = view.page(offset, limit, *kinds, **having)
                assert found == rows[offset : offset + limit] and total == len(rows)
        assert view.before(20).page(0, 1000) == (
            list(view.before(20).rows()),
            len(list(view.before(20).rows())),
        )
