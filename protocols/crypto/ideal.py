"""Ideal functionalities of every scheme, over the reals: NO cryptography. They exist for `keyhole audit`
alone.

An audit asks what a view determines, and differentiates what a party sees by what it does not see.
Ciphertexts cannot be differentiated and need not be: whoever holds keys and ciphertexts of one instance
learns what every key gives on every ciphertext, and by the scheme's security nothing else. So here an
encryption is a `Sealed` array, whose numbers no view reads, and `opened` is all that the sealed arrays of a
view allow together:

    inner products     a `key` and `samples` of one instance: all products. Keys of a function-hiding scheme
                       are sealed themselves, others show their vectors
    FEBO               a `label key` opens the entries whose commitments it was made for
    quadratic forms    a key of `forms` and all `slices` of a ciphertext: the value of every form
    slices             of one vector, by several who share coins: what keys give on all of them together
    Paillier, CKKS     whoever holds the `master` opens; so does whoever drew it
    secure sum         pads are reals here, unknown to all but the two parties that share them

Rounding falls away (`FixedPoint.quantise` scales only), since what is a step function has no derivative.
`parties/audit/substitution.py` puts all of this in the place of the schemes for as long as an audit lasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto import paillier
from protocols.crypto.ckks import CkksParams
from protocols.crypto.coins import Coins
from protocols.crypto.febo import Operation
from protocols.crypto.integers.rank import Echelon
from protocols.crypto.paillier_keys import PaillierFloats, PaillierLogits
from protocols.network.fixedpoint import FixedPoint

Reals = NDArray[np.float64]

_TAG = 8  # bytes that tell instances apart
_FEW = 512  # the dimension of CKKS in audits
SAMPLES, NUMBERS, ENTRIES = "samples", "numbers", "entries"
KEY, SHOWN_KEY, ENTRY_KEY, MASTER = "key", "shown key", "entry key", "master"
SLICE, FORMS = "slice", "forms"


class Sealed(np.ndarray):
    """Numbers under an instance: `tag` says which, `what` how they open, `ids` which entry each one is.

    `about`: of a slice the side ("x" or "y"), where it begins and how long the whole is; of a key its forms.
    """

    tag: bytes
    what: str
    ids: NDArray[Any] | None
    about: Any

    def __array_finalize__(self, source: Any) -> None:
        self.tag = getattr(source, "tag", b"")
        self.what = getattr(source, "what", "")
        self.ids = getattr(source, "ids", None)
        self.about = getattr(source, "about", None)


def sealed(values: Any, tag: bytes, what: str, ids: NDArray[Any] | None = None, about: Any = None) -> Sealed:
    """`values` as float64 under the instance `tag`."""
    found = np.array(values, dtype=np.float64).view(Sealed)
    found.tag, found.what, found.ids, found.about = tag, what, ids, about
    return found


def together(new: Sealed, held: Sequence[Sealed]) -> list[Reals]:
    """What slices of ciphertexts give with keys, now that `new` has come to those that a view holds."""
    if new.what not in (SLICE, FORMS, SHOWN_KEY):
        return []
    there = [each for each in (*held, new) if each.tag == new.tag]
    sides = {side: _whole([each for each in there if each.what == SLICE and each.about[0] == side])
             for side in ("x", "y")}  # fmt: skip
    x, y = sides["x"], sides["y"]
    keys = [new] if new.what != SLICE else [each for each in there if each.what in (FORMS, SHOWN_KEY)]
    if x is None:
        return []
    return [_forms(key.about, x, y) if key.what == FORMS else x @ np.asarray(key).T
            for key in keys if key.what == SHOWN_KEY or y is not None]  # fmt: skip


def _whole(slices: list[Sealed]) -> Reals | None:
    """Vectors (N, n) of their slices, if there are all."""
    by_place = {each.about[1]: np.asarray(each) for each in slices}
    if not slices or sum(each.shape[1] for each in by_place.values()) != slices[0].about[2]:
        return None
    return np.concatenate([by_place[place] for place in sorted(by_place)], axis=1)


def _forms(forms: Any, x: Reals, y: Any) -> Reals:
    """The values (N, h, i) of a grid of forms."""
    folded = (forms.weights * x[:, forms.places]).sum(axis=3)
    found: Reals = np.einsum("Nhc,Nic->Nhi", folded, y[:, forms.columns])
    return found


def opened(new: Sealed, other: Sealed) -> Reals | None:
    """What two sealed arrays of a view give together, or None."""
    if new.tag != other.tag:
        return None
    by = {new.what: new, other.what: other}
    if MASTER in by and len(by) == 2:
        (rest,) = (each for what, each in by.items() if what != MASTER)
        return np.asarray(rest)
    for key in (KEY, SHOWN_KEY):
        if SAMPLES in by and key in by:
            found: Reals = np.asarray(by[SAMPLES]) @ np.asarray(by[key]).T
            return found
    if ENTRIES in by and ENTRY_KEY in by:
        return _entries(by[ENTRIES], by[ENTRY_KEY])
    return None


def _entries(ct: Sealed, key: Sealed) -> Reals | None:
    """x - y or x + y of the entries that a key was made for."""
    assert ct.ids is not None and key.ids is not None
    places = {bytes(name): value for name, value in zip(_flat(ct.ids), np.asarray(ct).ravel(), strict=True)}
    pairs = [(places[bytes(name)], y) for name, y in zip(_flat(key.ids), np.asarray(key).ravel(), strict=True)
             if bytes(name) in places]  # fmt: skip
    return np.array([x + y for x, y in pairs]) if pairs else None


def _flat(ids: NDArray[Any]) -> NDArray[Any]:
    return ids.reshape(-1, ids.shape[-1])


@dataclass(frozen=True, eq=False)
class Batch:
    """Ciphertexts or keys (rows, columns) of an instance; `y` are vectors that a key shows, `more` the right
    side of quadratic forms.
    """

    elements: Sealed
    y: Reals | None = None
    commitments: NDArray[np.uint8] | None = None
    more: tuple[Sealed, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.elements.shape


@dataclass(frozen=True, eq=False)
class Instance:
    """A public key: its parameters and its tag; `place`: of which slice of vectors, and how long they are."""

    params: Any
    tag: bytes
    place: tuple[str, int, int] | None = None


@dataclass(frozen=True, eq=False)
class Master:
    """A master key: whoever has it opens all of its instance."""

    params: Any
    secret: Sealed


def setup(params: Any, coins: Coins) -> tuple[Instance, Master]:
    """An instance."""
    tag = coins.stream("ideal").bytes(_TAG)
    return Instance(params, tag), Master(params, sealed(np.zeros(0), tag, MASTER))


def check(key: Any, params: Any, *more: Any) -> Any:
    """The key."""
    return key


def encrypt(key: Instance | Master, x: Any, coins: Coins) -> Batch:
    """The rows of x (N, n)."""
    if isinstance(key, Instance) and key.place is not None:
        return Batch(sealed(x, key.tag, SLICE, about=key.place))
    return Batch(sealed(x, _tag(key), SAMPLES))


def share(key: Instance, coins: Coins) -> Batch:
    """What encryptors of slices share: it opens all of them."""
    return Batch(sealed(np.zeros(0), key.tag, MASTER))


def part(key: Instance, start: int, stop: int) -> Instance:
    """The public key of a slice."""
    return replace(key, place=("x", start, key.params.bounds.length))


def join(key: Instance, parts: Sequence[Any]) -> Any:
    """Slices put together, as the holder of keys computes with them."""
    joined = [
        sealed(np.concatenate(side, axis=1), key.tag, side[0].what)
        for side in zip(*((each.elements, *each.more) for each in parts), strict=True)
    ]
    return Batch(joined[0], more=tuple(joined[1:]))


def encrypt_part(key: Instance, x: Any, y: Any, masks: Any, left: int, right: int) -> Batch:
    """Quadratic forms: slices of both sides."""
    bounds = key.params.bounds
    first = sealed(x, key.tag, SLICE, about=("x", left, bounds.left))
    return Batch(first, more=(sealed(y, key.tag, SLICE, about=("y", right, bounds.right)),))


def forms_key_derive(msk: Master, forms: Any) -> Batch:
    """Quadratic forms: a key, which shows them."""
    return Batch(
        sealed(np.zeros(0), msk.secret.tag, FORMS, about=forms), np.asarray(forms.weights, np.float64)
    )


def decrypt_forms(key: Instance, sk: Batch, ct: Batch, workers: int = 1) -> Reals:
    """Quadratic forms: the values (N, h, i)."""
    return _forms(sk.elements.about, np.asarray(ct.elements), np.asarray(ct.more[0]))


def load(key: Instance, ct: Batch) -> Batch:
    """The ciphertexts."""
    return ct


def rows(batch: Batch, start: int, stop: int) -> Batch:
    """The vectors start, ..., stop - 1; entries of FEBO with their commitments."""
    part: Any = batch.elements[start:stop]
    if batch.commitments is None:
        more: Any = tuple(side[start:stop] for side in batch.more)
        return replace(batch, elements=part, more=more)
    commitments = batch.commitments[start:stop]
    return Batch(sealed(part, part.tag, part.what, commitments), None, commitments)


def key_derive(msk: Master, y: Any) -> Batch:
    """A key for every row of y (h, n), which it shows."""
    shown = np.array(y, dtype=np.float64)
    return Batch(sealed(shown, msk.secret.tag, SHOWN_KEY), shown)


def hiding_key_derive(msk: Master, y: Any, coins: Coins) -> Batch:
    """A key for every row of y (h, n), which it hides."""
    return Batch(sealed(y, msk.secret.tag, KEY))


def decrypt(key: Instance, sk: Batch, ct: Batch, workers: int = 1) -> Reals:
    """The inner products (N, h)."""
    found = opened(sk.elements, ct.elements)
    if found is None and ct.elements.what == SLICE and sk.elements.tag == ct.elements.tag:
        found = np.asarray(ct.elements) @ np.asarray(sk.elements).T
    assert found is not None, "a key of another instance"
    return found


def encrypt_entries(key: Instance, x: Any, coins: Coins) -> Batch:
    """FEBO: every entry of x (N, k), each under a commitment of its own."""
    names = np.frombuffer(coins.stream("ideal entries").bytes(_TAG * x.size), np.uint8).reshape(
        *x.shape, _TAG
    )
    return Batch(sealed(x, key.tag, ENTRIES, names), None, names)


def entry_key_derive(msk: Master, commitments: NDArray[np.uint8], operation: Operation, y: Any) -> Batch:
    """FEBO: one key per entry of y (N, k), for the commitment at the same place."""
    sign = -1 if operation is Operation.SUB else 1
    return Batch(sealed(sign * y, msk.secret.tag, ENTRY_KEY, commitments))


def decrypt_entries(key: Instance, sk: Batch, ct: Batch) -> Reals:
    """FEBO: x - y or x + y (N, k)."""
    found = opened(sk.elements, ct.elements)
    assert found is not None
    return found.reshape(ct.elements.shape)


@dataclass(frozen=True, eq=False)
class Head:
    """Paillier: an encrypted head, one row (W, b) per class; `exponents` are those that floats show."""

    elements: Sealed
    tables: None = None


def encrypt_head(pk: Instance, weights: Any, bias: Any, coins: Coins) -> Head:
    """Paillier: weights (k, d) and bias (k,)."""
    return Head(sealed(np.hstack([weights, np.asarray(bias)[:, None]]), pk.tag, NUMBERS))


def linear(pk: Instance, head: Head, features: Any, coins: Coins, tables: bool | None = None) -> Any:
    """Paillier: logits (m, k) of features (m, d)."""
    layer = np.asarray(head.elements)
    found = np.asarray(features) @ layer[:, :-1].T + layer[:, -1]
    return PaillierLogits(pk.tag, sealed(found, pk.tag, NUMBERS))


def decrypt_logits(sk: Master, ct: Any) -> Reals:
    """Paillier: the logits (m, k)."""
    return np.asarray(ct.elements)


def encrypt_float(pk: Instance, weights: Any, bias: Any, coins: Coins) -> PaillierFloats:
    """Paillier: the same of phe's floats, whose exponents are in the clear."""
    matrix = np.hstack([weights, np.asarray(bias)[:, None]])
    return PaillierFloats(pk.tag, sealed(matrix, pk.tag, NUMBERS), paillier.float_exponents(matrix))


