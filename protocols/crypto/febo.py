"""Functional encryption for basic operations: the difference or the sum of a ciphertext's integer and a known one.

R. Xu, J. Joshi, C. Li, *CryptoNN: Training Neural Networks over Encrypted Data*, ICDCS 2019 (arXiv:1904.07303), section
III, operations + and -. In a group of prime order q with generator g:

    Setup       s uniform mod q, h = g^s                            mpk = h, msk = s
    Encrypt     r uniform mod q, cmt = g^r, ct = h^r g^x
    KeyDer      of (cmt, -, y): cmt^s g^y;  of (cmt, +, y): cmt^s g^{-y}
    Decrypt     ct / sk = g^{x - y} or g^{x + y}, then a bounded discrete logarithm

Security: IND-CPA under DDH for elements without a key (a ciphertext is ElGamal's, with x in the exponent). A key opens
its element to whoever knows y, and the authority can open everything. A key fits its own commitment only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.coins import Coins
from protocols.crypto.groups import dlog
from protocols.crypto.groups.elements import Wire, check_wire, from_bytes, to_bytes
from protocols.crypto.groups.named import GROUPS, get_group
from protocols.crypto.records import Ints, check_range
from protocols.language.errors import BoundError, MalformedError
from protocols.language.message import wire

NAME = "febo"
SECURITY = "IND-CPA under DDH without keys; a key opens its element to its holder, the authority opens all"


class Operation(Enum):
    """What a key computes with the encrypted x and its y; the value is the operation's sign on the wire."""

    SUB = "-"
    ADD = "+"


@wire
@dataclass(frozen=True)
class FeboParams:
    """|x| <= `x` in ciphertexts, |y| <= `y` in keys, in the group called `group`."""

    x: int
    y: int
    group: str

    def __post_init__(self) -> None:
        if not all(type(bound) is int and bound > 0 for bound in (self.x, self.y)):
            raise MalformedError("the bounds of febo parameters are two positive integers")
        _check_name(self.group)

    @property
    def result(self) -> int:
        """Bound on |x - y| and |x + y|."""
        return self.x + self.y


@wire
@dataclass(frozen=True)
class FeboPublicKey:
    """`h` (nbytes,): g^s as it crosses; checked when it is used."""

    params: FeboParams
    h: Wire

    def __post_init__(self) -> None:
        _check_params(self.params)
        check_wire(self.h, (get_group(self.params.group).nbytes,), 1, "a febo public key")

    @property
    def shape(self) -> tuple[int, ...]:
        return ()


@wire
@dataclass(frozen=True)
class FeboMasterKey:
    """`s` (scalar bytes,): big-endian. Secret."""

    params: FeboParams
    s: Wire = field(repr=False)

    def __post_init__(self) -> None:
        _check_params(self.params)
        check_wire(self.s, (get_group(self.params.group).scalar_bytes,), 1, "a febo master key")

    @property
    def shape(self) -> tuple[int, ...]:
        return ()


@wire
@dataclass(frozen=True)
class FeboCiphertext:
    """`commitments` and `values` (N, k, nbytes): cmt and ct of every entry of a matrix (N, k)."""

    group: str
    commitments: Wire
    values: Wire

    def __post_init__(self) -> None:
        _check_name(self.group)
        nbytes = get_group(self.group).nbytes
        check_wire(self.commitments, (nbytes,), 3, "the commitments of a febo ciphertext")
        check_wire(self.values, self.commitments.shape, 3, "the values of a febo ciphertext")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.commitments.shape[:2]


@wire
@dataclass(frozen=True)
class FeboKey:
    """`keys` (N, k, nbytes): one key per entry, for the operation whose sign is `operation`."""

    group: str
    operation: str
    keys: Wire

    def __post_init__(self) -> None:
        _check_name(self.group)
        if self.operation not in {op.value for op in Operation}:
            raise MalformedError("the operation of a febo key is '-' or '+'")
        check_wire(self.keys, (get_group(self.group).nbytes,), 3, "a febo key")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.keys.shape[:2]


def parameters(x: int, y: int, group: str = "secp256k1") -> FeboParams:
    """Parameters for |x| and |y| up to these bounds; raises `BoundError` beyond the discrete logarithm's reach."""
    if x + y > dlog.MAX_BOUND:
        raise BoundError(f"results up to {x + y} exceed the discrete-logarithm limit {dlog.MAX_BOUND}")
    return FeboParams(x, y, group)


