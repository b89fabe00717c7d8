"""Inner-product functional encryption from DDH.

M. Abdalla, F. Bourse, A. De Caro, D. Pointcheval, *Simple Functional Encryption Schemes for Inner Products*,
PKC 2015 (eprint 2015/017), section 3. In a group of prime order q with generator g, multiplicatively as in
the paper:

    Setup       s_i uniform mod q, h_i = g^{s_i}                    mpk = (h_i), msk = s
    Encrypt     r uniform mod q, ct_0 = g^r, ct_i = h_i^r g^{x_i}
    KeyDer      sk_y = <s, y> mod q
    Decrypt     prod_i ct_i^{y_i} / ct_0^{sk_y} = g^{<x, y>}, then a discrete logarithm up to n x_max y_max

Keys are linear and stateless: whoever holds n independent ones computes s, and opens everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.coins import Coins
from protocols.crypto.groups import dlog
from protocols.crypto.groups.elements import Elements, from_bytes, to_bytes
from protocols.crypto.groups.named import GROUPS, get_group, group_sizes
from protocols.crypto.integers.core_svp import Issued
from protocols.crypto.records import (
    Bounds,
    Ints,
    Loaded,
    Record,
    Wire,
    array,
    arrived,
    check_plain,
    fit,
    loaded,
    made_for,
    named,
    record,
)
from protocols.crypto.records import concat as concat
from protocols.crypto.records import rows as rows
from protocols.language.errors import BoundError, MalformedError
from protocols.language.integers import signed_type

NAME = "ddh"
SECURITY = (
    "selective IND-CPA under DDH in the group; who holds n independent keys, or a key authority, opens all"
)


@record
class DdhParams(Record):
    """Vectors within `bounds`, in the group called `group`."""

    bounds: Bounds
    group: str = named(GROUPS, group_sizes)


@record
class DdhPublicKey(Record):
    """The h_i."""

    SHAPE = ("n",)
    params: DdhParams
    h: Wire = array("uint8", "n", "element")


@record
class DdhMasterKey(Record):
    """The s_i, big-endian. Secret."""

    SHAPE = ("n",)
    params: DdhParams
    s: Wire = array("uint8", "n", "scalar", secret=True)


@record
class DdhCiphertext(Record):
    """ct_0, ct_1, ..., ct_n of every vector."""

    SHAPE = ("N", "n")
    ROWS = ("elements",)
    group: str = named(GROUPS, group_sizes)
    elements: Wire = array("uint8", "N", "n+1", "element")


@record
class DdhFunctionKey(Record):
    """`y` in the smallest type that holds its bound, `sk`: <s, y> mod q, big-endian."""

    SHAPE = ("h", "n")
    group: str = named(GROUPS, group_sizes)
    y: Ints = array("int", "h", "n")
    sk: Wire = array("uint8", "h", "scalar")


def parameters(bounds: Bounds, group: str = "secp256k1") -> DdhParams:
    """Parameters for `bounds`; raises `BoundError` if the discrete logarithm would be out of reach."""
    if bounds.inner > dlog.MAX_BOUND:
        raise BoundError(
            f"inner products up to {bounds.inner} exceed the discrete-logarithm limit {dlog.MAX_BOUND}; "
            "lower the weight scale or the weight bound, or choose the scheme lwe"
        )
    return DdhParams(bounds, group)


def describe(params: DdhParams, issued: Issued | None = None) -> str:
    """One line for reports: group, level, assumption; with the keys that a run issues, when they are all of
    s.

    s is uniform mod q: k < n independent keys leave n - k of its dimensions as they were.
    """
    G = get_group(params.group)
    line = f"ddh in {G.name}, about {G.security_bits} bit, selective IND-CPA under {G.assumption}"
    if issued is None or issued.total < params.bounds.length:
        return line
    return f"{line}; the {issued.total} independent keys of the run give the master key: nothing is left"


def setup(params: DdhParams, coins: Coins) -> tuple[DdhPublicKey, DdhMasterKey]:
    """Draw s."""
    G = get_group(params.group)
    s = G.draw(coins.stream("ddh setup"), params.bounds.length)
    h = G.g**s
    return DdhPublicKey(params, h.encode()), DdhMasterKey(params, to_bytes(s, G.scalar_bytes))


def check(mpk: DdhPublicKey, params: DdhParams) -> DdhPublicKey:
    """A public key that arrived, if it has these parameters and every h_i is a group element."""
    get_group(params.group).decode(made_for(mpk, DdhPublicKey, params).h)
    return mpk


def encrypt(mpk: DdhPublicKey, x: Ints, coins: Coins) -> DdhCiphertext:
    """Encrypt the rows of x (N, n), each with an r of its own; raises `BoundError` beyond `bounds.x`."""
    G, bounds = get_group(mpk.params.group), mpk.params.bounds
    check_plain(x, (None, bounds.length), bounds.x, "x", "derive parameters for larger entries")
    h, r = G.decode(mpk.h), G.draw(coins.stream("ddh encrypt"), len(x), 1)
    ct_0 = G.g**r
    ct = h**r * G.small(x, bounds.x)
    return DdhCiphertext(G.name, np.concatenate([ct_0.encode(), ct.encode()], axis=1))


def part(mpk: DdhPublicKey, start: int, stop: int) -> DdhPublicKey:
    """The public key of the entries start, ..., stop - 1, for one of several who encrypt a vector in slices.

    That their slices are one ciphertext takes the same r: coins that they share (`shared`).
    """
    bounds = replace(mpk.params.bounds, length=stop - start)
    return DdhPublicKey(replace(mpk.params, bounds=bounds), mpk.h[start:stop])


def join(mpk: DdhPublicKey, parts: Sequence[DdhCiphertext]) -> DdhCiphertext:
    """The slices of vectors, in order, as whole ciphertexts; `MalformedError` if r or sizes differ."""
    for each in parts:
        if type(each) is not DdhCiphertext:
            raise MalformedError(f"expected DdhCiphertext, got {type(each).__name__}")
        if not np.array_equal(each.elements[:, 0], parts[0].elements[:, 0]):
            raise MalformedError("slices of a ciphertext have different ct_0")
    slices = [parts[0].elements[:, :1], *(each.elements[:, 1:] for each in parts)]
    return arrived(DdhCiphertext(parts[0].group, np.concatenate(slices, axis=1)), DdhCiphertext, mpk)


def key_derive(msk: DdhMasterKey, y: Ints) -> DdhFunctionKey:
    """One key for every row of y (h, n); raises `BoundError` beyond `bounds.y`."""
    G, bounds = get_group(msk.params.group), msk.params.bounds
    check_plain(y, (None, bounds.length), bounds.y, "y", "lower the weight scale, or raise the weight bound")
    s = np.array(from_bytes(msk.s), dtype=object)
    sk = y.astype(object) @ s % G.order
    return DdhFunctionKey(G.name, y.astype(signed_type(bounds.y)), to_bytes(sk, G.scalar_bytes))


def load(mpk: DdhPublicKey, ct: DdhCiphertext) -> Loaded:
    """Validate every element of a ciphertext that arrived; raises `MalformedError`."""
    arrived(ct, DdhCiphertext, mpk)
    return loaded(ct, get_group(ct.group).decode(ct.elements))


def decrypt(mpk: DdhPublicKey, sk: DdhFunctionKey, ct: DdhCiphertext | Loaded) -> NDArray[np.int64]:
    """The inner products (N, h), exact; a ciphertext that was not loaded is validated first.

    Raises `BoundError` if one exceeds `bounds.inner`, as with a key or a ciphertext of another instance.
    """
    bounds, (ct_0, ct_i) = mpk.params.bounds, _opened(mpk, ct)
    fit(sk, DdhFunctionKey, mpk)
    check_plain(sk.y, sk.shape, bounds.y, "y of a function key", "the key was made for other parameters")
    return dlog.solve(ct_i @ sk.y.T / ct_0 ** from_bytes(sk.sk), bounds.inner)


def master_key(params: DdhParams, s: Sequence[int]) -> DdhMasterKey:
    """The master key made of the integers s (n) mod q, right or not: `check_master_key` tells."""
    G = get_group(params.group)
    return DdhMasterKey(params, to_bytes([v % G.order for v in s], G.scalar_bytes))


def check_master_key(mpk: DdhPublicKey, s: Sequence[int]) -> bool:
    """Whether g^{s_i} = h_i for all i: true only for the master key of `mpk` (mod q)."""
    G = get_group(mpk.params.group)
    return len(s) == len(mpk.h) and bool(np.array_equal((G.g**s).encode(), mpk.h))


def open_with_master_key(
    mpk: DdhPublicKey, msk: DdhMasterKey, ct: DdhCiphertext | Loaded
) -> NDArray[np.int64]:
    """The vectors (N, n) themselves, as ct_i / ct_0^{s_i} = g^{x_i}; `BoundError` for another instance's."""
    ct_0, ct_i = _opened(mpk, ct)
    made_for(msk, DdhMasterKey, mpk.params)
    return dlog.solve(ct_i / ct_0 ** from_bytes(msk.s), mpk.params.bounds.x)


def open_with_coins(mpk: DdhPublicKey, coins: Coins, ct: DdhCiphertext) -> NDArray[np.int64]:
    """The vectors (N, n) themselves for whoever holds the coins of `encrypt`: ct_i / h_i^r = g^{x_i}."""
    G, (_, ct_i) = get_group(mpk.params.group), _opened(mpk, ct)
    r = G.draw(coins.stream("ddh encrypt"), len(ct_i), 1)
    return dlog.solve(ct_i / G.decode(mpk.h) ** r, mpk.params.bounds.x)


def _opened(mpk: DdhPublicKey, ct: DdhCiphertext | Loaded) -> tuple[Elements, Elements]:
    """ct_0 (N, 1) and ct_i (N, n) of a ciphertext, loaded or not."""
    fit(ct, DdhCiphertext, mpk)
    elements: Elements = (ct if isinstance(ct, Loaded) else load(mpk, ct)).elements
    return elements[:, :1], elements[:, 1:]
