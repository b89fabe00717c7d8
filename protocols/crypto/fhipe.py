"""Function-hiding inner-product encryption: neither the ciphertext nor the key shows its vector.

S. Kim, K. Lewi, A. Mandal, H. Montgomery, A. Roy, D. Wu, *Function-Hiding Inner Product Encryption is Practical*, SCN
2018 (eprint 2016/440), section 3. In a pairing e: G1 x G2 -> GT of prime order q with generators g1, g2:

    Setup       B uniform in GL_n(Z_q), B* = det(B) (B^-1)^T              msk = (B, B*, det B)
    KeyDer      alpha uniform, nonzero                                    sk = (g1^{alpha det B}, g1^{alpha y B})
    Encrypt     beta uniform, nonzero                                     ct = (g2^beta, g2^{beta x B*})
    Decrypt     D1 = e(sk_0, ct_0), D2 = prod_i e(sk_i, ct_i)             z with D1^z = D2, |z| <= n x_max y_max

Security: keys and ciphertexts can be simulated from the inner products alone, in the generic bilinear group model; no
proof from a standard assumption is known. The level is that of the pairing: BN254 about 100 bit, BLS12-381 about 120.
It is a secret-key scheme: who holds msk (the authority and the owner) opens everything. What it does not hide: the
inner products of every key with every ciphertext, and whether a vector is zero (all of its elements but the first are
neutral then).

Deviations from the paper: the decryptor accepts |z| up to the bounds, by a discrete logarithm from zero outwards, where
the paper tests a polynomial set; alpha and beta are not zero, where the paper lets them be with probability 1/q; every
instance has a random public tag, so that keys and ciphertexts of two instances are told apart before the mathematics
does. g1 and g2 are fixed.

The base of the logarithm differs for every key and ciphertext, so that each product needs D1 and a table of its own.
The scheme with a fixed base of Ojaswi et al., CiC 2025 (doi 10.62056/abe0zo-3y), is not used: D1 and the logarithm are
8% of a product at n = 64, which is all that a fixed base could save.

Medians on one core of a Xeon at 2.5 GHz whose other core is busy, BN254, n = 64: a product 7.0 ms in a grid of 8 x 16
or more, of which D1 .33, the final exponentiation .13 and the logarithm .25 (|z| around 1300; 5 ms at 2^18), and 9 ms
on its own. A vector takes 2.9 ms to encrypt and 9.7 to load (the subgroup check of G2), a key 2.1 ms to derive and .5
to load. BLS12-381: a product 40 ms, a vector 9 and 7.3, a key 4.0 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, TypeVar

import numpy as np
from flint import fmpz_mod_ctx, fmpz_mod_mat
from numpy.typing import NDArray

from protocols.crypto.coins import Coins
from protocols.crypto.groups import workers as pool
from protocols.crypto.groups.elements import check_wire, to_bytes
from protocols.crypto.groups.named import PAIRINGS, get_pairing
from protocols.crypto.groups.pairing import Elements, Pairing, Target, Wire, logarithms
from protocols.crypto.records import Bounds, Ints, check_range
from protocols.language.errors import BoundError, MalformedError
from protocols.language.message import wire

NAME = "fhipe"
SECURITY = (
    "simulation secure and function hiding in the generic bilinear group model; who holds the master key (authority "
    "and owner) opens all, who holds keys and ciphertexts learns every inner product between them"
)
MAX_BOUND = 1 << 30  # half a million multiplications in GT for the largest z: seconds
_TAG = 16  # bytes
_KEYS, _CIPHERTEXTS = 8, 16  # the grid of products is cut into pieces of this size, one a thread


@wire
@dataclass(frozen=True)
class FhipeParams:
    """Vectors within `bounds`, in the pairing called `group`."""

    bounds: Bounds
    group: str

    def __post_init__(self) -> None:
        sizes = (self.bounds.length, self.bounds.x, self.bounds.y) if isinstance(self.bounds, Bounds) else ()
        if not sizes or not all(type(size) is int and size > 0 for size in sizes):
            raise MalformedError("the bounds of fhipe parameters are three positive integers")
        _check_name(self.group, "fhipe parameters")


@wire
@dataclass(frozen=True)
class FhipePublicParams:
    """What everybody knows of an instance: its parameters and its random `tag` (16 bytes)."""

    params: FhipeParams
    tag: bytes

    def __post_init__(self) -> None:
        _check_instance(self.params, self.tag)


@wire
@dataclass(frozen=True)
class FhipeMasterKey:
    """B and B* (n, n, scalar bytes) and det B (scalar bytes), big-endian. Secret."""

    params: FhipeParams
    tag: bytes
    b: Wire = field(repr=False)
    b_star: Wire = field(repr=False)
    det: Wire = field(repr=False)

    def __post_init__(self) -> None:
        _check_instance(self.params, self.tag)
        n, nbytes = self.params.bounds.length, _pairing(self.params).scalar_bytes
        check_wire(self.b, (n, n, nbytes), 3, "B of a fhipe master key")
        check_wire(self.b_star, (n, n, nbytes), 3, "B* of a fhipe master key")
        check_wire(self.det, (nbytes,), 1, "the determinant of a fhipe master key")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.b.shape[:2]


@dataclass(frozen=True)
class _Batch:
    """Keys or ciphertexts: (N, n + 1, ...) elements of an instance."""

    group: str
    tag: bytes
    elements: Elements

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.elements.shape[0], self.elements.shape[1] - 1)

    def _check_names(self) -> Pairing:
        _check_name(self.group, type(self).__name__)
        _check_tag(self.tag)
        return get_pairing(self.group)

    def _check_length(self) -> None:
        if self.elements.shape[1] < 2:
            raise MalformedError(f"{type(self).__name__}: expected at least two elements a vector")


@wire
@dataclass(frozen=True)
class FhipeFunctionKey(_Batch):
    """`elements` (h, n + 1, g1_bytes): g1^{alpha det B}, g1^{alpha y B} of every row as they cross; y is not here."""

    def __post_init__(self) -> None:
        check_wire(self.elements, (self._check_names().g1_bytes,), 3, "a fhipe function key")
        self._check_length()


@wire
@dataclass(frozen=True)
class FhipeCiphertext(_Batch):
    """`elements` (N, n + 1, g2_bytes): g2^beta, g2^{beta x B*} of every row as they cross."""

    def __post_init__(self) -> None:
        check_wire(self.elements, (self._check_names().g2_bytes,), 3, "a fhipe ciphertext")
        self._check_length()


@wire
@dataclass(frozen=True)
class FhipeLoadedKey(_Batch):
    """Validated keys, (h, n + 1, width) in the pairing's own form. They may be stored, not received."""

    def __post_init__(self) -> None:
        self._check_names().check_elements(self.elements, second=False, ndim=3)
        self._check_length()


