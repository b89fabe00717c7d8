"""What relations of heads give away: lines about heads, and about what was decrypted of answers.

* Ciphertexts of a head tell nothing, or under phe's floats the exponent of every weight.
* Logits are linear in features: W phi(x) + b, solved once d + 1 known ones are independent. Decisions are
inequalities.
* Answers to inputs that the view lacks still depend on the head.
* With the authority's key the answers open, and with the ciphertexts the head.
* A head is nearly a function of its training images: what is known of it bounds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from parties.adversary.attack import Relations
from parties.adversary.rules import Told
from protocols.language.head_relations import (
    HeadDecisions,
    HeadExponents,
    HeadLogits,
    HeadService,
    HeadWeights,
    SealedHeads,
)
from protocols.language.relations import Own, now
from protocols.language.roles import DATA_OWNER, index_of, role_of


def lines(relations: Relations) -> Iterator[Told]:
    """Lines about heads and answers, and one about the images that the heads were trained on."""
    about = []
    keyed = any(secret.quantity == "secret key" for secret in relations.of(Own))
    keyed = keyed and not any(True for _ in relations.of(HeadWeights))
    for relation in relations:
        for line in _SAID[type(relation)](relation) if type(relation) in _SAID else ():
            yield Told(*line, by=type(relation).__name__)
            if line[0] == "head":
                about.append((relation, line[2]))
        if keyed and isinstance(relation, SealedHeads | HeadExponents):
            detail = "the key to the ciphertexts is in the view; they were not opened here"
            yield Told("head", _of(relation), "bounded", detail, by=type(relation).__name__)
            about.append((relation, "bounded"))
    if about and (of := _others(about[0][0], relations.parties)):
        yield Told("samples", of, *_images(about))


Said = Iterator[tuple[str, str, str, str, int | None]]  # quantity, of whom, how, detail, since when

# By which attack each relation of a head gives its training images away, the strongest first.
_ATTACKS: dict[type[Any], str] = {
    HeadWeights: "whitebox",
    SealedHeads: "whitebox, with the ciphertexts opened,",
    HeadLogits: "logits",
    HeadService: "blackbox",
    HeadExponents: "exponents",
    HeadDecisions: "blackbox, while it may ask,",
}
_FUNCTION = "and it is nearly a function of the training samples"
_SEALED = "whitebox on its ciphertexts was tried in studies, and no other attack has anything to work on"


def _images(about: list[tuple[Any, str]]) -> tuple[str, str, int | None]:
    """(how, detail, since when) of training images, by what is said of the heads and from which relation."""
    order = list(_ATTACKS)
    told = [
        (how != "exact", not _known(r), order.index(type(r))) for r, how in about if how != "nothing found"
    ]
    if not told:
        return "nothing found", f"the head is opaque: {_SEALED}", None
    bounded, apart, which = min(told)
    if not bounded:
        detail = (
            f"the head is known, {_FUNCTION}: attack {_ATTACKS[order[which]]} rebuilds them approximately"
        )
    elif apart:
        detail = f"the head is bounded, {_FUNCTION}: no attack here uses answers to inputs that it has not"
    else:
        detail = f"the head is bounded, {_FUNCTION}: attack {_ATTACKS[order[which]]} may rebuild them roughly"
    return "bounded", detail, 0


def _known(relation: Any) -> bool:
    """Whether the view has the inputs of answers; what is no answer needs none."""
    return bool(getattr(relation, "known", True))


def _others(relation: Any, parties: tuple[str, ...]) -> str:
    """The owners of heads that are no parties of the view, in words."""
    mine = {index_of(party) for party in parties if role_of(party) is DATA_OWNER}
    others = [int(owner) for owner in relation.owners if int(owner) not in mine]
    return "" if not others else f"data_owner:{others[0]}" if len(others) == 1 else f"{len(others)} owners"


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
    else:
        told = (
            f"{found.count} decisions about inputs that it has not: how frequent they are depends on the head"
        )
    yield "head", _of(found), "bounded", told, 0


def _service(found: HeadService) -> Said:
    if found.decide is not None or found.compare is not None:
        yield "head", _of(found), "bounded", "decisions on inputs of its choice, while they are answered", 0


def _logits(found: HeadLogits) -> Said:
    if found.decrypted:
        told = f"decrypted with its key: {found.width} numbers for each of {found.count} queries"
        yield found.quantity, _of(found), "exact", told, 0
    if found.known:
        yield ("head", _of(found), *_solved(found), 0)
    else:
        told = f"{found.count} times {found.quantity} of inputs that it has not: their spread tells of it"
        yield "head", _of(found), "bounded", told, 0


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
    HeadService: _service,
    HeadWeights: _opened,
}
