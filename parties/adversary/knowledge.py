"""Who learned what, derived from a view: nothing here is declared by the author of a protocol.

A quantity is `clear` when it crossed as plain numbers, `exact` when the equations of the view determine it (and it was solved for),
`bounded` when they constrain it without determining it, and `nothing` when the view holds no more than ciphertexts of it.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from parties.adversary import encrypted, split
from parties.adversary.attack import Learned, NotApplicable, Relations
from parties.adversary.behaviours import replaced
from parties.adversary.equations import independent_keys, instances, public_key, received
from parties.adversary.heads import knowledge as head_knowledge
from parties.adversary.solvers.exact import solve_exactly
from parties.record.view import Kind, Row, View
from protocols import plain_fe, reverse_he
from protocols.network.config import KeyScope
from protocols.parts.budget import Refused
from protocols.parts.labels import LabelRequest

_TRIED = 64  # samples that are solved for, to confirm what the rank says
# Records that carry plain numbers: P, and the rank that a refusal tells.
_CLEAR_RECORDS = (LabelRequest.__name__, Refused.__name__)
# Numbers that look plain and are not: copies under masks, which cancel in their sum.
_MASKED = ("w1_masked", "head_masked")
_QUANTITIES: MappingProxyType[tuple[str, str], str] = MappingProxyType(
    {(reverse_he.NAME, "x"): "queries"}
)  # no training samples


def learned(view: View, relations: Relations) -> list[Learned]:
    """Everything that a view, of one party or of a coalition, gives away, as far as it is computed here."""
    if view.protocol == reverse_he.NAME:
        return [*clear_values(view), *head_knowledge.lines(relations)]
    return [
        *clear_values(view),
        *own_weights(view),
        *masked_values(view),
        *labels_under_febo(view),
        *encrypted.samples(view),
        *split.samples(view),
    ]


def clear_values(view: View) -> list[Learned]:
    """Plain numbers that the parties received, by label."""
    groups: dict[str, list[Row]] = {}
    for row in view.rows(None, Kind.RECEIVED):
        if _is_plain(row.dtype) and row.label not in _MASKED:
            groups.setdefault(row.label, []).append(row)
    return [
        Learned(
            party=", ".join(view.parties),
            quantity=_QUANTITIES.get((view.protocol, label), label),
            of=_senders(rows),
            how="clear",
            detail=f"{len(rows)} messages, the first {rows[0].dtype} {tuple(rows[0].shape)}",
            since_round=_since(rows[0]),
        )
        for label, rows in groups.items()
    ]


def own_weights(view: View) -> list[Learned]:
    """W1 where a party of the view trains it: what it asks keys for, or what it is told to average."""
    row = next(iter(view.rows("w1", Kind.SENT)), None)
    if row is None:
        return []
    party, detail = ", ".join(view.parties), "it trains the network itself and asks keys for the rows"
    if replaced(view):
        detail += ", in its first steps for unit vectors instead"
    return (
        [Learned(party, "weights", row.sender, "clear", detail, _since(row))]
        if row.sender in view.parties
        else []
    )


def masked_values(view: View) -> list[Learned]:
    """Copies under masks, of which only the sum is known."""
    found = {label: [row for row in view.rows(label, Kind.RECEIVED)] for label in _MASKED}
    party, detail = (
        ", ".join(view.parties),
        "uniform under masks that cancel in the sum of a round's copies alone",
    )
    return [
        Learned(party, label, _senders(rows), "nothing", f"{len(rows)} messages, {detail}", None)
        for label, rows in found.items()
        if rows
    ]


def labels_under_febo(view: View) -> list[Learned]:
    """Labels that follow as P + (Y - P)."""
    if "sk_labels" not in view or not received(view, "ct_labels") or not view.has_payloads():
        return []
    from parties.adversary import labels
    from parties.adversary.attack import Prior

    try:
        found = labels.reconstruct(view, Prior(1, (1,)), np.random.default_rng(0))
    except NotApplicable:
        return []
    of = f"{len(found.values)} of {sum(view.config.counts)} samples"
    return [Learned(", ".join(view.parties), "labels", of, "exact", "Y = P + (Y - P)", found.solved_at_step)]


def queried(training: View, query: View) -> list[Learned]:
    """What the cloud knows of samples that it was asked about: the keys of training work on their ciphertexts too."""
    rows = [row for label in ("x", "ct", "z1") for row in query.rows(label, Kind.RECEIVED)]
    if not rows or rows[0].label == "x":
        return []
    count = sum(row.shape[0] for row in rows)

    def line(how: str, detail: str) -> list[Learned]:
        return [
            Learned(
                ", ".join(query.parties), "samples", f"the {count} samples asked about", how, detail, None
            )
        ]

    if training.protocol == "mitig2":
        return line("bounded", "Z1 = W1 x with W1 unknown")
    if not training.has_payloads():
        return line(
            "bounded", "every key of training works on them (how many is not computed: payloads not recorded)"
        )
    if training.protocol == "mitig1":
        steps = sum(1 for _ in training.rows("sk_w1", Kind.RECEIVED))
        return line(
            "bounded",
            f"Z1 = W1 x for the W1 of all {steps} steps of training and the last, all of them unknown",
        )
    config = training.config
    if config.keys_for is KeyScope.BATCH:
        return line("bounded", "they have an instance of their own: the keys of training do not work on them")
    scope = list(instances(config))[-1]  # under the master key that was used last
    keys, scheme, mpk = (
        independent_keys(training, scope),
        plain_fe.scheme_of(config),
        public_key(training, scope=scope),
    )
    detail = f"the keys of training work on them: rank {keys.ranks[-1][1]} of {keys.columns}"
    if not keys.full:
        return line("bounded", detail)
    ct = scheme.load(mpk, query.value(rows[0]))
    some = scheme.rows(ct, 0, min(_TRIED, ct.shape[0]))
    z = np.hstack([scheme.decrypt(mpk, key, some) for key in keys.keys])
    solved = solve_exactly(keys.vectors, z.T.copy()) is not None
    return line(
        "exact" if solved else "bounded",
        f"{detail}; {len(z) if solved else 0} of {len(z)} tried are solved in integers",
    )


def _is_plain(dtype: str) -> bool:
    return dtype in _CLEAR_RECORDS or not (dtype[:1].isupper() or dtype in ("list", "dict", "bytes"))


def _senders(rows: list[Row]) -> str:
    senders = sorted({row.sender for row in rows})
    return senders[0] if len(senders) == 1 else f"{len(senders)} parties"


def _since(row: Row) -> int | None:
    return row.round if row.phase == "step" else 0
