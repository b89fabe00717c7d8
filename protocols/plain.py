"""Training without protection: the owners hand their samples to the cloud.

The utility baseline of every comparison, and the oracle of the tests: with `--weight-scale` it rounds W1, and
with `labels=febo` or `gradient=fe` also P and dZ1, as the protocol on encrypted data does, and then computes
the same weights bit by bit; with `init=owner` it begins with the weights of a split network, and computes
those of MITIG1 and MITIG2, with `init=authority` with those of federated learning. The cloud learns
everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.language import relations as relation
from protocols.language.errors import ConfigError
from protocols.language.figure import Arrow
from protocols.language.options import as_in
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY, Role
from protocols.language.session import Session
from protocols.language.state import Cloud, State
from protocols.language.view import View
from protocols.network import conv, inference, nn, training
from protocols.network.config import (
    Biased,
    Convolved,
    Gradient,
    Init,
    Labels,
    Rounded,
    RoundedLabels,
    Training,
    carried,
)
from protocols.network.schedule import Batch, batches, chunk_rows, chunks
from protocols.parts import averaging, gradient, labels
from protocols.parts.arrays import BETWEEN, HEAD, LABELS, PIXELS, W1
from protocols.parts.labels import Clear
from protocols.parts.split import AtCloud, UShaped
from protocols.readings import samples

NAME = "plain"
SUMMARY = "no protection: owners send samples and labels to the cloud, which trains"
SECURITY = "none: the cloud sees every sample, every label and the model"
ROLES = (DATA_OWNER, CLOUD_TRAINER, KEY_AUTHORITY)


@dataclass(frozen=True)
class Options(Rounded, RoundedLabels, Convolved, Biased):
    """What a run is made of: training, and how other protocols begin and round, which it mirrors."""

    weight_scale: int = as_in(Rounded, "weight_scale", 0)
    init: Init = as_in(averaging.Options, "init", Init.CLOUD)
    labels: Labels = as_in(labels.Options, "labels", Labels.CLEAR)
    gradient: Gradient = as_in(gradient.Options, "gradient", Gradient.OWNER)


FIGURE = (
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "x", "X in the clear", type=PIXELS),
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "labels", "y in the clear", type=LABELS),
    Arrow("setup", DATA_OWNER, CLOUD_TRAINER, "w1", "W1 as the owner draws it",
          when="init=owner|shared", type=W1),
    Arrow("setup", DATA_OWNER, CLOUD_TRAINER, "head", "the last layer",
          when="init=owner|shared,labels=owner", type=HEAD),
    Arrow("setup", KEY_AUTHORITY, CLOUD_TRAINER, "w1", "W1 as the authority draws it",
          when="init=authority", type=W1),
    Arrow("setup", KEY_AUTHORITY, CLOUD_TRAINER, "hidden", "the layers between",
          when="init=authority,depth=deep", type=BETWEEN),
    Arrow("setup", KEY_AUTHORITY, CLOUD_TRAINER, "head", "the last layer", when="init=authority", type=HEAD),
)  # fmt: skip
PREDICT = (
    Arrow("predict", DATA_OWNER, CLOUD_TRAINER, "x", "X in the clear", type=PIXELS),
    Arrow("predict", CLOUD_TRAINER, DATA_OWNER, "classes", type=LABELS),
)


def roles(config: Options) -> tuple[Role, ...]:
    """Who takes part: the authority only to draw weights."""
    return ROLES if config.init is Init.AUTHORITY else (DATA_OWNER, CLOUD_TRAINER)


def run(s: Session, config: Options) -> Iterator[Any]:
    """Train for the configured epochs; yields the weights after each, as revealed for measuring accuracy."""
    o, c, y = s.each(DATA_OWNER), s.at(CLOUD_TRAINER), Clear()
    rows = chunk_rows(config, config.features)
    for part in range(chunks(config, rows)):
        with s.phase("upload", part):
            c.do(store_samples, s.gather(o.send(c, x=o.do(training.own_samples, part, rows))))
            y.upload(s, part, rows)
    with s.phase("setup"):
        STARTS[config.init](s, config)
    step = 0
    for _ in range(config.epochs):
        for batch in batches(config):
            with s.phase("step", step):
                c.do(train_step, batch)
            step += 1
        with s.phase("accuracy", step):
            yield s.reveal(c.do(training.weights), why="accuracy")


def start_at_cloud(s: Session, config: Options) -> None:
    """The cloud draws all weights."""
    s.at(CLOUD_TRAINER).do(training.start_model)


def start_at_owner(s: Session, config: Options) -> None:
    """Each layer is drawn by the party that holds it in a split network, so that both begin alike."""
    o, c, upper = s.at(DATA_OWNER), s.at(CLOUD_TRAINER), HELD[config.labels]
    for layer in (averaging.FIRSTS[config.init], *upper.above):
        o.do(layer.start)
        c.do(layer.take, o.send(c, **{layer.name: o.do(layer.give)}))
    c.do(upper.start)


def start_at_authority(s: Session, config: Options) -> None:
    """The server of federated learning draws the whole network."""
    a, c = s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
    if config.depth == "shallow":
        c.do(training.start_hidden)  # none to draw
    for layer in averaging.WHOLE[config.depth]:
        a.do(layer.start)
        c.do(layer.take, a.send(c, **{layer.name: a.do(layer.give)}))


HELD = MappingProxyType({Labels.CLEAR: AtCloud, Labels.FEBO: AtCloud, Labels.OWNER: UShaped})
STARTS = MappingProxyType(
    {
        Init.CLOUD: start_at_cloud,
        Init.OWNER: start_at_owner,
        Init.SHARED: start_at_owner,
        Init.AUTHORITY: start_at_authority,
    }
)


def predict(s: Session, config: Options, count: int) -> Iterator[Any]:
    """Ask for the classes of the querier's samples; yields those of each part."""
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    for part in inference.parts(count):
        with s.phase("predict", part):
            x = o.send(c, x=o.do(training.own_samples, part, inference.ROWS))
            told = c.send(o, classes=c.do(classes_of_samples, x))
            yield s.reveal(o.do(inference.take_classes, told), why="prediction")


