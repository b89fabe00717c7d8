"""The driver's half of a run in processes: how far ahead the hosts are told, and what is done when one dies.

Instructions for a host queue up and go out several rounds at a time, one call for each host, whatever they
compute; frames go between hosts (`wire.py`), and the driver sees none but what is revealed. At most `WINDOW`
rounds are in flight; the first round of each phase is waited for at once.

A host whose process died is started again and given its instructions from the first one, by running the
script anew for it alone (`again.py`). The transcripts of the others are its checkpoint: they hold all that it
was sent. Those that died together are started again together, and send each other once more what they had
sent. This asks for payloads; a run that records headers only ends with `HostLost`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from parties.record.transcript import Record
from parties.runtime import wire
from parties.runtime.again import Again, Script
from parties.runtime.checkpoints import Checkpoints, from_checkpoint
from parties.runtime.fleet import Fleet, HostsDied, check
from parties.runtime.host import HostSpec
from parties.runtime.post import Post
from parties.runtime.stood import revealed_before
from parties.runtime.watch import carried
from parties.runtime.wire import PeerLost
from parties.runtime.worker import Checkpoint, Report
from protocols.language.errors import HostLost, ProtocolError
from protocols.language.message import decode
from protocols.language.session import DoStep, Group, Publish, Reveal, Transfer

WINDOW = 32
_ROUNDS_A_CALL = 8
_SECONDS_A_CALL = 0.1  # of computing: how coarse progress is, and how late an error is heard of
_LIVES = 5  # times that hosts are started again while no round ends

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Recovery:
    """A host that died and was started again: which, in which phase and round the driver noticed, and how
    long it took until it had caught up.
    """

    host: str
    phase: str
    round: int
    seconds: float


@dataclass(eq=False)
class _Flight:
    """Rounds whose instructions are with the hosts, and the tickets for their reports."""

    rounds: list[tuple[str, int]]
    tickets: list[tuple[str, Any]]
    checkpoint: int = 0  # which is every host's when all have reported


class Dispatcher(Post):
    """A session's runtime: hosts in processes of their own."""

    def __init__(self, specs: Sequence[HostSpec], fleet: Fleet, progress: Progress | None = None) -> None:
        super().__init__(specs)
        self._specs, self._fleet, self._progress = {spec.name: spec for spec in specs}, fleet, progress
        self._open: list[tuple[str, int]] = []  # rounds that are queued
        self._flights: deque[_Flight] = deque()
        self._begun: set[str] = set()
        self._rounds_a_call, self._retired = 1, time.perf_counter()
        self._said = 0  # by the script so far, but for what is freed
        self._last = "", -1
        self._died = 0  # how often somebody did since a round ended
        self._before = max((spec.resumed.before for spec in specs if spec.resumed), default=0)
        self._start, self._phases = max(spec.start for spec in specs), 0
        self._checkpoint = self._confirmed = self._start
        self.checkpoints = Checkpoints()
        self.script: Script | None = None
        self.recoveries: list[Recovery] = []
        self.calls = 0

    def allow(self, seconds: float) -> None:
        """How long an instruction of a host may take."""
        self._fleet.watch.deadline = seconds

    @property
    def pids(self) -> dict[str, int]:
        """The process numbers of the hosts."""
        return self._fleet.pids

    @property
    def in_flight(self) -> int:
        """Rounds that the hosts were told of and have not reported on."""
        return sum(len(flight.rounds) for flight in self._flights)

    @property
    def _known(self) -> bool:
        """Whether the hosts have all that is said, from the checkpoint that they began from."""
        return self._phases < self._start

    def do(self, step: DoStep) -> None:
        self._said += 1
        if not self._known:
            self.post_step(step)

    def transfer(self, transfer: Transfer) -> None:
        self._said += 1
        if not self._known:
            self.post_transfer(transfer)

    def reveal(self, reveal: Reveal) -> Any:
        self._said += 1
        if self._known:
            return self.checkpoints.revealed(self._specs[self._home[reveal.group.members[0]]], reveal.seq)
        host = self.post_reveal(reveal)
        if reveal.seq < self._before:
            return revealed_before(self._specs[host], reveal.seq)
        self._take_off()  # every host: this one may wait for what others send
        last, reports = self._flights[-1], dict[str, Report]()
        while last in self._flights:
            reports = self._retire()
        revealed = reports[host].revealed
        if revealed is None:
            raise ProtocolError(f"{host}: nothing to reveal")
        self.checkpoints.keep(self._specs[host], reveal.seq, revealed)
        return decode(revealed)

    def publish(self, publish: Publish) -> None:
        self._said += 1
        if not self._known:
            self.post_publish(publish)

    def free(self, group: Group, handle: int) -> None:
        if not self._known:
            self.post_free(group, handle)

    def end_phase(self, phase: str, round: int) -> None:
        self._phases += 1
        if self._phases <= self._start:
            self._begun.add(phase)
            self._ended(phase, round)
            return
        self._open.append((phase, round))
        if self.checkpoints.due(phase, round):
            self._checkpoint = self._phases
            for mail in self.mail.values():
                mail.queue.append(Checkpoint(self._phases, self._confirmed))
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
        self._flights.append(_Flight([], [(host, self._fleet.call(host, [], [])) for host in self.mail]))
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
        for host in self.mail:
            new, batch = self.collect(host)
            if batch:
                tickets.append((host, self._fleet.call(host, new, batch)))
                self.calls += 1
        self._flights.append(_Flight(self._open, tickets, self._checkpoint))
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
        check(reports)
        self._adapt(len(flight.rounds))
        if not self.checkpoints.lost(reports):
            self._confirmed = max(self._confirmed, flight.checkpoint)
        for phase, round_ in flight.rounds:
            self._died = 0
            self._ended(phase, round_)
        return dict(zip([host for host, _ in flight.tickets], reports, strict=True))

    def _ended(self, phase: str, round: int) -> None:
        self._last = phase, round
        if self._progress:
            self._progress(phase, round)

    def _adapt(self, rounds: int) -> None:
        """Put as many rounds into a call as keep the hosts busy for a moment."""
        now = time.perf_counter()
        if rounds:
            each = (now - self._retired) / rounds
            self._rounds_a_call = max(1, min(_ROUNDS_A_CALL, int(_SECONDS_A_CALL / max(each, 1e-9))))
        self._retired = now

    def _recover(self) -> None:
        """Start the hosts that died again, and have them catch up; raises `HostLost` where that cannot be."""
        began, dead, caught_up = time.perf_counter(), set[str](), None
        while caught_up is None:
            now = [name for name, address in self._fleet.book.items() if not self._lives(address)]
            if not dead and not now:
                raise HostLost("a process of the run was lost, and all of them answer")
            dead.update(now)
            self._died += 1
            self._checkpoint = 0  # those that died need not have written theirs
            for flight in self._flights:
                flight.checkpoint = 0
            if self.script is None or self._died > _LIVES or not _recorded(self._specs.values()):
                raise self._lost(dead)
            caught_up = self._caught_up(dead, self.script)
        for host, ticket in caught_up.items():
            told = [flight for flight in self._flights if any(name == host for name, _ in flight.tickets)]
            for flight in told:
                flight.tickets = [(name, old) for name, old in flight.tickets if name != host]
            (told or self._flights)[-1].tickets.append((host, ticket))  # with the last of them
        seconds = round(time.perf_counter() - began, 3)
        self.recoveries += [Recovery(host, *self._last, seconds) for host in sorted(dead)]

    def _caught_up(self, dead: set[str], script: Script) -> dict[str, Any] | None:
        """New processes for the dead, where the run stands; None if somebody died meanwhile."""
        self._take_off()  # to catch up is to carry out what is queued as well, which others take part in
        try:
            self._specs |= {
                spec.name: spec for spec in from_checkpoint([self._specs[host] for host in sorted(dead)])
            }
            self._fleet.restart([self._specs[host] for host in sorted(dead)])
            again = Again(list(self._specs.values()), self._fleet, sorted(dead), script, self._said)
            tickets = again.carried_out()
        except (HostsDied, PeerLost):
            return None
        self.mail |= {host: again.mail[host] for host in dead}
        return tickets

    def _lives(self, address: wire.Address) -> bool:
        return wire.lives(address, self._fleet.token)

    def _lost(self, dead: set[str]) -> HostLost:
        parties = ", ".join(carried(self._specs[name]) for name in sorted(dead))
        which, whose = ("process", "its") if len(dead) == 1 else ("processes", "their")
        said = f"the {which} that carried {parties} died{self._fleet.watch.why()}; {whose}"
        lost = HostLost(
            f"{said} transcript{'s' * (len(dead) > 1)} up to then {'is' if len(dead) == 1 else 'are'} kept"
        )
        lost.lost = tuple((host, *self._last) for host in sorted(dead))
        return lost


def _recorded(specs: Iterable[HostSpec]) -> bool:
    return all(spec.kept.record is Record.FULL for spec in specs)