@wire
@dataclass(frozen=True)
class FhipeLoaded(_Batch):
    """Validated ciphertexts, (N, n + 1, width) in the pairing's own form. They may be stored, not received."""

    def __post_init__(self) -> None:
        self._check_names().check_elements(self.elements, second=True, ndim=3)
        self._check_length()


Batch = TypeVar("Batch", FhipeCiphertext, FhipeLoaded, FhipeFunctionKey, FhipeLoadedKey)


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
    pairing = _pairing(params)
    return (
        f"fhipe in {pairing.name}, about {pairing.security_bits} bit, simulation secure and function hiding "
        "in the generic bilinear group model"
    )


def setup(params: FhipeParams, coins: Coins) -> tuple[FhipePublicParams, FhipeMasterKey]:
    """Draw B, and compute B* and det B once."""
    pairing, n = _pairing(params), params.bounds.length
    stream = coins.stream("fhipe setup")
    det = 0
    while not det:  # uniform in GL_n: a uniform matrix, drawn again with probability about 1/q
        entries = stream.below(pairing.order, n * n)
        b = fmpz_mod_mat(n, n, entries, fmpz_mod_ctx(pairing.order))
        det = int(b.det())
    b_star = [int(v) for v in (b.inv().transpose() * det).entries()]
    nbytes, tag = pairing.scalar_bytes, coins.stream("fhipe tag").bytes(_TAG)
    first, second = (to_bytes(v, nbytes).reshape(n, n, nbytes) for v in (entries, b_star))
    return FhipePublicParams(params, tag), FhipeMasterKey(
        params, tag, first, second, to_bytes([det], nbytes)[0]
    )


