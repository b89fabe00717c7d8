"""What views say of the first layer's gradients where one party trains the whole network: dW1 = dZ1^T X_B /
B.

The cloud sent dZ1 and received dW1, both as reals; or it holds function keys for the rounded dZ1 of every
step (`keys.py`). The authority that is asked for keys sees the rounded W1, and then dZ1, of every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from protocols.language.relations import (
    Array,
    Combinations,
    KnownMap,
    Map,
    Plain,
    Relation,
    Steps,
    Update,
    Without,
)
from protocols.language.roles import CLOUD_TRAINER, KEY_AUTHORITY
from protocols.language.view import Kind, Row, View
from protocols.network import conv
from protocols.network.config import Gradient
from protocols.network.schedule import batches
from protocols.readings.path import of_one_network, trajectory, why_not
from protocols.readings.samples import in_rounds, of_batch, offsets, owned


def from_owner(view: View) -> Iterator[Relation]:
    """dW1 as owners sent it back.

    The owner rounds X / unit, a sum of B products and its quotient by B: (B + 3) roundings at most
    of a sum that no order of adding makes larger than |dZ1|^T x_max.
    """
    yield Plain(labels=("dz1", "dw1"))
    config, sent = view.config, in_rounds(view, "dz1")
    back = in_rounds(view, "dw1", Kind.RECEIVED)
    if config.first and back:
        why = "the first layer is a convolution: its gradient is a sum over patches, which is not solved for"
        yield Without(type=Combinations, why=why)
        return
    epoch, first = list(batches(config)), offsets(config)
    for step, row in back.items():
        if step in sent:
            index = of_batch(config, epoch[step % len(epoch)], first)
            scale = len(index) * config.pixel_unit
            yield Combinations(
                index,
                _scaled(view, sent[step], 1.0, turned=True),
                _scaled(view, row, scale),
                relative=(len(index) + 3) * config.precision.roundoff * config.x_max,
                labels=("dz1", "dw1"),
                since=step,
            )


def maps(view: View) -> Iterator[Relation]:
    """W1 of every step: the cloud's own, and as the authority sees it, rounded, in requests for keys."""
    config, units = view.config, unit_requests(view)
    yield Plain(labels=("w1", "refused"))
    yield from owned("weights", CLOUD_TRAINER.value, view, "it trains the network itself")
    for row in view.rows("w1"):
        which = Map("w1", -1, row.round) if row.phase == "step" else Map("w1 of a query", -1, 0)
        if row.phase == "step" and row.round < units:
            which = Map("unit vectors", -1, row.round)
        value = _request(view, row)
        mine = row.sender in view.parties
        yield KnownMap(which, value, 0.5 / config.weight_scale, mine, labels=("w1",), since=max(row.round, 0))


def unit_requests(view: View) -> int:
    """In how many first steps a malicious cloud asks for unit vectors instead of W1, which whoever is asked
    can see.
    """
    for row in view.rows("w1") if view.has_payloads() and not view.config.first else ():
        if (np.count_nonzero(view.value(row), axis=1) > 1).any():
            return max(row.round, 0)
    return 0


def _request(view: View, row: Row) -> Callable[[], Array]:
    config: Any = view.config

    def read() -> Array:
        w = np.asarray(view.value(row), np.float64) / config.weight_scale
        return w if config.conv is None else conv.matrix(w, config.conv)

    return read


def updates(view: View) -> Iterator[Relation]:
    """How W1 moved from step to step, for the cloud and the authority that is asked for keys of dZ1."""
    config, reason = view.config, why_not(view.config)
    yield Plain(labels=("dz1",))
    if reason:
        yield Without(type=Update, why=reason)
        return
    rows = {
        step: row
        for step, row in in_rounds(view, "dz1").items()
        if row.receiver == KEY_AUTHORITY.value or {row.sender, row.receiver} & set(view.parties)
    }
    path = trajectory(config, list(of_one_network(config)))
    known = next((k for k in range(len(path.uses)) if k not in rows), len(path.uses))
    steps = Steps(
        tuple(use.index for use in path.uses),
        known,
        lambda k: _error(view, rows[k], config, len(path.uses[k].index)),
        config.precision.roundoff,
    )
    asked = max((row.round for row in view.rows("w1") if row.phase == "step"), default=0)
    for number in range(1, min(max(known, asked), len(path.uses) - 1) + 1):
        terms = (path.at[number] - path.at[number - 1]) / config.pixel_unit
        before, after = Map("w1", -1, number - 1), Map("w1", -1, number)
        yield Update(before, after, terms, steps, labels=("dz1",), since=number)


def _error(view: View, row: Row, config: Any, size: int) -> Array:
    """dZ1 (B, h), as it was sent to the owner, or from the rows of whole numbers (h, B) in a request for
    keys.
    """
    value = np.asarray(view.value(row), np.float64)
    return value[:, :size].T / config.weight_scale if config.gradient is Gradient.FE else value


def _scaled(view: View, row: Row, factor: float, turned: bool = False) -> Callable[[], Array]:
    def read() -> Array:
        value = np.asarray(view.value(row), np.float64) * factor
        return value.T if turned else value

    return read