def linear_float(pk: Instance, head: PaillierFloats, features: Any, coins: Coins) -> PaillierFloats:
    """Paillier: logits of floats."""
    layer = np.asarray(head.elements)
    found = np.asarray(features) @ layer[:, :-1].T + layer[:, -1]
    return PaillierFloats(pk.tag, sealed(found, pk.tag, NUMBERS), paillier.float_exponents(found))


def few_slots(levels: int) -> CkksParams:
    """CKKS: parameters with so many levels, of few slots, so that little is differentiated."""
    return CkksParams(_FEW, levels + 2)


def encrypt_slots(sk: Master, values: Any, coins: Coins, level: int | None = None) -> Batch:
    """CKKS: vectors (N, slots), at a level."""
    return Batch(sealed(values, sk.secret.tag, NUMBERS, about=sk.params.top if level is None else level))


def decrypt_slots(sk: Master, ct: Batch) -> tuple[Reals, float]:
    """CKKS: the vectors (N, slots), without noise."""
    return np.asarray(ct.elements), 0.0


class Engine:
    """CKKS: what computes on vectors, in the clear, and keeps count of levels."""

    def __init__(self, keys: Instance) -> None:
        self._tag = keys.tag

    def load(self, ct: Batch) -> list[Slots]:
        """The vectors of a message."""
        return [Slots(np.asarray(row), ct.elements.about) for row in ct.elements]

    def store(self, vectors: Sequence[Slots]) -> Batch:
        """A message of vectors."""
        return Batch(sealed([each.values for each in vectors], self._tag, NUMBERS, about=0))

    def total(self, vectors: Sequence[Slots], others: Sequence[Slots]) -> Slots:
        """The sum of products."""
        products = [x * y for x, y in zip(vectors, others, strict=True)]
        level = min(each.level for each in products)
        return Slots(np.sum([each.values for each in products], axis=0), level)


