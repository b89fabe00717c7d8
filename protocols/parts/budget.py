"""A budget on function keys: the authority counts the rank of the vectors that it issued keys for, and refuses beyond it.

A key of an inner-product scheme is one linear equation on every ciphertext of its master key, so that keys of rank r leave n - r
dimensions of each sample open (FE security is against an adversary whose keys do not span everything; Abdalla et al., PKC 2015,
eprint 2015/017). Samples that are encrypted anew under a fresh master key are the same samples: their vectors count together.

A refusal is a message and leaks: it says that the vectors asked for are not in the span of those issued. Here the budget is public
and one party asks for all keys, so C could have computed that itself; it would be news to it if several shared a budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from protocols.crypto.integers.rank import Echelon
from protocols.language.message import wire
from protocols.language.state import State


@wire
@dataclass(frozen=True)
class Refused:
    """No keys: with them the rank of what was issued, `rank`, would pass `budget`."""

    rank: int
    budget: int


def judge(state: State, name: str, rows: NDArray[Any], budget: int) -> bool:
    """A: whether keys for these rows keep the rank of all that was issued under a name within the budget; then they count."""
    # The rank is taken mod a prime and may be too low by chance (1 in 2^26 a row). A cloud that chose its vectors to make it so
    # would be malicious, and would have to do it within the weight bound.
    issued = state.held.get(("issued", name)) or Echelon(rows.shape[1])
    trial = issued.copy()
    trial.add(rows)
    granted = trial.rank <= budget
    state.held["issued", name] = trial if granted else issued
    return granted


def refusal(state: State, name: str, budget: int) -> Refused:
    """A: what it says in place of keys."""
    return Refused(state.held["issued", name].rank, budget)
