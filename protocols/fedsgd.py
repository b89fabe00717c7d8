"""Federated learning: owners train the whole network on their own samples, a server averages it.

B. McMahan et al., *Communication-Efficient Learning of Deep Networks from Decentralized Data*, AISTATS 2017,
arXiv:1602.05629, algorithm 1. In each round the server A gives the network w to some owners; each takes
`local_steps` steps of SGD on batches of its own and sends its w_k back; A averages them. One step is FedSGD:
w - w_k is then the learning rate times the gradient of a batch, as the paper says in section 2, so that a
copy and a gradient are the same message; more steps are FedAvg.

What the parties learn by design: A sees the network before and after the steps of each owner, every owner the
average. Nothing hides more than that: A has W1 - W1' = (lr / B) sum_t dZ1_t X_t of an owner, the span of its
samples, and the changes of all layers above. What follows is a literature of its own, whose attacks are here:
`bias`, `exclusive`, `spear`, `lattice_span`, `cocktail`, `invert`, `grnn`, `tensor`, `stationary`.

    bias       a bias in the first layer: a unit that one sample moves gives that sample, dW1_i / db_i
    first      conv:FxRxC   the first layer is a convolution

Defences: `parts/changes.py` (clip, noise, prune), `parts/averaging.py` (secure aggregation),
`parts/recovery.py` (where owners leave).

Deviations from the paper: all copies count alike, whatever their owners hold; owners take turns in order, and
their batches are fixed, instead of being drawn. What an owner's momentum remembers stays with it where
everyone takes part in every round, and is forgotten at the end of a round where not. One owner computes what
`plain` does with `--init authority`, bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from protocols import plain
from protocols.language import relations as relation
from protocols.language.errors import Left
from protocols.language.figure import Arrow
from protocols.language.options import derived
from protocols.language.roles import DATA_OWNER, KEY_AUTHORITY
from protocols.language.session import Session
from protocols.language.state import Owner
from protocols.language.view import View
from protocols.network import inference, nn, schedule, training
from protocols.network.config import Aggregation, Biased, Convolved, Init, Labels, Order, Training, carried
from protocols.network.schedule import Visit, epochs_of_rounds
from protocols.parts import averaging, changes, defences, order, split
from protocols.parts.arrays import BETWEEN
from protocols.parts.averaging import WHOLE, InClear, Masked
from protocols.parts.changes import PRUNES
from protocols.parts.recovery import AVERAGES, Recoverable
from protocols.parts.split import UShaped
from protocols.readings import federated, samples

NAME = "fedsgd"
SUMMARY = "federated learning: owners train the whole network, a server averages their copies; no encryption"
SECURITY = "no encryption: samples stay with the owner, the server sees how each copy of the network moved"
ROLES = (DATA_OWNER, KEY_AUTHORITY)


@dataclass(frozen=True)
class Options(averaging.Options, changes.Options, Convolved, Biased):
    """What a run is made of: training, rounds and averages, what owners do to their changes."""

    init: Init = derived("who draws the first weights", Init.AUTHORITY)
    labels: Labels = derived("where labels are", Labels.OWNER)
    order: Order = derived("in which order owners use their samples", Order.FIXED)

    @property
    def owners(self) -> str:
        """`many`: the server averages the copy of one owner too."""
        return "many"


FIGURE = (
    *Masked.SETUP, *Recoverable.SETUP,
    *split.AVERAGE,
    Arrow("average", KEY_AUTHORITY, DATA_OWNER, "hidden_mean", "the layers between",
          when="depth=deep", type=BETWEEN),
    *UShaped.AVERAGE,
    *InClear.AVERAGE, *InClear.AVERAGE_BETWEEN, *InClear.AVERAGE_HEAD,
    *Masked.AVERAGE, *Masked.AVERAGE_BETWEEN, *Masked.AVERAGE_HEAD,
    *Recoverable.AVERAGE,
)  # fmt: skip
PREDICT = (
    *split.PREDICT,
    Arrow("predict", KEY_AUTHORITY, DATA_OWNER, "hidden_mean", "the layers between",
          when="depth=deep", type=BETWEEN),
    *UShaped.PREDICT_MEAN,
)  # fmt: skip


def run(s: Session, config: Options) -> Iterator[Any]:
    """Train; yields the weights after each epoch and at the end, as revealed for measuring accuracy."""
    a, mean, sent = s.at(KEY_AUTHORITY), averaged(config), PRUNES[config.prune > 0]()
    with s.phase("setup"):
        mean.set_up(s)  # A: w
    for epoch in epochs_of_rounds(config):
        for number, visits in epoch:
            o = s.each(DATA_OWNER, visits[0].owners(config))
            try:
                mean.hand_out(s, o, number)  # A -> O: w
            except Left:  # before any step: the round is lost
                continue
            for visit in visits:
                with s.phase("step", number * config.local_steps + visit.local):
                    if visit.local == 0:
                        sent.begin(o)
                    o.do(local_step, visit)  # O: w_k <- w_k - lr g_k
                    if visit.local == config.local_steps - 1:
                        sent.end(o)
            mean.collect(s, o, visits[-1], number)  # O -> A: w_k; A: w <- mean
        with s.phase("accuracy", (number + 1) * config.local_steps):
            yield s.reveal(a.do(training.weights), why="accuracy")


def averaged(config: Options) -> averaging.Alone:
    """How A gets the mean of the copies."""
    return AVERAGES[config.owners, config.aggregation, config.leavers](config, WHOLE[config.depth])


def local_step(o: Owner, visit: Visit) -> None:
    """O: forward, backward and update on its batch."""
    config: Options = o.config
    whole(o)
    x, y = order.own_rows(o, visit), order.own_labels(o, visit)
    p = training.forward_upper(o, nn.first_layer(x, o.w1.value, config.pixel_unit, config.conv))
    error = changes.clipped(o, training.output_error(p, y, config), x)
    dz1 = training.backward_upper(o, error)
    training.update_w1(o, training.first_layer_gradient(dz1, x, config))
    changes.add_noise(o, len(x))


def whole(o: Owner) -> None:
    """O: a network without layers between its first and its last has a list of none."""
    if getattr(o, "hidden", None) is None:
        o.hidden = []


def predict(s: Session, config: Options, count: int) -> Iterator[Any]:
    """The querier gets the network and classifies its own samples; yields the classes of each part."""
    o, mean = s.at(DATA_OWNER), averaged(config)
    for part in inference.parts(count):
        with s.phase("predict", part):
            if part == 0:
                mean.give(s, o)
            yield s.reveal(o.do(own_classes, part), why="prediction")


def own_classes(o: Owner, part: int) -> NDArray[Any]:
    """O: the classes of a part of its samples."""
    config: Options = o.config
    whole(o)
    x = training.own_samples(o, part, inference.ROWS)
    return inference.classes(o, nn.first_layer(x, o.w1.value, config.pixel_unit, config.conv))


kept = split.kept
restore = inference.load_model
steps = split.steps
taking_part = schedule.taking_part


def unprotected(config: Training) -> tuple[str, Training]:
    """The baseline: one owner's is `plain`, that of many the same without defences."""
    if len(config.counts) == 1:
        return plain.unprotected(config)
    off = {"aggregation": Aggregation.CLEAR, "clip": 0.0, "dp": 0.0, "prune": 0.0}
    return NAME, carried(Options, config, **off, **schedule.NOBODY_DROPPED)


def check(config: Options) -> None:
    """Refuse, before anything is started, a configuration that makes no sense here."""
    averaging.check(config)
    changes.check(config)


def describe(config: Options) -> dict[str, str]:
    """What protects this run, a line each."""
    lines = {**defences.described(config), **changes.described(config)}
    return {**lines, **AVERAGES[config.owners, config.aggregation, config.leavers].described}


def relations(view: View) -> Iterator[relation.Relation]:
    """What a reader of a transcript may write down."""
    yield from samples.own(view)
    yield from federated.relations(view)
