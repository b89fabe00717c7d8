"""febo at its bounds, with keys for other elements, and the paper's formulas in plain integers."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.crypto import febo
from protocols.crypto.coins import Coins
from protocols.crypto.febo import Operation
from protocols.crypto.groups.elements import from_bytes
from protocols.crypto.groups.modp import MODULUS
from protocols.crypto.groups.named import GROUPS
from protocols.language.errors import BoundError, MalformedError

X = np.array([[4096, 0, -4096], [0, 4096, 1]])
Y = np.array([[-4096, 4096, 4096], [0, 17, -4096]])


def instance(group="secp256k1", seed=1, bound=4096):
    coins = Coins(bytes([seed]) * 32)
    return *febo.setup(febo.parameters(bound, bound, group), coins), coins


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(("operation", "expected"), [(Operation.SUB, X - Y), (Operation.ADD, X + Y)])
def test_decryption_is_exact_at_the_bounds_in_every_group(group, operation, expected):
    mpk, msk, coins = instance(group)
    ct = febo.encrypt(mpk, X, coins)
    key = febo.key_derive(msk, ct.commitments, operation, Y)
    assert np.array_equal(febo.decrypt(mpk, key, ct), expected)


def test_keys_and_ciphertexts_follow_the_paper_in_plain_integers():
    mpk, msk, coins = instance("modp2048", bound=9)
    s = int.from_bytes(msk.s.tobytes(), "big")
    ct = febo.encrypt(mpk, np.array([[7]]), coins)
    key = febo.key_derive(msk, ct.commitments, Operation.SUB, np.array([[-5]]))
    (cmt,), (value,), (sk,) = from_bytes(ct.commitments[0]), from_bytes(ct.values[0]), from_bytes(key.keys[0])
    assert from_bytes(mpk.h[None]) == [pow(2, s, MODULUS)]
    assert value == pow(cmt, s, MODULUS) * 2**7 % MODULUS
    assert sk == pow(cmt, s, MODULUS) * pow(2, -5, MODULUS) % MODULUS


def test_key_for_another_element_gives_an_error_and_no_number():
    mpk, msk, coins = instance()
    ct = febo.encrypt(mpk, np.full((1, 4), 5), coins)
    swapped = np.roll(ct.commitments, 1, axis=1)
    with pytest.raises(BoundError):
        febo.decrypt(mpk, febo.key_derive(msk, swapped, Operation.SUB, np.zeros((1, 4), int)), ct)


def test_no_two_entries_share_randomness():
    mpk, _, coins = instance()
    x = np.ones((3, 4), int)
    commitments = [febo.encrypt(mpk, x, coins).commitments.reshape(12, -1) for _ in range(2)]
    assert len(np.unique(np.concatenate(commitments), axis=0)) == 24


def test_entries_beyond_the_bounds_are_refused_by_name_of_the_bound():
    mpk, msk, coins = instance()
    ct = febo.encrypt(mpk, X, coins)
    with pytest.raises(BoundError, match="x: an entry exceeds the bound 4096"):
        febo.encrypt(mpk, X + 1, coins)
    with pytest.raises(BoundError, match="y: an entry exceeds the bound 4096"):
        febo.key_derive(msk, ct.commitments, Operation.SUB, Y - 1)


def test_authority_refuses_commitments_that_are_no_group_elements_or_do_not_fit_y():
    mpk, msk, coins = instance()
    commitments = febo.encrypt(mpk, X, coins).commitments
    off = commitments.copy()
    off[1, 2, 0] ^= 1
    cases = {
        "element 5 of 6: not a point": off,
        "is 64 bytes": commitments[..., 1:],
        "for y": commitments[:1],
    }
    for reason, bad in cases.items():
        with pytest.raises(MalformedError, match=reason):
            febo.key_derive(msk, bad, Operation.SUB, Y)


def test_rows_put_together_in_another_order_decrypt_in_that_order():
    mpk, msk, coins = instance()
    ct = febo.encrypt(mpk, X, coins)
    again = febo.concat([febo.rows(ct, 1, 2), febo.rows(ct, 0, 1)])
    key = febo.key_derive(msk, again.commitments, Operation.SUB, Y)
    assert np.array_equal(febo.decrypt(mpk, key, again), X[::-1] - Y)
    with pytest.raises(MalformedError, match="do not fit"):
        febo.decrypt(mpk, key, febo.rows(ct, 0, 1))


def test_parameters_refuse_bounds_that_no_discrete_logarithm_reaches():
    with pytest.raises(BoundError, match="discrete-logarithm limit"):
        febo.parameters(1 << 34, 1)
