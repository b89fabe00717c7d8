"""A protocol of a few lines, and steps that cheat, for the tests of the language."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

import protocols.roles as some_module
from protocols.figure import Arrow
from protocols.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY
from protocols.state import State

NAME = "toy"
ROLES = (DATA_OWNER, KEY_AUTHORITY, CLOUD_TRAINER)
FIGURE = (
    Arrow("talk", DATA_OWNER, CLOUD_TRAINER, "value"),
    Arrow("talk", CLOUD_TRAINER, DATA_OWNER, "value"),
    Arrow("talk", CLOUD_TRAINER, DATA_OWNER, "share"),
    Arrow("talk", KEY_AUTHORITY, CLOUD_TRAINER, "value"),
)

LEAKY_LIST: list[Any] = []
LEAKY_DICT: dict[str, Any] = {}
LEAKY_ARRAY = np.zeros(4)
COUNTER = 0


class Box:
    content: list[Any] = []


def make(state: State, n: int) -> NDArray[np.int64]:
    state.kept = np.arange(n) + 100 * state.index
    return state.kept


def spoil(state: State) -> None:
    state.kept[:] = -1


def double(state: State, value: Any) -> Any:
    return value * 2


def total(state: State, values: list[Any]) -> int:
    return int(sum(v.sum() for v in values))


def halves(state: State, value: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return value[:2], value[2:]


def shares(state: State, count: int) -> list[int]:
    return [10 * i for i in range(count)]


def writable(state: State, value: NDArray[np.int64]) -> bool:
    return bool(value.flags.writeable)


def fail(state: State) -> None:
    raise ValueError("the secret is 1234")


def lie(state: State) -> tuple[int, int]:
    return (1,)  # type: ignore[return-value]  # the annotation is wrong on purpose


def uses_list(state: State) -> None:
    LEAKY_LIST.append(state.party)


def uses_dict(state: State) -> Any:
    return LEAKY_DICT.get("x")


def uses_array(state: State) -> Any:
    return LEAKY_ARRAY.sum()


def uses_default(state: State, memory: list[Any] = []) -> None:  # noqa: B006  (the cheat under test)
    memory.append(state.party)


def uses_keyword_default(state: State, *, memory: dict[str, Any] = {}) -> None:  # noqa: B006  (the cheat under test)
    memory["x"] = state.party


def uses_class(state: State) -> None:
    Box.content.append(state.party)


def uses_global(state: State) -> None:
    global COUNTER
    COUNTER = COUNTER + 1


def uses_import(state: State) -> Any:
    import os

    return os.environ


def uses_open(state: State) -> Any:
    return open("/etc/hostname")


def uses_eval(state: State) -> Any:
    return eval("LEAKY_LIST")


def uses_globals(state: State) -> Any:
    return globals()["LEAKY_LIST"]


def uses_setattr(state: State) -> None:
    setattr(Box, "hidden", state.party)  # noqa: B010  (the cheat under test)


def marks_module(state: State) -> None:
    some_module.hidden = state.party  # type: ignore[attr-defined]  # the cheat under test


def marks_function(state: State) -> None:
    double.hidden = state.party  # type: ignore[attr-defined]  # the cheat under test


def uses_helper(state: State) -> None:
    _helper(state)


def _helper(state: State) -> None:
    LEAKY_LIST.append(state.party)


@functools.lru_cache
def _remembers(value: int) -> list[Any]:
    return LEAKY_LIST


def uses_cached(state: State) -> Any:
    return _remembers(1)


def make_closure() -> Any:
    memory: list[Any] = []

    def closure(state: State) -> None:
        memory.append(state.party)

    return closure


CHEATS = (uses_list, uses_dict, uses_array, uses_default, uses_keyword_default, uses_class, uses_global, uses_import, uses_open,
          uses_eval, uses_globals, uses_setattr, marks_module, marks_function, uses_helper, uses_cached)  # fmt: skip
