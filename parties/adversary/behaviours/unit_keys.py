"""The cloud of plain FE asks for keys of unit vectors instead of [W1], in its first ceil(n / h) steps.

What it then takes for Z1 are pixels of the batch, so that these few steps train on what is no output of W1;
all later ones are honest. The keys open every ciphertext (attack `unit_keys`). The authority could see it: it
is asked in the clear.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import ConfigError
from protocols.language.roles import CLOUD_TRAINER
from protocols.language.state import Cloud
from protocols.network import training
from protocols.network.config import KeyScope
from protocols.network.schedule import steps_per_epoch
from protocols.parts import keys

NAME = "unit_keys"
ROLE = CLOUD_TRAINER


def unit_rows(state: Cloud) -> NDArray[Any]:
    """C, malicious: the next h unit vectors (h, n), beginning anew after the last one; once all were asked
    for, [W1].
    """
    config: keys.Options = state.config
    h, n = config.layers[0], config.features
    step = state.held["units"] = state.held.get("units", -1) + 1
    if step >= -(-n // h):
        return training.quantised_w1(state)
    units: NDArray[Any] = np.eye(n, dtype=config.weights.dtype)[(step * h + np.arange(h)) % n]
    return units


INSTEAD = {(ROLE, training.quantised_w1): unit_rows}


def check(config: keys.Options) -> None:
    """Refuse what has no rows of a dense W1, or too many instances."""
    if config.first:
        raise ConfigError("--malicious unit-keys asks for rows of a dense W1: not with --first")
    if config.keys_for is KeyScope.BATCH:
        raise ConfigError(
            "--malicious unit-keys asks for keys of one instance: not with --defence batch-keys"
        )


def steps(config: keys.Options) -> int:
    """Steps until keys of all n unit vectors were asked for, h a step."""
    return min(-(-config.features // config.layers[0]), config.epochs * steps_per_epoch(config))


def describe(config: keys.Options) -> str:
    """One line for the table of what protects a run."""
    return f"MALICIOUS: asks for keys of unit vectors instead of W1, in the first {steps(config)} steps"
