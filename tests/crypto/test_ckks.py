"""CKKS: the key-holder's half against SEAL's own, arithmetic against numpy, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from protocols.crypto import ckks
from protocols.crypto.ckks import CkksFresh, CkksKeys, CkksParams
from protocols.crypto.coins import Coins
from protocols.language.errors import BoundError, MalformedError
from protocols.language.message import decode, encode

seal = pytest.importorskip("tenseal.sealapi", reason="an optional extra")

TOY = CkksParams(2048, 6)  # four levels, without security
STEPS = (1, 2, 256, 512)


class Instance:
    def __init__(self, params=TOY, key=b"k"):
        self.coins = Coins(key * 32)
        self.keys, self.sk = ckks.setup(params, self.coins, STEPS)
        self.engine = ckks.Engine(self.keys)
        rng = np.random.default_rng(0)
        self.x, self.y = rng.uniform(-1, 1, (2, params.slots))
        self.cx, self.cy = (self.load(values) for values in (self.x, self.y))

    def load(self, values, level=None):
        (vector,) = self.engine.load(ckks.encrypt(self.sk, values[None], self.coins, level))
        return vector

    def open(self, vector):
        found, noise = ckks.decrypt(self.sk, self.engine.store([vector]))
        assert noise < 1e-2
        return found[0]

    def seals_key(self):
        which = self.engine.context.key_parms_id()
        return ckks.loaded_into(seal.SecretKey(), self.engine.context, ckks.seal_secret_key(self.sk, which))


@pytest.fixture(scope="module")
def instance():
    return Instance()


def test_seal_decrypts_what_is_encrypted_here(instance):
    decryptor = seal.Decryptor(instance.engine.context, instance.seals_key())
    plain = seal.Plaintext()
    decryptor.decrypt(instance.cx.raw, plain)
    found = seal.CKKSEncoder(instance.engine.context).decode_double(plain)
    assert np.abs(found - instance.x).max() < 1e-5


def test_what_seal_encrypts_is_decrypted_here(instance):
    engine, plain, ct = instance.engine, seal.Plaintext(), seal.Ciphertext()
    seal.CKKSEncoder(engine.context).encode(instance.x.tolist(), ckks.SCALE, plain)
    seal.Encryptor(engine.context, instance.seals_key()).encrypt_symmetric(plain, ct)
    assert np.abs(instance.open(ckks.Slots(engine, ct, TOY.top)) - instance.x).max() < 1e-4


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (lambda i: i.cx + i.cy, lambda i: i.x + i.y),
        (lambda i: i.cx - i.cy * 0.5, lambda i: i.x - i.y * 0.5),
        (lambda i: i.cx * i.cy, lambda i: i.x * i.y),
        (lambda i: i.cx * i.cx * (i.cy * i.cy), lambda i: i.x**2 * i.y**2),
        (lambda i: i.cx * i.cy + 3.0, lambda i: i.x * i.y + 3),
        (lambda i: i.engine.total([i.cx, i.cy], [i.cy, i.cy]), lambda i: (i.x + i.y) * i.y),
        (lambda i: i.cx.at(1) * i.cy, lambda i: i.x * i.y),
        (lambda i: i.load(i.x, 2) - i.cy, lambda i: i.x - i.y),
    ],
)
def test_arithmetic_is_that_of_reals(instance, compute, expected):
    assert np.abs(instance.open(compute(instance)) - expected(instance)).max() < 1e-4


@pytest.mark.parametrize("step", STEPS)
def test_a_rotation_turns_all_slots_in_a_circle(instance, step):
    found = instance.open(instance.engine.rotated(instance.cx, step))
    error = np.abs(found - np.roll(instance.x, -step))
    assert np.median(error) < 1e-4 and error.max() < 1e-2  # the first slots have more noise


def test_sums_over_strides_are_the_same_everywhere(instance):
    found = instance.open(instance.cx.summed(256, 4))
    assert np.abs(found - np.tile(instance.x.reshape(4, 256).sum(axis=0), 4)).max() < 2e-2


def test_the_level_budget_ends(instance):
    deepest = instance.cx.at(0)
    for more in (lambda: deepest * instance.cy, lambda: deepest * 2.0):
        with pytest.raises(BoundError, match="level budget"):
            more()


def test_equal_coins_give_equal_bytes_and_masks_serve_once():
    one, other = Instance(), Instance()
    assert bytes(encode(one.keys).data) == bytes(encode(other.keys).data)
    products = [bytes(encode(i.engine.store([i.cx * i.cy])).data) for i in (one, other)]
    assert products[0] == products[1]
    first, second = (ckks.encrypt(one.sk, one.x[None], one.coins) for _ in range(2))
    assert first.seed != second.seed and not np.array_equal(first.c0, second.c0)
    digits = one.keys.c0.reshape(-1, one.keys.c0.shape[-1])
    assert len(np.unique(digits, axis=0)) == len(digits)


def test_records_cross_and_refuse_what_is_none(instance):
    fresh = ckks.encrypt(instance.sk, instance.x[None], instance.coins)
    again = decode(encode(fresh))
    assert isinstance(again, CkksFresh) and np.array_equal(again.c0, fresh.c0)
    for wrong in (
        {"c0": np.full_like(fresh.c0, 2**30)},
        {"c0": fresh.c0[:, :1]},
        {"c0": fresh.c0[:, :, :-1]},
        {"c0": fresh.c0.astype(np.int64)},
        {"seed": fresh.seed[1:]},
    ):
        with pytest.raises(MalformedError):
            replace(fresh, **wrong)
    with pytest.raises(MalformedError, match="rotations in order"):
        replace(instance.keys, steps=instance.keys.steps[::-1].copy())
    with pytest.raises(MalformedError, match="residue"):
        replace(instance.keys, c0=np.full_like(instance.keys.c0, 2**31))
    with pytest.raises(MalformedError, match="expected 2 primes"):
        whole = instance.engine.store([instance.cx])
        replace(whole, halves=np.zeros((1, 2, 3, TOY.dimension), np.uint32))


def test_other_instances_are_refused(instance):
    other = Instance(key=b"o")
    with pytest.raises(MalformedError, match="another instance"):
        instance.engine.load(ckks.encrypt(other.sk, other.x[None], other.coins))
    with pytest.raises(MalformedError, match="another instance"):
        ckks.decrypt(other.sk, instance.engine.store([instance.cx]))
    stolen = replace(instance.engine.store([instance.cx]), tag=other.sk.tag)
    with pytest.raises(BoundError, match="another key"):
        ckks.decrypt(other.sk, stolen)
    with pytest.raises(MalformedError, match="expected rotations"):
        ckks.check(instance.keys, TOY, [1])
    with pytest.raises(MalformedError):
        ckks.check(instance.keys, CkksParams(4096, 6), STEPS)
    assert isinstance(ckks.check(instance.keys, TOY, STEPS), CkksKeys)


def test_reals_beyond_the_bound_are_refused(instance):
    for values in (np.full((1, TOY.slots), 1e9), np.full((1, TOY.slots), np.nan)):
        with pytest.raises(BoundError):
            ckks.encrypt(instance.sk, values, instance.coins)
    with pytest.raises(MalformedError):
        ckks.encrypt(instance.sk, np.zeros((1, 3)), instance.coins)


def test_parameters_are_within_the_table():
    found = [ckks.parameters(levels) for levels in (4, 5, 7, 11, 20)]
    assert [p.dimension for p in found] == [8192, 16384, 16384, 16384, 32768]
    assert all(p.secure and p.bits <= {8192: 218, 16384: 438, 32768: 881}[p.dimension] for p in found)
    assert "toy" in ckks.describe(TOY) and "128 bit" in ckks.describe(found[0])
    with pytest.raises(BoundError):
        ckks.parameters(27)
    assert ckks.block_size(found[0]) >= 340  # what 128 bit of the standard are in core-SVP


def test_a_ciphertext_without_a_mask_is_told_from_one_with(instance):
    fresh = ckks.encrypt(instance.sk, instance.x[None], instance.coins)
    assert not ckks.shows_through(fresh)
    bare = replace(instance.sk, s=np.zeros_like(instance.sk.s))
    assert ckks.shows_through(ckks.encrypt(bare, instance.x[None] / 8, instance.coins))


def quiet(self, sigma, *shape):
    return np.zeros(shape, np.int64)


def constant(self, sigma, *shape):
    """Noise of which every row is the same."""
    return np.broadcast_to(np.random.default_rng(3).normal(0, sigma, shape[-1]).round().astype(int), shape)


def noise(sk, c0, a, plain):
    """e (..., d) of (-a s + e + m, a), residues (..., l, d), given m as transforms; alike at all primes."""
    params = sk.params
    p = np.array(params.primes[: c0.shape[-2]], np.uint64)[:, None]
    s = ckks._transformed(sk.s.astype(np.int64), params)[: len(p)]
    rest = (c0.astype(np.uint64) + a * s % p + p - plain) % p
    e = ckks._restored(rest, params).astype(np.int64)
    e = np.where(e > p.astype(np.int64) // 2, e - p.astype(np.int64), e)
    assert (e == e[..., :1, :]).all()
    return e[..., 0, :]


def check_noise(e):
    """Rows (N, d) of deviation 3.2 and mean 0, no two of which are alike, or turned by some places."""
    d = e.shape[1]
    assert np.abs(e.std(axis=1) - 3.2).max() < 6 * 3.2 / np.sqrt(2 * d)
    assert np.abs(e.mean(axis=1)).max() < 6 * 3.2 / np.sqrt(d)
    spectra = np.fft.fft(e / 3.2)
    for row, spectrum in enumerate(spectra):
        like = np.fft.ifft(spectra * spectrum.conj()).real / d
        like[row, 0] -= (e[row] ** 2).mean() / 3.2**2
        assert np.abs(like).max() < 8 / np.sqrt(d)


def test_every_fresh_ciphertext_and_digit_of_a_key_has_noise_of_its_own(instance):
    sk, values = instance.sk, np.random.default_rng(1).uniform(-1, 1, (3, TOY.slots))
    found = []
    for level in (None, 1):
        fresh = ckks.encrypt(sk, values, instance.coins, level)
        primes = TOY.primes[: fresh.c0.shape[1]]
        a = ckks._uniform(fresh.seed, (3,), primes, TOY.dimension)
        m = ckks.encoded(values, TOY.scale(len(primes) - ckks._BOTTOM))
        found.append(noise(sk, fresh.c0, a, ckks._transformed(m, TOY)[:, : len(primes)]))
    d, primes, keys = TOY.dimension, np.array(TOY.primes, np.uint64)[:, None], instance.keys
    s = ckks._transformed(sk.s.astype(np.int64), TOY)
    turned = [ckks._transformed(ckks._rotated(sk.s, pow(3, k, 2 * d)), TOY) for k in STEPS]
    a = ckks._uniform(keys.seed, keys.c0.shape[:2], TOY.primes, d)
    for k, target in enumerate([s * s % primes, *turned]):
        plain = np.zeros(a.shape[1:], np.uint64)
        for i in range(TOY.moduli):
            plain[i, i] = target[i] * (primes[-1] % primes[i]) % primes[i]
        found.append(noise(sk, keys.c0[k], a[k], plain))
    check_noise(np.concatenate(found))


@pytest.mark.parametrize("how", [quiet, constant])
def test_a_key_is_found_where_known_plaintexts_lack_noise(instance, how, monkeypatch):
    zeros = np.zeros((2, TOY.slots))
    assert not ckks.opens_zeros(ckks.encrypt(instance.sk, zeros, instance.coins))
    assert not ckks.opens_keys(instance.keys)
    monkeypatch.setattr("protocols.crypto.coins.Stream.rounded_gaussian", how)
    assert ckks.opens_zeros(ckks.encrypt(instance.sk, zeros, instance.coins, 1))
    assert ckks.opens_keys(ckks.setup(TOY, instance.coins, STEPS)[0])
    assert not ckks.opens_zeros(ckks.encrypt(instance.sk, instance.x[None] / 8, instance.coins))


def test_what_seal_refuses_to_compute_is_beyond_a_bound(instance):
    for refused in (
        lambda: instance.cx * 1e-12,
        lambda: instance.cx * 1e300,
        lambda: instance.cx + 1e300,
        lambda: instance.engine.rotated(instance.cx, 3),
        lambda: instance.cx - instance.cx,
    ):
        with pytest.raises(BoundError, match="SEAL cannot"):
            refused()


def test_a_factor_that_is_accepted_is_no_zero_at_any_level(instance):
    for factor in (0.9 / ckks.SCALE, 2.0**29, 1e300, float("nan")):
        with pytest.raises(BoundError, match="factor"):
            ckks.check_factor(factor)
    for factor in (1 / ckks.SCALE, -1 / ckks.SCALE):
        ckks.check_factor(factor)
        for level in (4, 3, 2, 1):
            instance.cx.at(level) * factor
