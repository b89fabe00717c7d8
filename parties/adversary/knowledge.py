"""Who learned what, derived from a view: nothing here is declared by the author of a protocol.

A quantity is `clear` when it crossed as plain numbers, `exact` when the equations of the view determine it (and it was solved for),
`bounded` when they constrain it without determining it, and `nothing` when the view holds no more than ciphertexts of it.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from parties.adversary import head_knowledge, split
from parties.adversary.attack import Learned, NotApplicable
from parties.adversary.equations import Keys, ciphertexts, independent_keys, public_key, received
from parties.adversary.linear import solve_exactly
from parties.adversary.master_key import solve_master_key
from parties.transcript import Kind, Row, View
from protocols import plain_fe, reverse_he

_TRIED = 64  # samples that are solved for, to confirm what the rank says
_QUANTITIES: MappingProxyType[tuple[str, str], str] = MappingProxyType(
    {(reverse_he.NAME, "x"): "queries"}
)  # no training samples
_CLEAR_RECORDS = (plain_fe.LabelRequest.__name__,)  # records that carry plain numbers: P


def learned(view: View) -> list[Learned]:
    """Everything that a view, of one party or of a coalition, gives away, as far as it is computed here."""
    if view.protocol == reverse_he.NAME:
        return [*clear_values(view), *head_knowledge.lines(view)]
    return [*clear_values(view), *own_weights(view), *labels_under_febo(view), *samples(view), *split.samples(view)]


def clear_values(view: View) -> list[Learned]:
    """Plain numbers that the parties received, by label."""
    groups: dict[str, list[Row]] = {}
    for row in view.rows(None, Kind.RECEIVED):
        if _is_plain(row.dtype):
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
    return [Learned(party, "weights", row.sender, "clear", detail, _since(row))] if row.sender in view.parties else []


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


def samples(view: View) -> list[Learned]:
    """Samples and the master key, from the rank of the function keys over the ciphertexts."""
    party, total = ", ".join(view.parties), f"all {sum(view.config.counts)} samples"
    if "mpk" not in view or not received(view, "ct"):  # what an owner sent is its own
        return []
    if "sk_w1" not in view:
        return [Learned(party, "samples", total, "nothing", "ciphertexts without function keys", None)]
    if not view.has_payloads():
        return []  # headers alone give no rank, so nothing is said
    keys = independent_keys(view)
    rank = keys.ranks[-1][1]
    curve = {
        "unknowns": keys.columns,
        "curve": [[step, rank, solved] for (step, rank), solved in zip(keys.ranks, keys.determined, strict=True)],
    }
    if not keys.full:
        detail = f"at least {rank} equations a sample: rank {rank} of {keys.columns} of the keys for W1 (gradients not counted)"
        return [Learned(party, "samples", total, "bounded", detail, keys.ranks[0][0], curve)]
    tried, solved = confirm(view, keys)
    how = "exact" if solved == tried > 0 else "bounded"
    detail = f"rank {rank} of {keys.columns}; {solved} of {tried} tried are solved in integers"
    return [Learned(party, "samples", total, how, detail, keys.solved_at_step, curve), *_master_key(view, keys)]


def confirm(view: View, keys: Keys) -> tuple[int, int]:
    """(tried, solved): solve for the first samples of the view."""
    scheme, mpk = plain_fe.scheme_of(view.config), public_key(view)
    for _, ct in ciphertexts(view):
        some = scheme.rows(ct, 0, min(_TRIED, ct.shape[0]))
        z = np.hstack([scheme.decrypt(mpk, key, some) for key in keys.keys])
        solved = solve_exactly(keys.vectors, z.T.copy())
        return len(z), len(z) if solved is not None else 0
    return 0, 0


def queried(training: View, query: View) -> list[Learned]:
    """What the cloud knows of samples that it was asked about: the keys of training work on their ciphertexts too."""
    rows = [row for label in ("x", "ct", "z1") for row in query.rows(label, Kind.RECEIVED)]
    if not rows or rows[0].label == "x":
        return []
    count = sum(row.shape[0] for row in rows)

    def line(how: str, detail: str) -> list[Learned]:
        return [Learned(", ".join(query.parties), "samples", f"the {count} samples asked about", how, detail, None)]

    if training.protocol == "mitig2":
        return line("bounded", "Z1 = W1 x with W1 unknown")
    if not training.has_payloads():
        return line("bounded", "every key of training works on them (how many is not computed: payloads not recorded)")
    if training.protocol == "mitig1":
        steps = sum(1 for _ in training.rows("sk_w1", Kind.RECEIVED))
        return line(
            "bounded", f"Z1 = W1 x for the W1 of all {steps} steps of training and the last, all of them unknown"
        )
    keys, scheme, mpk = independent_keys(training), plain_fe.scheme_of(training.config), public_key(training)
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


def _master_key(view: View, keys: Keys) -> list[Learned]:
    scheme, mpk = plain_fe.scheme_of(view.config), public_key(view)
    secret = solve_master_key(view, keys)
    if secret is None or not scheme.check_master_key(mpk, secret):
        return []
    detail = "solved from the function keys, matches the public key"
    return [Learned(", ".join(view.parties), "master key", "key_authority", "exact", detail, keys.solved_at_step)]


def _is_plain(dtype: str) -> bool:
    return dtype in _CLEAR_RECORDS or not (dtype[:1].isupper() or dtype in ("list", "dict", "bytes"))


def _senders(rows: list[Row]) -> str:
    senders = sorted({row.sender for row in rows})
    return senders[0] if len(senders) == 1 else f"{len(senders)} parties"


def _since(row: Row) -> int | None:
    return row.round if row.phase == "step" else 0
