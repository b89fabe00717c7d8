"""Inner-product functional encryption from DDH.

M. Abdalla, F. Bourse, A. De Caro, D. Pointcheval, *Simple Functional Encryption Schemes for Inner Products*, PKC 2015
(eprint 2015/017), section 3. In a group of prime order q with generator g, multiplicatively as in the paper:

    Setup       s_i uniform mod q, h_i = g^{s_i}                    mpk = (h_i), msk = s
    Encrypt     r uniform mod q, ct_0 = g^r, ct_i = h_i^r g^{x_i}
    KeyDer      sk_y = <s, y> mod q
    Decrypt     prod_i ct_i^{y_i} / ct_0^{sk_y} = g^{<x, y>}, then a discrete logarithm of at most n x_max y_max

Keys are linear and stateless: whoever holds n independent ones computes s, and opens everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.coins import Coins
from protocols.crypto.groups import dlog
from protocols.crypto.groups.elements import Elements, Group, Wire, check_wire, from_bytes, to_bytes
from protocols.crypto.groups.named import GROUPS, get_group
from protocols.crypto.records import Bounds, Ints, check_range
from protocols.language.errors import BoundError, MalformedError
from protocols.language.integers import signed_type
from protocols.language.message import wire

NAME = "ddh"
SECURITY = (
    "selective IND-CPA under DDH in the group; who holds n independent keys, or a key authority, opens all"
)


@wire
@dataclass(frozen=True)
class DdhParams:
    """Vectors within `bounds`, in the group called `group`."""

    bounds: Bounds
    group: str

    def __post_init__(self) -> None:
        sizes = (self.bounds.length, self.bounds.x, self.bounds.y) if isinstance(self.bounds, Bounds) else ()
        if not sizes or not all(type(size) is int and size > 0 for size in sizes):
            raise MalformedError("the bounds of ddh parameters are three positive integers")
        _check_name(self.group, "ddh parameters")


@wire
@dataclass(frozen=True)
class DdhPublicKey:
    """`h` (n, nbytes): the h_i as they cross; checked when they are used."""

    params: DdhParams
    h: Wire

    def __post_init__(self) -> None:
        _check_params(self.params)
        check_wire(self.h, (self.params.bounds.length, _group(self.params).nbytes), 2, "a ddh public key")

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.h),)


@wire
@dataclass(frozen=True)
class DdhMasterKey:
    """`s` (n, scalar bytes): the s_i, big-endian. Secret."""

    params: DdhParams
    s: Wire = field(repr=False)

    def __post_init__(self) -> None:
        _check_params(self.params)
        check_wire(
            self.s, (self.params.bounds.length, _group(self.params).scalar_bytes), 2, "a ddh master key"
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.s),)


@wire
@dataclass(frozen=True)
class DdhCiphertext:
    """`elements` (N, n + 1, nbytes): ct_0, ct_1, ..., ct_n of every vector as they cross."""

    group: str
    elements: Wire

    def __post_init__(self) -> None:
        _check_name(self.group, "a ddh ciphertext")
        check_wire(self.elements, (get_group(self.group).nbytes,), 3, "a ddh ciphertext")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.elements.shape[0], self.elements.shape[1] - 1)


@wire
@dataclass(frozen=True)
class DdhLoaded:
    """A validated ciphertext, (N, n + 1, width) in the group's own form. It may be stored, not received."""

    group: str
    elements: Elements

    def __post_init__(self) -> None:
        _check_name(self.group, "a loaded ddh ciphertext")
        one, array = get_group(self.group).identity(), self.elements
        fits = isinstance(array, np.ndarray) and array.ndim == 3
        if not fits or (array.dtype, array.shape[2:]) != (one.dtype, one.shape):
            raise MalformedError(f"a loaded ddh ciphertext has three axes, the last a {self.group} element")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.elements.shape[0], self.elements.shape[1] - 1)


