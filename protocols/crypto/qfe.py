"""Functional encryption of quadratic forms: a key opens f(x, y) = x^T F y of the vectors of a ciphertext.

E. Dufour-Sans, R. Gay, D. Pointcheval, *Reading in the Dark: Classifying Encrypted Digits with Functional
Encryption*, eprint 2018/206, section 3. In a pairing e: G1 x G2 -> GT of prime order q with generators g1,
g2 and gT = e(g1, g2):

    Setup       s uniform in Z_q^n, t uniform in Z_q^m              mpk = (g1^s, g2^t), msk = (s, t)
    Encrypt     gamma uniform, W uniform in GL_2(Z_q)
                a_i = W^-T (x_i, gamma s_i), b_j = W (y_j, -t_j)    ct = (g1^gamma, g1^{a_i}, g2^{b_j})
    KeyDer                                                          sk = g2^{f(s, t)}, beside F
    Decrypt     e(g1^gamma, sk) prod_ij e(g1^{a_i}, g2^{b_j})^{F_ij} = gT^{f(x, y)}, then a discrete logarithm

as a_i . b_j = x_i y_j - gamma s_i t_j. Whoever holds gamma and W of a ciphertext opens each of its entries;
so does the master key: e(g1^{a_i}, g2^{b_j}) e(g1^gamma, g2)^{s_i t_j} = gT^{x_i y_j}.

A batch of keys is a grid of forms, f_hi(x, y) = sum_c <w_hc, x at places_hc> y at columns_ic: so that the
gradient of a linear model by each of its weights is one row of the grid (`Forms`). Decryption first folds
the left side, prod_s g1^{a w_s}, and then takes two pairings for each c.

Several parties may encrypt a vector in slices, `encrypt_part`, if they agree on `Masks`; `join` puts the
slices together. That is not in the paper, whose encryptor is one: parties that share masks do not hide their
slices from each other, nor from whoever is told the masks by one of them.

Other deviations: F comes as such a grid; gamma is not zero, where the paper lets it be with probability 1/q;
every instance has a random public tag; what decryption searches is |f| <= `inner`, to which `key_derive`
holds every form at the bounds of x and y.

Measured once on two cores for the gradient of a linear model on 16 digits (n = 1040, m = 1024, 64 forms of
1040 terms each): a ciphertext .31 s to encrypt and .21 s to load, the keys 3 ms, decryption .18 s with values
around 10^6; before the first one 1.9 s for the table of logarithms.

Security: indistinguishable under chosen plaintexts in the generic bilinear group model; the level is that of
BN254, about 100 bit. A key works on every ciphertext of its instance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.coins import Coins, Stream
from protocols.crypto.groups import dlog, mcl_target
from protocols.crypto.groups import workers as pool
from protocols.crypto.groups.elements import Elements, Group, Raw, Wire, from_bytes, to_bytes
from protocols.crypto.groups.named import get_group, get_pairing, pairing_sizes
from protocols.crypto.records import (
    Ints,
    Loaded,
    Record,
    Symbols,
    array,
    arrived,
    check_plain,
    fit,
    made_for,
    named,
    nbytes,
    number,
    record,
)
from protocols.crypto.records import concat as concat
from protocols.crypto.records import rows as rows
from protocols.language.errors import BoundError, MalformedError
from protocols.language.integers import signed_type

NAME = "qfe"
SECURITY = (
    "IND-CPA in the generic bilinear group model; who holds the master key, or the masks of a ciphertext, "
    "opens it, and every key works on every ciphertext of its instance"
)
_GROUP = "bn254"
_TAG = 16  # bytes
_ROWS, _COLUMNS = 8, 16  # the grid of forms is cut into pieces of this size, one a thread


def _sizes(name: str) -> Symbols:
    return {**pairing_sizes(name), "pair": 2}


@record
class QfeBounds(Record):
    """x of `left` and y of `right` entries, |x_i| <= `x`, |y_j| <= `y`; forms with |f(x, y)| <= `inner`."""

    left: int = number("n")
    right: int = number("m")
    x: int = number()
    y: int = number()
    inner: int = number()


@record
class QfeParams(Record):
    """Vectors and forms within `bounds`."""

    bounds: QfeBounds
    group: str = named((_GROUP,), _sizes)


@record
class QfePublicKey(Record):
    """g1^s and g2^t."""

    SHAPE = ("n", "m")
    params: QfeParams
    tag: bytes = nbytes(_TAG, tag=True)
    s: Wire = array("uint8", "n", "g1")
    t: Wire = array("uint8", "m", "g2")


@record
class QfeMasterKey(Record):
    """s and t, big-endian. Secret."""

    SHAPE = ("n", "m")
    params: QfeParams
    tag: bytes = nbytes(_TAG, tag=True)
    s: Wire = array("uint8", "n", "scalar", secret=True)
    t: Wire = array("uint8", "m", "scalar", secret=True)


@record
class QfeCiphertext(Record):
    """g1^gamma, g1^a, g2^b of every pair of vectors, or of a slice of them."""

    SHAPE = ("N", "n", "m")
    ROWS = ("gamma", "left", "right")
    group: str = named((_GROUP,), _sizes)
    tag: bytes = nbytes(_TAG, tag=True)
    gamma: Wire = array("uint8", "N", "g1")
    left: Wire = array("uint8", "N", "n", "pair", "g1")
    right: Wire = array("uint8", "N", "m", "pair", "g2")


@record
class QfeFunctionKey(Record):
    """The forms, as in `Forms`, and g2^{f(s, t)} of each."""

    SHAPE = ("h", "i")
    ROWS = ("weights", "places", "elements")
    group: str = named((_GROUP,), _sizes)
    tag: bytes = nbytes(_TAG, tag=True)
    weights: Ints = array("int", "h", "c", "terms")
    places: Ints = array("int", "h", "c", "terms")
    columns: Ints = array("int", "i", "c")
    elements: Wire = array("uint8", "h", "i", "g2")


@dataclass(frozen=True)
class Forms:
    """A grid of forms: f_hi(x, y) = sum_c (sum_s weights[h, c, s] x[places[h, c, s]]) y[columns[i, c]].

    Integers `weights` and `places` (h, c, s), `columns` (i, c).
    """

    weights: Ints
    places: Ints
    columns: Ints

    def values(self, x: Any, y: Any) -> NDArray[Any]:
        """f (h, i) of vectors x (n) and y (m) of Python integers, exactly."""
        folded = (self.weights.astype(object) * np.asarray(x, object)[self.places]).sum(axis=2)
        return np.asarray(folded @ np.asarray(y, object)[self.columns].T)

    def largest(self, bounds: QfeBounds) -> int:
        """The largest |f| within the bounds of x and y."""
        sums = np.abs(self.weights.astype(object)).sum(axis=(1, 2))
        return max(map(int, sums), default=0) * bounds.x * bounds.y


def dense(f: Ints) -> Forms:
    """Any forms, given as their matrices F (h, n, m), as a grid of one column."""
    weights = np.ascontiguousarray(f.transpose(0, 2, 1))
    places = np.broadcast_to(np.arange(f.shape[1]), weights.shape)
    return Forms(weights, places, np.arange(f.shape[2])[None])


@dataclass(frozen=True)
class Masks:
    """gamma (N) and W (N, 2, 2) of some ciphertexts, as Python's integers. Secret: they open them."""

    gamma: NDArray[Any]
    w: NDArray[Any]


