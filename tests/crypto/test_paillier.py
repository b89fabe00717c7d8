"""Paillier's encrypted head: exact at its bounds, loud beyond them, and the same to phe's own decryption."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from protocols.crypto import paillier
from protocols.crypto.coins import Coins
from protocols.crypto.integers import multiexp
from protocols.crypto.integers.packing import HeadBounds, pack, slots, unpack
from protocols.crypto.paillier_keys import (
    PaillierFloats,
    PaillierLogits,
    PaillierSecretKey,
    bytes_of,
    numbers_of,
)
from protocols.language import message
from protocols.language.confine import check_step
from protocols.language.errors import BoundError, ConfigError, MalformedError

SMALL = HeadBounds(classes=3, features=11, weight=100, feature=15, bias=1000)
TOY = 512


@cache
def pair(bounds, bits, seed):
    return paillier.setup(paillier.parameters(bounds, bits, toy=bits < 2048), Coins(bytes([seed]) * 32))


def keys(bounds=SMALL, bits=TOY, seed=1):
    """A key pair, drawn once, and coins for what is done with it."""
    return (*pair(bounds, bits, seed), Coins(bytes([seed + 100]) * 32))


def draw(bounds=SMALL, count=5, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-bounds.weight, bounds.weight + 1, (bounds.classes, bounds.features))
    lowest = -bounds.feature if bounds.signed else 0
    features = rng.integers(lowest, bounds.feature + 1, (count, bounds.features))
    return weights, rng.integers(-bounds.bias, bounds.bias + 1, bounds.classes), features


def made(bounds=SMALL, bits=TOY, seed=1, count=5):
    pk, sk, coins = keys(bounds, bits, seed)
    weights, bias, features = draw(bounds, count)
    head = paillier.encrypt(pk, weights, bias, coins)
    return pk, sk, head, paillier.linear(pk, head, features, coins), features @ weights.T + bias


def exact(bounds, weights, bias, features, **options):
    pk, sk, coins = keys(bounds)
    found = paillier.decrypt(
        sk, paillier.linear(pk, paillier.encrypt(pk, weights, bias, coins), features, coins, **options)
    )
    return found.dtype == np.int64 and np.array_equal(found, features @ weights.T + bias)


def test_logits_are_exact_at_the_least_key_that_is_no_toy():
    bounds = HeadBounds(10, 64, 1024, 255, 1 << 18)
    *_, sk, _, logits, expected = made(bounds, 2048, count=2)
    assert np.array_equal(paillier.decrypt(sk, logits), expected)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("tables", [False, True])
@pytest.mark.parametrize("classes, features", [(1, 1), (3, 8), (10, 17), (40, 3)])
def test_logits_are_exact_for_every_shape_and_method(classes, features, signed, tables):
    bounds = HeadBounds(classes, features, 300, 255, 5000, signed)
    assert exact(bounds, *draw(bounds), tables=tables)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("sign", [1, -1, 0])
def test_logits_are_exact_at_the_bounds(signed, sign):
    bounds = replace(SMALL, signed=signed)
    features = np.full((2, 11), 15)
    features[1] = -15 if signed else 0
    assert exact(bounds, np.full((3, 11), 100 * sign), np.full(3, 1000 * sign), features)


def test_neighbours_of_opposite_extremes_do_not_spill_into_each_other():
    weights = np.full((3, 11), -100)
    weights[1] = 100
    assert exact(SMALL, weights, np.array([-1000, 1000, -1000]), np.full((1, 11), 15))


def test_no_features_give_no_logits():
    pk, sk, coins = keys()
    weights, bias, _ = draw()
    head = paillier.encrypt(pk, weights, bias, coins)
    assert paillier.decrypt(sk, paillier.linear(pk, head, np.zeros((0, 11), int), coins)).shape == (0, 3)


def test_classes_that_do_not_fit_into_one_plaintext_are_spread_over_several():
    bounds = HeadBounds(40, 3, 300, 255, 5000)
    params = paillier.parameters(bounds, TOY, toy=True)
    assert params.per_plaintext == (TOY - 65) // bounds.slot_bits == 22 and params.chunks == 2
    pk, _, head, logits, _ = made(bounds)
    assert head.elements.shape == (4, 2, TOY // 4) and logits.elements.shape == (5, 2, TOY // 4)


def test_phe_decrypts_the_same_ciphertexts_to_the_same_packed_logits():
    pk, sk, _, logits, expected = made()
    width, n = SMALL.slot_bits, pk.n
    for c, row in zip(numbers_of(logits.elements), expected.tolist(), strict=True):
        packed = sum(z * 2 ** (width * place) for place, z in enumerate(row))
        assert paillier.phe_secret(sk).raw_decrypt(int(c)) == packed % n


def test_every_row_of_a_head_is_an_encryption_of_its_packed_column():
    pk, sk, head, *_ = made()
    weights, bias, _ = draw()
    columns = [*weights.T.tolist(), bias.tolist()]
    for c, column in zip(numbers_of(head.elements), columns, strict=True):
        packed = sum(w * 2 ** (SMALL.slot_bits * place) for place, w in enumerate(column))
        assert paillier.phe_secret(sk).raw_decrypt(int(c)) == packed % pk.n


def test_products_of_ciphertexts_are_sums_of_logits():
    pk, sk, head, logits, expected = made()
    a, b = numbers_of(logits.elements[:2])
    half = replace(logits, elements=bytes_of([a * b % pk.square], pk.params, 1, 1))
    assert np.abs(expected[0] + expected[1]).max() <= SMALL.logit
    assert np.array_equal(paillier.decrypt(sk, half)[0], expected[0] + expected[1])


def test_blinding_changes_every_ciphertext_and_no_plaintext():
    pk, sk, coins = keys()
    weights, bias, features = draw()
    features[1] = features[0]
    head = paillier.load(pk, paillier.encrypt(pk, weights, bias, coins))
    first, again = (paillier.linear(pk, head, features, coins) for _ in range(2))
    bare = bytes_of(paillier.unblinded(head, features, False), pk.params, 5)
    rows = np.concatenate([first.elements[:, 0], again.elements[:, 0], bare[[0, 2, 3, 4]]])
    assert len(np.unique(rows, axis=0)) == 14
    assert np.array_equal(paillier.decrypt(sk, first), paillier.decrypt(sk, again))


def test_both_methods_give_the_same_product_and_equal_that_of_pow():
    pk, _, head, *_ = made()
    loaded, features = paillier.load(pk, head), draw()[2]
    expected = [
        np.prod(
            [pow(int(c), int(f), pk.n**2) for c, f in zip(loaded.columns[0], [*row, 1], strict=True)],
            dtype=object,
        )
        % pk.n**2
        for row in features
    ]
    assert (
        paillier.unblinded(loaded, features, False) == expected == paillier.unblinded(loaded, features, True)
    )


@pytest.mark.parametrize("bits", [1, 2, 8, 13, 30])
def test_bucket_windows_of_any_width_agree_with_pow(bits):
    rng, modulus = np.random.default_rng(bits), 10**9 + 7
    bases = [multiexp.mpz(int(b)) for b in rng.integers(1, modulus, 9)]
    exponents = rng.integers(0, 1 << bits, (4, 9))
    expected = [
        np.prod([pow(int(b), int(e), modulus) for b, e in zip(bases, row, strict=True)], dtype=object)
        % modulus
        for row in exponents
    ]
    assert multiexp.bucket_multi_exp(bases, exponents, modulus) == expected
    assert multiexp.table_multi_exp(multiexp.subset_tables(bases, modulus), exponents, modulus) == expected


def test_the_fixed_base_table_gives_powers_with_little_endian_exponents():
    table = multiexp.byte_table(7, 10**9 + 7, 5)
    exponent = bytes([0, 255, 1, 0, 254])
    assert multiexp.fixed_base_exp(table, exponent, 10**9 + 7) == pow(
        7, int.from_bytes(exponent, "little"), 10**9 + 7
    )


def test_key_follows_damgard_jurik_and_nielsen():
    pk, sk, _ = keys()
    assert sk.p * sk.q == pk.n and pk.n.bit_length() == TOY and sk.p.bit_length() == sk.q.bit_length()
    assert sk.p % 4 == sk.q % 4 == 3 and math.gcd(sk.p - 1, sk.q - 1) == 2
    order = (sk.p - 1) * (sk.q - 1) // 2
    assert pow(pk.h_n, order, pk.n**2) == 1  # an n-th residue, of the order of -r^2
    assert paillier.gmpy2.jacobi(pk.h_n, pk.n) == 1


def test_blinding_factors_encrypt_zero():
    pk, sk, coins = keys()
    factors = paillier.blinding(pk, 4, coins.stream("test"))
    assert len(set(factors)) == 4
    assert [paillier.phe_secret(sk).raw_decrypt(int(f)) for f in factors] == [0] * 4


def test_same_coins_give_the_same_bytes_and_others_do_not():
    def all_of(key):
        coins = Coins(key)
        pk, sk = paillier.setup(paillier.parameters(SMALL, 256, toy=True), coins)
        weights, bias, features = draw()
        head = paillier.encrypt(pk, weights, bias, coins)
        return bytes(message.encode([pk, sk, head, paillier.linear(pk, head, features, coins)]))

    assert all_of(b"a" * 32) == all_of(b"a" * 32) != all_of(b"b" * 32)


def test_key_of_another_instance_is_refused_by_its_tag():
    pk, sk, head, logits, _ = made()
    other_pk, other_sk, other_head, *_ = made(seed=2)
    with pytest.raises(MalformedError, match="another instance"):
        paillier.decrypt(other_sk, logits)
    with pytest.raises(MalformedError, match="another instance"):
        paillier.load(other_pk, head)
    with pytest.raises(MalformedError, match="for another key"):
        paillier.linear(pk, paillier.load(other_pk, other_head), draw()[2], Coins(bytes(32)))


def test_forged_tag_gives_an_error_and_no_logits():
    _, sk, _, logits, _ = made(seed=2)
    pk, other_sk, _ = keys()
    # seed 2 may have the larger modulus: reduce what would be out of range
    elements = bytes_of([c % pk.square for c in numbers_of(logits.elements)], pk.params, 5, 1)
    with pytest.raises(BoundError, match="do not belong together"):
        paillier.decrypt(other_sk, PaillierLogits(pk.tag, elements))


def test_logits_beyond_the_bound_are_an_error_and_no_numbers():
    pk, sk, coins = keys()
    head = paillier.encrypt(pk, np.full((3, 11), 100), np.full(3, 1000), coins)
    c = numbers_of(paillier.linear(pk, head, np.full((1, 11), 15), coins).elements)[0]
    for factor in (c * c % pk.square, paillier.gmpy2.invert(c * c, pk.square)):
        with pytest.raises(BoundError, match="exceeds the bound 17500"):
            paillier.decrypt(sk, PaillierLogits(pk.tag, bytes_of([factor], pk.params, 1, 1)))


@pytest.mark.parametrize("bad", [lambda pk: 0, lambda pk: pk.n**2, lambda pk: pk.n**2 + 1, lambda pk: pk.n,
                                 lambda pk: 5 * pk.n])  # fmt: skip
def test_elements_that_are_no_units_are_refused_wherever_they_hide(bad):
    pk, sk, head, logits, _ = made()
    wrong = bytes_of([bad(pk)], pk.params)
    for value, check in ((head, lambda v: paillier.load(pk, v)), (logits, lambda v: paillier.decrypt(sk, v))):
        elements = value.elements.copy()
        elements[2, 0] = wrong
        with pytest.raises(MalformedError, match="not in|no unit"):
            check(replace(value, elements=elements))


def test_a_multiple_of_a_factor_is_refused_though_it_is_in_range():
    pk, sk, head, *_ = made()
    elements = head.elements.copy()
    elements[0, 0] = bytes_of([12345 * sk.p], pk.params)
    with pytest.raises(MalformedError, match="no unit"):
        paillier.load(pk, replace(head, elements=elements))


def test_weights_biases_and_features_beyond_the_bounds_are_refused():
    pk, _, coins = keys()
    weights, bias, features = draw()
    with pytest.raises(BoundError, match="weights of a head: an entry exceeds the bound 100"):
        paillier.encrypt(pk, np.full((3, 11), -101), bias, coins)
    with pytest.raises(BoundError, match="bias of a head: an entry exceeds the bound 1000"):
        paillier.encrypt(pk, weights, np.full(3, 1001), coins)
    head = paillier.encrypt(pk, weights, bias, coins)
    for beyond in (16, -1):
        with pytest.raises(BoundError, match=r"outside of \[0, 15\]"):
            paillier.linear(pk, head, np.full((1, 11), beyond), coins)


def test_arrays_of_the_wrong_shape_or_type_are_refused():
    pk, _, coins = keys()
    weights, bias, features = draw()
    for bad in (weights.T, weights.astype(float), weights[0], weights.tolist()):
        with pytest.raises(MalformedError, match="expected integers"):
            paillier.encrypt(pk, bad, bias, coins)
    with pytest.raises(MalformedError, match="expected integers"):
        paillier.encrypt(pk, weights, bias[:-1], coins)
    for bad in (features[0], features[:, :-1], features / 2):
        with pytest.raises(MalformedError, match="expected integers"):
            paillier.linear(pk, paillier.encrypt(pk, weights, bias, coins), bad, coins)


def test_overflow_of_a_slot_or_a_plaintext_is_refused_at_set_up():
    with pytest.raises(BoundError, match="64 bits"):
        paillier.parameters(HeadBounds(10, 256, 1 << 40, 1 << 20, 1))
    with pytest.raises(BoundError, match="raise --key-bits"):
        slots(HeadBounds(1, 256, 1 << 30, 1 << 20, 1), 124)
    assert slots(HeadBounds(100, 1, 1 << 20, 1 << 20, 1), 2048) == (2047 - 64) // 43


def test_packing_is_undone_by_unpacking_at_the_extremes_of_every_slot():
    bounds = HeadBounds(4, 1, 7, 1, 1)
    values = np.array([[8, -8, 8, -8], [-8, -8, -8, -8], [8, 8, 8, 8], [0, -1, 0, 1]])
    for per_plaintext in (1, 3, 4):
        packed = pack(values, bounds.slot_bits, per_plaintext)
        assert np.array_equal(unpack(packed, bounds, per_plaintext), values)
    for beyond in (9, -9, 16, -16):
        with pytest.raises(BoundError):
            unpack(pack(np.array([[0, beyond, 0, 0]]), bounds.slot_bits, 4), bounds, 4)


@pytest.mark.parametrize("bits", [1024, 2047, 2016, 3071, 16384, 0, -2048])
def test_short_and_odd_keys_are_refused_with_the_reason(bits):
    with pytest.raises(
        ConfigError, match=f"--key-bits {bits} is refused: 2048 bits .* reach of factoring, 3072"
    ):
        paillier.parameters(SMALL, bits)


def test_toys_are_for_who_says_so_and_do_not_pass_for_keys():
    toy = paillier.parameters(SMALL, TOY, toy=True)
    assert "toy" in paillier.describe(toy) and toy.security_bits == 0
    pk, *_ = keys()
    assert paillier.check(pk, toy) is pk
    with pytest.raises(MalformedError, match="other parameters"):
        paillier.check(pk, paillier.parameters(SMALL))


@pytest.mark.parametrize("bits, level", [(2048, 112), (3072, 128)])
def test_description_names_level_notion_and_packing(bits, level):
    line = paillier.describe(paillier.parameters(SMALL, bits))
    assert f"{bits}-bit keys, about {level} bit: IND-CPA under DCR" in line and "|logit| <= 17500" in line
    assert paillier.parameters(SMALL).key_bits == 3072


def test_integers_that_make_no_key_are_refused():
    pk, sk, _ = keys()
    cases = [(pk, "n", pk.n + 1), (pk, "n", pk.n * 2), (pk, "h_n", 1), (pk, "h_n", pk.n), (sk, "p", sk.p + 4),
             (pk, "h_n", pk.n**2 + 2), (sk, "q", sk.p)]  # fmt: skip
    for value, name, bad in cases:
        with pytest.raises(MalformedError):
            replace(value, **{name: bad})
    with pytest.raises(MalformedError):
        PaillierSecretKey(pk, 1, pk.n)


def floats(seed=3):
    rng = np.random.default_rng(seed)
    weights, bias = rng.normal(0, 1, (2, 5)) * [1e-3, 1, 40, 1e-5, 1], np.array([0.25, -3.0])
    weights[0, 4] = 0.0
    return HeadBounds(2, 5, 1, 1, 1), weights, bias, np.abs(rng.normal(0, 1, (3, 5)))


def test_the_float_path_decrypts_to_the_float_logits():
    bounds, weights, bias, features = floats()
    pk, sk, coins = keys(bounds)
    head = paillier.encrypt_float(pk, weights, bias, coins)
    found = paillier.decrypt_float(sk, paillier.linear_float(pk, head, features, coins))
    assert np.allclose(found, features @ weights.T + bias, rtol=1e-12)
    assert np.array_equal(paillier.decrypt_float(sk, head), np.hstack([weights, bias[:, None]]))


def test_the_float_path_is_that_of_phe_number_by_number():
    bounds, weights, bias, features = floats()
    pk, sk, coins = keys(bounds)
    public, secret = paillier.phe_public(pk), paillier.phe_secret(sk)
    ours = paillier.linear_float(pk, paillier.encrypt_float(pk, weights, bias, coins), features, coins)
    for row, one in enumerate(features.tolist()):
        for k in range(2):
            theirs = public.encrypt(float(bias[k]))
            for w, f in zip(weights[k].tolist(), one, strict=True):
                theirs = theirs + public.encrypt(w) * f
            number = paillier.phe_numbers(pk, ours)[row][k]
            assert number.exponent == theirs.exponent and secret.decrypt(number) == secret.decrypt(theirs)


def test_exponents_are_those_of_phe_and_cross_in_the_clear():
    values = [
        *(np.random.default_rng(0).normal(0, 1, 40) * 10.0 ** np.arange(-20, 20)).tolist(),
        0.0,
        1.0,
        16.0,
        -0.5,
        5e-324,
    ]
    pk, *_ = keys(HeadBounds(1, 1, 1, 1, 1))
    theirs = [paillier.phe_public(pk).encrypt(v, r_value=1).exponent for v in values]
    assert paillier.float_exponents(np.array(values)).tolist() == theirs
    bounds, weights, bias, _ = floats()
    head = paillier.encrypt_float(keys(bounds)[0], weights, bias, Coins(bytes(32)))
    assert np.array_equal(head.exponents, paillier.float_exponents(np.hstack([weights, bias[:, None]])))
    assert len(np.unique(head.exponents)) > 2


def test_float_ciphertexts_are_blinded_from_the_coins():
    bounds, weights, bias, _ = floats()
    pk, *_ = keys(bounds)
    first, again, other = (
        paillier.encrypt_float(pk, weights, bias, Coins(bytes([i]) * 32)).elements for i in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not (first == other).all(axis=2).any()


def test_malformed_floats_are_refused():
    bounds, weights, bias, features = floats()
    pk, sk, coins = keys(bounds)
    head = paillier.encrypt_float(pk, weights, bias, coins)
    with pytest.raises(MalformedError, match="beyond that of any float"):
        replace(head, exponents=np.full((2, 6), 2000, np.int16))
    with pytest.raises(MalformedError, match="shape"):
        paillier.linear_float(pk, paillier.linear_float(pk, head, features, coins), features, coins)
    with pytest.raises(MalformedError, match="finite"):
        paillier.encrypt_float(pk, weights * np.nan, bias, coins)
    for bad in (features[:, :-1], features * np.inf):
        with pytest.raises(MalformedError, match="finite"):
            paillier.linear_float(pk, head, bad, coins)
    with pytest.raises(MalformedError, match="another instance"):
        paillier.decrypt_float(keys(bounds, seed=2)[1], head)


def test_floats_under_a_forged_tag_are_an_error_and_no_numbers():
    bounds, weights, bias, _ = floats()
    pk, _, coins = keys(bounds)
    other_pk, other_sk, _ = keys(bounds, seed=2)
    head = paillier.encrypt_float(pk, weights, bias, coins)
    elements = bytes_of([c % other_pk.square for c in numbers_of(head.elements)], pk.params, 2, 6)
    with pytest.raises(BoundError):
        paillier.decrypt_float(other_sk, PaillierFloats(other_pk.tag, elements, head.exponents))


def step(state, pk, sk, matrix):
    """What the steps of a protocol will do."""
    head = paillier.load(pk, paillier.encrypt(pk, matrix, matrix[:, 0], state.coins))
    paillier.decrypt_float(
        sk,
        paillier.linear_float(
            pk, paillier.encrypt_float(pk, matrix, matrix, state.coins), matrix, state.coins
        ),
    )
    return paillier.decrypt(sk, paillier.linear(pk, head, matrix, state.coins))


def test_steps_may_use_every_verb():
    check_step(step)


@pytest.mark.parametrize("exponent", [400, 1000])
def test_a_forged_exponent_is_refused_in_the_way_of_every_other_overflow(exponent):
    bounds, weights, bias, _ = floats()
    pk, sk, coins = keys(bounds)
    head = paillier.encrypt_float(pk, weights, bias, coins)
    with pytest.raises(BoundError):
        paillier.decrypt_float(sk, replace(head, exponents=np.full_like(head.exponents, exponent)))
