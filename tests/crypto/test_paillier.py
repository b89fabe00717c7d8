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
from protocols.crypto.paillier_keys import PaillierFloats, PaillierLogits, bytes_of, numbers_of
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


def exact(bounds, weights, bias, features, bits=TOY, **options):
    pk, sk, coins = keys(bounds, bits)
    head = paillier.encrypt(pk, weights, bias, coins)
    found = paillier.decrypt(sk, paillier.linear(pk, head, features, coins, **options))
    return found.dtype == np.int64 and np.array_equal(found, features @ weights.T + bias)


def packed(row):
    """Values of one class each as one integer."""
    return sum(z * 2 ** (SMALL.slot_bits * place) for place, z in enumerate(row))


def by_pow(bases, exponents, modulus):
    """prod_j bases[j]^row[j] for every row, as objects of Python."""
    pairs = [[pow(int(b), int(e), modulus) for b, e in zip(bases, row, strict=True)] for row in exponents]
    return [np.prod(row, dtype=object) % modulus for row in pairs]


def test_logits_are_exact_at_the_least_key_that_is_no_toy():
    bounds = HeadBounds(10, 64, 1024, 255, 1 << 18)
    assert exact(bounds, *draw(bounds, 2), bits=2048)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("tables", [False, True])
@pytest.mark.parametrize("classes, features", [(1, 1), (3, 8), (10, 17), (40, 3)])
def test_logits_are_exact_for_every_shape_and_method(classes, features, signed, tables):
    bounds = HeadBounds(classes, features, 300, 255, 5000, signed)
    assert exact(bounds, *draw(bounds), tables=tables) and exact(bounds, *draw(bounds, 0), tables=tables)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("signs", [[1, 1, 1], [-1, -1, -1], [0, 0, 0], [-1, 1, -1]], ids=str)
def test_logits_are_exact_at_the_bounds_and_do_not_spill_into_their_neighbours(signed, signs):
    features, signs = np.full((2, 11), 15), np.array(signs)
    features[1] = -15 if signed else 0
    assert exact(replace(SMALL, signed=signed), 100 * np.tile(signs[:, None], 11), 1000 * signs, features)


