"""What views determine by an audit of a small instance with the same switches: the ledger never says less.

What an adversary computes at full size it can prove. What it cannot, or what nobody wrote a rule for, is
asked here of a small instance of the same protocol (`parties/audit`), and said in these words: "determined",
by an audit, not computed here. The audit knows the public configuration alone.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from parties.adversary.attack import Learned
from parties.audit.audit import Answer, Derivative, Finding
from protocols.language.errors import KeyholeError
from protocols.language.roles import DATA_OWNER
from scenarios.run.experiment import Scenario
from scenarios.run.small import small_experiment, small_instance, small_of
from scenarios.show.units import moment

Coalition = tuple[str, ...]

# What a quantity of an audit is called in the ledger.
_NAMES = {
    "images": "samples",
    "images: inner products": "gram",
    "images of querier": "queries",
    "what head hides": "head",
}
_NAMED_ALIKE = {
    "samples": ("samples", "x", "images"), "labels": ("labels",), "gram": ("gram", "samples", "x", "images"),
    "queries": ("queries", "x"),
    "head": ("head",), "weights": ("weights", "w1", "w1_mean", "w1_copy"),
}  # fmt: skip
_STRONG = ("clear", "exact", "up to", "determined")
_OF_ALL = ("clear", "determined")  # what is said in these words is said of everybody's
_LEFT_OUT = (
    "images: norms",
    "images: differences",
    "images: mean",
)  # follow from, or go with, what is said of images


def missing(finding: Finding, coalition: Coalition, lines: Sequence[Learned]) -> list[Learned]:
    """What lines of a coalition do not say although an audit found it determined: none of a ledger that
    holds.
    """
    found = (_line(finding, answer, coalition, lines) for answer in finding.answers)
    return [line for line in found if line is not None]


def with_audit(
    scenario: Scenario, config: Any, coalition: Coalition, lines: Sequence[Learned]
) -> list[Learned]:
    """The lines of a coalition, and those that an audit adds; a line where there could be no audit."""
    finding, found = audited(scenario, config, coalition), list(lines)
    if finding is None:
        reason = why_not(scenario, config) or "what it sends there is not finite"
        why = f"a small instance cannot be audited: {reason}"
        return [*found, Learned(", ".join(coalition), "audit", "others", "not analysed", why, None)]
    for answer in finding.answers:
        line = _line(finding, answer, coalition, found)
        found += [] if line is None else [line]
    of_samples = [line for line in found if line.quantity in _NAMED_ALIKE["samples"] and line.how != "own"]
    for what in finding.left_out:
        why = f"{what} are left out of the small instance"
        found.append(Learned(", ".join(coalition), "audit", "others", "undecided", why, None))
    if finding.steps and not of_samples:
        why = f"{', '.join(finding.steps)} changes in steps with what is not known, which no audit can follow"
        found.append(Learned(", ".join(coalition), "samples", "others", "undecided", why, None))
    return found


def audited(scenario: Scenario, config: Any, coalition: Coalition) -> Finding | None:
    """What a small instance says of a coalition of parties with these names; None where it cannot be
    audited.
    """
    derivative = _derivative(scenario, tuple(sorted(small_of(scenario, config).items())))
    if isinstance(derivative, str):
        return None
    try:
        return derivative.finding(_there(coalition, derivative.instance.parties, len(config.counts)))
    except (ValueError, ArithmeticError):  # numbers that are not finite: numpy's error of linear algebra too
        return None


def why_not(scenario: Scenario, config: Any) -> str | None:
    """Why a protocol cannot be audited, if it cannot."""
    derivative = _derivative(scenario, tuple(sorted(small_of(scenario, config).items())))
    return derivative if isinstance(derivative, str) else None


@lru_cache(maxsize=8)
def _derivative(scenario: Scenario, given: tuple[tuple[str, Any], ...]) -> Derivative | str:
    """The derivative of a small instance, one for all coalitions; or why there is none."""
    with tempfile.TemporaryDirectory(prefix="keyhole-audit-") as folder:
        try:
            experiment = small_experiment(scenario, dict(given), Path(folder))
            return Derivative(small_instance(experiment))
        except KeyholeError as cause:
            return str(cause)
        except Exception as cause:  # a user's script on reals: the run itself has ended well
            return f"{type(cause).__name__} in its script"


def _there(coalition: Coalition, parties: Sequence[str], owners: int) -> Coalition:
    """The parties of a small instance that stand for a coalition: of its owners as many, but all only for
    all.
    """
    role = DATA_OWNER.value
    there = [name for name in parties if name.startswith(role)]
    mine = [name for name in coalition if name.startswith(role)]
    count = len(there) if len(mine) == owners else min(len(mine), max(1, len(there) - 1))
    return (*there[: count if mine else 0], *(name for name in coalition if not name.startswith(role)))


def _line(finding: Finding, answer: Answer, coalition: Coalition, lines: Sequence[Learned]) -> Learned | None:
    """What an answer adds to the lines of a coalition."""
    quantity = _quantity(answer.name)
    if quantity is None or not (answer.determined or answer.undecided):
        return None
    whole = answer.determined == answer.total
    alike = [line for line in lines if _alike(line, quantity, answer.name)]
    share = answer.determined / answer.total
    if any(line.how in _STRONG and _share(line, quantity) >= share for line in alike):
        return None
    if not answer.determined and any(line.how == "undecided" for line in alike):
        return None
    party, what = ", ".join(coalition), answer.name.replace("images", "samples")
    if not answer.determined:
        why = f"{what}: an audit of a small instance cannot tell ({answer.undecided} of {answer.total})"
        return Learned(party, quantity, "others", "undecided", why, None)
    how_many = f"all {answer.total}" if whole else f"{answer.determined} of {answer.total}"
    since = "" if answer.since is None else f" since {moment(*answer.since[1])} there"
    detail = f"{what}: {how_many}{since}, by an audit of a small instance; not computed here"
    return Learned(party, quantity, "others", "determined", detail, None)


def _alike(line: Learned, quantity: str, name: str) -> bool:
    """Whether a line is about what an audit found; of weights, about those of the same party."""
    if line.quantity not in _NAMED_ALIKE.get(quantity, (quantity,)):
        return False
    whose = name.removeprefix("trained weights of ") if quantity == "weights" else ""
    return not whose or line.of in (whose, "W1(0)" if name == "first weights" else "W1")


def _share(line: Learned, quantity: str) -> float:
    """Of how much of a quantity of samples a line speaks, from 0 to 1; others have no parts."""
    if quantity not in ("samples", "gram", "labels") or line.how in _OF_ALL or line.of.startswith("all "):
        return 1.0
    parts = re.match(r"(\d+) of (\d+) ", line.of)
    return int(parts[1]) / int(parts[2]) if parts is not None and int(parts[2]) else 0.0


def _quantity(name: str) -> str | None:
    if name in _LEFT_OUT or name.startswith("images of querier:"):
        return None
    if name.startswith("trained weights") or name == "first weights":
        return "weights"
    return _NAMES.get(name, name.removeprefix("what ").removesuffix(" hides"))
