"""The local runtime: hosts, and the adversary, as processes forked from this one. Nothing has to be started
or imported again, so that a short run is over sooner than through Ray; what is computed and recorded is the
same.

Instructions go to a child over a pipe that it inherits; what comes back of a host are the canonical bytes of
a message. A child ends when its pipe does, or, in the middle of its work, soon after the process that forked
it is gone, so that none outlives a driver that was killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from parties.adversary.adversary import Adversary
from parties.record.writer import fold_away
from parties.runtime import wire
from parties.runtime.dispatch import Dispatcher, Progress
from parties.runtime.fleet import HostsDied, named_error
from parties.runtime.host import HostSpec, forget_transcript
from parties.runtime.post import homes
from parties.runtime.watch import LOOK_SECONDS, Watch
from parties.runtime.wire import PeerLost
from parties.runtime.worker import Instruction, Report, Worker
from protocols.language.errors import (
    OUT_OF_MEMORY,
    HostLost,
    KeyholeError,
    ProtocolError,
    Stalled,
    ran_out_of_memory,
)
from protocols.language.message import Header, decode, encode
from protocols.language.session import Group

_FORK = multiprocessing.get_context("fork")
_LOOPBACK = "127.0.0.1"
_CLOSING_SECONDS = 10.0
_WATCH_SECONDS = 0.25
_COMMITTED_SECONDS = 1.0  # after which a transcript holds what was said before
_MINE: set[Connection] = set()  # the driver's ends of all pipes: no child keeps another's pipe open


class Child:
    """A forked process, and this end of the pipe to it."""

    def __init__(self, name: str, work: Callable[[Connection], None]) -> None:
        """`work(pipe)` is what it does, until the pipe ends."""
        self.pipe, theirs = _FORK.Pipe()
        _MINE.add(self.pipe)
        self._process = _FORK.Process(target=_born, args=(work, theirs, os.getpid()), name=name, daemon=True)
        self._process.start()
        theirs.close()
        self.ended = False
        self.pid = self._process.pid or 0

    @property
    def sentinel(self) -> int:
        """What `wait` sees when the process is gone."""
        return self._process.sentinel

    def end(self) -> None:
        """Stop it, whatever it does, and wait until it is gone."""
        _MINE.discard(self.pipe)
        self.pipe.close()
        self._process.kill()
        self._process.join()


def _born(work: Callable[[Connection], None], pipe: Connection, parent: int) -> None:
    for inherited in _MINE:
        inherited.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the driver sees to it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # In a thread of its own: OpenMP keeps its workers by thread, and those of the one that forked are gone.
    working = threading.Thread(target=_until_closed, args=(work, pipe))
    working.start()
    while working.is_alive() and os.getppid() == parent:
        working.join(_WATCH_SECONDS)
    working.join(_COMMITTED_SECONDS)  # it may wait for another host, which is gone as well
    os._exit(0)  # no finalizers, and no exit handlers, of what the parent had open


def _until_closed(work: Callable[[Connection], None], pipe: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        work(pipe)


class LocalFleet:
    """The processes of a run's hosts, forked."""

    def __init__(self, specs: Sequence[HostSpec]) -> None:
        """Fork a host for each specification and wait until the owners have read their data."""
        self._specs = {spec.name: spec for spec in specs}
        self.token, self._home = wire.new_token(), homes(specs)
        self.watch = Watch(specs, self.token)
        listeners = {spec.name: wire.listening(_LOOPBACK) for spec in specs}
        self.book = {name: _address(listener) for name, listener in listeners.items()}
        self._children: dict[str, Child] = {}
        self._asked = dict.fromkeys(self.book, 0)  # calls that a host was given, and those that it answered
        self._answered = dict.fromkeys(self.book, 0)
        self._answers: dict[tuple[str, int], Report] = {}
        try:
            for spec in specs:
                self._fork(spec, listeners)
            for listener in listeners.values():
                listener.close()
            for name in self._children:
                self._ready(name)
        except BaseException:
            self._stop()
            raise

    @property
    def pids(self) -> dict[str, int]:
        """The process numbers of the hosts."""
        return {name: child.pid for name, child in self._children.items()}

    def call(self, host: str, groups: Sequence[Group], batch: Sequence[Instruction]) -> tuple[str, int]:
        return self._call(host, "execute", groups, batch)

    def arrived(self, tickets: Sequence[tuple[str, int]]) -> bool:
        self._collect(timeout=0)
        return all(ticket in self._answers for ticket in tickets)

    def reports(self, tickets: Sequence[tuple[str, int]]) -> Sequence[Report]:
        while not all(ticket in self._answers for ticket in tickets):
            if any(child.ended for child in self._children.values()):
                raise HostsDied
            if self._collect(timeout=LOOK_SECONDS):
                self.watch.moved()
            else:
                self.watch.look(self.book, self.pids)
        return [self._answers.pop(ticket) for ticket in tickets]

    def restart(self, specs: Sequence[HostSpec]) -> None:
        hosts = [spec.name for spec in specs]
        self._specs |= {spec.name: spec for spec in specs}
        for host in hosts:
            self._children[host].end()
            forget_transcript(self._specs[host])
            self._answered[host] = self._asked[host]
            listener = wire.listening(_LOOPBACK)
            self.book[host] = _address(listener)
            self._fork(self._specs[host], {host: listener})
            listener.close()
        for host in hosts:
            if self._receive(host) is None:
                raise HostsDied
        for report in self.reports([self._call(host, "rejoin", self.book, hosts) for host in hosts]):
            if report.lost:
                raise PeerLost(report.lost)

    def close(self) -> None:
        tickets = [self._call(name, "close", True) for name in self._children]
        try:
            for report in self.reports(tickets):
                _raise(report)
        except HostsDied:
            raise HostLost("a process of the run died before its transcript was closed") from None
        self._stop()

    def abandon(self) -> None:
        for name, address in self.book.items():
            if name in self.watch.hung:
                continue
            wire.halt(address, self.token)
            with contextlib.suppress(Stalled):
                self._call(name, "close", False)
        until = time.monotonic() + _CLOSING_SECONDS
        while set(self._waited_for()) - self.watch.hung and time.monotonic() < until:
            self._collect(timeout=LOOK_SECONDS)
        self._stop()
        for spec in self._specs.values():
            fold_away(spec.transcript)

    def _fork(self, spec: HostSpec, listeners: dict[str, socket.socket]) -> None:
        work = _HostWork(spec, self._home, self.token, listeners, dict(self.book))
        self._children[spec.name] = Child(spec.name, work)

    def _ready(self, name: str) -> None:
        if not self._children[name].pipe.poll(self.watch.deadline):
            raise Stalled(f"the process of {name} has not started within {self.watch.deadline:g} s")
        report = self._receive(name)
        if report is None:
            raise HostLost(f"the process of {name} died at its start")
        _raise(report)

    def _stop(self) -> None:
        for child in self._children.values():
            child.end()

    def _call(self, host: str, *said: Any) -> tuple[str, int]:
        self._asked[host] += 1
        pipe, room = self._children[host].pipe, select.poll()
        with contextlib.suppress(OSError):  # a dead one is noticed where its report is missing
            room.register(pipe, select.POLLOUT)
            while not room.poll(LOOK_SECONDS * 1000):  # it has not read what it was told before
                self.watch.look(self.book, self.pids)
            pipe.send(said)
        return host, self._asked[host]

    def _waited_for(self) -> list[str]:
        """The hosts that owe a report and live."""
        return [
            name
            for name, child in self._children.items()
            if not child.ended and self._answered[name] < self._asked[name]
        ]

    def _collect(self, timeout: float) -> bool:
        """Take the reports that have come, or wait for the first, or until a process ends; False for none."""
        waited = {self._children[name].pipe: name for name in self._waited_for()}
        sentinels = {child.sentinel: child for child in self._children.values() if not child.ended}
        found = wait([*waited, *sentinels], timeout)
        for ready in found:
            if isinstance(ready, Connection):
                name = waited[ready]
                report = self._receive(name)
                if report is not None:
                    self._answered[name] += 1
                    self._answers[name, self._answered[name]] = report
            elif isinstance(ready, int):
                sentinels[ready].ended = True
        return bool(found)

    def _receive(self, name: str) -> Report | None:
        """The next report of a host; None if its process ended."""
        child = self._children[name]
        try:
            failure, cause, lost, revealed, bad, unkept = decode(child.pipe.recv_bytes())
        except (EOFError, OSError):
            child.ended = True
            return None
        return Report(failure, cause, lost, revealed, None if bad is None else Header(**bad), unkept)