@wire
@dataclass(frozen=True)
class DdhFunctionKey:
    """`y` (h, n) in the smallest type that holds its bound, `sk` (h, scalar bytes): <s, y> mod q, big-endian."""

    group: str
    y: Ints
    sk: Wire

    def __post_init__(self) -> None:
        _check_name(self.group, "a ddh function key")
        if not isinstance(self.y, np.ndarray) or self.y.dtype.kind not in "iu" or self.y.ndim != 2:
            raise MalformedError("the vectors of a ddh function key are a matrix of integers")
        check_wire(self.sk, (get_group(self.group).scalar_bytes,), 2, "a ddh function key")
        if len(self.y) != len(self.sk):
            raise MalformedError(f"a ddh function key has {len(self.y)} vectors and {len(self.sk)} scalars")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.y.shape


Ciphertext = TypeVar("Ciphertext", DdhCiphertext, DdhLoaded)


def parameters(bounds: Bounds, group: str = "secp256k1") -> DdhParams:
    """Parameters for `bounds`; raises `BoundError` if the discrete logarithm would be out of reach."""
    if bounds.inner > dlog.MAX_BOUND:
        raise BoundError(
            f"inner products up to {bounds.inner} exceed the discrete-logarithm limit {dlog.MAX_BOUND}; "
            "lower the weight scale or the weight bound, or choose the scheme lwe"
        )
    return DdhParams(bounds, group)


def describe(params: DdhParams) -> str:
    """One line for reports: group, level, assumption."""
    group = _group(params)
    return f"ddh in {group.name}, about {group.security_bits} bit, selective IND-CPA under {group.assumption}"


def setup(params: DdhParams, coins: Coins) -> tuple[DdhPublicKey, DdhMasterKey]:
    """Draw a master key of `bounds.length` scalars."""
    group = _group(params)
    s = coins.stream("ddh setup").below(group.order, params.bounds.length)
    h = group.exp(group.generator()[None], s)[0]
    return DdhPublicKey(params, group.encode(h)), DdhMasterKey(params, to_bytes(s, group.scalar_bytes))


def encrypt(mpk: DdhPublicKey, x: Ints, coins: Coins) -> DdhCiphertext:
    """Encrypt the rows of x (N, n), each with an r of its own; raises `BoundError` beyond `bounds.x`."""
    group, bounds = _group(mpk.params), mpk.params.bounds
    _check_matrix(x, bounds.length, "x")
    check_range(x, bounds.x, "x", "derive parameters for larger entries")
    r = coins.stream("ddh encrypt").below(group.order, len(x))
    bases = np.concatenate([group.generator()[None], group.decode(mpk.h)])
    masks = group.exp(bases, r)  # (1 + n, N): g^r, h_i^r
    first, rest = masks[0][:, None], masks[1:].swapaxes(0, 1)
    elements = np.concatenate([first, group.mul(rest, group.exp_small(x, bounds.x))], axis=1)
    return DdhCiphertext(group.name, group.encode(elements))


def load(mpk: DdhPublicKey, ct: DdhCiphertext) -> DdhLoaded:
    """Validate every element of a ciphertext that arrived; raises `MalformedError`."""
    if not isinstance(ct, DdhCiphertext):  # in particular not a DdhLoaded, whose elements nobody has checked
        raise MalformedError(f"expected a ddh ciphertext, got {type(ct).__name__}")
    _check_fit(mpk, ct)
    return DdhLoaded(ct.group, _group(mpk.params).decode(ct.elements))


def concat(parts: Sequence[Ciphertext]) -> Ciphertext:
    """Ciphertexts under one mpk, one after the other."""
    if len({(type(part), part.group, part.shape[1]) for part in parts}) != 1:
        raise MalformedError("ciphertexts of different groups, lengths or states cannot be put together")
    return type(parts[0])(parts[0].group, np.concatenate([part.elements for part in parts]))


def rows(ct: Ciphertext, start: int, stop: int) -> Ciphertext:
    """The ciphertexts start, ..., stop - 1."""
    return type(ct)(ct.group, ct.elements[start:stop])


