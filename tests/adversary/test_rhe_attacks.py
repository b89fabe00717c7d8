"""Attacks on heads, on a toy task: images are points, the base is random, a head is its training set."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from parties.adversary.attack import Known, NotApplicable, Prior, Relations
from parties.adversary.catalogue import HEAD_ATTACKS, find_attack
from parties.adversary.heads import blackbox, informed, logits, whitebox
from parties.adversary.heads import malleability as oracle
from parties.adversary.heads.shadows import Own, draw, own_of, shadows_of
from parties.data.datasets import DataSpec
from protocols.crypto import paillier
from protocols.crypto.coins import Coins
from protocols.language.errors import ConfigError
from protocols.language.head_relations import (
    HeadExponents,
    HeadLogits,
    HeadService,
    HeadTask,
    HeadWeights,
    SealedHeads,
)
from protocols.network.head import Protect, Recipe, train_heads
from protocols.network.head_config import HeadConfig
from protocols.network.head_integers import HeadFormat, quantise_head
from protocols.network.public_base import FrozenBase, pooled, unpooled
from protocols.readings.heads import sealed
from scenarios.score.roc import rates, trial
from scenarios.study import bench_ckks
from scenarios.study.head_service import RealService, matrix_of, served, service
from scenarios.study.head_victims import draw_victims, task_of_features
from scenarios.study.head_views import MatrixOptions, plain_bytes
from scenarios.study.matrix import matrix, rates_table, row_count

K, SIDE, D, V = 3, 4, 12, 60
RECIPE = Recipe(lr=0.5)


def samples(count, rng):
    labels = np.arange(count) % K
    centres = np.random.default_rng(5).random((K, SIDE * SIDE))
    return np.clip(centres[labels] + 0.2 * rng.standard_normal((count, SIDE * SIDE)), 0, 1).astype(
        np.float32
    ), labels


class World:
    """Heads of V owners, an adversary's own images, and the relations in which it sees the heads."""

    def __init__(self):
        rng = np.random.default_rng(0)
        weight = rng.standard_normal((D, SIDE * SIDE)) / SIDE
        self.base = FrozenBase((np.hstack([weight, 0.3 * np.ones((D, 1))]).astype(np.float32),), (SIDE, SIDE))
        self.form = HeadFormat()
        x, y = samples(900, rng)
        self.prior = Prior(1, (SIDE, SIDE), x.astype(np.float64), public_labels=y, shadows=800, sealed=200)
        self.images = samples(V * K, rng)[0].reshape(V, K, SIDE * SIDE)
        self.features = self.base.phi(self.images.reshape(-1, SIDE * SIDE)).reshape(V, K, D)
        self.labels = np.tile(np.arange(K), (V, 1))
        self.heads = train_heads(self.features, self.labels, K, RECIPE, rng)
        self.integers = [quantise_head(h[:, :-1], h[:, -1], self.form) for h in self.heads.layers[0]]
        self.task = self.with_recipe(RECIPE)

    def with_recipe(self, recipe):
        return HeadTask(V, K, 1, recipe, self.base.phi)

    def weights(self, heads):
        return HeadWeights(np.arange(V), lambda: heads.layers)

    def service(self, budget, owners=7, asked=None):
        phi = served(self.base, self.form)

        def decide(v, x):
            (asked if asked is not None else []).append(len(x))
            return service(phi, self.integers[v], self.form)(x)

        def compare(v, columns, shifts):
            (asked if asked is not None else []).append(len(columns))
            return (matrix_of(self.integers[v]).T[columns] + shifts).argmax(1)

        limits = np.array([self.form.weight.limit] * D + [self.form.bias.limit])
        steps = np.array([self.form.weight.scale] * D + [self.form.bias.scale])
        return HeadService(np.arange(owners), budget, decide, phi, compare, limits, steps)

    def attack(self, name, *relations, task=None, prior=None):
        """What an attack rebuilds, by its one signature."""
        view = Relations(lambda: [task or self.task, *relations], ("server",))
        view.need(*find_attack(name).CONSUMES)
        return find_attack(name).solve(view, prior or self.prior, np.random.default_rng(0))

    def interval(self, rebuilt):
        """Of the rate at a false positive rate of 10 %."""
        images = rebuilt.values.reshape(-1, K, SIDE * SIDE)
        return rates(trial(images, self.images[: len(images), :, None], min(10, len(images) - 1)))[
            "interval_10"
        ]


