"""Owners that leave a round, or whose copies come too late: what is averaged, and what lies open to whom."""

import numpy as np
import pytest

from parties.record.view import Kind
from protocols.crypto import aggregate
from protocols.language.errors import ConfigError
from protocols.language.relations import KnownMap, Map, Opaque, Plain, now
from protocols.network.config import Labels
from protocols.network.schedule import ends
from protocols.readings.masks import Opened
from scenarios.run.catalogue import find_protocol
from tests.adversary.common import stated
from tests.conftest import MANY, small
from tests.figures.test_many_owners import CROWD

LEAVING = {**MANY, "dropout": 0.1, "late": 0.15}
SECURE = {**LEAVING, "defence": ("secure_aggregation",)}
# Of 4 owners in rounds 0 to 5; three have to stay for shares to open anything.
STAYED = [(1, 3), (0, 2, 3), (0, 1, 2), (0, 2, 3), (0, 1, 3), (0, 1, 3)]
LATE = {0: (2,), 1: (1,), 2: (3,), 3: (1,)}


@pytest.fixture
def runs(runs_without_ledger):
    return runs_without_ledger


def copies(run, *parties):
    found = [each for each in stated(run, *parties).of(KnownMap) if each.map.name == "copy"]
    return {each.map: now(each.value) for each in found}


def clear_copies(run):
    rows = run.view("key_authority").values("w1_copy")
    return {Map("copy", int(row.sender[-1]), row.round): value for row, value in rows}


def test_who_leaves_is_drawn_by_chance_and_the_same_for_all():
    config = small("mitig2", **LEAVING).config
    found = [ends(config, number) for number in range(6)]
    assert [end.stayed for end in found] == STAYED
    assert {number: end.late for number, end in enumerate(found) if end.late} == LATE
    many = small(
        "mitig2", **{**MANY, "samples": 400, "owners": 100, "batch": 4, "dropout": 0.2, "late": 0.1}
    ).config
    stayed, late = (
        np.mean([len(getattr(ends(many, n), name)) for n in range(200)]) / 100 for name in ("stayed", "late")
    )
    assert (
        abs(stayed - 0.7) < 5 * (0.7 * 0.3 / 20_000) ** 0.5 and abs(late - 0.1) < 5 * (0.09 / 20_000) ** 0.5
    )


def test_the_mean_is_of_the_copies_that_are_there_in_time(runs):
    run, _ = runs("mitig2", **LEAVING)
    view = run.view("key_authority")
    means = {row.round: value for row, value in view.values("w1_mean") if row.receiver == "data_owner:0"}
    sent = clear_copies(run)
    for number in range(5):
        mean = np.mean([sent[Map("copy", owner, number)] for owner in STAYED[number]], axis=0)
        assert np.abs(means[number + 1] - mean).max() < 1e-6
    assert {which.owner for which in sent if which.time == 0} == {1, 2, 3}  # 0 left, 2 was late
    assert Map("copy", 2, 4) not in sent


@pytest.mark.parametrize("options", [{}, {"labels": Labels.OWNER}], ids=str)
def test_masked_sums_outlive_owners_that_leave(runs, options):
    """The same means as in the clear but for a round in which too few stayed, where it stays as it was."""
    masked = runs("mitig2", **SECURE, **options)[0]
    means = {row.round: value for row, value in masked.view("key_authority").values("w1_mean")}
    assert np.array_equal(means[0], means[1]) and not np.array_equal(means[1], means[2])
    found = copies(masked, "key_authority", "data_owner:0", "data_owner:1", "data_owner:2")
    sent = {row.round for row in masked.view("data_owner:3").rows("w1_masked", Kind.SENT)}
    assert set(found) == {Map("copy", 3, number) for number in sent} and 2 in sent  # where it was late


def test_without_a_round_that_is_lost_masked_and_clear_runs_agree(runs):
    few = {**SECURE, "owners": 6, "samples": 72, "dropout": 0.1, "late": 0.1}
    masked = runs("mitig2", **few)[0]
    config = masked.config()
    assert all(len(ends(config, n).stayed) >= aggregate.threshold(6) for n in range(6))
    assert any(ends(config, n).late for n in range(6)) and any(
        len(ends(config, n).stayed) < 5 for n in range(6)
    )
    clear = runs("mitig2", **{**few, "defence": ()})[0]
    assert np.abs(masked.final_weights()["w1"] - clear.final_weights()["w1"]).max() < 1e-5


