"""ipfe_ddh against the paper's formulas in plain integers, forged keys and its master key."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from protocols.crypto import ipfe_ddh as ddh
from protocols.crypto.groups.elements import from_bytes
from protocols.crypto.groups.modp import MODULUS
from protocols.crypto.groups.named import get_group
from protocols.crypto.records import Bounds
from protocols.crypto.shared import coins_of, share
from protocols.language.errors import BoundError, MalformedError
from tests.crypto.cases import inner, matrices


def test_ciphertexts_and_keys_follow_the_paper_in_plain_integers():
    it = inner("ddh", Bounds(3, 9, 9), group="modp2048")
    x, y = np.array([[5, -9, 0]]), np.array([[2, -3, 9]])
    q, s = get_group("modp2048").order, from_bytes(it.msk.s)
    ct_0, *ct = from_bytes(it.encrypt(x).elements[0])
    masked = zip(s, x[0].tolist(), strict=True)
    assert from_bytes(it.mpk.h) == [pow(2, v, MODULUS) for v in s]
    assert ct == [pow(ct_0, v, MODULUS) * pow(2, e, MODULUS) % MODULUS for v, e in masked]
    assert from_bytes(it.key(y).sk) == [(2 * s[0] - 3 * s[1] + 9 * s[2]) % q]


def test_key_for_one_vector_does_not_serve_another():
    it = inner("ddh")
    x, y = matrices(it.bounds, keys=1)
    with pytest.raises(BoundError):
        it.decrypt(replace(it.key(y), y=(y - np.sign(y)).astype(np.int16)), it.encrypt(x))


def test_key_beyond_the_bound_is_refused_by_decryption_too():
    it, ones = inner("ddh"), np.ones((1, 6), int)
    with pytest.raises(BoundError, match="function key"):
        it.decrypt(replace(it.key(ones), y=np.full((1, 6), 129, np.int16)), it.encrypt(ones))


def test_master_key_is_recognised_and_opens_every_vector():
    it, other = inner("ddh"), inner("ddh", seed=2)
    x, _ = matrices(it.bounds)
    s, ct = from_bytes(it.msk.s), it.encrypt(x)
    rebuilt = ddh.master_key(it.mpk.params, [v - get_group("secp256k1").order for v in s])
    assert ddh.check_master_key(it.mpk, s) and not ddh.check_master_key(it.mpk, [s[0] + 1, *s[1:]])
    assert not ddh.check_master_key(it.mpk, s[:-1])
    assert np.array_equal(ddh.open_with_master_key(it.mpk, rebuilt, ct), x)
    with pytest.raises(BoundError, match="do not belong together"):
        ddh.open_with_master_key(other.mpk, other.msk, ct)


def test_master_key_follows_from_as_many_keys_as_entries():
    it = inner("ddh")
    y = np.eye(6, dtype=int) + np.triu(np.ones((6, 6), int), 1)  # unit upper triangular
    sk = from_bytes(it.key(y).sk)
    assert ddh.check_master_key(it.mpk, [a - b for a, b in zip(sk, [*sk[1:], 0], strict=True)])


def test_slices_under_shared_coins_are_the_whole_ciphertext_and_the_coins_open_it():
    it = inner("ddh")
    (x, y), drawn = matrices(it.bounds), share(it.mpk, it.coins)
    parts = [
        ddh.encrypt(ddh.part(it.mpk, start, stop), x[:, start:stop], coins_of(drawn, 3))
        for start, stop in ((0, 2), (2, 6))
    ]
    whole = ddh.join(it.mpk, parts)
    assert np.array_equal(it.decrypt(it.key(y), whole), x @ y.T)
    assert np.array_equal(ddh.open_with_coins(it.mpk, coins_of(drawn, 3), whole), x)
    with pytest.raises(BoundError):
        ddh.open_with_coins(it.mpk, coins_of(drawn, 4), whole)
    other = ddh.encrypt(ddh.part(it.mpk, 2, 6), x[:, 2:], coins_of(drawn, 4))
    for wrong, why in (
        ([parts[0], other], "different ct_0"),
        (parts[:1], "expected n 6"),
        ([drawn], "got Shared"),
    ):
        with pytest.raises(MalformedError, match=why):
            ddh.join(it.mpk, wrong)
    assert str(drawn.key) not in repr(drawn)
