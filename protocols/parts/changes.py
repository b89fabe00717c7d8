"""What owners do to their changes before others see them: clip each sample's gradient, add noise, leave out
what moved least.

`clip:C`: the gradient of each sample's own loss, by all weights together, is made no longer than C.
`dp:EPS` (DP-SGD: M. Abadi et al., CCS 2016, arXiv:1607.00133): the same, C = 1 unless it is said, and normal
noise of standard deviation sigma C on the sum over a batch, in every local step, from the owner's coins. A
batch has the same samples in every pass, so nothing is gained by sampling: a sample is in as many noisy sums
as it is visited, and sigma follows from that (`network/dp.py`), for one sample that counts or does not. Delta
is N^-1.1. It holds against whoever sees every copy; what the owners of one batch share is not counted.
`prune:P`: of each layer's change in a round the share P that is smallest is set to zero (L. Zhu, Z. Liu,
S. Han, NeurIPS 2019, arXiv:1906.08935, section 5). What is left is as it was: no bound on what it tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.language.errors import ConfigError
from protocols.language.options import derived
from protocols.language.session import At
from protocols.language.state import Owner
from protocols.network import dp, nn
from protocols.network.config import Optimizer
from protocols.network.schedule import Rounds, round_count
from protocols.parts.averaging import WHOLE

_STEPS = 2.0**30  # of the noise in units of C: whole numbers are drawn
_NORM = 1.0  # C under dp, where nothing is said


@dataclass(frozen=True)
class Options(Rounds):
    """Clipping, noise, pruning."""

    clip: float = derived("norm to which the gradient of each sample is clipped; 0: none", 0.0, least=0)
    dp: float = derived("epsilon of a sample by noise in every step; 0: no noise", 0.0, least=0)
    prune: float = derived("share of each layer's changes that is left out", 0.0, least=0)

    @property
    def norm(self) -> float:
        """C; 0 where nothing is clipped."""
        return self.clip or (_NORM if self.dp else 0.0)


def check(config: Options) -> None:
    """Refuse what would not keep its promise."""
    if not config.prune < 1:
        raise ConfigError("--defence prune: a share below 1")
    if config.dp and config.optimizer is Optimizer.ADAM:
        raise ConfigError("--defence dp is for SGD: noise on what Adam divides by is not accounted for here")


def visits(config: Options) -> int:
    """In how many steps a sample takes part, at most."""
    owners = len(config.counts)
    steps = -(-round_count(config) * config.members // owners) * config.local_steps
    return max(-(-steps // -(-count // config.batch)) for count in config.counts)


def sigma(config: Options) -> float:
    """Standard deviation of the noise on a sum of clipped gradients, over C."""
    return dp.sigma_for(config.dp, dp.usual_delta(sum(config.counts)), visits(config))


def described(config: Options) -> dict[str, str]:
    """One line for the table of what protects a run, if there is noise."""
    if not config.dp:
        return {}
    delta = dp.usual_delta(sum(config.counts))
    return {
        "noise": f"sigma {sigma(config):.3g} on sums clipped to {config.norm:g}: epsilon {config.dp:g}, "
        f"delta {delta:.1e} for a sample in {visits(config)} noisy sums"
    }


# -- O --


def clipped(state: Owner, error: torch.Tensor, x: NDArray[Any]) -> torch.Tensor:
    """O: P - Y (B, k), scaled so that no sample's gradient is longer than C: it is linear in its row."""
    config: Options = state.config
    if not config.norm:
        return error
    norms = nn.sample_norms([*state.hidden, state.output], state.run, error, x, config)
    return error * torch.clamp(config.norm / torch.clamp(norms, min=1e-30), max=1.0)[:, None]


def add_noise(state: Owner, size: int) -> None:
    """O: noise in the step that was just done on the mean over `size` samples, as if its gradient had it."""
    config: Options = state.config
    if not config.dp:
        return
    upper = [weight for layer in (*state.hidden, state.output) for weight in (layer.weight, layer.bias)]
    for weight in (state.w1, *upper):
        drawn = state.coins.stream("dp").rounded_gaussian(sigma(config) * _STEPS, *weight.value.shape)
        noise = torch.from_numpy(drawn * (config.norm / (_STEPS * size))).to(weight.value.dtype)
        weight.mean.add_(noise)
        weight.value.sub_(noise, alpha=config.lr)


def keep_start(state: Owner) -> None:
    """O: the layers that it was given."""
    state.held["start"] = [layer.give(state).copy() for layer in WHOLE[state.config.depth]]


def prune(state: Owner) -> None:
    """O: what moved least since goes back to where it was."""
    for layer, start in zip(WHOLE[state.config.depth], state.held.pop("start"), strict=True):
        now = layer.give(state)
        moved = np.abs(now - start)
        least = np.argsort(moved, axis=None, kind="stable")[: int(state.config.prune * moved.size)]
        kept = now.copy()
        kept.flat[least] = start.flat[least]
        layer.take(state, kept)


class Whole:
    """Changes as they are."""

    def begin(self, o: At) -> None:
        """Before the steps of a round."""

    def end(self, o: At) -> None:
        """After them."""


class Pruned(Whole):
    """Changes without those that are smallest."""

    def begin(self, o: At) -> None:
        """O: keep what was given."""
        o.do(keep_start)

    def end(self, o: At) -> None:
        """O: prune."""
        o.do(prune)


PRUNES: MappingProxyType[bool, type[Whole]] = MappingProxyType({False: Whole, True: Pruned})
