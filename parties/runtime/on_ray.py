"""The Ray runtime: hosts as actors, on this machine or on a cluster. The only file that imports ray.

The driver passes object references from emit to receive and never reads a value, except one that is revealed.
Instructions for a host queue up and go out as one remote call that ends with the host's next emit, so that a
step of plain FE costs four remote calls and one of MITIG2 two, whatever they compute. At most `WINDOW` rounds
are in flight: before the next one the driver waits for the oldest one's token, a few bytes that also bring
errors; the first round of each phase it waits for at once. Ray's own retries stay off, because the order of
messages is part of the protocol.
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from parties.adversary.adversary import Adversary
from parties.record.transcript import Frame
from parties.registry import Source, sources
from parties.runtime.host import Host, HostSpec
from protocols.language.errors import HostLost, KeyholeError, ProtocolError, StepError
from protocols.language.message import decode
from protocols.language.session import DoStep, Group, Publish, Reveal, Transfer

WINDOW = 32
_CHUNK = 16 << 20
_SMALL_GROUP = 4
_ANSWER_SECONDS = 5.0
_INLINE = 1 << 20  # bytes of a value that travels with its call
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Progress = Callable[[str, int], None]
Frames = list[tuple[int, Frame]]


@dataclass(frozen=True)
class Emit:
    """Send a transfer; each of the hosts `to` gets the frames of its receivers, a single one all."""

    transfer: Transfer
    to: tuple[str, ...]


@dataclass(frozen=True)
class Receive:
    """Receive a transfer whose frames are in the given slots of the remote call."""

    transfer: Transfer
    slots: tuple[int, ...]


@dataclass(frozen=True)
class Free:
    """Forget a value."""

    group: Group
    handle: int


@dataclass(frozen=True)
class Token:
    """What a remote call says of itself; small enough to travel with the reply."""

    host: str
    failure: str = ""
    cause: str = ""


class HostActor:
    """A host in a process of its own. After a failure it answers every further call with nothing."""

    def __init__(self, spec: HostSpec, marker: str, home: dict[str, str]) -> None:
        """`home` says which host carries which party."""
        self._home = home
        self._away: str | None = None
        if (
            not Path(spec.transcript).parent.joinpath(marker).exists()
        ):  # another node: write here, stream at the end
            self._away = tempfile.mkdtemp(prefix="keyhole-")
            spec = replace(spec, transcript=f"{self._away}/transcript", log=f"{self._away}/log")
            spec = replace(spec, state=spec.state and f"{self._away}/state")
        self._spec = spec
        self._failed = False
        self._groups: dict[int, Group] = {}
        self._refusal: KeyholeError | None = None
        try:
            self._host = Host(spec)
        except (
            KeyholeError
        ) as error:  # raised by `ready`: an actor that fails at its start is a process that died
            self._refusal = error

    def ready(self) -> int:
        """The process number, once the parties have their inputs; raises what kept them from it."""
        if self._refusal is not None:
            raise self._refusal
        return os.getpid()

    def execute(self, groups: list[Group], batch: list[Any], *slots: Frames | None) -> list[Any]:
        """Carry out a batch of instructions; returns a token, and frames for each emit or reveal."""
        self._groups.update((group.id, group) for group in groups)
        replies: list[Any] = []
        failure = cause = ""
        for instruction in batch:
            emits = (
                len(instruction.to) if isinstance(instruction, Emit) else int(isinstance(instruction, Reveal))
            )
            try:
                reply = None if self._failed else self._run(instruction, slots)
            except KeyholeError as error:
                reply, failure, cause, self._failed = None, str(error), type(error).__name__, True
            except Exception as error:  # a defect of ours: the text may hold values, so only the type goes on
                reply, self._failed = None, True
                failure = f"{self._spec.name}: {type(instruction).__name__} failed: {type(error).__name__}"
            replies += [None] * emits if reply is None else reply
        return [Token(self._spec.name, failure, cause), *replies]

    def _run(self, instruction: Any, slots: tuple[Frames | None, ...]) -> Any:
        match instruction:
            case DoStep():
                return self._host.do(replace(instruction, group=self._whole(instruction.group)))
            case Emit():
                return self._emit(self._whole_transfer(instruction.transfer), instruction.to)
            case Receive():
                arrived = [slots[slot] for slot in instruction.slots]
                if any(frames is None for frames in arrived):
                    self._failed = True  # the sender failed and has said so itself
                    return None
                frames = [frame for some in arrived if some is not None for frame in some]
                return self._host.receive(self._whole_transfer(instruction.transfer), frames)
            case Publish():
                return self._host.publish(replace(instruction, group=self._whole(instruction.group)))
            case Reveal():
                return [[(0, self._host.reveal(instruction))]]
            case Free():
                return self._host.free(self._whole(instruction.group), instruction.handle)
        raise ProtocolError(f"unknown instruction {type(instruction).__name__}")

    def _emit(self, transfer: Transfer, to: tuple[str, ...]) -> list[Frames]:
        """The frames for each host."""
        frames = self._host.emit(transfer)
        if len(to) == 1:
            return [frames]
        home = [self._home[member] for member in transfer.receivers.members]
        return [[(i, frame) for i, frame in frames if home[i] == host] for host in to]

    def _whole(self, group: Group) -> Group:
        return group if group.members else self._groups[group.id]

    def _whole_transfer(self, transfer: Transfer) -> Transfer:
        return replace(
            transfer, senders=self._whole(transfer.senders), receivers=self._whole(transfer.receivers)
        )

    def close(self, keep: bool) -> tuple[str, ...]:
        """Finish the transcript, and with `keep` what parties keep; returns files to fetch from another
        node.
        """
        if keep and not self._failed:
            self._host.keep_state()
        self._host.close()
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

    def __init__(self, views: tuple[tuple[str, str], ...], files: tuple[Source, ...]) -> None:
        """`files` were imported as they arrived: the views may be of their protocols."""
        self._adversary = Adversary(views)

    def call(self, verb: str, *args: Any) -> tuple[Any, str, str]:
        """(result, failure, type of the failure) of one of the adversary's verbs."""
        try:
            return getattr(self._adversary, verb)(*args), "", ""
        except KeyholeError as error:
            return None, str(error), type(error).__name__


