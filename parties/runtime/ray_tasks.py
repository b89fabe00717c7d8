"""Tasks of a study, each in a process of Ray's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray

from parties.runtime.fleet import named_error
from parties.runtime.ray_session import on_node, own_node
from protocols.language.errors import HostLost, KeyholeError

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def as_completed(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], processes: int
) -> Iterator[tuple[int, Any]]:
    """(position, function(*task)) as they are done, by processes of one thread each; inside `cluster`.

    `function` belongs to a module; its refusals are raised here. At most `processes` tasks are under way, and
    none is tried twice.
    """
    here = on_node(own_node(), soft=False)  # what they read and write is on the driver's node
    single = {"num_cpus": 0, "max_retries": 0, "runtime_env": {"env_vars": _ONE_THREAD}}
    single["scheduling_strategy"] = here
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
