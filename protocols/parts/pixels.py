"""What an owner lets into the network: its pixels as they are, with a dither that is drawn once before
training, or images that are moved anew at each visit.

`dither:R` adds u, uniform in +-R with R below one pixel step, to every pixel of every training sample, from
the owner's coins: X + U enters the first layer, forward and backward, the same at every visit. No pixel
crosses in a split network and Z1 is real anyway, so no type of a message changes; inference is on whole
pixels.

What it is for: inner products of whole pixels are whole, and lattices find the pixels behind them
(`lattice_gram`). A dither moves <x, x'> by about R |x| sqrt(2 / 3), for digits 45 R, so that R = .01 hides
which whole number it was; a lattice on the products as they are, scaled to 1 / R, found 50 of 58 columns of
140 digits at R = .001 and none at .01 (one draw). What it is not: X + U is determined up to a rotation as X
was. Whoever finds the rotation otherwise (known samples, labelled public images: `gram_public`) loses
R / sqrt(3) a pixel, and nothing for R < 1/2 where X + U comes out well enough to be rounded. Where W1 is
known, rounding undoes it: so it is refused with a public first W1, and with averages, which others are given.

`augment:S` moves every image by up to S pixels in both directions, drawn from the owner's coins for each
sample at each visit; what moves in is zero. Z1 of a sample then belongs to another image each time, and the
changes of W1 are sums over such images, so that no attack here finds equations between visits. It is no
proof: there are (2 S + 1)^2 images of each sample, all of which follow from one, and what training learns of
one it learns of all. Where W1 is known every visit gives a moved image away, so that it is refused there as a
dither is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
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

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Options(Training):
    """A dither of the pixels; by how many pixels images are moved."""

    dither: float = derived("bound on what an owner adds to each of its pixels, once", 0.0, least=0)
    augment: int = derived("pixels by which an owner moves its images at each visit, at most", 0, least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dither < 1:
            raise ConfigError("the bound of a dither must be below 1, one step of a pixel")


def check(config: Any) -> None:
    """Refuse what a known W1 lets others undo: they round a dither away, and solve for moved images."""
    for name in ("dither", "augment"):
        if getattr(config, name) and config.owners == "many":
            raise ConfigError(f"--defence {name} is for one owner: whoever knows an average of W1 undoes it")
        if getattr(config, name) and config.init is Init.SHARED:
            raise ConfigError(f"--defence {name} needs a private W1: with --init shared all undo it")
    if config.augment and not (len(config.shape) > 1 and config.augment < min(config.shape[:2])):
        raise ConfigError("--defence augment needs images, larger than what they are moved by")


def set_up(s: Session, config: Options) -> None:
    """O draws its dither, if there is one."""
    if config.dither:
        s.each(DATA_OWNER).do(draw)


def draw(state: Owner) -> None:
    """O: U (N, n), uniform in +-R."""
    drawn = state.coins.stream("dither").uniform(state.config.dither, *state.inputs["images"].shape)
    state.held["dither"] = drawn.astype(real())


def own_rows(state: Owner, visit: Visit) -> NDArray[Any]:
    """O: X_B of its batch, as it enters the network; the same for all of a visit."""
    x, config = order.own_rows(state, visit), state.config
    x = x + state.held["dither"][order.own_order(state, visit)] if config.dither else x
    if config.augment and state.held.get("moved", (None,))[0] != visit:
        stream, most = state.coins.stream("augment"), 2 * config.augment
        down, right = np.array(stream.below(most + 1, 2 * len(x))).reshape(2, -1) - config.augment
        state.held["moved"] = visit, moved(x, down, right, config.shape)
    return state.held["moved"][1] if config.augment else x


def moved(x: NDArray[Any], down: NDArray[np.int64], right: NDArray[np.int64], shape: Shape) -> NDArray[Any]:
    """Images (m, n) of a shape, each moved down and to the right by so many pixels (m,); zeros move in."""
    rows, columns = np.arange(shape[0]) - down[:, None], np.arange(shape[1]) - right[:, None]
    inside = (((rows >= 0) & (rows < shape[0]))[:, :, None]
              & ((columns >= 0) & (columns < shape[1]))[:, None, :])  # fmt: skip
    images, which = x.reshape(len(x), *shape[:2], -1), np.arange(len(x))[:, None, None]
    taken = images[which, (rows % shape[0])[:, :, None], (columns % shape[1])[:, None, :]]
    found: NDArray[Any] = (taken * inside[:, :, :, None]).astype(x.dtype).reshape(x.shape)
    return found


def described(config: Options) -> dict[str, str]:
    """Lines for the table of what protects a run."""
    dither = f"+-{config.dither:g} on every pixel from 0 to {config.x_max}, drawn once"
    augment = (
        f"images moved by up to {config.augment} pixels, anew at each visit: what follows was not proven"
    )
    return {
        **({"dither": dither} if config.dither else {}),
        **({"augment": augment} if config.augment else {}),
    }
