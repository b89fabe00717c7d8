"""The driver's half of a run in processes: what the hosts are told, and how far ahead.

Instructions for a host queue up and go out several rounds at a time, one call for each host, whatever they
compute; frames go between hosts (`wire.py`), and the driver sees none but what is revealed. At most `WINDOW`
rounds are in flight; the first round of each phase is waited for at once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from parties.runtime.host import HostSpec
from parties.runtime.worker import Emit, Free, Instruction, Receive, Report
from protocols.language.errors import HostLost, KeyholeError, ProtocolError
from protocols.language.message import decode
from protocols.language.session import DoStep, Group, Publish, Reveal, Transfer

WINDOW = 32
_ROUNDS_A_CALL = 8
_SECONDS_A_CALL = (
    0.1  # of computing: progress is seen, and an error reported, after no more than a few of these
)
_SMALL_GROUP = 4

Progress = Callable[[str, int], None]


class Fleet(Protocol):
    """The processes of a run's hosts: how they are reached, whatever they run on."""

    def call(self, host: str, groups: Sequence[Group], batch: Sequence[Instruction]) -> Any:
        """Have a host carry out a batch after those before; returns a ticket for its report at once."""

    def arrived(self, tickets: Sequence[Any]) -> bool:
        """Whether all these reports have come; does not wait."""

    def reports(self, tickets: Sequence[Any]) -> Sequence[Report | None]:
        """Wait for reports; None from a host whose process died."""

    def dead(self) -> list[str]:
        """The hosts whose processes ended."""

    def close(self) -> None:
        """Have every host keep what its parties keep and finish its transcript, then end them all."""

    def abandon(self) -> None:
        """After a failure: finish the transcripts that are within reach, then end every process."""


@dataclass
class _Flight:
    """Rounds whose instructions are with the hosts, and the tickets for their reports."""

    rounds: list[tuple[str, int]]
    tickets: list[tuple[str, Any]]


