"""The driver's half of a run in processes: what the hosts are told, how far ahead, and what is done when one
dies.

Instructions for a host queue up and go out several rounds at a time, one call for each host, whatever they
compute; frames go between hosts (`wire.py`), and the driver sees none but what is revealed. At most `WINDOW`
rounds are in flight; the first round of each phase is waited for at once.

A host whose process died is started again and given its instructions from the first one, by running the
script anew for it alone (`_Again`). The transcripts of the others are its checkpoint: they hold all that it
was sent. This asks for payloads; a run that records headers only ends with `HostLost`.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from parties.record.transcript import Frame, Record
from parties.runtime import wire
from parties.runtime.host import HostSpec
from parties.runtime.wire import Address, PeerLost
from parties.runtime.worker import Emit, Free, Instruction, Receive, Report
from protocols.language.errors import HostLost, KeyholeError, ProtocolError
from protocols.language.message import decode
from protocols.language.session import DoStep, Group, Publish, Reveal, Runtime, Transfer

WINDOW = 32
_ROUNDS_A_CALL = 8
_SECONDS_A_CALL = (
    0.1  # of computing: progress is seen, and an error reported, after no more than a few of these
)
_SMALL_GROUP = 4
_AGAIN_A_CALL = 256  # instructions for a host that catches up
_LIVES = 5  # times that a host is started again in a run

Progress = Callable[[str, int], None]
Script = Callable[[Runtime], Iterator[Any]]


class HostsDied(Exception):
    """Reports are missing because processes ended; raised by a fleet, seen to by the dispatcher."""


@dataclass(frozen=True)
class Recovery:
    """A host that died and was started again: which, in which phase and round the driver noticed, and how
    long it took until it had caught up.
    """

    host: str
    phase: str
    round: int
    seconds: float


class Fleet(Protocol):
    """The processes of a run's hosts: how they are reached, whatever they run on."""

    token: bytes
    book: dict[str, Address]

    def call(self, host: str, groups: Sequence[Group], batch: Sequence[Instruction]) -> Any:
        """Have a host carry out a batch after those before; returns a ticket for its report at once."""

    def arrived(self, tickets: Sequence[Any]) -> bool:
        """Whether all these reports have come; does not wait."""

    def reports(self, tickets: Sequence[Any]) -> Sequence[Report]:
        """Wait for reports, each once; `HostsDied` where one will not come, and then none is lost."""

    def restart(self, host: str) -> None:
        """A new process in the place of one that died, with an empty transcript; it has met the others."""

    def close(self) -> None:
        """Have every host keep what its parties keep and finish its transcript, then end them all."""

    def abandon(self) -> None:
        """After a failure: finish the transcripts that are within reach, then end every process."""


@dataclass(eq=False)
class _Flight:
    """Rounds whose instructions are with the hosts, and the tickets for their reports."""

    rounds: list[tuple[str, int]]
    tickets: list[tuple[str, Any]]


@dataclass
class _Mail:
    """What waits to be sent to a host, and the groups that it knows by number."""

    queue: list[Instruction] = field(default_factory=list)
    known: set[int] = field(default_factory=set)
    new: list[Group] = field(default_factory=list)