class RayRuntime:
    """Carries out a session's instructions on hosts that are Ray actors."""

    def __init__(self, specs: Sequence[HostSpec], progress: Progress | None = None) -> None:
        """Start a host for each specification and wait until the owners have read their data."""
        self._specs = {spec.name: spec for spec in specs}
        self._home = {party: spec.name for spec in specs for party in spec.parties}
        self._queues: dict[str, list[Any]] = {spec.name: [] for spec in specs}
        self._slots: dict[str, list[Any]] = {spec.name: [] for spec in specs}
        self._known: dict[str, set[int]] = {spec.name: set() for spec in specs}
        self._new: dict[str, list[Group]] = {spec.name: [] for spec in specs}
        self._hosts_of_group: dict[int, tuple[str, ...]] = {}
        self._rounds: deque[tuple[str, int, list[Any]]] = deque()
        self._tokens: list[Any] = []
        self._begun: set[str] = set()
        self._progress = progress
        self.remote_calls = 0
        self._marker = f".run-{os.getpid()}"
        Path(specs[0].transcript).parent.joinpath(self._marker).touch()
        actor: Any = ray.remote(max_restarts=0, max_task_retries=0, num_cpus=0)(HostActor)
        resources: Any = ray.cluster_resources  # ray leaves it untyped
        offered: dict[str, float] = resources()
        self._actors: dict[str, Any] = {
            spec.name: actor.options(resources=_place(spec.role.value, offered)).remote(
                spec, self._marker, self._home
            )
            for spec in specs
        }
        try:
            self.pids = self._get_all({name: handle.ready.remote() for name, handle in self._actors.items()})
        except BaseException:
            self._stop()
            raise

    def do(self, step: DoStep) -> None:
        for host in self._hosts(step.group):
            self._queue(host, replace(step, group=self._group(host, step.group)))

    def transfer(self, transfer: Transfer) -> None:
        receivers = self._hosts(transfer.receivers)
        broadcast = len(transfer.senders.members) == 1 and not transfer.parts
        to = receivers[:1] if broadcast else receivers  # everyone gets the one frame of a broadcast
        refs = [
            self._flush(host, Emit(self._shortened(host, transfer), to))
            for host in self._hosts(transfer.senders)
        ]
        for k, host in enumerate(receivers):
            mine = [emitted[0 if broadcast else k] for emitted in refs]
            slots = tuple(range(len(self._slots[host]), len(self._slots[host]) + len(mine)))
            self._slots[host] += mine
            self._queue(host, Receive(self._shortened(host, transfer), slots))

    def reveal(self, reveal: Reveal) -> Any:
        (host,) = self._hosts(reveal.group)
        (ref,) = self._flush(host, reveal)
        frames = self._get(host, ref)
        if frames is None:
            self._settle()
            raise ProtocolError(f"{host}: nothing to reveal")
        return decode(frames[0][1])

    def publish(self, publish: Publish) -> None:
        for host in self._hosts(publish.group):
            self._queue(host, replace(publish, group=self._group(host, publish.group)))

    def free(self, group: Group, handle: int) -> None:
        for host in self._hosts(group):
            self._queues[host].append(Free(self._group(host, group), handle))

    def end_phase(self, phase: str, round: int) -> None:
        self._rounds.append((phase, round, self._tokens))
        self._tokens = []
        # The first round of each phase is waited for: else a short run would be in flight as a whole before
        # set-up has ended, and its training would be booked as set-up.
        first = phase not in self._begun
        self._begun.add(phase)
        while self._rounds and (first or len(self._rounds) > WINDOW or self._oldest_is_done()):
            self._retire()

    def settle(self) -> None:
        """Carry out what is queued, and wait for it."""
        for host in self._specs:
            self._flush(host)
        self._settle()

    def finish(self) -> None:
        """Carry out what is queued, close every transcript and bring those of other nodes here."""
        self.settle()
        away = self._get_all({name: actor.close.remote(True) for name, actor in self._actors.items()})
        for name, files in away.items():
            self._fetch(name, files)
        self._stop()

    def abort(self) -> None:
        """After a failure: close and fetch what is within reach, then stop every host."""
        for name, actor in self._actors.items():
            with contextlib.suppress(RayError, ray.exceptions.GetTimeoutError):
                self._fetch(name, ray.get(actor.close.remote(False), timeout=10))
        self._stop()

    def _stop(self) -> None:
        for actor in self._actors.values():
            ray.kill(actor)
        Path(next(iter(self._specs.values())).transcript).parent.joinpath(self._marker).unlink(
            missing_ok=True
        )

    def _hosts(self, group: Group) -> tuple[str, ...]:
        if group.id not in self._hosts_of_group:
            self._hosts_of_group[group.id] = tuple(
                dict.fromkeys(self._home[member] for member in group.members)
            )
        return self._hosts_of_group[group.id]

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

    def _queue(self, host: str, instruction: Any) -> None:
        self._queues[host].append(instruction)

    def _flush(self, host: str, last: Emit | Reveal | None = None) -> list[Any]:
        """Send what is queued for a host, and `last`; returns references of the frames that it emits."""
        batch = self._queues[host] + ([last] if last is not None else [])
        if not batch:
            return []
        returns = 1 + (len(last.to) if isinstance(last, Emit) else int(last is not None))
        call = self._actors[host].execute.options(num_returns=returns)
        refs = call.remote(self._new[host], batch, *self._slots[host])
        self._queues[host], self._slots[host], self._new[host] = [], [], []
        self.remote_calls += 1
        token = refs if returns == 1 else refs[0]
        self._tokens.append((host, token))
        return [] if returns == 1 else list(refs[1:])

    def _oldest_is_done(self) -> bool:
        """Whether the oldest round in flight has ended; does not wait."""
        if not self._rounds:
            return False
        tokens = [token for _, token in self._rounds[0][2]]
        return not tokens or len(ray.wait(tokens, num_returns=len(tokens), timeout=0)[0]) == len(tokens)

    def _retire(self) -> None:
        """Wait for the oldest round in flight and look at its tokens."""
        phase, round_, tokens = self._rounds.popleft()
        for token in self._tokens_of(tokens):
            self._check(token)
        if self._progress:
            self._progress(phase, round_)

    def _tokens_of(self, tokens: list[Any]) -> list[Any]:
        """The values of tokens: with one call if all is well, one by one to find out which host was lost."""
        try:
            found: list[Any] = ray.get([token for _, token in tokens])
            return found
        except RayError:
            return [self._get(host, token) for host, token in tokens]

    def _settle(self) -> None:
        """Wait for everything in flight."""
        self._rounds.append(("", -1, self._tokens))
        self._tokens = []
        while self._rounds:
            self._retire()

    def _check(self, token: Any) -> None:
        token = token[0] if isinstance(token, list) else token
        if token.failure:
            raise StepError(token.failure)

    def _get(self, host: str, ref: Any) -> Any:
        try:
            return ray.get(ref)
        except RayError:
            lost = [name for name in self._specs if not self._lives(name)]
            if not lost:
                raise
            parties = ", ".join(_some(self._specs[name].parties) for name in lost)
            raise HostLost(
                f"the process that carried {parties} died; its transcript up to then is kept"
            ) from None

    def _lives(self, host: str) -> bool:
        """Whether a host still answers; a busy one counts as living."""
        try:
            ray.get(self._actors[host].ready.remote(), timeout=5)
        except RayActorError:
            return False
        except RayError:
            return True
        return True

    def _get_all(self, refs: dict[str, Any]) -> dict[str, Any]:
        results = {}
        for host, ref in refs.items():
            try:
                results[host] = self._get(host, ref)
            except ray.exceptions.RayTaskError as error:
                cause = error.cause if isinstance(error.cause, KeyholeError) else None
                raise cause or ProtocolError(f"{host}: {type(error.cause).__name__} at its start") from None
        return results

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


