"""The script, run anew for a host that was started again: its instructions from the first to where the run
stands. What others revealed meanwhile is read from their transcripts.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from parties.record.transcript import Frame
from parties.runtime import wire
from parties.runtime.fleet import Fleet, check
from parties.runtime.host import HostSpec
from parties.runtime.post import Post
from parties.runtime.worker import Report
from protocols.language.errors import ProtocolError
from protocols.language.message import decode
from protocols.language.session import DoStep, Group, Publish, Reveal, Runtime, Transfer

_AGAIN_A_CALL = 256  # instructions for a host that catches up

Script = Callable[[Runtime], Iterator[Any]]


class _CaughtUp(BaseException):
    """The script has come to where the run stands; no protocol catches it."""


class Again(Post):
    """The script, run anew for one host from the beginning to where the run stands."""

    def __init__(self, specs: Sequence[HostSpec], fleet: Fleet, host: str, script: Script, said: int) -> None:
        """`said`: how much the script has said so far, but for what it freed."""
        super().__init__(specs)
        self._fleet, self._host, self._script, self._left = fleet, host, script, said
        self._tickets: deque[Any] = deque()
        self._asking: dict[str, Any] = {}

    def carried_out(self) -> Any:
        """Have the host catch up; returns the ticket for the report on its last instruction."""
        with contextlib.ExitStack() as stack:
            self._stack = stack
            with contextlib.suppress(_CaughtUp):
                for _ in self._script(self):
                    pass
        self._send_out()
        while len(self._tickets) > 1:
            self._wait()
        return self._tickets[0]

    def do(self, step: DoStep) -> None:
        self._next()
        self.post_step(step)
        self._send_if_many()

    def transfer(self, transfer: Transfer) -> None:
        self._next()
        self.post_transfer(transfer)
        self._send_if_many()

    def reveal(self, reveal: Reveal) -> Any:
        self._next()
        host = self.post_reveal(reveal)
        if self._left == 0:  # the run itself waits for this one
            raise _CaughtUp
        if host != self._host:
            return decode(self._asked(host, reveal.seq))
        self._send_out()
        report = Report()
        while self._tickets:
            report = self._wait()
        if report.revealed is None:
            raise ProtocolError(f"{host}: nothing to reveal")
        return decode(report.revealed)

    def publish(self, publish: Publish) -> None:
        self._next()
        self.post_publish(publish)
        self._send_if_many()

    def free(self, group: Group, handle: int) -> None:
        if self._left > 0:  # what the script forgets as it ends is the run's own to free
            self.post_free(group, handle)

    def end_phase(self, phase: str, round: int) -> None:
        """Rounds are the run's."""

    def _next(self) -> None:
        if self._left == 0:
            raise _CaughtUp
        self._left -= 1

    def _send_if_many(self) -> None:
        for host in self.mail:
            if host != self._host:
                self.collect(host)
        if len(self.mail[self._host].queue) >= _AGAIN_A_CALL:
            self._send_out()
            while len(self._tickets) > 2:
                self._wait()

    def _send_out(self) -> None:
        self._tickets.append(self._fleet.call(self._host, *self.collect(self._host)))

    def _wait(self) -> Report:
        (report,) = self._fleet.reports([self._tickets.popleft()])
        check([report])
        return report

    def _asked(self, host: str, number: int) -> Frame:
        """What another host revealed, from its transcript."""
        if host not in self._asking:
            address, token = self._fleet.book[host], self._fleet.token
            connection = wire.dial(address, token, wire.DRIVER, wire.Purpose.ASK)
            self._asking[host] = self._stack.enter_context(connection)
        return wire.asked(self._asking[host], host, number)
