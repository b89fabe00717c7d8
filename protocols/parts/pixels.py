"""What an owner lets into the network: its pixels as they are, or with a dither, drawn once before training.

`dither:R` adds u, uniform in +-R with R below one pixel step, to every pixel of every training sample, from
the owner's coins: X + U enters the first layer, forward and backward, the same at every visit. No pixel
crosses in a split network and Z1 is real anyway, so no type of a message changes; inference is on whole
pixels.

What it is for: inner products of whole pixels are whole, and lattices find the pixels behind them
(`lattice_gram`). A dither moves <x, x'> by about R |x| sqrt(2 / 3), for digits 45 R, so that R = .01 hides
which whole number it was; a lattice on the products as they are, scaled to 1 / R, found 50 of 58 columns of
140 digits at R = .001 and none at .01 (one draw). What it is not: X + U is determined up to a rotation as X
was. Whoever finds the rotation otherwise (known samples, public images) loses R / sqrt(3) a pixel, and
nothing for R < 1/2 where X + U comes out well enough to be rounded. Where W1 is known, rounding undoes it: so
it is refused with a public first W1, and with averages, which others are given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from protocols.language.errors import ConfigError
from protocols.language.options import derived
from protocols.language.precision import real
from protocols.language.roles import DATA_OWNER
from protocols.language.session import Session
from protocols.language.state import Owner
from protocols.network.config import Init, Training
from protocols.network.schedule import Visit
from protocols.parts import order


@dataclass(frozen=True)
class Options(Training):
    """A dither of the pixels."""

    dither: float = derived("bound on what an owner adds to each of its pixels, once", 0.0, least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dither < 1:
            raise ConfigError("the bound of a dither must be below 1, one step of a pixel")


def check(config: Any) -> None:
    """Refuse a dither where a known W1 lets others round it away."""
    if config.dither and config.owners == "many":
        raise ConfigError("--defence dither is for one owner: whoever knows an average of W1 rounds it away")
    if config.dither and config.init is Init.SHARED:
        raise ConfigError("--defence dither needs a private W1: with --init shared all round it away")


def set_up(s: Session, config: Options) -> None:
    """O draws its dither, if there is one."""
    if config.dither:
        s.each(DATA_OWNER).do(draw)


def draw(state: Owner) -> None:
    """O: U (N, n), uniform in +-R."""
    drawn = state.coins.stream("dither").uniform(state.config.dither, *state.inputs["images"].shape)
    state.held["dither"] = drawn.astype(real())


def own_rows(state: Owner, visit: Visit) -> NDArray[Any]:
    """O: X_B of its batch, as it enters the network."""
    x = order.own_rows(state, visit)
    return x + state.held["dither"][order.own_order(state, visit)] if state.config.dither else x


def described(config: Options) -> dict[str, str]:
    """One line for the table of what protects a run, if there is a dither."""
    line = f"+-{config.dither:g} on every pixel from 0 to {config.x_max}, drawn once"
    return {"dither": line} if config.dither else {}
