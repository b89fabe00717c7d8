"""What holds for every inner-product scheme: exact at its bounds, loud beyond them, fresh each time."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.crypto.records import Bounds
from protocols.language.errors import BoundError, MalformedError
from tests.crypto.cases import INNER, TOY, inner, matrices

EVERY = [
    *(("ddh", group) for group in ("secp256k1", "bn254", "bls12_381", "modp2048")),
    *(("fhipe", group) for group in ("bn254", "bls12_381")),
    ("lwe", None),
]


@pytest.mark.parametrize(("name", "group"), EVERY)
def test_decryption_is_the_matrix_product(name, group):
    it = inner(name, Bounds(3, 16, 16), group=group)
    x, y = matrices(it.bounds)
    ct = it.scheme.load(it.mpk, it.encrypt(x))
    z = it.decrypt(it.key(y), ct)
    assert z.dtype == np.int64 and np.array_equal(z, x @ y.T)


@pytest.mark.parametrize("name", INNER)
def test_decryption_is_exact_at_both_ends_of_the_bounds(name):
    bounds = Bounds(64, 16, 256)
    it = inner(name, bounds)
    x = np.stack([np.full(64, 16), np.full(64, -16), np.zeros(64, int), np.tile([16, -16], 32)])
    y = np.stack([np.full(64, 256), np.full(64, -256), np.zeros(64, int), np.tile([-256, 256], 32)])
    z = it.run(x, y)
    assert np.array_equal(z, x @ y.T) and z.max() == bounds.inner and z.min() == -bounds.inner


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize("exponent", range(0, 16))
def test_keys_at_exactly_the_bound_keep_their_signs(name, exponent):
    for bound in {1 << exponent, (1 << exponent) - 1 or 1}:
        it = inner(name, Bounds(2, 1, bound))
        y = np.array([[bound, -bound], [-bound, -bound]])
        sk = it.key(y)
        assert name == "fhipe" or np.array_equal(sk.y, y)
        if exponent < 9 or name == "lwe":  # the others would build a table for every bound
            assert np.array_equal(
                it.decrypt(sk, it.encrypt(np.array([[1, 0], [0, -1]]))), [y[:, 0], -y[:, 1]]
            )


@pytest.mark.parametrize(
    ("bound", "dtype"), [(127, np.int8), (128, np.int16), (32767, np.int16), (32768, np.int32)]
)
@pytest.mark.parametrize("name", ["ddh", "lwe"])
def test_a_key_holds_its_vector_in_the_smallest_type_that_fits(name, bound, dtype):
    assert inner(name, Bounds(2, 1, bound)).key(np.array([[bound, -bound]])).y.dtype == dtype


@pytest.mark.parametrize("name", INNER)
def test_entries_beyond_the_bounds_are_refused_by_name_of_the_bound(name):
    it = inner(name)
    for sign in (1, -1):
        with pytest.raises(BoundError, match="x: an entry exceeds the bound 16"):
            it.encrypt(np.full((1, 6), 17 * sign))
        with pytest.raises(BoundError, match="y: an entry exceeds the bound 128; lower"):
            it.key(np.full((1, 6), 129 * sign))


@pytest.mark.parametrize("name", INNER)
def test_wrong_length_and_wrong_type_of_vectors_are_refused(name):
    it = inner(name)
    for bad in (
        np.ones((2, 5), int),
        np.ones(6, int),
        np.ones((2, 6)),
        np.ones((2, 6), bool),
        [[1] * 6],
        None,
    ):
        for make in (it.encrypt, it.key):
            with pytest.raises(MalformedError, match=r"expected integers \(any, 6\), got"):
                make(bad)


@pytest.mark.parametrize("name", INNER)
def test_values_of_another_length_do_not_fit(name):
    it, other = inner(name), inner(name, Bounds(5, 16, 128))
    x, y = matrices(other.bounds)
    with pytest.raises(MalformedError, match="does not fit: expected n 6, got 5"):
        it.scheme.load(it.mpk, other.encrypt(x))
    with pytest.raises(MalformedError, match="does not fit: expected n 6, got 5"):
        it.decrypt(other.key(y), it.encrypt(matrices(it.bounds)[0]))


@pytest.mark.parametrize("name", INNER)
def test_no_two_ciphertexts_share_randomness(name):
    it, ones = inner(name), np.ones((3, 6), int)
    field = "c0" if name == "lwe" else "elements"
    made = np.concatenate([getattr(it.encrypt(ones), field) for _ in range(2)])
    for part in np.split(made, made.shape[1], axis=1)[: TOY + 1]:
        assert len(np.unique(part, axis=0)) == 6


@pytest.mark.parametrize("name", INNER)
def test_no_vectors_give_no_products(name):
    it = inner(name)
    none, some = np.zeros((0, 6), int), np.ones((2, 6), int)
    assert it.run(none, some).shape == (0, 2) and it.run(some, none).shape == (2, 0)


@pytest.mark.parametrize(("name", "bounds", "reason"), [
    ("ddh", Bounds(784, 255, 1 << 20), "discrete-logarithm limit"),
    ("fhipe", Bounds(64, 255, 1 << 20), "discrete-logarithm limit"),
    ("lwe", Bounds(100_000, 60_000, 60_000), "leave no room"),
    ("lwe", Bounds(1 << 20, 1, 1 << 10), "leave no room"),  # a key would not fit into 32 bits
])  # fmt: skip
def test_bounds_that_a_scheme_cannot_carry_are_refused_at_set_up(name, bounds, reason):
    with pytest.raises(BoundError, match=reason):
        inner(name, bounds, dimension=1)
