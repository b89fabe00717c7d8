"""What views of a split network say of its first layer: Z1 = W1 X^T, which W1 is known when, and how it
moved.

The cloud receives Z1 and sent dZ1; the authority that averages knows the W1 that a round begins with and the
copies that came back, an owner the former. With a first convolution W is its matrix, one row for each kernel
and position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from protocols.language.precision import computed_in
from protocols.language.relations import (
    Array,
    Asked,
    KnownMap,
    LabelErrors,
    Map,
    Own,
    Plain,
    Positions,
    Products,
    Relation,
    Replay,
    Steps,
    Update,
    Without,
    now,
)
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, index_of
from protocols.language.view import Kind, Row, View
from protocols.network import conv, nn
from protocols.network.config import Aggregation, Init, Order
from protocols.network.schedule import Visit
from protocols.parts import averaging
from protocols.readings import masks
from protocols.readings.path import Use, map_at, trajectory, uses, why_not
from protocols.readings.samples import Offsets, offsets, owned

NOWHERE = -1  # the position of a sample that the view cannot name
_STEPS = 4096  # uses of batches that a replay follows
_FIRST = 64  # owners whose first updates are followed where a round has more batches than that


def products(view: View, label: str = "z1") -> Iterator[Relation]:
    """Z1 of every use of a batch, as the cloud received it, with the noise of a defence as its error."""
    rows = [row for row in view.rows(label, Kind.RECEIVED) if row.phase == "predict"]
    if rows:
        yield Asked(sum(row.shape[0] for row in rows), "Z1 = W1 x with W1 unknown", labels=(label,))
    first = offsets(view.config)
    for row in view.rows(label, Kind.RECEIVED):
        yield _product(view, row, first)


def _product(view: View, row: Row, first: Offsets) -> Products:
    config, owner = view.config, index_of(row.sender)
    index, which = np.full(row.shape[0], NOWHERE), Map("w1 of a query", -1, 0)
    if row.phase == "step":
        which = map_at(config, row.round, owner)
        if not config.augment:  # else no use is of an image of the data, and none of the same twice
            index = positions(config, row.round, owner, first)
    noise = config.noise / np.sqrt(3.0)  # uniform in +-R
    values = _scaled(view, row, config.pixel_unit)
    dither = config.dither if row.phase == "step" else 0.0
    since = max(row.round, 0)
    roundoff = config.precision.roundoff
    return Products(index, values, which, noise, dither, roundoff, labels=(row.label,), since=since)


def positions(config: Any, step: int, owner: int, first: Offsets) -> Positions:
    """Where the samples of an owner's batch in a step stand; `NOWHERE` if it shuffles them in private."""
    number, local = divmod(step, config.local_steps)
    visit = Visit(number * config.members, config.members, local)
    if config.order is Order.PRIVATE:
        return np.full(visit.size(config, owner), NOWHERE)
    return first[owner] + visit.index(config, owner)


def _scaled(view: View, row: Row, unit: float) -> Callable[[], Array]:
    return lambda: np.asarray(view.value(row), np.float64) * unit


def maps(view: View) -> Iterator[Relation]:
    """The W1 that are known: the averages that were handed out, the copies that came back, the first one if
    its seed is public; and of the last layer, where owners hold it.
    """
    config = view.config
    if config.init is Init.SHARED:
        first = Map("w1", -1, 0)
        yield KnownMap(first, lambda: _matrix(_public(config), config))
        if (
            not config.first
            and config.order is not Order.PRIVATE
            and any(True for _ in view.rows("z1", Kind.RECEIVED))
        ):
            yield Replay(first, lambda known: _replay(view, known), labels=("z1", "dz1"))
    yield from averages(view)


