"""The type in which bounded integers cross."""

from __future__ import annotations

from typing import Any

import numpy as np

from protocols.language.errors import BoundError


def signed_type(limit: int) -> np.dtype[Any]:
    """The smallest signed integer type that holds -limit, ..., limit; `BoundError` beyond 64 bits.

    Not the smallest that holds -limit: -128 fits into a byte, and 128, its negative, becomes -128 there.
    """
    if limit < 0 or limit >= 1 << 63:
        raise BoundError(f"no signed integer type holds a limit of {limit}; expected 0 to 2^63 - 1")
    return np.min_scalar_type(-limit - 1)
