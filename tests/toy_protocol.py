"""A protocol of a few lines, and steps that cheat, for the tests of the language."""

from __future__ import annotations

import builtins
import functools
import os
import pathlib
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import protocols.language.roles as some_module
from protocols.language.figure import Arrow
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY, Role
from protocols.language.state import Cloud, State

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
LEAKY_GENERATOR = np.random.default_rng(0)
COUNTER = 0


@dataclass(frozen=True)
class Frozen:
    items: list[Any]


LEAKY_FROZEN = Frozen([])


class Choice(Enum):
    A: list[Any] = []


class Box:
    content: list[Any] = []


class Inherits(Box):
    @property
    def count(self) -> int:
        return 0


class Nested:
    inner = Inherits()


class Computes:
    @property
    def count(self) -> int:
        return len(LEAKY_LIST)


def make(state: State, n: int) -> NDArray[np.int64]:
    state.kept = np.arange(n) + 100 * state.index
    return state.kept


def spoil(state: State) -> None:
    state.kept[:] = -1


def double(state: State, value: Any) -> Any:
    return value * 2


def treble(state: State, value: Any) -> Any:
    return value * 3


class Helper(State, role=Role("helper")):
    """A role of this protocol's own."""


def of_the_cloud(state: Cloud) -> None: ...


def of_two(state: Cloud | Helper) -> None: ...


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


@functools.lru_cache
def _box() -> list[Any]:
    return []


def uses_cached_box(state: State) -> None:
    _box().append(state.party)


def make_closure() -> Any:
    memory: list[Any] = []

    def closure(state: State) -> None:
        memory.append(state.party)

    return closure


helper_closure = make_closure()


def uses_helper_closure(state: State) -> None:
    helper_closure(state)


def uses_generator(state: State) -> Any:
    return LEAKY_GENERATOR.random()


def uses_shared_numpy_generator(state: State) -> Any:
    return np.random.rand()


def uses_shared_torch_generator(state: State) -> Any:
    return torch.rand(3)


def uses_frozen_with_list(state: State) -> None:
    LEAKY_FROZEN.items.append(state.party)


def uses_enum_with_list(state: State) -> None:
    Choice.A.value.append(state.party)


def uses_inherited(state: State) -> None:
    Inherits.content.append(state.party)


def uses_instance_in_class(state: State) -> Any:
    return Nested.inner


def uses_property(state: State) -> int:
    return Computes().count


def marks_own_class(state: State) -> None:
    type(state).hidden = state.party


def marks_dunder_class(state: State) -> None:
    state.__class__.hidden = state.party


def uses_function_globals(state: State) -> Any:
    return double.__globals__


def uses_delattr(state: State) -> None:
    delattr(Box, "content")


def uses_environment(state: State) -> None:
    os.environ["HIDDEN"] = state.party


def uses_path(state: State) -> str:
    return pathlib.Path("/etc/hostname").read_text()


def uses_numpy_file(state: State) -> None:
    np.save("/dev/null", np.zeros(1))


def uses_torch_file(state: State) -> Any:
    return torch.load("/dev/null")


def uses_builtins(state: State) -> Any:
    return builtins.open("/etc/hostname")


CHEATS = (uses_list, uses_dict, uses_array, uses_default, uses_keyword_default, uses_class, uses_global, uses_import, uses_open,
          uses_eval, uses_globals, uses_setattr, marks_module, marks_function, uses_helper, uses_cached, uses_cached_box,
          uses_helper_closure, uses_generator, uses_shared_numpy_generator, uses_shared_torch_generator, uses_frozen_with_list,
          uses_enum_with_list, uses_inherited, uses_instance_in_class, uses_property, marks_own_class, marks_dunder_class,
          uses_function_globals, uses_delattr, uses_environment, uses_path, uses_numpy_file, uses_torch_file,
          uses_builtins)  # fmt: skip