@pytest.fixture(scope="module")
def world():
    return World()


def test_shadow_draws_take_different_samples_of_each_class():
    own = Own(np.zeros((30, 1)), np.zeros((30, 1)), np.arange(30) % K, K)
    chosen = draw(own, 50, 4, np.random.default_rng(0))
    assert chosen.shape == (50, K, 4) and np.all(own.labels[chosen] == np.arange(K)[:, None])
    assert all(len(set(row)) == 4 for row in chosen.reshape(-1, 4).tolist())
    with pytest.raises(NotApplicable):
        draw(own, 5, 11, np.random.default_rng(0))


@pytest.mark.parametrize("attack", ["whitebox", "whitebox_net"])
def test_the_white_box_tells_its_victims_images_from_others(world, attack):
    rebuilt = world.attack(attack, world.weights(world.heads))
    assert rebuilt.index.tolist() == list(range(V * K)) and world.interval(rebuilt)[0] > 0.4


@pytest.mark.parametrize("name", HEAD_ATTACKS)
def test_no_attack_applies_to_a_view_of_nothing(world, name):
    with pytest.raises(NotApplicable):
        world.attack(name)


def test_both_forms_of_the_ridge_agree():
    rng = np.random.default_rng(0)
    known, images, seen = rng.random((40, 30)), rng.random((40, 2, 5)), rng.random((7, 30))
    wide = np.hstack([known, np.zeros((40, 20))]), np.hstack([seen, np.zeros((7, 20))])
    np.testing.assert_allclose(
        whitebox.rebuild(known, images, seen), whitebox.rebuild(wide[0], images, wide[1]), atol=1e-4
    )


def test_bytes_of_ciphertexts_tell_nothing_and_those_of_the_integers_do(world):
    config = HeadConfig(
        shape=(SIDE, SIDE),
        pool=1,
        x_max=255,
        features=D,
        classes=K,
        counts=(K,),
        base="",
        key_bits=256,
        toy=True,
    )
    pk, _ = paillier.setup(config.params, Coins(bytes(32)))
    elements = sealed(pk, world.heads.layers[0], config, Coins(bytes(32)))
    seal = lambda layers, key: sealed(pk, layers[0], config, Coins(key))  # noqa: E731
    low, high = world.interval(world.attack("whitebox", SealedHeads(np.arange(V), D + 1, elements, seal)))
    assert low <= 0.1 <= high and elements.shape[1] == (D + 1) * 64

    def integers(layers, key):
        return plain_bytes([quantise_head(h[:, :-1], h[:, -1], world.form) for h in layers[0]])

    control = SealedHeads(np.arange(V), D + 1, plain_bytes(world.integers), integers)
    assert world.interval(world.attack("whitebox", control))[0] > high
    with pytest.raises(NotApplicable, match="no key"):
        world.attack("whitebox", control, prior=replace(world.prior, sealed=0))


def test_exponents_of_floats_tell_their_victims_images(world):
    of = lambda layers: paillier.float_exponents(layers[0])  # noqa: E731
    found = HeadExponents(np.arange(V), K * (D + 1), of(world.heads.layers), of)
    assert world.interval(world.attack("exponents", found))[0] > 0.1


