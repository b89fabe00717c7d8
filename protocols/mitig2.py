"""MITIG2: split learning, without encryption. The owner keeps the samples and the first layer.

A. Ionita, A. Ionita, RAID 2025, arXiv:2509.21497 (their public code calls it mitigation 1). In each step the
owner O sends Z1 = W1 X_B^T, the cloud C runs the layers above and returns dZ1, and O updates W1 with dZ1 X_B
/ B.

    labels     clear | owner   at the cloud, as in the paper; or, U-shaped, at O with the last layer
    first      conv:FxRxC      W1 is F kernels, and Z1 has a number for each kernel and position

What the parties learn by design: C learns Z1 and its own weights, and the labels (U-shaped: it sees the
gradient of the last hidden layer instead, whose direction tells the classes apart, up to a renaming: the
attack `label_clusters`; with one hidden layer it then holds no weights at all). W1 and the samples never
leave O. Nothing hides more than that: training lasts many steps, in which C sees how W1 x changes, and what
follows from it is what this project computes.

With many owners each trains a copy of W1, and the authority A averages the copies (`split.py`). What this
adds:

* A sees each owner's W1 before and after its steps, so W1 - W1' = (lr / B) sum_t dZ1_t X_t: the span of the
  samples of these steps.
* A + C know dZ1 too: h equations for each pixel of X_B, and X_B exactly while an owner's samples since the
  last average are at most h.
* C + one owner know the W1 that all begin a round with: exact equations Z1 = W1 X^T on every other owner's
  first batch of the round.
* U-shaped with many owners, A also sees the last layers.

Defences, and what they leave open: `parts/noise.py`, `parts/order.py`, `parts/averaging.py`,
`parts/recovery.py`, `parts/pixels.py`, `parts/revisits.py`.

Deviations from the paper: its code divides gradients by 10 B and seeds both sides alike; here the mean over
the batch and a generator of each party's own. Many owners and the U-shape are additions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray

from protocols import plain
from protocols.language import relations as relation
from protocols.language.errors import ConfigError
from protocols.language.figure import Arrow
from protocols.language.options import derived, option
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY, Role
from protocols.language.session import At, Session
from protocols.language.state import Owner, State
from protocols.language.view import View
from protocols.network import inference, nn, schedule, training
from protocols.network.config import Aggregation, Convolved, Labels, Order, Training, carried
from protocols.network.schedule import Visit
from protocols.parts import averaging, noise, order, pixels, revisits, split
from protocols.parts.arrays import LABELS, Z1
from protocols.parts.averaging import InClear, Masked
from protocols.parts.noise import NOISES
from protocols.parts.recovery import Recoverable
from protocols.parts.split import UPPER, AtCloud, UShaped
from protocols.readings import samples
from protocols.readings import split as read

NAME = "mitig2"
SUMMARY = "split learning: the owner keeps samples and W1, the cloud sees Z1; no encryption"
SECURITY = "no encryption: samples and W1 stay with the owner, the cloud sees Z1 of every step"
ROLES = (DATA_OWNER, KEY_AUTHORITY, CLOUD_TRAINER)


@dataclass(frozen=True)
class Options(averaging.Options, noise.Options, pixels.Options, revisits.Options, Convolved):
    """What a run is made of: training, rounds and averages, labels, noise, order, dither, revisits."""

    labels: Labels = option(Labels.CLEAR, "How labels reach the cloud.")
    order: Order = derived("in which order owners use their samples", Order.FIXED)


FIGURE = (
    Arrow("setup", DATA_OWNER, CLOUD_TRAINER, "labels", "y in the clear", when="labels=clear",
          type=LABELS),
    *Masked.SETUP, *Recoverable.SETUP,
    *split.AVERAGE, *UShaped.AVERAGE,
    Arrow("step", DATA_OWNER, CLOUD_TRAINER, "z1", "Z1 = W1 X_B^T", type=Z1),
    *UShaped.STEP, *split.STEP,
    *InClear.AVERAGE, *Masked.AVERAGE, *InClear.AVERAGE_HEAD, *Masked.AVERAGE_HEAD,
    *Recoverable.AVERAGE,
)  # fmt: skip
PREDICT = (
    *split.PREDICT, *UShaped.PREDICT_MEAN,
    Arrow("predict", DATA_OWNER, CLOUD_TRAINER, "z1", "Z1 = W1 x", type=Z1),
    *UShaped.PREDICT, *AtCloud.PREDICT,
)  # fmt: skip


def roles(config: Options) -> tuple[Role, ...]:
    """Who takes part: one owner needs nobody to average."""
    return ROLES if config.owners == "many" else (DATA_OWNER, CLOUD_TRAINER)


def run(s: Session, config: Options) -> Iterator[Any]:
    """Train; yields the weights after each epoch and at the end, as revealed for measuring accuracy."""
    upper, noisy = UPPER[config.labels](config), NOISES[config.noise > 0](config)
    with s.phase("setup"):
        upper.join(s, schedule.newcomers(config, 0))
        upper.set_up(s)
        pixels.set_up(s, config)
    later = partial(schedule.newcomers, config)
    yield from split.train(s, config, upper, partial(train_step, s, noisy, upper), later)


def train_step(s: Session, noisy: Any, upper: AtCloud, o: At, visit: Visit) -> None:
    """One step of the owners of a round, each on a batch of its own."""
    c = s.at(CLOUD_TRAINER)
    # fmt: off
    z1 = noisy.on(o, o.do(first_layer, visit))                          # O: Z1 = W1 X_B^T, and noise
    z1 = s.gather(o.send(c, z1=z1))
    dz1 = upper.backward(s, o, z1, visit)                               # C, U-shaped O too: backward
    o.do(update_first, c.send(o, dz1=s.scatter(dz1, o)), visit)   # O: W1 <- W1 - lr dZ1 X_B / B
    # fmt: on


def first_layer(state: Owner, visit: Visit) -> split.Float:
    """O: Z1 (B, h) of its batch, in float32."""
    return z1_of(state, pixels.own_rows(state, visit))


def update_first(state: Owner, dz1: split.Float, visit: Visit) -> None:
    """O: W1 <- W1 - lr dZ1 X_B / B, by the optimizer, while the budget of revisits lasts."""
    if revisits.learns(state.config, visit):
        split.descend(state, dz1, pixels.own_rows(state, visit))


def predict(s: Session, config: Options, count: int) -> Iterator[Any]:
    """Ask for the classes of the querier's samples, which stay with it; yields those of each part."""
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    upper, noisy = UPPER[config.labels](config), NOISES[config.noise > 0](config)
    for part in inference.parts(count):
        with s.phase("predict", part):
            if part == 0:
                upper.mean.give(s, o)
            z1 = o.send(c, z1=noisy.on(o, o.do(queried_z1, part)))
            yield s.reveal(upper.tell(s, o, z1), why="prediction")


