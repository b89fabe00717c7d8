"""How W1 depends on the samples: linearly under SGD, with coefficients that everybody can compute.

Each use u of a batch adds dZ1_u^T X_u / B_u to what an optimizer remembers, so every W1 of a run is

    W1 = W1(0) - sum_u a_u dZ1_u^T X_u

with coefficients a_u that follow from learning rate, momentum, batch sizes and the order of averaging, all of
them public. Holds for SGD, with momentum or without; Adam divides by root mean squares of the gradient and is
no linear function of the samples. This project's derivation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from protocols.language.relations import Array, Map, Positions
from protocols.network.config import Optimizer, Order
from protocols.network.schedule import Visit, batches, rounds
from protocols.parts.averaging import averaged
from protocols.parts.revisits import learns as learning
from protocols.readings.samples import of_batch, offsets

USES = 2048  # uses of batches that are followed, the first ones: the coefficients take 8 USES^2 bytes


@dataclass(frozen=True, eq=False)
class Use:
    """One use of a batch: which step and round, whose, the positions `index` (B,) of its samples, and whether
    W1 learns from it.
    """

    step: int
    round: int
    owner: int
    index: Positions
    learns: bool = True


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The coefficients a_u of W1 at several times, one row each: `at` (U, U) where use k multiplies its batch
    by W1, `starts` (R + 1, U) where a round begins and after the last, `ends` {(round, owner): (U,)} an
    owner's copy at the end of its round.
    """

    uses: tuple[Use, ...]
    at: Array
    starts: Array
    ends: dict[tuple[int, int], Array]


def map_at(config: Any, step: int, owner: int) -> Map:
    """The W1 that an owner uses in a step: that of everybody where a round begins, later its own."""
    return Map("w1", -1 if step % config.local_steps == 0 else owner, step)


def why_not(config: Any) -> str:
    """Why W1 is no linear function of samples that can be named; empty if it is."""
    if getattr(config, "order", Order.FIXED) is Order.PRIVATE:
        return "the owner shuffles its samples in private: which sample is which is not in the view"
    if getattr(config, "augment", 0):
        return "the owner moves its images anew at each visit: no two visits are of the same image"
    if getattr(config, "prune", 0):
        return "owners leave out what moved least: what they send is no sum over their samples"
    if getattr(config, "dp", 0):
        return "owners add noise in every step: W1 is no linear function of the samples alone"
    if config.conv is not None:
        return "the first layer is a convolution: its changes are sums over patches, which are not followed"
    if config.optimizer is Optimizer.ADAM:
        return "the owner uses Adam: W1 is no linear function of the samples"
    return ""


def uses(config: Any, limit: int = USES) -> Iterator[tuple[int, tuple[tuple[Use, ...], ...]]]:
    """(round, uses of each local step) of a split network, in order, up to `limit` uses in all."""
    first, step, count = offsets(config), 0, 0
    for number, visits in enumerate(rounds(config)):
        steps = []
        for visit in visits:
            steps.append(_uses(config, visit, first, step, number))
            step, count = step + 1, count + len(steps[-1])
        if count > limit:
            return
        yield number, tuple(steps)


def _uses(config: Any, visit: Visit, first: tuple[int, ...], step: int, number: int) -> tuple[Use, ...]:
    learns = learning(config, visit)
    return tuple(
        Use(step, number, o, first[o] + visit.index(config, o), learns) for o in visit.owners(config)
    )


def of_one_network(config: Any, limit: int = USES) -> Iterator[tuple[int, tuple[tuple[Use, ...], ...]]]:
    """The same where one network takes the batches of all owners in turn: every step is a round."""
    epoch, first = list(batches(config)), offsets(config)
    for step in range(min(config.epochs * len(epoch), limit)):
        batch = epoch[step % len(epoch)]
        yield step, ((Use(step, step, 0, of_batch(config, batch, first)),),)


def trajectory(config: Any, plan: list[tuple[int, tuple[tuple[Use, ...], ...]]]) -> Trajectory:
    """Follow the copies of W1 through the run, symbolically."""
    every = tuple(use for _, steps in plan for step in steps for use in step)
    numbers = {(use.step, use.owner): k for k, use in enumerate(every)}
    at, starts = np.zeros((len(every), len(every))), np.zeros((len(plan) + 1, len(every)))
    ends: dict[tuple[int, int], Array] = {}
    mean = np.zeros(len(every))
    velocity: dict[int, Array] = {}
    for number, steps in plan:
        starts[number] = mean
        copies = {use.owner: mean.copy() for use in steps[0]}
        if not getattr(config, "everyone", True):
            velocity = {}  # who does not take part in every round forgets
        for step in steps:
            for use in step:
                k, v = numbers[use.step, use.owner], velocity.setdefault(use.owner, np.zeros_like(mean))
                at[k] = copies[use.owner]
                if not use.learns:
                    continue
                v *= config.momentum
                v[k] += config.lr / len(use.index)
                copies[use.owner] += v
        ends |= {(number, owner): copy for owner, copy in copies.items()}
        mean = _mean(config, number, copies, mean)
    starts[-1] = mean
    return Trajectory(every, at, starts, ends)


def _mean(config: Any, number: int, copies: dict[int, Array], before: Array) -> Array:
    """The mean of the copies that a round's average is made of; as before where there are none."""
    if getattr(config, "leavers", "none") == "some":
        kept = averaged(config, number)
        copies = {owner: copy for owner, copy in copies.items() if owner in kept}
    return np.mean(list(copies.values()), axis=0) if copies else before
