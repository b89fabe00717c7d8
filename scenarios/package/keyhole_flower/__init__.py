"""A mod for Flower that records what each client is given and returns: one line in an existing app.

    from keyhole_flower import recorder

    app = ClientApp(mods=[recorder("/data/spool")])

The app runs as before. Each message that reaches a client, and each reply, is a file in the folder: numpy
arrays in an npz, everything else as JSON beside them, readable by the user who runs the client alone. Clients
of many processes may share a folder. `keyhole gather` makes a run folder of it, in another environment if
need be: this package needs numpy only, and nothing of Keyhole.

The first mod of a list sees what crosses; one behind it sees what later mods have not touched yet: put this
one first, before a mod for differential privacy or secure aggregation.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["recorder"]

VERSION = 1
_NUMBER = threading.Lock()
_COUNT = [0]


def recorder(folder: str | os.PathLike[str]) -> Callable[[Any, Any, Callable[[Any, Any], Any]], Any]:
    """A client mod that records into a folder, which is made if it is not there."""
    path = os.path.abspath(os.fspath(folder))

    def record(message: Any, context: Any, call_next: Callable[[Any, Any], Any]) -> Any:
        os.makedirs(path, mode=0o700, exist_ok=True)
        about = _about(message, context)
        _write(path, {**about, "way": "given"}, message.content)
        reply = call_next(message, context)
        if not reply.has_error():
            _write(path, {**about, "way": "returned"}, reply.content)
        return reply

    return record


def _about(message: Any, context: Any) -> dict[str, Any]:
    """What a message says of itself; a reply is about the message that it replies to."""
    partition = dict(context.node_config).get("partition-id")
    return {
        "version": VERSION,
        "type": str(message.metadata.message_type),
        "group": str(message.metadata.group_id),
        "node": str(context.node_id),
        "partition": None if partition is None else int(partition),
    }


def _write(path: str, about: dict[str, Any], content: Any) -> None:
    """One file: `header`, JSON as bytes, and arrays by number."""
    arrays: list[Any] = []
    entries: list[dict[str, Any]] = []
    for record, named in content.array_records.items():
        for name, array in named.items():
            entries.append({"record": str(record), "name": str(name), "array": len(arrays)})
            arrays.append(array.numpy())
    for records in (content.metric_records, content.config_records):
        for record, named in records.items():
            entries += [{"record": str(record), "name": str(name), "value": _plain(value)}
                        for name, value in named.items()]  # fmt: skip
    header = json.dumps({**about, "entries": entries}).encode()
    with _NUMBER:
        _COUNT[0] += 1
        number = _COUNT[0]
    name = os.path.join(path, f"{time.time_ns()}-{os.getpid()}-{number}.npz")
    descriptor = os.open(f"{name}.part", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        stored = {str(number): array for number, array in enumerate(arrays)}
        np.savez(file, header=np.frombuffer(header, np.uint8), **stored)
    os.replace(f"{name}.part", name)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