def _address(listener: socket.socket) -> wire.Address:
    host, port = listener.getsockname()[:2]
    return host, port


class _HostWork:
    """What a forked host does until its pipe ends."""

    def __init__(
        self,
        spec: HostSpec,
        home: dict[str, str],
        token: bytes,
        listeners: dict[str, socket.socket],
        book: dict[str, wire.Address],
    ) -> None:
        self._spec, self._home, self._token = spec, home, token
        self._listeners, self._book = listeners, book

    def __call__(self, pipe: Connection) -> None:
        for name, listener in self._listeners.items():
            if name != self._spec.name:
                listener.close()
        try:
            worker = Worker(self._spec, self._home, self._token, self._listeners[self._spec.name])
        except (KeyholeError, OSError) as error:
            _answer(pipe, Report(f"{error}", type(error).__name__))
            return
        worker.meet(self._book)
        _answer(pipe, Report())
        while True:
            verb, *given = pipe.recv()
            _answer(pipe, _closed(worker, *given) if verb == "close" else getattr(worker, verb)(*given))


def _closed(worker: Worker, keep: bool) -> Report:
    try:
        worker.close(keep)
    except KeyholeError as error:
        return Report(str(error), type(error).__name__)
    return Report()


def _answer(pipe: Connection, report: Report) -> None:
    bad = None if report.bad is None else vars(report.bad)
    said = [report.failure, report.cause, report.lost, report.revealed, bad, report.unkept]
    pipe.send_bytes(encode(said).data)


