"""Who learned what, derived from the relations of a view: nothing here is declared by the author of a
protocol.

Words: `own` for a party's own inputs and secrets, and for plain numbers that it sent; `clear` for what
crossed as plain numbers; `exact` for what the relations determine, and what was then solved for, on some
samples at least; `bounded` for what they constrain without determining it; `nothing found` for what is
declared opaque and no rule opens, with what was tried; `not analysed` for a label that no relation is read
from.

The rules (`rules.py`) say what follows from some types of relations, whatever these are of; a larger view has
more relations, and is told no less. A rule that is added there is a row of `RULES`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parties.adversary.attack import Learned, Relations, relations_of
from parties.adversary.heads import knowledge as heads
from parties.adversary.rules import RULES, Sight, Told
from parties.adversary.solvers.exact import solve_exactly
from parties.adversary.solvers.systems import gather
from parties.record.view import Kind, Row, View
from protocols.language.relations import Asked, Instance, Labels, Opaque, Own, Plain, Samples
from protocols.language.roles import DATA_OWNER, role_of

_TRIED = 64  # samples that are solved for, to confirm what the rank says


def learned(view: View) -> list[Learned]:
    """Everything that a view, of one party or of a coalition, gives away, as far as it is computed here."""
    sight = _sight(view)
    party = ", ".join(view.parties)
    told = [line for rule in RULES for line in rule(sight)]
    found = [Learned(party, *line.line) for line in told if not any(_outdoes(other, line) for other in told)]
    return [*_of_labels(view, sight), *found, *heads.lines(sight.relations), *_own(view, sight)]


def _outdoes(one: Told, other: Told) -> bool:
    """Whether a line says of the same thing that it is exact, where another says less."""
    return (one.quantity, one.of, one.how) == (other.quantity, other.of, "exact") and other.how != "exact"


def in_the_clear(view: View) -> list[Learned]:
    """The part of it that takes no computation: what crossed as plain numbers, and a party's own."""
    sight = _sight(view)
    return [*_of_labels(view, sight), *_own(view, sight)]


def _sight(view: View) -> Sight:
    listed = list(relations_of(view))
    return Sight(Relations(lambda: listed, view.parties), view.config, view.has_payloads())


def _of_labels(view: View, sight: Sight) -> Iterator[Learned]:
    """A line for each label that was received: plain numbers, what is opaque, and what nobody related."""
    covered = {label for relation in sight.relations for label in relation.labels}
    named = {label: plain.quantity or label for plain in sight.relations.of(Plain) for label in plain.labels}
    opaque = {label: relation.why for relation in sight.relations.of(Opaque) for label in relation.labels}
    groups: dict[str, list[Row]] = {}
    for row in view.rows(None, Kind.RECEIVED):
        groups.setdefault(row.label, []).append(row)
    for label, rows in groups.items():
        said = f"{len(rows)} messages, the first {rows[0].dtype} {tuple(rows[0].shape)}"
        since = max(rows[0].round, 0) if rows[0].phase == "step" else 0
        party, of = ", ".join(view.parties), _senders(rows)
        if label not in covered:
            detail = f"{said}; no relation of it to anything else is stated"
            yield Learned(party, label, of, "not analysed", detail, None)
        elif label in opaque and _numbers(rows[0].dtype):
            yield Learned(party, label, of, "nothing found", f"{len(rows)} messages, {opaque[label]}", None)
        elif label not in opaque and (label in named or _numbers(rows[0].dtype)):
            yield Learned(party, named.get(label, label), of, "clear", said, since)


def _own(view: View, sight: Sight) -> Iterator[Learned]:
    """What the parties have themselves: secrets, inputs, and the plain numbers that they sent."""
    for secret in sight.relations.of(Own):
        yield Learned(", ".join(view.parties), secret.quantity, secret.party, "own", secret.detail, 0)
    inputs = list(_inputs(view))
    yield from inputs
    known = {line.quantity for line in inputs} | {secret.quantity for secret in sight.relations.of(Own)}
    yield from (line for line in _sent(view, sight) if line.quantity not in known)


_INPUTS = {"images": ("samples", "queries"), "labels": ("labels", "labels of queries")}


