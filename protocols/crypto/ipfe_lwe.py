"""Inner-product functional encryption from LWE over Z_{2^64}.

M. Abdalla, F. Bourse, A. De Caro, D. Pointcheval, *Simple Functional Encryption Schemes for Inner Products*,
PKC 2015 (eprint 2015/017), section on LWE. Symbols: A (d, d) uniform, S (n, d) and E (d, n) small, B = A S^T
+ E.

    Setup      mpk = (seed of A, B), msk = S
    Encrypt    C0 = R A + E0, C1 = R B + E1 + Delta X          R, E0, E1 small, fresh for each call
    KeyDer     SK = Y S
    Decrypt    C1 Y^T - C0 SK^T = Delta X Y^T + (R E + E1 - E0 S^T) Y^T, rounded to multiples of Delta

Security: selective IND-CPA under LWE with d = 2048, q = 2^64, secrets of variance 1, errors of sigma = 3.2 *
2^10, so that log2(q / sigma) = 52.3, what the HomomorphicEncryption.org standard (2018) allows for 128 bit at
that dimension. **That is the level of mpk and ciphertexts alone.** S is short and a key is Y S over the
integers, so that a column of S, n entries of variance 1 or 2.03 n bits, is a short vector in the kernel
lattice of the keys' vectors, of dimension n - k for k keys (`integers/core_svp.py`: derivation and limits).
`level` says what k keys leave, `describe` what those of a run do. For |y| = 148, rows of a fresh W1 at 256
steps a unit:

    n = 64      k = 8: 125 bit     12: 123     14: 14     15 and more: nothing
    n = 784     k = 100: 125 bit   200: 122    250: 96    300: 61     350: 35     400: 16     450: nothing

Measured at n = 64: 32 keys, and 24, give all of S in seconds (`parties/adversary/attacks/master_key.py`). A
budget of keys that leaves less than 80 bit is called void; it is not refused. Whoever holds n independent
keys may be trusted no less than the authority: they determine S whatever its width. Where S is uniform mod q,
as in the paper, k < n keys leave n - k dimensions open.

Deviations from the paper, and their consequence:
* the compact public key of Lindner and Peikert, CT-RSA 2011 (A square, encryption adds errors of its own),
  where the paper's proof is for the long Regev-style key. This is the usual heuristic; no attack in this
  project depends on it;
* S and R are centred binomial (variance 1, entries -2 to 2) instead of Gaussian, E, E0, E1 are rounded
  Gaussians;
* a worst-case bound on the noise does not fit into 64 bits, so correctness is probabilistic. It is checked
  for each key: `key_derive` refuses a key unless Delta exceeds 18 standard deviations of its noise (given S
  and E). R, E0 and E1 are sub-Gaussian with their variance as parameter (E0 and E1 but for their rounding, a
  part in 10^8), so a product is wrong with probability at most 2 exp(-9^2 / 2) < 2^-57 over the coins of
  encryption."""

from __future__ import annotations

import math
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.coins import Coins, Stream, derive
from protocols.crypto.integers import core_svp
from protocols.crypto.integers.core_svp import Issued
from protocols.crypto.integers.modular import (
    Limbs,
    Words,
    limb_width,
    limbs,
    small_times_small,
    small_times_wide,
    wide_times_small,
)
from protocols.crypto.records import (
    Bounds,
    Ints,
    Record,
    array,
    arrived,
    check_plain,
    fit,
    made_for,
    nbytes,
    number,
    record,
)
from protocols.crypto.records import concat as concat
from protocols.crypto.records import rows as rows
from protocols.language.errors import BoundError
from protocols.language.integers import signed_type

Reals = NDArray[np.float64]

NAME = "lwe"
SECURITY = (
    "selective IND-CPA under LWE (d 2048, q 2^64), 128 bit without keys; S is short, and n/4 to n/2 keys "
    "give it away: a run says what its keys leave, and a key budget that leaves less than 80 bit is void"
)

