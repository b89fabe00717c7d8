"""What MITIG1 and MITIG2 share: the network is split after the first layer, which stays with its owner.

The owner keeps W1 and its samples, the cloud the layers above. With many owners each trains a copy of W1 on its own batches; after
every `local_steps` steps the authority averages the copies of those that took part, `per_round` of them in turn. The cloud has one
network: it takes the batches of a step one after the other, as SplitFed V2 does (C. Thapa et al., AAAI 2022, arXiv:2004.12088); U-shaped,
where a batch comes back for the backward pass, it takes them as one. Where not all take part in every round, an owner forgets its
copy, and what its optimizer remembers, at the end of a round: 10 000 owners need not hold 10 000 copies.

Defences (`defence.py`), and what they leave open:

    secure_aggregation   owners mask their copies, so that A learns their sum alone (`crypto/aggregate.py`). With C it then holds
                         sum_i (W - W_i') = lr sum_i dZ1_i X_i / B: the samples of *all* owners in a round as unknowns of h equations a
                         pixel, exact while they are at most h together. A and all owners but one subtract their copies; the average,
                         which every owner of the next round gets, is not protected
    reshuffle            an order of its own in each epoch. The cloud holds the labels, so it must know who is who: it hides nothing
    unlinkable           the same in private, with the labels at the owner: no message says which samples a batch holds. But Z1 of a
                         sample moves little from one epoch to the next: on digits (480 samples, h = 48) the nearest Z1 of the epoch before
                         is the same sample's for 10 % after the first epoch and for 96 % after the fifth (chance .2 %; with noise +-10
                         44 %), so who keeps all Z1 links them again
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto import aggregate
from protocols.language.errors import ConfigError
from protocols.language.figure import Arrow
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY
from protocols.language.session import At, Session
from protocols.language.state import State
from protocols.network import inference, nn, training
from protocols.network.config import (
    Aggregation,
    Config,
    Init,
    Labels,
    Order,
    Visit,
    permutation,
    round_count,
    rounds,
    rounds_per_epoch,
)
from protocols.parts import defences as defence

Float = NDArray[np.float32]

KEY_ARROWS = (
    Arrow("setup", DATA_OWNER, KEY_AUTHORITY, "pk", "X25519, for masks", when="aggregation=secure"),
    Arrow("setup", KEY_AUTHORITY, DATA_OWNER, "pks", "those of all owners", when="aggregation=secure"),
)
COPY_ARROWS = (
    Arrow("average", DATA_OWNER, KEY_AUTHORITY, "w1_copy", "W1 after the round; A: mean", when="owners=many,aggregation=clear"),
    Arrow("average", DATA_OWNER, KEY_AUTHORITY, "w1_masked", "W1 + masks; A: their sum", when="aggregation=secure"),
    Arrow("average", DATA_OWNER, KEY_AUTHORITY, "head_copy", "the last layer", when="owners=many,labels=owner,aggregation=clear"),
    Arrow("average", DATA_OWNER, KEY_AUTHORITY, "head_masked", "the last layer", when="labels=owner,aggregation=secure"),
)  # fmt: skip


def check(config: Config) -> None:
    """Refuse what a split network cannot mean."""
    if len(config.counts) == 1 and (config.per_round or config.local_steps > 1):
        raise ConfigError("--per-round and --local-steps are for many owners: give --owners too")
    if config.init is Init.CLOUD:
        raise ConfigError("in a split network the owner draws W1: --init owner, or shared for a public seed")
    if config.aggregation is Aggregation.SECURE and not 1 < config.members <= aggregate.MEMBERS:
        raise ConfigError(
            f"--defence secure-aggregation is for rounds of 2 to {aggregate.MEMBERS} owners, not {config.members}: "
            "set --owners and --per-round"
        )
    if config.order is Order.PRIVATE and config.labels is not Labels.OWNER:
        raise ConfigError(
            "--defence unlinkable needs --labels owner: with the labels the cloud would have to know who is who"
        )


def described(config: Config) -> dict[str, str]:
    """The defences in force, a line each."""
    lines = defence.described(config)
    if config.aggregation is Aggregation.SECURE:
        lines["aggregation"] = aggregate.SECURITY
    return lines


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
    if config.aggregation is Aggregation.SECURE:
        o, a = s.each(DATA_OWNER), s.at(KEY_AUTHORITY)
        keys = a.do(listed, s.gather(o.send(a, pk=o.do(draw_key))))
        o.do(keep_public_keys, a.send(o, pks=keys))


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
        average(s, config, o, visits[-1], number - 1)
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


def average(s: Session, config: Config, o: At, visit: Visit, number: int) -> None:
    """A averages the copies of a round, which it sees, or only their sum."""
    if config.owners == "one":
        return
    with s.phase("average", number):
        if config.aggregation is Aggregation.SECURE:
            average_masked(s, config, o, visit, number)
        else:
            average_copies(s, config, o)
        if not config.everyone:
            o.do(forget)


def average_copies(s: Session, config: Config, o: At) -> None:
    """A adds up copies in the clear."""
    a = s.at(KEY_AUTHORITY)
    a.do(average_first, s.gather(o.send(a, w1_copy=o.do(training.give_first))))
    if config.labels is Labels.OWNER:
        a.do(average_output, s.gather(o.send(a, head_copy=o.do(training.give_output))))


def average_masked(s: Session, config: Config, o: At, visit: Visit, number: int) -> None:
    """A adds up masked copies: the masks cancel in the sum."""
    a = s.at(KEY_AUTHORITY)
    a.do(average_masked_first, s.gather(o.send(a, w1_masked=o.do(masked_first, visit, number))))
    if config.labels is Labels.OWNER:
        a.do(average_masked_output, s.gather(o.send(a, head_masked=o.do(masked_output, visit, number))))


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
    return state.inputs["images"][own_order(state, visit)]


def own_labels(state: State, visit: Visit) -> NDArray[Any]:
    """O: y_B of its batch."""
    return state.inputs["labels"][own_order(state, visit)]


def own_order(state: State, visit: Visit) -> slice | NDArray[np.int64]:
    """O: which of its samples are its batch; where the order is private, drawn anew from its coins in each epoch."""
    config: Config = state.config
    if config.order is not Order.PRIVATE:
        return visit.rows(config, state.index)
    epoch, batch = visit.position(config, state.index)
    if state.held.get("order", (None,))[0] != epoch:
        drawn = permutation(state.coins.stream("order"), config.counts[state.index])
        state.held["order"] = epoch, drawn
    order: NDArray[np.int64] = state.held["order"][1]
    return order[batch]


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
    labels = own_labels(state, visit)
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


def draw_key(state: State) -> NDArray[np.uint8]:
    """O: a key pair for its masks; returns the public key."""
    state.held["x25519"], public = aggregate.key_pair(state.coins)
    return public


def listed(state: State, keys: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """A: the public keys (N, 32) of all owners, as it relays them."""
    return np.stack(keys)


def keep_public_keys(state: State, keys: NDArray[np.uint8]) -> None:
    """O: keep everybody's public key."""
    state.held["pks"] = keys


