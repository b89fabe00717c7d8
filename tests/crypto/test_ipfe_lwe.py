"""Inner products from LWE: exact at real sizes, loud where the noise does not fit, and nothing for free."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crypto import ipfe_lwe as lwe
from protocols.crypto.coins import Coins, Stream
from protocols.crypto.records import Bounds
from protocols.language.errors import BoundError
from tests.crypto.cases import inner, matrices

RNG = np.random.default_rng(11)
TEN = Bounds(10, 16, 1024)


@pytest.mark.parametrize("bounds", [Bounds(64, 16, 4096), Bounds(16, 255, 1024)], ids=str)
def test_inner_products_are_exact_at_the_default_dimension(bounds):
    x, y = matrices(bounds)
    assert (inner("lwe", bounds, dimension=lwe.DIMENSION).run(x, y) == x @ y.T).all()


def test_products_of_the_size_of_mnist_are_exact_or_their_key_is_refused_by_row():
    it = inner("lwe", Bounds(784, 255, 1024), dimension=lwe.DIMENSION)
    x = RNG.integers(0, 256, (3, 784))
    y = np.clip(np.rint(RNG.normal(0, 60, (4, 784))), -1024, 1024).astype(int)
    x[0] = 255
    assert (it.run(x, y) == x @ y.T).all()
    y[2] = 1024
    with pytest.raises(BoundError, match="noise of the key for row 2 .*--weight-scale"):
        it.key(y)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 300), st.integers(1, 5000), st.integers(0, 255))
def test_inner_products_are_exact_for_all_bounds(length, x_max, y_max, seed):
    bounds = Bounds(length, x_max, y_max)
    x, y = matrices(bounds, seed=seed)
    assert (inner("lwe", bounds, seed).run(x, y) == x @ y.T).all()


def test_a_product_beyond_the_bound_is_refused_and_not_wrapped():
    it = inner("lwe", TEN)
    key, ct = it.key(np.full((1, 10), 1024)), it.encrypt(np.full((1, 10), 16))
    for times in (2, 3):
        many = lwe.LweCiphertext(ct.c0 * np.uint64(times), ct.c1 * np.uint64(times))
        with pytest.raises(BoundError, match="exceeds the bound"):
            it.decrypt(key, many)


def test_an_altered_or_a_foreign_ciphertext_is_refused():
    it, other = inner("lwe", TEN), inner("lwe", TEN, seed=2)
    x, y = matrices(TEN, 8, 8)
    ct = it.encrypt(x)
    for wrong in (lwe.LweCiphertext(ct.c0 ^ np.uint64(1 << 62), ct.c1), other.encrypt(x)):
        with pytest.raises(BoundError, match="another instance"):
            it.decrypt(it.key(y), wrong)


def test_the_noise_of_keys_is_near_what_the_public_parameters_say():
    """So that 10 expected deviations, the threshold of decryption, are more than 9 actual ones."""
    it = inner("lwe", Bounds(64, 16, 1024), dimension=lwe.DIMENSION)
    y = RNG.integers(-1024, 1025, (500, 64)).astype(float)
    sk = y @ it.msk.s
    actual = ((y @ it.msk.gram) * y).sum(1) + lwe.SIGMA**2 * ((sk**2).sum(1) + (y**2).sum(1))
    ratio = np.sqrt(actual) / (it.mpk.params.unit_noise * np.linalg.norm(y, axis=1))
    assert ratio.min() > 0.9 and ratio.max() < 10 / 9


def test_correct_products_are_accepted_though_bounds_and_keys_are_at_their_limits():
    it = inner("lwe", Bounds(64, 16, 4096), dimension=lwe.DIMENSION)
    x, y = RNG.choice([-16, 16], (200, 64)), RNG.choice([-4096, 4096], (64, 64))
    x[0], y[0], y[1] = 16, 4096, -4096
    z = it.run(x, y)
    assert (z == x @ y.T).all() and z.max() == -z.min() == it.bounds.inner


def test_the_master_key_opens_everything_and_no_other_is_taken_for_it():
    it = inner("lwe", TEN)
    x, _ = matrices(TEN)
    ct, s = it.encrypt(x), it.msk.s
    wrong = s.copy()
    wrong[3, 5] += 1 if wrong[3, 5] < 2 else -1
    assert lwe.check_master_key(it.mpk, s) and (lwe.open_with_master_key(it.mpk, s, ct) == x).all()
    assert not lwe.check_master_key(it.mpk, wrong) and not lwe.check_master_key(it.mpk, s[:, :-1])
    with pytest.raises(BoundError):
        lwe.open_with_master_key(it.mpk, -s, ct)


def test_the_public_key_predicts_nothing():
    """Neither what the public seed gives nor a small seed of a common generator is the secret."""
    it = inner("lwe", TEN)
    mpk, shape = it.mpk, it.msk.s.shape
    for purpose in ("lwe A", "lwe S", "lwe E", "lwe R", "lwe public seed", "lwe E0 E1"):
        assert not lwe.check_master_key(mpk, Coins(mpk.seed).stream(purpose).centred_binomial(*shape))
        assert not lwe.check_master_key(mpk, Stream(mpk.seed).centred_binomial(*shape))
    for seed in range(20):
        assert not lwe.check_master_key(mpk, np.random.default_rng(seed).integers(-2, 3, shape))
        guess = torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).numpy()
        assert not lwe.check_master_key(mpk, guess)


def test_the_public_key_looks_uniform():
    mpk = inner("lwe", Bounds(64, 16, 1024), dimension=512).mpk
    for words in (mpk.b, lwe.expand(mpk.seed, 512)):
        counts = np.bincount(np.ascontiguousarray(words).view(np.uint8).ravel(), minlength=256)
        mean = counts.mean()
        assert abs(((counts - mean) ** 2 / mean).sum() - 255) < 5 * np.sqrt(2 * 255)


def test_the_noise_is_what_the_key_check_computes():
    it = inner("lwe", Bounds(40, 16, 200), dimension=512)
    x, y = RNG.integers(-16, 17, (400, 40)), RNG.integers(-200, 201, (1, 40))
    ct, params, wide = it.encrypt(x), it.mpk.params, y[0].astype(object)
    noisy = ct.c1.astype(object) @ wide - ct.c0.astype(object) @ (it.msk.s.T.astype(object) @ wide)
    noise = ((noisy - params.delta * (x @ wide) + 2**63) % 2**64 - 2**63).astype(float)
    expected = params.unit_noise * np.linalg.norm(y)
    assert abs(noise.std() / expected - 1) < 0.25 and abs(noise.mean()) < 5 * expected / 20


def test_the_first_bound_on_noise_is_one_and_a_key_beyond_it_is_weighed_exactly():
    it = inner("lwe", Bounds(64, 16, 20_000), dimension=lwe.DIMENSION)
    msk, delta = it.msk, it.mpk.params.delta
    assert np.linalg.eigvalsh(msk.gram).max() <= msk.reach
    signs = RNG.choice([-1, 1], (1, 64))
    accepted = []
    for size in (2_000, 6_000, 20_000):
        y = size * signs
        own = lwe.SIGMA**2 * (((y @ msk.s.astype(np.int64)) ** 2).sum() + (y**2).sum())
        loose, exact = (np.sqrt(e + own) for e in (msk.reach * (y**2).sum(), (y @ msk.gram @ y.T)[0, 0]))
        accepted.append((bool(delta > 18 * loose), bool(delta > 18 * exact)))
        if accepted[-1][1]:
            assert it.key(y).y.tolist() == y.tolist()
        else:
            with pytest.raises(BoundError, match="noise of the key for row 0"):
                it.key(y)
    assert accepted == [(True, True), (False, True), (False, False)]
