"""fhipe with forged tags and points, at its bounds, and against the formulas of the paper in plain integers."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from protocols.crypto import fhipe
from protocols.crypto.coins import Coins
from protocols.crypto.groups.elements import from_bytes
from protocols.crypto.groups.named import PAIRINGS as NAMES
from protocols.crypto.groups.named import get_pairing
from protocols.crypto.records import Bounds
from protocols.language import message
from protocols.language.errors import BoundError, MalformedError
from tests.crypto.test_pairing import outside_g2


def instance(bounds=None, group="bn254", seed=1):
    coins = Coins(bytes([seed]) * 32)
    pp, msk = fhipe.setup(fhipe.parameters(bounds or Bounds(6, 16, 128), group), coins)
    return pp, msk, coins


def matrices(bounds, count=3, keys=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(-bounds.x, bounds.x + 1, (count, bounds.length))
    return x.astype(np.int16), rng.integers(-bounds.y, bounds.y + 1, (keys, bounds.length)).astype(np.int32)


def made(bounds=None, group="bn254", seed=1, **sizes):
    pp, msk, coins = instance(bounds, group, seed)
    x, y = matrices(pp.params.bounds, **sizes)
    return pp, fhipe.key_derive(msk, y, coins), fhipe.encrypt(msk, x, coins), x @ y.T


def integers(matrix):
    """(n, n, scalar bytes) as a matrix of Python integers."""
    return np.array(from_bytes(matrix.reshape(-1, matrix.shape[-1])), dtype=object).reshape(matrix.shape[:2])


def determinant(m):
    """Leibniz's formula."""
    total = 0
    for order in permutations(range(len(m))):
        sign = (-1) ** sum(order[i] > order[j] for j in range(len(order)) for i in range(j))
        total += sign * int(np.prod([m[i, order[i]] for i in range(len(m))], dtype=object))
    return total


@pytest.mark.parametrize("n, count, keys", [(1, 1, 1), (64, 17, 9), (37, 3, 10)])
def test_decryption_is_exact_for_any_number_of_keys_and_ciphertexts(n, count, keys):
    pp, sk, ct, expected = made(Bounds(n, 16, 256), count=count, keys=keys)
    assert np.array_equal(fhipe.decrypt(pp, sk, ct), expected)


def test_zero_vectors_decrypt_to_zero_and_show():
    pp, msk, coins = instance()
    x, y = matrices(pp.params.bounds)
    x[1], y[2] = 0, 0
    ct, sk = fhipe.encrypt(msk, x, coins), fhipe.key_derive(msk, y, coins)
    assert np.array_equal(fhipe.decrypt(pp, sk, ct), x @ y.T)
    assert [row.any() for row in ct.elements[:, 1:]] == [True, False, True]  # what the docstring warns of


@pytest.mark.parametrize("workers", [2, 3])
def test_decryption_does_not_depend_on_the_number_of_workers(workers):
    pp, sk, ct, expected = made(Bounds(9, 16, 128), count=18, keys=19)
    assert np.array_equal(fhipe.decrypt(pp, sk, ct, workers=workers), expected)


def test_master_key_obeys_the_paper_by_an_independent_formula():
    _, msk, _ = instance(Bounds(3, 4, 4))
    q = get_pairing("bn254").order
    b, b_star, det = integers(msk.b), integers(msk.b_star), int.from_bytes(msk.det.tobytes(), "big")
    assert determinant(b) % q == det != 0
    assert np.array_equal(b @ b_star.T % q, det * np.eye(3, dtype=object))
    assert len(set(b.ravel())) == 9 and max(b.ravel()) < q


