"""How often samples come back while W1 still changes: a budget, after which W1 is frozen.

`revisit-budget:V`: each sample is seen under at most V values of W1. W1 is trained for V - 1 passes over the
data and not after, while the layers above go on; V = 1 leaves it as it was drawn. All visits from the V-th on
show the same Z1, so that a budget does not depend on how long is trained.

What it guarantees: V - 1 changes of Z1 are (V - 1) h linear equations on the N inner products of a sample
with all others, so that least squares (`gram`) does not determine all of them while (V - 1) h < N. It
guarantees no more than that. X X^T has rank n at most: N samples have N n unknown pixels and give N (V - 1) h
equations, so that by their count a solver that uses the rank may succeed from (V - 1) h >= n on, which is a
far smaller budget where N is large. The run says where it stands to both. An observation of this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from protocols.language.options import derived
from protocols.network.config import Training
from protocols.network.schedule import Visit


@dataclass(frozen=True)
class Options(Training):
    """A budget of visits under a W1 that changes."""

    revisits: int = derived("values of W1 under which each sample is seen; 0: no limit", 0, least=0)


def learns(config: Any, visit: Visit) -> bool:
    """Whether W1 still changes: no owner has gone over its samples V - 1 times. Public."""
    budget = getattr(config, "revisits", 0)
    return not budget or max(visit.position(config, o)[0] for o in range(len(config.counts))) < budget - 1


def described(config: Any) -> dict[str, str]:
    """One line for the table of what protects a run: whether least squares, and what uses the rank, have too
    few equations.
    """
    if not config.revisits:
        return {}
    equations, samples, n = (config.revisits - 1) * config.width, sum(config.counts), config.features
    fewer = "fewer" if equations < samples else "not fewer"
    rank = "fewer" if equations < n else "not fewer"
    return {"revisits": f"{equations} equations on the inner products of a sample: {fewer} than {samples} "
                        f"samples (least squares), {rank} than {n} pixels (low rank)"}  # fmt: skip
