"""qfe at its bounds, with forged tags, slices and points, and against the paper's formulas in integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crypto import qfe
from protocols.crypto.coins import Coins, Stream
from protocols.crypto.groups import dlog
from protocols.crypto.groups.elements import from_bytes
from protocols.crypto.groups.mcl_target import second_group, target_group
from protocols.crypto.groups.named import get_pairing
from protocols.language.errors import BoundError, MalformedError
from tests.crypto.test_pairing import outside_g2

ORDER = get_pairing("bn254").order


def instance(n=3, m=4, x=9, y=7, inner=4000, seed=1):
    coins = Coins(bytes([seed]) * 32)
    return (*qfe.setup(qfe.parameters(qfe.QfeBounds(n, m, x, y, inner)), coins), coins)


def drawn(bounds, count=2, forms=3, f=5, seed=0):
    rng = np.random.default_rng(seed)
    x, y = (
        rng.integers(-most, most + 1, (count, length))
        for most, length in ((bounds.x, bounds.left), (bounds.y, bounds.right))
    )
    return x, y, rng.integers(-f, f + 1, (forms, bounds.left, bounds.right))


def made(**sizes):
    mpk, msk, coins = instance(**sizes)
    x, y, f = drawn(mpk.params.bounds)
    expected = np.einsum("Ni,hij,Nj->Nh", x, f, y)[..., None]
    return mpk, qfe.key_derive(msk, qfe.dense(f)), qfe.encrypt(mpk, x, y, coins), expected


def test_forms_of_any_sign_are_exact_for_any_number_of_workers():
    mpk, sk, ct, expected = made()
    assert (expected < 0).any() and (expected > 0).any()
    for workers in (1, 3):
        assert np.array_equal(qfe.decrypt(mpk, sk, ct, workers), expected)
        assert np.array_equal(qfe.decrypt(mpk, sk, qfe.load(mpk, ct), workers), expected)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_decryption_is_the_form_in_plain_integers(data):
    n, m, h, i, c, terms = (data.draw(st.integers(1, most)) for most in (4, 4, 3, 3, 3, 3))
    small, width = st.integers(-20, 20), data.draw(st.integers(0, 9))
    mpk, msk, coins = instance(n, m, 20, 20, 20**3 * 9, seed=width)

    def table(entries, *shape):
        count = int(np.prod(shape))
        return np.array(data.draw(st.lists(entries, min_size=count, max_size=count))).reshape(shape)

    x, y = table(small, 1, n), table(small, 1, m)
    places, columns = table(st.integers(0, n - 1), h, c, terms), table(st.integers(0, m - 1), i, c)
    weights = table(small, h, c, terms)
    expected = [
        [
            sum(
                int(weights[a, k, s]) * int(x[0, places[a, k, s]]) * int(y[0, columns[b, k]])
                for k in range(c)
                for s in range(terms)
            )
            for b in range(i)
        ]
        for a in range(h)
    ]
    forms = qfe.Forms(weights, places, columns)
    assert forms.values(x[0], y[0]).tolist() == expected
    found = qfe.decrypt(mpk, qfe.key_derive(msk, forms), qfe.encrypt(mpk, x, y, coins))
    assert found[0].tolist() == expected


def test_zero_vectors_and_zero_forms_give_zero():
    mpk, msk, coins = instance()
    x, y, f = drawn(mpk.params.bounds)
    x[0], f[1] = 0, 0
    found = qfe.decrypt(mpk, qfe.key_derive(msk, qfe.dense(f)), qfe.encrypt(mpk, x, y, coins))
    assert not found[0].any() and not found[:, 1].any() and found[1, 0, 0] == x[1] @ f[0] @ y[1]


def test_values_at_the_bounds_are_found_and_one_beyond_is_refused():
    mpk, msk, coins = instance(2, 1, 9, 7, 2 * 9 * 7 * 3)
    f = np.full((1, 2, 1), 3)
    for sign in (1, -1):
        ct = qfe.encrypt(mpk, np.full((1, 2), sign * 9), np.array([[7]]), coins)
        assert qfe.decrypt(mpk, qfe.key_derive(msk, qfe.dense(f)), ct).tolist() == [[[sign * 378]]]
    with pytest.raises(BoundError, match="x: an entry exceeds the bound 9"):
        qfe.encrypt(mpk, np.array([[10, 0]]), np.array([[0]]), coins)
    with pytest.raises(BoundError, match="y: an entry exceeds the bound 7"):
        qfe.encrypt(mpk, np.array([[0, 0]]), np.array([[-8]]), coins)
    with pytest.raises(BoundError, match="a form may exceed 378"):
        qfe.key_derive(msk, qfe.dense(f + np.array([[[1], [0]]])))
    with pytest.raises(BoundError, match="discrete-logarithm limit"):
        qfe.parameters(qfe.QfeBounds(1, 1, 1, 1, dlog.MAX_BOUND + 1))


def test_master_key_keys_and_ciphertexts_follow_the_paper_in_plain_integers():
    (mpk, msk, coins), pairing = instance(), get_pairing("bn254")
    s, t = (np.array(from_bytes(v), object) for v in (msk.s, msk.t))
    assert np.array_equal(mpk.s, pairing.exp_g1(s)) and np.array_equal(mpk.t, pairing.exp_g2(t))
    x, y, f = drawn(mpk.params.bounds)
    sk = qfe.key_derive(msk, qfe.dense(f))
    assert np.array_equal(sk.elements[:, 0], pairing.exp_g2(np.array([s @ each @ t for each in f])))
    shared = qfe.masks(coins.stream("masks"), 2)
    ct = qfe.encrypt_part(mpk, x, y, shared)
    for k, (gamma, w) in enumerate(zip(shared.gamma, shared.w, strict=True)):
        a = from_exponents(w, x[k], gamma * s, y[k], t)
        assert np.array_equal(ct.gamma[k], pairing.exp_g1([gamma])[0])
        assert np.array_equal(ct.left[k], pairing.exp_g1(a[0])) and np.array_equal(
            ct.right[k], pairing.exp_g2(a[1])
        )


def from_exponents(w, x, s, y, t):
    """a solves W^T a = (x, gamma s), b = W (y, -t), modulo the order."""
    (p, q), (r, v) = w
    scale = pow(int(p * v - q * r), -1, ORDER)
    a = [
        ((v * i - r * j) * scale % ORDER, (p * j - q * i) * scale % ORDER)
        for i, j in zip(x.tolist(), s, strict=True)
    ]
    b = [((p * i - q * j) % ORDER, (r * i - v * j) % ORDER) for i, j in zip(y.tolist(), t, strict=True)]
    return np.array(a, object), np.array(b, object)


def test_masks_are_invertible_never_zero_and_never_repeat():
    shared = qfe.masks(Stream(bytes(32)), 20)
    assert len({*shared.gamma, *shared.w.ravel()}) == 100 and 0 not in shared.gamma
    assert all((a * d - b * c) % ORDER for (a, b), (c, d) in shared.w)


def test_slices_under_shared_masks_are_the_whole_ciphertext():
    mpk, msk, coins = instance()
    x, y, f = drawn(mpk.params.bounds)
    shared = qfe.masks(coins.stream("shared"), 2)
    parts = [
        qfe.encrypt_part(mpk, x[:, :1], y[:, :3], shared),
        qfe.encrypt_part(mpk, x[:, 1:], y[:, 3:], shared, 1, 3),
    ]
    whole, joined = qfe.encrypt_part(mpk, x, y, shared), qfe.join(mpk, parts)
    for name in qfe.QfeCiphertext.ROWS:
        assert np.array_equal(getattr(joined, name), getattr(whole, name))
    found = qfe.decrypt(mpk, qfe.key_derive(msk, qfe.dense(f)), joined)
    assert np.array_equal(found, np.einsum("Ni,hij,Nj->Nh", x, f, y)[..., None])
    other = qfe.encrypt_part(mpk, x[:, 1:], y[:, 3:], qfe.masks(coins.stream("shared"), 2), 1, 3)
    for wrong, why in (
        ([parts[0], other], "different masks"),
        (parts[:1], "expected n 3, got 1"),
        ([parts[0], replace(parts[1], tag=bytes(16))], "another instance"),
        ([parts[0], shared], "expected QfeCiphertext, got Masks"),
    ):
        with pytest.raises(MalformedError, match=why):
            qfe.join(mpk, wrong)
    for left, right in ((2, 3), (1, 4), (-1, 3)):
        with pytest.raises(MalformedError, match="are not of"):
            qfe.encrypt_part(mpk, x[:, 1:], y[:, 3:], shared, left, right)


@pytest.mark.parametrize("which", ["key", "ciphertext", "form", "slice"])
def test_what_does_not_belong_together_gives_an_error_and_no_number(which):
    mpk, sk, ct, _ = made()
    _, other_sk, other_ct, _ = made(seed=2)
    wrong = {
        "key": (replace(other_sk, tag=mpk.tag), ct),
        "ciphertext": (sk, replace(other_ct, tag=mpk.tag)),
        "form": (replace(sk, weights=sk.weights + (np.arange(3) == 0)), ct),
        "slice": (sk, replace(ct, left=ct.left[::-1].copy())),
    }
    with pytest.raises(BoundError, match="do not belong together"):
        qfe.decrypt(mpk, *wrong[which])
    assert qfe.decrypt(mpk, sk, ct).any()


@pytest.mark.parametrize(
    ("places", "columns"), [((0, 3), (0,)), ((-1, 0), (0,)), ((0, 1), (4,)), ((0, 1), (-1,))]
)
def test_forms_that_name_entries_that_are_not_there_are_refused(places, columns):
    (mpk, msk, _), (_, sk, ct, _) = instance(), made()
    forms = qfe.Forms(np.ones((1, 1, 2), int), np.array(places).reshape(1, 1, 2), np.array([columns]))
    with pytest.raises(MalformedError, match="is not among its"):
        qfe.key_derive(msk, forms)
    peer = qfe.QfeFunctionKey("bn254", mpk.tag, *vars(forms).values(), sk.elements[:1])
    with pytest.raises(MalformedError, match="is not among its"):
        qfe.decrypt(mpk, peer, ct)


@pytest.mark.parametrize("name", ["gamma", "left", "right", "elements"])
def test_points_off_the_curve_and_truncated_arrays_are_refused(name):
    mpk, sk, ct, _ = made()
    value = sk if name == "elements" else ct
    off = getattr(value, name).copy()
    off.reshape(-1, off.shape[-1])[1, 40] ^= 1

    def take(changed):
        return qfe.load_key(mpk, changed) if name == "elements" else qfe.load(mpk, changed)

    with pytest.raises(MalformedError, match="element 1 of"):
        take(replace(value, **{name: off}))
    for cut in (off[..., :-1], off[..., 0], off[:0]):
        with pytest.raises(MalformedError, match="expected|of QfeC|of QfeF"):
            take(replace(value, **{name: cut}))


def test_points_outside_of_the_subgroup_and_a_neutral_mask_are_refused():
    mpk, sk, ct, _ = made()
    right, elements, t, gamma = (v.copy() for v in (ct.right, sk.elements, mpk.t, ct.gamma))
    right[1, 2, 1] = elements[2, 0] = t[3] = outside_g2("bn254")
    gamma[1] = 0
    for take in (
        lambda: qfe.load(mpk, replace(ct, right=right)),
        lambda: qfe.load_key(mpk, replace(sk, elements=elements)),
        lambda: qfe.check(replace(mpk, t=t), mpk.params),
    ):
        with pytest.raises(MalformedError, match="subgroup"):
            take()
    with pytest.raises(MalformedError, match="gamma is zero"):
        qfe.load(mpk, replace(ct, gamma=gamma))


def test_encryption_is_randomised():
    mpk, _, coins = instance()
    x, y, _ = drawn(mpk.params.bounds)
    first, second = (qfe.encrypt(mpk, x, y, coins) for _ in range(2))
    for name in qfe.QfeCiphertext.ROWS:
        points = np.concatenate(
            [getattr(ct, name).reshape(-1, getattr(ct, name).shape[-1]) for ct in (first, second)]
        )
        assert len(np.unique(points, axis=0)) == len(points)


@pytest.mark.parametrize("group", [second_group(), target_group()], ids=["G2", "GT"])
def test_powers_and_products_are_sums_of_exponents(group):
    a, b = np.array([3, -5, 0, ORDER - 1, 2**200], object), np.array([[4], [5]], object)
    found, expected = (group.g**a) * (group.g**b), group.g ** (a + b)
    assert found.shape == (2, 5) and np.array_equal(found.raw, expected.raw)
    assert np.array_equal((group.g**a / group.g**a).raw, np.broadcast_to(group.identity(), (5, group.WORDS)))
    assert np.array_equal(group.decode(expected.encode()).raw, expected.raw)
    few = np.array([[2, -1], [0, 7], [1, 1]])
    assert np.array_equal(
        ((group.g ** np.array([[11, 13]], object)) @ few.T).raw[0],
        (group.g ** (few @ [11, 13]).astype(object)).raw,
    )
    assert len(np.unique((group.g ** np.arange(-9, 10).astype(object)).keys(), axis=0)) == 19


def test_logarithms_in_the_target_have_their_sign_and_no_other_bytes_are_elements(monkeypatch):
    group, values = target_group(), np.array([0, 1, -1, 100, -100, 101, -101, 999, -1000])
    monkeypatch.setattr(dlog, "reach", lambda bound: min(bound, 100))
    assert np.array_equal(dlog.solve(group.g ** values.astype(object), 1000), values)
    wire = group.g.encode().copy()
    wire[100] ^= 1
    with pytest.raises(MalformedError, match="target group"):
        group.decode(wire)


def test_masks_open_the_left_side_and_others_do_not():
    mpk, _, coins = instance()
    x, y, _ = drawn(mpk.params.bounds)
    shared, other = (qfe.masks(coins.stream("shared"), 2) for _ in range(2))
    ct = qfe.encrypt_part(mpk, x, y, shared)
    assert np.array_equal(qfe.open_with_masks(mpk, shared, ct), x)
    with pytest.raises(BoundError):
        qfe.open_with_masks(mpk, other, ct)
