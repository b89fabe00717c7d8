"""Inner-product encryption from LWE: exact at its bounds, and loud beyond them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crypto import ipfe_lwe as lwe
from protocols.crypto.coins import Coins, Stream
from protocols.crypto.records import Bounds
from protocols.language.errors import BoundError

TOY = 64  # a toy dimension, for tests that are not about security
RNG = np.random.default_rng(11)


def instance(bounds=None, dimension=TOY, key=b"a" * 32):
    params = lwe.parameters(bounds or Bounds(10, 16, 1024), dimension)
    coins = Coins(key)
    return (*lwe.setup(params, coins), coins)


def draw(bounds, n=5, h=4):
    return RNG.integers(-bounds.x, bounds.x + 1, (n, bounds.length)), RNG.integers(
        -bounds.y, bounds.y + 1, (h, bounds.length)
    )


def run(mpk, msk, coins, x, y):
    return lwe.decrypt(mpk, lwe.key_derive(msk, y), lwe.load(mpk, lwe.encrypt(mpk, x, coins)))


@pytest.mark.parametrize(
    "bounds", [Bounds(64, 16, 1024), Bounds(64, 16, 4096), Bounds(16, 255, 1024)], ids=str
)
def test_inner_products_are_exact_at_the_default_dimension(bounds):
    mpk, msk, coins = instance(bounds, lwe.DIMENSION)
    x, y = draw(bounds)
    assert (run(mpk, msk, coins, x, y) == x @ y.T).all()


def test_inner_products_are_exact_at_the_size_of_mnist():
    bounds = Bounds(784, 255, 1024)
    mpk, msk, coins = instance(bounds, lwe.DIMENSION)
    x, y = (
        RNG.integers(0, 256, (3, 784)),
        np.clip(np.rint(RNG.normal(0, 60, (4, 784))), -1024, 1024).astype(int),
    )
    x[0] = 255
    assert (run(mpk, msk, coins, x, y) == x @ y.T).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 300), st.integers(1, 5000), st.integers(0, 2**32))
def test_inner_products_are_exact_for_all_bounds(length, x_max, y_max, seed):
    bounds = Bounds(length, x_max, y_max)
    mpk, msk, coins = instance(bounds, key=seed.to_bytes(32, "big"))
    x, y = draw(bounds)
    assert (run(mpk, msk, coins, x, y) == x @ y.T).all()


def test_a_key_or_ciphertext_of_another_instance_is_refused():
    mpk, msk, coins = instance()
    other_mpk, other_msk, other_coins = instance(key=b"b" * 32)
    x, y = draw(mpk.params.bounds, 8, 8)
    with pytest.raises(BoundError, match="another instance"):
        lwe.decrypt(mpk, lwe.key_derive(other_msk, y), lwe.encrypt(mpk, x, coins))
    with pytest.raises(BoundError, match="another instance"):
        lwe.decrypt(mpk, lwe.key_derive(msk, y), lwe.encrypt(other_mpk, x, other_coins))


def test_a_product_beyond_the_bound_is_refused_and_not_wrapped():
    mpk, msk, coins = instance()
    top, key = np.full((1, 10), 16), lwe.key_derive(msk, np.full((1, 10), 1024))
    ct = lwe.encrypt(mpk, top, coins)
    for times in (2, 3):
        many = lwe.LweCiphertext(ct.c0 * np.uint64(times), ct.c1 * np.uint64(times))
        with pytest.raises(BoundError, match="exceeds the bound"):
            lwe.decrypt(mpk, key, many)


def test_an_altered_ciphertext_is_refused():
    mpk, msk, coins = instance()
    x, y = draw(mpk.params.bounds)
    ct = lwe.encrypt(mpk, x, coins)
    with pytest.raises(BoundError):
        lwe.decrypt(mpk, lwe.key_derive(msk, y), lwe.LweCiphertext(ct.c0 ^ np.uint64(1 << 62), ct.c1))


def test_a_key_whose_noise_would_not_fit_is_refused_by_row():
    bounds = Bounds(784, 255, 1 << 14)
    mpk, msk, coins = instance(bounds, lwe.DIMENSION)
    y = np.zeros((3, 784), dtype=int)
    y[0, 0] = 1
    assert (run(mpk, msk, coins, np.ones((1, 784), int), y[:1]) == 1).all()
    y[2] = 1 << 14
    with pytest.raises(BoundError, match="row 2 .*--weight-scale"):
        lwe.key_derive(msk, y)


def test_the_noise_of_keys_is_near_what_the_public_parameters_say():
    """So that 10 expected deviations, the threshold of decryption, are more than 9 actual ones."""
    bounds = Bounds(64, 16, 1024)
    mpk, msk, _ = instance(bounds, lwe.DIMENSION)
    y = RNG.integers(-1024, 1025, (500, 64)).astype(float)
    sk = y @ msk.s
    actual = ((y @ msk.gram) * y).sum(1) + lwe.SIGMA**2 * ((sk**2).sum(1) + (y**2).sum(1))
    ratio = np.sqrt(actual) / (mpk.params.unit_noise * np.linalg.norm(y, axis=1))
    assert ratio.min() > 0.9 and ratio.max() < 10 / 9


def test_no_right_product_is_refused_though_bounds_and_keys_are_at_their_limits():
    mpk, msk, coins = instance(Bounds(64, 16, 4096), lwe.DIMENSION)
    x, y = RNG.choice([-16, 16], (200, 64)), RNG.choice([-4096, 4096], (64, 64))
    x[0], y[0], y[1] = 16, 4096, -4096
    z = run(mpk, msk, coins, x, y)
    assert (z == x @ y.T).all() and z.max() == -z.min() == mpk.params.bounds.inner


def test_the_master_key_opens_everything_and_no_other_is_taken_for_it():
    mpk, msk, coins = instance()
    x, _ = draw(mpk.params.bounds)
    ct, wrong = lwe.encrypt(mpk, x, coins), msk.s.copy()
    wrong[3, 5] += 1 if wrong[3, 5] < 2 else -1
    assert lwe.check_master_key(mpk, msk.s) and (lwe.open_with_master_key(mpk, msk.s, ct) == x).all()
    assert not lwe.check_master_key(mpk, wrong) and not lwe.check_master_key(mpk, msk.s[:, :-1])
    with pytest.raises(BoundError):
        lwe.open_with_master_key(mpk, -msk.s, ct)


def test_the_public_key_predicts_nothing():
    """Neither what the public seed gives nor a small seed of a common generator is the secret."""
    mpk, msk, _ = instance(dimension=256)
    shape = msk.s.shape
    for purpose in ("lwe A", "lwe S", "lwe E", "lwe R", "lwe public seed", "lwe E0 E1"):
        assert not lwe.check_master_key(mpk, Coins(mpk.seed).stream(purpose).centred_binomial(*shape))
        assert not lwe.check_master_key(mpk, Stream(mpk.seed).centred_binomial(*shape))
    for seed in range(20):
        assert not lwe.check_master_key(mpk, np.random.default_rng(seed).integers(-2, 3, shape))
        guess = torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).numpy()
        assert not lwe.check_master_key(mpk, guess)


def test_the_public_key_looks_uniform():
    mpk, _, _ = instance(Bounds(64, 16, 1024), 512)
    for words in (mpk.b, lwe.expand(mpk.seed, 512)):
        counts = np.bincount(np.ascontiguousarray(words).view(np.uint8).ravel(), minlength=256)
        mean = counts.mean()
        assert abs(((counts - mean) ** 2 / mean).sum() - 255) < 5 * np.sqrt(2 * 255)


def test_the_noise_is_what_the_key_check_computes():
    bounds = Bounds(40, 16, 200)
    mpk, msk, coins = instance(bounds, 512)
    x, y = RNG.integers(-16, 17, (400, 40)), RNG.integers(-200, 201, (1, 40))
    ct = lwe.encrypt(mpk, x, coins)
    noisy = ct.c1.astype(object) @ y.T.astype(object) - ct.c0.astype(object) @ (
        msk.s.T.astype(object) @ y.T.astype(object)
    )
    noise = np.array(
        [
            int((v - mpk.params.delta * int(z) + 2**63) % 2**64 - 2**63)
            for v, z in zip(noisy[:, 0], x @ y[0], strict=True)
        ],
        float,
    )
    expected = mpk.params.unit_noise * np.linalg.norm(y)
    assert abs(noise.std() / expected - 1) < 0.25 and abs(noise.mean()) < 5 * expected / 20


def test_secrets_are_not_shown_and_a_toy_says_so():
    mpk, msk, _ = instance()
    assert "array" not in repr(msk) and "toy" in lwe.describe(mpk.params)
    assert "error < 2^-57" in lwe.describe(mpk.params) and 2.0**-58 < 2 * np.exp(-(9**2) / 2) < 2.0**-57
    assert "128 bit" in lwe.describe(lwe.parameters(Bounds(64, 16, 1024))) and lwe.DIMENSION == 2048
