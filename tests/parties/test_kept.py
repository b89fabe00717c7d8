"""Which payloads a run keeps, and what a reader says of those that it did not."""

import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from parties.adversary.adversary import Adversary
from parties.adversary.knowledge import learned
from parties.record.kept import First, Kept, Record
from parties.record.transcript import Transcript
from parties.record.verify import transcript_digest, verify
from parties.registry import find_protocol
from parties.runtime.replay import replay
from protocols.language.errors import ConfigError, DataError, NotRecorded
from scenarios.run.certify import certify
from scenarios.run.folder import RunFolder
from scenarios.run.learned import learned_rows
from tests.conftest import MANY, small

FEW = {"batch": 48, "epochs": 8, "hidden": 32}  # 32 keys an epoch, for 64 pixels: one is not enough


def lines(run, *parties):
    with closing(run.view(*parties)) as view:
        return learned(view, run.moments())


def values(run, party):
    with closing(run.view(party)) as view:
        return [np.asarray(view.value(row), dtype=object).tolist() for row in view.rows()]


def nbytes(run):
    return sum(path.stat().st_size for path in run.transcripts)


def test_what_a_party_saw_is_kept_with_whoever_sent_it(runs):
    full = runs("mitig2", **MANY)[0]
    some = runs("mitig2", **MANY, record_full=("data_owner:2",))[0]
    assert transcript_digest(some.transcripts) == transcript_digest(full.transcripts)
    assert str(values(some, "data_owner:2")) == str(values(full, "data_owner:2"))
    assert {row.kind.value for row in some.view("data_owner:2").rows()} >= {"received", "sent", "coins"}
    for party in ("data_owner:1", "cloud_trainer", "key_authority"):
        assert not some.view(party).has_payloads()
    with pytest.raises(NotRecorded, match=r"payloads of z1 not recorded \(message \d+, step 0\)"):
        values_of = [row for row in some.view("data_owner:1").rows("z1")]
        some.view("data_owner:1").value(values_of[0])
    assert list(verify(some.transcripts)) == []
    assert nbytes(some) < nbytes(full)


def test_a_view_that_was_kept_says_what_it_says_in_a_full_run(runs):
    full = runs("mitig2", **MANY)[0]
    some = runs("mitig2", **MANY, record_full=("data-owner:2,key-authority",))[0]
    for party in ("data_owner:2", "key_authority"):
        assert learned_rows(lines(some, party)) == learned_rows(lines(full, party))


def test_a_coalition_of_which_one_was_kept_says_no_less_than_that_one(runs):
    some = runs("mitig2", **MANY, record_full=("key_authority",))[0]
    alone, both = lines(some, "key_authority"), lines(some, "cloud_trainer", "key_authority")
    said = {(line.quantity, line.of, line.how) for line in both}
    assert {(line.quantity, line.of, line.how) for line in alone if line.how != "own"} <= said
    assert any("not recorded" in line.detail for line in both)
    assert "nothing found" not in {line.how for line in both}


def test_consumed_leaves_out_keys_that_follow_from_others(runs):
    more = {"epochs": 4, "hidden": 32}
    full, some = (runs("plain_fe", **more, record=record)[0] for record in (Record.FULL, Record.CONSUMED))
    assert transcript_digest(some.transcripts) == transcript_digest(full.transcripts)
    with closing(some.view("cloud_trainer")) as view:
        kept = [row.round for row in view.rows("sk_w1") if view.keeps(row)]
        assert kept == [0, 1, 2] and all(map(view.keeps, view.rows("dw1")))
    assert nbytes(some) < nbytes(full)
    for party in full.sources:
        assert learned_rows(lines(some, party)) == learned_rows(lines(full, party))
    prior = full.prior()
    for name in ("stack", "master_key", "gradient"):
        ours, theirs = (Adversary(run.view_sources(("cloud_trainer",))) for run in (some, full))
        found = [each.attack(name, prior, 0).reconstruction for each in (ours, theirs)]
        assert np.array_equal(found[0].values, found[1].values) and found[0].notes == found[1].notes
        ours.close(), theirs.close()


