"""The verbs and types that all inner-product functional-encryption schemes share.

A scheme is a module. Everything is batched: a matrix of vectors in, a matrix of inner products out.

    params      = scheme.parameters(bounds)            derived from the bounds, refuses what it cannot carry
    mpk, msk    = scheme.setup(params, coins)
    ct          = scheme.encrypt(mpk, X, coins)        X (N, n) integers, |x| <= bounds.x
    sk          = scheme.key_derive(msk, Y)            Y (h, n) integers, |y| <= bounds.y
    Z           = scheme.decrypt(mpk, sk, ct)          Z (N, h) int64 = X Y^T, exact, or BoundError

`load` turns what arrived into what `decrypt` works on, validating it once; a scheme without group elements returns
its argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import BoundError
from protocols.language.message import wire

Ints = NDArray[np.integer[Any]]


@wire
@dataclass(frozen=True)
class Bounds:
    """What a scheme must carry: vectors of `length` entries, |x| <= `x` in ciphertexts, |y| <= `y` in keys."""

    length: int
    x: int
    y: int

    @property
    def inner(self) -> int:
        """Bound on |<x, y>|."""
        return self.length * self.x * self.y


def check_range(values: Ints, bound: int, what: str, remedy: str) -> None:
    """Raise `BoundError` if an entry of the integer array `values` exceeds `bound` in absolute value."""
    if values.size:
        worst = max(abs(int(values.max())), abs(int(values.min())))
        if worst > bound:
            raise BoundError(f"{what}: an entry exceeds the bound {bound}; {remedy}")
