"""Recordings of other code: read, attacked and checked as runs are, or refused in one line."""

import json
import sqlite3

import numpy as np
import pytest
from keyhole import load
from typer.testing import CliRunner

from parties.adversary.adversary import Adversary
from protocols.language import relations as r
from protocols.language.errors import ConfigError, DataError, EncodingError
from protocols.language.relations import now
from protocols.language.statements import stated
from protocols.language.view import Kind
from protocols.recorded import Options
from protocols.recorded import relations as related
from scenarios.cli import app
from scenarios.recorder.recorder import record
from scenarios.run.attacks import attack_run
from scenarios.run.folder import load_run
from scenarios.run.learned import learned
from tests.recorder.common import CLOUD, IMAGES, LABELS, LR, OWNER, SIZES, X_MAX, split_training


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return split_training(tmp_path_factory.mktemp("recorder") / "run")


def keyhole(*args):
    return CliRunner().invoke(app, [str(a) for a in args], env={"COLUMNS": "140"})


def lines(folder, *parties):
    return {line.quantity: line for line in learned(folder, Adversary, parties or (CLOUD,))}


def test_what_crossed_is_listed_and_what_follows_is_derived(run):
    found = lines(load_run(run.path))
    assert found["labels"].how == "clear" and "24 messages, the first float32 (8, 12)" in found["z1"].detail
    assert found["gram"].how == "exact" and "rank 32 of 32" in found["gram"].detail
    assert 0 < found["gram"].since_round <= 23 and found["samples"].how == "bounded"


def test_an_attack_is_right_of_what_is_stated_and_wrong_of_a_false_statement(run, tmp_path):
    def error(folder):
        (row,) = attack_run(folder, ["gram"], (CLOUD,), folder.prior(), Adversary)
        return row["metrics"]["relative_error"], row["baseline"]["guess"]["relative_error"]

    right, guess = error(load_run(run.path))
    assert right < 1e-4 < 0.1 < guess
    false = split_training(tmp_path / "false", wrong=True)
    (row,) = attack_run(false, ["gram"], (CLOUD,), false.prior(), Adversary)
    assert not row["applicable"] or row["metrics"]["relative_error"] > 0.05


def test_every_stated_relation_is_true_of_the_truth(run):
    folder = load_run(run.path)
    view, x = folder.view(OWNER, CLOUD), folder.truth().images
    assert np.array_equal(x, IMAGES) and np.array_equal(folder.truth().labels, LABELS)
    found = list(related(view))
    products = [each for each in found if isinstance(each, r.Products)]
    updates = [each for each in found if isinstance(each, r.Update)]
    assert len(products) == 24 and len(updates) == 23
    first, second = (each for each in products if each.map.time in (0, 4))  # of the same samples
    moved = sum(
        LR / X_MAX * x[first.samples] @ (u.steps.error(k).T @ x[u.steps.samples[k]]).T
        for k, u in enumerate(updates[:4])
    )
    assert np.allclose(now(first.values) - now(second.values), moved, atol=1e-3)
    assert [k for u in updates[:1] for k in np.flatnonzero(u.terms)] == [0] and updates[0].steps.known == 24
    assert len({id(u.steps) for u in updates}) == 1  # stored once, and one object to solvers


def test_relations_go_to_those_who_hold_their_messages_by_then(run):
    folder = load_run(run.path)
    cloud = folder.view(CLOUD)
    early = cloud.before(next(row.seq for row in cloud.rows("z1") if row.round == 3))
    kinds = [type(each).__name__ for each in related(early)]
    assert kinds.count("Products") == 4 and kinds.count("Update") == 3 and "Samples" not in kinds
    (update, *_) = [each for each in related(early) if isinstance(each, r.Update)]
    assert update.steps.known == 3
    assert any(isinstance(each, r.Samples) and each.own for each in related(folder.view(OWNER)))


def test_messages_in_no_relation_are_not_analysed(tmp_path):
    found = lines(split_training(tmp_path / "some", rounds=8, related=5))
    assert found["z1"].how == "not analysed" and "of 3 of them" in found["z1"].detail
    with record(tmp_path / "none", roles=(OWNER, CLOUD), **SIZES) as rec:
        rec.send(OWNER, CLOUD, features=np.ones((3, 4)))
    (line,) = learned(rec.run, Adversary, (CLOUD,))
    assert (line.quantity, line.how) == ("features", "not analysed") and "float64 (3, 4)" in line.detail


