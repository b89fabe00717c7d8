"""The linear equations that a view of plain FE holds: every function key works on every ciphertext of its master key.

Samples are numbered as the view received them: all of owner 0, then owner 1, and so on, each in the order of its uploads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable
from parties.transcript import Kind, Row, View
from protocols import plain_fe
from protocols.config import Batch, Config, batches

_CIPHERTEXTS = ("ct", "ct_labels")


@dataclass(frozen=True)
class Observation:
    """Exact equations z = X w^T on some samples: `index` (m,), `w` (h, n), `z` (m, h), known since round `step`."""

    step: int
    index: NDArray[np.int64]
    w: NDArray[np.int64]
    z: NDArray[np.int64]


@dataclass(frozen=True)
class Keys:
    """n independent function keys (or as many as there are): their vectors, the keys themselves, and the rank by step.

    `determined`: how many pixels the equations determine after each message, as `ranks` has the rank.
    """

    vectors: NDArray[np.int64]
    keys: tuple[Any, ...]
    ranks: tuple[tuple[int, int], ...]
    columns: int
    determined: tuple[int, ...] = ()

    @property
    def full(self) -> bool:
        """Whether the keys determine every sample."""
        return bool(self.ranks) and self.ranks[-1][1] == self.columns

    @property
    def solved_at_step(self) -> int | None:
        """The round in which the rank became n."""
        return self.ranks[-1][0] if self.full else None


def need(view: View, *labels: str) -> None:
    """Raise `NotApplicable` unless the view holds these labels, with payloads.

    Ciphertexts count where they were received: what an owner encrypted itself is its input and no finding.
    """
    for label in labels:
        if label not in view or (label in _CIPHERTEXTS and not received(view, label)):
            raise NotApplicable(f"the view of {', '.join(view.parties)} holds no {label}")
    if not view.has_payloads():
        raise NotApplicable("payloads not recorded")


def received(view: View, label: str) -> bool:
    """Whether a party of the view was sent this label."""
    return any(True for _ in view.rows(label, Kind.RECEIVED))


def offsets(config: Config) -> tuple[int, ...]:
    """Position of each owner's first sample."""
    return tuple(accumulate(config.counts[:-1], initial=0))


def public_key(view: View, label: str = "mpk") -> Any:
    """The public key that was published under a label."""
    return next(view.values(label))[1]


def independent_keys(view: View) -> Keys:
    """Read function keys for samples until their vectors have full rank; `ranks` holds (round, rank) after each message."""
    from parties.adversary.linear import Echelon

    echelon = Echelon(view.config.features)
    vectors, keys, ranks, determined = [], [], [], []
    for row, sk in view.values("sk_w1", Kind.RECEIVED, Kind.SENT):
        fresh = echelon.add(sk.y)
        if len(fresh):
            vectors.append(np.asarray(sk.y, dtype=np.int64)[fresh])
            keys.append(replace(sk, y=sk.y[fresh], sk=sk.sk[fresh]))
        ranks.append((row.round, echelon.rank))
        determined.append(echelon.determined)
        if echelon.full:
            break
    stacked = np.vstack(vectors) if vectors else np.zeros((0, echelon.columns), dtype=np.int64)
    return Keys(stacked, tuple(keys), tuple(ranks), echelon.columns, tuple(determined))


def ciphertexts(view: View) -> Iterator[tuple[int, Any]]:
    """(position of the first sample, loaded ciphertexts) of every upload, one in memory at a time."""
    config, mpk = view.config, public_key(view)
    scheme = plain_fe.scheme_of(config)
    for row, ct in view.values("ct"):
        yield _position(config, row), scheme.load(mpk, ct)


def inner_products(view: View, keys: Keys) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """(position of the first sample, Z (m, number of keys)) for every upload, by decryption with every key."""
    mpk, scheme = public_key(view), plain_fe.scheme_of(view.config)
    for position, ct in ciphertexts(view):
        yield position, np.hstack([scheme.decrypt(mpk, key, ct) for key in keys.keys])


def first_observations(view: View) -> Iterator[Observation]:
    """What each sample gives away when its batch is first used: the equations of that step's keys alone."""
    config, mpk = view.config, public_key(view)
    scheme, start = plain_fe.scheme_of(config), offsets(config)
    uploads = _Uploads(view)
    for (row, sk), batch in zip(view.values("sk_w1"), batches(config), strict=False):
        z = scheme.decrypt(mpk, sk, uploads.batch(batch))
        index = start[batch.owner] + np.arange(batch.start, batch.stop)
        yield Observation(row.round, index, np.asarray(sk.y, dtype=np.int64), z)


class _Uploads:
    """Finds the ciphertexts of a batch; keeps the last upload that was read."""

    def __init__(self, view: View) -> None:
        self._config, mpk = view.config, public_key(view)
        self._scheme = plain_fe.scheme_of(self._config)
        rows = {(row.sender, row.round): row for row in view.rows("ct")}
        self._load = lru_cache(maxsize=2)(
            lambda owner, part: self._scheme.load(mpk, view.value(rows[f"data_owner:{owner}", part]))
        )

    def batch(self, batch: Batch) -> Any:
        part, start = divmod(batch.start, plain_fe.upload_rows(self._config))
        return self._scheme.rows(self._load(batch.owner, part), start, start + batch.size)


def _position(config: Config, row: Row) -> int:
    owner = int(row.sender.partition(":")[2])
    return offsets(config)[owner] + row.round * plain_fe.upload_rows(config)
