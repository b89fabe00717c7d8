"""`--on-bad-message drop`: a run goes on without the owner whose message its receiver could not take."""

import io
import json
from contextlib import closing
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from rich.console import Console

from parties.party import Party
from parties.record.kept import Record
from parties.record.view import Kind
from parties.runtime.crew import Crew
from protocols.language.errors import ConfigError, MessageError, StepError
from scenarios.run import leaving_out
from scenarios.run.certify import certify
from scenarios.run.execute import execute, resume
from scenarios.run.folder import RunFolder
from scenarios.run.status import State, status_of
from scenarios.show.summary import show_result
from tests.conftest import MANY, RESULT_SCHEMA, small
from tests.parties.test_bad_messages import altered_at_its_sender

DROP = {**MANY, "on_bad_message": "drop"}
SECURE = {**DROP, "owners": 5, "samples": 60, "defence": ("secure-aggregation",)}
U_SHAPED = {**DROP, "labels": "owner"}


@pytest.fixture
def dropped(tmp_path, monkeypatch):
    """A run in which a message of an owner's lacks a column, or is changed in another way; its headers."""

    def run(name, label, which, change=lambda value: value[..., :-1], **options):
        with monkeypatch.context() as patch:
            seen = altered_at_its_sender(patch, label, which, change)
            out = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
            run, result = execute(replace(small(name, **options), out=out))
        return run, result, seen

    return run


CASES = [  # (protocol, options, label, which of them)
    ("mitig2", DROP, "z1", 6),
    ("mitig2", DROP, "w1_copy", 6),
    ("mitig2", U_SHAPED, "da", 2),
    ("mitig2", U_SHAPED, "head_copy", 1),
    ("mitig2", SECURE, "pk", 6),
    ("mitig2", SECURE, "shares", 7),
    ("mitig2", SECURE, "z1", 7),
    ("mitig2", SECURE, "w1_masked", 7),
    ("mitig2", SECURE, "opened", 7),
    ("fedsgd", DROP, "w1_copy", 5),
    ("fedsgd", {**DROP, "owners": 8, "per_round": 3}, "head_copy", 5),
    ("fedsgd", SECURE, "head_masked", 4),
    ("fedsgd", {**DROP, "dropout": 0.2, "late": 0.5}, "w1_copy", 4),
]


@pytest.mark.parametrize(("name", "options", "label", "which"), CASES, ids=str)
def test_a_run_goes_on_without_the_owner(name, options, label, which, dropped):
    run, result, seen = dropped(name, label, which, **options)
    (left,) = result["dropped"]
    assert left["label"] == label and left["undone"] == 0 and seen[which].said in left["why"]
    assert (left["party"], left["message"]) == (seen[which].sender, seen[which].seq)
    assert list(status_of(run).dropped) == [left] and status_of(run).complete
    with closing(run.view(left["party"])) as view:
        said = [row for row in view.rows(None, Kind.SENT) if row.seq > left["message"]]
    later = {row.round for row in said if row.phase == "step"}
    assert len(later) == 0, "it sends nothing in later rounds"
    assert result["accuracy"]["test"] is not None
    certificate = certify(run)
    assert certificate.faults == (), certificate
    jsonschema.validate(json.loads(json.dumps(result)), RESULT_SCHEMA)


def altered(monkeypatch, message):
    """Have the message of this number lack a column, in whatever process it is sent."""
    emit = Party.emit

    def altering(self, header, handle, item=None):
        if header.seq == message:
            self._heap[handle] = self._heap[handle][..., :-1]
        return emit(self, header, handle, item)

    monkeypatch.setattr(Party, "emit", altering)


@pytest.mark.parametrize("record", [Record.FULL, Record.HEADERS])
@pytest.mark.parametrize(("name", "options", "label", "which"), [CASES[1], CASES[6], CASES[10]], ids=str)
def test_it_goes_on_alike_in_processes(name, options, label, which, record, dropped, tmp_path, monkeypatch):
    inline = dropped(name, label, which, **options)[1]
    altered(monkeypatch, inline["dropped"][0]["message"])
    experiment = small(name, **options, runtime="local", record=record)
    run, result = execute(replace(experiment, out=tmp_path / "local"))
    assert [each["message"] for each in result["dropped"]] == [inline["dropped"][0]["message"]]
    assert result["transcript_digest"] == inline["transcript_digest"] and run.faults() == []


@pytest.mark.parametrize(("label", "which"), [("z1", 6), ("w1_masked", 7), ("opened", 7)])
def test_until_then_it_is_the_run_that_nothing_happened_to(label, which, dropped, runs_without_ledger):
    run, result, _ = dropped("mitig2", label, which, **SECURE)
    message = result["dropped"][0]["message"]
    undisturbed = runs_without_ledger("mitig2", **SECURE)[0]
    assert sent(run, message) == sent(undisturbed, message) != []


def sent(run, until):
    """Every message below a number, as the digest has it."""
    found = [row.message for name in run.sources for row in run.view(name).rows(None, Kind.SENT)]
    return sorted(row for row in found if row[0] < until)


@pytest.mark.parametrize(
    ("name", "options", "label", "which"),
    [("mitig2", DROP, "w1_copy", 6), ("mitig2", SECURE, "w1_masked", 7), ("fedsgd", DROP, "w1_copy", 5)],
    ids=str,
)
def test_the_mean_is_that_of_the_others(name, options, label, which, dropped):
    run, result, _ = dropped(name, label, which, **options)
    (left,) = result["dropped"]
    with closing(run.view("key_authority")) as view:
        mean = next(value for row, value in view.values("w1_mean") if row.seq > left["message"])
    copies = [copy_of(run, party, left) for party in run.sources if party.startswith("data_owner")]
    others = [copy for party, copy in copies if party != left["party"]]
    assert len(others) == len(copies) - 1
    assert np.allclose(mean, np.mean(others, axis=0), atol=1e-6)
    assert not np.allclose(mean, np.mean([copy for _, copy in copies], axis=0), atol=1e-6)


