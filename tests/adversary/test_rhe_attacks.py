"""Attacks on heads, on a toy task: images are points, the base is a random layer, and a head is its training set."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from parties.adversary.attack import NotApplicable
from parties.adversary.heads import blackbox, exponents, informed, logits, whitebox, whitebox_net
from parties.adversary.heads import malleability as oracle
from parties.adversary.heads.shadow import Own, draw, train_shadows
from parties.data.datasets import DataSpec
from protocols.crypto import paillier
from protocols.crypto.coins import Coins
from protocols.crypto.paillier import float_exponents
from protocols.language.errors import ConfigError
from protocols.network.head import Protect, Recipe, train_heads
from protocols.network.head_integers import HeadFormat, quantise_head
from protocols.network.public_base import FrozenBase, pooled, unpooled
from scenarios.score.roc import rates, trial
from scenarios.study import bench_ckks
from scenarios.study.encrypted_heads import RealService, seal, served, service
from scenarios.study.matrix import MatrixOptions, matrix
from scenarios.study.matrix_files import table, write_matrix
from scenarios.study.victims import draw_victims, task_of_features

K, SIDE, D, V = 3, 4, 12, 60
RECIPE = Recipe(lr=0.5)


def samples(count, rng):
    labels = np.arange(count) % K
    centres = np.random.default_rng(5).random((K, SIDE * SIDE))
    return np.clip(centres[labels] + 0.2 * rng.standard_normal((count, SIDE * SIDE)), 0, 1).astype(
        np.float32
    ), labels


@pytest.fixture(scope="module")
def world():
    """(base, own samples, shadows, victims' images (V, K, 1, n), features, labels, heads)."""
    rng = np.random.default_rng(0)
    layer = np.hstack([rng.standard_normal((D, SIDE * SIDE)) / SIDE, 0.3 * np.ones((D, 1))]).astype(
        np.float32
    )
    base = FrozenBase((layer,), (SIDE, SIDE))
    x, y = samples(900, rng)
    own = Own(x, base.phi(x), y, K)
    images = samples(V * K, rng)[0].reshape(V, K, SIDE * SIDE)
    features, labels = (
        base.phi(images.reshape(-1, SIDE * SIDE)).reshape(V, K, D),
        np.tile(np.arange(K), (V, 1)),
    )
    heads = train_heads(features, labels, K, RECIPE, rng)
    return base, own, train_shadows(own, RECIPE, 800, 1, rng), images[:, :, None], features, labels, heads


def rate(images, truth):
    return rates(trial(images, truth, 10))["tpr_at_fpr_10"]


def test_shadow_draws_take_different_samples_of_each_class():
    labels = np.arange(30) % K
    chosen = draw(labels, K, 50, 4, np.random.default_rng(0))
    assert chosen.shape == (50, K, 4) and np.all(labels[chosen] == np.arange(K)[:, None])
    assert all(len(set(row)) == 4 for row in chosen.reshape(-1, 4).tolist())
    with pytest.raises(ConfigError):
        draw(labels, K, 5, 11, np.random.default_rng(0))


@pytest.mark.parametrize("attack", ["ridge", "net"])
def test_the_white_box_tells_its_victims_images_from_others(world, attack):
    _, _, shadows, truth, _, _, heads = world
    net = attack == "net"
    rng = np.random.default_rng(0)
    images = whitebox_net.rebuild_by_net(shadows, heads, (SIDE, SIDE), rng) if net else whitebox.rebuild_heads(shadows, heads)  # fmt: skip
    assert rate(images, truth) > 0.5


def test_both_forms_of_the_ridge_agree():
    rng = np.random.default_rng(0)
    known, images, seen = rng.random((40, 30)), rng.random((40, 2, 5)), rng.random((7, 30))
    wide = np.hstack([known, np.zeros((40, 20))]), np.hstack([seen, np.zeros((7, 20))])
    np.testing.assert_allclose(
        whitebox.rebuild(known, images, seen), whitebox.rebuild(wide[0], images, wide[1]), atol=1e-4
    )


def test_bytes_of_ciphertexts_tell_nothing_and_those_of_the_integers_do(world):
    _, _, shadows, truth, _, _, heads = world
    form = HeadFormat()
    both = type(heads)((np.concatenate([heads.layers[0], shadows.heads.layers[0][:200]]),))
    sealed = seal(both, form, 256, True, 0)
    images = whitebox.rebuild(sealed.elements[V:], shadows.images[:200], sealed.elements[:V])
    low, high = rates(trial(images, truth, 10))["interval_10"]
    assert low <= 0.1 <= high and sealed.nbytes == (D + 1) * 64
    weights = both.layers[0].reshape(len(both.layers[0]), truth.shape[1], -1)
    control = whitebox.rebuild(np.rint(weights[V:] * 64), shadows.images[:200], np.rint(weights[:V] * 64))
    assert rates(trial(control, truth, 10))["interval_10"][0] > high


def test_exponents_of_floats_tell_their_victims_images(world):
    _, _, shadows, truth, _, _, heads = world
    images = exponents.rebuild_exponents(shadows, float_exponents(heads.layers[0]))
    assert rates(trial(images, truth, 10))["interval_10"][0] > 0.1


def test_decisions_give_the_head_away_within_the_budget(world):
    base, own, shadows, *_, heads = world
    form, belief, rng = HeadFormat(), blackbox.believe(shadows), np.random.default_rng(0)
    phi, asked, cosines = served(base, form), [], []
    for v in range(7):
        decide = service(phi, quantise_head(heads.weights[v], heads.bias[v], form), form)
        counted = lambda x, decide=decide: asked.append(len(x)) or decide(x)  # noqa: E731
        found = blackbox.extract(counted, phi, own.images, belief, 3000, rng)
        assert found.queries == sum(asked) <= 3000 and found.agreement > 0.97
        cosines.append(np.vdot(found.head, blackbox.normalised(heads.layers[0])[v]))
        asked.clear()
    assert (
        np.median(cosines) > 0.99
    )  # not all: where two classes never meet, only the prior tells their scale


def test_a_service_with_one_answer_has_no_boundary(world):
    base, own, shadows, *_ = world
    decide = lambda x: np.zeros(len(x), dtype=np.int64)  # noqa: E731
    with pytest.raises(NotApplicable):
        blackbox.extract(
            decide, base.phi, own.images, blackbox.believe(shadows), 500, np.random.default_rng(0)
        )


def test_real_ciphertexts_answer_as_the_integer_head_does(world):
    base, own, *_, heads = world
    form = HeadFormat()
    head = quantise_head(heads.weights[0], heads.bias[0], form)
    real = RealService(seal(type(heads)((heads.layers[0][:1],)), form, 256, True, 0), head, base, form)
    phi = served(base, form)
    assert np.array_equal(real(own.images[:20]), service(phi, head, form)(own.images[:20]))
    assert real.cost()["real_equal"] and real.cost()["real_queries"] == 20


def test_shifted_ciphertexts_give_the_integers_exactly(world):
    head = np.hstack([a if a.ndim == 2 else a[:, None] for a in quantise_head(world[-1].weights[0], world[-1].bias[0], HeadFormat())])  # fmt: skip
    form, asked = HeadFormat(), []
    limits = np.array([form.weight.limit] * D + [form.bias.limit])
    compare = lambda j, t: asked.append(len(j)) or (head.T[j] + t).argmax(1)  # noqa: E731
    found = oracle.recover(compare, limits, K)
    assert np.array_equal(found.differences, head - head[0]) and found.queries == sum(asked)
    fewer = oracle.recover(compare, limits, K, queries=200)
    assert fewer.queries <= 200 and not np.array_equal(fewer.differences, found.differences)


def test_the_shift_is_what_a_real_ciphertext_decrypts_to(world):
    form, heads = HeadFormat(), world[-1]
    weights, bias = quantise_head(heads.weights[0], heads.bias[0], form)
    pk, sk = paillier.setup(paillier.parameters(form.head_bounds(K, D), 256, True), Coins(bytes(32)))
    head = paillier.encrypt(pk, weights, bias, Coins(bytes(32)))
    columns, shifts = (
        np.array([0, D]),
        oracle.shifts_of(np.array([1, 2]), np.array([7, -9]), np.array([100, 100]), K),
    )
    expected = np.hstack([weights, bias[:, None]]).T[columns] + shifts
    assert np.array_equal(paillier.decrypt(sk, oracle.shifted(pk, head, columns, shifts)), expected)


def test_logits_of_enough_inputs_give_the_head(world):
    *_, features, _, heads = world
    x = features.reshape(-1, D)[:40]
    found, others = logits.solve_logits(x, heads.logits(x)[0]), features.reshape(-1, D)[40:]
    np.testing.assert_allclose(others @ found[:, :-1].T + found[:, -1], heads.logits(others)[0], atol=1e-2)
    with pytest.raises(NotApplicable):
        logits.solve_logits(x[:D], heads.logits(x[:D])[0])


@pytest.mark.parametrize(("protect", "error"), [(Protect.NONE, 0.05), (Protect.RELAXLOSS, 0.15)])
def test_who_knows_all_other_samples_finds_the_features_of_the_last(world, protect, error):
    _, own, _, truth, features, labels, _ = world
    recipe = replace(RECIPE, protect=protect, level=0.6, init=0.0)
    heads = train_heads(features, labels, K, recipe, np.random.default_rng(0))
    hidden = features.copy()
    hidden[:, 1] = np.nan
    found = informed.features_of_unknown(own, heads, hidden, labels, recipe, 1)
    assert (
        np.median(np.linalg.norm(found - features[:, 1], axis=1) / np.linalg.norm(features[:, 1], axis=1))
        < error
    )
    assert informed.rebuild_informed(own, heads, hidden, labels, recipe, 1).shape == (V, SIDE * SIDE)


def test_the_informed_attack_refuses_a_deep_head(world):
    _, own, _, _, features, labels, _ = world
    recipe = Recipe(steps=1, hidden=(4,))
    heads = train_heads(features, labels, K, recipe, np.random.default_rng(0))
    with pytest.raises(NotApplicable):
        informed.rebuild_informed(own, heads, features, labels, recipe, 0)


def test_integer_images_pool_to_the_inputs_that_they_stand_for():
    inputs = np.random.default_rng(0).integers(0, 1021, (3, 4)) / 1020
    images = unpooled(inputs, (4, 4), 2, 255)
    assert images.min() >= 0 and images.max() <= 255
    np.testing.assert_allclose(pooled(images / 255, (4, 4), 2), inputs, atol=1e-6)


def test_the_comparison_with_ckks_says_when_its_library_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tenseal", None)
    (figure,) = bench_ckks.ckks_head(None)
    assert figure.measured == "not measured" and "ckks" in figure.stated


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    options = MatrixOptions(DataSpec("digits"), victims=40, shadows=300, encrypted_shadows=20, asked_victims=4, queries=(600,),
                            real_queries=100, epsilons=(40.0,), key_bits=256, toy=True, net=False, cache=tmp_path_factory.mktemp("cache"))  # fmt: skip
    seen = []
    return matrix(options, seen.append), seen


def test_the_matrix_has_a_rate_or_a_reason_in_every_cell(small):
    found, seen = small
    assert seen == found.rows and {row["defence"] for row in seen} >= {
        "none",
        "dp",
        "relaxloss",
        "rhe",
        "rhe_float",
        "rhe_decision",
    }
    for row in seen:
        assert (row["tpr_at_fpr_01"] is None) == (not row["applicable"]) == bool(row["why"])
    assert all("delta" in row for row in seen if "epsilon" in row)
    assert all(row["real_equal"] for row in seen if "real_equal" in row)


def test_the_matrix_is_written_as_table_and_pictures(small, tmp_path):
    found, _ = small
    names = write_matrix(tmp_path, found)
    assert sorted(names) == sorted(p.name for p in tmp_path.iterdir())
    assert len((tmp_path / "matrix.csv").read_text().splitlines()) == len(found.rows) + 1
    assert table(found).row_count == len(found.rows)


def test_a_features_file_makes_a_task_without_queries(tmp_path):
    x, y = samples(400, np.random.default_rng(0))
    np.savez(tmp_path / "f.npz", features=x @ x[:D].T, images=x.reshape(-1, SIDE, SIDE), labels=y)
    task = task_of_features(tmp_path / "f.npz", 0)
    assert task.base is None and task.classes == K and task.shape == (SIDE, SIDE)
    victims = draw_victims(task, 1000, 1)
    assert (
        30 <= len(victims) <= 60
        and len(np.unique(victims.images.reshape(-1, SIDE * SIDE), axis=0)) == len(victims) * K
    )
    with pytest.raises(ConfigError):
        draw_victims(task, 1000, 20)