def classes_of_samples(state: Cloud, x: NDArray[Any]) -> NDArray[np.int16]:
    """C: the class of each sample (m, n), with W1 rounded as it was in training."""
    return inference.classes(state, first_layer(state, x, state.config))


def kept(state: State) -> dict[str, Any]:
    """What a party needs to predict: C the network."""
    return inference.model(state) if state.role is CLOUD_TRAINER else {}


restore = inference.load_model


def mirror(config: Training) -> Options:
    """The same training in the clear: begun as another protocol's is, and rounded where it rounds."""
    return carried(Options, config)


def unprotected(config: Training) -> tuple[str, Training]:
    """The baseline of a protocol: the same training without any protection or rounding."""
    same = mirror(config)
    labels = Labels.CLEAR if same.labels is Labels.FEBO else same.labels
    return NAME, replace(same, weight_scale=0, labels=labels, gradient=Gradient.OWNER)


def check(config: Options) -> None:
    """Refuse what would have no effect."""
    if config.labels is Labels.OWNER and config.init is Init.CLOUD:
        raise ConfigError(
            "plain sends all labels to the cloud: --labels owner is for --init owner, "
            "to begin as a split network does"
        )
    if config.bias and config.weight_scale:
        raise ConfigError("--bias: what rounds W1 has no bias in the first layer: --weight-scale 0")


def store_samples(state: Cloud, x: list[NDArray[Any]]) -> None:
    """C: keep each owner's samples, chunk after chunk."""
    for parts, more in zip(state.held.setdefault("x", [[] for _ in x]), x, strict=True):
        parts.append(more)
    training.check_rows([sum(map(len, parts)) for parts in state.held["x"]], state.config)


def train_step(state: Cloud, batch: Batch) -> None:
    """C: forward, backward and update on one batch, in the clear, rounded where another protocol rounds."""
    config: Options = state.config
    x, y = batch_rows(state.held["x"][batch.owner], batch), state.held["labels"][batch.owner]
    p = training.forward_upper(state, first_layer(state, x, config))
    error = output_error(p, training.batch_slice(y, batch), config)
    training.update_w1(state, first_layer_gradient(training.backward_upper(state, error), x, config))


def first_layer(state: State, x: NDArray[Any], config: Options) -> torch.Tensor:
    """Z1 (B, h): exact products of rounded W1 and pixels, or float32 products if nothing is rounded."""
    layer = config.conv
    if not config.weight_scale:
        return nn.first_layer(x, state.w1.value, config.pixel_unit, layer)
    w1 = training.quantised_w1(state)
    if layer is not None:
        return training.dequantise(conv.products(x, w1, layer), config)
    return training.dequantise(x.astype(np.int64) @ w1.astype(np.int64).T, config)


def output_error(p: torch.Tensor, y: NDArray[Any], config: Options) -> torch.Tensor:
    """P - Y (B, k), rounded as FEBO would if the run says so."""
    if config.labels is not Labels.FEBO:
        return training.output_error(p, y, config)
    return training.restored_error(training.rounded_labels(y, config) - training.rounded_p(p, config), config)


def first_layer_gradient(dz1: NDArray[np.float32], x: NDArray[Any], config: Options) -> torch.Tensor:
    """dW1 (h, n) of dZ1 (B, h) and integer pixels (B, n); dZ1 rounded if the run says so."""
    if config.gradient is Gradient.OWNER or not config.weight_scale:
        return training.first_layer_gradient(dz1, x, config)
    rounded, layer = training.quantise(dz1, config, "dZ1").astype(np.int64), config.conv
    whole = rounded.T @ x.astype(np.int64) if layer is None else conv.gradient_products(rounded, x, layer)
    return training.rounded_dw1(whole, len(x), config)


def batch_rows(parts: list[NDArray[Any]], batch: Batch) -> NDArray[Any]:
    """The rows of a batch, out of parts that hold whole batches each."""
    size = len(parts[0])
    part, start = divmod(batch.start, size)
    return parts[part][start : start + batch.size]


def relations(view: View) -> Iterator[relation.Relation]:
    """What a reader of a transcript may write down."""
    yield from samples.own(view)
    yield from samples.clear(view, "x", relation.Samples)
    yield from samples.clear(view, "labels", relation.Labels)
    yield from samples.owned("weights", CLOUD_TRAINER.value, view, "it trains the network itself")
    yield relation.Plain(labels=("w1", "hidden", "head", "classes"))
