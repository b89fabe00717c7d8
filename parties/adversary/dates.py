"""Since when: the first round at whose end something holds that holds at the end, by bisection over prefixes
of a view.

A view holds everything that an earlier one did, so what follows from it only grows; that the ledger says so
too is a test (`tests/rules/test_monotony.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Moments = Sequence[tuple[int, int]]  # (round, number of the last message before the next one), in order


def first(count: int, holds: Callable[[int], bool], guess: int | None = None) -> int | None:
    """The first position from which on `holds`; None if it never does.

    A right guess costs two questions, or one if it is 0.
    """
    if not count or not holds(count - 1):
        return None
    low, high = -1, count - 1  # holds(high), and not holds(low)
    for position in () if guess is None else (guess, guess - 1):
        if low < position < high:
            low, high = (low, position) if holds(position) else (position, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def position_of(moments: Moments, seq: int) -> int:
    """The position of the first moment by which a message has crossed."""
    return next((k for k, (_, end) in enumerate(moments) if seq <= end), len(moments) - 1)
