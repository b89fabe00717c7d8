"""What MITIG1 and MITIG2 share: the network is split after the first layer, which stays with its owner.

The owner keeps W1 and its samples, the cloud the layers above. With many owners each trains a copy of W1 on its own batches; after
every `local_steps` steps the authority averages the copies of those that took part, `per_round` of them in turn. The cloud has one
network: it takes the batches of a step one after the other, as SplitFed V2 does (C. Thapa et al., AAAI 2022, arXiv:2004.12088); U-shaped,
where a batch comes back for the backward pass, it takes them as one. Where not all take part in every round, an owner forgets its
copy, and what its optimizer remembers, at the end of a round: 10 000 owners need not hold 10 000 copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols import inference, nn, training
from protocols.config import Config, Init, Labels, Visit, round_count, rounds, rounds_per_epoch
from protocols.errors import ConfigError
from protocols.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY
from protocols.session import At, Session
from protocols.state import State

Float = NDArray[np.float32]


def check(config: Config) -> None:
    """Refuse what a split network cannot mean."""
    if len(config.counts) == 1 and (config.per_round or config.local_steps > 1):
        raise ConfigError("--per-round and --local-steps are for many owners: give --owners too")
    if config.init is Init.CLOUD:
        raise ConfigError("in a split network the owner draws W1: --init owner, or shared for a public seed")


def steps(config: Config) -> int:
    """Training steps of a run."""
    return round_count(config) * config.local_steps


def start(s: Session, config: Config) -> None:
    """Draw the weights: the cloud its layers; the owner, or the authority for many owners to begin alike, the others."""
    first = s.at(DATA_OWNER) if config.owners == "one" else s.at(KEY_AUTHORITY)
    first.do(training.start_first)
    if config.labels is Labels.OWNER:
        first.do(training.start_output)
        s.at(CLOUD_TRAINER).do(training.start_hidden)
    else:
        s.at(CLOUD_TRAINER).do(training.start_upper)


def train(
    s: Session, config: Config, train_step: Callable[[Session, Config, At, Visit], None]
) -> Iterator[dict[str, Any]]:
    """Round after round: `train_step` for the local steps of the owners that take part, then the average.

    Yields the weights after each epoch and at the end, as revealed for measuring accuracy.
    """
    step = 0
    for number, visits in enumerate(rounds(config), start=1):
        o = s.each(DATA_OWNER, visits[0].owners(config))
        hand_out(s, config, o, number - 1)
        for visit in visits:
            with s.phase("step", step):
                train_step(s, config, o, visit)
            step += 1
        average(s, config, o, number - 1)
        if number % rounds_per_epoch(config) == 0 or number == round_count(config):
            with s.phase("accuracy", step):
                yield reveal(s, config)


def hand_out(s: Session, config: Config, o: At, number: int) -> None:
    """A gives the averaged weights to the owners of a round."""
    if config.owners == "one":
        return
    with s.phase("average", number):
        hand_out_weights(s, config, o)


def hand_out_weights(s: Session, config: Config, o: At) -> None:
    """A gives the average to owners, if there are many; a single one has its weights."""
    if config.owners == "one":
        return
    a = s.at(KEY_AUTHORITY)
    o.do(training.take_first, a.send(o, w1_mean=a.do(training.give_first)))
    if config.labels is Labels.OWNER:
        o.do(training.take_output, a.send(o, head_mean=a.do(training.give_output)))


def average(s: Session, config: Config, o: At, number: int) -> None:
    """A averages the copies of a round."""
    if config.owners == "one":
        return
    a = s.at(KEY_AUTHORITY)
    with s.phase("average", number):
        a.do(average_first, s.gather(o.send(a, w1_copy=o.do(training.give_first))))
        if config.labels is Labels.OWNER:
            a.do(average_output, s.gather(o.send(a, head_copy=o.do(training.give_output))))
        if not config.everyone:
            o.do(forget)


def reveal(s: Session, config: Config) -> dict[str, Any]:
    """All weights, from those who hold them, for the experimenter."""
    first = s.at(DATA_OWNER) if config.owners == "one" else s.at(KEY_AUTHORITY)
    w1 = s.reveal(first.do(training.first_weights), why="accuracy")
    upper = s.reveal(s.at(CLOUD_TRAINER).do(training.upper_weights), why="accuracy")
    if config.labels is not Labels.OWNER:
        return {**w1, **upper}
    head = s.reveal(first.do(training.upper_weights), why="accuracy")
    return {**w1, **{name: upper[name] + head[name] for name in upper}}


def kept(state: State) -> dict[str, Any]:
    """The layers that a party holds at the end; of many owners none, as the authority has the average."""
    many = state.config.owners == "many"
    return {} if many and state.role is DATA_OWNER else inference.model(state)


def store_labels(state: State, labels: list[NDArray[Any]]) -> None:
    """C: keep each owner's labels, chunk after chunk."""
    held = state.held.setdefault("labels", [own[:0] for own in labels])
    state.held["labels"] = [np.concatenate([own, more]) for own, more in zip(held, labels, strict=True)]


