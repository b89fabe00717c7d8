"""Split learning with noise on Z1: the owner keeps its samples and trains W1, which the cloud drew."""

from dataclasses import dataclass
from typing import Any

from protocols.language.figure import Arrow
from protocols.language.options import option
from protocols.language.relations import KnownMap, Labels, Map, Plain, Products
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER
from protocols.network import nn, schedule, training
from protocols.network.config import Training
from protocols.readings.samples import of_batch, own

NAME, SUMMARY, SECURITY = "split_noise", "split learning with noise on Z1", "none but the noise"
ROLES = (DATA_OWNER, CLOUD_TRAINER)
FIGURE = (
    Arrow("setup", CLOUD_TRAINER, DATA_OWNER, "w1", "W1 as the cloud draws it"),
    Arrow("step", DATA_OWNER, CLOUD_TRAINER, "z1", "Z1 = W1 X_B^T + noise"),
    Arrow("step", DATA_OWNER, CLOUD_TRAINER, "labels", "y"),
    Arrow("step", CLOUD_TRAINER, DATA_OWNER, "dz1"),
)


@dataclass(frozen=True)
class Options(Training):
    noise: float = option(0.1, "Bound on the noise on Z1.", least=0)


def run(s, config):
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("setup"):
        c.do(training.start_model)
        o.do(training.take_first, c.send(o, w1=c.do(training.give_first)))
    for step, batch in enumerate([*schedule.batches(config)] * config.epochs):
        with s.phase("step", step):
            z1, y = o.do(first_layer, batch)
            dz1 = c.do(training.upper_layers, *o.send(c, z1=z1, labels=y))
            o.do(training.update_first, c.send(o, dz1=dz1), batch)
    with s.phase("accuracy", step):
        weights = (o.do(training.first_weights), c.do(training.upper_weights))
        yield [s.reveal(part, why="accuracy") for part in weights]


def first_layer(state, batch) -> tuple[Any, Any]:
    x, y = (training.batch_slice(state.inputs[name], batch) for name in ("images", "labels"))
    z1 = nn.first_layer(x, state.w1.value, state.config.pixel_unit).numpy()
    return z1 + state.coins.stream("noise").uniform(state.config.noise, *z1.shape).astype("f"), y


def relations(view):
    yield from own(view)
    config, steps = view.config, [*schedule.batches(view.config)] * view.config.epochs
    for _, w1 in view.values("w1"):
        yield KnownMap(Map("w1", 0, 0), w1, labels=("w1",))
    for (row, z1), (_, y) in zip(view.values("z1"), view.values("labels"), strict=False):
        at, unit = of_batch(config, steps[row.round]), config.pixel_unit
        yield Products(at, z1 * unit, Map("w1", 0, row.round), config.noise * unit, labels=("z1",))
        yield Labels(at, y, labels=("labels",))
    yield Plain(labels=("dz1",))
