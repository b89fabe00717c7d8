"""A policy held against runs of each protocol: what breaks it, with which message; and what is no policy."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from parties.adversary.attack import STRENGTH, Learned
from protocols.language.errors import ConfigError
from scenarios.cli import app
from scenarios.run.catalogue import SCENARIOS
from scenarios.run.check import LEVELS, Bound, check, read_policy
from scenarios.run.folder import RunFolder
from tests.conftest import TINY

CLOUD = "cloud_trainer"


def policy(tmp_path, *rules, more=""):
    """A file of rules (party, quantity, at_most)."""
    text = [more, *(f'[[rule]]\nparty = "{p}"\nquantity = "{q}"\nat_most = "{m}"' for p, q, m in rules)]
    path = tmp_path / "leak.toml"
    path.write_text("\n".join(text), encoding="utf-8")
    return path


def checked(run, path):
    return check(RunFolder(run.path), read_policy(path), path).verdicts


def keyhole(*args):
    return CliRunner().invoke(app, [str(a) for a in args], env={"COLUMNS": "140"})


# Protocol, options, rules that hold, rules that do not, and the label of the message that breaks each.
RUNS = [
    ("plain", {}, [("data_owner", "samples", "nothing found")],
     [(CLOUD, "samples", "exact", "x"), (CLOUD, "labels", "exact", "labels"),
      (CLOUD, "weights", "exact", None)]),
    ("plain_fe", {}, [("data_owner:0", "labels", "nothing found"), (CLOUD, "samples", "exact")],
     [(CLOUD, "samples", "up to", "dw1"), ("key_authority", "samples", "nothing found", "w1")]),
    ("mitig1", TINY, [(CLOUD, "samples", "bounded"), (CLOUD, "master key", "nothing found")],
     [(f"{CLOUD} + key_authority", "samples", "bounded", "ct"),
      (f"{CLOUD} + key_authority", "master key", "exact", None)]),
    ("mitig2", {}, [(CLOUD, "samples", "bounded"), ("data_owner", "samples", "nothing found")],
     [(CLOUD, "samples", "nothing found", "z1"), (CLOUD, "labels", "exact", "labels")]),
    ("fedsgd", {"owners": 2},
     [("data_owner:0", "master key", "nothing found"), ("key_authority", "labels", "exact")],
     [("key_authority", "weights", "up to", "w1_copy"), ("key_authority", "samples", "nothing found", None)]),
    ("vertical_fe", {"epochs": 1, "owners": 2, "mode": "fedv"}, [("data_owner:1", "master key", "exact")],
     [(CLOUD, "samples", "nothing found", None)]),
    ("he_train", {},
     [(CLOUD, "samples", "nothing found"), (CLOUD, "labels", "nothing found")],
     [("data_owner", "master key", "exact", None),
      ("data_owner", "weights of every step, by sample", "exact", "ct_moved")]),
    ("reverse_he", {}, [("server", "head", "nothing found"), ("consumer", "head", "bounded")],
     [("key_authority", "head", "nothing found", "r"), ("server + key_authority", "head", "up to", None)]),
]  # fmt: skip


def test_every_protocol_has_a_run():
    assert {name for name, *_ in RUNS} == set(SCENARIOS)


@pytest.mark.parametrize("name, options, held, broken", RUNS, ids=[name for name, *_ in RUNS])
def test_a_run_keeps_to_a_policy_or_not(runs_without_ledger, tmp_path, name, options, held, broken):
    if name == "he_train":
        pytest.importorskip("tenseal.sealapi", reason="an optional extra")
    run, _ = runs_without_ledger(name, **options)
    path = policy(tmp_path, *held, *(rule[:3] for rule in broken), more="audit = false")
    verdicts = checked(run, path)
    assert [each.holds for each in verdicts] == [True] * len(held) + [False] * len(broken)
    for verdict, (*_, label) in zip(verdicts[len(held) :], broken, strict=True):
        if label is not None:
            assert verdict.message is not None and verdict.message.label == label, verdict


# The least level that each word of the ledger passes; None: none. What cannot be told is never less.
PASSES = {
    "nothing found": "nothing found", "bounded": "bounded", "up to": "up to", "exact": "exact",
    "determined": "exact", "undecided": "exact", "clear": None, "own": None, "not analysed": None,
}  # fmt: skip


@pytest.mark.parametrize("how", STRENGTH)
def test_a_line_passes_from_its_level_on(how):
    line = Learned(CLOUD, "samples", "all", how, "", None)
    passed = [level for level in LEVELS if not Bound((CLOUD,), "samples", level).broken_by(line)]
    least = PASSES[how]
    assert passed == ([] if least is None else list(LEVELS[LEVELS.index(least) :]))


def test_what_nobody_analysed_and_no_audit_looked_at_passes_for_no_quantity():
    unknown = Learned(CLOUD, "z1", "data_owner:0", "not analysed", "", None)
    no_audit = Learned(CLOUD, "audit", "others", "not analysed", "", None)
    for level in LEVELS:
        assert Bound((CLOUD,), "samples", level).broken_by(unknown)
        assert Bound((CLOUD,), "samples", level).broken_by(no_audit) == (level != "exact")
    other = Learned(CLOUD, "labels", "data_owner:0", "clear", "", 0)
    assert not Bound((CLOUD,), "samples", "nothing found").broken_by(other)


def test_labels_that_nobody_relates_fail(runs_without_ledger, tmp_path, monkeypatch):
    from parties.registry import find_protocol

    run, _ = runs_without_ledger("mitig2")
    path = policy(tmp_path, (CLOUD, "master key", "nothing found"), more="audit = false")
    assert checked(run, path)[0].holds
    protocol = find_protocol("mitig2")
    stated = protocol.relations
    monkeypatch.setattr(protocol, "relations", lambda view: (x for x in stated(view) if "z1" not in x.labels))
    (verdict,) = checked(run, path)
    assert not verdict.holds and verdict.message.label == "z1" and verdict.line.how == "not analysed"


def test_headers_alone_pass_no_rule_that_asks_for_nothing(runs_without_ledger, tmp_path):
    run, _ = runs_without_ledger("mitig2", record="headers")
    path = policy(tmp_path, (CLOUD, "gram", "bounded"), (CLOUD, "samples", "nothing found"))
    assert [each.holds for each in checked(run, path)] == [False, False]


def test_the_audit_breaks_what_the_rules_do_not(runs_without_ledger, tmp_path):
    run, _ = runs_without_ledger("mitig2")
    rule = (CLOUD, "gram", "bounded")
    assert checked(run, policy(tmp_path, rule, more="audit = false"))[0].holds
    (verdict,) = checked(run, policy(tmp_path, rule))
    assert verdict.line.how == "determined" and verdict.message is None


def test_a_role_that_many_play_stands_for_each(runs_without_ledger, tmp_path):
    run, _ = runs_without_ledger("plain", owners=3)
    path = policy(tmp_path, ("data_owner", "samples", "nothing found"), more="audit = false")
    assert [each.rule.parties for each in checked(run, path)] == [(f"data_owner:{i}",) for i in range(3)]
    pair = policy(tmp_path, (f"data-owner + {CLOUD}", "samples", "bounded"), more="audit = false")
    assert [each.holds for each in checked(run, pair)] == [False] * 3


def test_the_command_line_exits_by_the_verdict(runs_without_ledger, tmp_path):
    run, _ = runs_without_ledger("plain")
    good = policy(tmp_path, ("data_owner", "samples", "nothing found"), more="audit = false")
    outcome = keyhole("check", run.path, "--policy", good)
    assert outcome.exit_code == 0 and outcome.stdout.startswith("holds "), outcome.output
    bad = policy(tmp_path, ("data_owner", "samples", "nothing found"), (CLOUD, "samples", "bounded"),
                 more="audit = false")  # fmt: skip
    outcome = keyhole("check", run.path, "--policy", bad)
    first, second = outcome.stdout.splitlines()
    assert outcome.exit_code == 1 and "(x of data_owner:0), since round 0" in first and first[:6] == "broken"
    assert second.startswith("holds ")
    outcome = keyhole("check", run.path, "--policy", bad, "--json")
    told = json.loads(outcome.stdout)
    assert outcome.exit_code == 1 and [rule["holds"] for rule in told["rules"]] == [True, False]
    assert told["rules"][1]["message"]["label"] == "x" and told["rules"][1]["line"]["since_round"] == 0


def test_an_incomplete_run_fails_unless_it_is_said(runs_without_ledger, tmp_path):
    run, _ = runs_without_ledger("plain")
    shutil.copytree(run.path, tmp_path / "run")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    (tmp_path / "run" / "status.json").write_text(json.dumps(status | {"state": "interrupted"}))
    rule = ("data_owner", "samples", "nothing found")
    path = policy(tmp_path, rule, more="audit = false")
    outcome = keyhole("check", tmp_path / "run", "--policy", path)
    assert outcome.exit_code == 1 and "incomplete: interrupted" in outcome.stdout
    path = policy(tmp_path, rule, more="audit = false\nincomplete = true")
    assert keyhole("check", tmp_path / "run", "--policy", path).exit_code == 0


WRONG = [
    ('[[rule]]\npart = "cloud_trainer"', "rule 1: key 'part' is unknown; did you mean party?"),
    ('[[rule]]\nparty = "cloud_trainr"\nquantity = "samples"\nat_most = "exact"', "no party 'cloud_trainr'"),
    ('[[rule]]\nparty = "cloud_trainer"\nquantity = "sampels"\nat_most = "exact"', "did you mean samples?"),
    ('[[rule]]\nparty = "cloud_trainer"\nquantity = "samples"\nat_most = "little"', "'little' is unknown"),
    ('[[rule]]\nparty = "cloud_trainer"\nquantity = "samples"', "rule 1: lacks at_most"),
    ('[[rule]]\nparty = 3\nquantity = "samples"\nat_most = "exact"', "party: expected text"),
    ('[[rules]]\nparty = "cloud_trainer"', "key 'rules' is unknown; did you mean rule?"),
    ("audit = false", "holds no [[rule]]"),
    ('audit = "no"', "audit: expected true or false"),
    ("rule = [1]", "rule 1: expected a [[rule]] table"),
    ("[[rule", "not TOML"),
]


@pytest.mark.parametrize("text, said", WRONG, ids=[said for _, said in WRONG])
def test_what_is_no_policy_is_one_line(runs_without_ledger, tmp_path, text, said):
    run, _ = runs_without_ledger("plain")
    path = tmp_path / "leak.toml"
    path.write_text(text + "\n", encoding="utf-8")
    outcome = keyhole("check", run.path, "--policy", path)
    assert outcome.exit_code == 2 and outcome.stdout == "" and said in outcome.stderr, outcome.output
    assert len(outcome.stderr.strip().splitlines()) == 1 and str(path) in outcome.stderr


def test_a_policy_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_policy(tmp_path / "none.toml")
