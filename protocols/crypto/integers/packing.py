"""Small signed integers packed into one large one: all classes of a linear head in one plaintext.

Slot c of a plaintext is worth 2^{cS}: logits z_0, ..., z_{k-1} are packed as sum_c z_c 2^{cS}, an integer of
either sign. Slots are **balanced**: they hold z itself, and a negative one borrows from the slot above, which
`unpack` gives back. Sums and multiples of packed values are then the packed sums and multiples, whatever the
factors. With an offset that makes every slot positive, the offset would be multiplied too, and who unpacks
would have to know the sum of the features.

It is exact as long as every slot of the *result* lies in [-2^{S-1}, 2^{S-1}). That follows from the bounds at
set-up, and one bit more is given so that a result of up to twice the bound is seen as one that is too large
and does not spill into its neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.records import Ints, Record, number, record
from protocols.language.errors import BoundError

SPARE_BITS = 64  # of the modulus above the slots: all zero in what decrypts rightly
_LARGEST = 1 << 62  # logits are int64


@record
class HeadBounds(Record):
    """A linear head of `classes` rows over `features` columns: |w| <= weight, |b| <= bias, 0 <= f <= feature.

    `signed` allows -feature <= f as well.
    """

    classes: int = number("k")
    features: int = number("d")
    weight: int = number()
    feature: int = number()
    bias: int = number()
    signed: bool = False

    @property
    def logit(self) -> int:
        """Bound on |<w, f> + b|."""
        return self.features * self.weight * self.feature + self.bias

    @property
    def slot_bits(self) -> int:
        """Bits of a slot that holds a logit: the sign, and twice the room it needs."""
        return self.logit.bit_length() + 2


def slots(bounds: HeadBounds, modulus_bits: int) -> int:
    """How many classes a plaintext below a modulus of this many bits holds; `BoundError` if it holds none."""
    if bounds.logit >= _LARGEST:
        raise BoundError(f"logits up to {bounds.logit} do not fit into 64 bits; lower --weight-scale")
    room = (modulus_bits - 1 - SPARE_BITS) // bounds.slot_bits
    if room < 1:
        raise BoundError(
            f"a slot of {bounds.slot_bits} bits exceeds the {modulus_bits - 1 - SPARE_BITS} bits of a "
            "plaintext; lower --weight-scale or raise --key-bits"
        )
    return min(room, bounds.classes)


def pack(columns: Ints, slot_bits: int, per_plaintext: int) -> list[list[int]]:
    """Columns (rows, k) of one value a class, each as ceil(k / per_plaintext) signed plaintexts."""
    starts = range(0, columns.shape[1], per_plaintext)
    return [
        [_join(row[start : start + per_plaintext], slot_bits) for start in starts] for row in columns.tolist()
    ]


def unpack(rows: Sequence[Sequence[int]], bounds: HeadBounds, per_plaintext: int) -> NDArray[np.int64]:
    """The logits (rows, k) of signed plaintexts; `BoundError` beyond the bound or above the slots."""
    logits = [
        [z for i, value in enumerate(row) for z in _split(value, bounds, per_plaintext, i)] for row in rows
    ]
    return np.array(logits, dtype=np.int64).reshape(len(rows), bounds.classes)


def _join(values: Sequence[int], slot_bits: int) -> int:
    return sum(value << (slot_bits * place) for place, value in enumerate(values))


def _split(value: int, bounds: HeadBounds, per_plaintext: int, index: int) -> list[int]:
    count, width = min(per_plaintext, bounds.classes - index * per_plaintext), bounds.slot_bits
    half = 1 << (width - 1)
    shifted = value + _join([half] * count, width)  # every slot positive, for the cut only
    found = [((shifted >> (width * place)) & (2 * half - 1)) - half for place in range(count)]
    if shifted < 0 or shifted >> (width * count) or max(map(abs, found)) > bounds.logit:
        raise BoundError(
            f"a decrypted logit exceeds the bound {bounds.logit}: the key and the ciphertext do not belong "
            "together, or the head or the features exceed the bounds of the parameters"
        )
    return found