def averages(view: View) -> Iterator[Relation]:
    """The averages of layers that were handed out, and the copies that came back."""
    config = view.config
    seen: set[int] = set()
    for row in view.rows("w1_mean"):
        number = row.round if row.phase == "average" else -1
        if number not in seen:  # the same to every owner
            seen.add(number)
            which = Map("w1", -1, number * config.local_steps)
            since = max(which.time, 0)
            yield with_bias(KnownMap(which, _weights(view, row), labels=("w1_mean",), since=since), config)
    for row in view.rows("w1_copy", Kind.RECEIVED):
        which = Map("copy", index_of(row.sender), row.round)
        since = _last(config, row.round)
        yield with_bias(KnownMap(which, _weights(view, row), labels=("w1_copy",), since=since), config)
    for label in ("head_mean", "head_copy"):
        for row in view.rows(label, Kind.RECEIVED):
            which = Map(label, index_of(row.sender), row.round)
            yield KnownMap(which, _scaled(view, row, 1.0), labels=(label,), since=max(row.round, 0))


def requests(view: View) -> Iterator[Relation]:
    """The rounded W1 in requests for keys."""
    config = view.config
    for row in view.rows("w1", Kind.RECEIVED):
        owner = index_of(row.sender)
        which = map_at(config, row.round, owner) if row.phase == "step" else Map("w1 of a query", -1, 0)
        value = _scaled(view, row, 1.0 / config.weight_scale)
        yield KnownMap(which, value, 0.5 / config.weight_scale, labels=("w1",), since=max(row.round, 0))


def _public(config: Any) -> Any:
    with computed_in(config.precision):
        return nn.draw_public(config).value.numpy()


def with_bias(known: KnownMap, config: Any) -> KnownMap:
    """A first layer whose last column is a bias, in two parts: as of a pixel that is 1 in every sample."""
    if not config.biased or known.map.name not in ("w1", "copy"):
        return known
    read, unit = known.value, config.pixel_unit
    return replace(known, value=lambda: now(read)[:, :-1], bias=lambda: now(read)[:, -1] / unit)


def _matrix(w1: Any, config: Any) -> Array:
    w = np.asarray(w1, np.float64)
    return w if config.conv is None else conv.matrix(w, config.conv)


def _weights(view: View, row: Row) -> Callable[[], Array]:
    return lambda: _matrix(view.value(row), view.config)


def _last(config: Any, number: int) -> int:
    """The last step of a round."""
    return int((number + 1) * config.local_steps - 1)


def updates(view: View) -> Iterator[Relation]:
    """How W1 moved: within each round from its beginning to each owner's steps and copy, and from round to
    round.
    """
    reason = why_not(view.config)
    yield Plain(labels=("dz1",))
    if reason:
        yield Without(type=Update, why=reason)
    else:
        yield from moves(view)


def moves(view: View) -> Iterator[Update]:
    """The same, of W1 that moves by sums over samples, whatever else moves it."""
    config = view.config
    plan = list(uses(config))
    if not plan:
        yield from _single_updates(view)
        return
    path = trajectory(config, plan)
    errors = {
        (row.round, index_of(row.receiver)): row for row in view.rows("dz1", Kind.SENT) if row.phase == "step"
    }
    steps = _steps(view, path.uses, errors)

    def moved(before: Map, after: Map, coefficients: Array, number: int) -> Update:
        terms = coefficients / config.pixel_unit
        return Update(
            before, after, terms, steps, config.local_steps, labels=("dz1",), since=_last(config, number)
        )

    # Under secure aggregation the authority adds up the copies of the last round as well.
    averaged = getattr(config, "aggregation", None) is Aggregation.SECURE
    for number in range(len(path.starts) - (not averaged)):
        start = Map("w1", -1, number * config.local_steps)
        if number:
            before = Map("w1", -1, (number - 1) * config.local_steps)
            yield moved(before, start, path.starts[number] - path.starts[number - 1], number - 1)
        for k, use in enumerate(path.uses):
            if use.round == number and use.step > start.time:
                yield moved(start, Map("w1", use.owner, use.step), path.at[k] - path.starts[number], number)
        for (at, owner), end in path.ends.items() if config.owners == "many" else ():
            if at == number:
                yield moved(start, Map("copy", owner, number), end - path.starts[number], number)