def key_derive(msk: FhipeMasterKey, y: Ints, coins: Coins) -> FhipeFunctionKey:
    """One key for every row of y (h, n), each with an alpha of its own; raises `BoundError` beyond `bounds.y`."""
    pairing, bounds = _pairing(msk.params), msk.params.bounds
    _check_matrix(y, bounds.length, "y")
    check_range(y, bounds.y, "y", "lower the weight scale, or raise the weight bound")
    alpha = _nonzero(coins, "fhipe key_derive", pairing.order, len(y))
    det = int.from_bytes(msk.det.tobytes(), "big")
    exponents = _masked(alpha, det, _times(y, msk.b), pairing.order)
    elements = pairing.exp_g1(exponents).reshape(len(y), bounds.length + 1, pairing.g1_bytes)
    return FhipeFunctionKey(pairing.name, msk.tag, elements)


def encrypt(msk: FhipeMasterKey, x: Ints, coins: Coins) -> FhipeCiphertext:
    """Encrypt the rows of x (N, n), each with a beta of its own; raises `BoundError` beyond `bounds.x`."""
    pairing, bounds = _pairing(msk.params), msk.params.bounds
    _check_matrix(x, bounds.length, "x")
    check_range(x, bounds.x, "x", "derive parameters for larger entries")
    beta = _nonzero(coins, "fhipe encrypt", pairing.order, len(x))
    exponents = _masked(beta, 1, _times(x, msk.b_star), pairing.order)
    elements = pairing.exp_g2(exponents).reshape(len(x), bounds.length + 1, pairing.g2_bytes)
    return FhipeCiphertext(pairing.name, msk.tag, elements)


def load(pp: FhipePublicParams, ct: FhipeCiphertext) -> FhipeLoaded:
    """Validate every element of a ciphertext that arrived; raises `MalformedError`."""
    if type(ct) is not FhipeCiphertext:  # in particular not a FhipeLoaded, whose elements nobody has checked
        raise MalformedError(f"expected a fhipe ciphertext, got {type(ct).__name__}")
    _check_fit(pp, ct)
    _check_first(ct)
    return FhipeLoaded(ct.group, ct.tag, get_pairing(ct.group).decode_g2(ct.elements))


def load_key(pp: FhipePublicParams, sk: FhipeFunctionKey) -> FhipeLoadedKey:
    """Validate every element of a key that arrived; raises `MalformedError`."""
    if type(sk) is not FhipeFunctionKey:
        raise MalformedError(f"expected a fhipe function key, got {type(sk).__name__}")
    _check_fit(pp, sk)
    _check_first(sk)
    return FhipeLoadedKey(sk.group, sk.tag, get_pairing(sk.group).decode_g1(sk.elements))


def concat(parts: Sequence[Batch]) -> Batch:
    """Ciphertexts, or keys, of one instance, one after the other."""
    if len({(type(part), part.group, part.tag, part.shape[1]) for part in parts}) != 1:
        raise MalformedError(
            "ciphertexts of different groups, instances, lengths or states cannot be put together"
        )
    first = parts[0]
    return type(first)(first.group, first.tag, np.concatenate([part.elements for part in parts]))


def rows(ct: Batch, start: int, stop: int) -> Batch:
    """The ciphertexts, or keys, start, ..., stop - 1."""
    return type(ct)(ct.group, ct.tag, ct.elements[start:stop])


