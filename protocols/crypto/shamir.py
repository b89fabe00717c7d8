"""Secret sharing: `t` of `m` shares give a secret of 32 bytes, fewer say nothing of it.

A. Shamir, *How to Share a Secret*, CACM 22 (1979). The secret is the value at 0 of a polynomial of degree
t - 1 over a prime field whose other coefficients are uniform; share i is its value at i = 1 .. m. Security is
unconditional. Deviations: none; a secret that is put together from shares of which one is false is another
secret, and only a value above 32 bytes is noticed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.coins import Stream
from protocols.language.errors import MalformedError

PRIME = 2**256 + 297  # the smallest prime above 2^256
SECRET_BYTES = 32
SHARE_BYTES = 33
Shares = NDArray[np.uint8]


def split(secret: bytes, threshold: int, members: int, stream: Stream) -> Shares:
    """Shares (members, 33) of a secret of 32 bytes, of which `threshold` give it back."""
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= members:
        raise ValueError(f"expected {SECRET_BYTES} bytes and 1 <= threshold <= members")
    coefficients = [int.from_bytes(secret, "big"), *stream.below(PRIME, threshold - 1)]
    shares = []
    for point in range(1, members + 1):
        value = 0
        for coefficient in reversed(coefficients):  # Horner
            value = (value * point + coefficient) % PRIME
        shares.append(value.to_bytes(SHARE_BYTES, "big"))
    return np.frombuffer(b"".join(shares), np.uint8).reshape(members, SHARE_BYTES)


def weights(points: Sequence[int]) -> list[int]:
    """What the shares at these points are multiplied by (Lagrange's polynomials at 0)."""
    found = []
    for i in points:
        above = below = 1
        for j in points:
            if j != i:
                above, below = above * j % PRIME, below * (j - i) % PRIME
        found.append(above * pow(below, -1, PRIME) % PRIME)
    return found


def join(shares: Shares, weighted: Sequence[int]) -> bytes:
    """The secret from `t` shares (t, 33) and the `weights` of their points; `MalformedError` where none of 32
    bytes fits.
    """
    terms = (int.from_bytes(share.tobytes(), "big") for share in shares)
    value = sum(weight * term for weight, term in zip(weighted, terms, strict=True)) % PRIME
    if value >= 1 << 8 * SECRET_BYTES:
        raise MalformedError("shares of a key do not fit together")
    return value.to_bytes(SECRET_BYTES, "big")