class RayAdversary:
    """The adversary as an actor; the same verbs as `Adversary`."""

    def __init__(self, views: Sequence[tuple[str, str]]) -> None:
        node = ray.get_runtime_context().get_node_id()  # the run folder is on the driver's node
        strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        actor: Any = ray.remote(AdversaryActor)
        options = actor.options(max_restarts=0, num_cpus=0, scheduling_strategy=strategy)
        self._actor: Any = options.remote(tuple(views), sources())

    def call(self, verb: str, *args: Any) -> Any:
        """Run a verb of the adversary in its process and return the result; its refusals are raised here."""
        try:
            result, failure, cause = ray.get(self._actor.call.remote(verb, *args))
        except RayActorError:
            raise HostLost("the adversary's process died") from None
        if failure:
            raise _named_error(cause)(failure)
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
    # A message of MITIG2 (150 kB) is above Ray's limit for values that travel with a call. Through the object
    # store it costs the node's raylet 4 ms of processor time, measured, and as much as the training step
    # itself.
    os.environ.setdefault("RAY_max_direct_call_object_size", str(_INLINE))
    os.environ.setdefault("RAY_task_rpc_inlined_bytes_limit", str(64 * _INLINE))
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
        raise _named_error(cause)(failure)
    return result


def version() -> str:
    """The version of ray."""
    return str(ray.__version__)


def _place(role: str, offered: dict[str, float]) -> dict[str, float]:
    """Ask for a node that offers the custom resource named after the role, where the cluster has one."""
    return {role: 0.001} if role in offered else {}


def _some(parties: Sequence[str]) -> str:
    return parties[0] if len(parties) == 1 else f"{parties[0]} and {len(parties) - 1} more"


def _named_error(name: str) -> type[KeyholeError]:
    """The error class of that name, so that a refusal reads the same from another process."""
    known: list[type[KeyholeError]] = [KeyholeError]
    for cls in known:
        if cls.__name__ == name:
            return cls
        known.extend(cls.__subclasses__())
    return KeyholeError