def test_the_commands_read_a_recording_or_refuse_in_one_line(run, tmp_path):
    assert "z1" in keyhole("show", run.path, "--label", "z1").stdout
    verified = keyhole("show", run.path, "--verify")
    assert verified.exit_code == 0 and "not replayed" in verified.stdout
    rows = json.loads(keyhole("attack", run.path, "--attack", "gram", "--json").stdout)
    assert rows[0]["metrics"]["relative_error"] < 1e-4
    rule = '[[rule]]\nparty = "cloud_trainer"\nquantity = "samples"\nat_most = "bounded"\n'
    (tmp_path / "leak.toml").write_text("audit = false\n" + rule)
    assert keyhole("check", run.path, "--policy", tmp_path / "leak.toml").exit_code == 0
    (tmp_path / "leak.toml").write_text(rule)
    outcome = keyhole("check", run.path, "--policy", tmp_path / "leak.toml")
    assert outcome.exit_code == 1 and "audit = false" in outcome.stdout
    for command, why in (
        (("predict", run.path), "cannot be asked"),
        (("compare", run.path), "has no result.json"), (("run", "recorded"), "a recording of other code"),
        (("audit", "recorded"), "a recording of other code"), (("figure", "recorded"), "has no figure"),
        (("attack", run.path, "--attack", "gram", "--controls"), "nothing to run"),
    ):  # fmt: skip
        outcome = keyhole(*command)
        assert outcome.exit_code in (1, 2) and why in outcome.stderr, (command, outcome.output)
        assert len(outcome.stderr.strip().splitlines()) == 1


def test_a_recording_has_a_page_with_its_ledger_and_what_crossed(tmp_path):
    folder = split_training(tmp_path / "<b>mine", rounds=8)
    outcome = keyhole("report", folder.path)
    assert outcome.exit_code == 0, outcome.output
    text = (folder.path / "report.html").read_text()
    assert "recording &lt;b&gt;mine" in text and "<b>mine" not in text
    found = lines(load_run(folder.path))
    assert found["z1"].detail in text and folder.digest() in text and "dz1" in text and "8 steps" in text
    assert "without protection" not in text and "It cost" not in text
    shown = load(folder.path)._repr_html_()
    assert "iframe" in shown and "not finished" not in shown


def test_the_viewer_shows_a_recording(run):
    from scenarios.viewer.pages import Pages

    pages = Pages(load_run(run.path), "")
    try:
        assert "z1" in pages.entries({"kind": "messages"}) and "dz1" in pages.figure()
        assert "a recording" in pages.entries({})
        asked = {"of": OWNER, "input": "images", "index": "0"}
        assert "there is no protocol that could be run" in pages.follow(asked)
    finally:
        pages.close()


def test_without_the_truth_an_attack_is_carried_out_and_not_scored(tmp_path):
    folder = split_training(tmp_path / "run", truth=False)
    (row,) = attack_run(folder, ["gram"], (CLOUD,), folder.prior(), Adversary)
    assert row["applicable"] and row["samples"] == 32 and row["metrics"] == {}
    assert keyhole("attack", folder.path, "--attack", "gram").exit_code == 0
    with pytest.raises(DataError, match="not given the truth"):
        folder.truth()


def test_an_altered_recording_is_found(tmp_path):
    folder = split_training(tmp_path / "run", rounds=2)
    with sqlite3.connect(folder.path / "transcripts" / "data_owner.sqlite") as db:
        db.execute("DELETE FROM rows WHERE label = 'z1' AND round = 1")
    assert keyhole("show", folder.path, "--verify").exit_code == 1
    folder = split_training(tmp_path / "other", rounds=2)
    for path in folder.transcripts:  # the same at both ends
        with sqlite3.connect(path) as db:
            db.execute("DELETE FROM rows WHERE label = 'z1' AND round = 1")
    outcome = keyhole("show", folder.path, "--verify")
    assert outcome.exit_code == 1 and "digest" in outcome.stdout


def test_code_that_fails_leaves_what_was_recorded(tmp_path):
    with pytest.raises(ZeroDivisionError), record(tmp_path / "run", roles=(OWNER, CLOUD), **SIZES) as rec:
        rec.send(OWNER, CLOUD, z1=np.ones(3))
        raise ZeroDivisionError
    outcome = keyhole("show", rec.run.path)
    assert "incomplete: failed: ZeroDivisionError" in outcome.stderr and "z1" in outcome.stdout


WRONG = [
    (lambda rec: rec.send("data_owner:9", CLOUD, z=np.ones(2)), ConfigError, "no party 'data_owner:9'"),
    (lambda rec: rec.send(CLOUD, CLOUD, z=np.ones(2)), ConfigError, "sends itself"),
    (lambda rec: rec.send(OWNER, CLOUD, a=1, b=2), ConfigError, "one message"),
    (lambda rec: rec.send(OWNER, CLOUD, z=np.array([object()])), EncodingError, "dtype"),
    (lambda rec: rec.send(OWNER, CLOUD, z=object()), EncodingError, "cannot cross"),
    (lambda rec: rec.truth(CLOUD, images=IMAGES, labels=LABELS), ConfigError, "no data owner"),
    (lambda rec: rec.truth(OWNER, images=IMAGES[:3], labels=LABELS[:3]), ConfigError, "expected 32 samples"),
    (lambda rec: rec.truth(OWNER, images=IMAGES / 3, labels=LABELS), ConfigError, "whole pixels"),
    (lambda rec: rec.truth(OWNER, images=IMAGES, labels=LABELS[:3]), ConfigError, "32 labels"),
    (lambda rec: rec.relation(r.Labels(np.arange(2), lambda: LABELS[:2])), ConfigError, "not code"),
    (lambda rec: rec.relation(r.Replay(r.Map("w", 0, 0), iter)), ConfigError, "holds code"),
    (lambda rec: rec.relation(r.Labels(np.arange(1), np.array([np.nan]))), ConfigError, "finite"),
    (lambda rec: rec.begin(-1), ConfigError, "from 0 on"),
]  # fmt: skip