class Dispatcher:
    """A session's runtime: hosts in processes of their own."""

    def __init__(self, specs: Sequence[HostSpec], fleet: Fleet, progress: Progress | None = None) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._home = homes(specs)
        self._fleet, self._progress = fleet, progress
        self._queues: dict[str, list[Instruction]] = {spec.name: [] for spec in specs}
        self._known: dict[str, set[int]] = {spec.name: set() for spec in specs}
        self._new: dict[str, list[Group]] = {spec.name: [] for spec in specs}
        self._hosts_of_group: dict[int, tuple[str, ...]] = {}
        self._open: list[tuple[str, int]] = []  # rounds that are queued
        self._tickets: list[tuple[str, Any]] = []  # of what went out inside a round, to reveal something
        self._flights: deque[_Flight] = deque()
        self._begun: set[str] = set()
        self._rounds_a_call, self._retired = 1, time.perf_counter()
        self.calls = 0

    @property
    def in_flight(self) -> int:
        """Rounds that the hosts were told of and have not reported on."""
        return sum(len(flight.rounds) for flight in self._flights)

    def do(self, step: DoStep) -> None:
        for host in self._hosts(step.group):
            self._queue(host, replace(step, group=self._group(host, step.group)))

    def transfer(self, transfer: Transfer) -> None:
        senders, receivers = self._hosts(transfer.senders), self._hosts(transfer.receivers)
        if len(senders) > 1 and len(receivers) > 1:  # pairs: a host may hear from some hosts only
            pairs = self._pairs(transfer)
        else:
            pairs = [(sender, receiver) for sender in senders for receiver in receivers]
        for sender in senders:
            to = tuple(receiver for host, receiver in pairs if host == sender)
            self._queue(sender, Emit(self._shortened(sender, transfer), to))
        for receiver in receivers:
            out_of = tuple(host for host, other in pairs if other == receiver)
            self._queue(receiver, Receive(self._shortened(receiver, transfer), out_of))

    def reveal(self, reveal: Reveal) -> Any:
        (host,) = self._hosts(reveal.group)
        self._queue(host, reveal)
        self._send_out()  # of every host: this one may wait for what others send
        self._flights.append(_Flight([], self._tickets))
        self._tickets = []
        ticket = next(ticket for name, ticket in self._flights[-1].tickets if name == host)
        while len(self._flights) > 1:
            self._retire()
        revealed = self._retire()[host, ticket].revealed
        if revealed is None:
            raise ProtocolError(f"{host}: nothing to reveal")
        return decode(revealed)

    def publish(self, publish: Publish) -> None:
        for host in self._hosts(publish.group):
            self._queue(host, replace(publish, group=self._group(host, publish.group)))

    def free(self, group: Group, handle: int) -> None:
        for host in self._hosts(group):
            self._queues[host].append(Free(self._group(host, group), handle))

    def end_phase(self, phase: str, round: int) -> None:
        self._open.append((phase, round))
        # The first round of each phase is waited for: else a short run would be in flight as a whole before
        # set-up has ended, and its training would be booked as set-up.
        first = phase not in self._begun
        self._begun.add(phase)
        if first or len(self._open) >= self._rounds_a_call:
            self._take_off()
        while self._flights and (first or self.in_flight > WINDOW or self._oldest_is_done()):
            self._retire()

    def settle(self) -> None:
        """Carry out what is queued, and wait for it."""
        self._take_off()
        while self._flights:
            self._retire()

    def finish(self) -> None:
        """Carry out what is queued, and close every transcript."""
        self.settle()
        self._fleet.close()

    def abort(self) -> None:
        """After a failure: close what is within reach, then stop every host."""
        self._fleet.abandon()

    def _hosts(self, group: Group) -> tuple[str, ...]:
        if group.id not in self._hosts_of_group:
            self._hosts_of_group[group.id] = tuple(
                dict.fromkeys(self._home[member] for member in group.members)
            )
        return self._hosts_of_group[group.id]

    def _pairs(self, transfer: Transfer) -> list[tuple[str, str]]:
        """(host of the sender, host of the receiver) of the messages between two groups, each once."""
        members = zip(transfer.senders.members, transfer.receivers.members, strict=True)
        return list(dict.fromkeys((self._home[sender], self._home[receiver]) for sender, receiver in members))

    def _group(self, host: str, group: Group) -> Group:
        """A large group travels to a host once; from then on its number stands for it."""
        if len(group.members) <= _SMALL_GROUP:
            return group
        if group.id not in self._known[host]:
            self._known[host].add(group.id)
            self._new[host].append(group)
        return Group(group.id, ())

    def _shortened(self, host: str, transfer: Transfer) -> Transfer:
        senders, receivers = self._group(host, transfer.senders), self._group(host, transfer.receivers)
        return replace(transfer, senders=senders, receivers=receivers)

    def _queue(self, host: str, instruction: Instruction) -> None:
        self._queues[host].append(instruction)

    def _send_out(self) -> None:
        """Send every host what is queued for it."""
        for host, batch in self._queues.items():
            if batch:
                self._queues[host] = []
                new, self._new[host] = self._new[host], []
                self._tickets.append((host, self._fleet.call(host, new, batch)))
                self.calls += 1

    def _take_off(self) -> None:
        self._send_out()
        if self._open or self._tickets:
            self._flights.append(_Flight(self._open, self._tickets))
            self._open, self._tickets = [], []

    def _oldest_is_done(self) -> bool:
        """Whether the oldest flight has ended; does not wait."""
        return self._fleet.arrived([ticket for _, ticket in self._flights[0].tickets])

    def _retire(self) -> dict[tuple[str, Any], Report]:
        """Wait for the oldest flight and look at its reports, which are returned by host and ticket."""
        flight = self._flights.popleft()
        reports = self._fleet.reports([ticket for _, ticket in flight.tickets])
        for report in reports:
            if report is not None and report.failure:
                raise named_error(report.cause)(report.failure)
        if any(report is None or report.lost for report in reports):
            raise self._lost(reports)
        self._adapt(len(flight.rounds))
        if self._progress:
            for phase, round_ in flight.rounds:
                self._progress(phase, round_)
        named = zip(flight.tickets, reports, strict=True)
        return {host_and_ticket: report for host_and_ticket, report in named if report is not None}

    def _adapt(self, rounds: int) -> None:
        """Put as many rounds into a call as keep the hosts busy for a moment."""
        now = time.perf_counter()
        if rounds:
            each = (now - self._retired) / rounds
            self._rounds_a_call = max(1, min(_ROUNDS_A_CALL, int(_SECONDS_A_CALL / max(each, 1e-9))))
        self._retired = now

    def _lost(self, reports: Sequence[Report | None]) -> HostLost:
        dead = self._fleet.dead()
        if not dead:
            named = ", ".join(
                sorted({report.lost for report in reports if report is not None and report.lost})
            )
            return HostLost(f"the connection to the process that carried {self._carried(named)} was lost")
        parties = ", ".join(self._carried(name) for name in dead)
        return HostLost(f"the process that carried {parties} died; its transcript up to then is kept")

    def _carried(self, host: str) -> str:
        parties = self._specs[host].parties if host in self._specs else (host,)
        return parties[0] if len(parties) == 1 else f"{parties[0]} and {len(parties) - 1} more"


def homes(specs: Sequence[HostSpec]) -> dict[str, str]:
    """The host of each party."""
    return {party: spec.name for spec in specs for party in spec.parties}


def named_error(name: str) -> type[KeyholeError]:
    """The error class of that name, so that a refusal reads the same from another process."""
    known: list[type[KeyholeError]] = [KeyholeError]
    for cls in known:
        if cls.__name__ == name:
            return cls
        known.extend(cls.__subclasses__())
    return KeyholeError
