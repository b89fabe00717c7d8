"""Secure aggregation: the sum of many parties' arrays, and nothing else, for one that adds them up.

K. Bonawitz et al., *Practical Secure Aggregation for Privacy-Preserving Machine Learning*, CCS 2017, eprint
2017/281. Parties i < j of a round share a mask; i adds it, j subtracts it, so that the masks cancel in the
sum (their 4.0.1). Masks are AES-256-CTR keystreams (`coins.py`) keyed by HKDF of an X25519 shared secret
(Diffie-Hellman on Curve25519, RFC 7748) and the round's name, so that no mask is used twice.

Where parties may leave (their figure 4, semi-honest): each also adds a mask of its own, from a seed, and
shares its key and its seed among the round, t of m (`shamir.py`), sealed for each other by AES-256-GCM. Of
a party that stayed the others open the seed, of one that left the key, never both, so that a copy that comes
too late stays masked.

Security: each masked array is uniform in Z_{2^64} to a coalition that misses at least two of the round's
parties; where parties may leave, to one that holds fewer than t of them and misses at least two of those that
stayed, and the array of one that left or was late to any that holds fewer than t (computational
Diffie-Hellman on Curve25519, AES, GCM and HKDF). The public keys come through the one that adds up, which
must relay them honestly, and name the same parties to all: one that swapped them, or asked some for the seed
and others for the key, could read an array. The sum itself is not protected, and of two parties each learns
the other's.

Deviations: no signatures and no consistency check, which serve against an active adversary. Reals are
carried as integers mod 2^64 with 2^32 steps a unit, so the average differs from that of the reals by at most
2^-33.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from protocols.crypto import shamir
from protocols.crypto.coins import Coins, Stream, derive
from protocols.language.errors import BoundError, MalformedError

SECURITY = (
    "one-time pads from pairwise X25519 secrets (AES-256-CTR): 128 bit; A relays the public keys honestly "
    "and nobody drops out"
)
RECOVERABLE = (
    "one-time pads from pairwise X25519 secrets and from each owner's seed (AES-256-CTR), keys and seeds in "
    "Shamir shares under AES-256-GCM: 128 bit; A relays the public keys, and says who stayed, honestly"
)
FRAC_BITS = 32
MEMBERS = 64  # largest round: each member draws a mask for every other
KEY_BYTES = 32
OWN_MASK = "seed of its own mask"  # the purpose of a party's seed
FOR_SHARES = "x25519 for shares"  # the purpose of the key pair under which shares are sealed
SEALED_BYTES = 2 * shamir.SHARE_BYTES + 16  # a share of a key, one of a seed, and GCM's tag
Words = NDArray[np.uint64]
Keys = NDArray[np.uint8]


def key_pair(coins: Coins, purpose: str = "x25519") -> tuple[bytes, Keys]:
    """(private key, public key) of a party, 32 bytes each."""
    private = coins.stream(purpose).bytes(KEY_BYTES)  # RFC 7748: any 32 bytes, clamped where they are used
    return private, public_key(private)


def public_key(private: bytes) -> Keys:
    """The public key (32,) of a private one."""
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    return np.frombuffer(public, np.uint8)


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
    values: Words,
    me: int,
    members: Sequence[int],
    private: bytes,
    publics: Keys,
    use: str,
    seed: bytes | None = None,
) -> Words:
    """The array of party `me` under its masks with all other members of a round; `publics` (m, 32), theirs.
    With a `seed`, also under a mask of its own.

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
    masked = values.copy() if seed is None else values + own_mask(seed, use, values.shape)
    for other, public in zip(members, publics, strict=True):
        if other != me:
            pad = _pad(private, public, min(me, other), max(me, other), use).words(*values.shape)
            masked = masked + pad if me < other else masked - pad
    return masked


def own_mask(seed: bytes, use: str, shape: tuple[int, ...]) -> Words:
    """The mask that a party draws from its own seed."""
    return Stream(derive(seed, "own mask", use)).words(*shape)


def pair_mask(private: bytes, public: Keys, me: int, other: int, use: str, shape: tuple[int, ...]) -> Words:
    """What `me` adds to its array for `other`, mod 2^64, for whoever holds the private key of either and the
    public one of the other.
    """
    pad = _pad(private, public, min(me, other), max(me, other), use).words(*shape)
    return pad if me < other else np.zeros_like(pad) - pad


def total(masked: Sequence[Words]) -> Words:
    """The sum mod 2^64, in which the masks cancel."""
    summed = np.zeros_like(masked[0])
    for words in masked:
        if words.shape != summed.shape or words.dtype != np.uint64:
            raise MalformedError(f"expected words {summed.shape}, got {words.dtype} {words.shape}")
        summed = summed + words
    return summed


