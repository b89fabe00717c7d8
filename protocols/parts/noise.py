"""Noise on Z1, as the owner sends it: none, or uniform in +-R on every entry, drawn anew in each step from
the owner's coins.

R is in units of Z1 with pixels as integers, as the authors' +-10 is, so R / x_max on what is sent where
pixels enter as x / x_max. The owner's own backward pass has no noise in it, but dZ1 comes from a forward pass
that had. A sample that comes back in every epoch gets fresh noise each time, so that averages over visits
lose it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import ConfigError
from protocols.language.options import derived
from protocols.language.precision import real
from protocols.language.session import At, Located
from protocols.language.state import Owner
from protocols.network.config import Training

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Options(Training):
    """Noise on Z1 of integer pixels."""

    noise: float = derived("bound on what is added to Z1 of integer pixels", 0.0, least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.noise < math.inf:
            raise ConfigError("the bound of a noise must not be negative")


class Silent:
    """Z1 as it is."""

    def __init__(self, config: Options) -> None:
        """Without a bound."""

    def on(self, o: At, z1: Located) -> Located:
        """What owners send."""
        return z1


class Uniform:
    """Z1 with noise within +-R."""

    def __init__(self, config: Options) -> None:
        self.bound = config.noise / config.pixel_unit

    def on(self, o: At, z1: Located) -> Located:
        """What owners send."""
        noisy: Located = o.do(add_noise, z1, self.bound)
        return noisy


def add_noise(state: Owner, z1: Float, bound: float) -> Float:
    """O: Z1 with noise drawn anew."""
    return (z1 + state.coins.stream("noise").uniform(bound, *z1.shape)).astype(real())


def described(config: Options) -> dict[str, str]:
    """One line for the table of what protects a run, if there is noise."""
    sent = config.noise / config.pixel_unit
    line = f"+-{config.noise:g} on Z1 of pixels from 0 to {config.x_max}, so +-{sent:g} on Z1 as it is sent"
    return {"noise": line} if config.noise else {}


NOISES: MappingProxyType[bool, type[Silent] | type[Uniform]] = MappingProxyType({
    False: Silent, True: Uniform,
})  # fmt: skip
