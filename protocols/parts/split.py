"""What MITIG1 and MITIG2 share: the network is split after the first layer, which stays with its owner.

The owner keeps W1 and its samples, the cloud the layers above; with many owners, copies of W1 are averaged
(`averaging.py`). The cloud has one network: it takes the batches of a step one after the other, as SplitFed
V2 does (C. Thapa et al., AAAI 2022, arXiv:2004.12088); U-shaped, where a batch comes back for the backward
pass, it takes them as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import ConfigError, Left
from protocols.language.figure import Arrow
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY
from protocols.language.session import At, Located, Revealed, Session
from protocols.language.state import Cloud, Owner, State
from protocols.network import inference, nn, training
from protocols.network.config import Labels
from protocols.network.schedule import Visit, epochs_of_rounds, round_count
from protocols.parts import averaging, defences, labels, order
from protocols.parts.arrays import HEAD, LABELS, LAST_INPUT, W1, Z1
from protocols.parts.averaging import FIRSTS, LAST, Options
from protocols.parts.recovery import AVERAGES

Float = NDArray[np.float32]

AVERAGE = (
    Arrow("average", KEY_AUTHORITY, DATA_OWNER, "w1_mean", "W1, for the owners of a round",
          when="owners=many", type=W1),
)  # fmt: skip
STEP = (Arrow("step", CLOUD_TRAINER, DATA_OWNER, "dz1", "dZ1; O: W1 <- W1 - lr dZ1 X_B / B", type=Z1),)
PREDICT = (Arrow("predict", KEY_AUTHORITY, DATA_OWNER, "w1_mean", "W1", when="owners=many", type=W1),)


class AtCloud:
    """The cloud holds every layer above the first, and the labels."""

    PREDICT = (Arrow("predict", CLOUD_TRAINER, DATA_OWNER, "classes", when="labels=clear", type=LABELS),)
    above: tuple[averaging.Held, ...] = ()  # layers at the owner besides W1
    described = "in the clear to the cloud"
    start = staticmethod(training.start_upper)

    def __init__(self, config: Any) -> None:
        layers = (FIRSTS[config.init], *self.above)
        self.mean = AVERAGES[config.owners, config.aggregation, config.leavers](config, layers)
        self.most = max(config.counts)

    def set_up(self, s: Session) -> None:
        """Draw the weights: the cloud its layers; the owner, or the authority for many owners to begin alike,
        the others.
        """
        self.mean.set_up(s)
        s.at(CLOUD_TRAINER).do(self.start)

    def upload(self, s: Session, part: int, rows: int) -> None:
        """O hands over the labels of a chunk of its samples."""
        labels.Clear().upload(s, part, rows)

    def join(self, s: Session, newcomers: Sequence[int]) -> None:
        """O hands over all its labels, as it takes part for the first time."""
        o, c = s.each(DATA_OWNER, newcomers), s.at(CLOUD_TRAINER)
        own = o.do(labels.own_labels, 0, self.most)
        c.do(keep_labels, s.gather(o.send(c, labels=own)))

    def backward(self, s: Session, o: At, z1: Located, visit: Visit) -> Located:
        """C: forward, backward; dZ1 for each owner."""
        dz1: Located = s.at(CLOUD_TRAINER).do(upper_layers, z1, visit)
        return dz1

    def tell(self, s: Session, o: At, z1: Located) -> Located:
        """O: the classes of samples that it asked about, from their Z1 at C."""
        c = s.at(CLOUD_TRAINER)
        told: Located = o.do(inference.take_classes, c.send(o, classes=c.do(classes, z1)))
        return told

    def reveal(self, s: Session) -> list[Revealed]:
        """All weights, from those who hold them, the lowest layers first, for the experimenter."""
        w1 = s.reveal(self.mean.holder(s).do(training.first_weights), why="accuracy")
        upper = s.reveal(s.at(CLOUD_TRAINER).do(training.upper_weights), why="accuracy")
        return [w1, upper]


class UShaped(AtCloud):
    """The owner also holds the last layer, and the labels."""

    AVERAGE = (
        Arrow("average", KEY_AUTHORITY, DATA_OWNER, "head_mean", "the last layer",
              when="owners=many,labels=owner", type=HEAD),
    )  # fmt: skip
    STEP = (
        Arrow("step", CLOUD_TRAINER, DATA_OWNER, "a", "input of the last layer",
              when="labels=owner", type=LAST_INPUT),
        Arrow("step", DATA_OWNER, CLOUD_TRAINER, "da", "its gradient", when="labels=owner", type=LAST_INPUT),
    )  # fmt: skip
    PREDICT = (
        Arrow("predict", CLOUD_TRAINER, DATA_OWNER, "a", "input of the last layer",
              when="labels=owner", type=LAST_INPUT),
    )  # fmt: skip
    PREDICT_MEAN = (
        Arrow("predict", KEY_AUTHORITY, DATA_OWNER, "head_mean", "the last layer",
              when="owners=many,labels=owner", type=HEAD),
    )  # fmt: skip
    above = (LAST,)
    described = "at the owner, with the last layer (U-shaped)"
    start = staticmethod(training.start_hidden)

    def upload(self, s: Session, part: int, rows: int) -> None:
        """Labels stay with their owner."""

    def join(self, s: Session, newcomers: Sequence[int]) -> None:
        """Labels stay with their owner."""

    def backward(self, s: Session, o: At, z1: Located, visit: Visit) -> Located:
        """C: forward up to the last layer; O: last layer, loss; C: backward; dZ1 for each owner."""
        c = s.at(CLOUD_TRAINER)
        a = c.send(o, a=s.scatter(c.do(hidden_layers, z1), o))  # C: forward up to the last layer
        da = o.send(c, da=o.do(last_layer, a, visit))  # O: last layer, loss
        dz1: Located = c.do(hidden_layers_backward, s.gather(da))  # C: backward
        return dz1

    def tell(self, s: Session, o: At, z1: Located) -> Located:
        """O: the classes of samples that it asked about, by its own last layer."""
        c = s.at(CLOUD_TRAINER)
        told: Located = o.do(last_classes, c.send(o, a=c.do(last_input, z1)))
        return told

    def reveal(self, s: Session) -> list[Revealed]:
        """The same, with the last layer above the others."""
        return [*super().reveal(s), s.reveal(self.mean.holder(s).do(training.upper_weights), why="accuracy")]


UPPER: MappingProxyType[Labels, type[AtCloud]] = MappingProxyType({
    Labels.CLEAR: AtCloud, Labels.OWNER: UShaped,
})  # fmt: skip


def train(
    s: Session,
    config: Options,
    upper: AtCloud,
    step: Callable[[At, Visit], None],
    joined: Callable[[int], Sequence[int]] = lambda number: (),
) -> Iterator[list[Revealed]]:
    """Round after round: `step(owners, visit)` for the local steps of the owners that take part, then the
    average; before it those of `joined(number)` join, after the first.

    Yields the weights after each epoch and at the end, as revealed for measuring accuracy.
    """
    for epoch in epochs_of_rounds(config):
        for number, visits in epoch:
            newcomers = joined(number) if number else ()  # those of the first round have joined
            if newcomers:
                with s.phase("setup", number):
                    upper.join(s, newcomers)
            o = s.each(DATA_OWNER, visits[0].owners(config))
            try:
                upper.mean.hand_out(s, o, number)
            except Left:  # before any step: the round is lost
                continue
            with suppress(Left):  # in the middle of the round: the others' copies count as they are
                for visit in visits:
                    with s.phase("step", number * config.local_steps + visit.local):
                        step(o, visit)
            upper.mean.collect(s, o, visits[-1], number)
        with s.phase("accuracy", (number + 1) * config.local_steps):
            yield upper.reveal(s)


def check(config: Options) -> None:
    """Refuse what a split network cannot mean."""
    averaging.check(config)
    if len(config.counts) == 1 and (config.per_round or config.local_steps > 1 or config.leavers == "some"):
        raise ConfigError(
            "--per-round, --local-steps, --dropout and --late are for many owners: give --owners too"
        )
    if config.init not in FIRSTS:
        raise ConfigError("in a split network the owner draws W1: --init owner, or shared for a public seed")


def described(config: Options, upper: type[AtCloud]) -> dict[str, str]:
    """Where labels are, and the defences in force, a line each."""
    lines = {"labels": upper.described, **defences.described(config)}
    return {**lines, **AVERAGES[config.owners, config.aggregation, config.leavers].described}


def steps(config: Options) -> int:
    """Training steps of a run."""
    return round_count(config) * config.local_steps


def kept(state: State) -> dict[str, Any]:
    """The layers that a party holds at the end; of many owners none, as the authority has the average."""
    many = state.config.owners == "many"
    return {} if many and state.role is DATA_OWNER else inference.model(state)


# -- O --


def last_layer(state: Owner, a: Float, visit: Visit) -> Float:
    """O, U-shaped: the last layer and the loss; updates it and returns dA."""
    config, held = state.config, training.tensor(a)
    y = order.own_labels(state, visit)
    error = training.output_error(nn.forward_output(state.output, held, config), y, config)
    da: Float = nn.backward_output(state.output, held, error, config).numpy()
    return da


def update_first(state: Owner, dz1: Float, visit: Visit) -> None:
    """O: W1 <- W1 - lr dZ1 X_B / B, by the optimizer."""
    descend(state, dz1, order.own_rows(state, visit))


def descend(state: Owner, dz1: Float, x: NDArray[Any]) -> None:
    """O: the same with X_B (B, n) as it enters the network."""
    config = state.config
    training.update_w1(
        state, nn.first_layer_gradient(training.tensor(dz1), x, config.pixel_unit, config.conv)
    )


def last_classes(state: Owner, a: Float) -> NDArray[Any]:
    """O, U-shaped: the class of each sample."""
    return inference.last_classes(state, training.tensor(a))


# -- C --


def keep_labels(state: Cloud, joined: list[NDArray[Any]]) -> None:
    """C: the labels of owners that join, who do so in their order."""
    state.held.setdefault("labels", []).extend(joined)
    training.check_rows([len(own) for own in joined], state.config, len(state.held["labels"]) - len(joined))


def upper_layers(state: Cloud, z1: list[Float], visit: Visit) -> list[Float]:
    """C: forward, backward and update on one owner's batch after the other; dZ1 for each."""
    owners = visit.owners(state.config)
    return [_upper_layers(state, own, owner, visit) for own, owner in zip(z1, owners, strict=True)]