# -- where parties may leave --


def draw_seed(coins: Coins) -> bytes:
    """A seed for a party's own masks."""
    return coins.stream(OWN_MASK).bytes(KEY_BYTES)


def threshold(members: int) -> int:
    """t, how many of a round open what is shared: two thirds, at least two."""
    return max(2, -(-2 * members // 3))


def share(
    me: int, members: Sequence[int], key: bytes, seed: bytes, private: bytes, publics: Keys, coins: Coins
) -> Keys:
    """Shares of `key` and `seed` for each member, sealed under `private` and the members' `publics` (m, 32):
    (m, 82).
    """
    count, needed = len(members), threshold(len(members))
    of_key = shamir.split(key, needed, count, coins.stream("shares of the key"))
    of_seed = shamir.split(seed, needed, count, coins.stream("shares of the seed"))
    sealed = [
        _box(private, public, me, other).encrypt(bytes(12), of_key[k].tobytes() + of_seed[k].tobytes(), None)
        for k, (other, public) in enumerate(zip(members, publics, strict=True))
    ]
    return np.frombuffer(b"".join(sealed), np.uint8).reshape(count, SEALED_BYTES)


def unseal(sealed: Keys, me: int, members: Sequence[int], private: bytes, publics: Keys) -> Keys:
    """The shares (m, 2, 33) of key and seed that each member sealed for `me`; `MalformedError` names the one
    whose shares were changed.
    """
    found = []
    for other, public, box in zip(members, publics, sealed, strict=True):
        try:
            found.append(_box(private, public, other, me).decrypt(bytes(12), box.tobytes(), None))
        except InvalidTag:
            raise MalformedError(f"shares of party {other} were changed on their way to party {me}") from None
    return np.frombuffer(b"".join(found), np.uint8).reshape(len(members), 2, shamir.SHARE_BYTES)


def reveal(shares: Keys, me: int, members: Sequence[int], stayed: NDArray[np.bool_]) -> Keys:
    """What party `me` says at the end of a round: (m, 33), its share of the seed of each that `stayed` and of
    the key of each that left. `MalformedError` where that would open what fewer than t have.
    """
    if not stayed[members.index(me)] or stayed.sum() < threshold(len(members)):
        raise MalformedError("asked to open the masks of a round in which too few stayed")
    return np.where(stayed[:, None], shares[:, 1], shares[:, 0])


def secrets(revealed: Sequence[Keys], stayed: NDArray[np.bool_], publics: Keys) -> list[bytes]:
    """Of each member the seed if it `stayed` or else the key, from what those that stayed revealed, in their
    order; `MalformedError` where a key does not fit the public one (m, 32).
    """
    needed = threshold(len(stayed))
    weighted = shamir.weights([int(k) + 1 for k in np.flatnonzero(stayed)[:needed]])
    found = [shamir.join(shares, weighted) for shares in np.stack(revealed[:needed], axis=1)]
    for secret, here, public in zip(found, stayed, publics, strict=True):
        if not here and not np.array_equal(public_key(secret), public):
            raise MalformedError("shares of a key do not give the key that was announced")
    return found


def unmasked(
    summed: Words,
    members: Sequence[int],
    stayed: NDArray[np.bool_],
    known: Sequence[bytes],
    publics: Keys,
    use: str,
) -> Words:
    """The sum of the arrays of those that `stayed`, from that of the masked ones and `secrets`."""
    for other, here, secret in zip(members, stayed, known, strict=True):
        if here:
            summed = summed - own_mask(secret, use, summed.shape)
            continue
        for me, present, public in zip(members, stayed, publics, strict=True):
            if present:
                summed = summed - pair_mask(secret, public, me, other, use, summed.shape)
    return summed


def _box(private: bytes, public: Keys, sender: int, receiver: int) -> AESGCM:
    """The cipher for one message, whose key is used for no other: the nonce may be constant."""
    return AESGCM(derive(_secret(private, public), "aggregate box", str(sender), str(receiver)))


def _pad(private: bytes, public: Keys, low: int, high: int, use: str) -> Stream:
    """The keystream that two parties share for one use."""
    return Stream(derive(_secret(private, public), "aggregate", str(low), str(high), use))


def _secret(private: bytes, public: Keys) -> bytes:
    """What two parties share (X25519)."""
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(bytes(public))
        )
    except ValueError:
        raise MalformedError("a public key is a point of small order") from None
