"""Inner products from ring-LWE: whole batches, exact; loud where noise does not fit; secrets that stay."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.adversary.solvers.lattice import Coset
from protocols.crypto import ipfe_rlwe as rlwe
from protocols.crypto.coins import Coins, Stream
from protocols.crypto.integers.core_svp import Issued
from protocols.crypto.integers.rings import PRIMES
from protocols.crypto.records import Bounds
from protocols.language.errors import BoundError, MalformedError
from tests.crypto.cases import TOY, inner, matrices

RNG = np.random.default_rng(12)
TEN = Bounds(10, 16, 1024)
FRESH = 256 / math.sqrt(3)


def real(bounds, issued=None):
    """An instance of the dimension that is used in earnest."""
    coins, params = Coins(bytes(32)), rlwe.parameters(bounds, issued)
    return params, *rlwe.setup(params, coins), coins


@pytest.mark.parametrize("bounds", [Bounds(64, 16, 1024), Bounds(16, 255, 1024)], ids=str)
def test_inner_products_are_exact_at_the_default_dimension(bounds):
    params, mpk, msk, coins = real(bounds)
    x, y = matrices(bounds, 20)
    z = rlwe.decrypt(mpk, rlwe.key_derive(msk, y), rlwe.load(mpk, rlwe.encrypt(mpk, x, coins)))
    assert params.dimension >= rlwe.SMALLEST and (z == x @ y.T).all()


def test_products_of_the_size_of_mnist_are_exact():
    _, mpk, msk, coins = real(Bounds(784, 255, 1024), Issued(300, 300, FRESH))
    x, y = RNG.integers(0, 256, (3, 784)), np.rint(RNG.normal(0, 30, (4, 784))).astype(int)
    x[0] = 255
    assert (rlwe.decrypt(mpk, rlwe.key_derive(msk, y), rlwe.encrypt(mpk, x, coins)) == x @ y.T).all()


def test_a_key_whose_noise_does_not_fit_is_refused_by_row():
    it = inner("rlwe", Bounds(40, 16, 4096))
    params = replace(it.msk.params, moduli=2, width=1 << 13)
    msk = rlwe.setup(params, it.coins)[1]
    y = RNG.integers(-2, 3, (3, 40))
    rlwe.key_derive(msk, y)
    y[2] = 4096
    with pytest.raises(BoundError, match="noise of the key for row 2 .*--weight-scale"):
        rlwe.key_derive(msk, y)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 300), st.integers(1, 5000), st.integers(0, 255))
def test_inner_products_are_exact_for_all_bounds(length, x_max, y_max, seed):
    bounds = Bounds(length, x_max, y_max)
    x, y = matrices(bounds, seed=seed)
    assert (inner("rlwe", bounds, seed).run(x, y) == x @ y.T).all()


def test_more_images_than_coefficients_go_into_blocks_and_any_slice_decrypts():
    it = inner("rlwe", TEN)
    x, y = matrices(TEN, 2 * TOY + 7, 5)
    ct, key = it.encrypt(x), it.key(y)
    assert len(ct.c0) == 3
    for start, stop in ((0, len(x)), (TOY - 3, TOY + 3), (TOY, 2 * TOY), (2 * TOY + 1, len(x)), (9, 9)):
        some = rlwe.rows(ct, start, stop)
        assert len(some.c0) <= (stop - start + 2 * TOY - 2) // TOY
        assert (it.decrypt(key, some) == x[start:stop] @ y.T).all()
    parts = [rlwe.rows(ct, a, b) for a, b in ((5, 70), (70, 71), (71, len(x)), (0, 5))]
    joined = rlwe.concat(parts)
    assert len(joined.c0) == 4 and (it.decrypt(key, joined) == np.roll(x, -5, axis=0) @ y.T).all()


def test_images_of_a_block_share_one_element_and_cost_their_coefficients_alone():
    ct = inner("rlwe", TEN).encrypt(matrices(TEN, 3)[0])
    assert ct.c0.shape == (1, 2, TOY) and ct.c1.shape == (3, 2, 10)


@pytest.mark.parametrize("change", ["c0", "c1", "at", "blocks"])
def test_malformed_ciphertexts_are_refused(change):
    it = inner("rlwe", TEN)
    ct = it.encrypt(matrices(TEN)[0])
    with pytest.raises(MalformedError):
        if change in ("c0", "c1"):
            word = getattr(ct, change).copy()
            word[0, 1, 3] = PRIMES[1]
            rlwe.load(it.mpk, replace(ct, **{change: word}))
        elif change == "at":
            replace(ct, at=ct.at + np.int32(TOY))
        else:
            replace(ct, c0=np.concatenate([ct.c0, ct.c0]))


def test_a_public_key_of_words_that_are_no_residues_is_refused():
    it = inner("rlwe", TEN)
    b = it.mpk.b.copy()
    b[1, 5, 5] = PRIMES[1]
    with pytest.raises(MalformedError, match="no residue"):
        rlwe.check(replace(it.mpk, b=b), it.mpk.params)


@pytest.mark.parametrize("values", [(63, 2, 9), (64, 9, 9), (1 << 13, 8, 1 << 36)])
def test_parameters_without_a_ring_are_refused(values):
    with pytest.raises(MalformedError):
        rlwe.RlweParams(TEN, *values)


def test_a_product_beyond_the_bound_is_refused_and_not_wrapped():
    it = inner("rlwe", TEN)
    key, ct = it.key(np.full((1, 10), 1024)), it.encrypt(np.full((1, 10), 16))
    primes = np.array(it.mpk.params.primes, dtype=np.uint32)[None, :, None]
    for times in (2, 3):
        many = replace(ct, c0=ct.c0 * np.uint32(times) % primes, c1=ct.c1 * np.uint32(times) % primes)
        with pytest.raises(BoundError, match="exceeds the bound"):
            it.decrypt(key, many)


def test_an_altered_or_a_foreign_ciphertext_is_refused():
    it, other = inner("rlwe", TEN), inner("rlwe", TEN, seed=2)
    x, y = matrices(TEN, 8, 8)
    ct = it.encrypt(x)
    altered = ct.c0.copy()
    altered[0, 0, 0] ^= np.uint32(1 << 20)
    for wrong in (replace(ct, c0=altered), other.encrypt(x), replace(ct, at=ct.at + np.int32(1))):
        with pytest.raises(BoundError, match="another instance"):
            it.decrypt(it.key(y), wrong)


def test_the_master_key_opens_everything_and_no_other_is_taken_for_it():
    it = inner("rlwe", TEN)
    x, _ = matrices(TEN)
    ct, s = it.encrypt(x), it.msk.s
    wrong = s.copy()
    wrong[3, 5] += 1
    assert rlwe.check_master_key(it.mpk, s) and (rlwe.open_with_master_key(it.mpk, s, ct) == x).all()
    assert not rlwe.check_master_key(it.mpk, wrong) and not rlwe.check_master_key(it.mpk, s[:, :-1])
    with pytest.raises(BoundError):
        rlwe.open_with_master_key(it.mpk, -s, ct)


def test_the_public_key_predicts_nothing():
    it = inner("rlwe", TEN)
    width, shape = it.mpk.params.width, it.msk.s.shape
    for purpose in ("rlwe a", "rlwe s", "rlwe e", "rlwe r", "rlwe public seed"):
        guess = Coins(it.mpk.seed).stream(purpose).rounded_gaussian(width, *shape)
        assert not rlwe.check_master_key(it.mpk, guess)
    assert not rlwe.check_master_key(it.mpk, Stream(it.mpk.seed).rounded_gaussian(width, *shape))


def test_the_public_key_looks_uniform():
    mpk = inner("rlwe", Bounds(64, 16, 1024), dimension=512).mpk
    for p, words in zip(PRIMES, mpk.b, strict=False):
        counts = np.bincount((words.astype(np.int64) * 256 // p).ravel(), minlength=256)
        assert abs(((counts - counts.mean()) ** 2 / counts.mean()).sum() - 255) < 5 * np.sqrt(2 * 255)


def test_the_noise_is_what_the_key_check_computes():
    it = inner("rlwe", Bounds(40, 16, 200), dimension=512)
    x, y = RNG.integers(-16, 17, (400, 40)), RNG.integers(-200, 201, (1, 40))
    key, params = it.key(y), it.mpk.params
    noisy = rlwe._noisy(params, it.encrypt(x), key.y, key.sk)
    noise = (noisy - params.delta * (x @ y.T)).astype(float)
    expected = params.unit_noise * np.linalg.norm(y)
    assert abs(noise.std() / expected - 1) < 0.2 and abs(noise.mean()) < 5 * expected / 20


def test_the_noise_that_keys_reveal_does_not_give_r():
    """Least squares over the noise of 8 keys: with narrow f_i this gives r, and so every image."""
    it = inner("rlwe", Bounds(16, 16, 64))
    params, d = it.mpk.params, TOY
    y, x = RNG.integers(-64, 65, (8, 16)), np.zeros((d, 16), int)
    key, coins = it.key(y), Coins(bytes([7]) * 32)
    r, f0 = (coins.stream(f"rlwe {name}").rounded_gaussian(rlwe.SIGMA, d) for name in ("r", "f0"))
    again = Coins(bytes([1]) * 32)  # those of the instance
    e = again.stream("rlwe e").rounded_gaussian(params.width, 16, d)
    known = np.vstack([np.hstack([turned(y_ @ e), -turned(sk)]) for y_, sk in zip(y, key.sk, strict=True)])
    ct = rlwe.encrypt(it.mpk, x, Coins(bytes([7]) * 32))
    noise = rlwe._noisy(params, ct, key.y, key.sk).astype(float).T.ravel()
    masked = np.linalg.lstsq(known, noise, rcond=None)[0]
    narrow = known @ np.concatenate([r, f0]) + RNG.normal(0, rlwe.SIGMA * 100, len(noise))
    found = np.linalg.lstsq(known, narrow, rcond=None)[0]
    assert np.abs(found[:d] - r).max() < 0.5 and np.abs(masked[:d] - r).std() > rlwe.SIGMA


def turned(a):
    """The matrix of the product with a."""
    d = len(a)
    both = np.concatenate([-a, a])
    return both[d + np.arange(d)[:, None] - np.arange(d)[None]].astype(float)


def test_the_width_follows_the_keys_and_keeps_the_level():
    bounds = Bounds(64, 16, 1024)
    widths = {k: rlwe.parameters(bounds, Issued(32, k, FRESH, True)) for k in (32, 40, 48, 50)}
    assert all(rlwe.level(params, k, FRESH) == 128 for k, params in widths.items())
    every = [params.width for params in widths.values()]
    assert every == sorted(every) and every[0] == math.ceil(6.4 * 8 * 16) < every[1]
    line = rlwe.describe(widths[48], Issued(32, 48, FRESH, True))
    assert line.startswith("rlwe, 128 bit, 128 bit left: 128 bit is mpk alone; core-SVP")
    assert rlwe.level(widths[32], 64, FRESH) == 0 and rlwe.level(widths[32], 52, FRESH) == 0
    assert "rlwe, 128 bit, void, 0 bit left" in rlwe.describe(
        rlwe.parameters(bounds, Issued(32, 62, FRESH, True)), Issued(32, 62, FRESH, True)
    )


def test_the_modulus_is_within_what_the_standard_allows():
    for bounds in (Bounds(4, 1, 8), Bounds(64, 16, 1024), Bounds(784, 255, 1024), Bounds(3072, 255, 1024)):
        params = rlwe.parameters(bounds)
        assert params.q.bit_length() <= {2048: 54, 4096: 109, 8192: 218}[params.dimension]


def test_half_the_keys_do_not_give_wide_secrets_to_the_lattice():
    """What opens `ipfe_lwe` at once (keys of a fresh W1, n / 2 of them) finds other columns here."""
    n = 40
    y = np.rint(RNG.uniform(-1, 1, (n // 2, n)) * 256 / math.sqrt(n)).astype(np.int64)
    it = inner("rlwe", Bounds(n, 16, 1024))
    found, _ = Coset.of(y, np.ones(n)).nearest(it.key(y).sk[:, :4].T.astype(np.int64), np.zeros(n))
    assert (found != it.msk.s[:, :4].T).any(axis=1).all()