@pytest.mark.parametrize("act, error, said", WRONG, ids=[said for *_, said in WRONG])
def test_what_cannot_be_recorded_is_refused(tmp_path, act, error, said):
    with pytest.raises(error, match=said), record(tmp_path / "run", roles=(OWNER, CLOUD), **SIZES) as rec:
        act(rec)


@pytest.mark.parametrize(
    "roles", [(OWNER,), ("data_owner", CLOUD), ("cloud trainer", OWNER), (f"{CLOUD}:1", OWNER)]
)
def test_parties_are_named_as_in_transcripts(tmp_path, roles):
    with pytest.raises(ConfigError), record(tmp_path / "run", roles=roles, **SIZES):
        pass


# --- statements of a stranger


class Forged:
    """The view of a recording in which a statement was changed."""

    def __init__(self, view, change, label="relation"):
        self._view, self._change, self._label = view, change, label

    def rows(self, label=None, *kinds, round=None):
        return self._view.rows(label, *kinds, round=round)

    def value(self, row):
        value = self._view.value(row)
        if row.kind is Kind.PUBLIC and row.label == self._label:
            value = dict(value)
            if self._label == "steps" or value["type"] == "Products":
                self._change(value)
        return value


FORGED = [
    ("type", lambda v: v.update(type="Replay")), ("type", lambda v: v.update(type=3)),
    ("other fields", lambda v: v.update(more=1)), ("other fields", lambda v: v.pop("noise")),
    ("outside", lambda v: v.update(samples=np.array([1 << 40]))),
    ("outside", lambda v: v.update(samples=np.array([-1]))),
    ("no positions", lambda v: v.update(samples=[1, 2])), ("labels", lambda v: v.update(labels="z1")),
    ("since", lambda v: v.update(since="0")), ("noise", lambda v: v.update(noise="0")),
    ("noise", lambda v: v.update(noise=float("nan"))), ("map", lambda v: v.update(map="w1")),
    ("map", lambda v: v.update(map={"map": 1, "owner": 0, "time": 0})),
    ("no array", lambda v: v.update(values=7)), ("no array", lambda v: v.update(values={"said": 1})),
    ("factor", lambda v: v["values"].update(factor="16")),
    ("shape", lambda v: v.update(values=np.ones((2, 2, 2)))),
]  # fmt: skip


@pytest.mark.parametrize("said, change", FORGED)
def test_a_statement_that_is_none_is_refused(run, said, change):
    view = load_run(run.path).view(CLOUD)
    assert list(stated(Forged(view, lambda value: None), 32))
    with pytest.raises(DataError, match=said):
        list(stated(Forged(view, change), 32))


FORGED_STEPS = [
    lambda v: v.update(lengths=np.array([1])), lambda v: v.update(lengths=np.array([-1, 257])),
    lambda v: v.update(said="all"), lambda v: v.update(said=np.arange(1000)), lambda v: v.pop("label"),
    lambda v: v.update(roundoff="little"), lambda v: v.update(number=5),
]  # fmt: skip


@pytest.mark.parametrize("change", FORGED_STEPS)
def test_steps_that_are_none_are_refused(run, change):
    with pytest.raises(DataError, match="cannot be read"):
        list(stated(Forged(load_run(run.path).view(CLOUD), change, "steps"), 32))


def test_a_reference_to_another_message_gives_no_relation(run):
    view = load_run(run.path).view(CLOUD)
    other = Forged(view, lambda value: value["values"].update(label="dz1"))
    found = list(stated(other, 32))
    assert not any(isinstance(each, r.Products) for each in found)
    assert [each.count for each in found if isinstance(each, r.Unrelated) and each.labels == ("z1",)] == [24]


def test_values_of_another_shape_are_a_fault_of_the_statement(run):
    view = load_run(run.path).view(CLOUD)
    turned = Forged(view, lambda value: value["values"].update(turned=True))
    product = next(each for each in stated(turned, 32) if isinstance(each, r.Products))
    with pytest.raises(DataError, match="expected 2 axes, 8 in the first"):
        now(product.values)


@pytest.mark.parametrize("sizes", [{"features": 0}, {"features": 1 << 40}, {"features": 64, "shape": (3, 3)},
                                   {"features": 4, "counts": (1 << 26, 1)}])  # fmt: skip
def test_sizes_that_nobody_can_hold_are_refused(sizes):
    with pytest.raises(ConfigError):
        Options(**sizes)
