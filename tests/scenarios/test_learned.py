"""Who knows what, and who has to collude to read another owner's samples: searched in the views of runs."""

import shutil

import pytest

from parties.adversary.adversary import Adversary
from parties.adversary.attack import Learned
from parties.adversary.rules import maps
from protocols.network.config import Authority
from scenarios.run.attacks import attack_run
from scenarios.run.folder import load_run
from scenarios.run.learned import QUANTITIES, _united, learned, learned_rows, smallest_coalitions, strongest
from scenarios.show.charts import draw_knowledge
from tests.conftest import MANY, TINY
from tests.scenarios.test_attacks import ENOUGH


def readers(run):
    return {found.coalition for found in smallest_coalitions(run, Adversary) if found.reads}


def test_under_plain_fe_the_cloud_alone_reads_every_sample(runs):
    assert readers(runs("plain_fe", **ENOUGH)[0]) == {("cloud_trainer",)}


def test_without_protection_the_cloud_reads_what_it_is_sent(runs):
    assert readers(runs("plain")[0]) == {("cloud_trainer",)}


def test_a_split_network_of_one_owner_is_read_by_nobody(runs):
    assert readers(runs("mitig2")[0]) == set()


def test_of_a_split_network_with_many_owners_the_authority_reads_a_round(runs):
    run, _ = runs("mitig2", **MANY)
    found = smallest_coalitions(run, Adversary)
    pairs = {("cloud_trainer", owner) for owner in ("data_owner:0", "data_owner:1")}
    assert {f.coalition for f in found if f.settles} == {("key_authority",), *pairs}
    owners = {("data_owner:0",), ("data_owner:1",)}
    assert owners < readers(run)  # samples of a sum that moved a unit alone, by exclusive
    (line,) = [f.line for f in found if f.coalition == ("key_authority",)]
    assert "lattice-span" in line.detail  # of the second owner: the first one's lattice was not found
    asked = [set(f.coalition) for f in found]
    assert {"cloud_trainer", "key_authority"} not in asked, "a larger coalition is not asked"


def read_by_the_authority(run):
    """Samples that lines of the ledger call exact, and those lines."""
    lines = Adversary(run.view_sources(("key_authority",))).learned()
    exact = [line for line in lines if line.quantity == "samples" and line.how == "exact"]
    return {i for line in exact for start, stop in line.data["samples"] for i in range(start, stop)}, exact


def test_what_the_ledger_reads_in_a_span_is_right(runs_without_ledger):
    run, _ = runs_without_ledger("mitig2", **MANY)
    rows, exact = read_by_the_authority(run)
    (row,) = attack_run(run, ["lattice_span"], ("key_authority",), run.prior(), Adversary)
    assert [[12, 16]] in [line.data["samples"] for line in exact]
    assert len(rows) == row["metrics"]["exact_images"] == 48


SPANS = [
    {"owners": 6, "samples": 48, "batch": 4, "hidden": 16, "epochs": 2, "seed": 913},
    {"owners": 4, "samples": 32, "batch": 8, "hidden": 32, "epochs": 1, "seed": 8101},
    {"owners": 4, "samples": 64, "batch": 4, "hidden": 32, "epochs": 4, "seed": 8102,
     "defence": ("secure_aggregation",)},
]  # fmt: skip


@pytest.mark.parametrize("options", SPANS, ids=["later rounds", "all owners", "sums"])
def test_the_ledger_reads_no_less_in_spans_than_the_attack(runs_without_ledger, options):
    run, _ = runs_without_ledger("mitig2", **options)
    rows, exact = read_by_the_authority(run)
    (row,) = attack_run(run, ["lattice_span"], ("key_authority",), run.prior(), Adversary)
    assert len(rows) >= row["metrics"]["exact_images"] >= 16, [line.detail for line in exact]


def test_samples_in_spans_that_were_not_searched_are_named_with_the_limit(runs_without_ledger, monkeypatch):
    monkeypatch.setattr(maps, "_SPAN_WORK", 0)
    run, _ = runs_without_ledger("mitig2", **SPANS[0])
    lines = Adversary(run.view_sources(("key_authority",))).learned()
    (line,) = [line for line in lines if "none tried beyond 24 samples in a sum" in line.detail]
    assert line.how == "bounded" and sum(b - a for a, b in line.data["samples"]) == 32