@dataclass(frozen=True)
class LoadedCiphertext(Loaded):
    """Validated: `elements` (N, n, 2) of the left side, `gamma` (N) and `right` (N, m, 2), as raw words."""

    gamma: Raw
    right: Raw

    ROWS: ClassVar[tuple[str, ...]] = ("elements", "gamma", "right")

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.elements.shape[:2], self.right.shape[1])


def parameters(bounds: QfeBounds) -> QfeParams:
    """Parameters for `bounds`; raises `BoundError` if the discrete logarithm would be out of reach."""
    if bounds.inner > dlog.MAX_BOUND:
        raise BoundError(
            f"quadratic forms up to {bounds.inner} exceed the discrete-logarithm limit {dlog.MAX_BOUND}; "
            "lower the weight scale, the weight bound or the batch"
        )
    return QfeParams(bounds, _GROUP)


def describe(params: QfeParams) -> str:
    """One line for reports: group, level, notion, assumption."""
    pairing = get_pairing(params.group)
    return (
        f"qfe in {pairing.name}, about {pairing.security_bits} bit, IND-CPA in the generic bilinear group "
        "model"
    )


def setup(params: QfeParams, coins: Coins) -> tuple[QfePublicKey, QfeMasterKey]:
    """Draw s and t."""
    pairing, bounds = get_pairing(params.group), params.bounds
    stream, tag = coins.stream("qfe setup"), coins.stream("qfe tag").bytes(_TAG)
    s, t = (stream.below(pairing.order, count) for count in (bounds.left, bounds.right))
    mpk = QfePublicKey(params, tag, pairing.exp_g1(s), pairing.exp_g2(t))
    return mpk, QfeMasterKey(params, tag, *(to_bytes(v, pairing.scalar_bytes) for v in (s, t)))


