"""What holds for every inner-product scheme: exact at its bounds, loud beyond them, fresh each time."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from protocols.crypto.records import Bounds
from protocols.language.errors import BoundError, MalformedError
from protocols.language.message import decode, encode
from tests.crypto.cases import INNER, inner, matrices

EVERY = [
    *(("ddh", group) for group in ("secp256k1", "bn254", "bls12_381", "modp2048")),
    *(("fhipe", group) for group in ("bn254", "bls12_381")),
    ("lwe", None),
    ("rlwe", None),
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
    bounds = Bounds(64, 16, 32)
    it = inner(name, bounds)
    x = np.stack([np.full(64, 16), np.full(64, -16), np.zeros(64, int), np.tile([16, -16], 32)])
    y = np.stack([np.full(64, 32), np.full(64, -32), np.zeros(64, int), np.tile([-32, 32], 32)])
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
        if exponent < 9 or name in ("lwe", "rlwe"):  # the others would build a table for every bound
            assert np.array_equal(
                it.decrypt(sk, it.encrypt(np.array([[1, 0], [0, -1]]))), [y[:, 0], -y[:, 1]]
            )


@pytest.mark.parametrize(
    ("bound", "dtype"), [(127, np.int8), (128, np.int16), (32767, np.int16), (32768, np.int32)]
)
@pytest.mark.parametrize("name", ["ddh", "lwe", "rlwe"])
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


@pytest.mark.parametrize("name", ["ddh", "fhipe"])
def test_values_of_another_group_do_not_fit(name):
    it, other = inner(name, group="bn254"), inner(name, group="bls12_381")
    x, y = matrices(it.bounds)
    tag = {"tag": it.mpk.tag} if name == "fhipe" else {}
    for sk, ct in (
        (replace(other.key(y), **tag), it.encrypt(x)),
        (it.key(y), replace(other.encrypt(x), **tag)),
    ):
        with pytest.raises(MalformedError, match="does not fit: expected group bn254, got bls12_381"):
            it.decrypt(sk, ct)


@pytest.mark.parametrize("name", INNER)
def test_no_two_encryptions_of_a_vector_agree_in_any_element(name):
    it, ones = inner(name), np.ones((3, 6), int)
    made = [it.encrypt(ones) for _ in range(2)] + [it.key(ones) for _ in range(2 * (name == "fhipe"))]
    for first, again in zip(made[::2], made[1::2], strict=True):
        for field in first.ROWS:
            every = np.concatenate([getattr(first, field), getattr(again, field)])
            assert all(len(np.unique(every[:, j], axis=0)) == 6 for j in range(every.shape[1]))


@pytest.mark.parametrize("name", INNER)
def test_what_was_loaded_decrypts_in_rows_joined_again_and_empty(name):
    it = inner(name)
    x, y = matrices(it.bounds, count=5)
    scheme, ct, sk = it.scheme, it.encrypt(x), it.key(y)
    again = scheme.concat(
        [scheme.rows(scheme.load(it.mpk, ct), 3, 5), scheme.load(it.mpk, scheme.rows(ct, 0, 3))]
    )
    assert again.shape == (5, 6) and np.array_equal(it.decrypt(sk, again), np.roll(x, 2, axis=0) @ y.T)
    assert it.decrypt(sk, scheme.rows(again, 2, 2)).shape == (0, 4) and it.run(x, y[:0]).shape == (5, 0)
    if name not in ("lwe", "rlwe"):
        with pytest.raises(MalformedError, match="cannot be put together"):
            scheme.concat([ct, scheme.load(it.mpk, ct)])


@pytest.mark.parametrize(("name", "bounds", "reason"), [
    ("ddh", Bounds(784, 255, 1 << 20), "discrete-logarithm limit"),
    ("fhipe", Bounds(64, 255, 1 << 20), "discrete-logarithm limit"),
    ("lwe", Bounds(100_000, 60_000, 60_000), "leave no room"),
    ("rlwe", Bounds(100_000, 60_000, 60_000), "leave no room"),
    ("rlwe", Bounds(64, 255, 1 << 20), "leave no room"),
    ("lwe", Bounds(1 << 20, 1, 1 << 10), "leave no room"),  # a key would not fit into 32 bits
])  # fmt: skip
def test_bounds_that_a_scheme_cannot_carry_are_refused_at_set_up(name, bounds, reason):
    with pytest.raises(BoundError, match=reason):
        inner(name, bounds, dimension=2)


@pytest.mark.parametrize(("name", "dimension"), [("lwe", 2048), ("rlwe", 4096)])
def test_an_owner_takes_no_more_memory_than_its_copy_of_the_public_key(name, dimension):
    it, x = inner(name, Bounds(10, 16, 1024), dimension=dimension), np.ones((1, 10), dtype=int)
    frame = encode(it.mpk)
    it.scheme.encrypt(decode(frame), x, it.coins)  # what follows from its seed is kept once in a process
    tracemalloc.start()
    owners = [decode(frame) for _ in range(4)]
    for mpk in owners:
        it.scheme.encrypt(mpk, x, it.coins)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < len(owners) * 20_000  # their arrays look into the one frame
