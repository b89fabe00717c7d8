"""What a view says of samples and labels themselves: a party's own, what crossed in the clear, labels under
FEBO.

Samples are numbered as the owners hold them: all of owner 0, then owner 1, and so on; an owner uploads in
that order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Any

import numpy as np

from protocols.crypto import febo
from protocols.language.relations import (
    Array,
    LabelErrors,
    Labels,
    Opaque,
    Own,
    Plain,
    Positions,
    Relation,
    Samples,
)
from protocols.language.roles import DATA_OWNER, index_of, party_name, role_of
from protocols.language.view import Kind, Row, View
from protocols.network.schedule import Batch, batches

Offsets = tuple[int, ...]


class Kept:
    """A function that keeps its last results, `size` of them, by its arguments."""

    def __init__(self, function: Callable[..., Any], size: int = 1) -> None:
        self._function, self._size = function, size
        self._found: dict[tuple[Any, ...], Any] = {}

    def __call__(self, *args: Any) -> Any:
        if args not in self._found:
            while len(self._found) >= self._size:
                del self._found[next(iter(self._found))]
            self._found[args] = self._function(*args)
        return self._found[args]


def offsets(config: Any) -> Offsets:
    """Position of each owner's first sample."""
    return tuple(accumulate(config.counts[:-1], initial=0))


def of_owner(config: Any, owner: int, first: Offsets | None = None) -> Positions:
    """Where an owner's samples stand; `first`: the offsets, for whoever asks of many."""
    return (first or offsets(config))[owner] + np.arange(config.counts[owner])


def of_batch(config: Any, batch: Batch, first: Offsets | None = None) -> Positions:
    """Where the samples of a batch stand, likewise."""
    return (first or offsets(config))[batch.owner] + np.arange(batch.start, batch.stop)


def since(row: Row) -> int:
    """The round from which on a message is known; 0 for what crosses before the first step."""
    return row.round if row.phase == "step" else 0


def payload(view: View, row: Row) -> Callable[[], Any]:
    """The value of a row, read when it is asked for."""
    return lambda: view.value(row)


def in_rounds(view: View, label: str, *kinds: Kind) -> dict[int, Row]:
    """The rows of a label in training, by round; those of a prediction are left out."""
    return {row.round: row for row in view.rows(label, *kinds) if row.phase == "step"}


def own(view: View) -> Iterator[Relation]:
    """The samples and labels of owners that are parties of the view."""
    if "predict" in view.phases():
        return  # a querier's samples are none of the training
    first = offsets(view.config)
    for name, relation in (("images", Samples), ("labels", Labels)):
        for row in view.rows(name, Kind.INPUT):
            if role_of(row.party) is not DATA_OWNER:
                continue
            index = of_owner(view.config, index_of(row.party), first)
            yield relation(index, payload(view, row), own=True)


def clear(view: View, label: str, relation: type[Samples] | type[Labels]) -> Iterator[Relation]:
    """Samples or labels that owners uploaded in the clear."""
    first, ahead = offsets(view.config), dict[int, int]()
    for row in view.rows(label, Kind.RECEIVED):
        if row.phase == "predict":
            yield Plain(labels=(label,))
            continue
        owner = index_of(row.sender)
        index = first[owner] + ahead.get(owner, 0) + np.arange(row.shape[0])
        ahead[owner] = ahead.get(owner, 0) + row.shape[0]
        yield relation(index, payload(view, row), labels=(label,))


def under_febo(view: View, upload_rows: int) -> Iterator[Relation]:
    """Labels under FEBO: Y = P + (Y - P) for whoever holds P, the keys and the ciphertexts; P alone for the
    authority.
    """
    yield Opaque(labels=("mpk_labels", "ct_labels"), why="FEBO ciphertexts, element by element, without keys")
    config, asked = view.config, in_rounds(view, "p")
    told = in_rounds(view, "sk_labels", Kind.RECEIVED)
    epoch, first = list(batches(config)), offsets(config)
    for step, row in asked.items():
        index = of_batch(config, epoch[step % len(epoch)], first)
        p = _outputs(view, row, config)
        yield LabelErrors(index, p, config.classes, outputs=True, labels=("p",), since=step)
    if asked:
        yield Plain(labels=("p",))
    mpk = next(iter(view.rows("mpk_labels", Kind.RECEIVED)), None)
    uploads = {(row.sender, row.round): row for row in view.rows("ct_labels", Kind.RECEIVED)}
    for batch in epoch:
        part, begin = divmod(batch.start, upload_rows)
        ct = uploads.get((party_name(DATA_OWNER, batch.owner), part))
        if mpk is None or ct is None or not {batch.number} <= asked.keys() & told.keys():
            continue
        rows = mpk, ct, asked[batch.number], told[batch.number]
        read = _labels(view, rows, begin, batch.size)
        yield Labels(
            of_batch(config, batch, first), read, labels=("p", "ct_labels", "sk_labels"), since=batch.number
        )


def _outputs(view: View, row: Row, config: Any) -> Callable[[], Array]:
    return lambda: np.asarray(view.value(row).p, np.float64) / config.label_scale


def _labels(view: View, rows: Iterable[Row], first: int, size: int) -> Callable[[], Array]:
    def read() -> Array:
        mpk, ct, asked, sk = (view.value(row) for row in rows)
        y: Array = (febo.decrypt(mpk, sk, febo.rows(ct, first, first + size)) + asked.p).argmax(axis=1)
        return y

    return read


def owned(quantity: str, role: str, view: View, detail: str) -> Iterator[Own]:
    """A secret that parties of a role made themselves, for those in the view."""
    for party in view.parties:
        if party.partition(":")[0] == role:
            yield Own(quantity, party, detail)
