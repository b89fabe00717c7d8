"""Training without protection: the owners hand their samples to the cloud.

The utility baseline of every comparison, and the oracle of the tests: with `--weight-scale` it rounds W1, and with `labels=febo` or
`gradient=fe` also P and dZ1, as the protocol on encrypted data does, and then computes the same weights bit by bit; with
`init=owner` it begins with the weights of a split network, and computes those of MITIG1 and MITIG2. The cloud learns everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from protocols.language.errors import ConfigError
from protocols.language.figure import Arrow
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER
from protocols.language.session import Session
from protocols.language.state import Cloud, State
from protocols.network import inference, training
from protocols.network.config import Batch, Config, Init, Labels, batches, chunk_rows, chunks
from protocols.parts.labels import Clear, error_in_clear
from protocols.parts.split import AtCloud, UShaped

NAME = "plain"
SUMMARY = "no protection: owners send samples and labels to the cloud, which trains"
SECURITY = "none: the cloud sees every sample, every label and the model"
ROLES = (DATA_OWNER, CLOUD_TRAINER)

FIGURE = (
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "x", "X in the clear"),
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "labels", "y in the clear"),
    Arrow("setup", DATA_OWNER, CLOUD_TRAINER, "w1", "W1 as the owner draws it", when="init=owner|shared"),
    Arrow(
        "setup", DATA_OWNER, CLOUD_TRAINER, "head", "the last layer", when="init=owner|shared,labels=owner"
    ),
)
PREDICT = (
    Arrow("predict", DATA_OWNER, CLOUD_TRAINER, "x", "X in the clear"),
    Arrow("predict", CLOUD_TRAINER, DATA_OWNER, "classes"),
)


def run(s: Session, config: Config) -> Iterator[Any]:
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


def start_at_cloud(s: Session, config: Config) -> None:
    """The cloud draws all weights."""
    s.at(CLOUD_TRAINER).do(training.start_model)


def start_at_owner(s: Session, config: Config) -> None:
    """Each layer is drawn by the party that holds it in a split network, so that both begin alike."""
    o, c, upper = s.at(DATA_OWNER), s.at(CLOUD_TRAINER), HELD[config.labels]
    for layer in upper.layers:
        o.do(layer.start)
        c.do(layer.take, o.send(c, **{layer.name: o.do(layer.give)}))
    c.do(upper.start)


HELD = MappingProxyType({Labels.CLEAR: AtCloud, Labels.FEBO: AtCloud, Labels.OWNER: UShaped})
STARTS = MappingProxyType(
    {Init.CLOUD: start_at_cloud, Init.OWNER: start_at_owner, Init.SHARED: start_at_owner}
)


def predict(s: Session, config: Config, count: int) -> Iterator[Any]:
    """Ask for the classes of the querier's samples; yields those of each part."""
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    for part in inference.parts(count):
        with s.phase("predict", part):
            x = o.send(c, x=o.do(training.own_samples, part, inference.ROWS))
            told = c.send(o, classes=c.do(inference.classes_of_samples, x))
            yield s.reveal(o.do(inference.take_classes, told), why="prediction")


def kept(state: State) -> dict[str, Any]:
    """What a party needs to predict: C the network."""
    return inference.model(state) if state.role is CLOUD_TRAINER else {}


restore = inference.load_model


def check(config: Config) -> None:
    """Refuse what would have no effect."""
    if config.labels is Labels.OWNER and config.init is Init.CLOUD:
        raise ConfigError(
            "plain sends all labels to the cloud: --labels owner is for --init owner, to begin as a split network does"
        )


def payload_nbytes(config: Config) -> int:
    """About how many bytes a full transcript takes."""
    return 2 * sum(config.counts) * (config.features + 8)


def store_samples(state: Cloud, x: list[NDArray[Any]]) -> None:
    """C: keep each owner's samples, chunk after chunk."""
    for parts, more in zip(state.held.setdefault("x", [[] for _ in x]), x, strict=True):
        parts.append(more)


def train_step(state: Cloud, batch: Batch) -> None:
    """C: forward, backward and update on one batch, in the clear."""
    config: Config = state.config
    x = batch_rows(state.held["x"][batch.owner], batch)
    p = training.forward_upper(state, training.first_layer(state, x, config))
    dz1 = training.backward_upper(state, error_in_clear(state, p, batch))
    training.update_w1(state, training.first_layer_gradient(dz1, x, config))


def batch_rows(parts: list[NDArray[Any]], batch: Batch) -> NDArray[Any]:
    """The rows of a batch, out of parts that hold whole batches each."""
    size = len(parts[0])
    part, start = divmod(batch.start, size)
    return parts[part][start : start + batch.size]
