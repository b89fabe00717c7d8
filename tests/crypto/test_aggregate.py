"""Masks, shares of their keys, and what opens them."""

import numpy as np
import pytest

from protocols.crypto import aggregate, shamir
from protocols.crypto.coins import Coins
from protocols.language.errors import MalformedError

MEMBERS = (3, 5, 8, 9, 12)
USE = "w1 7"


def coins(name):
    return Coins(bytes([name]) * 32)


class Round:
    """Five parties that have handed out their shares."""

    def __init__(self):
        pairs = {me: aggregate.key_pair(coins(me)) for me in MEMBERS}
        boxes = {me: aggregate.key_pair(coins(me), aggregate.FOR_SHARES) for me in MEMBERS}
        self.keys = {me: private for me, (private, _) in pairs.items()}
        self.publics = np.stack([public for _, public in pairs.values()])
        self.box_keys = {me: private for me, (private, _) in boxes.items()}
        self.box_publics = np.stack([public for _, public in boxes.values()])
        self.seeds = {me: aggregate.draw_seed(coins(me)) for me in MEMBERS}
        self.sealed = np.stack([
            aggregate.share(
                me, MEMBERS, self.keys[me], self.seeds[me], self.box_keys[me], self.box_publics, coins(me)
            )
            for me in MEMBERS
        ]).swapaxes(0, 1)  # fmt: skip

    def shares(self, me):
        mine = self.sealed[MEMBERS.index(me)]
        return aggregate.unseal(mine, me, MEMBERS, self.box_keys[me], self.box_publics)

    def masked(self, me, values):
        words = aggregate.fixed(values, len(MEMBERS))
        return aggregate.mask(words, me, MEMBERS, self.keys[me], self.publics, USE, self.seeds[me])

    def opened(self, stayed):
        here = [me for me, is_here in zip(MEMBERS, stayed, strict=True) if is_here]
        return [aggregate.reveal(self.shares(me), me, MEMBERS, stayed) for me in here]


@pytest.fixture(scope="module")
def parties():
    return Round()


@pytest.mark.parametrize(("secret", "needed", "count"), [
    (bytes(32), 1, 1), (b"\xff" * 32, 2, 3), (bytes(range(32)), 43, 64), (b"\x80" + bytes(31), 5, 5),
])  # fmt: skip
def test_any_t_shares_give_the_secret_and_fewer_another(secret, needed, count):
    shares = shamir.split(secret, needed, count, coins(1).stream("shares"))
    for first in (0, count - needed):
        points = list(range(first, first + needed))[::-1]
        assert shamir.join(shares[points], shamir.weights([p + 1 for p in points])) == secret
    if needed > 1:
        fewer = list(range(needed - 1))
        assert shamir.join(shares[fewer], shamir.weights([p + 1 for p in fewer])) != secret


def test_fewer_shares_fit_every_secret():
    """To t - 1 shares of one secret there is a share that makes them those of any other."""
    shares = shamir.split(b"\x11" * 32, 3, 5, coins(2).stream("shares"))
    for other in (bytes(32), b"\xaa" * 32):
        a, b, c = shamir.weights([1, 2, 3])
        first, second = (int.from_bytes(share.tobytes(), "big") for share in shares[:2])
        third = (
            (int.from_bytes(other, "big") - a * first - b * second) * pow(c, -1, shamir.PRIME) % shamir.PRIME
        )
        made = np.frombuffer(third.to_bytes(33, "big"), np.uint8)
        assert shamir.join(np.stack([shares[0], shares[1], made]), [a, b, c]) == other


def test_a_value_above_32_bytes_is_no_secret():
    share = np.frombuffer((2**256).to_bytes(33, "big"), np.uint8)
    with pytest.raises(MalformedError, match="do not fit"):
        shamir.join(share[None], shamir.weights([1]))


@pytest.mark.parametrize("stayed", [(1, 1, 1, 1, 1), (1, 0, 1, 1, 1), (0, 1, 1, 0, 1)])
def test_the_sum_of_those_that_stayed_comes_out(parties, stayed):
    stayed = np.array(stayed, bool)
    rng = np.random.default_rng(0)
    values = {me: rng.normal(size=(4, 3)) for me in MEMBERS}
    here = [me for me, is_here in zip(MEMBERS, stayed, strict=True) if is_here]
    summed = aggregate.total([parties.masked(me, values[me]) for me in here])
    if stayed.sum() < aggregate.threshold(len(MEMBERS)):
        with pytest.raises(MalformedError, match="too few"):
            parties.opened(stayed)
        return
    known = aggregate.secrets(parties.opened(stayed), stayed, parties.publics)
    true = {
        me: parties.seeds[me] if is_here else parties.keys[me]
        for me, is_here in zip(MEMBERS, stayed, strict=True)
    }
    assert known == list(true.values())
    found = aggregate.restore(aggregate.unmasked(summed, MEMBERS, stayed, known, parties.publics, USE))
    assert np.abs(found - sum(values[me] for me in here)).max() < 1e-8
    assert np.abs(aggregate.restore(summed) - found).max() > 1


def test_a_party_opens_nothing_of_a_round_that_it_left(parties):
    stayed = np.array([0, 1, 1, 1, 1], bool)
    with pytest.raises(MalformedError, match="too few"):
        aggregate.reveal(parties.shares(3), 3, MEMBERS, stayed)


def test_shares_are_for_one_receiver_and_whoever_changes_them_is_named(parties):
    with pytest.raises(MalformedError, match="of party 3 .* to party 8"):
        aggregate.unseal(parties.sealed[1], 8, MEMBERS, parties.box_keys[8], parties.box_publics)
    changed = parties.sealed[0].copy()
    changed[2, 40] ^= 1
    with pytest.raises(MalformedError, match="of party 8 .* to party 3"):
        aggregate.unseal(changed, 3, MEMBERS, parties.box_keys[3], parties.box_publics)


def test_a_false_share_of_a_key_is_noticed(parties):
    stayed = np.array([1, 0, 1, 1, 1], bool)
    opened = parties.opened(stayed)
    opened[1] = opened[1].copy()
    opened[1][1, 32] ^= 1
    with pytest.raises(MalformedError, match="key"):
        aggregate.secrets(opened, stayed, parties.publics)


def test_sealed_shares_do_not_show_what_they_hold(parties):
    """Neither key nor seed stands in them, and no byte is the same in all boxes."""
    flat = parties.sealed.reshape(-1, aggregate.SEALED_BYTES)
    assert len({row.tobytes() for row in flat}) == len(flat) and all(
        len(set(column)) > 5 for column in flat.T
    )
    for secret in (*parties.keys.values(), *parties.seeds.values()):
        assert secret not in parties.sealed.tobytes()


@pytest.mark.parametrize(("members", "needed"), [(2, 2), (3, 2), (4, 3), (6, 4), (64, 43)])
def test_two_thirds_have_to_stay(members, needed):
    assert aggregate.threshold(members) == needed