def key_derive(msk: DdhMasterKey, y: Ints) -> DdhFunctionKey:
    """One key for every row of y (h, n); raises `BoundError` beyond `bounds.y`."""
    group, bounds = _group(msk.params), msk.params.bounds
    _check_matrix(y, bounds.length, "y")
    check_range(y, bounds.y, "y", "lower the weight scale, or raise the weight bound")
    s = np.array(from_bytes(msk.s), dtype=object)
    sk = [int(v) % group.order for v in y.astype(object) @ s]
    return DdhFunctionKey(group.name, y.astype(signed_type(bounds.y)), to_bytes(sk, group.scalar_bytes))


def decrypt(mpk: DdhPublicKey, sk: DdhFunctionKey, ct: DdhLoaded | DdhCiphertext) -> NDArray[np.int64]:
    """The inner products (N, h), exact; a ciphertext that was not loaded is validated first.

    Raises `BoundError` if one exceeds `bounds.inner`, as with a key or a ciphertext of another instance.
    """
    group, bounds = _group(mpk.params), mpk.params.bounds
    loaded = _loaded(mpk, ct)
    _check_fit(mpk, sk)
    check_range(sk.y, bounds.y, "y of a function key", "the key was made for other parameters")
    products = group.multi_exp(loaded.elements[:, 1:], sk.y)
    masks = group.exp(loaded.elements[:, 0], from_bytes(sk.sk))
    return dlog.solve(group, group.div(products, masks), bounds.inner)


def master_key(params: DdhParams, s: Sequence[int]) -> DdhMasterKey:
    """The master key made of the integers s (n), taken mod q; `check_master_key` tells whether it is the right one."""
    group = _group(params)
    return DdhMasterKey(params, to_bytes([v % group.order for v in s], group.scalar_bytes))


def check_master_key(mpk: DdhPublicKey, s: Sequence[int]) -> bool:
    """Whether g^{s_i} = h_i for all i: true only for the master key of `mpk` (mod q)."""
    group = _group(mpk.params)
    if len(s) != mpk.params.bounds.length:
        return False
    return bool(np.array_equal(group.encode(group.exp(group.generator()[None], s)[0]), mpk.h))


def open_with_master_key(
    mpk: DdhPublicKey, msk: DdhMasterKey, ct: DdhLoaded | DdhCiphertext
) -> NDArray[np.int64]:
    """The vectors themselves, (N, n), as ct_i / ct_0^{s_i} = g^{x_i}; raises `BoundError` for another instance's."""
    group = _group(mpk.params)
    loaded = _loaded(mpk, ct)
    if msk.params != mpk.params:
        raise MalformedError("the master key was made for other parameters than the public key")
    masks = group.exp(loaded.elements[:, 0], from_bytes(msk.s))
    return dlog.solve(group, group.div(loaded.elements[:, 1:], masks), mpk.params.bounds.x)


def _loaded(mpk: DdhPublicKey, ct: DdhLoaded | DdhCiphertext) -> DdhLoaded:
    loaded = load(mpk, ct) if isinstance(ct, DdhCiphertext) else ct
    _check_fit(mpk, loaded)
    return loaded


def _group(params: DdhParams) -> Group:
    return get_group(params.group)


def _check_name(group: str, what: str) -> None:
    if group not in GROUPS:
        raise MalformedError(f"the group of {what} must be one of {', '.join(GROUPS)}")


def _check_params(params: DdhParams) -> None:
    if not isinstance(params, DdhParams):
        raise MalformedError(f"expected ddh parameters, got {type(params).__name__}")


def _check_matrix(values: Ints, length: int, what: str) -> None:
    if values.ndim != 2 or values.shape[1] != length or values.dtype.kind not in "iu":
        raise MalformedError(f"{what}: expected integers (any, {length}), got {values.dtype} {values.shape}")


def _check_fit(mpk: DdhPublicKey, value: DdhLoaded | DdhCiphertext | DdhFunctionKey) -> None:
    expected, got = (mpk.params.group, mpk.params.bounds.length), (value.group, value.shape[1])
    if got != expected:
        raise MalformedError(
            f"{type(value).__name__} of group, length {got} does not fit a public key of {expected}"
        )
