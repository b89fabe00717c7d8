"""Tables of the ledger leave out what a stronger line says, and nothing that says more in any respect."""

import shutil
from itertools import product

import pytest
from rich.console import Console

from parties.adversary.attack import STRENGTH
from scenarios.page.page import page
from scenarios.run.folder import load_run, write_json
from scenarios.run.learned import covers, told_first
from scenarios.show.summary import learned_table
from tests.scenarios.test_report import row


def part(start, stop, **given):
    return row(of=f"{stop - start} of 40 samples", data={"samples": [[start, stop]]}, **given)


ALL = row(of="all 40 samples", data={"samples": [[0, 40]]}, detail="rank 64 of 64; solved")
WEAK = row(of="all 40 samples", data={"samples": [[0, 40]]}, how="bounded", detail="rank 21 of 64")

COVERED = {
    "a weaker word": (ALL, WEAK),
    "a weaker word, later, of fewer": (ALL, part(0, 8, how="bounded", since_round=9)),
    "the same word, of fewer, where the first rests on nothing": (ALL, part(3, 9, detail="whole pixels")),
    "what crossed in the clear": (row(how="clear"), row(how="exact")),
    "a batch": (ALL, row(of="8 samples of data_owner:0, round 0", how="up to", data={"samples": [[0, 8]]})),
    "runs that touch": (
        row(of="16 of 40 samples", data={"samples": [[0, 8], [8, 16]]}),
        part(4, 12, how="bounded"),
    ),
    "another quantity of one owner": (
        row(quantity="weights", of="W1"),
        row(quantity="weights", of="W1", how="bounded"),
    ),
    "the same line twice": (part(0, 8), part(0, 8)),
    "dates that neither has": (row(since_round=None), row(since_round=None, how="up to")),
}
MORE = {
    "an earlier step": (ALL, {**WEAK, "since_round": 1}),
    "more samples": (part(0, 8), part(0, 9, how="bounded")),
    "other samples": (part(0, 8), part(8, 10, how="bounded")),
    "all samples": (part(0, 8), WEAK),
    "a stronger word": (WEAK, {**ALL, "of": "3 of 40 samples", "data": {"samples": [[0, 3]]}}),
    "another quantity": (ALL, {**WEAK, "quantity": "gram"}),
    "another name of a quantity": (ALL, {**WEAK, "quantity": "x"}),
    "another party": (ALL, {**WEAK, "party": "key_authority"}),
    "a coalition": (ALL, {**WEAK, "party": "cloud_trainer, key_authority"}),
    "no date": (ALL, {**WEAK, "since_round": None}),
    "a date": ({**ALL, "since_round": None}, WEAK),
    "the same word by another derivation": ({**ALL, "detail": "32 equations and whole pixels"}, ALL),
    "the same word by a derivation that rests on less": (
        {**ALL, "since_round": 0, "detail": "whole pixels"},
        part(0, 16, since_round=0, detail="dZ1 and dW1"),
    ),
    "no public samples": (row(of="all 40 samples", how="up to", detail="public samples end the order"), WEAK),
    "samples without names": (
        part(0, 8),
        row(of="9 of 40 samples", how="bounded", data={"samples": [[0, 8]]}),
    ),
    "counts without names": (row(of="9 of 40 samples"), row(of="9 of 40 samples", how="bounded")),
    "another total": (ALL, row(of="all 41 samples", how="bounded")),
    "a total out of another one": (ALL, row(of="3 of 41 samples", how="bounded", data={"samples": [[0, 3]]})),
    "weights of another party": (
        row(quantity="weights", of="W1"),
        row(quantity="weights", of="W1(0)", how="up to"),
    ),
    "what is said of others by an audit": (ALL, row(of="others", how="determined", since_round=None)),
    **{
        f"that it is {how}": (ALL, {**WEAK, "how": how})
        for how in ("not analysed", "nothing found", "undecided", "own")
    },
    "that another's are its own": ({**ALL, "how": "own"}, {**WEAK, "how": "nothing found"}),
}


@pytest.mark.parametrize("pair", COVERED.values(), ids=COVERED)
def test_a_line_that_a_stronger_one_covers_is_left_out(pair):
    strong, weak = pair
    assert told_first([weak, strong]) == [strong] and told_first([strong, weak]) == [strong]


@pytest.mark.parametrize("pair", MORE.values(), ids=MORE)
def test_a_line_that_says_more_in_any_respect_stays(pair):
    one, other = pair
    assert not covers(one, other)
    kept = told_first([one, other])
    assert other in kept


def test_whatever_is_left_out_is_said_by_a_line_that_stays():
    """Over every pair of words, dates and samples."""
    samples = {
        "all 6 samples": [[0, 6]],
        "3 of 6 samples": [[0, 3]],
        "2 of 6 samples": [[1, 3]],
        "1 of 6 samples": [[5, 6]],
    }
    rows = [
        row(of=of, how=how, since_round=since, data={"samples": runs}, detail=detail)
        for (of, runs), how, since, detail in product(
            samples.items(), STRENGTH, (None, 0, 3), ("rank 4 of 4", "whole pixels")
        )
    ]
    kept = told_first(rows)
    gone = [each for each in rows if each not in kept]
    assert gone and len(kept) < len(rows)
    for each in gone:
        assert any(
            STRENGTH.index(other["how"]) >= STRENGTH.index(each["how"]) and other["how"] != "own"
            and within(each, other) and since(other) <= since(each)
            for other in kept
        )  # fmt: skip
    for how in ("own", "undecided", "not analysed", "nothing found"):
        assert sum(r["how"] == how for r in kept) == sum(r["how"] == how for r in rows)


def within(one, other):
    return all(
        any(a <= start and stop <= b for a, b in other["data"]["samples"])
        for start, stop in one["data"]["samples"]
    )


def since(one):
    return (one["since_round"] is None, one["since_round"] or 0)


def test_the_strongest_line_of_a_quantity_stands_first_and_quantities_stay_together():
    rows = [WEAK | {"since_round": 0}, row(quantity="labels", how="clear", of="data_owner:0"), ALL,
            row(party="key_authority", how="own", quantity="master key", of="key_authority")]  # fmt: skip
    assert [(r["party"], r["quantity"], r["how"]) for r in told_first(rows)] == [
        ("cloud_trainer", "samples", "exact"), ("cloud_trainer", "samples", "bounded"),
        ("cloud_trainer", "labels", "clear"), ("key_authority", "master key", "own"),
    ]  # fmt: skip


def test_tables_say_how_many_lines_are_left_out():
    console = Console(width=140)
    with console.capture() as capture:
        console.print(learned_table([WEAK, ALL], 140))
    shown = capture.get()
    assert "rank 64 of 64" in shown and "rank 21 of 64" not in shown
    assert "1 line that a stronger line covers: --json has all" in shown
    with console.capture() as capture:
        console.print(learned_table([ALL], 140))
    assert "covers" not in capture.get()


def test_the_page_leaves_them_out_and_says_so(runs, tmp_path):
    shutil.copytree(runs()[0].path, tmp_path / "run")
    run = load_run(tmp_path / "run")
    content = {**run.result, "learned": [WEAK, ALL]}
    write_json(run.path / "result.json", content)
    text = page([load_run(run.path)])
    assert "rank 64 of 64; solved" in text and "rank 21 of 64" not in text
    assert "1 line that a stronger line covers" in text
