"""Puts ideal functionalities in the place of all schemes, in this process and for as long as an audit
lasts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from parties.audit.draws import Unknowns
from protocols.crypto import aggregate, febo, fhipe, ideal, ipfe_ddh, ipfe_lwe, ipfe_rlwe, paillier
from protocols.crypto.paillier_keys import PaillierFloats, PaillierLogits
from protocols.network.fixedpoint import FixedPoint
from protocols.parts import budget

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
    (ipfe_ddh, {**_PRODUCTS, "key_derive": ideal.key_derive}),
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
    (aggregate, {
        "fixed": lambda values, members: values, "restore": lambda summed: summed, "total": sum,
    }),
    (FixedPoint, {"quantise": ideal.quantise, "WIDE": np.float64}),
    (budget, {"Echelon": ideal.RealRank}),
    (PaillierLogits, {"__post_init__": lambda self: None, "shape": ideal.SHAPE}),
    (PaillierFloats, {"__post_init__": lambda self: None, "shape": ideal.SHAPE}),
)  # fmt: skip
_WITH_MASTERS: tuple[Any, ...] = (ipfe_lwe, ipfe_rlwe, ipfe_ddh, fhipe, febo, paillier)
_ABSENT = object()  # an attribute that a class inherits


@contextmanager
def ideal_schemes(unknowns: Unknowns) -> Iterator[list[ideal.Sealed]]:
    """Yields the list to which every master key is added that is drawn."""
    drawn: list[ideal.Sealed] = []

    def setup(params: Any, coins: Any) -> tuple[ideal.Instance, ideal.Master]:
        public, master = ideal.setup(params, coins)
        drawn.append(master.secret)
        return public, master

    def mask(values: Any, me: int, members: Any, private: Any, publics: Any, use: str) -> Any:
        for other in members:
            if other != me:
                pad = unknowns.pad(min(me, other), max(me, other), use, values.shape)
                values = values + (pad if me < other else -pad)
        return values

    places: list[tuple[Any, str, Any]] = [(module, "setup", setup) for module in _WITH_MASTERS]
    places.append((aggregate, "mask", mask))
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
