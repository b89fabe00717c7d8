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
    Later,
    Map,
    Noised,
    Plain,
    Positions,
    Pruned,
    Relation,
    Shift,
    Trained,
    Without,
    now,
)
from protocols.language.roles import DATA_OWNER, KEY_AUTHORITY, index_of
from protocols.language.view import Kind, Row, View
from protocols.network import nn
from protocols.network.config import Optimizer
from protocols.network.loss import mean_loss
from protocols.network.schedule import members
from protocols.parts import changes
from protocols.parts.averaging import WHOLE, averaged
from protocols.readings import masks, split
from protocols.readings.path import trajectory, uses, why_not
from protocols.readings.samples import Offsets, offsets, owned, payload

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
    opened = list(masks.opened(view))
    yield from shifts(view, [found for found in opened if isinstance(found, KnownMap)])
    for found in opened:
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

    def gradient(index: Positions, count: int, number: int, moved: Callable[[int], list[Array]]) -> Gradient:
        memory = config.momentum if config.everyone and number else 0.0
        unclear = config.prune and memory  # what was set back is still in the momentum
        noise = np.inf if unclear else _noise(config, len(index)) * np.sqrt(count)
        return Gradient(
            index,
            partial(_network, view, means, number, config),
            partial(_without_memory, moved, number, memory, config),
            partial(mean_loss, config=config),
            not (config.norm or config.prune),
            noise,
            2 * (1 + memory) * config.precision.roundoff / config.lr,
            labels=("w1_mean", "w1_copy", "hidden_mean", "hidden_copy", "head_mean", "head_copy"),
            since=number,
        )

    for owner, mine in copies.items():
        if f"{DATA_OWNER.value}:{owner}" in view.parties:
            continue
        for number in rounds:
            if all((layer.name, number) in mine for layer in WHOLE[config.depth]):
                yield gradient(at(number, (owner,)), 1, number, partial(_moved, view, means, mine, 0))
    if copies.keys() - {index_of(party) for party in view.parties if party.startswith(DATA_OWNER.value)}:
        return
    for number, after in pairwise(rounds):
        owners = members(config, number)
        sizes = {len(at(number, (owner,))) for owner in owners}
        if after == number + 1 and len(sizes) == 1 and config.leavers == "none":
            yield gradient(at(number, owners), len(owners), number, partial(_moved, view, means, means, 1))


def shifts(view: View, opened: list[KnownMap]) -> Iterator[Relation]:
    """How the bias of the outputs moved in the rounds of an owner whose copy the view holds, and between
    averages that it holds: the first ones, until every sample is named. `opened`: copies and averages that
    crossed under masks.
    """
    config, named = view.config, dict[int, set[int]]()
    means: dict[int, tuple[Later, str]] = {
        row.round: (payload(view, row), "head_mean")
        for row in view.rows("head_mean")
        if row.phase == "average"
    }
    copies: dict[tuple[int, int], tuple[Later, str]] = {
        (row.round, index_of(row.sender)): (payload(view, row), "head_copy")
        for row in view.rows("head_copy", Kind.RECEIVED)
    }
    for each in opened:
        if each.map.name == "head_copy":
            copies[each.map.time, each.map.owner] = each.value, "head_masked"
        elif each.map.name == "head_mean":
            means[each.map.time] = each.value, "head_masked"

    def shift(which: int, of: Positions, start: int, end: tuple[Later, str], last: int) -> Iterator[Shift]:
        fresh = set(of.tolist()) - named.setdefault(which, set())
        named[which] |= fresh
        if fresh:
            before, label = means[start]
            since = (last + 1) * config.local_steps - 1
            noise, labels = _noise_of_rounds(config, last + 1 - start), tuple(dict.fromkeys((label, end[1])))
            yield Shift(of, partial(_shift, before, end[0]), noise, labels=labels, since=since)

    used = _Used(config, offsets(config))
    for number, owner in sorted(copies):
        if number in means and len(named.get(owner, ())) < config.counts[owner]:
            of = used(number, (owner,))
            yield from shift(owner, of, number, copies[number, owner], number)
    for number, after in pairwise(sorted(means)):
        if len(named.get(-1, ())) < sum(config.counts):
            of = np.concatenate(
                [
                    np.zeros(0, np.int64),
                    *(used(first, averaged(config, first)) for first in range(number, after)),
                ]
            )
            yield from shift(-1, of, number, means[after], after - 1)


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


class _Used:
    """Positions of the samples whose gradients are in the steps of owners in a round: with momentum those of
    the rounds before, too.
    """

    def __init__(self, config: Any, first: Offsets) -> None:
        self._config, self._first = config, first
        self._kept: dict[int, tuple[int, set[int]]] = {}  # by owner: the rounds that were gone through

    def __call__(self, number: int, owners: tuple[int, ...]) -> Positions:
        every = [self._of(number, owner) for owner in owners]
        return np.array(sorted(set().union(*every)), np.int64)

    def _of(self, number: int, owner: int) -> set[int]:
        config = self._config
        if not (config.everyone and config.momentum):
            return self._round(number, owner)
        done, found = self._kept.get(owner, (0, set[int]()))
        for each in range(done, number + 1):
            if len(found) < config.counts[owner]:
                found = found | self._round(each, owner)
        self._kept[owner] = max(done, number + 1), found
        return found

    def _round(self, number: int, owner: int) -> set[int]:
        steps = range(number * self._config.local_steps, (number + 1) * self._config.local_steps)
        some = (split.positions(self._config, step, owner, self._first) for step in steps)
        return {int(i) for index in some for i in index}


def _shift(before: Later, after: Later) -> Array:
    """How far the bias of the outputs moved."""
    moved: Array = (np.asarray(now(before), np.float64) - np.asarray(now(after), np.float64))[:, -1]
    return moved


def _noise(config: Any, size: int) -> float:
    """Deviation of the noise that an owner adds to the mean gradient of so many samples; 0 without DP."""
    return changes.sigma(config) * config.norm / size if config.dp else 0.0


def _noise_of_rounds(config: Any, rounds: int) -> float:
    """At most how much of it is in a weight after some rounds, with what momentum carries on."""
    least = min(min(count, count % config.batch or config.batch) for count in config.counts)
    lasts = 1 / (1 - config.momentum)
    steps = rounds * config.local_steps
    return float(config.lr * _noise(config, least) * lasts * np.sqrt(steps + lasts))


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
