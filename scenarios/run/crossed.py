"""What a party has been sent until a round: counted where the driver hands instructions on, and told when the
hosts report the round, so that nothing waits for a value.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from protocols.language.session import DoStep, Group, Publish, Reveal, Runtime, Transfer


class Counted:
    """A runtime that counts the messages to the parties in `names`, by label, and hands everything on."""

    def __init__(self, runtime: Runtime, names: tuple[str, ...]) -> None:
        self._runtime, self._names = runtime, frozenset(names)
        self._counts: Counter[str] = Counter()
        self._ended: deque[tuple[str, int, dict[str, int]]] = deque()  # rounds that were not told yet
        self._last: dict[str, int] = {}

    def until(self, phase: str, round: int) -> dict[str, int]:
        """Messages by label until the end of a round, as far as it was counted; rounds are asked for in
        order.
        """
        if any(each[:2] == (phase, round) for each in self._ended):
            while self._ended:
                *ended, self._last = self._ended.popleft()
                if tuple(ended) == (phase, round):
                    break
        return self._last

    def do(self, step: DoStep) -> None:
        self._runtime.do(step)

    def transfer(self, transfer: Transfer) -> None:
        receivers = transfer.receivers.members
        mine = self._names.intersection(receivers)
        if mine:
            self._counts[transfer.label] += transfer.count if len(receivers) == 1 else len(mine)
        self._runtime.transfer(transfer)

    def reveal(self, reveal: Reveal) -> Any:
        return self._runtime.reveal(reveal)

    def publish(self, publish: Publish) -> None:
        self._runtime.publish(publish)

    def free(self, group: Group, handle: int) -> None:
        self._runtime.free(group, handle)

    def end_phase(self, phase: str, round: int) -> None:
        self._ended.append((phase, round, dict(self._counts)))
        self._runtime.end_phase(phase, round)
