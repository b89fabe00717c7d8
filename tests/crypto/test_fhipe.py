"""fhipe with forged tags and points, at its bounds, and against the paper's formulas in plain integers."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from protocols.crypto import fhipe
from protocols.crypto.coins import Coins
from protocols.crypto.groups.elements import from_bytes
from protocols.crypto.groups.named import PAIRINGS, get_pairing
from protocols.crypto.records import Bounds
from protocols.language import message
from protocols.language.errors import BoundError, MalformedError
from tests.crypto.cases import inner, matrices
from tests.crypto.test_pairing import outside_g2


def made(bounds=None, group="bn254", seed=1, **sizes):
    """Public parameters, keys, ciphertexts and their products."""
    it = inner("fhipe", bounds, seed, group)
    x, y = matrices(it.bounds, **sizes)
    return it.mpk, it.key(y), it.encrypt(x), x @ y.T


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


def both(pp, sk, ct):
    """How ciphertexts and keys are loaded, each with a value."""
    return (lambda v: fhipe.load(pp, v), ct), (lambda v: fhipe.load_key(pp, v), sk)


@pytest.mark.parametrize("n, count, keys", [(1, 1, 1), (64, 2, 3), (9, 17, 9)])
def test_decryption_is_exact_for_any_number_of_keys_ciphertexts_and_workers(n, count, keys):
    pp, sk, ct, expected = made(Bounds(n, 4, 16), count=count, keys=keys)
    for workers in (1, 3):
        assert np.array_equal(fhipe.decrypt(pp, sk, ct, workers), expected)


def test_zero_vectors_decrypt_to_zero_and_show():
    it = inner("fhipe")
    x, y = matrices(it.bounds)
    x[1], y[2] = 0, 0
    ct, sk = it.encrypt(x), it.key(y)
    assert np.array_equal(it.decrypt(sk, ct), x @ y.T)
    assert [row.any() for row in ct.elements[:, 1:]] == [True, False, True]  # what the docstring warns of


def test_master_key_obeys_the_paper_by_an_independent_formula():
    msk, q = inner("fhipe", Bounds(3, 4, 4)).msk, get_pairing("bn254").order
    b, b_star, det = integers(msk.b), integers(msk.b_star), int.from_bytes(msk.det.tobytes(), "big")
    assert determinant(b) % q == det != 0
    assert np.array_equal(b @ b_star.T % q, det * np.eye(3, dtype=object))
    assert len(set(b.ravel())) == 9 and max(b.ravel()) < q


@pytest.mark.parametrize("group", PAIRINGS)
def test_keys_and_ciphertexts_follow_the_paper_in_plain_integers(group, monkeypatch):
    it, pairing = inner("fhipe", Bounds(3, 9, 9), group=group), get_pairing(group)
    x, y = np.array([[5, -9, 0], [1, 2, 3]]), np.array([[2, -3, 9]])
    masks = {"fhipe encrypt": np.array([[11], [13]], object), "fhipe key_derive": np.array([[17]], object)}
    monkeypatch.setattr(fhipe, "_nonzero", lambda coins, purpose, order, count: masks[purpose])
    det, q = int.from_bytes(it.msk.det.tobytes(), "big"), pairing.order
    for mask, row, ct in zip([11, 13], x, it.encrypt(x).elements, strict=True):
        assert np.array_equal(ct, pairing.exp_g2([mask, *(mask * (row @ integers(it.msk.b_star)) % q)]))
    exponents = [17 * det, *(17 * (y[0] @ integers(it.msk.b)) % q)]
    assert np.array_equal(it.key(y).elements[0], pairing.exp_g1(exponents))


def test_products_with_wide_matrices_are_exact_at_the_largest_limbs():
    small = np.array([[1 << 26, -(1 << 26), (1 << 26) - 1, 3]])
    wide = np.full((4, 4, 32), 255, np.uint8)
    wide[1, 2] = 0
    assert np.array_equal(fhipe._times(small, wide), small.astype(object) @ integers(wide))


def test_masks_are_never_zero_and_never_repeat():
    coins, q = Coins(bytes(32)), get_pairing("bn254").order
    assert set(fhipe._nonzero(coins, "a", 3, 200).ravel()) == {1, 2}
    assert len({v for _ in range(2) for v in fhipe._nonzero(coins, "b", q, 5).ravel()}) == 10


def test_key_holds_no_vector_and_its_size_depends_on_the_shape_only():
    it = inner("fhipe")
    keys = [it.key(np.full((2, 6), value)) for value in (1, -128)]
    assert {f.name for f in dataclasses.fields(keys[0])} == {"group", "tag", "elements"}
    assert len({len(message.encode(key)) for key in keys}) == 1 and keys[0].elements.shape == (2, 7, 64)


def test_what_was_loaded_under_another_instance_is_refused_by_its_tag():
    pp, sk, ct, _ = made()
    other, other_sk, other_ct, _ = made(seed=2)
    for key, cipher in ((fhipe.load_key(other, other_sk), ct), (sk, fhipe.load(other, other_ct))):
        with pytest.raises(MalformedError, match="belongs to another instance"):
            fhipe.decrypt(pp, key, cipher)


@pytest.mark.parametrize("group, bounds", [("bn254", Bounds(6, 16, 128)), ("bls12_381", Bounds(2, 4, 4))])
def test_forged_tag_gives_an_error_and_no_number(group, bounds):
    pp, sk, ct, _ = made(bounds, group, count=2, keys=2)
    _, other_sk, other_ct, _ = made(bounds, group, seed=2, count=2, keys=2)
    for key, cipher in ((replace(other_sk, tag=pp.tag), ct), (sk, replace(other_ct, tag=pp.tag))):
        with pytest.raises(BoundError, match="do not belong together"):
            fhipe.decrypt(pp, key, cipher, workers=2)


def test_product_beyond_the_bounds_is_an_error_and_no_number():
    it, tens = inner("fhipe", Bounds(2, 10, 10)), np.full((1, 2), 10)
    narrow = replace(it.mpk, params=fhipe.parameters(Bounds(2, 10, 9)))
    sk, ct = it.key(tens), it.encrypt(tens)
    assert it.decrypt(sk, ct).tolist() == [[200]]
    with pytest.raises(BoundError, match=r"outside \[-180, 180\]"):
        fhipe.decrypt(narrow, sk, ct)


@pytest.mark.parametrize("group", PAIRINGS)
def test_load_refuses_points_off_the_curve_outside_of_the_subgroup_and_neutral_ones(group):
    pp, sk, ct, _ = made(Bounds(3, 4, 4), group)
    for load, value in both(pp, sk, ct):
        off, neutral = value.elements.copy(), value.elements.copy()
        off[2, 1, 40] ^= 1
        neutral[1, 0] = 0
        with pytest.raises(MalformedError, match="element 9 of"):
            load(replace(value, elements=off))
        with pytest.raises(MalformedError, match="neutral"):
            load(replace(value, elements=neutral))
    outside = ct.elements.copy()
    outside[1, 2] = outside_g2(group)
    with pytest.raises(MalformedError, match="element 6 of 12.*subgroup"):
        fhipe.load(pp, replace(ct, elements=outside))


def test_keys_and_ciphertexts_do_not_pass_for_each_other():
    pp, sk, ct, _ = made()
    for key, cipher in ((fhipe.load(pp, ct), ct), (sk, fhipe.load_key(pp, sk)), (ct, sk), (None, ct)):
        with pytest.raises(MalformedError, match="expected"):
            fhipe.decrypt(pp, key, cipher)
    for (load, value), other in zip(both(pp, sk, ct), (sk, ct), strict=True):
        for wrong in (other, load(value)):
            with pytest.raises(MalformedError, match="expected Fhipe"):
                load(wrong)
