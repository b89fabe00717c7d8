"""Inner-product functional encryption from ring-LWE, of whole batches at once, with wide secrets.

J. Bermudo Mera, A. Karmakar, T. Marc, A. Soleimanian, *Efficient Lattice-Based Inner-Product Functional
Encryption*, PKC 2022 (eprint 2021/046). In R_q = Z_q[X] / (X^d + 1):

    Setup       a uniform, s_i and e_i of deviation sigma_1          mpk = (a, b_i = a s_i + e_i), msk = (s_i)
    Encrypt     ct_0 = a r + f_0, ct_i = b_i r + f_i + Delta x_i     r, f_0 of sigma_2, f_i of sigma_3
    KeyDer      sk_y = sum_i y_i s_i
    Decrypt     sum_i y_i ct_i - ct_0 sk_y = Delta <x, y> + sum_i y_i (e_i r + f_i) - f_0 sk_y, rounded

Coefficient j of x_i is pixel i of image j: d images are n + 1 ring elements, and a key gives the products of
all of them. Only coefficients that hold an image cross.

Security: selective IND-CPA under ring-LWE with d = 2048, 4096 or 8192 and log2(q) at most 54, 108 or 216,
within what the HomomorphicEncryption.org standard (2018) allows for 128 bit at deviation 3.2. Three widths
make that the level in the presence of keys:

* **sigma_1** = 6.4 sqrt(n) x_max at least, as in the paper (its sigma is 3.2 here): secrets of this width
  hide by how much two vectors differ that all keys agree on. So keys say of S no more than products say of
  vectors x: these are shorter than the secrets, and in the same kernel lattice of the keys' vectors. What
  products themselves give away, no scheme keeps (`parties/adversary/attacks/lattice.py`). Where the number k
  of keys of a run is below n, sigma_1 is also at least 3.2 times vol^(1 / (n - k)) of that lattice, so that
  LWE with the secrets that k keys leave is no easier than without any (`integers/core_svp.py`), as far as a
  modulus carries it; `level` says what is left, and `describe` prints it;
* e_i are as wide as s_i: keys give sum_i y_i e_i too, as b_y - a sk_y;
* **sigma_3**: whoever decrypts rightly learns the noise, e_y r - sk_y f_0 + f_y, which are d equations over
  the integers for the 2 d unknowns of r and f_0, a key each: with narrow f_i, least squares over two keys
  would give r and open every image. The f_i hide them: by Hint-MLWE (D. Kim, D. Lee, J. Seo, Y. Song, CRYPTO
  2023, eprint 2023/623) ring-LWE with hints of norm B^2 and deviation sigma_2 is as hard as without, with
  deviation sigma_2 / 2 if sigma_3 >= sigma_2 B. B^2 is at most sum_i |e_i|^2 + |s_i|^2 at a complex root of
  X^d + 1, 2 n d sigma_1^2 on average; twice that is taken, sigma_3 = 2 sigma_1 sigma_2 sqrt(n d), for
  sigma_2 = 6.4, however many keys there are.

Deviations from the paper, and their consequence:
* r and f_0 stay narrow and f_i alone hide them, where the paper has sigma_2 = sqrt(2 (n + 2)) d sigma_1
  sqrt(128), whose noise takes about 20 bits more of the modulus;
* no joint proof is given here that the paper's hiding of differences and the theorem above compose: the
  level is an estimate. Rounded Gaussians take the place of discrete ones;
* vectors x fill coefficients, so that all images of a block share r (the paper's own remark on matrices);
* q is a product of primes below 2^27 (a residue number system); two or more, and the dimension follows;
* correctness is probabilistic, 2 exp(-9^2 / 2) a product, and checked for each key, as in `ipfe_lwe`.

Whoever holds n independent keys may be trusted no less than the authority: they determine S."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.coins import Coins, Stream, derive
from protocols.crypto.integers import core_svp
from protocols.crypto.integers.core_svp import Issued
from protocols.crypto.integers.modular import small_times_small
from protocols.crypto.integers.rings import (
    LARGEST,
    PRIMES,
    Words,
    lift,
    product,
    restored,
    rotations,
    transform,
)
from protocols.crypto.records import (
    Bounds,
    Ints,
    Record,
    Symbols,
    array,
    arrived,
    check_plain,
    fit,
    made_for,
    nbytes,
    number,
    record,
)
from protocols.language.errors import BoundError, MalformedError
from protocols.language.integers import signed_type

NAME = "rlwe"
SECURITY = (
    "selective IND-CPA under ring-LWE (d 2048 to 8192), 128 bit, with secrets so wide that keys say no more "
    "of them than products say of vectors; for the holder of fewer than n independent keys"
)

SMALLEST = 2048  # d; less is a toy for tests
SIGMA = 6.4  # of r and f_0, twice what the level needs: hints halve it
BITS = 128  # of mpk and ciphertexts alone
_HARD = SIGMA / 2
_REACH = 8.6  # deviations that a rounded Gaussian of 53-bit uniforms can have
_MARGIN = 18  # standard deviations of the noise that fit into Delta
_TAIL = 10  # expected standard deviations beyond which decryption takes the noise for that of a wrong key
_FAILURE_BITS = math.floor((_MARGIN**2 / 8 - math.log(2)) / math.log(2))
_GROWTH = 8  # how much longer than at first rows of W1 may become before a key is refused
_WIDEST = 36  # bits of sigma_1
_REMEDY = "lower --weight-scale, --weight-bound or --lr"


@record
class RlweParams(Record):
    """Bounds, the dimension d, how many primes make q, and sigma_1."""

    bounds: Bounds
    dimension: int = number("d", bits=14)
    moduli: int = number("L", bits=4)
    width: int = number(bits=_WIDEST)

    def further(self) -> Symbols:
        """Refuse what has no transform."""
        d = self.dimension
        if self.moduli > len(PRIMES) or d > LARGEST or d < 2 or d & (d - 1):
            raise MalformedError(f"RlweParams: no ring of dimension {d} with {self.moduli} primes")
        return {}

    @property
    def primes(self) -> tuple[int, ...]:
        return PRIMES[: self.moduli]

    @property
    def q(self) -> int:
        return math.prod(self.primes)

    @property
    def delta(self) -> int:
        """The factor of the message: the largest with Delta (4M + 2) < q, as in `ipfe_lwe`."""
        return (self.q - 1) // (4 * self.bounds.inner + 2)

    @property
    def mask(self) -> float:
        """sigma_3."""
        return 2 * self.width * SIGMA * math.sqrt(self.bounds.length * self.dimension)

    @property
    def unit_noise(self) -> float:
        """Expected standard deviation of the noise for a key of norm 1."""
        return math.hypot(self.mask, SIGMA * self.width * math.sqrt(2 * self.dimension))


@record
class RlwePublicKey(Record):
    """The seed from which a is expanded, and the b_i, both as transforms."""

    SHAPE = ("d", "n")
    params: RlweParams
    seed: bytes = nbytes(32)
    b: NDArray[np.uint32] = array("uint32", "L", "d", "n")


@record
class RlweMasterKey(Record):
    """The s_i, and `gram` = (<e_i, e_k>), from which the noise of a key is computed. Secret."""

    SHAPE = ("n", "d")
    params: RlweParams
    s: NDArray[np.int64] = array("int64", "n", "d", secret=True)
    gram: NDArray[np.float64] = array("float64", "n", "n", secret=True)


@record
class RlweCiphertext(Record):
    """ct_0 of every block; of every image its coefficients of ct_1, ..., ct_n, and which of ct_0 is its own:
    `at` counts the coefficients of all blocks.
    """

    SHAPE = ("N", "n")
    ROWS = ("c1",)
    c0: NDArray[np.uint32] = array("uint32", "blocks", "L", "d")
    c1: NDArray[np.uint32] = array("uint32", "N", "L", "n")
    at: NDArray[np.int32] = array("int32", "N")

    def further(self) -> Symbols:
        """Refuse images in no block, and blocks without an image."""
        if not np.array_equal(np.unique(self.at // self.c0.shape[2]), np.arange(len(self.c0))):
            raise MalformedError("RlweCiphertext: the images are not in these blocks")
        return {}


@record
class RlweFunctionKey(Record):
    """sk_y for the rows of y, both in the smallest type that holds their bound."""

    SHAPE = ("h", "n")
    y: Ints = array("int", "h", "n")
    sk: Ints = array("int", "h", "d")


def parameters(bounds: Bounds, issued: Issued | None = None, dimension: int = 0) -> RlweParams:
    """The smallest ring that carries these bounds, with secrets as wide as the keys of a run need, or as the
    paper has them; `BoundError` if none does. A `dimension` of its own is a toy.
    """
    longest = bounds.y * math.sqrt(bounds.length)
    norm = longest if issued is None or issued.norm is None else issued.norm
    for width in _widths(bounds, issued, norm):
        for moduli in range(2, len(PRIMES) + 1):
            smallest = SMALLEST << max(0, (moduli - 1).bit_length() - 1)
            params = RlweParams(bounds, dimension or smallest, moduli, width)
            if params.delta > _MARGIN * params.unit_noise * min(longest, _GROWTH * norm) and _fits(params):
                return params
    raise BoundError(
        f"inner products up to {bounds.inner} leave no room for the noise in any ring; {_REMEDY}"
    )


def _widths(bounds: Bounds, issued: Issued | None, norm: float) -> Iterator[int]:
    """sigma_1 for the number of keys that are issued in all; else in the first step; else as in the paper."""
    least = math.ceil(2 * _HARD * math.sqrt(bounds.length) * bounds.x)
    for keys in () if issued is None else (issued.total, issued.first):
        if keys < bounds.length:
            volume = core_svp.Column(bounds.length, keys, norm, 1.0).log2_volume / (bounds.length - keys)
            if volume < _WIDEST - 2:
                yield max(least, math.ceil(_HARD * 2**volume))
    yield least


def _fits(params: RlweParams) -> bool:
    """Whether exact products and secret keys fit their types."""
    bounds = params.bounds
    absolute = bounds.length * bounds.y
    return (
        params.width.bit_length() <= _WIDEST
        and absolute < 1 << 26
        and bounds.inner < 1 << 60
        and absolute * _REACH * params.width < 1 << 52
        and params.mask < 1 << 58
    )


def describe(params: RlweParams, issued: Issued | None = None) -> str:
    """Parameters and security level in one line; with the keys that a run issues, what they leave of it."""
    whole = f"{BITS} bit" if params.dimension >= SMALLEST else "toy"
    brief, told = core_svp.said(whole, issued, partial(level, params))
    return (
        f"rlwe, {whole}{brief}: {told}d {params.dimension}, q of {params.q.bit_length()} bits, sigma_1 "
        f"2^{math.log2(params.width):.1f}, sigma_2 {SIGMA}, sigma_3 2^{math.log2(params.mask):.1f} "
        f"(estimates, no joint proof); |<x, y>| <= {params.bounds.inner}, "
        f"Delta 2^{math.log2(params.delta):.1f}, error < 2^-{_FAILURE_BITS} a product"
    )


def level(params: RlweParams, keys: int, norm: float | None = None) -> int:
    """Bits that this many independent keys leave of the secrets, for vectors of length `norm`, else the
    longest that are allowed; no more than those of mpk alone. Keys narrow s_i and e_i alike.
    """
    bounds = params.bounds
    longest = bounds.y * math.sqrt(bounds.length)
    column = core_svp.Column(bounds.length, keys, longest if norm is None else norm, float(params.width))
    d, log2_q = max(params.dimension, SMALLEST), math.log2(params.q)

    def alone(deviation: float) -> int:
        narrow = min(deviation, _HARD)
        return core_svp.lwe_block_size(d, log2_q, narrow, narrow)

    return core_svp.left(column, BITS, alone)


def setup(params: RlweParams, coins: Coins) -> tuple[RlwePublicKey, RlweMasterKey]:
    """Draw the s_i and e_i."""
    d, n = params.dimension, params.bounds.length
    seed = coins.stream("rlwe public seed").bytes(32)
    s = coins.stream("rlwe s").rounded_gaussian(params.width, n, d)
    e = coins.stream("rlwe e").rounded_gaussian(params.width, n, d)
    a, b = expand(seed, params), np.empty((params.moduli, d, n), dtype=np.uint32)
    for k, p in enumerate(params.primes):
        b[k] = (a[k][:, None] * transform(s.T, p) + transform(e.T, p)) % np.uint64(p)
    noise = e.astype(np.float64)
    return RlwePublicKey(params, seed, b), RlweMasterKey(params, s, noise @ noise.T)


def check(mpk: RlwePublicKey, params: RlweParams) -> RlwePublicKey:
    """A public key that arrived, if it has these parameters and its words are residues."""
    made_for(mpk, RlwePublicKey, params)
    _check_residues(mpk.b.transpose(1, 0, 2), params)
    return mpk


def encrypt(mpk: RlwePublicKey, x: Ints, coins: Coins) -> RlweCiphertext:
    """Encrypt the rows of x (N, n), d of them with one r; `BoundError` beyond the bound on x."""
    params, n = mpk.params, mpk.params.bounds.length
    check_plain(x, (None, n), params.bounds.x, "x", "give the data's own maximum as bound")
    count, d, primes = len(x), params.dimension, params.primes
    secrets, errors, masks = (coins.stream(f"rlwe {name}") for name in ("r", "f0", "f"))
    a, blocks = expand(mpk.seed, params), -(-count // d)
    c0, c1 = np.empty((blocks, len(primes), d), np.uint32), np.empty((count, len(primes), n), np.uint32)
    for block in range(blocks):
        some = slice(block * d, min(count, (block + 1) * d))
        r, f0 = secrets.rounded_gaussian(SIGMA, d, 1), errors.rounded_gaussian(SIGMA, d)
        plain, f = x[some].astype(np.int64), masks.rounded_gaussian(params.mask, some.stop - some.start, n)
        for k, p in enumerate(primes):
            values = transform(r, p)
            c0[block, k] = (
                restored(a[k][:, None] * values % np.uint64(p), p)[:, 0].astype(np.int64) + f0
            ) % p
            ct = restored(mpk.b[k] * values % np.uint64(p), p)[: len(plain)].astype(np.int64)
            c1[some, k] = (ct + f % p + plain * (params.delta % p)) % p
    return RlweCiphertext(c0, c1, np.arange(count, dtype=np.int32))


def load(mpk: RlwePublicKey, ct: RlweCiphertext) -> RlweCiphertext:
    """Check that a ciphertext that arrived has the dimensions of the key, and that its words are residues."""
    arrived(ct, RlweCiphertext, mpk)
    _check_residues(ct.c0, mpk.params)
    _check_residues(ct.c1, mpk.params)
    return ct


def rows(ct: RlweCiphertext, start: int, stop: int) -> RlweCiphertext:
    """The images start, ..., stop - 1: their coefficients, and the blocks that they are in."""
    at, d = ct.at[start:stop], ct.c0.shape[2]
    used, block = np.unique(at // d, return_inverse=True)
    return replace(ct, c0=ct.c0[used], c1=ct.c1[start:stop], at=(block * d + at % d).astype(np.int32))


def concat(batches: Sequence[RlweCiphertext]) -> RlweCiphertext:
    """Batches of one instance, one after the other; a block that two share in a row is kept once."""
    first, c0, at = batches[0], list[Any](), list[Any]()
    shape = first.c0.shape[1:], first.c1.shape[1:]
    for ct in batches:
        if type(ct) is not RlweCiphertext or (ct.c0.shape[1:], ct.c1.shape[1:]) != shape:
            raise MalformedError(
                "batches of different groups, instances, lengths or states cannot be put together"
            )
        shared = bool(c0) and len(ct.c0) > 0 and np.array_equal(c0[-1], ct.c0[0])
        at.append(ct.at + (len(c0) - shared) * shape[0][1])
        c0 += list(ct.c0[int(shared) :])
    joined = np.stack(c0) if c0 else first.c0
    return RlweCiphertext(
        joined, np.concatenate([ct.c1 for ct in batches]), np.concatenate(at).astype(np.int32)
    )


def key_derive(msk: RlweMasterKey, y: Ints) -> RlweFunctionKey:
    """Keys for the rows of y (h, n); `BoundError` beyond the bound on y or where the noise would not fit."""
    params, bounds = msk.params, msk.params.bounds
    check_plain(y, (None, bounds.length), bounds.y, "y", _REMEDY)
    sk = small_times_small(y, msk.s)
    vectors = y.astype(np.float64)
    ey2 = np.einsum("ij,ij->i", vectors @ msk.gram, vectors)  # |e_y|^2
    sy2 = np.einsum("ij,ij->i", sk.astype(np.float64), sk.astype(np.float64))  # |sk_y|^2
    noise = np.sqrt(SIGMA**2 * (ey2 + sy2) + params.mask**2 * (vectors**2).sum(axis=1))
    if len(noise) and params.delta <= _MARGIN * noise.max():
        raise BoundError(
            f"the noise of the key for row {int(noise.argmax())} would not fit below Delta; {_REMEDY}"
        )
    return RlweFunctionKey(y.astype(signed_type(bounds.y)), sk.astype(_key_type(params)))


def decrypt(mpk: RlwePublicKey, sk: RlweFunctionKey, ct: RlweCiphertext) -> NDArray[np.int64]:
    """Inner products (N, h), exact.

    `BoundError` if one exceeds the bound, or if the noise exceeds 10 times what the public parameters say of
    it for a key of this length: see `ipfe_lwe.decrypt`, whose probabilities are these, as f_i are nearly all
    of the noise and independent of S and E.
    """
    load(mpk, ct)
    fit(sk, RlweFunctionKey, mpk)
    bounds = mpk.params.bounds
    check_plain(sk.y, sk.shape, bounds.y, "y of a function key", "it is of other parameters")
    norms = np.sqrt((sk.y.astype(np.float64) ** 2).sum(axis=1))
    return _round(_noisy(mpk.params, ct, sk.y, sk.sk), mpk.params, bounds.inner, norms)


def check_master_key(mpk: RlwePublicKey, s: NDArray[Any]) -> bool:
    """Whether s (n, d) explains the public key: no other short s leaves every b_i - a s_i short."""
    params, reach = mpk.params, _TAIL * mpk.params.width
    if s.shape != (params.bounds.length, params.dimension) or np.abs(s).max(initial=0) > reach:
        return False
    a, rest = expand(mpk.seed, params), []
    for k, p in enumerate(params.primes):
        product_ = a[k][:, None] * transform(s.T, p) % np.uint64(p)
        rest.append(restored((mpk.b[k] + np.uint64(p) - product_) % np.uint64(p), p).astype(np.int64))
    return bool((np.abs(lift(rest, params.primes)) < reach).all())


def open_with_master_key(mpk: RlwePublicKey, s: NDArray[Any], ct: RlweCiphertext) -> NDArray[np.int64]:
    """The encrypted vectors (N, n) themselves: keys for all unit vectors are the rows of s."""
    load(mpk, ct)
    n = mpk.params.bounds.length
    noisy = _noisy(mpk.params, ct, np.eye(n, dtype=np.int64), s)
    return _round(noisy, mpk.params, mpk.params.bounds.x, np.ones(n))


@lru_cache(maxsize=4)
def expand(seed: bytes, params: RlweParams) -> Words:
    """The transform of a (L, d) from its public seed; a stream of its own, keyed by nothing secret."""
    stream = Stream(derive(seed, "rlwe a"))
    a = np.array([stream.below(p, params.dimension) for p in params.primes], dtype=np.uint64)
    a.flags.writeable = False
    return a


def _noisy(params: RlweParams, ct: RlweCiphertext, y: Ints, sk: Ints) -> NDArray[Any]:
    """sum_i y_i ct_i - ct_0 sk_y at the places of the images, (N, h), within +-q / 2."""
    d, residues = params.dimension, []
    for k, p in enumerate(params.primes):
        found = product(ct.c1[:, k], y.T, p)
        for block in range(len(ct.c0)):
            (here,) = np.nonzero(ct.at // d == block)
            found[here] -= product(rotations(ct.c0[block, k], ct.at[here] % d, p), sk.T, p)
        residues.append(found % p)
    return lift(residues, params.primes)


def _round(
    noisy: NDArray[Any], params: RlweParams, bound: int, norms: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The nearest multiples of Delta, after checking bound and noise; `norms` (h,) are those of the keys."""
    z = (noisy + params.delta // 2) // params.delta
    rest = (noisy - z * params.delta).astype(np.float64)
    found: NDArray[np.int64] = z.astype(np.int64)
    if np.abs(found).max(initial=0) > bound:
        raise BoundError(f"an inner product exceeds the bound {bound}, or the key is of another instance")
    if (np.abs(rest) > _TAIL * params.unit_noise * norms).any():
        raise BoundError(
            "the noise of an inner product is too large: the key or the ciphertext is of another instance"
        )
    return found


def _key_type(params: RlweParams) -> np.dtype[Any]:
    """The type of sk_y: by the bounds alone, so that it says nothing of a secret."""
    return signed_type(math.ceil(params.bounds.length * params.bounds.y * _REACH * params.width))


def _check_residues(words: NDArray[np.uint32], params: RlweParams) -> None:
    """Refuse words (any, L, any) that are no residues of their primes."""
    if (words >= np.array(params.primes, dtype=np.uint32)[None, :, None]).any():
        raise MalformedError("a word is no residue of its prime")
