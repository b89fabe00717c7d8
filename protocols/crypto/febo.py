"""Functional encryption for basic operations: difference or sum of a ciphertext's integer and a known one.

R. Xu, J. Joshi, C. Li, *CryptoNN: Training Neural Networks over Encrypted Data*, ICDCS 2019
(arXiv:1904.07303), section III, operations + and -. In a group of prime order q with generator g:

    Setup       s uniform mod q, h = g^s                            mpk = h, msk = s
    Encrypt     r uniform mod q, cmt = g^r, ct = h^r g^x
    KeyDer      of (cmt, -, y): cmt^s g^y;  of (cmt, +, y): cmt^s g^{-y}
    Decrypt     ct / sk = g^{x - y} or g^{x + y}, then a bounded discrete logarithm

Security: IND-CPA under DDH for elements without a key (a ciphertext is ElGamal's, with x in the exponent). A
key opens its element to whoever knows y, and the authority can open everything. A key fits its own commitment
only.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.coins import Coins
from protocols.crypto.groups import dlog
from protocols.crypto.groups.elements import from_bytes, to_bytes
from protocols.crypto.groups.named import GROUPS, get_group, group_sizes
from protocols.crypto.records import (
    Ints,
    Record,
    Wire,
    array,
    check_plain,
    fit,
    made_for,
    named,
    number,
    record,
)
from protocols.crypto.records import concat as concat
from protocols.crypto.records import rows as rows
from protocols.language.errors import BoundError, MalformedError

NAME = "febo"
SECURITY = "IND-CPA under DDH without keys; a key opens its element to its holder, the authority opens all"


class Operation(Enum):
    """What a key computes with the encrypted x and its y; the value is the operation's sign on the wire."""

    SUB = "-"
    ADD = "+"


@record
class FeboParams(Record):
    """|x| <= `x` in ciphertexts, |y| <= `y` in keys, in the group called `group`."""

    x: int = number()
    y: int = number()
    group: str = named(GROUPS, group_sizes)

    @property
    def result(self) -> int:
        """Bound on |x - y| and |x + y|."""
        return self.x + self.y


@record
class FeboPublicKey(Record):
    """h."""

    params: FeboParams
    h: Wire = array("uint8", "element")


@record
class FeboMasterKey(Record):
    """s, big-endian. Secret."""

    params: FeboParams
    s: Wire = array("uint8", "scalar", secret=True)


@record
class FeboCiphertext(Record):
    """cmt and ct of every entry of a matrix (N, k)."""

    SHAPE = ("N", "k")
    ROWS = ("commitments", "values")
    group: str = named(GROUPS, group_sizes)
    commitments: Wire = array("uint8", "N", "k", "element")
    values: Wire = array("uint8", "N", "k", "element")


@record
class FeboKey(Record):
    """One key per entry of a matrix (N, k), for the operation whose sign is `operation`."""

    SHAPE = ("N", "k")
    group: str = named(GROUPS, group_sizes)
    operation: str = named(tuple(op.value for op in Operation))
    keys: Wire = array("uint8", "N", "k", "element")


def parameters(x: int, y: int, group: str = "secp256k1") -> FeboParams:
    """Parameters for |x|, |y| up to these bounds; `BoundError` beyond the reach of the discrete logarithm."""
    if x + y > dlog.MAX_BOUND:
        raise BoundError(f"results up to {x + y} exceed the discrete-logarithm limit {dlog.MAX_BOUND}")
    return FeboParams(x, y, group)


def describe(params: FeboParams) -> str:
    """One line for reports: group, level, assumption."""
    G = get_group(params.group)
    return f"febo in {G.name}, about {G.security_bits} bit, IND-CPA under {G.assumption}"


def setup(params: FeboParams, coins: Coins) -> tuple[FeboPublicKey, FeboMasterKey]:
    """Draw s."""
    G = get_group(params.group)
    s = G.draw(coins.stream("febo setup"), 1)
    h = (G.g**s)[0]
    return FeboPublicKey(params, h.encode()), FeboMasterKey(params, to_bytes(s, G.scalar_bytes)[0])


def check(mpk: FeboPublicKey, params: FeboParams) -> FeboPublicKey:
    """A public key that arrived, if it has these parameters and h is a group element."""
    get_group(params.group).decode(made_for(mpk, FeboPublicKey, params).h)
    return mpk


def encrypt(mpk: FeboPublicKey, x: Ints, coins: Coins) -> FeboCiphertext:
    """Encrypt every entry of x (N, k), each with an r of its own; `BoundError` beyond the bound on x."""
    G, bound = get_group(mpk.params.group), mpk.params.x
    check_plain(x, (None, None), bound, "x", "derive parameters for larger entries")
    h, r = G.decode(mpk.h), G.draw(coins.stream("febo encrypt"), *x.shape)
    cmt = G.g**r
    ct = h**r * G.small(x, bound)
    return FeboCiphertext(G.name, cmt.encode(), ct.encode())


def key_derive(msk: FeboMasterKey, commitments: Wire, operation: Operation, y: Ints) -> FeboKey:
    """One key per entry of y (N, k), for the commitment (N, k, nbytes) at the same place.

    Raises `BoundError` beyond the bound on y, `MalformedError` for a commitment that is no group element.
    """
    G, bound = get_group(msk.params.group), msk.params.y
    check_plain(y, (None, None), bound, "y", "derive parameters for larger entries")
    cmt = G.decode(commitments)  # a point off the curve would leak s: checked here
    if cmt.shape != y.shape:
        raise MalformedError(f"a febo key request has commitments {cmt.shape} for y {y.shape}")
    (s,), sign = from_bytes(msk.s[None]), 1 if operation is Operation.SUB else -1
    sk = cmt**s * G.small(sign * y.astype(np.int64), bound)
    return FeboKey(G.name, operation.value, sk.encode())


def decrypt(mpk: FeboPublicKey, key: FeboKey, ct: FeboCiphertext) -> NDArray[np.int64]:
    """x - y or x + y (N, k), exact.

    Raises `BoundError` if a result exceeds the bounds, as with a key for another element or of another
    instance (such a key gives a random element: it passes with probability (2 bound + 1) / q),
    `MalformedError` for what is no group element.
    """
    fit(key, FeboKey, mpk)
    fit(ct, FeboCiphertext, mpk)
    if key.shape != ct.shape:
        raise MalformedError(f"febo keys {key.shape} do not fit ciphertexts {ct.shape}")
    G = get_group(mpk.params.group)
    return dlog.solve(G.decode(ct.values) / G.decode(key.keys), mpk.params.result)