def _raise(report: Report) -> None:
    if report.failure:
        raise named_error(report.cause)(report.failure)


class LocalRuntime(Dispatcher):
    """Carries out a session's instructions on hosts that are forked from this process."""

    def __init__(self, specs: Sequence[HostSpec], progress: Progress | None = None) -> None:
        """Fork a host for each specification and wait until the owners have read their data."""
        super().__init__(specs, LocalFleet(specs), progress)


class LocalAdversary:
    """The adversary as a forked process; the same verbs as `Adversary`."""

    def __init__(self) -> None:
        self._child = Child("adversary", _serve_adversary)

    def call(self, verb: str, *args: Any) -> Any:
        """Run a verb of the adversary in its process and return the result; its refusals are raised here."""
        try:
            self._child.pipe.send((verb, args))
            result, failure, cause = self._child.pipe.recv()
        except (EOFError, OSError):
            raise HostLost("the adversary's process died") from None
        if failure:
            raise named_error(cause)(failure)
        return result

    def close(self) -> None:
        """End the process."""
        self._child.end()


def _serve_adversary(pipe: Connection) -> None:
    """What the forked adversary does: it is handed the corrupted parties' views and nothing else."""
    adversary = Adversary()
    while True:
        verb, args = pipe.recv()
        try:
            pipe.send((getattr(adversary, verb)(*args), "", ""))
        except KeyholeError as error:
            pipe.send((None, str(error), type(error).__name__))
        except Exception as error:  # a defect of ours: the text may hold values
            why = OUT_OF_MEMORY if ran_out_of_memory(error) else type(error).__name__
            pipe.send((None, f"the adversary failed: {why}", ProtocolError.__name__))
