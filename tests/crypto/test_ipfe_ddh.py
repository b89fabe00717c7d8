"""ipfe_ddh at its bounds, with wrong keys, malformed input and the paper's formulas in plain integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from protocols.crypto import ipfe_ddh as ddh
from protocols.crypto.coins import Coins
from protocols.crypto.groups.elements import from_bytes, to_bytes
from protocols.crypto.groups.modp import MODULUS
from protocols.crypto.groups.named import GROUPS as NAMES
from protocols.crypto.groups.named import get_group
from protocols.crypto.records import Bounds
from protocols.language import message
from protocols.language.errors import BoundError, ConfigError, EncodingError, MalformedError


def instance(bounds=None, group="secp256k1", seed=1):
    coins = Coins(bytes([seed]) * 32)
    mpk, msk = ddh.setup(ddh.parameters(bounds or Bounds(6, 16, 128), group), coins)
    return mpk, msk, coins


def matrices(bounds, count=3, keys=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(-bounds.x, bounds.x + 1, (count, bounds.length))
    return x.astype(np.int32), rng.integers(-bounds.y, bounds.y + 1, (keys, bounds.length)).astype(np.int32)


@pytest.mark.parametrize("group", NAMES)
def test_decryption_is_the_matrix_product_in_every_group(group):
    mpk, msk, coins = instance(group=group)
    x, y = matrices(mpk.params.bounds)
    ct = ddh.load(mpk, ddh.encrypt(mpk, x, coins))
    z = ddh.decrypt(mpk, ddh.key_derive(msk, y), ct)
    assert z.dtype == np.int64 and np.array_equal(z, x @ y.T)


def test_decryption_is_exact_at_the_bounds():
    bounds = Bounds(64, 16, 1024)
    mpk, msk, coins = instance(bounds)
    x = np.stack([np.full(64, 16), np.full(64, -16), np.zeros(64, int), np.tile([16, -16], 32)])
    y = np.stack([np.full(64, 1024), np.full(64, -1024), np.zeros(64, int), np.tile([-1024, 1024], 32)])
    z = ddh.decrypt(mpk, ddh.key_derive(msk, y), ddh.encrypt(mpk, x, coins))
    assert np.array_equal(z, x @ y.T) and z.max() == bounds.inner and z.min() == -bounds.inner


def test_ciphertexts_and_keys_follow_the_paper_in_plain_integers():
    mpk, msk, coins = instance(Bounds(3, 9, 9), "modp2048")
    x, y = np.array([[5, -9, 0]]), np.array([[2, -3, 9]])
    q, s = get_group("modp2048").order, from_bytes(msk.s)
    ct = from_bytes(ddh.encrypt(mpk, x, coins).elements[0])
    assert from_bytes(mpk.h) == [pow(2, v, MODULUS) for v in s]
    assert ct[1:] == [
        pow(ct[0], v, MODULUS) * pow(2, int(e), MODULUS) % MODULUS for v, e in zip(s, x[0], strict=True)
    ]
    assert from_bytes(ddh.key_derive(msk, y).sk) == [(2 * s[0] - 3 * s[1] + 9 * s[2]) % q]


def test_no_two_ciphertexts_share_randomness():
    mpk, _, coins = instance()
    x = np.ones((5, 6), int)
    first = np.concatenate([ddh.encrypt(mpk, x, coins).elements, ddh.encrypt(mpk, x, coins).elements])[:, 0]
    assert len(np.unique(first, axis=0)) == 10


@pytest.mark.parametrize(
    "bound, dtype", [(127, np.int8), (128, np.int16), (1024, np.int16), (40000, np.int32)]
)
def test_key_holds_its_vector_in_the_smallest_type_that_fits(bound, dtype):
    _, msk, _ = instance(Bounds(2, 1, bound))
    y = np.array([[bound, -bound]])
    key = ddh.key_derive(msk, y)
    assert key.y.dtype == dtype and np.array_equal(key.y, y) and key.sk.shape == (1, 32)


def test_entries_beyond_the_bounds_are_refused_by_name_of_the_bound():
    mpk, msk, coins = instance()
    with pytest.raises(BoundError, match="x: an entry exceeds the bound 16"):
        ddh.encrypt(mpk, np.full((1, 6), -17), coins)
    with pytest.raises(BoundError, match="y: an entry exceeds the bound 128"):
        ddh.key_derive(msk, np.full((1, 6), 129))


def test_wrong_length_and_wrong_type_of_vectors_are_refused():
    mpk, msk, coins = instance()
    for bad in (np.ones((2, 5), int), np.ones(6, int), np.ones((2, 6))):
        with pytest.raises(MalformedError, match="expected integers"):
            ddh.encrypt(mpk, bad, coins)
        with pytest.raises(MalformedError, match="expected integers"):
            ddh.key_derive(msk, bad)


def test_key_and_ciphertext_of_different_instances_give_an_error_and_no_number():
    mpk, _, coins = instance()
    other, other_msk, _ = instance(seed=2)
    x, y = matrices(mpk.params.bounds)
    with pytest.raises(BoundError, match="do not belong together"):
        ddh.decrypt(mpk, ddh.key_derive(other_msk, y), ddh.encrypt(mpk, x, coins))
    with pytest.raises(BoundError, match="do not belong together"):
        ddh.open_with_master_key(other, other_msk, ddh.encrypt(mpk, x, coins))


def test_key_for_one_vector_does_not_serve_another():
    mpk, msk, coins = instance()
    x, y = matrices(mpk.params.bounds, keys=1)
    forged = replace(ddh.key_derive(msk, y), y=(y - np.sign(y)).astype(np.int16))
    with pytest.raises(BoundError):
        ddh.decrypt(mpk, forged, ddh.encrypt(mpk, x, coins))


def test_key_beyond_the_bound_is_refused_by_decryption_too():
    mpk, msk, coins = instance()
    key = replace(ddh.key_derive(msk, np.ones((1, 6), int)), y=np.full((1, 6), 129, np.int16))
    with pytest.raises(BoundError, match="function key"):
        ddh.decrypt(mpk, key, ddh.encrypt(mpk, np.ones((1, 6), int), coins))


def test_load_refuses_an_element_off_the_curve():
    mpk, _, coins = instance()
    ct = ddh.encrypt(mpk, np.ones((2, 6), int), coins)
    elements = ct.elements.copy()
    elements[1, 4, 40] ^= 1
    with pytest.raises(MalformedError, match="not a point"):
        ddh.load(mpk, replace(ct, elements=elements))


def test_load_refuses_what_claims_to_be_loaded_already():
    mpk, _, coins = instance()
    loaded = ddh.load(mpk, ddh.encrypt(mpk, np.ones((2, 6), int), coins))
    with pytest.raises(MalformedError, match="got DdhLoaded"):
        ddh.load(mpk, loaded)


def test_ciphertext_and_key_of_another_length_or_group_are_refused():
    mpk, msk, coins = instance()
    for other, other_msk, other_coins in (instance(Bounds(5, 16, 128)), instance(group="bn254")):
        x, y = matrices(other.params.bounds)
        with pytest.raises(MalformedError, match="does not fit"):
            ddh.load(mpk, ddh.encrypt(other, x, other_coins))
        with pytest.raises(MalformedError, match="does not fit"):
            ddh.decrypt(
                mpk, ddh.key_derive(other_msk, y), ddh.encrypt(mpk, matrices(mpk.params.bounds)[0], coins)
            )


def test_records_with_fields_of_the_wrong_shape_are_refused():
    mpk, msk, coins = instance()
    ct, key = ddh.encrypt(mpk, np.ones((2, 6), int), coins), ddh.key_derive(msk, np.ones((2, 6), int))
    cases = [(mpk, "h", mpk.h[:-1]), (msk, "s", msk.s[:, 1:]), (ct, "elements", ct.elements[0]), (ct, "group", "x"),
             (key, "sk", key.sk[:1]), (key, "y", key.y.astype(float)), (key, "sk", None),
             (mpk, "params", None)]  # fmt: skip
    for value, name, bad in cases:
        with pytest.raises(MalformedError):
            replace(value, **{name: bad})


def test_loaded_ciphertext_with_foreign_elements_is_refused():
    for bad in (
        np.zeros((1, 2, 11), np.uint64),
        np.zeros((1, 2, 12), np.int64),
        np.zeros((2, 12), np.uint64),
    ):
        with pytest.raises(MalformedError):
            ddh.DdhLoaded("secp256k1", bad)


def test_rows_and_concat_take_ciphertexts_apart_and_together():
    mpk, msk, coins = instance()
    x, y = matrices(mpk.params.bounds, count=5)
    ct, key = ddh.encrypt(mpk, x, coins), ddh.key_derive(msk, y)
    again = ddh.concat([ddh.rows(ddh.load(mpk, ct), 3, 5), ddh.load(mpk, ddh.rows(ct, 0, 3))])
    assert again.shape == (5, 6)
    assert np.array_equal(ddh.decrypt(mpk, key, again), np.roll(x, 2, axis=0) @ y.T)
    with pytest.raises(MalformedError, match="cannot be put together"):
        ddh.concat([ct, ddh.load(mpk, ct)])


@pytest.mark.parametrize("group", ["secp256k1", "modp2048"])
def test_every_type_survives_the_wire(group):
    mpk, msk, coins = instance(group=group)
    x, y = matrices(mpk.params.bounds)
    ct = ddh.encrypt(mpk, x, coins)
    values = [mpk.params, mpk, msk, ct, ddh.load(mpk, ct), ddh.key_derive(msk, y)]
    again = [message.decode(message.encode(value)) for value in values]
    assert [message.digest(message.encode(v)) for v in again] == [
        message.digest(message.encode(v)) for v in values
    ]
    assert np.array_equal(ddh.decrypt(again[1], again[5], again[4]), x @ y.T)
    assert [message.describe(v)[1] for v in values] == [(), (6,), (6,), (3, 6), (3, 6), (4, 6)]


def test_malformed_record_on_the_wire_is_an_encoding_error():
    mpk, _, _ = instance()
    frame = message.encode(mpk).copy()
    place = frame.tobytes().index(b"secp256k1")
    frame[place : place + 9] = np.frombuffer(b"secp256r1", np.uint8)
    with pytest.raises(EncodingError, match="MalformedError"):
        message.decode(frame)


def test_master_key_is_recognised_and_opens_every_vector():
    mpk, msk, coins = instance()
    x, _ = matrices(mpk.params.bounds)
    s = from_bytes(msk.s)
    rebuilt = ddh.master_key(mpk.params, [v - get_group("secp256k1").order for v in s])
    assert ddh.check_master_key(mpk, s) and not ddh.check_master_key(mpk, [s[0] + 1, *s[1:]])
    assert not ddh.check_master_key(mpk, s[:-1])
    assert np.array_equal(ddh.open_with_master_key(mpk, rebuilt, ddh.encrypt(mpk, x, coins)), x)


def test_master_key_follows_from_as_many_keys_as_entries():
    mpk, msk, _ = instance()
    y = np.eye(6, dtype=int) + np.triu(np.ones((6, 6), int), 1)  # unit upper triangular
    sk = from_bytes(ddh.key_derive(msk, y).sk)
    assert ddh.check_master_key(mpk, [a - b for a, b in zip(sk, [*sk[1:], 0], strict=True)])


def test_secrets_do_not_show_in_a_master_key():
    _, msk, _ = instance()
    assert repr(msk) == f"DdhMasterKey(params={msk.params!r})"


def test_parameters_refuse_what_no_discrete_logarithm_reaches():
    with pytest.raises(BoundError, match="discrete-logarithm limit"):
        ddh.parameters(Bounds(784, 255, 1 << 20))


def test_parameters_refuse_bounds_and_groups_that_are_none():
    with pytest.raises(MalformedError):
        ddh.DdhParams(Bounds(0, 1, 1), "secp256k1")
    with pytest.raises((MalformedError, ConfigError)):
        ddh.parameters(Bounds(1, 1, 1), "p256")


def test_description_names_group_level_and_assumption():
    assert ddh.describe(ddh.parameters(Bounds(64, 16, 1024), "bn254")) == (
        "ddh in bn254, about 100 bit, selective IND-CPA under XDH (DDH in G1 of a pairing)"
    )


def test_scalars_survive_their_bytes():
    values = [0, 1, 2**255 + 7, 2**256 - 1]
    assert from_bytes(to_bytes(values, 32)) == values
