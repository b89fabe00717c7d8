"""The Ray runtime: hosts and the adversary as actors, on this machine or on a cluster.

A remote call brings a host its instructions for some rounds and returns a report of a few bytes; frames go
from host to host over sockets (`wire.py`). Ray's own retries stay off, because the order of messages is part
of the protocol.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from parties.adversary.adversary import Adversary
from parties.record.writer import fold_away
from parties.registry import Source, sources
from parties.runtime import wire
from parties.runtime.away import Away, fetch, kept
from parties.runtime.dispatch import Dispatcher, Progress
from parties.runtime.fleet import HostsDied, named_error
from parties.runtime.host import HostSpec, forget_transcript
from parties.runtime.placement import Place, places
from parties.runtime.post import homes
from parties.runtime.ray_session import ACTOR_LOST, Cluster, nodes, on_node, own_address, own_node
from parties.runtime.watch import LOOK_SECONDS, Watch
from parties.runtime.wire import Address, PeerLost
from parties.runtime.worker import Instruction, Report, Worker
from protocols.language.errors import OUT_OF_MEMORY, DataError, HostLost, KeyholeError, ProtocolError, Stalled
from protocols.language.session import Group

_CLOSING_SECONDS = 10.0
_ENDED_FOR_MEMORY = f"{OUT_OF_MEMORY} on a node, where Ray ends processes then"
_STARTS = 3  # of a host in the place of one that died, each where a node answers then


class HostActor:
    """A host in a process of its own."""

    def __init__(
        self,
        spec: HostSpec,
        run: tuple[str, str],
        restored: dict[str, bytes],
        home: dict[str, str],
        token: bytes,
    ) -> None:
        """`run`: its name, and the driver's node; `restored`: what parties kept of another run, for a host
        elsewhere; `home` says which host carries which party; by `token` the hosts of a run know each other.
        """
        name, node = run
        self._away = Away(spec, name, restored) if own_node() != node else None
        self._refusal: KeyholeError | None = None
        try:
            if self._away and (spec.resumed is not None or spec.start):
                raise DataError(f"{spec.name}: its node has no transcript of the run to go on with")
            self._listener = wire.listening(own_address())
            told = spec if self._away is None else self._away.spec
            self._worker = Worker(told, home, token, self._listener)
        except (
            KeyholeError
        ) as error:  # raised by `ready`: an actor that fails at its start is a process that died
            self._refusal = error if self._away is None else _seen_from(own_address(), spec, error)

    def ready(self) -> tuple[int, Address]:
        """The process number and where it listens, once the parties have their inputs; raises what kept them
        from it.
        """
        if self._refusal is not None:
            self.forget()
            raise self._refusal
        host, port = self._listener.getsockname()[:2]
        return os.getpid(), (host, port)

    def meet(self, book: dict[str, Address]) -> None:
        """Learn where the other hosts listen."""
        self._worker.meet(book)

    def rejoin(self, book: dict[str, Address], back: Sequence[str]) -> Report:
        """Come back in the place of a host that died."""
        return self._worker.rejoin(book, back)

    def execute(self, groups: Sequence[Group], batch: Sequence[Instruction]) -> Report:
        """Carry out a batch of instructions."""
        return self._worker.execute(groups, batch)

    def close(self, keep: bool) -> tuple[str, ...]:
        """Finish the transcript, and with `keep` what parties keep; returns files to fetch from another
        node.
        """
        self._worker.close(keep)
        return () if self._away is None else self._away.files()

    def read(self, name: str, offset: int) -> bytes:
        """A piece of a file that was written away from the run folder, empty at its end."""
        return b"" if self._away is None else self._away.read(name, offset)

    def forget(self) -> None:
        """Remove what was written away from the run folder."""
        if self._away is not None:
            self._away.remove()


class AdversaryActor:
    """The adversary in a process of its own: it is handed the corrupted parties' views and nothing else."""

    def __init__(self, files: tuple[Source, ...]) -> None:
        """`files` were imported as they arrived: the views may be of their protocols."""
        self._adversary = Adversary()

    def call(self, verb: str, *args: Any) -> tuple[Any, str, str]:
        """(result, failure, type of the failure) of one of the adversary's verbs."""
        try:
            return getattr(self._adversary, verb)(*args), "", ""
        except KeyholeError as error:
            return None, str(error), type(error).__name__