@pytest.mark.parametrize("group", NAMES)
def test_keys_and_ciphertexts_follow_the_paper_in_plain_integers(group, monkeypatch):
    pp, msk, coins = instance(Bounds(3, 9, 9), group)
    pairing, (x, y) = get_pairing(group), (np.array([[5, -9, 0], [1, 2, 3]]), np.array([[2, -3, 9]]))
    masks = {"fhipe encrypt": np.array([[11], [13]], object), "fhipe key_derive": np.array([[17]], object)}
    monkeypatch.setattr(fhipe, "_nonzero", lambda coins, purpose, order, count: masks[purpose])
    det, q = int.from_bytes(msk.det.tobytes(), "big"), pairing.order
    for mask, row, ct in zip([11, 13], x, fhipe.encrypt(msk, x, coins).elements, strict=True):
        exponents = [mask, *(mask * (row @ integers(msk.b_star)) % q)]
        assert np.array_equal(ct, pairing.exp_g2(exponents))
    exponents = [17 * det, *(17 * (y[0] @ integers(msk.b)) % q)]
    assert np.array_equal(fhipe.key_derive(msk, y, coins).elements[0], pairing.exp_g1(exponents))


def test_products_with_wide_matrices_are_exact_at_the_largest_limbs():
    small = np.array([[1 << 26, -(1 << 26), (1 << 26) - 1, 3]])
    wide = np.full((4, 4, 32), 255, np.uint8)
    wide[1, 2] = 0
    assert np.array_equal(fhipe._times(small, wide), small.astype(object) @ integers(wide))


def test_masks_are_never_zero_and_never_repeat():
    coins, q = Coins(bytes(32)), get_pairing("bn254").order
    assert set(fhipe._nonzero(coins, "a", 3, 200).ravel()) == {1, 2}
    assert len({v for _ in range(2) for v in fhipe._nonzero(coins, "b", q, 5).ravel()}) == 10


def test_equal_vectors_give_keys_and_ciphertexts_that_differ_in_every_element():
    pp, msk, coins = instance()
    ones = np.ones((2, 6), int)
    for make in (fhipe.key_derive, fhipe.encrypt):
        first, again = make(msk, ones, coins).elements, make(msk, ones, coins).elements
        every = np.stack([*first, *again])  # 4 rows of 7 elements
        for element in range(7):
            assert len(np.unique(every[:, element], axis=0)) == 4


def test_key_holds_no_vector_and_its_size_depends_on_the_shape_only():
    _, msk, coins = instance()
    keys = [fhipe.key_derive(msk, np.full((2, 6), value), coins) for value in (1, -128)]
    assert {f.name for f in dataclasses.fields(keys[0])} == {"group", "tag", "elements"}
    sizes = {len(message.encode(key)) for key in keys}
    assert len(sizes) == 1 and keys[0].shape == (2, 6) and keys[0].elements.shape == (2, 7, 64)


def test_key_for_another_instance_is_refused_by_its_tag():
    pp, sk, ct, _ = made()
    other, other_sk, other_ct, _ = made(seed=2)
    assert pp.tag != other.tag
    for key, cipher in ((other_sk, ct), (sk, other_ct), (other_sk, other_ct)):
        with pytest.raises(MalformedError, match="belongs to another instance"):
            fhipe.decrypt(pp, key, cipher)
    with pytest.raises(MalformedError, match="belongs to another instance"):
        fhipe.decrypt(pp, fhipe.load_key(other, other_sk), fhipe.load(pp, ct))


@pytest.mark.parametrize("group, bounds", [("bn254", Bounds(6, 16, 128)), ("bls12_381", Bounds(2, 4, 4))])
def test_forged_tag_gives_an_error_and_no_number(group, bounds):
    pp, sk, ct, _ = made(bounds, group, count=2, keys=2)
    other, other_sk, other_ct, _ = made(bounds, group, seed=2, count=2, keys=2)
    for key, cipher in ((replace(other_sk, tag=pp.tag), ct), (sk, replace(other_ct, tag=pp.tag))):
        with pytest.raises(BoundError, match="do not belong together"):
            fhipe.decrypt(pp, key, cipher, workers=2)


def test_one_wrong_key_among_right_ones_is_noticed():
    pp, sk, ct, _ = made(keys=3)
    elements = sk.elements.copy()
    elements[2, 5] = elements[1, 5]
    with pytest.raises(BoundError):
        fhipe.decrypt(pp, replace(sk, elements=elements), ct)


