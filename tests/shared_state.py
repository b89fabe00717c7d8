"""What all parties of this process share: globals of modules of `protocols` but schemes, and generators."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any

import numpy as np
import torch


def fingerprint() -> dict[str, str]:
    """A digest of each module's globals and of each generator: what differs after a run was changed by it."""
    found = {name: hashed(name, vars(m)) for name, m in sys.modules.items() if name.startswith("protocols.")
             and not name.startswith("protocols.crypto.")}  # fmt: skip
    return {
        **found,
        "generators": hashed("", (random.getstate(), np.random.get_state(), torch.get_rng_state().numpy())),
    }


def hashed(home: str, held: Any) -> str:
    """A digest of what a module holds."""
    found: list[bytes] = []
    note(held, home, {}, found)
    return hashlib.sha256(b"".join(found)).hexdigest()


_PLAIN = (str, bytes, int, float, complex, type(None))


def note(value: Any, home: str, seen: dict[int, Any], found: list[bytes]) -> None:
    """Add the bytes of a value and of what hangs on it, but for functions and classes of other modules."""
    if isinstance(value, _PLAIN):
        found.append(repr(value).encode())
    elif isinstance(value, np.ndarray):
        found.append(value.tobytes())
    elif id(value) not in seen:
        seen[id(value)] = value  # kept, so that its number is not given to another
        found.append(type(value).__name__.encode())
        for item in items(value, home):
            note(item, home, seen, found)


def items(value: Any, home: str) -> Iterator[Any]:
    """What it holds: entries of a container, attributes of a class, of a function or of an object of ours."""
    if isinstance(value, dict):
        kept = {
            key: held for key, held in value.items() if not (skipped(key) or isinstance(held, ModuleType))
        }
        yield from (
            part for entry in kept.items() for part in entry
        )  # a package gets modules as they are loaded
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif isinstance(value, MappingProxyType):
        yield from items(dict(value), home)
    elif isinstance(value, ModuleType) or (
        isinstance(value, type | FunctionType) and value.__module__ != home
    ):
        yield value.__name__
    elif isinstance(value, FunctionType):
        yield from (value.__defaults__, value.__kwdefaults__, value.__dict__)
    elif type(value).__module__.startswith("protocols.") or isinstance(value, type):
        yield from items(dict(getattr(value, "__dict__", {})), home)


def skipped(key: Any) -> bool:
    """What is Python's own; and the register of wire classes, to which a module adds when it is loaded."""
    return isinstance(key, str) and (key.startswith("__") or key == "_RECORDS")