DIMENSION = 2048
SIGMA = 3.2 * 2**10  # of E, E0 and E1; the secrets S and R have variance 1
LARGEST_SECRET = 2
BITS = 128  # of mpk and ciphertexts alone
_MARGIN = 18  # standard deviations of the noise that fit into Delta
_TAIL = 10  # expected standard deviations beyond which decryption takes the noise for that of a wrong key
_FAILURE_BITS = math.floor((_MARGIN**2 / 8 - math.log(2)) / math.log(2))  # of 2 exp(-(_MARGIN / 2)^2 / 2)
_ROWS = 1024  # rows encrypted at a time
_REMEDY = "lower --weight-scale, --weight-bound or --lr"


@record
class LweParams(Record):
    """Bounds on what is carried, and the dimension d; fewer than 2048 is a toy for tests."""

    bounds: Bounds
    dimension: int = number("d", bits=16, default=DIMENSION)

    @property
    def delta(self) -> int:
        """The factor of the message: the largest with Delta (4M + 2) < 2^64.

        Twice the room that |<x, y>| <= M needs: a product of up to 3M, as of a sum of ciphertexts, is seen
        and not wrapped.
        """
        return ((1 << 64) - 1) // (4 * self.bounds.inner + 2)

    @property
    def unit_noise(self) -> float:
        """Expected standard deviation of the noise for a key of norm 1."""
        return SIGMA * math.sqrt(2 * self.dimension + 1)


@record
class LwePublicKey(Record):
    """The seed from which A is expanded, and B."""

    SHAPE = ("d", "n")
    params: LweParams
    seed: bytes = nbytes(32)
    b: Words = array("uint64", "d", "n")


@record
class LweMasterKey(Record):
    """S, and `gram` = E^T E, from which the noise of a key is computed. Secret."""

    SHAPE = ("n", "d")
    params: LweParams
    s: NDArray[np.int8] = array("int8", "n", "d", secret=True)
    gram: NDArray[np.float64] = array("float64", "n", "n", secret=True)

    @cached_property
    def floats(self) -> NDArray[np.float32]:
        """S, for products."""
        return self.s.astype(np.float32)

    @cached_property
    def reach(self) -> float:
        """A bound on |E y|^2 / |y|^2: the Frobenius norm of E^T E is at least its largest eigenvalue."""
        return float(np.linalg.norm(self.gram))


@record
class LweCiphertext(Record):
    """C0 and C1."""

    SHAPE = ("N", "n")
    ROWS = ("c0", "c1")
    c0: Words = array("uint64", "N", "d")
    c1: Words = array("uint64", "N", "n")


@record
class LweFunctionKey(Record):
    """SK = Y S for the rows of Y, which are public and in the smallest type that holds their bound."""

    SHAPE = ("h", "n")
    y: Ints = array("int", "h", "n")
    sk: NDArray[np.int32] = array("int32", "h", "d")


def parameters(bounds: Bounds, dimension: int = DIMENSION) -> LweParams:
    """Parameters for these bounds; `BoundError` if not even a key of norm 1 would decrypt."""
    params = LweParams(bounds, dimension)
    if params.delta <= _MARGIN * params.unit_noise or bounds.length * bounds.y * LARGEST_SECRET >= 1 << 31:
        raise BoundError(
            f"inner products up to {bounds.inner} leave no room for the noise in 64 bits; {_REMEDY}"
        )
    return params


def describe(params: LweParams, issued: Issued | None = None) -> str:
    """Parameters and security level in one line; with the keys that a run issues, what they leave of it."""
    whole = f"{BITS} bit" if params.dimension >= DIMENSION else "toy"
    brief, told = core_svp.said(whole, issued, partial(level, params))
    return (
        f"lwe, {whole}{brief}: {told}d {params.dimension}, q 2^64, "
        f"log2(q/sigma) {64 - math.log2(SIGMA):.1f}, compact key (heuristic); "
        f"|<x, y>| <= {params.bounds.inner}, Delta 2^{math.log2(params.delta):.1f}, "
        f"error < 2^-{_FAILURE_BITS} a product"
    )


def level(params: LweParams, keys: int, norm: float | None = None) -> int:
    """Bits that this many independent keys leave of S, for vectors of length `norm`, else the longest that
    are allowed; no more than those of mpk alone.
    """
    longest = params.bounds.y * math.sqrt(params.bounds.length)
    column = core_svp.Column(params.bounds.length, keys, longest if norm is None else norm, sigma=1.0)
    return core_svp.left(
        column, BITS, lambda secret: core_svp.lwe_block_size(DIMENSION, 64.0, min(secret, 1.0), SIGMA)
    )


