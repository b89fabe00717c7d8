"""What a cloud of MITIG1 can decrypt: every key that it received, on every ciphertext of the same owner."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable
from parties.record.view import Kind, Row, View
from protocols import mitig1
from protocols.crypto import fhipe
from protocols.crypto.groups import workers
from protocols.language.roles import DATA_OWNER, party_name
from protocols.network.config import Visit

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

    def has_keys(self, step: int, owner: int) -> bool:
        """Whether the view holds the keys of an owner in a step, as far as the rows tell."""
        rows, name = self._rows.get(step, []), party_name(DATA_OWNER, owner)
        return any(row.sender == name or not row.sender.startswith(DATA_OWNER.value) for row in rows)

    def products(self, owner: int, keys: Any, start: int, stop: int) -> NDArray[np.int64]:
        """<w, x> (stop - start, keys) for samples `start` to `stop` of an owner, by decryption on all processors."""
        return self.some(owner, keys, np.arange(start, stop))

    def some(self, owner: int, keys: Any, which: NDArray[np.int64]) -> NDArray[np.int64]:
        """<w, x> (m, keys) for samples of an owner by their positions among its own, in increasing order."""
        pp = self._parameters(owner)
        parts = [self._load(owner, *piece) for piece in _pieces(which, mitig1.upload_rows(self._config))]
        return fhipe.decrypt(pp, keys, fhipe.concat(parts), workers.available())

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


def _pieces(which: NDArray[np.int64], size: int) -> list[tuple[int, int, int]]:
    """(upload, start, stop) of the runs of consecutive positions, none across two uploads of `size` rows."""
    edges = np.flatnonzero((np.diff(which) != 1) | (which[1:] % size == 0)) + 1
    return [
        (int(run[0]) // size, int(run[0]) % size, int(run[-1]) % size + 1) for run in np.split(which, edges)
    ]