def own_rows(state: State, visit: Visit) -> NDArray[Any]:
    """O: X_B of its batch."""
    return state.inputs["images"][visit.rows(state.config, state.index)]


def upper_layers(state: State, z1: list[Float], visit: Visit) -> list[Float]:
    """C: forward, backward and update on one owner's batch after the other; dZ1 for each."""
    owners = visit.owners(state.config)
    return [_upper_layers(state, own, owner, visit) for own, owner in zip(z1, owners, strict=True)]


def _upper_layers(state: State, z1: Float, owner: int, visit: Visit) -> Float:
    p = training.forward_upper(state, training.tensor(z1))
    labels = state.held["labels"][owner][visit.rows(state.config, owner)]
    return training.backward_upper(state, training.output_error(p, labels, state.config))


def hidden_layers(state: State, z1: list[Float]) -> list[Float]:
    """C, U-shaped: forward up to the last layer; its input for each owner."""
    return divided(training.forward_hidden(state, joined(z1)).numpy(), z1)


def hidden_layers_backward(state: State, da: list[Float]) -> list[Float]:
    """C, U-shaped: backward from the input of the last layer; dZ1 for each owner."""
    return divided(training.backward_hidden(state, joined(da)), da)


def last_layer(state: State, a: Float, visit: Visit) -> Float:
    """O, U-shaped: the last layer and the loss; updates it and returns dA."""
    config, held = state.config, training.tensor(a)
    labels = state.inputs["labels"][visit.rows(config, state.index)]
    error = training.output_error(nn.forward_output(state.output, held, config), labels, config)
    da: Float = nn.backward_output(state.output, held, error, config).numpy()
    return da


def update_first(state: State, dz1: Float, visit: Visit) -> None:
    """O: W1 <- W1 - lr dZ1 X_B / B, by the optimizer."""
    x = own_rows(state, visit)
    training.update_w1(
        state, nn.first_layer_gradient(training.tensor(dz1), x, state.config.pixel_unit, state.config.conv)
    )


def average_first(state: State, copies: list[Float]) -> None:
    """A: W1 <- mean of the copies."""
    training.take_first(state, mean(copies))


def average_output(state: State, copies: list[Float]) -> None:
    """A: the last layer <- mean of the copies."""
    training.take_output(state, mean(copies))


def forget(state: State) -> None:
    """O: keep nothing of a round but its samples."""
    state.w1 = state.output = None


def mean(copies: list[Float]) -> Float:
    """Mean of arrays of one shape, summed in their order in float64."""
    total = np.zeros(copies[0].shape)
    for copy in copies:
        total += copy
    return (total / len(copies)).astype(np.float32)


def joined(parts: list[Float]) -> Any:
    """Arrays of many owners as one tensor, one owner after the other."""
    return training.tensor(parts[0] if len(parts) == 1 else np.concatenate(parts))


def divided(rows: Float, like: list[Float]) -> list[Float]:
    """The rows of each owner again."""
    edges = np.cumsum([len(part) for part in like])[:-1]
    return list(np.split(rows, edges))
