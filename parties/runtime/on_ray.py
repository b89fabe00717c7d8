"""The Ray runtime: hosts as actors, on this machine or on a cluster. The only file that imports ray.

A remote call brings a host its instructions for some rounds and returns a report of a few bytes; frames go
from host to host over sockets (`wire.py`). Ray's own retries stay off, because the order of messages is part
of the protocol.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from parties.adversary.adversary import Adversary
from parties.registry import Source, sources
from parties.runtime import wire
from parties.runtime.dispatch import Dispatcher, Progress
from parties.runtime.fleet import HostsDied, named_error
from parties.runtime.host import HostSpec, forget_transcript
from parties.runtime.post import homes
from parties.runtime.wire import Address, PeerLost
from parties.runtime.worker import Instruction, Report, Worker
from protocols.language.errors import DataError, HostLost, KeyholeError, ProtocolError
from protocols.language.session import Group

_CHUNK = 16 << 20
_ANSWER_SECONDS = 5.0
_CLOSING_SECONDS = 10.0
_WATCH_SECONDS = 2.0  # without a report, until the hosts are asked whether they live
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class HostActor:
    """A host in a process of its own."""

    def __init__(self, spec: HostSpec, marker: str, home: dict[str, str], token: bytes) -> None:
        """`home` says which host carries which party; by `token` the hosts of a run know each other."""
        self._away: str | None = None
        if (
            not Path(spec.transcript).parent.joinpath(marker).exists()
        ):  # another node: write here, stream at the end
            self._away = tempfile.mkdtemp(prefix="keyhole-")
            spec = replace(spec, transcript=f"{self._away}/transcript", log=f"{self._away}/log")
            spec = replace(spec, state=spec.state and f"{self._away}/state")
        self._refusal: KeyholeError | None = None
        try:
            if self._away and spec.resumed is not None:
                raise DataError(f"{spec.name}: its node has no transcript of the run to go on with")
            self._listener = wire.listening(_own_address())
            self._worker = Worker(spec, home, token, self._listener)
        except (
            KeyholeError
        ) as error:  # raised by `ready`: an actor that fails at its start is a process that died
            self._refusal = error

    def ready(self) -> tuple[int, Address]:
        """The process number and where it listens, once the parties have their inputs; raises what kept them
        from it.
        """
        if self._refusal is not None:
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
        away = Path(self._away) if self._away else None
        return () if away is None else tuple(str(p.relative_to(away)) for p in away.rglob("*") if p.is_file())

    def read(self, name: str, offset: int) -> bytes:
        """A chunk of a file that was written away from the run folder, empty at its end."""
        with open(Path(str(self._away)) / name, "rb") as file:
            file.seek(offset)
            return file.read(_CHUNK)

    def forget(self) -> None:
        """Remove what was written away from the run folder."""
        if self._away:
            shutil.rmtree(self._away, ignore_errors=True)


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
        self._marker = Path(specs[0].transcript).parent / f".run-{os.getpid()}"
        self._marker.touch()
        self.book: dict[str, Address] = {}
        self._pids: dict[str, int] = {}
        self._actors = {spec.name: self._actor(spec) for spec in specs}
        try:
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
                found: list[Report] = ray.get(list(tickets), timeout=_WATCH_SECONDS)
                return found
            except ray.exceptions.GetTimeoutError:
                if not all(wire.lives(address, self.token) for address in self.book.values()):
                    raise HostsDied from None
            except RayActorError:
                raise HostsDied from None

    def restart(self, hosts: Sequence[str]) -> None:
        for host in hosts:
            ray.kill(self._actors[host])
            forget_transcript(self._specs[host])
            self._actors[host] = self._actor(self._specs[host])
        try:
            for host in hosts:
                self._await(host)
            back = [self._actors[host].rejoin.remote(self.book, hosts) for host in hosts]
            reports: list[Report] = ray.get(back)
        except (HostLost, RayActorError):
            raise HostsDied from None
        for report in reports:
            if report.lost:
                raise PeerLost(report.lost)

    def close(self) -> None:
        away = {name: actor.close.remote(True) for name, actor in self._actors.items()}
        for name, files in away.items():
            try:
                self._fetch(name, ray.get(files))
            except RayActorError:
                raise HostLost(f"{name}: its process died before its transcript was closed") from None
            except ray.exceptions.RayTaskError as error:
                raise _refusal(name, error) from None
        self._stop()

    def abandon(self) -> None:
        for address in self.book.values():
            wire.halt(address, self.token)
        closing = {name: actor.close.remote(False) for name, actor in self._actors.items()}
        for name, files in closing.items():
            with contextlib.suppress(RayError):
                self._fetch(name, ray.get(files, timeout=_CLOSING_SECONDS))
        self._stop()

    def _actor(self, spec: HostSpec) -> Any:
        actor: Any = ray.remote(max_restarts=0, max_task_retries=0, num_cpus=0)(HostActor)
        resources: Any = ray.cluster_resources  # ray leaves it untyped
        where = _place(spec.role.value, resources())
        return actor.options(resources=where).remote(spec, self._marker.name, self._home, self.token)

    def _await(self, name: str) -> None:
        """Wait until a host has started."""
        try:
            self._pids[name], self.book[name] = ray.get(self._actors[name].ready.remote())
        except ray.exceptions.RayTaskError as error:
            raise _refusal(name, error) from None
        except RayError:
            raise HostLost(f"the process of {name} died at its start") from None

    def _stop(self) -> None:
        for actor in self._actors.values():
            ray.kill(actor)
        self._marker.unlink(missing_ok=True)

    def _fetch(self, name: str, files: tuple[str, ...]) -> None:
        """Bring what a host wrote on another node into the run folder."""
        spec, actor = self._specs[name], self._actors[name]
        places = {"transcript": spec.transcript, "log": spec.log}
        for file in files:
            path = Path(places.get(file, f"{spec.state}/{Path(file).name}"))
            path.parent.mkdir(mode=0o700, exist_ok=True)
            append = os.O_APPEND if file == "log" else os.O_TRUNC
            with open(
                os.open(path, os.O_CREAT | os.O_WRONLY | append, 0o600), "ab" if file == "log" else "wb"
            ) as to:
                offset = 0
                while chunk := ray.get(actor.read.remote(file, offset)):
                    to.write(chunk)
                    offset += len(chunk)
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
        node = ray.get_runtime_context().get_node_id()  # the run folder is on the driver's node
        strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        actor: Any = ray.remote(AdversaryActor)
        options = actor.options(max_restarts=0, num_cpus=0, scheduling_strategy=strategy)
        self._actor: Any = options.remote(sources())

    def call(self, verb: str, *args: Any) -> Any:
        """Run a verb of the adversary in its process and return the result; its refusals are raised here."""
        try:
            result, failure, cause = ray.get(self._actor.call.remote(verb, *args))
        except RayActorError:
            raise HostLost("the adversary's process died") from None
        if failure:
            raise named_error(cause)(failure)
        return result

    def close(self) -> None:
        """End the process."""
        ray.kill(self._actor)


@contextlib.contextmanager
def cluster(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """Connect to a Ray cluster, or start one here that ends with the block; reuses a session that is up."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # a lost host is reported once, by us
    # Arrays of this size come from the heap, and go back to it: fresh pages from the system for each cost
    # more than its arithmetic.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(64 << 20))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(256 << 20))
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "configure_logging": True}
    if address is None:
        options |= {"num_cpus": cpus or os.cpu_count(), "include_dashboard": False}
    _check_answers(address)
    try:
        with _own_signals():
            ray.init(address=address or "local", **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ProtocolError(f"no Ray cluster at {address!r}: {str(error).splitlines()[0]}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str | None) -> None:
    """`ProtocolError` for an address HOST:PORT that nothing answers at: Ray itself tries for minutes."""
    host, colon, port = (address or "").rpartition(":")
    if not colon or "/" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ProtocolError(f"no Ray cluster at {address!r}: {error}") from None


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """What this process does on a signal stays: Ray takes SIGTERM for itself, and ends with a dump of C++."""
    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)} if here else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def as_completed(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], processes: int
) -> Iterator[tuple[int, Any]]:
    """(position, function(*task)) as they are done, by processes of one processor each; inside `cluster`.

    `function` belongs to a module; its refusals are raised here. At most `processes` tasks are under way, and
    none is tried twice.
    """
    single = {"num_cpus": 1, "max_retries": 0, "runtime_env": {"env_vars": _ONE_THREAD}}
    remote: Any = ray.remote(_attempted).options(**single)
    waiting, under_way = deque(enumerate(tasks)), dict[Any, int]()
    try:
        while waiting or under_way:
            while waiting and len(under_way) < processes:
                position, task = waiting.popleft()
                under_way[remote.remote(function, task)] = position
            (ref,), _ = ray.wait(list(under_way), num_returns=1)
            yield under_way.pop(ref), _outcome(ref)
    finally:
        for ref in under_way:
            ray.cancel(ref, force=True)