def queried_z1(state: Owner, part: int) -> split.Float:
    """O: Z1 (m, h) of a part of its samples."""
    return z1_of(state, training.own_samples(state, part, inference.ROWS))


def z1_of(state: State, x: NDArray[Any]) -> split.Float:
    """Z1 of samples, in float32."""
    config: Options = state.config
    z1: split.Float = nn.first_layer(x, state.w1.value, config.pixel_unit, config.conv).numpy()
    return z1


kept = split.kept
restore = inference.load_model
steps = split.steps
taking_part = schedule.taking_part


def unprotected(config: Training) -> tuple[str, Training]:
    """The baseline: where owners train copies that are averaged, the same without defences; else `plain`."""
    if config.owners == "one":
        return plain.unprotected(config)
    off = {"noise": 0.0, "order": Order.FIXED, "aggregation": Aggregation.CLEAR, "revisits": 0}
    return NAME, carried(Options, config, **off, **schedule.NOBODY_DROPPED)


def check(config: Options) -> None:
    """Refuse, before anything is started, a configuration that makes no sense here."""
    split.check(config)
    order.check(config)
    pixels.check(config)
    if config.labels is Labels.FEBO:
        raise ConfigError("mitig2 encrypts and rounds nothing: --labels clear or owner")


def describe(config: Options) -> dict[str, str]:
    """What protects this run, a line each."""
    lines = {**split.described(config, UPPER[config.labels]), **noise.described(config)}
    return {**lines, **pixels.described(config), **revisits.described(config)}


def relations(view: View) -> Iterator[relation.Relation]:
    """What a reader of a transcript may write down."""
    yield from samples.own(view)
    yield from samples.clear(view, "labels", relation.Labels)
    yield from read.products(view)
    yield from read.maps(view)
    yield from read.updates(view)
    yield from read.rest(view)