def test_who_holds_the_master_key_of_mitig1_decides_who_can_open_it(runs):
    apart, _ = runs("mitig1", **TINY)
    own, _ = runs("mitig1", **TINY, authority=Authority.OWNER)
    assert readers(apart) == {("cloud_trainer", "key_authority")} and readers(own) == set()
    lines = Adversary(apart.view_sources(("cloud_trainer",))).learned()
    assert any("known-samples" in line.detail for line in lines if line.quantity == "samples")


def test_the_matrix_takes_the_strongest_and_the_earliest_line():
    rows = [
        {"quantity": "samples", "how": how, "since_round": since, "of": of}
        for how, since, of in (
            ("bounded", 0, "all 9"),
            ("exact", 7, "all 9"),
            ("exact", 3, "all 9"),
            ("exact", 0, "1 of 9"),
        )
    ]
    assert strongest(rows, ("samples", "x"))["since_round"] == 3 and strongest(rows, ("labels",)) is None


def test_the_matrix_finds_the_key_of_an_authority_of_heads_and_grams_of_what_is_known():
    row = {"how": "own", "since_round": 0, "of": "key_authority"}
    names = dict(QUANTITIES)
    assert strongest([{"quantity": "secret key", **row}], names["master key"])["how"] == "own"
    assert strongest([{"quantity": "samples", **row, "how": "bounded"}], names["gram"])["how"] == "bounded"


def test_coalitions_that_read_nothing_exactly_are_said_to_have_found_no_exact_samples(runs, capsys):
    from scenarios.cli import app

    for args in ((), ("--json",)):
        with pytest.raises(SystemExit):
            app(["coalitions", str(runs("reverse_he")[0].path), *args])
        said = capsys.readouterr().out
        assert "no other owner" not in said and ("no exact" in said or args)


def test_a_coalition_knows_at_least_what_its_members_know(runs):
    run, _ = runs("mitig2", **MANY)
    order = ["own", "bounded", "exact", "clear"]
    for _, names in QUANTITIES:
        alone, both = (strongest(learned_rows(learned(run, Adversary, c)), names)
                       for c in (("cloud_trainer",), ("cloud_trainer", "key_authority")))  # fmt: skip
        if alone is not None:
            assert order.index(both["how"]) >= order.index(alone["how"])


def test_the_curve_is_drawn_where_equations_were_counted(runs, tmp_path):
    (tmp_path / "figures").mkdir()
    rows = learned_rows(learned(runs("plain_fe", **ENOUGH)[0], Adversary))
    assert draw_knowledge(tmp_path, rows).stat().st_size > 5000
    assert draw_knowledge(tmp_path, [{"data": {}}]) is None


@pytest.mark.parametrize("fault", ["missing", "truncated"])
def test_a_damaged_run_folder_is_said_in_one_line(runs, tmp_path, capsys, fault):
    from scenarios.cli import app

    shutil.copytree(runs("plain_fe", **ENOUGH)[0].path, tmp_path / "run")
    path = tmp_path / "run" / "transcripts" / "cloud_trainer.sqlite"
    path.unlink() if fault == "missing" else path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(SystemExit) as ended:
        app(["learned", str(tmp_path / "run"), "--corrupt", "cloud_trainer"])
    said = capsys.readouterr().err.strip()
    assert ended.value.code == 1 and "\n" not in said and ("missing" in said or "transcript" in said)
    assert load_run(tmp_path / "run").path


def test_a_coalition_is_told_all_that_its_lines_read_together():
    def line(of, how, samples, detail="one"):
        return Learned("cloud_trainer", "samples", of, how, detail, 0, {"samples": samples})

    lines = [
        line("8 of 48 samples", "exact", [[0, 8]]),
        line("20 of 48 samples", "exact", [[6, 12], [20, 34]]),
    ]
    found = _united([*lines, line("all 48 samples", "bounded", [[0, 48]])], 48)
    assert (found.of, found.how, found.data["samples"]) == ("26 of 48 samples", "exact", [[0, 12], [20, 34]])
    assert _united([*lines, line("the rest", "clear", [[12, 20], [34, 48]])], 48).of == "all 48 samples"
    dropped = Learned("cloud_trainer", "messages", "all parties", "not analysed", "after message 18", None)
    assert _united([lines[0], dropped], 48).detail == "one; not analysed: after message 18"
