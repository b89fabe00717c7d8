"""Function-hiding inner-product encryption: neither the ciphertext nor the key shows its vector.

S. Kim, K. Lewi, A. Mandal, H. Montgomery, A. Roy, D. Wu, *Function-Hiding Inner Product Encryption is
Practical*, SCN 2018 (eprint 2016/440), section 3. In a pairing e: G1 x G2 -> GT of prime order q with
generators g1, g2:

    Setup       B uniform in GL_n(Z_q), B* = det(B) (B^-1)^T     msk = (B, B*, det B)
    KeyDer      alpha uniform, nonzero                           sk = (g1^{alpha det B}, g1^{alpha y B})
    Encrypt     beta uniform, nonzero                            ct = (g2^beta, g2^{beta x B*})
    Decrypt     D1 = e(sk_0, ct_0), D2 = prod_i e(sk_i, ct_i)    z with D1^z = D2, |z| <= n x_max y_max

Security: keys and ciphertexts can be simulated from the inner products alone, in the generic bilinear group
model; no proof from a standard assumption is known. The level is that of the pairing: BN254 about 100 bit,
BLS12-381 about 120. It is a secret-key scheme: who holds msk (the authority and the owner) opens everything.
What it does not hide: the inner products of every key with every ciphertext, and whether a vector is zero
(all of its elements but the first are neutral then).

Deviations from the paper: the decryptor accepts |z| up to the bounds, by a discrete logarithm from zero
outwards, where the paper tests a polynomial set; alpha and beta are not zero, where the paper lets them be
with probability 1/q; every instance has a random public tag, so that keys and ciphertexts of two instances
are told apart before the mathematics does. g1 and g2 are fixed.

The base of the logarithm differs for every key and ciphertext, so that each product needs D1 and a table of
its own. The scheme with a fixed base of Ojaswi et al., CiC 2025 (doi 10.62056/abe0zo-3y), is not used: D1 and
the logarithm are 8% of a product at n = 64, which is all that a fixed base could save.

Medians on one core of a Xeon at 2.5 GHz whose other core is busy, BN254, n = 64: a product 7.0 ms in a grid
of 8 x 16 or more, of which D1 .33, the final exponentiation .13 and the logarithm .25 (|z| around 1300; 5 ms
at 2^18), and 9 ms on its own. A vector takes 2.9 ms to encrypt and 9.7 to load (the subgroup check of G2), a
key 2.1 ms to derive and .5 to load. BLS12-381: a product 40 ms, a vector 9 and 7.3, a key 4.0 and 5.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from flint import fmpz_mod_ctx, fmpz_mod_mat
from numpy.typing import NDArray

from protocols.crypto.coins import Coins
from protocols.crypto.groups import workers as pool
from protocols.crypto.groups.elements import Raw, Wire, to_bytes
from protocols.crypto.groups.named import PAIRINGS, get_pairing, pairing_sizes
from protocols.crypto.groups.pairing import Target, logarithms
from protocols.crypto.records import (
    Bounds,
    Ints,
    Loaded,
    Record,
    array,
    arrived,
    check_plain,
    fit,
    loaded,
    made_for,
    named,
    nbytes,
    record,
)
from protocols.crypto.records import concat as concat
from protocols.crypto.records import rows as rows
from protocols.language.errors import BoundError, MalformedError

NAME = "fhipe"
SECURITY = (
    "simulation secure and function hiding in the generic bilinear group model; who holds the master key "
    "(authority and owner) opens all, who holds keys and ciphertexts learns every inner product between them"
)
MAX_BOUND = 1 << 30  # half a million multiplications in GT for the largest z: seconds
_TAG = 16  # bytes
_KEYS, _CIPHERTEXTS = 8, 16  # the grid of products is cut into pieces of this size, one a thread


@record
class FhipeParams(Record):
    """Vectors within `bounds`, in the pairing called `group`."""

    bounds: Bounds
    group: str = named(PAIRINGS, pairing_sizes)


@record
class FhipePublicParams(Record):
    """What everybody knows of an instance: its parameters and its random tag."""

    params: FhipeParams
    tag: bytes = nbytes(_TAG, tag=True)


@record
class FhipeMasterKey(Record):
    """B, B* and det B, big-endian. Secret."""

    SHAPE = ("n", "n")
    params: FhipeParams
    tag: bytes = nbytes(_TAG, tag=True)
    b: Wire = array("uint8", "n", "n", "scalar", secret=True)
    b_star: Wire = array("uint8", "n", "n", "scalar", secret=True)
    det: Wire = array("uint8", "scalar", secret=True)


@record
class FhipeFunctionKey(Record):
    """g1^{alpha det B}, g1^{alpha y B} of every row; y is not here."""

    SHAPE = ("h", "n")
    ROWS = ("elements",)
    group: str = named(PAIRINGS, pairing_sizes)
    tag: bytes = nbytes(_TAG, tag=True)
    elements: Wire = array("uint8", "h", "n+1", "g1")


@record
class FhipeCiphertext(Record):
    """g2^beta, g2^{beta x B*} of every row."""

    SHAPE = ("N", "n")
    ROWS = ("elements",)
    group: str = named(PAIRINGS, pairing_sizes)
    tag: bytes = nbytes(_TAG, tag=True)
    elements: Wire = array("uint8", "N", "n+1", "g2")


def parameters(bounds: Bounds, group: str = "bn254") -> FhipeParams:
    """Parameters for `bounds`; raises `BoundError` if the discrete logarithm would be out of reach."""
    if bounds.inner > MAX_BOUND:
        raise BoundError(
            f"inner products up to {bounds.inner} exceed the discrete-logarithm limit {MAX_BOUND} of fhipe; "
            "lower the weight scale or the weight bound, or use smaller images"
        )
    return FhipeParams(bounds, group)


def describe(params: FhipeParams) -> str:
    """One line for reports: group, level, notion, assumption."""
    pairing = get_pairing(params.group)
    return (
        f"fhipe in {pairing.name}, about {pairing.security_bits} bit, simulation secure and function hiding "
        "in the generic bilinear group model"
    )


def setup(params: FhipeParams, coins: Coins) -> tuple[FhipePublicParams, FhipeMasterKey]:
    """Draw B, and compute B* and det B once."""
    pairing, n = get_pairing(params.group), params.bounds.length
    stream, det = coins.stream("fhipe setup"), 0
    while not det:  # uniform in GL_n: a uniform matrix, drawn again with probability about 1/q
        entries = stream.below(pairing.order, n * n)
        b = fmpz_mod_mat(n, n, entries, fmpz_mod_ctx(pairing.order))
        det = int(b.det())
    b_star = [int(v) for v in (b.inv().transpose() * det).entries()]
    tag, size = coins.stream("fhipe tag").bytes(_TAG), pairing.scalar_bytes
    first, second = (to_bytes(v, size).reshape(n, n, size) for v in (entries, b_star))
    msk = FhipeMasterKey(params, tag, first, second, to_bytes([det], size)[0])
    return FhipePublicParams(params, tag), msk


def check(pp: FhipePublicParams, params: FhipeParams) -> FhipePublicParams:
    """Public parameters that arrived, if they are these parameters."""
    return made_for(pp, FhipePublicParams, params)


def check_msk(msk: FhipeMasterKey, params: FhipeParams) -> FhipeMasterKey:
    """A master key that arrived, if it has these parameters."""
    return made_for(msk, FhipeMasterKey, params)


def key_derive(msk: FhipeMasterKey, y: Ints, coins: Coins) -> FhipeFunctionKey:
    """A key for every row of y (h, n), each with an alpha of its own; `BoundError` beyond `bounds.y`."""
    pairing, bounds = get_pairing(msk.params.group), msk.params.bounds
    check_plain(y, (None, bounds.length), bounds.y, "y", "lower the weight scale, or raise the weight bound")
    alpha = _nonzero(coins, "fhipe key_derive", pairing.order, len(y))
    exponents = alpha * np.insert(_times(y, msk.b), 0, int.from_bytes(msk.det.tobytes(), "big"), axis=1)
    return FhipeFunctionKey(pairing.name, msk.tag, pairing.exp_g1(exponents))


def encrypt(msk: FhipeMasterKey, x: Ints, coins: Coins) -> FhipeCiphertext:
    """Encrypt the rows of x (N, n), each with a beta of its own; raises `BoundError` beyond `bounds.x`."""
    pairing, bounds = get_pairing(msk.params.group), msk.params.bounds
    check_plain(x, (None, bounds.length), bounds.x, "x", "derive parameters for larger entries")
    beta = _nonzero(coins, "fhipe encrypt", pairing.order, len(x))
    exponents = beta * np.insert(_times(x, msk.b_star), 0, 1, axis=1)
    return FhipeCiphertext(pairing.name, msk.tag, pairing.exp_g2(exponents))


def load(pp: FhipePublicParams, ct: FhipeCiphertext) -> Loaded:
    """Validate every element of a ciphertext that arrived; raises `MalformedError`."""
    _check_first(arrived(ct, FhipeCiphertext, pp))
    return loaded(ct, get_pairing(ct.group).decode_g2(ct.elements))


def load_key(pp: FhipePublicParams, sk: FhipeFunctionKey) -> Loaded:
    """Validate every element of a key that arrived; raises `MalformedError`."""
    _check_first(arrived(sk, FhipeFunctionKey, pp))
    return loaded(sk, get_pairing(sk.group).decode_g1(sk.elements))


def decrypt(
    pp: FhipePublicParams, sk: FhipeFunctionKey | Loaded, ct: FhipeCiphertext | Loaded, workers: int = 1
) -> NDArray[np.int64]:
    """The inner products (N, h), exact, on `workers` threads; what was not loaded is validated first.

    Raises `BoundError` if one exceeds `bounds.inner`, as with a key or a ciphertext of another instance.
    """
    fit(sk, FhipeFunctionKey, pp)
    fit(ct, FhipeCiphertext, pp)
    keys: Raw = (sk if isinstance(sk, Loaded) else load_key(pp, sk)).elements
    cts: Raw = (ct if isinstance(ct, Loaded) else load(pp, ct)).elements
    bound, result = pp.params.bounds.inner, np.zeros((len(cts), len(keys)), dtype=np.int64)
    blocks = list(product(_blocks(len(keys), _KEYS), _blocks(len(cts), _CIPHERTEXTS)))
    with get_pairing(pp.params.group).target() as target:

        def task(block: tuple[slice, slice]) -> bool:
            some, others = block
            z, found = _open(target, keys[some], cts[others], bound)
            result[others, some] = z.T  # blocks do not overlap
            return bool(found.all())

        complete = pool.spread(task, blocks, workers)
    if not all(complete):
        raise BoundError(
            f"an inner product lies outside [-{bound}, {bound}]: the key and the ciphertext do not belong "
            "together, or the values exceed the bounds of the parameters"
        )
    return result


def _open(target: Target, sk: Raw, ct: Raw, bound: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The inner products (h, N) and which were found."""
    d1 = target.products(sk[:, :1], ct[:, :1])
    d2 = target.products(sk[:, 1:], ct[:, 1:])
    width = d1.shape[-1]
    z, found = logarithms(target, d1.reshape(-1, width), d2.reshape(-1, width), bound)
    return z.reshape(d1.shape[:2]), found


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _nonzero(coins: Coins, purpose: str, order: int, count: int) -> NDArray[Any]:
    """A column (count, 1) of exponents that are uniform and not zero."""
    return np.array([v + 1 for v in coins.stream(purpose).below(order - 1, count)], dtype=object)[:, None]


def _times(small: Ints, matrix: Wire) -> NDArray[Any]:
    """small (N, n) @ matrix (n, n, scalar bytes, big-endian) over the integers, (N, n) as Python's integers.

    By float64 products of 16-bit limbs: sums stay below 2^16 n max|small| <= 2^46, so they are exact.
    """
    limbs = np.ascontiguousarray(matrix).view(">u2").astype(np.float64)
    n, _, count = limbs.shape
    sums = (small.astype(np.float64) @ limbs.reshape(n, -1)).astype(np.int64).reshape(-1, n, count)
    total = np.zeros(sums.shape[:2], dtype=object)
    for place in range(count):
        total = total * 65536 + sums[:, :, place]
    return total


def _check_first(batch: FhipeCiphertext | FhipeFunctionKey) -> None:
    if not batch.elements[:, 0].any(axis=1).all():  # the neutral element is all zero on the wire
        raise MalformedError(f"{type(batch).__name__}: the first element of a vector is neutral")