def decrypt(
    pp: FhipePublicParams,
    sk: FhipeFunctionKey | FhipeLoadedKey,
    ct: FhipeCiphertext | FhipeLoaded,
    workers: int = 1,
) -> NDArray[np.int64]:
    """The inner products (N, h), exact, on `workers` threads; what was not loaded is validated first.

    Raises `BoundError` if one exceeds `bounds.inner`, as with a key or a ciphertext of another instance.
    """
    key = load_key(pp, sk) if isinstance(sk, FhipeFunctionKey) else sk
    loaded = load(pp, ct) if isinstance(ct, FhipeCiphertext) else ct
    _check_fit(pp, key)
    _check_fit(pp, loaded)
    bound, result = (
        pp.params.bounds.inner,
        np.zeros((len(loaded.elements), len(key.elements)), dtype=np.int64),
    )
    blocks = list(product(_blocks(result.shape[1], _KEYS), _blocks(result.shape[0], _CIPHERTEXTS)))
    with _pairing(pp.params).target() as target:

        def task(block: tuple[slice, slice]) -> bool:
            keys, cts = block
            values, found = _open(target, key.elements[keys], loaded.elements[cts], bound)
            result[cts, keys] = values.T  # blocks do not overlap
            return bool(found.all())

        complete = pool.spread(task, blocks, workers)
    if not all(complete):
        raise BoundError(
            f"an inner product lies outside [-{bound}, {bound}]: the key and the ciphertext do not belong together, "
            "or the values exceed the bounds of the parameters"
        )
    return result


def _open(
    target: Target, keys: Elements, cts: Elements, bound: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The inner products (h, N) and which were found."""
    d1 = target.products(keys[:, :1], cts[:, :1])
    d2 = target.products(keys[:, 1:], cts[:, 1:])
    width = d1.shape[-1]
    values, found = logarithms(target, d1.reshape(-1, width), d2.reshape(-1, width), bound)
    return values.reshape(d1.shape[:2]), found


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _nonzero(coins: Coins, purpose: str, order: int, count: int) -> list[int]:
    return [v + 1 for v in coins.stream(purpose).below(order - 1, count)]


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


def _masked(masks: Sequence[int], first: int, rest: NDArray[Any], order: int) -> list[int]:
    """The exponents mask * (first, rest) mod q of every row, in one list."""
    return [mask * v % order for mask, row in zip(masks, rest, strict=True) for v in (first, *row)]


def _pairing(params: FhipeParams) -> Pairing:
    return get_pairing(params.group)


def _check_name(group: str, what: str) -> None:
    if group not in PAIRINGS:
        raise MalformedError(f"the group of {what} must be one of {', '.join(PAIRINGS)}")


def _check_tag(tag: bytes) -> None:
    if type(tag) is not bytes or len(tag) != _TAG:
        raise MalformedError(f"the tag of a fhipe instance is {_TAG} bytes")


def _check_instance(params: FhipeParams, tag: bytes) -> None:
    if not isinstance(params, FhipeParams):
        raise MalformedError(f"expected fhipe parameters, got {type(params).__name__}")
    _check_tag(tag)


def _check_matrix(values: Ints, length: int, what: str) -> None:
    if values.ndim != 2 or values.shape[1] != length or values.dtype.kind not in "iu":
        raise MalformedError(f"{what}: expected integers (any, {length}), got {values.dtype} {values.shape}")


def _check_fit(pp: FhipePublicParams, value: _Batch) -> None:
    expected, got = (pp.params.group, pp.params.bounds.length), (value.group, value.shape[1])
    if got != expected:
        raise MalformedError(
            f"{type(value).__name__} of group, length {got} does not fit an instance of {expected}"
        )
    if value.tag != pp.tag:
        raise MalformedError(f"{type(value).__name__} belongs to another instance: its tag differs")


def _check_first(value: FhipeCiphertext | FhipeFunctionKey) -> None:
    if not value.elements[:, 0].any(axis=1).all():  # the neutral element is all zero on the wire
        raise MalformedError(f"{type(value).__name__}: the first element of a vector is neutral")