def check(mpk: QfePublicKey, params: QfeParams) -> QfePublicKey:
    """A public key that arrived, if it has these parameters and all of its elements are in their groups."""
    made_for(mpk, QfePublicKey, params)
    get_pairing(params.group).decode_g1(mpk.s)
    get_pairing(params.group).decode_g2(mpk.t)
    return mpk


def check_msk(msk: QfeMasterKey, params: QfeParams) -> QfeMasterKey:
    """A master key that arrived, if it has these parameters."""
    return made_for(msk, QfeMasterKey, params)


def key_derive(msk: QfeMasterKey, forms: Forms) -> QfeFunctionKey:
    """A key for every form; raises `BoundError` if one could exceed `bounds.inner`."""
    pairing, bounds = get_pairing(msk.params.group), msk.params.bounds
    _check_forms(forms, bounds)
    s, t = (from_bytes(v) for v in (msk.s, msk.t))
    elements = pairing.exp_g2(forms.values(s, t) % pairing.order)
    weights = forms.weights.astype(signed_type(int(np.abs(forms.weights).max(initial=1))))
    places, columns = (v.astype(np.int32) for v in (forms.places, forms.columns))
    return QfeFunctionKey(pairing.name, msk.tag, weights, places, columns, elements)


def masks(stream: Stream, count: int) -> Masks:
    """gamma uniform and not zero, W uniform in GL_2, for `count` ciphertexts."""
    order = get_pairing(_GROUP).order
    gamma = [v + 1 for v in stream.below(order - 1, count)]
    w: list[list[int]] = []
    while len(w) < count:
        a, b, c, d = drawn = stream.below(order, 4)
        w += [drawn] if (a * d - b * c) % order else []  # singular with probability about 1/q
    return Masks(np.array(gamma, object), np.array(w, object).reshape(count, 2, 2))


def encrypt(mpk: QfePublicKey, x: Ints, y: Ints, coins: Coins) -> QfeCiphertext:
    """Encrypt the rows of x (N, n) with those of y (N, m); raises `BoundError` beyond the bounds."""
    bounds = mpk.params.bounds
    check_plain(x, (None, bounds.left), bounds.x, "x", "derive parameters for larger entries")
    check_plain(y, (len(x), bounds.right), bounds.y, "y", "derive parameters for larger entries")
    return encrypt_part(mpk, x, y, masks(coins.stream("qfe encrypt"), len(x)))


