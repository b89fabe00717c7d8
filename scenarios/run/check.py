"""A policy held against a run: what a party, or a coalition, may learn at most of a quantity.

# leak.toml
incomplete = false                             # whether a run that did not come to its end may pass
audit = true                                   # whether a small instance is asked what the rules do not see

[[rule]]
party = "cloud_trainer + key_authority"        # together; a role that many play stands for each of them
quantity = "samples"                           # samples | labels | weights | master key | gram, or a label
at_most = "bounded"                            # nothing found | bounded | up to | exact

A rule holds if no line of the ledger says more. Where the ledger cannot say, it does not hold: what is
undecided may be determined, and of what no relation is stated, or what no audit could be made of, anything
may follow. What an audit calls determined counts as exact. A secret that is the party's own is known to it; a
party's own samples and labels are no leak, as a rule speaks of those of others.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from parties.adversary import dates
from parties.adversary.adversary import Adversary
from parties.adversary.attack import STRENGTH, Learned
from parties.adversary.knowledge import learned as knowledge
from parties.record.view import Kind, Row, View
from protocols.language.errors import ConfigError
from scenarios.run.folder import RunFolder
from scenarios.run.learned import QUANTITIES, Coalition, held_against_audit, learned
from scenarios.run.status import incomplete

LEVELS = ("nothing found", "bounded", "up to", "exact")

# The least level at which a line passes; `clear` and what nobody analysed pass none of them.
_COUNTS_AS = {
    "nothing found": "nothing found", "bounded": "bounded", "up to": "up to", "exact": "exact",
    "determined": "exact", "undecided": "exact", "clear": "", "own": "", "not analysed": "",
}  # fmt: skip
assert set(_COUNTS_AS) == set(STRENGTH)

_NAMES = dict(QUANTITIES)
_NAMES["weights"] += ("head_mean", "head_copy", "hidden_mean", "hidden_copy", "last_layer")
_ALSO = ("queries", "labels of queries")
_OF_OTHERS = {*_NAMES["samples"], *_NAMES["labels"], *_ALSO}
_AUDIT = "audit"  # the quantity of a line that says that an audit could not be made, or left something out
_MANY = 16  # parties of one role that are asked, each for itself
_KEYS = {"rule": list, "incomplete": bool, "audit": bool}
_RULE = ("party", "quantity", "at_most")
_LARGEST = 1 << 20  # bytes of a policy


@dataclass(frozen=True)
class Bound:
    """One rule: what parties may know together of a quantity, at most."""

    parties: Coalition
    quantity: str
    at_most: str

    def broken_by(self, line: Learned) -> bool:
        """Whether a line of the ledger, of these parties, says more than the rule allows, or may hide it."""
        if line.how == "not analysed" and line.quantity != _AUDIT:
            return True  # of any quantity: nobody knows what is in it
        if line.quantity == _AUDIT:  # it might have found that the view determines this
            return self.at_most != "exact"
        if line.quantity not in _NAMES.get(self.quantity, (self.quantity,)):
            return False
        level = _COUNTS_AS[line.how]
        return level not in LEVELS or LEVELS.index(level) > LEVELS.index(self.at_most)


@dataclass(frozen=True)
class Policy:
    """What a run may give away; `incomplete` and `audit` as above."""

    rules: tuple[Bound, ...]
    incomplete: bool = False
    audit: bool = True


@dataclass(frozen=True)
class Verdict:
    """Whether parties keep to a rule; if not, the line that breaks it first, and the message with which it
    does, where that is one.
    """

    rule: Bound
    line: Learned | None = None
    message: Row | None = None

    @property
    def holds(self) -> bool:
        """Whether nothing breaks it."""
        return self.line is None


@dataclass(frozen=True)
class Checked:
    """A verdict on every rule, and why the run itself does not pass; empty if it does."""

    verdicts: tuple[Verdict, ...]
    unfinished: str = ""

    @property
    def holds(self) -> bool:
        """Whether the run keeps to the policy."""
        return not self.unfinished and all(each.holds for each in self.verdicts)


def read_policy(path: Path) -> Policy:
    """The policy in a file; `ConfigError` names the key that is wrong, and what it should have been."""
    try:
        with path.open("rb") as file:
            said = tomllib.loads(file.read(_LARGEST).decode())
    except OSError as cause:
        raise ConfigError(f"{path}: cannot be read: {cause.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as cause:
        raise ConfigError(f"{path}: not TOML: {cause}") from None
    for key, value in said.items():
        kind = _KEYS[_known(path, "key", key, _KEYS)]
        if not isinstance(value, kind):
            wanted = "[[rule]] tables" if kind is list else "true or false"
            raise ConfigError(f"{path}: {key}: expected {wanted}")
    rules = said.get("rule", [])
    if not rules:
        raise ConfigError(f"{path}: holds no [[rule]], so that every run would pass")
    return Policy(
        tuple(_rule(path, number, each) for number, each in enumerate(rules, 1)),
        said.get("incomplete", False),
        said.get("audit", True),
    )


def _rule(path: Path, number: int, said: Any) -> Bound:
    where = f"rule {number}: "
    if not isinstance(said, dict):
        raise ConfigError(f"{path}: {where}expected a [[rule]] table")
    for key in said:
        _known(path, f"{where}key", key, _RULE)
    lacking = [key for key in _RULE if key not in said]
    if lacking:
        raise ConfigError(f"{path}: {where}lacks {lacking[0]}")
    for key in _RULE:
        if not isinstance(said[key], str):
            raise ConfigError(f"{path}: {where}{key}: expected text")
    named = (part.strip().replace("-", "_") for part in said["party"].split("+"))
    parties = tuple(dict.fromkeys(part for part in named if part))
    if not parties:
        raise ConfigError(f"{path}: {where}party: expected such as cloud_trainer + key_authority")
    at_most = _known(path, f"{where}at_most", said["at_most"], LEVELS)
    return Bound(parties, said["quantity"].strip(), at_most)


def _known(path: Path, what: str, name: str, known: Iterable[str]) -> str:
    """A name that is one of some; `ConfigError` with the nearest where it is not."""
    names = list(known)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 1)
    meant = f"did you mean {near[0]}?" if near else f"expected {', '.join(names[:40])}"
    raise ConfigError(f"{path}: {what} {name!r} is unknown; {meant}")


def check(run: RunFolder, policy: Policy, path: Path) -> Checked:
    """Hold a run against a policy, whose ledger is computed anew from its views; `path` is named in errors.

    Raises `ConfigError` for parties and quantities that the run has not.
    """
    rules = [each for number, rule in enumerate(policy.rules, 1) for each in _each(run, rule, path, number)]
    ledger: dict[Coalition, list[Learned]] = {}
    for rule in rules:
        if rule.parties not in ledger:
            lines = learned(run, Adversary, rule.parties)
            ledger[rule.parties] = held_against_audit(run, lines) if policy.audit else lines
    known = _quantities(run, [line for lines in ledger.values() for line in lines])
    for number, rule in enumerate(policy.rules, 1):
        _known(path, f"rule {number}: quantity", rule.quantity, known)
    stopped = "" if policy.incomplete else incomplete(run)
    return Checked(tuple(_verdict(run, rule, ledger[rule.parties]) for rule in rules), stopped)


def _each(run: RunFolder, rule: Bound, path: Path, number: int) -> Iterator[Bound]:
    """The rule for each choice of parties that its names stand for."""
    try:
        choices = [_stand_for(run, party) for party in rule.parties]
    except ConfigError as cause:
        raise ConfigError(f"{path}: rule {number}: party: {cause}") from None
    seen: set[frozenset[str]] = set()
    for parties in product(*choices):
        if frozenset(parties) not in seen:
            seen.add(frozenset(parties))
            yield Bound(tuple(dict.fromkeys(parties)), rule.quantity, rule.at_most)


def _stand_for(run: RunFolder, party: str) -> list[str]:
    many = [name for name in run.sources if name.partition(":")[0] == party != name]
    if len(many) > _MANY:
        raise ConfigError(f"{party} stands for {len(many)} parties, each of which may learn another thing: "
                          f"name those that are asked, such as {many[0]}")  # fmt: skip
    return many or [name for _, name in run.view_sources((party,))]


def _quantities(run: RunFolder, lines: Sequence[Learned]) -> list[str]:
    """What a rule may be about: what ledgers have lines of, and every label of the run."""
    with closing(View(tuple((path, name) for name, path in run.sources.items()))) as view:
        crossed = sorted({row.label for row in view.rows(None, Kind.SENT, Kind.RECEIVED)})
    return list(dict.fromkeys([*_NAMES, *_ALSO, *(line.quantity for line in lines), *crossed]))


def _verdict(run: RunFolder, rule: Bound, lines: Sequence[Learned]) -> Verdict:
    with closing(run.view(*rule.parties)) as view:
        broken = [line for line in lines if rule.broken_by(line) and not _own_input(view, line)]
        if not broken:
            return Verdict(rule)
        found = [(line, _message(view, rule, line, run.moments())) for line in broken[:_MANY]]
    return Verdict(rule, *min(found, key=lambda each: _LATE if each[1] is None else each[1].seq))


_LATE = 1 << 63


def _own_input(view: View, line: Learned) -> bool:
    """Whether a line is about samples or labels that the parties had themselves: those that they were given,
    or sent on as they were.
    """
    if line.how != "own" or line.quantity not in _OF_OTHERS:
        return False
    if line.of.endswith(" of its own"):
        return True
    given = {row.party for row in view.rows(None, Kind.INPUT)}
    return {row.sender for row in view.rows(line.quantity, Kind.SENT)} <= given


def _message(view: View, rule: Bound, line: Learned, moments: dates.Moments) -> Row | None:
    """The first message after which the rule is broken as this line breaks it; None for what the parties
    have from the beginning, and for what an audit says, which is of another instance.
    """
    if line.how == "own" or line.quantity == _AUDIT or line.how in ("determined", "undecided"):
        return None
    rows = list(view.rows(None, Kind.SENT, Kind.RECEIVED))
    of_label = next((row for row in rows if row.label == line.quantity and row.kind is Kind.RECEIVED), None)
    if line.how in ("clear", "not analysed") and of_label is not None:
        return of_label
    before, last = _within(moments, line.since_round)
    rows = [row for row in rows if before < row.seq <= last]

    def broken(position: int) -> bool:
        with closing(view.before(rows[position].seq)) as prefix:
            return any(each.quantity == line.quantity and each.how != "own" and rule.broken_by(each)
                       for each in knowledge(prefix))  # fmt: skip

    position = dates.first(len(rows), broken)
    return None if position is None else rows[position]


def _within(moments: dates.Moments, round: int | None) -> tuple[int, int]:
    """After which message and up to which one a round ends."""
    ends = [end for _, end in moments]
    for k, (number, end) in enumerate(moments):
        if number == round:
            return (ends[k - 1] if k else -1), end
    return -1, _LATE


def as_json(checked: Checked) -> Mapping[str, Any]:
    """What was found, as plain data."""
    rules = [
        {
            "party": list(each.rule.parties),
            "quantity": each.rule.quantity,
            "at_most": each.rule.at_most,
            "holds": each.holds,
            "line": _line(each.line),
            "message": _row(each.message),
        }
        for each in checked.verdicts
    ]
    return {"holds": checked.holds, "incomplete": checked.unfinished or None, "rules": rules}


def _line(line: Learned | None) -> dict[str, Any] | None:
    names = ("quantity", "of", "how", "detail", "since_round")
    return None if line is None else {name: getattr(line, name) for name in names}


def _row(row: Row | None) -> dict[str, Any] | None:
    names = ("seq", "phase", "round", "sender", "receiver", "label")
    return None if row is None else {name: getattr(row, name) for name in names}


def said(verdict: Verdict) -> str:
    """A verdict in one line."""
    rule, line, row = verdict.rule, verdict.line, verdict.message
    told = f"{' + '.join(rule.parties)}: {rule.quantity} at most {rule.at_most}"
    if line is None:
        return f"holds   {told}"
    what = line.how if line.quantity == rule.quantity else f"{line.quantity} {line.how}"
    since = "" if line.since_round is None else f", since round {line.since_round}"
    by = "" if row is None else f", by message {row.seq} ({row.label} of {row.sender})"
    without = "; `audit = false` in the policy does without" if line.quantity == _AUDIT else ""
    return f"broken  {told}; {what}{by}{since}: {line.of}, {line.detail}{without}"
