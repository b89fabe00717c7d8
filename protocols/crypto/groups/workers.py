"""Spread native work over threads.

Threads, not processes: nearly all of the time goes into calls of ctypes that release the GIL, so that two
threads come within 5% of two processes (fhipe, n = 64, 16 x 16 products), and nothing has to be started,
shipped or cleaned up when a party's process is killed. The pool lives as long as one call. A task must not
wait for a lock that its caller holds (`mcl.active`), and returns what it found instead of raising with
values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from os import cpu_count
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def available() -> int:
    """How many processors this machine has."""
    return cpu_count() or 1


def spread(task: Callable[[T], R], items: Sequence[T], workers: int) -> list[R]:
    """`task` of every item, in order, on at most `workers` threads; a single one is the caller's own."""
    threads = min(workers, len(items))
    if threads <= 1:
        return [task(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(task, items))


def ranges(count: int, pieces: int) -> list[tuple[int, int]]:
    """[0, count) as at most `pieces` contiguous (start, stop) of nearly equal size, none of them empty."""
    pieces = max(1, min(pieces, count))
    edges = [count * piece // pieces for piece in range(pieces + 1)]
    return list(pairwise(edges)) if count else []
