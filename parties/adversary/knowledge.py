"""Who learned what, derived from the relations of a view: nothing here is declared by the author of a
protocol.

Words: `own` for a party's own inputs and secrets, and for plain numbers that it sent; `clear` for what
crossed as plain numbers; `exact` for what the relations determine, and what was then solved for, on some
samples at least; `bounded` for what they constrain without determining it; `nothing found` for what is
declared opaque and no rule opens, with what was tried; `not analysed` for a label that no relation is read
from.

The rules (`rules`) say what follows from some types of relations, whatever these are of; a larger view has
more relations, and is told no less. A rule that is added there is a row of `RULES`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np

from parties.adversary import dates
from parties.adversary.attack import STRENGTH, Learned, Relations, relations_of
from parties.adversary.dates import Moments
from parties.adversary.heads import knowledge as heads
from parties.adversary.rules import RULES, Rule, Sight, Told, covers
from parties.adversary.solvers.exact import solve_exactly
from parties.adversary.solvers.systems import gather
from parties.record.view import Kind, Row, View
from protocols.language.errors import NotRecorded
from protocols.language.relations import Asked, Instance, Labels, Opaque, Own, Plain, Samples, Unrelated
from protocols.language.roles import DATA_OWNER, role_of

_UNREAD = "payloads not recorded"
_TRIED = 64  # samples that are solved for, to confirm what the rank says


_EVERY: tuple[Rule, ...] = (*RULES, lambda sight: heads.lines(sight.relations))


def learned(view: View, moments: Moments = ()) -> list[Learned]:
    """Everything that a view, of one party or of a coalition, gives away, as far as it is computed here.

    With the moments of its run each line says since which round it holds, found on prefixes of the view;
    without them that is what its rule expects.
    """
    reader = _Reader(view)
    told = [(rule, line) for rule in _EVERY for line in reader.says(rule)]
    found = [each for each in told if not any(_outdoes(other, each[1]) for _, other in told)]
    dated = _dated(view, moments, told, found) if moments else [line for _, line in found]
    party = ", ".join(view.parties)
    lines = [Learned(party, *line.line) for line in dated]
    return [*_of_labels(view, reader.listed, moments), *lines, *_own(view, reader.listed, moments)]


class _Reader:
    """What rules say of a view of which some payloads may not have been kept."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._sights: dict[tuple[int | None, bool], Sight] = {}

    @cached_property
    def listed(self) -> Sight:
        """The relations of the whole view, by its headers where they cannot be listed otherwise."""
        try:
            return self._sight(None)
        except NotRecorded:
            return self._sight(None, headed=True)

    def says(self, rule: Rule) -> list[Told]:
        """What a rule says of the view. Where it comes to a payload that was not kept: what it says of the
        view before that message, of what parties saw of which everything was kept, and of the headers; then
        that nothing was found is not said.
        """
        lack: NotRecorded | None = None
        while lack is None or lack.seq >= 0:
            try:
                lines = list(rule(self._sight(None if lack is None else lack.seq - 1)))
            except NotRecorded as lacking:
                if lack is not None and lacking.seq >= lack.seq:
                    raise
                lack = lacking
            else:
                break
        else:
            lines = []
        if lack is not None:
            return [_lacking(line, str(lack)) for line in [*lines, *self._instead(rule)]]
        return lines if self._view.has_payloads() else [_undecided(line) for line in lines]

    def _instead(self, rule: Rule) -> list[Told]:
        whole = self._view.whole()
        mine = [] if whole is None else list(rule(_sight(whole)))
        return [*mine, *rule(self._sight(None, headed=True))]

    def _sight(self, until: int | None, headed: bool = False) -> Sight:
        """The view until a message, listed once."""
        if (until, headed) not in self._sights:
            view = self._view if until is None else self._view.before(until)
            self._sights[until, headed] = _sight(view.headers() if headed else view)
        return self._sights[until, headed]


def _lacking(line: Told, lack: str) -> Told:
    how = "undecided" if line.how == "nothing found" else line.how
    return replace(line, how=how, detail=f"{line.detail}; {lack}")


def _undecided(line: Told) -> Told:
    """Nothing is said to be found nowhere where nobody could look."""
    return _lacking(line, _UNREAD) if line.how == "nothing found" else line