def masked_first(state: State, visit: Visit, number: int) -> NDArray[np.uint64]:
    """O: its copy of W1 under the masks of a round."""
    return _masked(state, training.give_first(state), visit, f"w1 {number}")


def masked_output(state: State, visit: Visit, number: int) -> NDArray[np.uint64]:
    """O: its copy of the last layer under the masks of a round."""
    return _masked(state, training.give_output(state), visit, f"head {number}")


def _masked(state: State, copy: Float, visit: Visit, use: str) -> NDArray[np.uint64]:
    members, held = visit.owners(state.config), state.held
    words = aggregate.fixed(copy, len(members))
    return aggregate.mask(words, state.index, members, held["x25519"], held["pks"], use)


def average_masked_first(state: State, copies: list[NDArray[np.uint64]]) -> None:
    """A: W1 <- mean of the copies, from their sum."""
    training.take_first(state, mean_of_sum(copies))


def average_masked_output(state: State, copies: list[NDArray[np.uint64]]) -> None:
    """A: the last layer <- mean of the copies, from their sum."""
    training.take_output(state, mean_of_sum(copies))


def mean_of_sum(copies: list[NDArray[np.uint64]]) -> Float:
    """Mean of arrays under masks that cancel in their sum."""
    return (aggregate.restore(aggregate.total(copies)) / len(copies)).astype(np.float32)


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
