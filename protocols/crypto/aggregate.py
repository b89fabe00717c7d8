"""Secure aggregation: the sum of many parties' arrays, and nothing else, for one that adds them up.

K. Bonawitz et al., *Practical Secure Aggregation for Privacy-Preserving Machine Learning*, CCS 2017, eprint
2017/281, the protocol without drop-outs (their section 4.0.1 "masking with one-time pads"): parties i < j of
a round share a mask; i adds it, j subtracts it, so that the masks cancel in the sum. Masks are AES-256-CTR
keystreams (`coins.py`) keyed by HKDF of an X25519 shared secret (Diffie-Hellman on Curve25519, RFC 7748) and
the round's name, so that no mask is used twice.

Security: each masked array is uniform in Z_{2^64} to a coalition that misses at least two of the round's
parties (computational Diffie-Hellman on Curve25519, AES and HKDF as pseudorandom functions). The public keys
come through the one that adds up, which must relay them honestly: one that swapped them could read every
array. The sum itself is not protected, and of two parties each learns the other's.

Deviations: no secret shares of keys and no second mask, which serve parties that drop out; none does here.
Reals are carried as integers mod 2^64 with 2^32 steps a unit, so the average differs from that of the reals
by at most 2^-33.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from numpy.typing import NDArray

from protocols.crypto.coins import Coins, Stream, derive
from protocols.language.errors import BoundError, MalformedError

SECURITY = (
    "one-time pads from pairwise X25519 secrets (AES-256-CTR): 128 bit; A relays the public keys honestly "
    "and nobody drops out"
)
FRAC_BITS = 32
MEMBERS = 64  # largest round: each member draws a mask for every other
KEY_BYTES = 32
Words = NDArray[np.uint64]


def key_pair(coins: Coins) -> tuple[bytes, NDArray[np.uint8]]:
    """(private key, public key) of a party, 32 bytes each."""
    private = coins.stream("x25519").bytes(KEY_BYTES)  # RFC 7748: any 32 bytes, clamped where they are used
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    return private, np.frombuffer(public, np.uint8)


def fixed(values: NDArray[Any], members: int) -> Words:
    """Reals as integers mod 2^64, 2^32 steps a unit; `BoundError` if a sum of `members` could overflow."""
    limit = 2.0 ** (63 - FRAC_BITS) / members
    reals = np.asarray(values, dtype=np.float64)
    if not np.isfinite(reals).all() or np.abs(reals).max(initial=0.0) >= limit:
        raise BoundError(
            f"an entry leaves the range +-{limit:g} of secure aggregation: training diverged; lower --lr"
        )
    return np.rint(reals * 2.0**FRAC_BITS).astype(np.int64).view(np.uint64)


def restore(words: Words) -> NDArray[np.float64]:
    """The reals that integers mod 2^64 stand for."""
    return words.view(np.int64) / 2.0**FRAC_BITS


def mask(
    values: Words, me: int, members: Sequence[int], private: bytes, publics: NDArray[np.uint8], use: str
) -> Words:
    """The array of party `me` under its masks with all other members of a round; `publics` (m, 32), theirs.

    `use` names the round and what is masked: it must not come twice.
    """
    if (
        publics.ndim != 2
        or publics.shape[1] != KEY_BYTES
        or publics.dtype != np.uint8
        or len(publics) != len(members)
    ):
        expected = f"({len(members)}, {KEY_BYTES})"
        raise MalformedError(f"expected public keys {expected}, got {publics.dtype} {publics.shape}")
    masked = values.copy()
    for other, public in zip(members, publics, strict=True):
        if other != me:
            pad = _pad(private, public, min(me, other), max(me, other), use).words(*values.shape)
            masked = masked + pad if me < other else masked - pad
    return masked


def unmask(words: Words, me: int, keys: Mapping[int, bytes], public: NDArray[np.uint8], use: str) -> Words:
    """The array that party `me`, whose key is `public`, masked, for whoever holds the private keys of all
    other members of a round.
    """
    for other, private in keys.items():
        pad = _pad(private, public, min(me, other), max(me, other), use).words(*words.shape)
        words = words - pad if me < other else words + pad
    return words


def total(masked: Sequence[Words]) -> Words:
    """The sum mod 2^64, in which the masks cancel."""
    summed = np.zeros_like(masked[0])
    for words in masked:
        if words.shape != summed.shape or words.dtype != np.uint64:
            raise MalformedError(f"expected words {summed.shape}, got {words.dtype} {words.shape}")
        summed = summed + words
    return summed


def _pad(private: bytes, public: NDArray[np.uint8], low: int, high: int, use: str) -> Stream:
    """The keystream that two parties share for one use."""
    try:
        shared = X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(bytes(public))
        )
    except ValueError:
        raise MalformedError("a public key is a point of small order") from None
    return Stream(derive(shared, "aggregate", str(low), str(high), use))