def _upper_layers(state: State, z1: Float, owner: int, visit: Visit) -> Float:
    p = training.forward_upper(state, training.tensor(z1))
    y = state.held["labels"][owner][visit.rows(state.config, owner)]
    return training.backward_upper(state, training.output_error(p, y, state.config))


def hidden_layers(state: Cloud, z1: list[Float]) -> list[Float]:
    """C, U-shaped: forward up to the last layer; its input for each owner."""
    return divided(training.forward_hidden(state, joined(z1)).numpy(), z1)


def hidden_layers_backward(state: Cloud, da: list[Float]) -> list[Float]:
    """C, U-shaped: backward from the input of the last layer; dZ1 for each owner."""
    return divided(training.backward_hidden(state, joined(da)), da)


def classes(state: Cloud, z1: Float) -> NDArray[Any]:
    """C: the class of each sample."""
    return inference.classes(state, training.tensor(z1))


def last_input(state: Cloud, z1: Float) -> Float:
    """C, U-shaped: the input of the last layer."""
    a: Float = nn.forward_hidden(state.hidden, training.tensor(z1), state.config).a[-1].numpy()
    return a


def joined(parts: list[Float]) -> Any:
    """Arrays of many owners as one tensor, one owner after the other."""
    return training.tensor(parts[0] if len(parts) == 1 else np.concatenate(parts))


def divided(rows: Float, like: list[Float]) -> list[Float]:
    """The rows of each owner again."""
    edges = np.cumsum([len(part) for part in like])[:-1]
    return list(np.split(rows, edges))