def encrypt_part(
    mpk: QfePublicKey, x: Ints, y: Ints, shared: Masks, left: int = 0, right: int = 0
) -> QfeCiphertext:
    """The slices x (N, n') from entry `left` on and y (N, m') from entry `right` on, under shared masks.

    Masks serve one plaintext only: two under the same masks show where they differ.
    """
    bounds, pairing = mpk.params.bounds, get_pairing(mpk.params.group)
    first, second = get_group(pairing.name), mcl_target.second_group()
    for values, start, most, bound, what in (
        (x, left, bounds.left, bounds.x, "x"), (y, right, bounds.right, bounds.y, "y")):  # fmt: skip
        check_plain(values, (len(shared.gamma), None), bound, what, "derive parameters for larger entries")
        if start < 0 or not 0 < values.shape[1] <= most - start:
            raise MalformedError(f"{what}: entries {start} and {values.shape[1]} more are not of {most}")
    s = Elements(first, pairing.decode_g1(mpk.s[left : left + x.shape[1]]))
    t = Elements(second, pairing.decode_g2(mpk.t[right : right + y.shape[1]]))
    lefts, rights = [], []
    for xs, ys, gamma, w in zip(x, y, shared.gamma, shared.w, strict=True):
        u = _inverse_transposed(w, pairing.order)
        lefts.append(_masked(first, xs, s, u[:, 0], u[:, 1] * gamma))
        rights.append(_masked(second, ys, t, w[:, 0], -w[:, 1]))
    sides = [
        np.array(side, np.uint8).reshape(len(x), v.shape[1], 2, size)
        for side, v, size in ((lefts, x, pairing.g1_bytes), (rights, y, pairing.g2_bytes))
    ]
    return QfeCiphertext(pairing.name, mpk.tag, pairing.exp_g1(shared.gamma), *sides)


def join(mpk: QfePublicKey, parts: Sequence[QfeCiphertext]) -> QfeCiphertext:
    """The slices of ciphertexts, in order, as wholes; `MalformedError` if their masks or sizes differ."""
    for part in parts:
        if type(part) is not QfeCiphertext:
            raise MalformedError(f"expected QfeCiphertext, got {type(part).__name__}")
        if part.tag != mpk.tag:
            raise MalformedError("QfeCiphertext belongs to another instance: its tag differs")
        if not np.array_equal(part.gamma, parts[0].gamma):
            raise MalformedError("slices of a ciphertext have different masks")
    left, right = (
        np.concatenate([getattr(part, side) for part in parts], axis=1) for side in ("left", "right")
    )
    return arrived(QfeCiphertext(parts[0].group, mpk.tag, parts[0].gamma, left, right), QfeCiphertext, mpk)


def load(mpk: QfePublicKey, ct: QfeCiphertext) -> LoadedCiphertext:
    """Validate every element of a ciphertext that arrived; raises `MalformedError`."""
    arrived(ct, QfeCiphertext, mpk)
    if not ct.gamma.any(axis=1).all():  # the neutral element is all zero on the wire
        raise MalformedError("QfeCiphertext: gamma is zero")
    pairing = get_pairing(ct.group)
    known = {name: value for name, value in ct.symbols.items() if name != "N"}
    gamma, left = pairing.decode_g1(ct.gamma), pairing.decode_g1(ct.left)
    return LoadedCiphertext(QfeCiphertext, known, left, gamma, pairing.decode_g2(ct.right))


def load_key(mpk: QfePublicKey, sk: QfeFunctionKey) -> Raw:
    """Validate every element of a key that arrived, and its forms: (h, i) raw; raises `MalformedError`."""
    arrived(sk, QfeFunctionKey, mpk)
    _check_forms(_forms(sk), mpk.params.bounds)
    return get_pairing(sk.group).decode_g2(sk.elements)


def decrypt(
    mpk: QfePublicKey, sk: QfeFunctionKey, ct: QfeCiphertext | LoadedCiphertext, workers: int = 1
) -> NDArray[np.int64]:
    """f (N, h, i) of every form and ciphertext, exact, on `workers` threads.

    Raises `BoundError` if one exceeds `bounds.inner`, as with a key or a ciphertext of another instance.
    """
    fit(ct, QfeCiphertext, mpk)
    keys, them = load_key(mpk, sk), ct if isinstance(ct, LoadedCiphertext) else load(mpk, ct)
    opened = [
        _open(_forms(sk), keys, left, gamma, right, workers)
        for left, gamma, right in zip(them.elements, them.gamma, them.right, strict=True)
    ]
    target = mcl_target.target_group()
    powers = np.array(opened, np.uint64).reshape(len(opened), *sk.shape, target.WORDS)
    return dlog.solve(Elements(target, powers), mpk.params.bounds.inner)