def test_what_needs_a_payload_that_is_not_there_says_so(runs):
    full, some = (runs("plain_fe", **FEW, record=record)[0] for record in (Record.FULL, Record.CONSUMED))
    exact = [line for line in lines(full, "cloud_trainer") if line.quantity == "master key"]
    assert [line.how for line in exact] == ["exact"]
    found = lines(some, "cloud_trainer")
    keys = [line for line in found if line.quantity in ("samples", "master key") and "key" in line.detail]
    assert keys and all("payloads of sk_w1 not recorded" in line.detail for line in keys)
    assert "nothing found" not in {line.how for line in found}
    adversary = Adversary(some.view_sources(("cloud_trainer",)))
    outcome = adversary.attack("stack", some.prior(), 0)
    assert outcome.reconstruction is None and "payloads of sk_w1 not recorded" in outcome.why
    one = adversary.attack("gradient", some.prior(), 0)
    assert one.reconstruction is not None and "not_recorded" not in one.reconstruction.notes
    adversary.close()


def test_an_attack_on_the_view_before_says_so(runs):
    some = runs("plain_fe", **FEW, record=Record.CONSUMED)[0]
    adversary = Adversary(some.view_sources(("cloud_trainer",)))
    outcome = adversary.attack("lattice", some.prior(), 0)
    adversary.close()
    said = outcome.reconstruction.notes["not_recorded"]
    assert said == "payloads of sk_w1 not recorded (message 20, step 1): the view before it was attacked"


def test_consumed_is_replayed_and_an_altered_message_is_named(runs, tmp_path):
    some = runs("plain_fe", epochs=4, hidden=32, record=Record.CONSUMED)[0]
    found = certify(some)
    assert not found.faults and any(line.startswith("replayed") for line in found.told)
    shutil.copytree(some.path, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    for path in run.transcripts:  # both ends, so that only a replay can tell
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE rows SET sha256 = zeroblob(32) WHERE label = 'sk_w1' AND round = 7")
    config = some.config()
    counts = {role: 1 for role in find_protocol("plain_fe").roles(config)}
    found = replay(run.transcripts, find_protocol("plain_fe"), config, counts, {})
    assert len(found.faults) == 1 and found.faults[0].startswith("key_authority, message")
    assert "payloads of sk_w1 not recorded" in found.failed


def test_headers_are_never_said_to_tell_nothing(runs):
    run = runs("mitig2", **MANY, aggregation="secure", record=Record.HEADERS)[0]
    masked = [line for line in lines(run, "key_authority", "data_owner:0") if line.quantity == "w1_masked"]
    assert [line.how for line in masked] == ["undecided"] and "not recorded" in masked[0].detail


def test_headers_with_one_whole_view_say_what_was_not_checked(runs):
    some = runs("mitig2", **MANY, record_full=("data_owner:2",))[0]
    found = certify(some)
    assert not found.faults and found.told[0].startswith("headers only, and of data_owner:2 every payload")


def test_a_protocol_that_says_nothing_of_its_arrows_has_all_payloads_kept():
    kept = small("mitig2", **MANY, record=Record.CONSUMED).kept
    assert kept == Kept(Record.CONSUMED)
    budget = small("plain_fe", defence=("key-budget:16",), record=Record.CONSUMED).kept
    assert kept.first == () == budget.first


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"record_full": ("data_owner:9",)}, "--record-full: no party 'data_owner:9' takes part"),
        ({"record_full": ("nobody",)}, "--record-full: no party 'nobody' takes part"),
        ({"record_full": (",",)}, "--record-full: expected the names of parties"),
        ({"record_full": ("cloud_trainer",), "record": Record.FULL}, "--record full keeps every payload"),
    ],
)
def test_a_party_that_is_none_is_refused_in_a_line(options, why):
    with pytest.raises(ConfigError, match=why):
        small("mitig2", **MANY, **options)


def test_which_payloads_are_kept_is_read_from_the_transcript(runs, tmp_path):
    some = runs("plain_fe", epochs=4, hidden=32, record=Record.CONSUMED)[0]
    for path in some.transcripts:
        with closing(Transcript(path)) as transcript:
            assert transcript.kept.first == (First("step", "key_authority", "cloud_trainer", "sk_w1", 3),)
    for said in ("[]", "{", '{"first": [[1, 2]]}', '{"whole": 3}'):
        with pytest.raises(DataError, match="which payloads it keeps"):
            Kept.of("full", said)
    with pytest.raises(DataError, match="which payloads it keeps"):
        Kept.of("some", None)
