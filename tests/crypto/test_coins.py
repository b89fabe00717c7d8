"""Secret randomness: streams that never meet, and the distributions drawn from them."""

import numpy as np
import pytest

from protocols.crypto.coins import Coins, Stream, derive

KEY = b"k" * 32


def test_no_two_purposes_uses_or_parties_share_a_stream():
    streams = []
    for party in ("data_owner:0", "data_owner:1", "key_authority"):
        coins = Coins(derive(KEY, party))
        streams += [coins.stream(purpose).bytes(32) for purpose in ("a", "b", "a", "a 1", "a1")]
    assert len(set(streams)) == len(streams)


def test_names_are_joined_injectively():
    names = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc")]
    assert len({derive(KEY, *name) for name in names}) == len(names)


def test_equal_coins_give_equal_streams_and_restored_ones_go_on():
    first, second = Coins(KEY), Coins(KEY)
    drawn = [first.stream("a").bytes(16) for _ in range(3)]
    assert [second.stream("a").bytes(16) for _ in range(3)] == drawn
    restored = Coins(KEY, dict(first.uses))
    assert restored.stream("a").bytes(16) == first.stream("a").bytes(16) not in drawn


def test_a_stream_does_not_repeat_and_chunks_do_not_matter():
    one, two = Stream(KEY), Stream(KEY)
    assert one.bytes(100) + one.bytes(28) == two.bytes(128)
    assert Stream(KEY).words(2, 3).tobytes() == Stream(KEY).bytes(48)


def test_keys_are_not_shown():
    assert "6b6b" not in repr(Coins(KEY)) and "kkk" not in repr(Coins(KEY))
    with pytest.raises(ValueError, match="32 bytes"):
        Stream(b"short")


def test_centred_binomial_has_variance_one_and_five_values():
    drawn = Stream(KEY).centred_binomial(400, 1001)
    n = drawn.size
    assert set(np.unique(drawn)) == {-2, -1, 0, 1, 2}
    assert abs(drawn.mean()) < 5 / np.sqrt(n) and abs(drawn.astype(float).var() - 1) < 5 * np.sqrt(1.5 / n)
    assert abs((drawn == 2).mean() - 1 / 16) < 5 * np.sqrt(15 / 256 / n)


def test_variates_of_several_blocks_are_those_of_their_words_on_any_number_of_threads(monkeypatch):
    monkeypatch.setattr("protocols.crypto.coins._BLOCK", 1000)
    drawn = []
    for threads in (1, 3):
        monkeypatch.setattr("protocols.crypto.groups.workers.cpu_count", lambda threads=threads: threads)
        stream = Stream(KEY)
        drawn.append((stream.rounded_gaussian(5.0, 9001), stream.bytes(8)))
    assert np.array_equal(drawn[0][0], drawn[1][0]) and drawn[0][1] == drawn[1][1]
    stream, first = Stream(KEY), drawn[0][0][:2000]
    u, v = (stream.words(2, 1000) >> np.uint64(11)).astype(float) * 2.0**-53
    radius = np.sqrt(-2 * np.log(u + 2.0**-53)) * 5
    expected = np.concatenate([radius * np.cos(2 * np.pi * v), radius * np.sin(2 * np.pi * v)])
    assert np.abs(first - expected).max() < 0.5 + 1e-9


@pytest.mark.parametrize("sigma", [1.0, 3276.8])
def test_rounded_gaussian_has_its_moments_and_tails(sigma):
    drawn = Stream(KEY).rounded_gaussian(sigma, 301, 1001).astype(float)
    n, expected = drawn.size, sigma**2 + 1 / 12
    assert abs(drawn.mean()) < 5 * sigma / np.sqrt(n)
    assert abs(drawn.var() / expected - 1) < 5 * np.sqrt(2 / n)
    assert abs((np.abs(drawn) > 2.5 * sigma).mean() - 0.0124) < 0.004 and np.abs(drawn).max() < 8 * sigma


def test_integers_below_q_are_uniform():
    q = 1000
    drawn = np.array(Stream(KEY).below(q, 50_000))
    counts = np.bincount(drawn, minlength=q)
    assert len(counts) == q and abs(((counts - 50) ** 2 / 50).sum() - (q - 1)) < 5 * np.sqrt(2 * q)
    assert all(0 <= v < 2**256 - 189 for v in Stream(KEY).below(2**256 - 189, 20))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (7, 5)])
def test_every_shape_is_filled(shape):
    for drawn in (
        Stream(KEY).words(*shape),
        Stream(KEY).centred_binomial(*shape),
        Stream(KEY).rounded_gaussian(2.0, *shape),
    ):
        assert drawn.shape == shape