def _attempted(function: Callable[..., Any], task: tuple[Any, ...]) -> tuple[Any, str, str]:
    """(result, failure, type of the failure)."""
    try:
        return function(*task), "", ""
    except KeyholeError as error:
        return None, str(error), type(error).__name__


def _outcome(ref: Any) -> Any:
    try:
        result, failure, cause = ray.get(ref)
    except ray.exceptions.WorkerCrashedError:
        raise HostLost("a process that carried a task died") from None
    except ray.exceptions.OutOfMemoryError:
        raise HostLost(
            "a process that carried a task was ended because memory ran out; use fewer processes"
        ) from None
    if failure:
        raise named_error(cause)(failure)
    return result


def version() -> str:
    """The version of ray."""
    return str(ray.__version__)


def _place(role: str, offered: dict[str, float]) -> dict[str, float]:
    """Ask for a node that offers the custom resource named after the role, where the cluster has one."""
    return {role: 0.001} if role in offered else {}


def _own_address() -> str:
    """The address of this node, at which other nodes reach it."""
    own: Any = ray.util.get_node_ip_address
    return str(own())


def _refusal(host: str, error: Any) -> KeyholeError:
    cause = error.cause
    return cause if isinstance(cause, KeyholeError) else ProtocolError(f"{host}: {type(cause).__name__}")