class RayFleet:
    """The processes of a run's hosts, as actors."""

    def __init__(self, specs: Sequence[HostSpec]) -> None:
        """Start a host for each specification and wait until the owners have read their data."""
        self._specs = {spec.name: spec for spec in specs}
        self.token, self._home = wire.new_token(), homes(specs)
        self.watch, self._cluster, self._here = Watch(specs, self.token), Cluster(), own_address()
        self._run, self._lives = os.urandom(8).hex(), dict.fromkeys(self._specs, 0)
        self.book: dict[str, Address] = {}
        self._pids: dict[str, int] = {}
        self._actors: dict[str, Any] = {}
        try:
            for name, place in places(specs, nodes()).items():
                self._actors[name] = self._actor(self._specs[name], place)
            for name in self._actors:
                self._await(name)
            for handle in self._actors.values():
                handle.meet.remote(self.book)
        except BaseException:
            self._stop()
            raise

    @property
    def pids(self) -> dict[str, int]:
        """The process numbers of the hosts."""
        return self._pids

    def call(self, host: str, groups: Sequence[Group], batch: Sequence[Instruction]) -> Any:
        return self._actors[host].execute.remote(groups, batch)

    def arrived(self, tickets: Sequence[Any]) -> bool:
        return not tickets or len(ray.wait(list(tickets), num_returns=len(tickets), timeout=0)[0]) == len(
            tickets
        )

    def reports(self, tickets: Sequence[Any]) -> Sequence[Report]:
        while True:
            try:
                self._cluster.check()
                found: list[Report] = ray.get(list(tickets), timeout=LOOK_SECONDS)
                self.watch.moved()
                return found
            except ray.exceptions.GetTimeoutError:
                if self.watch.look(self.book, self._pids_here()):
                    raise HostsDied from None
            except ACTOR_LOST as error:
                self._cluster.check(at_once=True)  # hosts end with the raylet of their node
                if _for_memory(error):
                    self.watch.cause = _ENDED_FOR_MEMORY
                raise HostsDied from None

    def restart(self, specs: Sequence[HostSpec]) -> None:
        hosts = [spec.name for spec in specs]
        self._specs |= {spec.name: spec for spec in specs}
        for left in reversed(range(_STARTS)):
            elsewhere = places(list(self._specs.values()), nodes())
            for host in hosts:
                ray.kill(self._actors[host])
                forget_transcript(self._specs[host])
                self._actors[host] = self._actor(self._specs[host], elsewhere[host])
            try:
                for host in hosts:
                    self._await(host)
                break
            except HostLost:  # on a node that is about to be found gone
                if not left:
                    raise HostsDied from None
        try:
            back = [self._actors[host].rejoin.remote(self.book, hosts) for host in hosts]
            reports: list[Report] = ray.get(back)
        except ACTOR_LOST:
            raise HostsDied from None
        for report in reports:
            if report.lost:
                raise PeerLost(report.lost)

    def close(self) -> None:
        away = {name: actor.close.remote(True) for name, actor in self._actors.items()}
        for name, files in away.items():
            try:
                self._fetch(name, self._cluster.got(files, self.watch.deadline))
            except ray.exceptions.GetTimeoutError:
                raise Stalled(
                    f"{name}: its transcript is not closed after {self.watch.deadline:g} s"
                ) from None
            except ACTOR_LOST:
                raise HostLost(f"{name}: its process died before its transcript was closed") from None
            except ray.exceptions.RayTaskError as error:
                raise _refusal(name, error) from None
        self._stop()

    def abandon(self) -> None:
        reached = {name: actor for name, actor in self._actors.items() if name not in self.watch.hung}
        for name in reached.keys() & self.book.keys():
            wire.halt(self.book[name], self.token)
        closing = {name: actor.close.remote(False) for name, actor in reached.items()}
        until = time.monotonic() + _CLOSING_SECONDS
        for name, files in closing.items():
            with contextlib.suppress(RayError):
                self._fetch(name, ray.get(files, timeout=max(0.0, until - time.monotonic())))
        self._stop()
        for pid in self._pids_here().values():  # Ray asks them to end; one that was stopped does not hear it
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for spec in self._specs.values():
            fold_away(spec.transcript)

    def _pids_here(self) -> dict[str, int]:
        """The process numbers of those on this machine."""
        return {name: self._pids[name] for name, (host, _) in self.book.items() if host == self._here}

    def _actor(self, spec: HostSpec, place: Place) -> Any:
        """A host's process; Ray's dashboard shows it under the name of the party."""
        actor: Any = ray.remote(max_restarts=0, max_task_retries=0, num_cpus=0)(HostActor)
        again = f", start {self._lives[spec.name] + 1}" if self._lives[spec.name] else ""
        self._lives[spec.name] += 1
        elsewhere = place.node != own_node()
        return actor.options(
            name=f"{_title(spec)} of {_name_of_run(spec)}-{self._run[:6]}{again}",
            resources=dict(place.resources),
            scheduling_strategy=on_node(place.node, soft=True),
        ).remote(spec, (self._run, own_node()), kept(spec) if elsewhere else {}, self._home, self.token)

    def _await(self, name: str) -> None:
        """Wait until a host has started."""
        try:
            ready = self._actors[name].ready.remote()
            self._pids[name], self.book[name] = self._cluster.got(ready, self.watch.deadline)
        except ray.exceptions.GetTimeoutError:
            raise Stalled(f"the process of {name} has not started within {self.watch.deadline:g} s") from None
        except ray.exceptions.RayTaskError as error:
            raise _refusal(name, error) from None
        except RayError as error:
            why = f" ({_ENDED_FOR_MEMORY})" if _for_memory(error) else _missing(error)
            raise HostLost(f"the process of {name} died at its start{why}") from None

    def _stop(self) -> None:
        for actor in () if self._cluster.lost else self._actors.values():
            ray.kill(actor)

    def _fetch(self, name: str, files: tuple[str, ...]) -> None:
        """Bring what a host wrote on another node into the run folder."""
        actor = self._actors[name]
        fetch(self._specs[name], files, lambda file, offset: ray.get(actor.read.remote(file, offset)))
        if files:
            ray.get(actor.forget.remote())