class _Post:
    """Instructions of a session as instructions for hosts."""

    def __init__(self, specs: Sequence[HostSpec]) -> None:
        self._home = homes(specs)
        self._mail = {spec.name: _Mail() for spec in specs}
        self._hosts_of_group: dict[int, tuple[str, ...]] = {}

    def post_step(self, step: DoStep) -> None:
        for host in self._hosts(step.group):
            self._mail[host].queue.append(replace(step, group=self._group(host, step.group)))

    def post_transfer(self, transfer: Transfer) -> None:
        senders, receivers = self._hosts(transfer.senders), self._hosts(transfer.receivers)
        if len(senders) > 1 and len(receivers) > 1:  # pairs: a host may hear from some hosts only
            pairs = self._pairs(transfer)
        else:
            pairs = [(sender, receiver) for sender in senders for receiver in receivers]
        for sender in senders:
            to = tuple(receiver for host, receiver in pairs if host == sender)
            self._mail[sender].queue.append(Emit(self._shortened(sender, transfer), to))
        for receiver in receivers:
            out_of = tuple(host for host, other in pairs if other == receiver)
            self._mail[receiver].queue.append(Receive(self._shortened(receiver, transfer), out_of))

    def post_reveal(self, reveal: Reveal) -> str:
        """Returns the host that reveals."""
        (host,) = self._hosts(reveal.group)
        self._mail[host].queue.append(reveal)
        return host

    def post_publish(self, publish: Publish) -> None:
        for host in self._hosts(publish.group):
            self._mail[host].queue.append(replace(publish, group=self._group(host, publish.group)))

    def post_free(self, group: Group, handle: int) -> None:
        for host in self._hosts(group):
            self._mail[host].queue.append(Free(self._group(host, group), handle))

    def collect(self, host: str) -> tuple[list[Group], list[Instruction]]:
        """What waits for a host: groups that it hears of for the first time, and instructions."""
        mail = self._mail[host]
        new, queue, mail.new, mail.queue = mail.new, mail.queue, [], []
        return new, queue

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
        mail = self._mail[host]
        if group.id not in mail.known:
            mail.known.add(group.id)
            mail.new.append(group)
        return Group(group.id, ())

    def _shortened(self, host: str, transfer: Transfer) -> Transfer:
        senders, receivers = self._group(host, transfer.senders), self._group(host, transfer.receivers)
        return replace(transfer, senders=senders, receivers=receivers)


class Dispatcher(_Post):
    """A session's runtime: hosts in processes of their own."""

    def __init__(self, specs: Sequence[HostSpec], fleet: Fleet, progress: Progress | None = None) -> None:
        super().__init__(specs)
        self._specs, self._fleet, self._progress = {spec.name: spec for spec in specs}, fleet, progress
        self._open: list[tuple[str, int]] = []  # rounds that are queued
        self._tickets: list[tuple[str, Any]] = []  # of what went out inside a round, to reveal something
        self._flights: deque[_Flight] = deque()
        self._begun: set[str] = set()
        self._rounds_a_call, self._retired = 1, time.perf_counter()
        self._said = 0  # by the script so far, but for what is freed
        self._last = "", -1
        self.script: Script | None = None
        self.recoveries: list[Recovery] = []
        self.calls = 0

    @property
    def in_flight(self) -> int:
        """Rounds that the hosts were told of and have not reported on."""
        return sum(len(flight.rounds) for flight in self._flights)

    def do(self, step: DoStep) -> None:
        self._said += 1
        self.post_step(step)

    def transfer(self, transfer: Transfer) -> None:
        self._said += 1
        self.post_transfer(transfer)

    def reveal(self, reveal: Reveal) -> Any:
        self._said += 1
        host = self.post_reveal(reveal)
        self._take_off()  # every host: this one may wait for what others send
        last, reports = self._flights[-1], dict[str, Report]()
        while last in self._flights:
            reports = self._retire()
        revealed = reports[host].revealed
        if revealed is None:
            raise ProtocolError(f"{host}: nothing to reveal")
        return decode(revealed)

    def publish(self, publish: Publish) -> None:
        self._said += 1
        self.post_publish(publish)

    def free(self, group: Group, handle: int) -> None:
        self.post_free(group, handle)

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
        """Carry out what is queued, and wait for it, and for a sign of every host: one that died after its
        last instruction comes back while the others still can help it.
        """
        self._take_off()
        self._flights.append(_Flight([], [(host, self._fleet.call(host, [], [])) for host in self._mail]))
        while self._flights:
            self._retire()

    def finish(self) -> None:
        """Carry out what is queued, and close every transcript."""
        self.settle()
        self._fleet.close()

    def abort(self) -> None:
        """After a failure: close what is within reach, then stop every host."""
        self._fleet.abandon()

    def _take_off(self) -> None:
        """Send every host what waits for it."""
        tickets = []
        for host in self._mail:
            new, batch = self.collect(host)
            if batch:
                tickets.append((host, self._fleet.call(host, new, batch)))
                self.calls += 1
        self._flights.append(_Flight(self._open, tickets))
        self._open = []

    def _oldest_is_done(self) -> bool:
        """Whether the oldest flight has ended; does not wait."""
        return self._fleet.arrived([ticket for _, ticket in self._flights[0].tickets])

    def _retire(self) -> dict[str, Report]:
        """Wait for the oldest flight and look at its reports, which are returned by host."""
        reports = None
        while reports is None:
            try:
                reports = self._fleet.reports([ticket for _, ticket in self._flights[0].tickets])
            except HostsDied:
                self._recover()
        flight = self._flights.popleft()
        _check(reports)
        self._adapt(len(flight.rounds))
        for phase, round_ in flight.rounds:
            self._last = phase, round_
            if self._progress:
                self._progress(phase, round_)
        return dict(zip([host for host, _ in flight.tickets], reports, strict=True))

    def _adapt(self, rounds: int) -> None:
        """Put as many rounds into a call as keep the hosts busy for a moment."""
        now = time.perf_counter()
        if rounds:
            each = (now - self._retired) / rounds
            self._rounds_a_call = max(1, min(_ROUNDS_A_CALL, int(_SECONDS_A_CALL / max(each, 1e-9))))
        self._retired = now

    def _recover(self) -> None:
        """Start the host that died again, and have it catch up; raises `HostLost` where that cannot be."""
        began = time.perf_counter()
        book, token = self._fleet.book, self._fleet.token
        dead = [name for name, address in book.items() if not wire.lives(address, token)]
        if not dead:
            raise HostLost("a process of the run was lost, and all of them answer")
        parties = ", ".join(_carried(self._specs[name]) for name in dead)
        lost = HostLost(f"the process that carried {parties} died; its transcript up to then is kept")
        again = sum(recovery.host == dead[0] for recovery in self.recoveries)
        if self.script is None or len(dead) > 1 or again >= _LIVES or not _recorded(self._specs.values()):
            raise lost
        (host,) = dead
        self._take_off()  # to catch up is to carry out what is queued as well, which others take part in
        try:
            self._fleet.restart(host)
            self._mail[host] = _Mail()
            ticket = _Again(self, host, self.script).carried_out()
        except (HostsDied, PeerLost):
            raise lost from None
        told = [flight for flight in self._flights if any(name == host for name, _ in flight.tickets)]
        for flight in told:
            flight.tickets = [(name, old) for name, old in flight.tickets if name != host]
        (told or self._flights)[-1].tickets.append((host, ticket))  # it has caught up with the last of them
        self.recoveries.append(Recovery(host, *self._last, round(time.perf_counter() - began, 3)))