def _inputs(view: View) -> Iterator[Learned]:
    """The inputs of the parties, as the view has them, whatever the protocol states: a line for each kind."""
    after = any(row.phase == "predict" for row in view.rows())  # the training: samples are queries
    found: dict[str, list[Row]] = {}
    for row in view.rows(None, Kind.INPUT):
        if row.label in _INPUTS:
            asks = after or role_of(row.party) is not DATA_OWNER
            found.setdefault(_INPUTS[row.label][asks], []).append(row)
    for quantity, rows in found.items():
        parts = _columns(view, rows)
        count = (max if parts else sum)(row.shape[0] for row in rows)
        detail = "its input: columns of them" if parts else "its input"
        yield Learned(", ".join(view.parties), quantity, f"{count} of its own", "own", detail, 0)


def _columns(view: View, rows: list[Row]) -> bool:
    """Whether inputs are parts of images."""
    config = view.config
    pixels = int(np.prod(getattr(config, "shape", ()) or (config.features,)))
    return any(len(row.shape) == 2 and row.shape[1] < pixels for row in rows)


def _sent(view: View, sight: Sight) -> Iterator[Learned]:
    """A line for each label of plain numbers that was sent, unless a line says that it was received."""
    relations = sight.relations
    of_inputs = {label for r in relations if isinstance(r, Samples | Labels) and r.own for label in r.labels}
    opaque = {label for relation in relations.of(Opaque) for label in relation.labels}
    related = {label for relation in relations for label in relation.labels}
    received = {row.label for row in view.rows(None, Kind.RECEIVED)}
    left_out = of_inputs | opaque | received & related
    named = {label: plain.quantity or label for plain in relations.of(Plain) for label in plain.labels}
    groups: dict[str, list[Row]] = {}
    for row in view.rows(None, Kind.SENT):
        if row.label not in left_out and _numbers(row.dtype):
            groups.setdefault(row.label, []).append(row)
    for label, rows in groups.items():
        said = f"{len(rows)} messages that it sent, the first {rows[0].dtype} {tuple(rows[0].shape)}"
        since = max(rows[0].round, 0) if rows[0].phase == "step" else 0
        yield Learned(", ".join(view.parties), named.get(label, label), _senders(rows), "own", said, since)


def queried(training: Relations, query: Relations, payloads: bool) -> list[Learned]:
    """What the cloud knows of samples that it was asked about: the keys of training work on their ciphertexts
    too.
    """
    asked = next(query.of(Asked), None)
    if asked is None:
        return []

    def line(how: str, detail: str) -> list[Learned]:
        return [
            Learned(
                ", ".join(query.parties),
                "samples",
                f"the {asked.count} samples asked about",
                how,
                detail,
                None,
            )
        ]

    told = [instance for instance in training.of(Instance) if not instance.hides and not instance.across]
    if asked.ciphertexts is None or not told:
        return line("bounded", asked.how)
    if not payloads:
        return line(
            "bounded", "every key of training works on them (how many is not computed: payloads not recorded)"
        )
    last = told[-1]  # under the master key that was used last
    system = gather([last])
    detail = f"the keys of training work on them: rank {system.rank} of {last.columns}"
    if not system.full:
        return line("bounded", detail)
    ct = last.scheme.load(last.mpk(), asked.ciphertexts())
    some = last.scheme.rows(ct, 0, min(_TRIED, ct.shape[0]))
    z = np.hstack([last.scheme.decrypt(last.mpk(), keys, some) for _, keys, _ in system.parts])
    solved = solve_exactly(system.vectors, z.T.copy()) is not None
    said = f"{detail}; {len(z) if solved else 0} of {len(z)} tried are solved in integers"
    return line("exact" if solved else "bounded", said)


def _numbers(dtype: str) -> bool:
    """Whether a type is of plain numbers, and no record."""
    return not (dtype[:1].isupper() or dtype in ("list", "dict", "bytes"))


def _senders(rows: list[Row]) -> str:
    senders = sorted({row.sender for row in rows})
    return senders[0] if len(senders) == 1 else f"{len(senders)} parties"