def test_product_beyond_the_bounds_is_an_error_and_no_number():
    pp, msk, coins = instance(Bounds(2, 10, 10))
    narrow = replace(pp, params=fhipe.parameters(Bounds(2, 10, 9)))
    sk, ct = (make(msk, np.full((1, 2), 10), coins) for make in (fhipe.key_derive, fhipe.encrypt))
    assert fhipe.decrypt(pp, sk, ct).tolist() == [[200]]
    with pytest.raises(BoundError, match=r"outside \[-180, 180\]"):
        fhipe.decrypt(narrow, sk, ct)


@pytest.mark.parametrize("group", NAMES)
def test_load_refuses_elements_off_the_curve_wherever_they_hide(group):
    pp, sk, ct, _ = made(Bounds(3, 4, 4), group)
    for load, value in ((fhipe.load, ct), (fhipe.load_key, sk)):
        elements = value.elements.copy()
        elements[2, 1, 40] ^= 1
        with pytest.raises(MalformedError, match="element 9 of"):
            load(pp, replace(value, elements=elements))


@pytest.mark.parametrize("group", NAMES)
def test_load_refuses_points_of_the_curve_outside_of_the_subgroup(group):
    pp, _, ct, _ = made(Bounds(3, 4, 4), group)
    elements = ct.elements.copy()
    elements[1, 2] = outside_g2(group)
    with pytest.raises(MalformedError, match="element 6 of 12.*subgroup"):
        fhipe.load(pp, replace(ct, elements=elements))


@pytest.mark.parametrize("group", NAMES)
def test_load_refuses_a_neutral_first_element(group):
    pp, sk, ct, _ = made(Bounds(3, 4, 4), group)
    for load, value in ((fhipe.load, ct), (fhipe.load_key, sk)):
        elements = value.elements.copy()
        elements[1, 0] = 0
        with pytest.raises(MalformedError, match="neutral"):
            load(pp, replace(value, elements=elements))


def test_decrypt_refuses_a_ciphertext_in_place_of_a_key():
    pp, sk, ct, _ = made()
    for key, cipher in ((fhipe.load(pp, ct), ct), (sk, fhipe.load_key(pp, sk)), (ct, sk)):
        with pytest.raises(MalformedError, match="expected"):
            fhipe.decrypt(pp, key, cipher)


def test_values_of_another_length_or_group_are_refused():
    pp, sk, ct, _ = made()
    for other_sk, other_ct in (made(Bounds(5, 16, 128))[1:3], made(group="bls12_381")[1:3]):
        with pytest.raises(MalformedError, match="does not fit"):
            fhipe.load(pp, replace(other_ct, tag=pp.tag))
        with pytest.raises(MalformedError, match="does not fit"):
            fhipe.decrypt(pp, replace(other_sk, tag=pp.tag), ct)


def test_rows_and_concat_take_batches_apart_and_together():
    pp, sk, ct, expected = made(count=5)
    loaded = fhipe.concat([fhipe.rows(fhipe.load(pp, ct), 3, 5), fhipe.load(pp, fhipe.rows(ct, 0, 3))])
    key = fhipe.load_key(pp, sk)
    assert loaded.shape == (5, 6) and fhipe.rows(key, 1, 3).shape == (2, 6)
    assert np.array_equal(fhipe.decrypt(pp, key, loaded), np.roll(expected, 2, axis=0))
    assert np.array_equal(
        fhipe.decrypt(pp, fhipe.rows(key, 1, 3), fhipe.rows(loaded, 4, 5)), expected[2:3, 1:3]
    )
    other = made(seed=2)[2]
    for parts in ([ct, loaded], [ct, other], [ct, sk]):
        with pytest.raises(MalformedError, match="cannot be put together"):
            fhipe.concat(parts)


def test_same_coins_give_the_same_bytes_and_others_do_not():
    frames = [bytes(message.encode(list(made(seed=seed)[:3]))) for seed in (3, 3, 4)]
    assert frames[0] == frames[1] != frames[2]


@pytest.mark.parametrize("group, bits", [("bn254", 100), ("bls12_381", 120)])
def test_description_names_group_level_notion_and_assumption(group, bits):
    line = fhipe.describe(fhipe.parameters(Bounds(64, 16, 256), group))
    expected = "simulation secure and function hiding in the generic bilinear group model"
    assert line == f"fhipe in {group}, about {bits} bit, {expected}"