def open_with_masks(mpk: QfePublicKey, shared: Masks, ct: QfeCiphertext) -> NDArray[np.int64]:
    """The left vectors x (N, n) themselves, as W^T a_i = (x_i, gamma s_i); `BoundError` for other masks."""
    group, raw = get_group(_GROUP), load(mpk, ct).elements
    powers = Elements(group, raw) ** shared.w[:, :, 0][:, None]
    return dlog.solve(powers[:, :, 0] * powers[:, :, 1], mpk.params.bounds.x)


def _open(forms: Forms, keys: Raw, left: Raw, gamma: Raw, right: Raw, workers: int) -> Raw:
    """gT^f (h, i) of one ciphertext."""
    folded = _folded(forms, left)
    columns = right[forms.columns].reshape(len(forms.columns), -1, right.shape[-1])
    out: Raw = np.empty((*keys.shape[:2], mcl_target.TargetGroup.WORDS), np.uint64)
    with get_pairing(_GROUP).target() as target:

        def task(block: tuple[slice, slice]) -> None:
            some, others = block
            masked = target.products(folded[some], columns[others])
            mask = target.products(gamma[None, None], keys[some, others].reshape(-1, 1, keys.shape[-1]))
            out[some, others] = target.mul(masked, mask.reshape(masked.shape))  # blocks do not overlap

        blocks = product(_blocks(len(folded), _ROWS), _blocks(len(columns), _COLUMNS))
        pool.spread(task, list(blocks), workers)
    return out


def _folded(forms: Forms, left: Raw) -> Raw:
    """prod_s g1^{a w_s} at each place of the grid: (h, 2 c), those of equal weights at once."""
    (h, c, terms), width = forms.weights.shape, left.shape[-1]
    distinct, which = np.unique(forms.weights.reshape(-1, terms), axis=0, return_inverse=True)
    places, out = forms.places.reshape(-1, terms), np.empty((h * c, 2, width), left.dtype)
    for k, weights in enumerate(distinct):
        (mine,) = np.nonzero(which.ravel() == k)
        points = left[places[mine]].swapaxes(1, 2).reshape(-1, terms, width)
        folded = Elements(get_group(_GROUP), points) @ weights[:, None]
        out[mine] = folded.raw.reshape(len(mine), 2, width)
    return out.reshape(h, 2 * c, width)


def _masked(group: Group, values: Ints, h: Elements, u: NDArray[Any], v: NDArray[Any]) -> Wire:
    """g^{u values} h^v, (n, 2, nbytes), for the two entries of u and of v."""
    distinct, where = np.unique(values, return_inverse=True)
    plain = (group.g ** u[None]) ** distinct.astype(object)[:, None]
    masked: Elements = plain[where.ravel()] * h[:, None] ** v[None]
    return masked.encode()


def _inverse_transposed(w: NDArray[Any], order: int) -> NDArray[Any]:
    """W^-T (2, 2)."""
    (a, b), (c, d) = w.tolist()
    inverse = pow(a * d - b * c, -1, order)
    found: NDArray[Any] = np.array([[d, -c], [-b, a]], object) * inverse % order
    return found


def _check_forms(forms: Forms, bounds: QfeBounds) -> None:
    for values, most, what in ((forms.places, bounds.left, "x"), (forms.columns, bounds.right, "y")):
        if values.size and not 0 <= values.min() <= values.max() < most:
            raise MalformedError(f"a form names an entry of {what} that is not among its {most}")
    if forms.largest(bounds) > bounds.inner:
        raise BoundError(
            f"a form may exceed {bounds.inner}; lower the weight scale, or raise the weight bound"
        )


def _forms(sk: QfeFunctionKey) -> Forms:
    return Forms(sk.weights, sk.places, sk.columns)


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
