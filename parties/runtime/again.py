"""The script, run anew for hosts that were started again: their instructions from the first to where the run
stands. What others revealed meanwhile is read from their transcripts.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from parties.record.transcript import Frame
from parties.runtime import wire
from parties.runtime.fleet import Fleet, check
from parties.runtime.host import HostSpec
from parties.runtime.post import Mail, Post
from parties.runtime.stood import revealed_before
from parties.runtime.worker import Report
from protocols.language.errors import ProtocolError
from protocols.language.message import decode
from protocols.language.session import DoStep, Group, Publish, Reveal, Runtime, Transfer

_AGAIN_A_CALL = 256  # instructions for a host that catches up

Script = Callable[[Runtime], Iterator[Any]]


class _CaughtUp(BaseException):
    """The script has come to where the run stands; no protocol catches it."""


class Again(Post):
    """The script, run anew for some hosts from the beginning to where the run stands."""

    def __init__(
        self, specs: Sequence[HostSpec], fleet: Fleet, hosts: Iterable[str], script: Script, said: int
    ) -> None:
        """`said`: how much the script has said so far, but for what it freed. The hosts begin where the
        checkpoint stands that their specifications name.
        """
        super().__init__(specs)
        self._specs = {spec.name: spec for spec in specs}
        self._start, self._phases = max(self._specs[host].start for host in hosts), 0
        self._fleet, self._script, self._left = fleet, script, said
        self._tickets: dict[str, deque[Any]] = {host: deque() for host in hosts}
        self._asking: dict[str, Any] = {}

    def carried_out(self) -> dict[str, Any]:
        """Have the hosts catch up; returns the tickets for the reports on their last instructions."""
        with contextlib.ExitStack() as stack:
            self._stack = stack
            with contextlib.suppress(_CaughtUp):
                for _ in self._script(self):
                    pass
        self._send_out()
        for host, tickets in self._tickets.items():
            while len(tickets) > 1:
                self._wait(host)
        return {host: tickets[0] for host, tickets in self._tickets.items()}

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
        if self._phases < self._start:
            return revealed_before(self._specs[host], reveal.seq)
        if host not in self._tickets:
            return decode(self._asked(host, reveal.seq))
        self._send_out()  # to all of them: this one may wait for what another sends
        report = Report()
        while self._tickets[host]:
            report = self._wait(host)
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
        """Rounds are the run's; of what was said before the hosts begin they are not told."""
        self._phases += 1
        if self._phases == self._start:
            self.mail = {host: Mail() for host in self.mail}

    def _next(self) -> None:
        if self._left == 0:
            raise _CaughtUp
        self._left -= 1

    def _send_if_many(self) -> None:
        for host in self.mail:
            if host not in self._tickets:
                self.collect(host)
        if self._phases < self._start:
            self.mail = {host: Mail() for host in self.mail}
            return
        if any(len(self.mail[host].queue) >= _AGAIN_A_CALL for host in self._tickets):
            self._send_out()
            for host, tickets in self._tickets.items():
                while len(tickets) > 2:
                    self._wait(host)

    def _send_out(self) -> None:
        for host, tickets in self._tickets.items():
            tickets.append(self._fleet.call(host, *self.collect(host)))

    def _wait(self, host: str) -> Report:
        (report,) = self._fleet.reports([self._tickets[host].popleft()])
        check([report])
        return report

    def _asked(self, host: str, number: int) -> Frame:
        """What another host revealed, from its transcript."""
        if host not in self._asking:
            address, token = self._fleet.book[host], self._fleet.token
            connection = wire.dial(address, token, wire.DRIVER, wire.Purpose.ASK)
            self._asking[host] = self._stack.enter_context(connection)
        return wire.asked(self._asking[host], host, number)