def describe(params: FeboParams) -> str:
    """One line for reports: group, level, assumption."""
    group = get_group(params.group)
    return f"febo in {group.name}, about {group.security_bits} bit, IND-CPA under {group.assumption}"


def setup(params: FeboParams, coins: Coins) -> tuple[FeboPublicKey, FeboMasterKey]:
    """Draw a master key."""
    group = get_group(params.group)
    s = coins.stream("febo setup").below(group.order, 1)
    h = group.exp(group.generator()[None], s)[0, 0]
    return FeboPublicKey(params, group.encode(h)), FeboMasterKey(params, to_bytes(s, group.scalar_bytes)[0])


def encrypt(mpk: FeboPublicKey, x: Ints, coins: Coins) -> FeboCiphertext:
    """Encrypt every entry of x (N, k), each with an r of its own; raises `BoundError` beyond the bound on x."""
    group, bound = get_group(mpk.params.group), mpk.params.x
    _check_integers(x, "x")
    check_range(x, bound, "x", "derive parameters for larger entries")
    r = coins.stream("febo encrypt").below(group.order, x.size)
    bases = np.stack([group.generator(), group.decode(mpk.h)])
    commitments, masks = group.exp(bases, r).reshape(2, *x.shape, -1)
    values = group.mul(masks, group.exp_small(x, bound))
    return FeboCiphertext(group.name, group.encode(commitments), group.encode(values))


def key_derive(msk: FeboMasterKey, commitments: Wire, operation: Operation, y: Ints) -> FeboKey:
    """One key per entry of y (N, k), for the commitment (N, k, nbytes) at the same place.

    Raises `BoundError` beyond the bound on y, `MalformedError` for a commitment that is no group element.
    """
    group, bound = get_group(msk.params.group), msk.params.y
    _check_integers(y, "y")
    check_range(y, bound, "y", "derive parameters for larger entries")
    check_wire(commitments, (*y.shape, group.nbytes), 3, "the commitments of a febo key request")
    points = group.decode(commitments).reshape(y.size, -1)  # a point off the curve would leak s: checked here
    masks = group.exp(points, from_bytes(msk.s[None]))[:, 0].reshape(*y.shape, -1)
    sign = 1 if operation is Operation.SUB else -1
    keys = group.mul(masks, group.exp_small(sign * y.astype(np.int64), bound))
    return FeboKey(group.name, operation.value, group.encode(keys))


def decrypt(mpk: FeboPublicKey, key: FeboKey, ct: FeboCiphertext) -> NDArray[np.int64]:
    """x - y or x + y (N, k), exact.

    Raises `BoundError` if a result exceeds the bounds, as with a key for another element or of another instance (such
    a key gives a random element: it passes with probability (2 bound + 1) / q), `MalformedError` for what is no group
    element.
    """
    if not (key.group == ct.group == mpk.params.group) or key.shape != ct.shape:
        raise MalformedError(f"keys {key.group} {key.shape} do not fit ciphertexts {ct.group} {ct.shape}")
    group = get_group(mpk.params.group)
    quotient = group.div(group.decode(ct.values), group.decode(key.keys))
    return dlog.solve(group, quotient, mpk.params.result)


def concat(parts: Sequence[FeboCiphertext]) -> FeboCiphertext:
    """Ciphertexts under one mpk, one after the other."""
    if len({(part.group, part.shape[1]) for part in parts}) != 1:
        raise MalformedError("ciphertexts of different groups or widths cannot be put together")
    commitments = np.concatenate([part.commitments for part in parts])
    return FeboCiphertext(parts[0].group, commitments, np.concatenate([part.values for part in parts]))


def rows(ct: FeboCiphertext, start: int, stop: int) -> FeboCiphertext:
    """The rows start, ..., stop - 1."""
    return FeboCiphertext(ct.group, ct.commitments[start:stop], ct.values[start:stop])


def _check_name(group: str) -> None:
    if group not in GROUPS:
        raise MalformedError(f"the group of a febo value must be one of {', '.join(GROUPS)}")


def _check_params(params: FeboParams) -> None:
    if not isinstance(params, FeboParams):
        raise MalformedError(f"expected febo parameters, got {type(params).__name__}")


def _check_integers(values: Ints, what: str) -> None:
    if values.ndim != 2 or values.dtype.kind not in "iu":
        raise MalformedError(f"{what}: expected a matrix of integers, got {values.dtype} {values.shape}")