def test_decisions_give_the_head_away_within_the_budget(world):
    asked = []
    rebuilt = world.attack("blackbox", world.service(3000, asked=asked))
    assert (
        max(np.add.reduceat(asked, range(0, len(asked), len(asked) // 7))) <= rebuilt.notes["queries"] <= 3000
    )
    assert rebuilt.notes["agreement"] > 0.97 and len(rebuilt.index) == 7 * K
    phi, belief = served(world.base, world.form), blackbox.believe(shadows_of(world.task, world.prior))
    decide = service(phi, world.integers[0], world.form)
    own = own_of(world.task, world.prior)
    head = blackbox.extract(decide, phi, own.images, belief, 3000, np.random.default_rng(0)).head
    assert np.vdot(head, blackbox.normalised(world.heads.layers[0])[0]) > 0.98


def test_a_service_with_one_answer_has_no_boundary(world):
    constant = replace(world.service(500), decide=lambda v, x: np.zeros(len(x), dtype=np.int64))
    with pytest.raises(NotApplicable, match="no boundary"):
        world.attack("blackbox", constant)


def test_real_ciphertexts_answer_as_the_integer_head_does(world):
    head, form = world.integers[0], world.form
    pk, sk = paillier.setup(paillier.parameters(form.head_bounds(K, D), 256, True), Coins(bytes(32)))
    real = RealService(pk, sk, paillier.encrypt(pk, *head, Coins(bytes(32))), head, world.base, form)
    asked = world.images[:4].reshape(-1, SIDE * SIDE)
    assert np.array_equal(real(asked), service(served(world.base, form), head, form)(asked))
    columns = np.array([0, D])
    shifts = oracle.shifts_of(np.array([1, 2]), np.array([7, -9]), np.array([100, 100]), K)
    expected = (matrix_of(head).T[columns] + shifts).argmax(1)
    assert np.array_equal(real.shifted(columns, shifts), expected)
    assert real.equal and real.cost(28)["real_queries"] == 4 * K + 2


def test_shifted_ciphertexts_give_the_integers_exactly(world):
    asked = []
    service_ = world.service(0, owners=2, asked=asked)
    rebuilt = world.attack("oracle", service_)
    heads = (rebuilt.per_sample["head"] * service_.steps).reshape(2, K, D + 1)
    for found, head in zip(heads, world.integers, strict=False):
        assert np.array_equal(np.rint(found - found[0]), matrix_of(head) - matrix_of(head)[0])
    assert 2 * rebuilt.notes["queries"] == sum(asked)
    compare = lambda j, t: (matrix_of(world.integers[0]).T[j] + t).argmax(1)  # noqa: E731
    assert oracle.recover(compare, service_.limits, K, queries=200).queries <= 200


def test_logits_of_enough_inputs_give_the_head(world):
    x = world.features.reshape(-1, D)[:40]
    told = world.heads.logits(x)
    rebuilt = world.attack("logits", HeadLogits(np.arange(V), "logits", 40, K, told, x))
    assert world.interval(rebuilt)[0] > 0.4 and rebuilt.notes["queries"] == 40
    with pytest.raises(NotApplicable):
        logits.solve_logits(x[:D], told[0, :D])
    with pytest.raises(NotApplicable, match="not linear"):
        world.attack("logits", HeadLogits(np.arange(V), "logits", 40, K, told))


@pytest.mark.parametrize(("protect", "error"), [(Protect.NONE, 0.05), (Protect.RELAXLOSS, 0.15)])
def test_who_knows_all_other_samples_finds_the_features_of_the_last(world, protect, error):
    recipe = replace(RECIPE, protect=protect, level=0.6, init=0.0)
    heads = train_heads(world.features, world.labels, K, recipe, np.random.default_rng(0))
    hidden = world.features.copy()
    hidden[:, 1] = np.nan
    own, true = own_of(world.task, world.prior), world.features[:, 1]
    found = informed.features_of_unknown(own, heads, hidden, world.labels, recipe, 1)
    assert np.median(np.linalg.norm(found - true, axis=1) / np.linalg.norm(true, axis=1)) < error
    index = np.setdiff1d(np.arange(V * K), np.arange(V) * K + 1)
    known = Known(index, world.images.reshape(V * K, -1)[index], world.labels.ravel()[index])
    task, prior = world.with_recipe(recipe), replace(world.prior, known=known)
    rebuilt = world.attack("informed", world.weights(heads), task=task, prior=prior)
    assert rebuilt.index.tolist() == list(np.arange(V) * K + 1)
    with pytest.raises(NotApplicable, match="but one"):
        world.attack("informed", world.weights(heads))


def test_the_informed_attack_refuses_a_deep_head(world):
    recipe = Recipe(steps=1, hidden=(4,))
    heads = train_heads(world.features, world.labels, K, recipe, np.random.default_rng(0))
    own = own_of(world.task, world.prior)
    with pytest.raises(NotApplicable):
        informed.rebuild_informed(own, heads, world.features, world.labels, recipe, 0)


def test_integer_images_pool_to_the_inputs_that_they_stand_for():
    inputs = np.random.default_rng(0).integers(0, 1021, (3, 4)) / 1020
    images = unpooled(inputs, (4, 4), 2, 255)
    assert images.min() >= 0 and images.max() <= 255
    np.testing.assert_allclose(pooled(images / 255, (4, 4), 2), inputs, atol=1e-6)


def test_the_comparison_with_ckks_says_when_its_library_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tenseal", None)
    (figure,) = bench_ckks.ckks_head(None)
    assert figure.measured == "not measured" and "[he]" in figure.stated


def test_the_head_under_ckks_is_packed_and_right_up_to_its_error():
    forms = bench_ckks.measure_ckks(pytest.importorskip("tenseal"))
    assert all(0 < form.error < 1e-4 for form in forms.values())
    assert forms["matmul"].rotations > forms["matmul"].head and not forms["sums"].rotations


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(options, folder, content) of a small matrix on digits."""
    options = MatrixOptions(
        DataSpec("digits"),
        victims=40,
        shadows=300,
        encrypted_shadows=20,
        asked_victims=4,
        queries=(600,),
        real_queries=100,
        epsilons=(40.0,),
        key_bits=256,
        toy=True,
        net=False,
        cache=tmp_path_factory.mktemp("cache"),
    )
    folder = tmp_path_factory.mktemp("matrix")
    return options, folder, matrix(options, folder, {"study": "matrix", "seed": 0})


def test_the_matrix_has_a_rate_or_a_reason_in_every_cell(small):
    options, _, content = small
    rows = content["matrix"]
    assert len(rows) == row_count(options) == 15
    assert {row["defence"] for row in rows} == {
        "none",
        "dp",
        "relaxloss",
        "rhe",
        "rhe_float",
        "rhe_decision",
        "rhe_logits",
    }
    for row in rows:
        assert (row["tpr_at_fpr_01"] is None) == (not row["applicable"]) == bool(row["why"])
    assert all("delta" in row for row in rows if "epsilon" in row)
    for row in rows:
        audited = row["defence"] == "dp"
        assert audited == ("audited_epsilon" in row)
        if audited:
            assert 0 < row["audited_epsilon"] <= row["audited_most"] < row["epsilon"] == 40
    assert all(row["real_equal"] for row in rows if "real_equal" in row)
    (exact,) = (row["exact"] for row in rows if row["attack"] == "oracle" and row["applicable"])
    assert exact and rates_table(content).row_count == len(rows)


def test_the_matrix_is_written_and_goes_on_where_it_stopped(small):
    options, folder, content = small
    assert json.loads((folder / "result.json").read_text()) == json.loads(json.dumps(content))
    assert len((folder / "matrix.csv").read_text().splitlines()) == len(content["matrix"]) + 1
    assert (folder / "roc.png").stat().st_size > 10_000 < (folder / "rebuilt.png").stat().st_size
    (folder / "cells" / "dp-40-whitebox.json").unlink()
    again = matrix(options, folder, {"study": "matrix", "seed": 0})["matrix"]
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in content["matrix"]]


def test_a_features_file_makes_a_task_without_queries(tmp_path):
    x, y = samples(400, np.random.default_rng(0))
    np.savez(tmp_path / "f.npz", features=x @ x[:D].T, images=x.reshape(-1, SIDE, SIDE), labels=y)
    task = task_of_features(tmp_path / "f.npz", 0)
    assert task.base is None and task.classes == K and task.shape == (SIDE, SIDE)
    victims = draw_victims(task, 1000, 1).images
    assert 30 <= len(victims) <= 60
    assert len(np.unique(victims.reshape(-1, SIDE * SIDE), axis=0)) == len(victims) * K
    np.testing.assert_array_equal(task.features(task.own.images[:3]), task.own.features[:3])
    with pytest.raises(NotApplicable, match="no features of other inputs"):
        task.features(task.own.images[:3] / 2)
    with pytest.raises(ConfigError):
        draw_victims(task, 1000, 20)
