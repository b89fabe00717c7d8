"""The local runtime: hosts, and the adversary, as processes forked from this one. Nothing has to be started
or imported again, so that a short run is over sooner than through Ray; what is computed and recorded is the
same.

Instructions go to a child over a pipe that it inherits; what comes back of a host are the canonical bytes of
a message. A child ends when its pipe does, so that none outlives a driver that was killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from parties.adversary.adversary import Adversary
from parties.runtime import wire
from parties.runtime.dispatch import Dispatcher, Progress, homes, named_error
from parties.runtime.host import HostSpec
from parties.runtime.worker import Instruction, Report, Worker
from protocols.language.errors import HostLost, KeyholeError, ProtocolError
from protocols.language.message import decode, encode
from protocols.language.session import Group

_FORK = multiprocessing.get_context("fork")
_LOOPBACK = "127.0.0.1"
_CLOSING_SECONDS = 10.0
_GRACE_SECONDS = 2.0
_MINE: set[Connection] = set()  # the driver's ends of all pipes: no child keeps another's pipe open


class Child:
    """A forked process, and this end of the pipe to it."""

    def __init__(self, name: str, work: Callable[[Connection], None]) -> None:
        """`work(pipe)` is what it does, until the pipe ends."""
        self.pipe, theirs = _FORK.Pipe()
        _MINE.add(self.pipe)
        self._process = _FORK.Process(target=_born, args=(work, theirs), name=name, daemon=True)
        self._process.start()
        theirs.close()
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


def _born(work: Callable[[Connection], None], pipe: Connection) -> None:
    for inherited in _MINE:
        inherited.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the driver sees to it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # In a thread of its own: OpenMP keeps its workers by thread, and those of the one that forked are gone.
    working = threading.Thread(target=_until_closed, args=(work, pipe))
    working.start()
    working.join()
    os._exit(0)  # no finalizers, and no exit handlers, of what the parent had open


def _until_closed(work: Callable[[Connection], None], pipe: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        work(pipe)


class LocalFleet:
    """The processes of a run's hosts, forked."""

    def __init__(self, specs: Sequence[HostSpec]) -> None:
        """Fork a host for each specification and wait until the owners have read their data."""
        self._token, home = wire.new_token(), homes(specs)
        listeners = {spec.name: wire.listening(_LOOPBACK) for spec in specs}
        self._book: dict[str, wire.Address] = {
            name: listener.getsockname()[:2] for name, listener in listeners.items()
        }
        self._children: dict[str, Child] = {}
        self._asked = dict.fromkeys(self._book, 0)  # batches that a host was given
        self._answers: dict[tuple[str, int], Report | None] = {}
        self._answered = dict.fromkeys(self._book, 0)
        try:
            for spec in specs:
                work = _HostWork(spec, home, self._token, listeners, self._book)
                self._children[spec.name] = Child(spec.name, work)
            for listener in listeners.values():
                listener.close()
            for name in self._children:
                _raise(self._receive(name) or _died(name))
        except BaseException:
            self._stop()
            raise
        self.pids = {name: child.pid for name, child in self._children.items()}

    def call(self, host: str, groups: Sequence[Group], batch: Sequence[Instruction]) -> tuple[str, int]:
        self._asked[host] += 1
        with contextlib.suppress(OSError):  # a dead one is noticed where its report is missing
            self._children[host].pipe.send(("execute", groups, batch))
        return host, self._asked[host]

    def arrived(self, tickets: Sequence[tuple[str, int]]) -> bool:
        self._collect(timeout=0)
        return all(ticket in self._answers for ticket in tickets)

    def reports(self, tickets: Sequence[tuple[str, int]]) -> Sequence[Report | None]:
        while not all(ticket in self._answers for ticket in tickets):
            self._collect(timeout=None)
            if None in self._answers.values():  # somebody died: others may wait for it
                break
        return [self._answers.pop(ticket, Report()) for ticket in tickets]

    def dead(self) -> list[str]:
        # The system closes the sockets of a process some time before it is gone.
        sentinels = {child.sentinel: name for name, child in self._children.items()}
        return [sentinels[gone] for gone in wait(list(sentinels), _GRACE_SECONDS)]  # type: ignore[index]

    def close(self) -> None:
        for child in self._children.values():
            with contextlib.suppress(OSError):
                child.pipe.send(("close", True))
        for name in self._children:
            _raise(self._receive(name) or _died(name))
        self._stop()

    def abandon(self) -> None:
        for name, child in self._children.items():
            wire.halt(self._book[name], self._token)
            with contextlib.suppress(OSError):
                child.pipe.send(("close", False))
        for name, child in self._children.items():
            while self._answered[name] <= self._asked[name] and child.pipe.poll(_CLOSING_SECONDS):
                if self._receive(name) is None:
                    break
                self._answered[name] += 1
        self._stop()

    def _stop(self) -> None:
        for child in self._children.values():
            child.end()

    def _collect(self, timeout: float | None) -> None:
        """Take the reports that have come, or wait for the first."""
        pipes = {child.pipe: name for name, child in self._children.items() if self._waits_for(name)}
        for pipe in wait(list(pipes), timeout):
            name = pipes[pipe]  # type: ignore[index]
            report = self._receive(name)
            self._answered[name] += 1
            self._answers[name, self._answered[name]] = report

    def _waits_for(self, name: str) -> bool:
        dead = self._answers.get((name, self._answered[name]), Report()) is None
        return self._answered[name] < self._asked[name] and not dead

    def _receive(self, name: str) -> Report | None:
        """The next report of a host; None if its process ended."""
        try:
            failure, cause, lost, revealed = decode(self._children[name].pipe.recv_bytes())
        except (EOFError, OSError):
            return None
        return Report(failure, cause, lost, revealed)


