"""A session of Ray: how a run finds or starts a cluster, its nodes, and what is said when a part of Ray
itself is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from parties.runtime.placement import Node
from parties.runtime.watch import LOOK_SECONDS
from protocols.language.errors import HostLost, ProtocolError

_ANSWER_SECONDS = 5.0
_ADDRESS = "RAY_ADDRESS"  # by which Ray tells a job, and a user Ray, which cluster to use


@contextlib.contextmanager
def cluster(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """Connect to a Ray cluster, or start one here that ends with the block; reuses a session that is up.

    Without an address, or with `auto`, it is the one that the environment names, as it does inside a job.
    """
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
    # What Ray's processes have to say goes to Ray's own logs; it would print it between our results.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "configure_logging": True}
    if address in (None, "auto"):
        address = os.environ.get(_ADDRESS) or address
    if address is None:
        options |= {"num_cpus": cpus or os.cpu_count(), "include_dashboard": False}
    _check_answers(address)
    try:
        with _own_signals():
            ray.init(address=address or "local", **options)
    except (OSError, RuntimeError, ValueError, AssertionError, RayError) as error:
        ray.shutdown()  # of what had begun
        where = f"no Ray cluster at {address!r}" if address else "Ray cannot start here"
        raise ProtocolError(f"{where}: {_in_one_line(error)}") from None
    try:
        yield
    finally:
        _shut_down()


# An actor's process is gone. Ray tells one that it ended for want of memory by an error of another kind.
ACTOR_LOST = (RayActorError, ray.exceptions.OutOfMemoryError)


class Cluster:
    """Looks after the processes of Ray itself: without them a driver is ended by Ray after a minute, with no
    word about why that anybody could use.
    """

    lost = ""  # of the session of this process: what of it is gone

    def __init__(self) -> None:
        self._looked = time.monotonic()

    def check(self, at_once: bool = False) -> None:
        """Every two seconds, or at once: `HostLost` if Ray's GCS, or the raylet of this node, is gone."""
        if not at_once and time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        Cluster.lost = Cluster.lost or _gone()
        if Cluster.lost:
            raise HostLost(f"{Cluster.lost}; the transcripts up to then are kept")

    def got(self, ref: Any, seconds: float | None = None) -> Any:
        """The value behind a reference, once it is there; `GetTimeoutError` after so many seconds."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            try:
                return ray.get(ref, timeout=LOOK_SECONDS)
            except ray.exceptions.GetTimeoutError:
                self.check()
                if until is not None and time.monotonic() > until:
                    raise
            except ACTOR_LOST:
                self.check(at_once=True)
                raise


def _gone() -> str:
    """What of the Ray session of this process does not take connections any more, in words; or nothing."""
    host, _, port = str(ray.get_runtime_context().gcs_address).rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        return f"Ray's GCS, the process that holds its cluster together, is gone ({error})"
    raylet = getattr(_node(), "raylet_socket_name", None)
    if raylet is not None:
        try:
            with socket.socket(socket.AF_UNIX) as end:
                end.settimeout(_ANSWER_SECONDS)
                end.connect(raylet)
        except OSError as error:
            return f"Ray's raylet, the process that keeps its workers on this node, is gone ({error})"
    return ""


def _node() -> Any:
    """What Ray started or connected to here; it has no public name."""
    return getattr(ray._private.worker, "_global_node", None)


def _shut_down() -> None:
    """End the session; where a part of it is gone, what is left of it first, which would wait for that."""
    node = _node()
    if Cluster.lost and node is not None:
        started = [info.process.pid for each in node.all_processes.values() for info in each]
        left = [child for pid in started for child in _children(pid)]
        node.kill_all_processes(check_alive=False, allow_graceful=True)
        for pid in left:  # the agents of a raylet outlive it
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    ray.shutdown()
    Cluster.lost = ""


def _children(pid: int) -> list[int]:
    """The child processes of a process, where the system tells them."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in found for child in path.read_text().split()]


def _check_answers(address: str | None) -> None:
    """`ProtocolError` for an address HOST:PORT that nothing answers at: Ray itself tries for minutes. So it
    is for one of a protocol: a driver must be on a node of the cluster, as hosts are reached over sockets.
    """
    if "://" in (address or ""):
        raise ProtocolError(
            f"no Ray cluster at {address!r}: a run starts on a node of its cluster; send it there by "
            "ray job submit (and unset RAY_ADDRESS for runs on this machine)"
        )
    host, colon, port = (_found() if address == "auto" else address or "").rpartition(":")
    if not colon or "/" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ProtocolError(f"no Ray cluster at {address!r}: {error}") from None


def _found() -> str:
    """The address that Ray takes for `auto`: that of a cluster that was started here."""
    named: Any = ray._private.services.get_ray_address_from_environment
    try:
        return str(named("auto", None))
    except ConnectionError:
        raise ProtocolError("no Ray cluster runs on this machine; start one with ray start --head") from None


def _in_one_line(error: BaseException) -> str:
    """What Ray says, whole: of two versions that differ it names each in a line of its own."""
    said, cause = " ".join(str(error).split()), error.__cause__
    return said if cause is None else f"{said}: {_in_one_line(cause)}"


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


def nodes() -> list[Node]:
    """The nodes that are up: of one that is gone, Ray says so after half a minute only."""
    known: Any = ray.nodes  # ray leaves it untyped
    said = [each for each in known() if each["Alive"]]
    up = [each for each in said if _answers(each["NodeManagerAddress"], each["NodeManagerPort"])]
    return [Node(each["NodeID"], each["Resources"]) for each in up or said]


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def own_node() -> str:
    return str(ray.get_runtime_context().get_node_id())


def on_node(node: str, soft: bool) -> Any:
    """To start at a node, and with `soft` at another one, should it be gone."""
    return ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=soft)


def own_address() -> str:
    """The address of this node, at which other nodes reach it."""
    own: Any = ray.util.get_node_ip_address
    return str(own())