@dataclass(frozen=True)
class Slots:
    """CKKS: a vector at a level."""

    values: Reals
    level: int

    def __mul__(self, other: Slots | float) -> Slots:
        if isinstance(other, float):
            return Slots(self.values * other, self.level - 1)
        return Slots(self.values * other.values, min(self.level, other.level) - 1)

    def __add__(self, other: Slots | float) -> Slots:
        if isinstance(other, float):
            return Slots(self.values + other, self.level)
        return Slots(self.values + other.values, min(self.level, other.level))

    def __sub__(self, other: Slots) -> Slots:
        return Slots(self.values - other.values, min(self.level, other.level))

    def summed(self, stride: int, count: int) -> Slots:
        """The sum of `count` slots each, in a circle."""
        found = sum(np.roll(self.values, -k * stride) for k in range(count))
        return Slots(np.asarray(found), self.level)


SHAPE = property(lambda batch: batch.elements.shape)  # of a Paillier record whose elements are sealed numbers


def quantise(form: FixedPoint, x: Any, what: str = "a value") -> Reals:
    """Reals as they are, in steps of the format."""
    return np.asarray(x, dtype=np.float64) * form.scale


class RealRank(Echelon):
    """The rank of real rows, for budgets on keys."""

    def __init__(self, columns: int) -> None:
        super().__init__(columns)
        self._rows: Reals = np.zeros((0, columns))

    @property
    def rank(self) -> int:
        return int(np.linalg.matrix_rank(self._rows)) if len(self._rows) else 0

    def copy(self) -> RealRank:
        twin = RealRank(self.columns)
        twin._rows = self._rows
        return twin

    def add(self, rows: Any) -> NDArray[np.int64]:
        self._rows = np.vstack([self._rows, rows])
        return np.zeros(0, np.int64)


def _tag(key: Instance | Master) -> bytes:
    return key.tag if isinstance(key, Instance) else key.secret.tag