class _CaughtUp(BaseException):
    """The script has come to where the run stands; no protocol catches it."""


class _Again(_Post):
    """The script, run anew for one host from the beginning to where the run stands."""

    def __init__(self, run: Dispatcher, host: str, script: Script) -> None:
        super().__init__(list(run._specs.values()))
        self._run, self._fleet, self._host, self._script = run, run._fleet, host, script
        self._left = run._said
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
        self._run._mail[self._host] = self._mail[self._host]
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
        return decode(report.revealed) if report.revealed is not None else None

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
        for host in self._mail:
            if host != self._host:
                self.collect(host)
        if len(self._mail[self._host].queue) >= _AGAIN_A_CALL:
            self._send_out()
            while len(self._tickets) > 2:
                self._wait()

    def _send_out(self) -> None:
        self._tickets.append(self._fleet.call(self._host, *self.collect(self._host)))

    def _wait(self) -> Report:
        (report,) = self._fleet.reports([self._tickets.popleft()])
        _check([report])
        return report

    def _asked(self, host: str, number: int) -> Frame:
        """What another host revealed, from its transcript."""
        if host not in self._asking:
            address, token = self._fleet.book[host], self._fleet.token
            connection = wire.dial(address, token, wire.DRIVER, wire.Purpose.ASK)
            self._asking[host] = self._stack.enter_context(connection)
        return wire.asked(self._asking[host], host, number)


def _check(reports: Sequence[Report]) -> None:
    """Raise what a host reports."""
    for report in reports:
        if report.failure:
            raise named_error(report.cause)(report.failure)
    for report in reports:
        if report.lost:
            raise PeerLost(report.lost)


def _recorded(specs: Iterable[HostSpec]) -> bool:
    return all(spec.record is Record.FULL for spec in specs)


def _carried(spec: HostSpec) -> str:
    parties = spec.parties
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
