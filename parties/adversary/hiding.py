"""What a cloud of MITIG1 can decrypt: every key that it received, on every ciphertext of the same owner."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable
from parties.transcript import Kind, Row, View
from protocols import mitig1
from protocols.config import Visit
from protocols.crypto import fhipe, workers
from protocols.roles import DATA_OWNER, party_name

PRODUCTS = 10_000  # that an attack decrypts, at 5 to 8 ms each: about a minute


class Hiding:
    """Keys and ciphertexts in the view of a cloud, found by step and owner; loads each ciphertext once."""

    def __init__(self, view: View) -> None:
        self._view, self._config = view, view.config
        self._rows: dict[int, list[Row]] = {}
        for row in view.rows("sk_w1", Kind.RECEIVED):
            if row.phase == "step":
                self._rows.setdefault(row.round, []).append(row)
        self._uploads = {(row.sender, row.round): row for row in view.rows("ct", Kind.RECEIVED)}
        self._published = list(view.values("pp", Kind.RECEIVED))
        self._load = lru_cache(maxsize=256)(self._loaded)

    def keys(self, step: int, owner: int) -> Any:
        """The keys of an owner's W1 in a step: sent by itself, or with those of all others by the authority; None if there are none."""
        rows, name = self._rows.get(step, []), party_name(DATA_OWNER, owner)
        own = next((row for row in rows if row.sender == name), None)
        if own is not None:
            return self._view.value(own)
        if not rows or rows[0].sender.startswith(DATA_OWNER.value):
            return None
        members = self._config.per_round or len(self._config.counts)
        owners = Visit(step // self._config.local_steps * members, members, 0).owners(self._config)
        return self._view.value(rows[0])[owners.index(owner)] if owner in owners else None

    def products(self, owner: int, keys: Any, start: int, stop: int) -> NDArray[np.int64]:
        """<w, x> (stop - start, keys) for samples `start` to `stop` of an owner, by decryption on all processors."""
        size = mitig1.upload_rows(self._config)
        parts = []
        for part in range(start // size, -(-stop // size)):
            rows = slice(max(start - part * size, 0), min(stop - part * size, size))
            parts.append(fhipe.decrypt(self._parameters(owner), keys, self._load(owner, part, rows.start, rows.stop),
                                       workers.available()))  # fmt: skip
        return np.vstack(parts)

    def _loaded(self, owner: int, part: int, start: int, stop: int) -> Any:
        row = self._uploads.get((party_name(DATA_OWNER, owner), part))
        if row is None:
            raise NotApplicable(f"the view ends before {party_name(DATA_OWNER, owner)} uploaded its samples")
        return fhipe.load(self._parameters(owner), fhipe.rows(self._view.value(row), start, stop))

    def _parameters(self, owner: int) -> Any:
        """An owner's public parameters: published by itself, or with all others by the authority."""
        name = party_name(DATA_OWNER, owner)
        own = next((value for row, value in self._published if row.sender == name), None)
        return self._published[0][1][owner] if own is None else own