def setup(params: LweParams, coins: Coins) -> tuple[LwePublicKey, LweMasterKey]:
    """Draw a master key and its public key."""
    d, n = params.dimension, params.bounds.length
    seed = coins.stream("lwe public seed").bytes(32)
    s = coins.stream("lwe S").centred_binomial(n, d)
    e = coins.stream("lwe E").rounded_gaussian(SIGMA, d, n)
    b = wide_times_small(expand(seed, d), s.T) + e.view(np.uint64)
    noise = e.astype(np.float64)
    return LwePublicKey(params, seed, b), LweMasterKey(params, s, noise.T @ noise)


def check(mpk: LwePublicKey, params: LweParams) -> LwePublicKey:
    """A public key that arrived, if it has these parameters; every word is a valid one."""
    return made_for(mpk, LwePublicKey, params)


def encrypt(mpk: LwePublicKey, x: Ints, coins: Coins) -> LweCiphertext:
    """Encrypt the rows of x (N, n); `BoundError` beyond the bound on x."""
    d, n, bounds = mpk.params.dimension, mpk.params.bounds.length, mpk.params.bounds
    check_plain(x, (None, n), bounds.x, "x", "give the data's own maximum as bound")
    secrets, errors = coins.stream("lwe R"), coins.stream("lwe E0 E1")
    a, b = _limbs_of_a(mpk.seed, d), limbs(mpk.b, _limb_width(d))
    c = np.empty((len(x), d + n), dtype=np.uint64)  # (C0 | C1) = R (A | B) + (E0 | E1) + (0 | Delta X)
    for start in range(0, len(x), _ROWS):
        some = c[start : start + _ROWS]
        r = secrets.centred_binomial(len(some), d)
        some[:, :d], some[:, d:] = small_times_wide(r, a), small_times_wide(r, b)
        some += errors.rounded_gaussian(SIGMA, len(some), d + n).view(np.uint64)
    c[:, d:] += x.astype(np.int64).view(np.uint64) * np.uint64(mpk.params.delta)
    return LweCiphertext(c[:, :d], c[:, d:])


def load(mpk: LwePublicKey, ct: LweCiphertext) -> LweCiphertext:
    """Check that a ciphertext that arrived has the dimensions of the key; every word is a valid one."""
    return arrived(ct, LweCiphertext, mpk)


def key_derive(msk: LweMasterKey, y: Ints) -> LweFunctionKey:
    """Keys for the rows of y (h, n); `BoundError` beyond the bound on y or where the noise would not fit."""
    bounds = msk.params.bounds
    check_plain(y, (None, bounds.length), bounds.y, "y", _REMEDY)
    sk = small_times_small(y, msk.floats)
    vectors, products = y.astype(np.float64), sk.astype(np.float64)
    y2, sy2 = (np.einsum("ij,ij->i", rows, rows) for rows in (vectors, products))  # |y|^2, |S y|^2
    if not _fits(msk.params, _noise(msk.reach * y2, sy2, y2)):  # nearly always it does, by the bound alone
        ey2 = np.einsum("ij,ij->i", vectors @ msk.gram, vectors)  # |E y|^2
        noise = _noise(ey2, sy2, y2)
        if not _fits(msk.params, noise):
            raise BoundError(
                f"the noise of the key for row {int(noise.argmax())} would not fit below Delta; {_REMEDY}"
            )
    return LweFunctionKey(y.astype(signed_type(bounds.y)), sk.astype(np.int32))


def _noise(ey2: Reals, sy2: Reals, y2: Reals) -> Reals:
    """Standard deviations (h,) of the noise of keys, given S and E."""
    return np.sqrt(ey2 + SIGMA**2 * (sy2 + y2))


def _fits(params: LweParams, noise: Reals) -> bool:
    return bool(params.delta > _MARGIN * noise.max(initial=0))


