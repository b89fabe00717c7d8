"""What views of federated learning say: the model before and after an owner's steps, so D X of its samples.

Whoever sees a copy beside the average that its round began with has W1 - W1' = D X, D unknown, as in a split
network (`split.py`), and the change of every other layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from protocols.language.relations import (
    Array,
    Gradient,
    KnownMap,
    Map,
    Noised,
    Plain,
    Positions,
    Pruned,
    Relation,
    Trained,
    Without,
)
from protocols.language.roles import DATA_OWNER, KEY_AUTHORITY, index_of
from protocols.language.view import Kind, Row, View
from protocols.network import nn
from protocols.network.config import Optimizer
from protocols.network.loss import mean_loss
from protocols.network.schedule import members
from protocols.parts import changes
from protocols.parts.averaging import WHOLE
from protocols.readings import masks, split
from protocols.readings.path import trajectory, uses, why_not
from protocols.readings.samples import offsets, owned

_ROUNDS = 256  # whose gradients are listed, the first ones
Rows = dict[tuple[str, int], Row]  # the messages with a layer by its name and the round


def relations(view: View) -> Iterator[Relation]:
    """The layers that were handed out and came back, how the first one moved, and what else crosses."""
    yield from split.averages(view)
    yield from split.updates(view)
    yield from noised(view)
    yield from pruned(view)
    yield from gradients(view)
    yield from trained(view)
    yield Plain(labels=("pk", "pks", "share_pk", "share_pks"), quantity="public keys for masks")
    yield Plain(labels=("stayed", "opened", "hidden_mean", "hidden_copy"))
    for found in masks.opened(view):
        yield split.with_bias(found, view.config) if isinstance(found, KnownMap) else found
    yield from owned("weights", KEY_AUTHORITY.value, view, "it draws the network and averages the copies")
    yield from owned("weights", DATA_OWNER.value, view, "of its own copy")


def noised(view: View) -> Iterator[Relation]:
    """How W1 moved under the noise of DP: each step adds normal noise to a mean of clipped gradients, which
    goes where the gradient goes, through momentum and averages too.
    """
    config = view.config
    if not config.dp or why_not(replace(config, dp=0.0)):
        return
    noise = changes.sigma(config) * config.norm
    for update in split.moves(view):
        yield Noised(update, noise * config.pixel_unit, noise, since=update.since)


def pruned(view: View) -> Iterator[Relation]:
    """What is left of how each copy moved, under SGD of a dense first layer: the samples of its batches, and
    by momentum those of the batches before.
    """
    config = view.config
    if not config.prune or config.dp or config.conv is not None or config.optimizer is Optimizer.ADAM:
        return
    path = trajectory(config, list(uses(config)))
    copies = {(row.round, index_of(row.sender)) for row in view.rows("w1_copy", Kind.RECEIVED)}
    for (number, owner), end in path.ends.items():
        (used,) = np.nonzero(end - path.starts[number])
        if (number, owner) in copies and len(used):
            yield Pruned(
                np.unique(np.concatenate([path.uses[k].index for k in used])),
                Map("w1", -1, number * config.local_steps),
                Map("copy", owner, number),
                config.precision.roundoff,
                labels=("w1_mean", "w1_copy"),
                since=(number + 1) * config.local_steps - 1,
            )


def gradients(view: View) -> Iterator[Relation]:
    """The gradient of each batch of which the view holds the network before and after: of every owner whose
    copy it holds, else of all owners of a round together.
    """
    config, reason = view.config, _why_no_gradient(view.config)
    if reason:
        yield Without(type=Gradient, why=reason)
        return
    first, means, copies = offsets(config), _by_round(view, "mean"), dict[int, Rows]()
    for layer in WHOLE[config.depth]:
        for row in view.rows(f"{layer.name}_copy"):
            copies.setdefault(index_of(row.sender), {})[layer.name, row.round] = row
    rounds = sorted({number for _, number in means})[:_ROUNDS]

    def at(number: int, owners: tuple[int, ...]) -> Positions:
        return np.concatenate([split.positions(config, number, owner, first) for owner in owners])

    def gradient(index: Positions, number: int, moved: Callable[[int], list[Array]]) -> Gradient:
        memory = config.momentum if config.everyone and number else 0.0
        return Gradient(
            index,
            partial(_network, view, means, number, config),
            partial(_without_memory, moved, number, memory, config),
            partial(mean_loss, config=config),
            not (config.norm or config.prune),
            labels=("w1_mean", "w1_copy", "hidden_mean", "hidden_copy", "head_mean", "head_copy"),
            since=number,
        )

    for owner, mine in copies.items():
        if f"{DATA_OWNER.value}:{owner}" in view.parties:
            continue
        for number in rounds:
            if all((layer.name, number) in mine for layer in WHOLE[config.depth]):
                yield gradient(at(number, (owner,)), number, partial(_moved, view, means, mine, 0))
    if copies.keys() - {index_of(party) for party in view.parties if party.startswith(DATA_OWNER.value)}:
        return
    for number, after in pairwise(rounds):
        owners = members(config, number)
        sizes = {len(at(number, (owner,))) for owner in owners}
        if after == number + 1 and len(sizes) == 1 and config.leavers == "none":
            yield gradient(at(number, owners), number, partial(_moved, view, means, means, 1))


def trained(view: View) -> Iterator[Relation]:
    """The first and the last average of the network that the view holds: all samples moved it in between."""
    config, means = view.config, _by_round(view, "mean")
    if config.optimizer is Optimizer.ADAM:
        yield Without(type=Trained, why="owners use Adam: the network does not move along gradients")
        return
    rounds = sorted({number for _, number in means})
    whole = [n for n in rounds if all((layer.name, n) in means for layer in WHOLE[config.depth])]
    if whole:
        start, end = (partial(_network, view, means, number, config) for number in (whole[0], whole[-1]))
        yield Trained(
            np.arange(sum(config.counts)),
            start if whole[-1] > whole[0] else None,
            end,
            partial(mean_loss, config=config),
            not (config.norm or config.prune),
            labels=("w1_mean", "hidden_mean", "head_mean"),
            since=whole[-1],
        )


def _why_no_gradient(config: Any) -> str:
    if config.local_steps > 1:
        return "owners take several steps before they send: no gradient of one batch crosses"
    return "the owner uses Adam: what moves is no gradient" if config.optimizer is Optimizer.ADAM else ""


def _by_round(view: View, kind: str) -> Rows:
    return {
        (layer.name, row.round): row
        for layer in WHOLE[view.config.depth]
        for row in view.rows(f"{layer.name}_{kind}")
        if row.phase == "average"
    }


def _moved(view: View, means: Rows, after: Rows, later: int, number: int) -> list[Array]:
    """How far the arrays moved in a round, over the learning rate."""
    config = view.config
    ends = _network(view, means, number, config), _network(view, after, number + later, config)
    return [(before - end) / config.lr for before, end in zip(*ends, strict=True)]


def _without_memory(
    moved: Callable[[int], list[Array]], number: int, memory: float, config: Any
) -> list[Array]:
    """The gradient: what momentum carried over from the round before is taken off."""
    now = moved(number)
    return now if not memory else [a - memory * b for a, b in zip(now, moved(number - 1), strict=True)]


def _network(view: View, rows: Rows, number: int, config: Any) -> list[Array]:
    """W1, then the weight and the bias of each layer above it."""
    found = {layer.name: np.asarray(view.value(rows[layer.name, number]), np.float64)
             for layer in WHOLE[config.depth]}  # fmt: skip
    arrays, at = [found["w1"]], 0
    for into, out in pairwise(nn.hidden_sizes(config)):
        flat = found["hidden"]
        arrays += [
            flat[at : at + out * into].reshape(out, into),
            flat[at + out * into : at + out * (into + 1)],
        ]
        at += out * (into + 1)
    return [*arrays, found["head"][:, :-1], found["head"][:, -1]]