class _HostWork:
    """What a forked host does until its pipe ends."""

    def __init__(
        self,
        spec: HostSpec,
        home: dict[str, str],
        token: bytes,
        listeners: dict[str, Any],
        book: dict[str, Any],
    ) -> None:
        self._spec, self._home, self._token = spec, home, token
        self._listeners, self._book = listeners, book

    def __call__(self, pipe: Connection) -> None:
        for name, listener in self._listeners.items():
            if name != self._spec.name:
                listener.close()
        try:
            worker = Worker(self._spec, self._home, self._token, self._listeners[self._spec.name])
        except KeyholeError as error:
            _answer(pipe, Report(str(error), type(error).__name__))
            return
        worker.meet(self._book)
        _answer(pipe, Report())
        while True:
            verb, *given = pipe.recv()
            if verb == "execute":
                _answer(pipe, worker.execute(*given))
                continue
            _answer(pipe, _closed(worker, *given))


def _closed(worker: Worker, keep: bool) -> Report:
    try:
        worker.close(keep)
    except KeyholeError as error:
        return Report(str(error), type(error).__name__)
    return Report()


def _answer(pipe: Connection, report: Report) -> None:
    pipe.send_bytes(encode([report.failure, report.cause, report.lost, report.revealed]).data)


def _raise(report: Report) -> None:
    if report.failure:
        raise named_error(report.cause)(report.failure)


def _died(name: str) -> Report:
    return Report(f"the process of {name} died", HostLost.__name__)


class LocalRuntime(Dispatcher):
    """Carries out a session's instructions on hosts that are forked from this process."""

    def __init__(self, specs: Sequence[HostSpec], progress: Progress | None = None) -> None:
        """Fork a host for each specification and wait until the owners have read their data."""
        fleet = LocalFleet(specs)
        self.pids = fleet.pids
        super().__init__(specs, fleet, progress)


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
            pipe.send((None, f"the adversary failed: {type(error).__name__}", ProtocolError.__name__))
