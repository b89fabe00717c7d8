"""What relations of heads give away: lines about heads, and about what was decrypted of answers.

* Ciphertexts of a head tell nothing, or under phe's floats the exponent of every weight.
* Logits are linear in features: W phi(x) + b, solved once d + 1 known ones are independent. Decisions are
inequalities.
* With the authority's key the answers open, and with the ciphertexts the head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from parties.adversary.attack import Learned, Relations
from protocols.language.head_relations import (
    HeadDecisions,
    HeadExponents,
    HeadLogits,
    HeadWeights,
    SealedHeads,
)
from protocols.language.relations import now


def lines(relations: Relations) -> Iterator[Learned]:
    """Lines about heads and answers."""
    party = ", ".join(relations.parties)
    for relation in relations:
        if type(relation) in _SAID:
            yield from (Learned(party, *line) for line in _SAID[type(relation)](relation))


Said = Iterator[tuple[str, str, str, str, int | None]]  # quantity, of whom, how, detail, since when


def _of(relation: Any) -> str:
    owners = len(relation.owners)
    return "data_owner:0" if owners == 1 else f"{owners} owners"


def _sealed(found: SealedHeads) -> Said:
    yield "head", _of(found), "nothing found", f"{found.count} ciphertexts without the key", None


def _exponents(found: HeadExponents) -> Said:
    told = f"of {found.count} weights and biases the exponent in the clear: each within a factor of 16"
    if found.exponents is not None:
        told += f"; {len(np.unique(now(found.exponents)))} different ones"
    yield "head", _of(found), "bounded", told, 0


def _decisions(found: HeadDecisions) -> Said:
    if found.known:
        told = f"{found.count} decisions about features that it knows, {found.classes - 1} inequalities each"
        yield "head", _of(found), "bounded", told, 0


def _logits(found: HeadLogits) -> Said:
    if found.decrypted:
        told = f"decrypted with its key: {found.width} numbers for each of {found.count} queries"
        yield found.quantity, _of(found), "exact", told, 0
    if found.known:
        yield ("head", _of(found), *_solved(found), 0)


def _solved(found: HeadLogits) -> tuple[str, str]:
    """Whether the logits of linear heads determine them, on the features that were ever active."""
    if found.features is None:
        return (
            "bounded",
            f"{found.count} times {found.width} {found.quantity} of inputs that it knows "
            "(no equations are counted)",
        )
    features, values = now(found.features), now(found.values)
    features = features[: values.shape[1]]
    active = features.any(axis=0)
    known = np.hstack([features[:, active], np.ones((len(features), 1), np.int64)])
    rank = int(np.linalg.matrix_rank(known))
    told = (
        f"{found.quantity} are linear in features that it knows, {active.sum()} of {features.shape[1]} of "
        f"them active: rank {rank} of {known.shape[1]}"
    )
    if rank < known.shape[1] or values.dtype.kind != "i":
        return "bounded", told
    for each in values:
        solved = np.linalg.lstsq(known.astype(np.float64), each.astype(np.float64), rcond=None)[0]
        if not np.array_equal(known @ np.rint(solved).astype(np.int64), each):
            return "bounded", f"{told}; no integers solve them"
    return "exact", f"{told}; solved in integers for these"


def _opened(found: HeadWeights) -> Said:
    yield (
        "head",
        _of(found),
        "exact",
        "the authority's key opens the ciphertexts of the head; some are opened to prove it",
        0,
    )


_SAID: dict[type[Any], Callable[[Any], Said]] = {
    SealedHeads: _sealed,
    HeadExponents: _exponents,
    HeadDecisions: _decisions,
    HeadLogits: _logits,
    HeadWeights: _opened,
}