class RayRuntime(Dispatcher):
    """Carries out a session's instructions on hosts that are Ray actors."""

    def __init__(self, specs: Sequence[HostSpec], progress: Progress | None = None) -> None:
        """Start a host for each specification and wait until the owners have read their data."""
        super().__init__(specs, RayFleet(specs), progress)


class RayAdversary:
    """The adversary as an actor; the same verbs as `Adversary`."""

    def __init__(self) -> None:
        here = on_node(own_node(), soft=False)  # the run folder is on the driver's node
        actor: Any = ray.remote(AdversaryActor)
        name = f"adversary-{os.urandom(3).hex()}"
        options = actor.options(name=name, max_restarts=0, num_cpus=0, scheduling_strategy=here)
        self._actor: Any = options.remote(sources())
        self._cluster = Cluster()

    def call(self, verb: str, *args: Any) -> Any:
        """Run a verb of the adversary in its process and return the result; its refusals are raised here."""
        try:
            result, failure, cause = self._cluster.got(self._actor.call.remote(verb, *args))
        except ACTOR_LOST as error:
            why = f" ({_ENDED_FOR_MEMORY})" if _for_memory(error) else ""
            raise HostLost(f"the adversary's process died{why}") from None
        if failure:
            raise named_error(cause)(failure)
        return result

    def close(self) -> None:
        """End the process."""
        if not self._cluster.lost:
            ray.kill(self._actor)


def _title(spec: HostSpec) -> str:
    """A host as the dashboard shows it."""
    return spec.parties[0] if len(spec.parties) == 1 else f"{spec.name} ({len(spec.parties)} parties)"


def _name_of_run(spec: HostSpec) -> str:
    return Path(spec.transcript).parents[1].name


def _refusal(host: str, error: Any) -> KeyholeError:
    cause = error.cause
    return cause if isinstance(cause, KeyholeError) else ProtocolError(f"{host}: {type(cause).__name__}")


def _seen_from(address: str, spec: HostSpec, error: KeyholeError) -> KeyholeError:
    """A refusal on another node than the driver's, which need not have the driver's files."""
    where = f"{error} (on the node {address}, where {spec.name} runs and reads its data)"
    return DataError(where) if isinstance(error, DataError) else error


def _for_memory(error: RayError) -> bool:
    """Whether Ray ended a process because memory ran out on its node."""
    return isinstance(error, ray.exceptions.OutOfMemoryError) or "low on memory" in str(error)


def _missing(error: RayError) -> str:
    """What a node lacks whose process could not read what it was sent; empty where that is not why."""
    found = re.search(r"ModuleNotFoundError: (No module named '[\w.]+')", str(error))
    if found is None:
        return ""
    return f": {found[1]} on its node; install keyhole there, or use ray job submit --working-dir"
