"""A protocol of a few lines for the tests of the language."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.figure import Arrow
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, EXPERIMENTER, KEY_AUTHORITY, Role
from protocols.language.state import Cloud, State

NAME = "toy"
ROLES = (DATA_OWNER, KEY_AUTHORITY, CLOUD_TRAINER)
FIGURE = (
    Arrow("talk", DATA_OWNER, CLOUD_TRAINER, "value"),
    Arrow("talk", CLOUD_TRAINER, DATA_OWNER, "value"),
    Arrow("talk", CLOUD_TRAINER, DATA_OWNER, "share"),
    Arrow("talk", KEY_AUTHORITY, CLOUD_TRAINER, "value"),
    Arrow("talk", CLOUD_TRAINER, DATA_OWNER, "typed", type=NDArray[np.integer]),
    Arrow("talk", EXPERIMENTER, DATA_OWNER, "typed", type=NDArray[np.integer]),
    Arrow("talk", EXPERIMENTER, CLOUD_TRAINER, "told"),
    Arrow("talk", EXPERIMENTER, DATA_OWNER, "told"),
)


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


def both(state: State, value: Any, more: Any) -> None: ...


def integers(state: State) -> NDArray[np.int64]:
    return np.arange(3)


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


def uses_default(state: State, memory: list[Any] = []) -> None:  # noqa: B006  (the cheat under test)
    memory.append(state.party)


def make_closure() -> Any:
    memory: list[Any] = []

    def closure(state: State) -> None:
        memory.append(state.party)

    return closure