def _single_updates(view: View) -> Iterator[Update]:
    """The first round of each of the first owners by itself: before the first average the others do not
    matter.
    """
    config = view.config
    errors = {
        (row.round, index_of(row.receiver)): row for row in view.rows("dz1", Kind.SENT) if row.phase == "step"
    }
    _, steps = next(uses(config, len(config.counts) * config.local_steps))
    for owner in [use.owner for use in steps[0]][:_FIRST]:
        mine = tuple(use for step in steps for use in step if use.owner == owner)
        alone = trajectory(config, [(0, tuple((use,) for use in mine))])
        terms = alone.ends[0, owner] / config.pixel_unit
        yield Update(
            Map("w1", -1, 0),
            Map("copy", owner, 0),
            terms,
            _steps(view, mine, errors),
            config.local_steps,
            labels=("dz1",),
            since=_last(config, 0),
        )


def _steps(view: View, every: tuple[Use, ...], errors: dict[tuple[int, int], Row]) -> Steps:
    rows = [errors.get((use.step, use.owner)) for use in every]
    known = next((k for k, row in enumerate(rows) if row is None), len(rows))

    def error(k: int) -> Array:
        row = rows[k]
        assert row is not None
        return np.asarray(view.value(row), np.float64)

    return Steps(tuple(use.index for use in every), known, error, view.config.precision.roundoff)


def _replay(view: View, known: Callable[[Positions], Array | None]) -> Iterator[tuple[Products, Array]]:
    """Train the copies of W1 along, in the type of reals and with the steps of the owners, from a public
    first one.
    """
    config, first = view.config, offsets(view.config)
    z1 = {
        (row.round, index_of(row.sender)): row
        for row in view.rows("z1", Kind.RECEIVED)
        if row.phase == "step"
    }
    dz1 = {
        (row.round, index_of(row.receiver)): row for row in view.rows("dz1", Kind.SENT) if row.phase == "step"
    }
    with computed_in(config.precision):
        mean = nn.draw_public(config).value
    copies = dict[int, nn.Weight]()
    for number, steps in uses(config, _STEPS):
        for use in steps[0]:  # handed out; the optimizer's memory stays where everyone takes part
            if use.owner not in copies or not config.everyone:
                copies[use.owner] = nn.track(mean.clone(), config)
            copies[use.owner].value.copy_(mean)
        for step in steps:
            for use in step:
                if (use.step, use.owner) in z1:
                    w = copies[use.owner].value.numpy()
                    yield _product(view, z1[use.step, use.owner], first), np.asarray(w, np.float64)
            for use in step:
                if not use.learns:
                    continue
                x, row = known(use.index), dz1.get((use.step, use.owner))
                if x is None or row is None:
                    return
                errors = torch.from_numpy(np.array(view.value(row)))
                with computed_in(config.precision):
                    change = nn.first_layer_gradient(errors, x, config.pixel_unit)
                nn.descend(copies[use.owner], change, config)
        with computed_in(config.precision):
            kept = [copies[owner].value.numpy() for owner in averaging.averaged(config, number)]
            mean = torch.from_numpy(averaging.mean(kept)) if kept else mean


def rest(view: View) -> Iterator[Relation]:
    """What else crosses: masks and masked copies, and what passes between the last layers."""
    yield Plain(labels=("pk", "pks", "share_pk", "share_pks"), quantity="public keys for masks")
    yield Plain(labels=("stayed", "opened"))
    yield Plain(labels=("a", "classes"))
    yield from masks.opened(view)
    first = offsets(view.config)
    for row in view.rows("da", Kind.RECEIVED):
        index = positions(view.config, row.round, index_of(row.sender), first)
        values = _scaled(view, row, 1.0)
        yield LabelErrors(index, values, view.config.classes, labels=("da",), since=row.round)
    yield from owned("weights", DATA_OWNER.value, view, "W1 of its own copy")
    yield from _cloud(view)


def _cloud(view: View) -> Iterator[Own]:
    yield from owned("weights", CLOUD_TRAINER.value, view, "of the layers above the first")
