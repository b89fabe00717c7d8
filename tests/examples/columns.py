"""Every owner holds columns of all samples, and a helper of the protocol's own adds up what they send."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from protocols.language.figure import Arrow
from protocols.language.options import option
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, Role
from protocols.language.session import Session
from protocols.language.state import Cloud, Owner, State
from protocols.network import nn, training
from protocols.network.config import Training

HELPER = Role("helper")
NAME, SUMMARY, SECURITY = "columns", "vertically split data", "none: the helper sees every product"
ROLES = (DATA_OWNER, HELPER, CLOUD_TRAINER)
SPLITS = ("columns",)
FIGURE = (
    Arrow("setup", DATA_OWNER, CLOUD_TRAINER, "labels"),
    Arrow("step", DATA_OWNER, HELPER, "part", "W1_i X_i^T"),
    Arrow("step", HELPER, CLOUD_TRAINER, "z1"),
    Arrow("step", CLOUD_TRAINER, DATA_OWNER, "dz1"),
)


class Helper(State, role=HELPER):
    """What the helper holds."""


@dataclass(frozen=True)
class Options(Training):
    spread: float = option(0.1, "Standard deviation of the first weights.", least=0)


def run(s: Session, config: Options) -> Iterator[Any]:
    owners, h, c = s.each(DATA_OWNER), s.at(HELPER), s.at(CLOUD_TRAINER)
    with s.phase("setup"):
        first = s.at(DATA_OWNER)
        c.do(keep_labels, first.send(c, labels=first.do(labels)))
        owners.do(start)
        c.do(training.start_upper)
    for step in range(config.epochs):
        with s.phase("step", step):
            parts = s.gather(owners.send(h, part=owners.do(part)))
            dz1 = c.do(upper_layers, h.send(c, z1=h.do(total, parts)))
            owners.do(update, c.send(owners, dz1=dz1))
    with s.phase("accuracy", config.epochs):
        held = [s.at(DATA_OWNER, i).do(training.first_weights) for i in range(len(config.counts))]
        yield [s.reveal(each, why="accuracy") for each in (*held, c.do(training.upper_weights))]


def steps(config: Options) -> int:
    return config.epochs


def accuracy(revealed: Any, config: Options, x: Any, y: Any) -> float:
    *first, upper = revealed
    w1 = np.concatenate([each["w1"] for each in first], axis=1)
    return nn.accuracy(w1, upper["weights"], upper["biases"], config, x, y)


def labels(o: Owner) -> Any:
    return o.inputs["labels"]


def keep_labels(c: Cloud, y: Any) -> None:
    c.held["labels"] = y


def start(o: Owner) -> None:
    shape = (o.config.layers[0], o.inputs["images"].shape[1])
    drawn = o.config.spread * o.rng.standard_normal(shape)
    o.w1 = nn.track(training.tensor(drawn), o.config)


def part(o: Owner) -> Any:
    return nn.first_layer(o.inputs["images"], o.w1.value, o.config.pixel_unit).numpy()


def total(h: Helper, parts: list[Any]) -> Any:
    return np.sum(parts, axis=0)


def upper_layers(c: Cloud, z1: Any) -> Any:
    return training.upper_layers(c, z1, c.held["labels"])


def update(o: Owner, dz1: Any) -> None:
    training.update_w1(
        o, nn.first_layer_gradient(training.tensor(dz1), o.inputs["images"], o.config.pixel_unit)
    )
