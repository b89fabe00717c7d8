"""Coins that several encryptors share, so that each encrypts a slice of one vector under the same randomness.

One of them draws 32 bytes and tells the others; the coins of each batch are derived from them. Whoever is
told them opens every slice: they hide nothing among those who share, and who leaks them leaks all.
"""

from __future__ import annotations

from typing import Any

from protocols.crypto.coins import Coins, derive
from protocols.crypto.records import Record, nbytes, record

_BYTES = 32


@record
class Shared(Record):
    """What encryptors share. Secret."""

    key: bytes = nbytes(_BYTES)

    def __repr__(self) -> str:
        return "Shared(...)"


def share(mpk: Any, coins: Coins) -> Shared:
    """Draw what the encryptors under a public key share."""
    return Shared(coins.stream("shared").bytes(_BYTES))


def coins_of(shared: Shared, number: int) -> Coins:
    """The coins for one upload, the same at everybody who shares them."""
    return Coins(derive(shared.key, "upload", str(number)))
