"""The private state of a party, as its local steps see it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.coins import Coins
from protocols.language.roles import Role


class State(SimpleNamespace):
    """What one party holds: fixed fields given at its start, and whatever its steps assign.

    `config` is the public configuration of the run, `inputs` the party's private input (read-only arrays; empty for
    all but data owners), `coins` its secret randomness for cryptography, `rng` its generator for weights, which is
    private but not cryptographic, `held` what it keeps by name: keys, ciphertexts.
    """

    party: str
    role: Role
    index: int
    config: Any
    inputs: dict[str, NDArray[Any]]
    coins: Coins
    rng: np.random.Generator
    held: dict[Any, Any]
