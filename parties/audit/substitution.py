"""Puts ideal functionalities in the place of all schemes, in this process and for as long as an audit
lasts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from parties.audit.draws import Unknowns
from protocols.crypto import (
    aggregate,
    ckks,
    febo,
    fhipe,
    ideal,
    ipfe_ddh,
    ipfe_lwe,
    ipfe_rlwe,
    paillier,
    qfe,
    shamir,
    shared,
)
from protocols.crypto.coins import Coins
from protocols.crypto.paillier_keys import PaillierFloats, PaillierLogits
from protocols.network.fixedpoint import FixedPoint
from protocols.parts import budget

_BLANK = np.zeros(aggregate.KEY_BYTES, np.uint8)
_CHECKED = {"check": ideal.check}
_PRODUCTS = {
    **_CHECKED,
    "load": ideal.load,
    "rows": ideal.rows,
    "encrypt": ideal.encrypt,
    "decrypt": ideal.decrypt,
}
_SUBSTITUTES: tuple[tuple[Any, dict[str, Any]], ...] = (
    (ipfe_lwe, {**_PRODUCTS, "key_derive": ideal.key_derive}),
    (ipfe_rlwe, {**_PRODUCTS, "key_derive": ideal.key_derive}),
    (ipfe_ddh, {**_PRODUCTS, "key_derive": ideal.key_derive, "part": ideal.part, "join": ideal.join}),
    (qfe, {
        **_CHECKED, "masks": lambda *_: None, "encrypt_part": ideal.encrypt_part, "join": ideal.join,
        "load": ideal.load, "rows": ideal.rows, "key_derive": ideal.forms_key_derive,
        "decrypt": ideal.decrypt_forms,
    }),
    (shared, {"coins_of": lambda *_: Coins(bytes(32))}),
    (fhipe, {**_PRODUCTS, "key_derive": ideal.hiding_key_derive, "check_msk": ideal.check}),
    (febo, {
        **_CHECKED, "rows": ideal.rows, "encrypt": ideal.encrypt_entries,
        "key_derive": ideal.entry_key_derive, "decrypt": ideal.decrypt_entries,
    }),
    (paillier, {
        **_CHECKED, "load": ideal.load, "blinding": lambda *_: [],
        "encrypt": ideal.encrypt_head, "linear": ideal.linear, "decrypt": ideal.decrypt_logits,
        "encrypt_float": ideal.encrypt_float, "linear_float": ideal.linear_float,
        "decrypt_float": ideal.decrypt_logits,
    }),
    (ckks, {
        **_CHECKED, "parameters": ideal.few_slots, "encrypt": ideal.encrypt_slots, "Engine": ideal.Engine,
        "decrypt": ideal.decrypt_slots,
    }),
    (aggregate, {
        "fixed": lambda values, members: values, "restore": lambda summed: summed, "total": sum,
        # No pad is drawn from keys, seeds and shares, which depend on no unknown: they are blank.
        "key_pair": lambda coins, purpose="": (_BLANK.tobytes(), _BLANK),
        "draw_seed": lambda coins: _BLANK.tobytes(),
        "share": lambda me, members, *_: np.zeros((len(members), aggregate.SEALED_BYTES), np.uint8),
        "unseal": lambda sealed, me, members, *_: np.zeros((len(members), 2, shamir.SHARE_BYTES), np.uint8),
    }),
    (FixedPoint, {"quantise": ideal.quantise, "WIDE": np.float64}),
    (budget, {"Echelon": ideal.RealRank}),
    (PaillierLogits, {"__post_init__": lambda self: None, "shape": ideal.SHAPE}),
    (PaillierFloats, {"__post_init__": lambda self: None, "shape": ideal.SHAPE}),
)  # fmt: skip
_WITH_MASTERS: tuple[Any, ...] = (ipfe_lwe, ipfe_rlwe, ipfe_ddh, fhipe, febo, paillier, qfe, ckks)
_SHARES = "shares of keys and seeds that several owners hold"
_ABSENT = object()  # an attribute that a class inherits


class Pads:
    """Masked sums over the reals: a pad that two share, or one of its own, in the place of each mask.

    Where a round ends, the first that stayed hands over the pads which its members' shares would open, in
    their place: two owners' shares are needed at least, so that no pair of parties learns more by theirs.
    What several owners learn by theirs is left out, and the findings of such coalitions say so.
    """

    def __init__(self, unknowns: Unknowns) -> None:
        self._unknowns = unknowns
        self._met: dict[tuple[int, int, str], Any] = {}  # of the round that is under way
        self._round = ""
        self._opened: list[tuple[int, int, str]] = []

    def mask(
        self, values: Any, me: int, members: Any, private: Any, publics: Any, use: str, seed: Any = None
    ) -> Any:
        """In the place of `aggregate.mask`."""
        number = use.rpartition(" ")[2]
        if number != self._round:
            self._met, self._round = {}, number
        for other in members if seed is not None else [other for other in members if other != me]:
            low, high = min(me, other), max(me, other)
            pad = self._unknowns.pad(low, high, use, values.shape)
            values = values + (pad if me <= other else -pad)
            self._met[low, high, use] = pad
        return values

    def reveal(self, shares: Any, me: int, members: Any, stayed: Any) -> Any:
        """In the place of `aggregate.reveal`."""
        self._unknowns.left_out[_SHARES] = 2
        here = {other for other, is_here in zip(members, stayed, strict=True) if is_here}
        if me != min(here):
            return np.zeros(0)
        self._opened = [key for key in self._met if _opens(key, here)]
        return np.concatenate([self._met[key].ravel() for key in self._opened])

    def secrets(self, revealed: Any, stayed: Any, publics: Any) -> Any:
        """In the place of `aggregate.secrets`."""
        return [np.concatenate(revealed)] * len(stayed)

    def unmasked(self, summed: Any, members: Any, stayed: Any, known: Any, publics: Any, use: str) -> Any:
        """In the place of `aggregate.unmasked`."""
        here = {other for other, is_here in zip(members, stayed, strict=True) if is_here}
        start = 0
        for key in self._opened:
            shape = self._met[key].shape
            pad = known[0][start : start + int(np.prod(shape))].reshape(shape)
            start += pad.size
            if key[2] == use:
                summed = summed - (pad if key[0] in here else -pad)
        return summed


def _opens(key: tuple[int, int, str], here: set[int]) -> bool:
    """Whether a pad is opened at the end of a round: of its own, of one that stayed, and of one that left."""
    low, high, _ = key
    return low in here if low == high else (low in here) != (high in here)


@contextmanager
def ideal_schemes(unknowns: Unknowns) -> Iterator[list[ideal.Sealed]]:
    """Yields the list to which every master key is added that is drawn."""
    drawn: list[ideal.Sealed] = []

    def setup(params: Any, coins: Any, *more: Any) -> tuple[ideal.Instance, ideal.Master]:
        public, master = ideal.setup(params, coins)
        drawn.append(master.secret)
        return public, master

    def share(public: ideal.Instance, coins: Any) -> ideal.Batch:
        found = ideal.share(public, coins)
        drawn.append(found.elements)
        return found

    pads = Pads(unknowns)
    places: list[tuple[Any, str, Any]] = [(module, "setup", setup) for module in _WITH_MASTERS]
    places.append((shared, "share", share))
    places += [(aggregate, name, getattr(pads, name)) for name in ("mask", "reveal", "secrets", "unmasked")]
    places += [(owner, name, verb) for owner, verbs in _SUBSTITUTES for name, verb in verbs.items()]
    before = [vars(owner).get(name, _ABSENT) for owner, name, _ in places]
    try:
        for owner, name, verb in places:
            setattr(owner, name, verb)
        yield drawn
    finally:
        for (owner, name, _), value in zip(places, before, strict=True):
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