def _dated(
    view: View, moments: Moments, told: list[tuple[Rule, Told]], found: list[tuple[Rule, Told]]
) -> Iterator[Told]:
    """Lines, each with the first round at whose end its rule says as much of the same."""
    prefixes: dict[int, tuple[View, _Reader]] = {}
    asked: dict[tuple[Rule, int], list[Told]] = {}

    def at(rule: Rule, position: int) -> list[Told]:
        if position == len(moments) - 1:
            return [line for each, line in told if each is rule]
        if (rule, position) not in asked:
            if position not in prefixes:
                prefix = view.before(moments[position][1])
                prefixes[position] = prefix, _Reader(prefix)
            asked[rule, position] = prefixes[position][1].says(rule)
        return asked[rule, position]

    def since(rule: Rule, line: Told) -> int | None:
        if line.since is None:
            return None
        guess = next((k for k, (number, _) in enumerate(moments) if number >= (line.since or 0)), None)
        says = lambda position: any(covers(other, line) for other in at(rule, position))  # noqa: E731
        position = dates.first(len(moments), says, guess)
        return None if position is None else moments[position][0]

    try:
        for rule, line in found:
            yield replace(line, since=since(rule, line))
    finally:
        for prefix, _ in prefixes.values():
            prefix.close()


def _outdoes(one: Told, other: Told) -> bool:
    """Whether a line says of the same thing that it is exact, where another says less; or anything at all,
    where another found nothing. Samples that are exact have exact inner products.
    """
    weaker = STRENGTH.index(other.how) < STRENGTH.index(one.how)
    implied = (one.quantity, one.how, other.quantity) == ("samples", "exact", "gram")
    same = (one.quantity == other.quantity or implied) and one.of == other.of
    return same and weaker and (one.how == "exact" or other.how in ("nothing found", "undecided"))


def in_the_clear(view: View) -> list[Learned]:
    """The part of it that takes no computation: what crossed as plain numbers, and a party's own."""
    sight = _Reader(view).listed
    return [*_of_labels(view, sight, ()), *_own(view, sight, ())]


def _sight(view: View) -> Sight:
    listed = list(relations_of(view))
    return Sight(Relations(lambda: listed, view.parties), view.config, view.has_payloads())


def _since(row: Row, moments: Moments) -> int:
    """The round at whose end a message has crossed."""
    if moments:
        return moments[dates.position_of(moments, row.seq)][0]
    return max(row.round, 0) if row.phase == "step" else 0


def _of_labels(view: View, sight: Sight, moments: Moments) -> Iterator[Learned]:
    """A line for each label that was received: plain numbers, what is opaque, and what nobody related."""
    left = {label: some.count for some in sight.relations.of(Unrelated) for label in some.labels}
    stated = (relation for relation in sight.relations if not isinstance(relation, Unrelated))
    covered = {label for relation in stated for label in relation.labels}
    named = {label: plain.quantity or label for plain in sight.relations.of(Plain) for label in plain.labels}
    opaque = {label: relation.why for relation in sight.relations.of(Opaque) for label in relation.labels}
    groups: dict[str, list[Row]] = {}
    for row in view.rows(None, Kind.RECEIVED):
        groups.setdefault(row.label, []).append(row)
    for label, rows in groups.items():
        said = f"{len(rows)} messages, the first {rows[0].dtype} {tuple(rows[0].shape)}"
        since = _since(rows[0], moments)
        party, of = ", ".join(view.parties), _senders(rows)
        if label not in covered or label in left:
            some = "it" if label not in covered else f"{left[label]} of them"
            detail = f"{said}; no relation of {some} to anything else is stated"
            yield Learned(party, label, of, "not analysed", detail, None)
        elif opaque.get(label) and _numbers(rows[0].dtype):
            said, kept = f"{len(rows)} messages, {opaque[label]}", all(map(view.keeps, rows))
            how = "nothing found" if kept else "undecided"
            yield Learned(party, label, of, how, said if kept else f"{said}; {_UNREAD}", None)
        elif label not in opaque and (label in named or _numbers(rows[0].dtype)):
            yield Learned(party, named.get(label, label), of, "clear", said, since)


def _own(view: View, sight: Sight, moments: Moments) -> Iterator[Learned]:
    """What the parties have themselves: secrets, inputs, and the plain numbers that they sent."""
    for secret in sight.relations.of(Own):
        yield Learned(", ".join(view.parties), secret.quantity, secret.party, "own", secret.detail, 0)
    inputs = list(_inputs(view))
    yield from inputs
    known = {line.quantity for line in inputs} | {secret.quantity for secret in sight.relations.of(Own)}
    yield from (line for line in _sent(view, sight, moments) if line.quantity not in known)


_INPUTS = {"images": ("samples", "queries"), "labels": ("labels", "labels of queries")}


def _inputs(view: View) -> Iterator[Learned]:
    """The inputs of the parties, as the view has them, whatever the protocol states: a line for each kind."""
    after = "predict" in view.phases()  # the training: samples are queries
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


def _sent(view: View, sight: Sight, moments: Moments) -> Iterator[Learned]:
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
        since = _since(rows[0], moments)
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