def copy_of(run, party, left):
    """W1 of an owner at the end of the round, computed again from its own view."""
    states, number = {}, left["round"]

    def at_the_end(self, transfer):
        if transfer.phase == "average" and transfer.round == number and transfer.label == left["label"]:
            for _, here in self.members(transfer.senders):
                states.setdefault(here.name, here.state.w1.value.numpy().copy())
        return emit(self, transfer)

    emit = Crew.emit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Crew, "emit", at_the_end)
        certify(run)
    return party, states[party]


def test_what_follows_is_said_to_be_not_analysed(dropped):
    run, result, _ = dropped("mitig2", "z1", 6, **DROP)
    told = [row for row in result["learned"] if row["how"] == "not analysed"]
    assert {row["party"] for row in told} >= {"cloud_trainer", "key_authority", "data_owner:0"}
    assert "after message" in told[0]["detail"] and "was left out" in told[0]["detail"]


def test_two_owners_are_left_out(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        first = altered_at_its_sender(patch, "w1_copy", 1, lambda value: value[..., :-1])
        second = altered_at_its_sender(patch, "z1", 14, lambda value: value[..., :-1])
        run, result = execute(replace(small("mitig2", **DROP), out=tmp_path / "run"))
    assert [each["message"] for each in result["dropped"]] == [first[1].seq, second[14].seq]
    assert certify(run).faults == ()


def test_a_run_that_left_an_owner_out_can_be_resumed(dropped, tmp_path, monkeypatch):
    undisturbed = dropped("mitig2", "z1", 6, **DROP)[1]
    altered(monkeypatch, undisturbed["dropped"][0]["message"])

    def observe(event, value):
        if event == "step" and value == 5:
            raise MemoryError

    with pytest.raises(MemoryError):
        execute(replace(small("mitig2", **DROP), out=tmp_path / "stopped"), observe)
    monkeypatch.undo()
    run, result = resume(tmp_path / "stopped")
    assert result["transcript_digest"] == undisturbed["transcript_digest"]
    assert result["dropped"] == undisturbed["dropped"] and result["resumed"] and run.faults() == []


@pytest.mark.parametrize("after", [False, True])
def test_killed_while_it_leaves_an_owner_out_a_run_knows_who_left(after, dropped, tmp_path, monkeypatch):
    undisturbed = dropped("mitig2", "z1", 6, **DROP)[1]
    altered(monkeypatch, undisturbed["dropped"][0]["message"])
    write = leaving_out.write_json

    def killed(path, content):
        if after:
            write(path, content)
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(leaving_out, "write_json", killed)
        execute(replace(small("mitig2", **DROP), out=tmp_path / "stopped"))
    if after:
        assert certify(RunFolder(tmp_path / "stopped")).faults == ()
    run, result = resume(tmp_path / "stopped")
    assert result["dropped"] == undisturbed["dropped"] and list(status_of(run).dropped) == result["dropped"]
    assert result["transcript_digest"] == undisturbed["transcript_digest"] and certify(run).faults == ()


def test_a_certificate_compares_who_was_left_out(dropped):
    run, _, _ = dropped("mitig2", "z1", 6, **DROP)
    said = json.loads((run.path / "status.json").read_text())
    (run.path / "status.json").write_text(json.dumps({**said, "dropped": []}))
    assert any("the owners left out in status.json" in fault for fault in certify(run).faults)


@pytest.mark.parametrize(
    ("name", "options", "label", "which", "why"),
    [
        ("mitig2", DROP, "labels", 1, "the protocol cannot go on without data_owner:2"),
        ("mitig2", DROP, "dz1", 1, "no owner can be left out for it"),
        ("fedsgd", DROP, "w1_mean", 1, "no owner can be left out for it"),
        ("mitig2", {**DROP, "on_bad_message": "stop"}, "z1", 6, r"of data_owner:\d\)"),
    ],
)
def test_where_a_run_cannot_go_on_it_ends_with_a_line(name, options, label, which, why, dropped, tmp_path):
    with pytest.raises((MessageError, StepError), match=why) as raised:
        dropped(name, label, which, lambda value: value.astype(np.float16), **options)
    assert "\n" not in str(raised.value)
    status = status_of(RunFolder(tmp_path / "run-0"))
    assert status.state is State.FAILED and status.reason == str(raised.value) and status.dropped == ()


@pytest.mark.parametrize("name", ["mitig1", "mitig2", "fedsgd"])
def test_one_owner_cannot_be_left_out(name):
    with pytest.raises(ConfigError, match="nobody can go on without the one owner"):
        small(name, on_bad_message="drop", seed=1)


@pytest.mark.parametrize("name", ["plain", "plain_fe", "vertical_fe"])
def test_a_protocol_that_needs_every_owner_has_no_such_option(name):
    with pytest.raises(ConfigError, match="--on-bad-message is no option of"):
        small(name, on_bad_message="drop")


def test_the_command_says_who_was_left_out(dropped):
    run, result, _ = dropped("mitig2", "z1", 6, **DROP)
    console = Console(width=160, record=True, file=io.StringIO())
    show_result(console, run, result)
    (line,) = (line for line in console.export_text().splitlines() if line.strip().startswith("left out"))
    assert result["dropped"][0]["party"] in line
