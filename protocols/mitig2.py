"""MITIG2: split learning, without encryption. The owner keeps the samples and the first layer.

A. Ionita, A. Ionita, RAID 2025, arXiv:2509.21497 (their public code calls it mitigation 1). In each step the owner O sends
Z1 = W1 X_B^T, the cloud C runs the layers above and returns dZ1, and O updates W1 with dZ1 X_B / B.

    labels     clear | owner        at the cloud, as in the paper; or U-shaped: O also holds the last layer and the labels
    first      conv:FxRxC           W1 is F kernels, and Z1 has a number for each kernel and position

What the parties learn by design: C learns Z1 and its own weights, and the labels (U-shaped: it sees the gradient of the last hidden
layer instead, from which classes may still be told apart; with one hidden layer it then holds no weights at all). W1 and the samples never leave O. Nothing hides more than that: training lasts many steps, in which C sees
how W1 x changes, and what follows from it is what this project computes.

With many owners each trains a copy of W1, and the authority A averages the copies (`split.py`). What this adds:

* A sees each owner's W1 before and after its steps, so W1 - W1' = (lr / B) sum_t dZ1_t X_t: the span of the samples of these steps.
* A + C know dZ1 too: h equations for each pixel of X_B, and X_B exactly while an owner's samples since the last average are at most h.
* C + one owner know the W1 that all begin a round with: exact equations Z1 = W1 X^T on every other owner's first batch of the round.
* U-shaped with many owners, A also sees the last layers.

Defences (`defence.py`): `noise`, uniform in +-R on every entry of Z1, drawn anew in each step from the owner's coins; R is in units of Z1 with
pixels as integers, as the authors' +-10 is, so R / x_max on what is sent where pixels enter as x / x_max. The owner's own backward pass
has no noise in it, but dZ1 comes from a forward pass that had. A sample that comes back in every epoch gets fresh noise each time, so
that averages over visits lose it. Those of `split.py`: secure aggregation, reshuffling, unlinkable samples.

Deviations from the paper: its code divides gradients by 10 B and seeds both sides alike; here the mean over the batch and a generator
of each party's own. Many owners and the U-shape are additions.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import ConfigError
from protocols.language.figure import Arrow
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY, Role
from protocols.language.session import At, Session
from protocols.language.state import State
from protocols.network import inference, nn, training
from protocols.network.config import Config, Labels, Visit, round_count
from protocols.parts import split
from protocols.plain import sample_labels

NAME = "mitig2"
SUMMARY = "split learning: the owner keeps samples and W1, the cloud sees Z1; no encryption"
SECURITY = "no encryption: samples and W1 stay with the owner, the cloud sees Z1 of every step"
ROLES = (DATA_OWNER, KEY_AUTHORITY, CLOUD_TRAINER)

FIGURE = (
    Arrow("setup", DATA_OWNER, CLOUD_TRAINER, "labels", "y in the clear", when="labels=clear"),
    *split.KEY_ARROWS,
    Arrow(
        "average", KEY_AUTHORITY, DATA_OWNER, "w1_mean", "W1, for the owners of a round", when="owners=many"
    ),
    Arrow(
        "average", KEY_AUTHORITY, DATA_OWNER, "head_mean", "the last layer", when="owners=many,labels=owner"
    ),
    Arrow("step", DATA_OWNER, CLOUD_TRAINER, "z1", "Z1 = W1 X_B^T"),
    Arrow("step", CLOUD_TRAINER, DATA_OWNER, "a", "input of the last layer", when="labels=owner"),
    Arrow("step", DATA_OWNER, CLOUD_TRAINER, "da", "its gradient", when="labels=owner"),
    Arrow("step", CLOUD_TRAINER, DATA_OWNER, "dz1", "dZ1; O: W1 <- W1 - lr dZ1 X_B / B"),
    *split.COPY_ARROWS,
)

PREDICT = (
    Arrow("predict", KEY_AUTHORITY, DATA_OWNER, "w1_mean", "W1", when="owners=many"),
    Arrow(
        "predict", KEY_AUTHORITY, DATA_OWNER, "head_mean", "the last layer", when="owners=many,labels=owner"
    ),
    Arrow("predict", DATA_OWNER, CLOUD_TRAINER, "z1", "Z1 = W1 x"),
    Arrow("predict", CLOUD_TRAINER, DATA_OWNER, "a", "input of the last layer", when="labels=owner"),
    Arrow("predict", CLOUD_TRAINER, DATA_OWNER, "classes", when="labels=clear"),
)


def roles(config: Config) -> tuple[Role, ...]:
    """Who takes part: one owner needs nobody to average."""
    return ROLES if config.owners == "many" else (DATA_OWNER, CLOUD_TRAINER)


def run(s: Session, config: Config) -> Iterator[dict[str, Any]]:
    """Train; yields the weights after each epoch and at the end, as revealed for measuring accuracy."""
    with s.phase("setup"):
        if config.labels is Labels.CLEAR:
            o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
            c.do(split.store_labels, s.gather(o.send(c, labels=o.do(sample_labels, 0, max(config.counts)))))
        split.start(s, config)
    yield from split.train(s, config, train_step)


def train_step(s: Session, config: Config, o: At, visit: Visit) -> None:
    """One step of the owners of a round, each on a batch of its own."""
    c = s.at(CLOUD_TRAINER)
    # fmt: off
    z1 = s.gather(o.send(c, z1=o.do(first_layer, visit)))                   # O: Z1 = W1 X_B^T
    if config.labels is Labels.CLEAR:
        dz1 = c.do(split.upper_layers, z1, visit)                           # C: forward, backward
    else:
        a = c.send(o, a=s.scatter(c.do(split.hidden_layers, z1), o))        # C: forward up to the last layer
        da = o.send(c, da=o.do(split.last_layer, a, visit))                 # O: last layer, loss
        dz1 = c.do(split.hidden_layers_backward, s.gather(da))              # C: backward
    o.do(split.update_first, c.send(o, dz1=s.scatter(dz1, o)), visit)       # O: W1 <- W1 - lr dZ1 X_B / B
    # fmt: on


def first_layer(state: State, visit: Visit) -> split.Float:
    """O: Z1 (B, h) of its batch, in float32."""
    config = state.config
    z1 = nn.first_layer(split.own_rows(state, visit), state.w1.value, config.pixel_unit, config.conv)
    return noisy(state, z1.numpy())


def noisy(state: State, z1: split.Float) -> split.Float:
    """O: Z1 under the noise of this run, if it has any, drawn anew; its own backward pass uses none of it."""
    config: Config = state.config
    if not config.noise:
        return z1
    drawn = state.coins.stream("noise").uniform(config.noise / config.pixel_unit, *z1.shape)
    return (z1 + drawn).astype(np.float32)


def predict(s: Session, config: Config, count: int) -> Iterator[Any]:
    """Ask for the classes of the querier's samples, which stay with it; yields those of each part."""
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    for part in inference.parts(count):
        with s.phase("predict", part):
            if part == 0:
                split.hand_out_weights(s, config, o)
            z1 = o.send(c, z1=o.do(queried_z1, part))
            if config.labels is Labels.CLEAR:
                told = o.do(inference.take_classes, c.send(o, classes=c.do(classes, z1)))
            else:
                told = o.do(last_classes, c.send(o, a=c.do(last_input, z1)))
            yield s.reveal(told, why="prediction")


