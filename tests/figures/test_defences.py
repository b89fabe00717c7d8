"""Each defence does what it says, on real small runs, and the attacks say what it leaves."""

import json
from dataclasses import replace

import numpy as np
import pytest

from parties.adversary.adversary import Adversary
from parties.adversary.solvers.systems import systems
from parties.party import fresh_state
from parties.record.view import Kind, View
from protocols import mitig2
from protocols.crypto import aggregate
from protocols.crypto.coins import Coins, Stream, derive
from protocols.language.errors import BoundError, ConfigError, MalformedError
from protocols.language.options import as_plain, from_plain
from protocols.language.relations import Equations, Instance
from protocols.network.config import Authority, Gradient, Init, Labels, Order, Scheme
from protocols.network.schedule import Visit, permutation, public_order
from protocols.parts import pixels
from protocols.parts.defences import DEFENCES, parse
from scenarios.run.attacks import attack_run
from scenarios.run.baseline import train_plain
from scenarios.run.catalogue import find_protocol
from scenarios.run.execute import execute
from scenarios.study.sweep_defences import Attack, Group, defences_table, sweep_defences
from tests.adversary.common import stated
from tests.conftest import TINY, small

# 64 samples in 4 batches, 16 keys a step: a batch has rank 16, 32, 48, 64 after its visits.
FOUR = {"samples": 64, "hidden": 16, "batch": 16, "epochs": 4}
OWNERS = {"owners": 3, "samples": 48, "hidden": 8, "batch": 4, "epochs": 2}
SECURE = {**OWNERS, "defence": ("secure_aggregation",)}


def attacked(run, name, *corrupted):
    return attack_run(run, [name], corrupted or ("cloud_trainer",), run.prior(), Adversary)[0]


def known(run, *parties):
    return {item.quantity: item for item in reversed(Adversary(run.view_sources(parties)).learned())}


def everyone(run):
    return View([(path, party) for party, path in run.sources.items()])


def same(a, b):
    return np.array_equal(a["w1"], b["w1"]) and all(map(np.array_equal, a["weights"], b["weights"]))


def test_every_defence_sets_an_option_and_none_is_on_by_default():
    for name, defence in DEFENCES.items():
        for protocol in defence.protocols:
            assert parse([f"{name}:3" if defence.takes_value else name.replace("_", "-")], protocol)
            options = find_protocol(protocol).Options
            config = options(features=4, classes=2, x_max=1, counts=(4, 4))
            assert config == from_plain(options, json.loads(json.dumps(as_plain(config))))
            value = getattr(config, defence.field)
            assert defence.field == "init" or value != (3 if defence.takes_value else defence.value)


