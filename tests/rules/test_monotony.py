"""More view never knows less: a larger coalition, a longer prefix.

A line about others has to be matched by lines at least as strong about the same quantity, of all its samples
but those that the larger view owns.
"""

from itertools import combinations

import numpy as np
import pytest

from parties.adversary.attack import STRENGTH
from parties.adversary.knowledge import learned
from protocols.language.roles import DATA_OWNER, index_of, role_of
from protocols.readings.samples import of_owner
from scenarios.run.folder import load_run

# One line for each way in which views differ: keys, requests, labels, gradients, averages, masks, heads.
LINES = (
    "plain --init owner --labels owner --layers 8,6",
    "plain-fe --defence batch-keys --gradient fe --labels febo --owners 2",
    "plain-fe --first conv:3x3x3",
    "mitig1 --owners 2 --local-steps 2",
    "mitig2 --init shared --momentum 0",
    "mitig2 --owners 4 --batch 4 --per-round 2 --rounds 5 --local-steps 2",
    "mitig2 --owners 4 --batch 4 --labels owner --defence secure-aggregation",
    "mitig2 --owners 4 --batch 4 --epochs 2 --dropout 0.1 --late 0.15 --labels owner "
    "--defence secure-aggregation",
    "mitig2 --owners 3 --samples 36 --batch 4 --epochs 2 --dropout 0.05 --defence secure-aggregation",
    "mitig2 --defence u-shaped --optimizer adam --split label --owners 3 --batch 4",
    "fedsgd --owners 3 --layers 8,6 --batch 4 --local-steps 2 --bias",
    "fedsgd --owners 4 --batch 4 --epochs 2 --dropout 0.1 --late 0.15 --defence secure-aggregation",
    "vertical-fe --target 1 --owners 3",
    "vertical-fe --mode fedv --owners 2",
    "reverse-he --release logits --head 24-6-5",
)  # fmt: skip
PREFIXES = (
    "plain-fe --defence batch-keys --gradient fe --labels febo --owners 2",
    "mitig2 --owners 4 --batch 4 --per-round 2 --rounds 5 --local-steps 2",
    "mitig2 --init shared --momentum 0",
    "vertical-fe --target 1 --owners 3",
)
_ALIKE = {"samples": ("samples", "x"), "x": ("samples", "x"), "gram": ("gram", "samples", "x")}
_MANY = [f"{n} parties" for n in range(2, 9)]  # who has sent something, by and by
_SAYING = ("bounded", "determined", "up to", "exact", "clear")


def positions(line, counts):
    """The samples that a line is about; all where it says no which."""
    runs = line.data.get("samples", [[0, sum(counts)]])
    return {i for start, stop in runs for i in range(start, stop)}


def lost(less, more, config, parties):
    """Lines of a smaller view for which the larger one, of `parties`, has nothing as strong."""
    owners = [index_of(party) for party in parties if role_of(party) is DATA_OWNER]
    mine = {int(i) for owner in owners for i in of_owner(config, owner)}
    for line in less:
        if line.how not in _SAYING or line.since_round is None:
            continue
        alike = [other for other in more if other.quantity in _ALIKE.get(line.quantity, (line.quantity,))]
        strong = [
            other
            for other in alike
            if other.how in _SAYING and STRENGTH.index(other.how) >= STRENGTH.index(line.how)
        ]
        known = set().union(mine, *(positions(other, config.counts) for other in strong))
        of_samples = "samples" in line.data or line.quantity in ("x", "samples", "gram", "labels")
        held = line.of in parties or any(other.of in (line.of, *_MANY) for other in strong)
        held = held or any((other.how, other.of) == ("own", line.of) for other in alike)
        if not (positions(line, config.counts) <= known if of_samples else held):
            yield line


@pytest.fixture(scope="module")
def told(finished):
    """The lines of coalitions of up to two parties, and of both owners with a third, on a finished run."""
    kept = {}

    def of(line):
        if line not in kept:
            run = load_run(finished(line))
            names = parties_of(run)
            some = [c for n in (1, 2) for c in combinations(names, n)]
            some += [c for c in combinations(names, 3) if {"data_owner:0", "data_owner:1"} < set(c)]
            kept[line] = run.config(), {coalition: learned(run.view(*coalition)) for coalition in some}
        return kept[line]

    return of


def parties_of(run):
    """Parties that stand for all: every role, of owners the first two."""
    return [party for party in run.sources if party.partition(":")[2] in ("", "0", "1")]


@pytest.mark.parametrize("line", LINES)
def test_a_larger_coalition_never_knows_less(line, told):
    config, lines = told(line)
    for less, more in ((a, b) for a in lines for b in lines if set(a) < set(b)):
        assert not list(lost(lines[less], lines[more], config, more)), (less, more)


@pytest.mark.parametrize("line", LINES)
def test_a_line_that_bounds_samples_says_whether_a_lattice_was_tried(line, told):
    for coalition, lines in told(line)[1].items():
        for each in lines:
            if each.quantity == "samples" and each.how == "bounded" and "samples" in each.data:
                assert "lattice" in each.detail, (coalition, each.detail)


@pytest.mark.parametrize("line", PREFIXES)
def test_a_longer_prefix_never_knows_less(line, finished):
    run = load_run(finished(line))
    config, moments = run.config(), run.moments()
    for some in ((name,) for name in parties_of(run)):
        view, before = run.view(*some), []
        for _, end in moments:
            now = learned(view.before(end))
            assert not list(lost(before, now, config, ())), (some, end)
            before = now


def test_a_line_that_a_larger_view_lacks_is_noticed(finished):
    run = load_run(finished("mitig2 --init shared --momentum 0"))
    lines = learned(run.view("cloud_trainer"))
    told = [line for line in lines if line.quantity in ("weights", "z1") and line.how in _SAYING]
    assert len(told) == 2
    for line in told:
        rest = [other for other in lines if other is not line]
        assert list(lost(lines, rest, run.config(), ("cloud_trainer",))) == [line]


def test_moments_are_the_rounds_of_all_parties_in_order(finished):
    run = load_run(finished("mitig2 --owners 4 --batch 4 --per-round 2 --rounds 5 --local-steps 2"))
    moments = run.moments()
    assert [number for number, _ in moments] == list(range(10))
    assert (np.diff([end for _, end in moments]) > 0).all()
    rows = [row for row in run.view(*run.sources).rows() if row.phase == "step"]
    assert all(row.seq <= dict(moments)[row.round] for row in rows)
