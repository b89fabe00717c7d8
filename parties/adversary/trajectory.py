"""How the W1 of a split network depends on the samples: linearly, with coefficients that everybody can compute.

Each use u of a batch adds dZ1_u^T X_u / B_u to what an owner's optimizer remembers, so every W1 of a run is

    W1 = W1(0) - sum_u a_u dZ1_u^T X_u

with coefficients a_u that follow from learning rate, momentum, batch sizes and the order of averaging, all of them public. Holds for SGD, with
momentum or without; Adam divides by root mean squares of the gradient and is no linear function of the samples. This project's derivation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable
from parties.adversary.equations import offsets
from parties.record.view import Kind, Row, View
from protocols.language.roles import DATA_OWNER, index_of, role_of
from protocols.network.config import Config, Optimizer, Order, Visit, rounds

PROTOCOLS = ("mitig1", "mitig2")
USES = 2048  # uses of batches that are followed, the first ones: the coefficients take 8 USES^2 bytes

_WAYS = {"dz1": (Kind.SENT,), "w1_mean": ()}

Reals = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Use:
    """One use of a batch: which step and round, whose, and which samples: their positions `index` (B,) among those of all owners."""

    step: int
    round: int
    owner: int
    index: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(self.index)

    @property
    def start(self) -> int:
        """The first of them, by which a batch is told where batches stay the same."""
        return int(self.index[0])


@dataclass(frozen=True)
class Trajectory:
    """The coefficients a_u of W1 at several times, one row each: `at` (U, U) where use k multiplies its batch by W1,
    `starts` (R, U) where a round begins, `ends` {(round, owner): (U,)} an owner's copy at the end of its round.
    """

    uses: tuple[Use, ...]
    at: Reals
    starts: Reals
    ends: dict[tuple[int, int], Reals]


def need_split(view: View, *labels: str) -> None:
    """Raise `NotApplicable` unless the view has payloads, holds these labels and is of a split network.

    What an owner sent, or was sent of its own batch, is no finding: most labels count where a party of the view received them.
    """
    if not view.has_payloads():
        raise NotApplicable("payloads not recorded")
    for label in labels:
        if not any(True for _ in view.rows(label, *_WAYS.get(label, (Kind.RECEIVED,)))):
            raise NotApplicable(f"the view of {', '.join(view.parties)} holds no {label}")
    if view.protocol not in PROTOCOLS:
        raise NotApplicable(f"{view.protocol} is no split network")
    if view.config.order is Order.PRIVATE:
        raise NotApplicable(
            "the owner shuffles its samples in private: which sample is which is not in the view"
        )
    if view.config.first:
        raise NotApplicable(
            "the first layer is a convolution: its changes are sums over patches, which this attack does not solve"
        )


def need_same_batches(config: Config) -> None:
    """Raise `NotApplicable` where the samples are shuffled anew in each epoch."""
    if config.order is not Order.FIXED:
        raise NotApplicable(
            "the samples are shuffled anew in each epoch, and this attack follows batches that stay the same"
        )


def need_sgd(config: Config) -> None:
    """Raise `NotApplicable` under Adam."""
    if config.optimizer is Optimizer.ADAM:
        raise NotApplicable("the owner uses Adam: W1 is no linear function of the samples")


def uses(config: Config, limit: int = USES) -> Iterator[tuple[int, tuple[tuple[Use, ...], ...]]]:
    """(round, uses of each local step), in the order in which the cloud meets them, up to `limit` uses in all."""
    first, step, count = offsets(config), 0, 0
    for number, visits in enumerate(rounds(config)):
        steps = []
        for visit in visits:
            steps.append(_uses(config, visit, first, step, number))
            step, count = step + 1, count + len(steps[-1])
        if count > limit:
            return
        yield number, tuple(steps)


def trajectory(config: Config, limit: int = USES) -> Trajectory:
    """Follow the copies of W1 through the run, symbolically."""
    plan = list(uses(config, limit))
    if not plan:
        raise NotApplicable(f"a round has more than {limit} batches, which is as many as are followed")
    every = tuple(use for _, steps in plan for step in steps for use in step)
    numbers = {(use.step, use.owner): k for k, use in enumerate(every)}
    at, starts = np.zeros((len(every), len(every))), np.zeros((len(plan), len(every)))
    ends: dict[tuple[int, int], Reals] = {}
    mean = np.zeros(len(every))
    velocity: dict[int, Reals] = {}
    for number, steps in plan:
        starts[number] = mean
        copies = {use.owner: mean.copy() for use in steps[0]}
        if not config.everyone:
            velocity = {}  # who does not take part in every round forgets
        for step in steps:
            for use in step:
                k, v = numbers[use.step, use.owner], velocity.setdefault(use.owner, np.zeros_like(mean))
                at[k] = copies[use.owner]
                v *= config.momentum
                v[k] += config.lr / use.size
                copies[use.owner] += v
        ends |= {(number, owner): copy for owner, copy in copies.items()}
        mean = np.mean(list(copies.values()), axis=0)
    return Trajectory(every, at, starts, ends)


def by_use(view: View, label: str, kind: Kind) -> dict[tuple[int, int], Row]:
    """{(step, owner): row} of what crossed between the cloud and an owner in a step."""
    received = kind is Kind.RECEIVED
    return {
        (row.round, index_of(row.sender if received else row.receiver)): row
        for row in view.rows(label, kind)
        if row.phase == "step"
    }


def owners_of(view: View) -> list[int]:
    """The owners that are parties of the view."""
    return [index_of(party) for party in view.parties if role_of(party) is DATA_OWNER]


def errors_of(view: View, every: tuple[Use, ...]) -> list[Reals]:
    """dZ1 (B, h) of the first uses, as far as the view goes."""
    rows, found = by_use(view, "dz1", Kind.SENT), []
    for use in every:
        row = rows.get((use.step, use.owner))
        if row is None:
            break
        found.append(np.asarray(view.value(row), np.float64))
    return found


def spread(coefficients: Reals, every: tuple[Use, ...], errors: list[Reals], samples: int) -> Reals:
    """sum_u a_u dZ1_u placed at the rows of its samples: C (samples, h), so that sum_u a_u dZ1_u^T X_u = C^T X."""
    total = np.zeros((samples, errors[0].shape[1]))
    for a, use, dz1 in zip(coefficients, every, errors, strict=False):
        if a:
            total[use.index] += a * dz1
    return total


def _uses(config: Config, visit: Visit, first: tuple[int, ...], step: int, number: int) -> tuple[Use, ...]:
    found = []
    for owner in visit.owners(config):
        found.append(Use(step, number, owner, first[owner] + visit.index(config, owner)))
    return tuple(found)