@pytest.mark.parametrize(("scenario", "defences", "options", "said"), [
    ("plain_fe", ("magic",), {}, "known: key-budget"),
    ("plain_fe", ("noise:1",), {}, "is for mitig2, not for plain-fe"),
    ("mitig2", ("noise",), {}, "NAME:VALUE"),
    ("mitig2", ("noise:-1",), {}, "positive number, got '-1'"),
    ("mitig2", ("noise:nan",), {}, "positive number"),
    ("plain_fe", ("key-budget:2.5",), {}, "positive whole number"),
    ("plain_fe", ("fresh-keys:2",), {}, "takes no value"),
    ("plain_fe", ("fresh-keys", "batch_keys"), {}, "give one of them"),
    ("plain_fe", ("key-budget:7",), {}, "first h = 8 keys"),
    ("plain_fe", ("gradient-budget:7",), {}, "--gradient fe"),
    ("plain_fe", ("key-budget:64",), {}, "would never refuse"),
    ("mitig2", ("unlinkable",), {}, "--labels owner"),
    ("mitig2", ("dither:1",), {}, "below 1"),
    ("mitig2", ("dither:0.1",), {"owners": 2}, "for one owner"),
    ("mitig2", ("dither:0.1",), {"init": Init.SHARED}, "private W1"),
    ("mitig2", ("augment:1",), {"owners": 2}, "for one owner"),
    ("mitig2", ("augment:1",), {"init": Init.SHARED}, "private W1"),
    ("mitig2", ("augment:8",), {}, "larger than what they are moved by"),
    ("mitig2", ("revisit-budget:1.5",), {}, "positive whole number"),
    ("mitig2", ("u-shaped",), {"labels": Labels.CLEAR}, "say different things"),
    ("mitig2", ("secure-aggregation",), {}, "2 to 64 owners, not 1"),
    ("mitig2", ("secure-aggregation",), {"owners": 4, "per_round": 1}, "not 1"),
    ("mitig1", ("secure-aggregation",), {"owners": 2}, "--authority owner"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(scenario, defences, options, said):
    with pytest.raises(ConfigError, match=said) as refused:
        small(scenario, defence=defences, **options)
    assert "\n" not in str(refused.value)


def test_a_value_keeps_its_minus_sign():
    assert parse(["noise:1e-3"], "mitig2") == {"noise": 0.001}


def test_beyond_the_budget_keys_are_refused_and_the_first_layer_freezes(runs):
    run, result = runs("plain_fe", **FOUR, defence=("key_budget:32",))
    cloud, (keys,) = run.view("cloud_trainer"), systems(list(stated(run).of(Instance)))
    ((row, refused),) = cloud.values("refused")
    granted = [sk for _, sk in cloud.values("sk_w1")]
    assert keys.rank <= refused.budget == 32 and refused.rank == keys.rank and row.dtype == "Refused"
    last = np.rint(run.final_weights()["w1"] * 256)
    assert np.array_equal(granted[-1].y, last) and row.round == len(granted) == len(cloud["w1"]) - 1
    assert len(cloud["dw1"]) == len(granted) and known(run, "cloud_trainer")["refused"].how == "clear"
    assert result["accuracy"]["test"] > 0.15 and "32" in result["security"]["defence key-budget"]


def test_under_a_budget_neither_stack_nor_master_key_apply_but_smoothness_gains(runs):
    run, _ = runs("plain_fe", **FOUR, scheme=Scheme.DDH, defence=("key_budget:48",))
    for name in ("stack", "master_key"):
        assert not attacked(run, name)["applicable"]
    one, every = attacked(run, "smooth"), attacked(run, "smooth_stack")
    assert every["metrics"]["mse"] < 0.5 * one["metrics"]["mse"]
    first = {seen.samples[0]: seen.since for seen in reversed(list(stated(run).of(Equations)))}
    assert sorted(first.values()) == [0, 1, 2, 3]  # old keys work on batches that came later


def test_keys_of_gradients_have_a_budget_of_their_own(runs):
    options = {
        "samples": 32,
        "gradient": Gradient.FE,
        "epochs": 2,
    }  # h = 8 rows of dZ1 a step, of length B = 16
    run, _ = runs("plain_fe", **options, defence=("gradient_budget:12",))
    cloud = run.view("cloud_trainer")
    ((_, refused),) = cloud.values("refused")
    assert refused.budget == 12 and 0 < refused.rank <= 12 and len(cloud["sk_dz1"]) == len(cloud["sk_w1"]) - 1


def test_a_query_after_a_budget_uses_the_keys_that_were_granted(runs, tmp_path):
    from scenarios.run.predict import predict, query

    run, _ = runs("plain_fe", **FOUR, defence=("key_budget:32",))
    folder, result = predict(query(run, None, None, 20, "inline", tmp_path / "asked"))
    assert result["samples"] == 20 and "sk_w1" not in folder.view("cloud_trainer")


@pytest.mark.parametrize("options", [
    {},
    {"owners": 3, "batch": 7, "gradient": Gradient.FE, "labels": Labels.FEBO, "scheme": Scheme.DDH},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("name", ["fresh_keys", "batch_keys"])
def test_other_master_keys_change_no_weight(runs, name, options):
    options = {"epochs": 2, "samples": 24, **options}
    run, _ = runs("plain_fe", **options, defence=(name,))
    experiment = small("plain_fe", **options)
    assert same(run.final_weights(), train_plain(experiment, experiment.config))


def test_fresh_keys_stop_no_stacking_and_one_master_key_opens_one_epoch(runs):
    options = {**FOUR, "hidden": 32, "epochs": 2}
    run, _ = runs("plain_fe", **options, defence=("fresh_keys",))
    stack, master = attacked(run, "stack"), attacked(run, "master_key")
    assert stack["metrics"]["exact_pixels"] == master["metrics"]["exact_pixels"] == 1.0
    assert master["notes"]["master_keys"] == master["notes"]["instances"] == 2
    assert master["notes"]["others_it_fits"] == [0, 1]


def test_keys_of_several_epochs_stack_although_none_gives_its_master_key(runs):
    options = {"samples": 16, "hidden": 16, "batch": 16, "epochs": 6}  # one step of 16 keys an epoch
    run, _ = runs("plain_fe", **options, defence=("fresh_keys",))
    assert (
        attacked(run, "stack")["metrics"]["exact_pixels"] == 1.0
        and not attacked(run, "master_key")["applicable"]
    )


@pytest.mark.parametrize(("epochs", "full"), [(3, False), (5, True)])
def test_batch_keys_leave_a_sample_the_equations_of_its_own_visits(runs, epochs, full):
    run, _ = runs("plain_fe", **{**FOUR, "epochs": epochs}, defence=("batch_keys",))
    stack, ranks = attacked(run, "stack"), [s.rank for s in systems(list(stated(run).of(Instance)))]
    keyed = [np.vstack(run.view("key_authority")["w1"][batch::4]) for batch in range(4)]
    rows = [len(np.unique(w, axis=0)) for w in keyed]  # 16 at each visit, but units that are dead never move
    assert ranks == [min(64, count) for count in rows] and min(rows) >= 15 * epochs
    assert [rank == 64 for rank in ranks] == [full] * 4 and stack["applicable"] == full
    without_defence = runs("plain_fe", **{**FOUR, "epochs": epochs})[0]
    assert attacked(without_defence, "stack")["metrics"]["exact_pixels"] == 1.0
    assert known(run, "cloud_trainer")["samples"].how == "exact"  # 32 equations are enough for whole pixels


def test_batch_keys_and_a_budget_go_on_with_the_last_keys_of_each_batch(runs):
    run, _ = runs("plain_fe", **FOUR, defence=("batch_keys", "key_budget:32"))
    view = run.view("cloud_trainer")
    assert max(system.rank for system in systems(list(stated(run).of(Instance)))) <= 32
    assert len(view["refused"]) == 1 and view["refused"][0].budget == 32


def test_a_query_under_batch_keys_has_an_instance_of_its_own(runs, tmp_path):
    from scenarios.run.predict import predict, query

    run, _ = runs("plain_fe", **FOUR, defence=("batch_keys",))
    folder, result = predict(query(run, None, None, 20, "inline", tmp_path / "asked"))
    assert "mpk" in folder.view("cloud_trainer")
    assert any("keys of training do not work" in line["detail"] for line in result["learned"])


def test_noise_stays_within_its_bound_is_fresh_and_training_goes_on(runs):
    options = {"batch": 48, "epochs": 2, "lr": 1e-9}  # W1 hardly moves: what differs is the noise
    clean, noisy = (runs("mitig2", **options, **more)[0] for more in ({}, {"defence": ("noise:4",)}))
    difference = [
        b - a
        for a, b in zip(clean.view("cloud_trainer")["z1"], noisy.view("cloud_trainer")["z1"], strict=True)
    ]
    bound = 4 / 16 + 1e-5
    assert all(0.2 < np.abs(d).max() <= bound and abs(d.mean()) < 0.03 for d in difference)
    assert not np.array_equal(difference[0], difference[1])
    result = runs("mitig2", epochs=12, samples=200, hidden=16, defence=("noise:4",))[1]
    assert result["accuracy"]["test"] > 0.6 and result["accuracy"]["baseline_test"] >= 0.6


def test_uniform_draws_have_their_moments():
    drawn = Stream(b"k" * 32).uniform(3.0, 200, 100)
    assert np.abs(drawn).max() <= 3 and abs(drawn.mean()) < 0.1 and abs(drawn.var() - 3) < 0.1


def test_a_dither_is_drawn_once_stays_below_its_bound_and_is_the_owners_own():
    experiment = small("mitig2", defence=("dither:0.4",))
    config, x = experiment.config, experiment.data.x_train
    state, other = (fresh_state("data_owner:0", config, bytes([i]) * 32) for i in range(2))
    for each in (state, other):
        each.inputs = {"images": x}
        pixels.draw(each)
    first, again = (pixels.own_rows(state, Visit(turn, 1, 0)) - x[:16] for turn in (0, 3))
    assert np.array_equal(first, again) and 0.3 < np.abs(first).max() <= 0.4 and abs(first.mean()) < 0.03
    assert not np.allclose(first, pixels.own_rows(other, Visit(0, 1, 0)) - x[:16])


def test_a_dither_hides_whole_pixels_and_not_their_inner_products(runs):
    options = {"samples": 70, "hidden": 32, "epochs": 8}
    (bare, _), (run, result) = runs("mitig2", **options), runs("mitig2", **options, defence=("dither:0.3",))
    assert "drawn once" in result["security"]["dither"]
    before, after = (attacked(each, "gram") for each in (bare, run))
    assert before["metrics"]["relative_error"] < 1e-3 < after["metrics"]["relative_error"] < 0.02
    assert after["notes"]["expected_relative_error"] > 0.3 * after["metrics"]["relative_error"]
    assert not attacked(run, "lattice_gram")["applicable"]
    assert known(run, "cloud_trainer")["gram"].how == "bounded"


def test_images_are_moved_by_so_many_pixels_and_zeros_move_in():
    rng = np.random.default_rng(0)
    images = rng.integers(1, 17, (5, 6, 7))
    down, right = np.array([0, 2, -1, 0, -5]), np.array([0, -3, 0, 6, 1])
    found = pixels.moved(images.reshape(5, -1), down, right, (6, 7)).reshape(images.shape)
    for image, got, d, r in zip(images, found, down, right, strict=True):
        expected = np.zeros_like(image)
        for i, j in np.ndindex(image.shape):
            if 0 <= i + d < 6 and 0 <= j + r < 7:
                expected[i + d, j + r] = image[i, j]
        assert np.array_equal(got, expected)


def test_images_are_moved_anew_at_each_visit_and_alike_within_one():
    experiment = small("mitig2", defence=("augment:2",))
    state = fresh_state("data_owner:0", experiment.config, bytes(32))
    state.inputs = {"images": experiment.data.x_train}
    first, same, later = (pixels.own_rows(state, Visit(turn, 1, 0)) for turn in (0, 0, 3))
    assert np.array_equal(first, same) and not np.array_equal(first, later)
    assert not np.array_equal(first, experiment.data.x_train[:16])


def test_moved_images_train_the_network_and_leave_no_equations_between_visits(runs):
    run, result = runs("mitig2", samples=70, hidden=32, epochs=8, defence=("augment:1",))
    assert "anew at each visit" in result["security"]["augment"]
    for attack in ("gram", "lattice_gram"):
        row = attacked(run, attack)
        assert not row["applicable"] and "no two visits" in row["why"]
    assert known(run, "cloud_trainer")["samples"].how == "bounded"
    bare, _ = runs("mitig2", samples=70, hidden=32, epochs=8)
    assert not np.allclose(bare.final_weights()["w1"], run.final_weights()["w1"], atol=1e-3)
    assert result["accuracy"]["test"] > 0.3  # chance is .1


def test_beyond_a_budget_of_revisits_w1_is_frozen_and_the_cloud_goes_on(runs):
    run, result = runs("mitig2", epochs=5, defence=("revisit-budget:3",))
    z1 = run.view("cloud_trainer")["z1"]  # 3 batches
    first, second, third, *later = (np.vstack(z1[k : k + 3]) for k in range(0, len(z1), 3))
    assert not np.array_equal(first, second) and not np.array_equal(second, third)
    assert all(np.array_equal(third, each) for each in later)
    dz1 = run.view("cloud_trainer")["dz1"]
    assert not np.array_equal(dz1[-1], dz1[-4])  # of the layers above, which still learn
    assert "fewer than 48 samples" in result["security"]["revisits"]


def test_a_budget_of_revisits_leaves_least_squares_too_few_equations(runs):
    options = {"samples": 48, "hidden": 16, "epochs": 8}
    pairs = {}
    for budget in (2, 8):
        run, _ = runs("mitig2", **options, defence=(f"revisit-budget:{budget}",))
        row = attacked(run, "gram")
        pairs[budget] = row["metrics"]["pairs"] if row["applicable"] else 0.0
        assert not row["applicable"] or row["metrics"]["relative_error"] < 0.01
    assert pairs[2] < 0.5 and pairs[8] == 1.0


def test_a_public_order_visits_every_sample_once_an_epoch_and_changes():
    config = mitig2.Options(
        features=4, classes=2, x_max=1, counts=(10, 7), batch=4, epochs=2, order=Order.PUBLIC
    )
    rows = [Visit(turn, 2, 0).rows(config, 0) for turn in range(0, 12, 2)]
    first, second = np.concatenate(rows[:3]), np.concatenate(rows[3:])
    assert sorted(first) == sorted(second) == list(range(10)) and not np.array_equal(first, second)
    assert np.array_equal(first, public_order(config, 0, 0)) and Visit(4, 2, 0).size(config, 0) == 2


def test_reshuffling_is_followed_by_labels_and_gradients(runs):
    """Training still works, which it would not if the cloud took the labels of other samples."""
    run, result = runs("mitig2", epochs=12, samples=200, hidden=16, defence=("reshuffle",))
    assert result["accuracy"]["test"] > 0.75
    assert not np.array_equal(
        run.final_weights()["w1"], runs("mitig2", epochs=12, samples=200, hidden=16)[0].final_weights()["w1"]
    )


def orders_of(run, epochs, count):
    """The orders that the owner's coins give, which the owner alone has."""
    coins = Coins(bytes(next(run.view("data_owner").values("coins", Kind.COINS))[1]))
    return [permutation(coins.stream("order"), count) for _ in range(epochs)]


def test_unlinkable_samples_are_ordered_by_the_owners_coins_alone(runs, tmp_path):
    options = {"samples": 200, "hidden": 16, "labels": Labels.OWNER, "defence": ("unlinkable",)}
    run, result = runs("mitig2", epochs=12, **options)
    assert result["accuracy"]["test"] > 0.75 and "labels" not in run.view("cloud_trainer")
    still = small("mitig2", epochs=2, lr=1e-9, **options)  # W1 hardly moves: Z1 tells who is who
    moved = []
    for byte in (b"x", b"y"):
        other, _ = execute(replace(still, run_key=byte * 32, out=tmp_path / byte.decode()))
        first, second = np.vstack(other.view("cloud_trainer")["z1"]).reshape(2, 200, 16)
        moved.append(np.square(second[:, None] - first[None]).sum(axis=2).argmin(axis=1))
        before, after = orders_of(other, 2, 200)
        assert np.array_equal(before[moved[-1]], after)
    assert (moved[0] == moved[1]).mean() < 0.1  # other coins, another order of the same samples


def test_unlinkable_samples_are_linked_again_by_their_nearest_z1(runs):
    """What the defence leaves open: the owner's coins, which the cloud lacks, tell here who was who."""
    run, _ = runs("mitig2", epochs=12, samples=200, hidden=16, labels=Labels.OWNER, defence=("unlinkable",))
    orders = orders_of(run, 12, 200)
    z1 = np.vstack(run.view("cloud_trainer")["z1"]).reshape(12, 200, 16)
    nearest = np.square(z1[11][:, None] - z1[10][None]).sum(axis=2).argmin(axis=1)
    assert np.mean(orders[10][nearest] == orders[11]) > 0.5


def test_masks_cancel_in_the_sum_exactly_and_in_no_part_of_it():
    keys = [aggregate.key_pair(Coins(derive(b"k" * 32, str(i)))) for i in range(4)]
    publics = np.stack([public for _, public in keys])
    copies = [np.random.default_rng(i).normal(size=(5, 3)) for i in range(4)]
    members = (2, 3, 0)
    words = {i: aggregate.fixed(copies[i], 3) for i in members}
    mine = publics[list(members)]
    masked = {i: aggregate.mask(words[i], i, members, keys[i][0], mine, "w1 0") for i in members}
    assert np.array_equal(
        aggregate.total([masked[i] for i in members]), aggregate.total([words[i] for i in members])
    )
    assert (
        np.abs(
            aggregate.restore(aggregate.total(list(masked.values()))) - sum(copies[i] for i in members)
        ).max()
        < 2**-31
    )
    two = aggregate.total([masked[2], masked[3]]) - aggregate.total([words[2], words[3]])
    assert (
        np.unique(two).size == two.size and (two.view(np.int64) > 0).any() and (two.view(np.int64) < 0).any()
    )
    again = aggregate.mask(words[2], 2, members, keys[2][0], mine, "w1 1")
    assert not (again == masked[2]).any()


def test_copies_that_would_overflow_and_keys_that_are_none_are_refused():
    with pytest.raises(BoundError, match="secure aggregation"):
        aggregate.fixed(np.array([2.0**30]), 2)
    private, public = aggregate.key_pair(Coins(b"k" * 32))
    words = np.zeros((1, 1), np.uint64)
    with pytest.raises(MalformedError, match="small order"):
        aggregate.mask(words, 0, (0, 1), private, np.stack([public, np.zeros(32, np.uint8)]), "w1 0")
    with pytest.raises(MalformedError, match="public keys"):
        aggregate.mask(words, 0, (0, 1), private, public[None], "w1 0")


@pytest.mark.parametrize(
    "options", [{}, {"labels": Labels.OWNER}, {"per_round": 2, "local_steps": 2}], ids=str
)
def test_secure_aggregation_trains_as_plain_averaging_up_to_rounding(runs, options):
    masked, clear = (runs("mitig2", **{**base, **options})[0].final_weights() for base in (SECURE, OWNERS))
    assert np.allclose(masked["w1"], clear["w1"], atol=1e-5) and not np.array_equal(masked["w1"], clear["w1"])


def test_the_authority_sees_no_copy_but_their_sum(runs):
    run, clear = runs("mitig2", **SECURE)[0], runs("mitig2", **OWNERS)[0]
    copy = clear.view("key_authority")["w1_copy"][0]  # the same seed: the first copy of the first round
    seen = run.view("key_authority")["w1_masked"]
    assert "w1_copy" not in run.view("key_authority") and all(m.dtype == np.uint64 for m in seen)
    halves = np.concatenate([m.ravel() for m in seen]) >> np.uint64(63)
    assert abs(halves.mean() - 0.5) < 5 * 0.5 / np.sqrt(halves.size)
    fixed = aggregate.fixed(copy, 3)
    assert not any(np.isin(fixed, m).any() or row.tobytes() in m.tobytes() for m in seen for row in copy)
    assert np.allclose(
        aggregate.restore(aggregate.total(seen[:3])) / 3, run.view("key_authority")["w1_mean"][3], atol=1e-6
    )
    assert known(run, "key_authority")["w1_masked"].how == "nothing found"


def test_authority_and_cloud_solve_the_sum_of_updates_while_all_samples_are_few(runs):
    (
        few,
        many,
    ) = (  # 3 owners of batches of 3 and of 4: 9 and 12 samples a round; no lattice of pixels is tried
        runs("mitig2", **{**SECURE, "hidden": h, "batch": b})[0] for h, b in ((12, 3), (8, 4))
    )
    assert known(few, "cloud_trainer", "key_authority")["samples"].how == "exact"
    assert known(many, "cloud_trainer", "key_authority")["samples"].how == "bounded"
    assert known(few, "key_authority")["samples"].how == "bounded"


def test_secure_aggregation_of_mitig1(runs):
    options = {**TINY, "owners": 2, "batch": 8, "authority": Authority.OWNER}
    masked, clear = (
        runs("mitig1", **options, **more)[0].final_weights()
        for more in ({"defence": ("secure_aggregation",)}, {})
    )
    assert np.allclose(masked["w1"], clear["w1"], atol=1e-6)


@pytest.mark.parametrize(("scenario", "options"), [
    ("plain_fe", {**FOUR, "defence": ("key_budget:32",)}),
    ("mitig2", SECURE),
    ("mitig2", {**SECURE, "labels": Labels.OWNER}),
    ("plain_fe", {**FOUR, "defence": ("batch_keys",)}),
], ids=str)  # fmt: skip
def test_defended_runs_send_the_arrows_of_their_figure(runs, scenario, options):
    run, _ = runs(scenario, **options)
    rows = everyone(run).rows(None, Kind.SENT)
    sent = {(r.phase, r.sender.partition(":")[0], r.receiver.partition(":")[0], r.label) for r in rows}
    assert sent == {a.key for a in find_protocol(scenario).FIGURE if a.applies(run.config())}


@pytest.mark.parametrize(("scenario", "options"), [
    ("mitig2", SECURE), ("plain_fe", {**FOUR, "epochs": 2, "defence": ("key_budget:32", "batch_keys")}),
], ids=str)  # fmt: skip
def test_processes_and_inline_write_the_same_transcript(runs, scenario, options):
    inline, local = runs(scenario, **options), runs(scenario, runtime="local", **options)
    assert inline[1]["transcript_digest"] == local[1]["transcript_digest"] and local[0].faults() == []


def test_the_sweep_puts_each_defence_beside_none(tmp_path):
    group = Group(
        "plain_fe",
        "plain_fe",
        {**FOUR, "epochs": 1, "samples": 32},
        (((), {}), (("key_budget:16",), {})),
        (Attack("stack"), Attack("not_yet")),
    )
    content = sweep_defences(tmp_path / "sweep", "inline", 0, groups=(group,))
    assert json.loads((tmp_path / "sweep" / "defences.json").read_text()) == content
    assert [row["defence"] for row in content["rows"]] == [[], ["key_budget:16"]] and content["missing"] == [
        "not_yet"
    ]
    assert content["rows"][1]["refusals"] == 1 and content["rows"][0]["refusals"] == 0
    assert len((tmp_path / "sweep" / "defences.csv").read_text().splitlines()) == 3
    assert defences_table(content).row_count == 2
