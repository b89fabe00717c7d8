"""The private state of a party, as its local steps see it, and whose step it is.

A step says in the type of its first parameter at whom it runs, and a session refuses it at anybody else:

    def forward(c: Cloud, sk: Any, batch: Batch) -> Any: ...        # of the cloud trainer alone
    def draw_key(state: Owner | Authority) -> Any: ...              # of either
    def start_model(state: State) -> None: ...                      # of whoever holds a model

A role of a protocol's own gets a type in one line: `class Helper(State, role=HELPER): ...`, in which what the
role holds may be declared. At run time all are the same kind of object.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.coins import Coins
from protocols.language.roles import CLOUD_TRAINER, CONSUMER, DATA_OWNER, KEY_AUTHORITY, QUERIER, SERVER, Role


class State(SimpleNamespace):
    """What one party holds: fixed fields given at its start, and whatever its steps assign.

    `config` is the public configuration of the run, `inputs` the party's private input (read-only arrays;
    empty for all but data owners), `coins` its secret randomness for cryptography, `rng` its generator for
    weights, which is private but not cryptographic, `held` what it keeps by name: keys, ciphertexts.
    """

    party: str
    role: Role
    index: int
    config: Any
    inputs: dict[str, NDArray[Any]]
    coins: Coins
    rng: np.random.Generator
    held: dict[Any, Any]

    played: typing.ClassVar[Role | None] = None

    def __init_subclass__(cls, role: Role) -> None:
        cls.played = role


class Owner(State, role=DATA_OWNER):
    """What a data owner holds: samples and labels in `inputs`."""


class Authority(State, role=KEY_AUTHORITY):
    """What the key authority holds."""


class Cloud(State, role=CLOUD_TRAINER):
    """What the cloud trainer holds."""


class Server(State, role=SERVER):
    """What the server of a head holds."""


class Querier(State, role=QUERIER):
    """What a querier holds: samples in `inputs`."""


class Consumer(State, role=CONSUMER):
    """What the consumer of decisions holds."""


@cache
def roles_of(step: Callable[..., Any]) -> frozenset[Role] | None:
    """The roles that a step is written for; None if its first parameter does not say."""
    hints = typing.get_type_hints(step)
    first = next((name for name in hints if name != "return"), "return")
    said = typing.get_args(hints[first]) or (hints[first],) if first != "return" else ()
    roles = [kind.played for kind in said if isinstance(kind, type) and issubclass(kind, State)]
    return frozenset(role for role in roles if role) if roles and all(roles) else None