def queried_z1(state: State, part: int) -> split.Float:
    """O: Z1 (m, h) of a part of its samples."""
    z1: split.Float = training.first_layer(
        state, inference.queried(state, part, inference.ROWS), state.config
    ).numpy()
    z1 = noisy(state, z1)
    return z1


def classes(state: State, z1: split.Float) -> NDArray[Any]:
    """C: the class of each sample."""
    return inference.classes(state, training.tensor(z1))


def last_input(state: State, z1: split.Float) -> split.Float:
    """C, U-shaped: the input of the last layer."""
    a: split.Float = nn.forward_hidden(state.hidden, training.tensor(z1), state.config).a[-1].numpy()
    return a


def last_classes(state: State, a: split.Float) -> NDArray[Any]:
    """O, U-shaped: the class of each sample."""
    return inference.last_classes(state, training.tensor(a))


def kept(state: State) -> dict[str, Any]:
    """What a party needs to predict: its layers; of many owners the average, which the authority holds."""
    return split.kept(state)


def restore(state: State, kept: dict[str, Any]) -> None:
    """Take back what `kept` returned."""
    inference.load_model(state, kept)


def steps(config: Config) -> int:
    """Training steps of a run."""
    return split.steps(config)


def check(config: Config) -> None:
    """Refuse, before anything is started, a configuration that makes no sense here."""
    split.check(config)
    if config.labels is Labels.FEBO or config.weight_scale:
        raise ConfigError("mitig2 encrypts and rounds nothing: --labels clear or owner")


def describe(config: Config) -> dict[str, str]:
    """What protects this run, a line each."""
    clear = "in the clear to the cloud"
    labels = {
        "labels": clear if config.labels is Labels.CLEAR else "at the owner, with the last layer (U-shaped)"
    }
    sent = f"+-{config.noise:g} on Z1 of pixels from 0 to {config.x_max}, so +-{config.noise / config.pixel_unit:g} on Z1 as it is sent"
    return {**labels, **split.described(config), **({"noise": sent} if config.noise else {})}


def payload_nbytes(config: Config) -> int:
    """About how many bytes full transcripts take: every message at both ends, equal payloads of a party once."""
    h, members = config.width, config.per_round or len(config.counts)
    head = config.classes * (config.layers[-1] + 1) if config.labels is Labels.OWNER else 0
    step = 4 * members * config.batch * (2 * h + (2 * config.layers[-1] if head else 0))
    copies = 4 * (prod(config.first_shape) + head) * (members + 1) if config.owners == "many" else 0
    return 2 * round_count(config) * (config.local_steps * step + copies)