def test_shares_open_copies_to_the_authority_and_as_many_owners_as_it_takes(runs):
    """Three of four open all copies of each round, the late ones too; two do not open those."""
    masked, clear = (runs("mitig2", **{**each, "epochs": 1, "rounds": None})[0] for each in (SECURE, LEAVING))
    true = clear_copies(clear)
    first = {
        which: copy for which, copy in true.items() if which.time == 0
    }  # later means differ: one is lost
    found = copies(masked, "key_authority", "data_owner:0", "data_owner:1", "data_owner:3")
    assert {which for which in found if which.time == 0} == {Map("copy", 2, 0)}
    assert np.abs(found[Map("copy", 2, 0)] - first[Map("copy", 2, 0)]).max() < 1e-6
    for pair in (("data_owner:0", "data_owner:1"), ("data_owner:0", "data_owner:3")):
        late = [
            which
            for which in copies(masked, "key_authority", *pair)
            if which.owner in LATE.get(which.time, ())
        ]
        assert not late


def test_a_late_copy_stays_under_its_own_mask_alone(runs):
    """The authority has the key of an owner that is late, and so all masks that it shares; not its seed."""
    masked = runs("mitig2", **SECURE)[0]
    view = masked.view("key_authority")
    known, config = Opened(view, 1), masked.config()
    assert set(known.keys) == {1} and set(known.seeds) == {0, 2, 3} and LATE[1] == (1,)
    assert not known.lies_open(1) and not any(known.lies_open(owner) for owner in (0, 2, 3))
    assert config.leavers == "some" and not copies(masked, "key_authority")
    (words,) = [
        value for row, value in view.values("w1_masked") if (row.round, row.sender) == (1, "data_owner:1")
    ]
    others = (0, 2, 3)
    stripped = words
    for other in others:
        public = known.publics[known.members.index(other)]
        stripped = stripped - aggregate.pair_mask(known.keys[1], public, 1, other, "w1 1", words.shape)
    own = masked.view("data_owner:1")
    seed = Opened(own, 1).seeds[1]
    copy = aggregate.restore(stripped - aggregate.own_mask(seed, "w1 1", words.shape))
    assert np.abs(copy).max() < 10 < np.abs(aggregate.restore(stripped)).max()


def said_of_shares(run, *parties):
    """The relations that a view states of sealed shares: why they are opaque, or what they come to."""
    found = [*stated(run, *parties).of(Opaque), *stated(run, *parties).of(Plain)]
    return [getattr(each, "why", "") or each.quantity for each in found if "sealed" in each.labels]


def test_a_view_says_what_sealed_shares_tell_it(runs):
    """Nothing to two of four owners, who need three; keys to three; nothing to three that never met."""
    run = runs("mitig2", **SECURE)[0]
    owners = [f"data_owner:{i}" for i in range(4)]
    (few,), (enough,) = said_of_shares(run, *owners[:2]), said_of_shares(run, *owners[:3])
    assert few.startswith("shares of keys and seeds") and "fewer than 3" in few
    assert enough.startswith("keys and seeds of masks, as 3 owners of a round")
    crowd = runs("mitig2", **{**CROWD, "dropout": 0.2, "defence": ("secure_aggregation",)})[0]
    (apart,) = said_of_shares(
        crowd, "data_owner:0", "data_owner:3", "data_owner:6"
    )  # rounds of three in turn
    assert "fewer than 2" in apart


def test_where_nobody_stays_the_mean_stays(runs):
    run, _ = runs("mitig2", **{**LEAVING, "dropout": 1.0, "late": 0.0})
    means = [value for _, value in run.view("key_authority").values("w1_mean")]
    assert all(np.array_equal(mean, means[0]) for mean in means)
    assert "w1_copy" not in run.view("key_authority")


def test_owners_of_a_round_share_secrets_for_that_round(runs):
    run, _ = runs("mitig2", **{**CROWD, "dropout": 0.2, "defence": ("secure_aggregation",)})
    rounds = {(row.round, value.shape) for row, value in run.view("key_authority").values("shares")}
    assert rounds == {(number, (3, aggregate.SEALED_BYTES)) for number in range(4)} and not run.faults()


@pytest.mark.parametrize(("scenario", "options"), [
    ("mitig2", LEAVING), ("mitig2", SECURE), ("mitig2", {**SECURE, "labels": Labels.OWNER}),
], ids=str)  # fmt: skip
def test_runs_send_the_arrows_of_their_figure(runs, scenario, options):
    run, _ = runs(scenario, **options)
    rows = run.view(*run.sources).rows(None, Kind.SENT)
    sent = {(r.phase, r.sender.partition(":")[0], r.receiver.partition(":")[0], r.label) for r in rows}
    assert sent == {a.key for a in find_protocol(scenario).FIGURE if a.applies(run.config())}


@pytest.mark.parametrize(("given", "said"), [
    ({"dropout": 0.6, "late": 0.5}, "together"), ({"dropout": -0.1}, "chances"),
    ({"late": float("nan")}, "chances"),
])  # fmt: skip
def test_chances_are_chances(given, said):
    with pytest.raises(ConfigError, match=said):
        small("mitig2", **{**MANY, **given})


@pytest.mark.parametrize("given", [{"dropout": 0.1}, {"late": 0.1}])
def test_one_owner_does_not_leave(given):
    with pytest.raises(ConfigError, match="for many owners"):
        small("mitig2", **given)