def test_classes_that_do_not_fit_into_one_plaintext_are_spread_over_several():
    bounds = HeadBounds(40, 3, 300, 255, 5000)
    params = paillier.parameters(bounds, TOY, toy=True)
    assert params.per_plaintext == (TOY - 65) // bounds.slot_bits == 22 and params.chunks == 2
    _, _, head, logits, _ = made(bounds)
    assert head.elements.shape == (4, 2, TOY // 4) and logits.elements.shape == (5, 2, TOY // 4)


def test_phe_decrypts_heads_and_logits_to_the_same_packed_numbers():
    pk, sk, head, logits, expected = made()
    weights, bias, _ = draw()
    rows = [*weights.T.tolist(), bias.tolist(), *expected.tolist()]
    for c, row in zip(numbers_of(head.elements) + numbers_of(logits.elements), rows, strict=True):
        assert paillier.phe_secret(sk).raw_decrypt(int(c)) == packed(row) % pk.n


def test_products_of_ciphertexts_are_sums_of_logits():
    pk, sk, _, logits, expected = made()
    a, b = numbers_of(logits.elements[:2])
    half = replace(logits, elements=bytes_of([a * b % pk.square], pk.params, 1, 1))
    assert np.abs(expected[0] + expected[1]).max() <= SMALL.logit
    assert np.array_equal(paillier.decrypt(sk, half)[0], expected[0] + expected[1])


def test_blinding_changes_every_ciphertext_and_no_plaintext():
    pk, sk, head, *_ = made()
    features, coins = draw()[2], keys()[2]
    features[1] = features[0]
    loaded = paillier.load(pk, head)
    first, again = (paillier.linear(pk, loaded, features, coins) for _ in range(2))
    bare = bytes_of(paillier.unblinded(loaded, features, False), pk.params, 5)
    rows = np.concatenate([first.elements[:, 0], again.elements[:, 0], bare[[0, 2, 3, 4]]])
    assert len(np.unique(rows, axis=0)) == 14
    assert np.array_equal(paillier.decrypt(sk, first), paillier.decrypt(sk, again))


def test_blinding_factors_encrypt_zero():
    pk, sk, coins = keys()
    factors = paillier.blinding(pk, 4, coins.stream("test"))
    assert len(set(factors)) == 4
    assert [paillier.phe_secret(sk).raw_decrypt(int(f)) for f in factors] == [0] * 4


def test_both_methods_give_the_same_product_and_equal_that_of_pow():
    pk, _, head, *_ = made()
    loaded, features = paillier.load(pk, head), draw()[2]
    expected = by_pow(loaded.columns[0], [[*row, 1] for row in features], pk.n**2)
    assert (
        expected == paillier.unblinded(loaded, features, False) == paillier.unblinded(loaded, features, True)
    )


@pytest.mark.parametrize("bits", [1, 2, 8, 13, 30])
def test_bucket_windows_of_any_width_agree_with_pow(bits):
    rng, modulus = np.random.default_rng(bits), 10**9 + 7
    bases = [multiexp.mpz(int(b)) for b in rng.integers(1, modulus, 9)]
    exponents = rng.integers(0, 1 << bits, (4, 9))
    expected = by_pow(bases, exponents, modulus)
    assert multiexp.bucket_multi_exp(bases, exponents, modulus) == expected
    assert multiexp.table_multi_exp(multiexp.subset_tables(bases, modulus), exponents, modulus) == expected


def test_the_fixed_base_table_gives_powers_with_little_endian_exponents():
    modulus, exponent = 10**9 + 7, bytes([0, 255, 1, 0, 254])
    power = multiexp.fixed_base_exp(multiexp.byte_table(7, modulus, 5), exponent, modulus)
    assert power == pow(7, int.from_bytes(exponent, "little"), modulus)


def test_key_follows_damgard_jurik_and_nielsen():
    pk, sk, _ = keys()
    assert sk.p * sk.q == pk.n and pk.n.bit_length() == TOY and sk.p.bit_length() == sk.q.bit_length()
    assert sk.p % 4 == sk.q % 4 == 3 and math.gcd(sk.p - 1, sk.q - 1) == 2
    order = (sk.p - 1) * (sk.q - 1) // 2
    assert pow(pk.h_n, order, pk.n**2) == 1  # an n-th residue, of the order of -r^2
    assert paillier.gmpy2.jacobi(pk.h_n, pk.n) == 1


def test_forged_tag_gives_an_error_and_no_logits():
    _, _, _, logits, _ = made(seed=2)
    pk, sk, coins = keys()
    # seed 2 may have the larger modulus: reduce what would be out of range
    elements = bytes_of([c % pk.square for c in numbers_of(logits.elements)], pk.params, 5, 1)
    with pytest.raises(BoundError, match="do not belong together"):
        paillier.decrypt(sk, PaillierLogits(pk.tag, elements))
    with pytest.raises(MalformedError, match="for another key"):
        other = keys(seed=2)[0]
        paillier.linear(pk, paillier.load(other, made(seed=2)[2]), draw()[2], coins)


def test_logits_beyond_the_bound_are_an_error_and_no_numbers():
    pk, sk, coins = keys()
    head = paillier.encrypt(pk, np.full((3, 11), 100), np.full(3, 1000), coins)
    c = numbers_of(paillier.linear(pk, head, np.full((1, 11), 15), coins).elements)[0]
    for factor in (c * c % pk.square, paillier.gmpy2.invert(c * c, pk.square)):
        with pytest.raises(BoundError, match="exceeds the bound 17500"):
            paillier.decrypt(sk, PaillierLogits(pk.tag, bytes_of([factor], pk.params, 1, 1)))


@pytest.mark.parametrize("bad", [lambda pk, sk: 0, lambda pk, sk: pk.n**2, lambda pk, sk: pk.n**2 + 1,
                                 lambda pk, sk: 5 * pk.n, lambda pk, sk: 12345 * sk.p])  # fmt: skip
def test_elements_that_are_no_units_are_refused_wherever_they_hide(bad):
    pk, sk, head, logits, _ = made()
    for value, check in ((head, lambda v: paillier.load(pk, v)), (logits, lambda v: paillier.decrypt(sk, v))):
        elements = value.elements.copy()
        elements[2, 0] = bytes_of([bad(pk, sk)], pk.params)
        with pytest.raises(MalformedError, match="element 2 of .*not in|no unit"):
            check(replace(value, elements=elements))


def test_weights_biases_and_features_beyond_the_bounds_are_refused():
    pk, _, head, *_ = made()
    weights, bias, _ = draw()
    coins = Coins(bytes(32))
    for sign in (1, -1):
        with pytest.raises(BoundError, match="weights of a head: an entry exceeds the bound 100"):
            paillier.encrypt(pk, np.full((3, 11), 101 * sign), bias, coins)
        with pytest.raises(BoundError, match="bias of a head: an entry exceeds the bound 1000"):
            paillier.encrypt(pk, weights, np.full(3, 1001 * sign), coins)
    for beyond, reason in ((16, "an entry exceeds the bound 15"), (-1, "an entry is negative")):
        with pytest.raises(BoundError, match=f"features: {reason}; derive"):
            paillier.linear(pk, head, np.full((1, 11), beyond), coins)


def test_arrays_of_the_wrong_shape_or_type_are_refused():
    pk, _, head, *_ = made()
    (weights, bias, features), coins = draw(), Coins(bytes(32))
    calls = [
        (paillier.encrypt, (pk, bad, bias)) for bad in (weights.T, weights / 2, weights[0], weights.tolist())
    ]
    calls += [(paillier.linear, (pk, head, bad)) for bad in (features[0], features[:, :-1], features / 2)]
    for verb, arguments in [*calls, (paillier.encrypt, (pk, weights, bias[:-1]))]:
        with pytest.raises(MalformedError, match="expected integers"):
            verb(*arguments, coins)


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
        assert np.array_equal(
            unpack(pack(values, bounds.slot_bits, per_plaintext), bounds, per_plaintext), values
        )
    for beyond in (9, -9, 16, -16):
        with pytest.raises(BoundError):
            unpack(pack(np.array([[0, beyond, 0, 0]]), bounds.slot_bits, 4), bounds, 4)


@pytest.mark.parametrize("bits", [1024, 2047, 2016, 3071, 16384, 0, -2048])
def test_short_and_odd_keys_are_refused_with_the_reason(bits):
    reason = f"--key-bits {bits} is refused: 2048 bits .* reach of factoring, 3072"
    with pytest.raises(ConfigError, match=reason):
        paillier.parameters(SMALL, bits)


def test_toys_are_for_who_says_so_and_do_not_pass_for_keys():
    toy, pk = paillier.parameters(SMALL, TOY, toy=True), keys()[0]
    assert "toy" in paillier.describe(toy) and toy.security_bits == 0 and paillier.check(pk, toy) is pk
    with pytest.raises(MalformedError, match="other parameters"):
        paillier.check(pk, paillier.parameters(SMALL))


def test_integers_that_make_no_key_are_refused():
    pk, sk, _ = keys()
    public = ({"n": pk.n + 1}, {"n": pk.n * 2}, {"h_n": 1}, {"h_n": pk.n}, {"h_n": pk.n**2 + 2})
    secret = ({"q": sk.p}, {"p": sk.p + 4}, {"p": 1, "q": pk.n})
    cases = [*((pk, changes) for changes in public), *((sk, changes) for changes in secret)]
    for value, changes in cases:
        with pytest.raises(MalformedError):
            replace(value, **changes)


def floats(seed=3):
    """Weights, bias and features of many magnitudes, and a key pair for them."""
    rng = np.random.default_rng(seed)
    weights, bias = rng.normal(0, 1, (2, 5)) * [1e-3, 1, 40, 1e-5, 1], np.array([0.25, -3.0])
    weights[0, 4] = 0.0
    pk, sk, coins = keys(HeadBounds(2, 5, 1, 1, 1))
    return (
        pk,
        sk,
        weights,
        bias,
        np.abs(rng.normal(0, 1, (3, 5))),
        paillier.encrypt_float(pk, weights, bias, coins),
    )


def test_the_float_path_decrypts_to_the_float_logits():
    pk, sk, weights, bias, features, head = floats()
    found = paillier.decrypt_float(sk, paillier.linear_float(pk, head, features, Coins(bytes(32))))
    assert np.allclose(found, features @ weights.T + bias, rtol=1e-12)
    assert np.array_equal(paillier.decrypt_float(sk, head), np.hstack([weights, bias[:, None]]))


def test_the_float_path_is_that_of_phe_number_by_number():
    pk, sk, weights, bias, features, head = floats()
    public, secret = paillier.phe_public(pk), paillier.phe_secret(sk)
    ours = paillier.phe_numbers(pk, paillier.linear_float(pk, head, features, Coins(bytes(32))))
    for row, one in zip(ours, features.tolist(), strict=True):
        for k, number in enumerate(row):
            theirs = public.encrypt(float(bias[k]))
            for w, f in zip(weights[k].tolist(), one, strict=True):
                theirs = theirs + public.encrypt(w) * f
            assert number.exponent == theirs.exponent and secret.decrypt(number) == secret.decrypt(theirs)


def test_exponents_are_those_of_phe_and_cross_in_the_clear():
    pk, _, weights, bias, _, head = floats()
    values = np.random.default_rng(0).normal(0, 1, 40) * 10.0 ** np.arange(-20, 20)
    values = [*values.tolist(), 0.0, 1.0, 16.0, -0.5, 5e-324]
    theirs = [paillier.phe_public(pk).encrypt(v, r_value=1).exponent for v in values]
    assert paillier.float_exponents(np.array(values)).tolist() == theirs
    assert np.array_equal(head.exponents, paillier.float_exponents(np.hstack([weights, bias[:, None]])))
    assert len(np.unique(head.exponents)) > 2


def test_float_ciphertexts_are_blinded_from_the_coins():
    pk, _, weights, bias, _, _ = floats()
    made = (paillier.encrypt_float(pk, weights, bias, Coins(bytes([i]) * 32)).elements for i in (1, 1, 2))
    first, again, other = made
    assert np.array_equal(first, again) and not (first == other).all(axis=2).any()


def test_malformed_floats_are_refused():
    pk, _, weights, bias, features, head = floats()
    coins = Coins(bytes(32))
    with pytest.raises(MalformedError, match="beyond that of any float"):
        replace(head, exponents=np.full((2, 6), 2000, np.int16))
    with pytest.raises(MalformedError, match="finite"):
        paillier.encrypt_float(pk, weights * np.nan, bias, coins)
    for bad in (features[:, :-1], features * np.inf):
        with pytest.raises(MalformedError, match="finite"):
            paillier.linear_float(pk, head, bad, coins)
    with pytest.raises(MalformedError, match="shape"):
        paillier.linear_float(pk, paillier.linear_float(pk, head, features, coins), features, coins)


def test_floats_under_a_forged_tag_or_exponent_are_an_error_and_no_numbers():
    pk, sk, *_, head = floats()
    other, other_sk, _ = keys(HeadBounds(2, 5, 1, 1, 1), seed=2)
    elements = bytes_of([c % other.square for c in numbers_of(head.elements)], pk.params, 2, 6)
    with pytest.raises(BoundError):
        paillier.decrypt_float(other_sk, PaillierFloats(other.tag, elements, head.exponents))
    for exponent in (400, 1000):
        with pytest.raises(BoundError):
            paillier.decrypt_float(sk, replace(head, exponents=np.full_like(head.exponents, exponent)))


def step(state, pk, sk, matrix):
    """What the steps of a protocol will do."""
    head = paillier.load(pk, paillier.encrypt(pk, matrix, matrix[:, 0], state.coins))
    leaking = paillier.encrypt_float(pk, matrix, matrix, state.coins)
    paillier.decrypt_float(sk, paillier.linear_float(pk, leaking, matrix, state.coins))
    return paillier.decrypt(sk, paillier.linear(pk, head, matrix, state.coins))


def test_steps_may_use_every_verb():
    check_step(step)