def decrypt(mpk: LwePublicKey, sk: LweFunctionKey, ct: LweCiphertext) -> NDArray[np.int64]:
    """Inner products (N, h), exact.

    `BoundError` if one exceeds the bound, or if the noise exceeds 10 s, where s = unit_noise |y| is what the
    public parameters say of it: with a key or ciphertext of another instance the result is uniform, and a
    batch passes with probability (min(1, 20 s / Delta) / 2)^(N h): half the range lies beyond the bound.
    Within a factor 1.1 of the limit of `key_derive` the noise tells nothing, and the half alone remains.

    Correct results are accepted: if y does not depend on S and E (rows of W1 and dZ1 follow from exact
    products alone), then |E y|^2 + sigma^2 |y S|^2 is a sum of 2 d squares within 1.235 of its mean but for
    1e-20 at d = 2048, so that 10 s are more than 9 standard deviations of the noise, and a correct product is
    refused with probability below 2^-57. For a y chosen with S and E known, 10 s can be as few as 10 / (1 +
    sqrt(n / 2 d)) deviations, 7 at n = 784: one in 2e10 is refused, and none is wrong. The sums of a toy
    spread more.
    """
    load(mpk, ct)
    fit(sk, LweFunctionKey, mpk)
    check_plain(sk.y, sk.shape, mpk.params.bounds.y, "y of a function key", "it is of other parameters")
    noisy = wide_times_small(ct.c1, sk.y.T) - wide_times_small(ct.c0, sk.sk.T)
    y = sk.y.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", y, y))
    return _round(noisy, mpk.params, mpk.params.bounds.inner, norms)


def check_master_key(mpk: LwePublicKey, s: NDArray[Any]) -> bool:
    """Whether s (n, d) explains the public key: no other small s makes every entry of B - A S^T small."""
    right = s.shape == (mpk.params.bounds.length, mpk.params.dimension)
    if not right or np.abs(s).max(initial=0) > LARGEST_SECRET:
        return False
    rest = (mpk.b - wide_times_small(expand(mpk.seed, mpk.params.dimension), s.T)).view(np.int64)
    return bool(np.abs(rest).max() < _TAIL * SIGMA)


def open_with_master_key(mpk: LwePublicKey, s: NDArray[Any], ct: LweCiphertext) -> NDArray[np.int64]:
    """The encrypted vectors (N, n) themselves: keys for all unit vectors are the rows of s."""
    load(mpk, ct)
    noisy = ct.c1 - wide_times_small(ct.c0, s.T)
    return _round(noisy, mpk.params, mpk.params.bounds.x, np.ones(mpk.params.bounds.length))


@lru_cache(maxsize=4)
def expand(seed: bytes, d: int) -> Words:
    """A (d, d) from its public seed, remembered."""
    return _expanded(seed, d)


def _expanded(seed: bytes, d: int) -> Words:
    """The same; a stream of its own, keyed by nothing secret."""
    a = Stream(derive(seed, "lwe A")).words(d, d)
    a.flags.writeable = False
    return a


@lru_cache(maxsize=2)
def _limbs_of_a(seed: bytes, d: int) -> Limbs:
    """A cut for products with R, 64 MiB at d = 2048: held once in a process, whoever of it encrypts, and not
    with each party's copy of the public key.
    """
    return limbs(_expanded(seed, d), _limb_width(d))


def _limb_width(d: int) -> int:
    """Of limbs for products with R, whose rows have an absolute sum of at most 2 d."""
    return limb_width(LARGEST_SECRET * d)


def _round(noisy: Words, params: LweParams, bound: int, norms: NDArray[np.float64]) -> NDArray[np.int64]:
    """The nearest multiples of Delta, after checking bound and noise; `norms` (h,) are those of the keys."""
    delta = np.int64(params.delta)
    z, rest = np.divmod(noisy.view(np.int64), delta)
    above = rest > delta // 2
    z += above
    rest -= above * delta
    if np.abs(z).max(initial=0) > bound:
        raise BoundError(f"an inner product exceeds the bound {bound}, or the key is of another instance")
    if (np.abs(rest) > _TAIL * params.unit_noise * norms).any():
        raise BoundError(
            "the noise of an inner product is too large: the key or the ciphertext is of another instance"
        )
    return z
