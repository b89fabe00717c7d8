"""What crosses the cut of a split network in torch: activations upwards, their gradients downwards.

with keyhole.record("runs/mine", roles=("data_owner:0", "cloud_trainer"), shape=(28, 28), counts=(600,)) as r:
    with keyhole.watch(r, bottom, owner="data_owner:0", cloud="cloud_trainer", sgd=Sgd(lr=0.1)) as cut:
        for x, y, index in batches:
            cut.samples(index)                       # which samples: positions among all
            loss = f(top(bottom(x)), y)              # recorded as it runs
            loss.backward()
            ...

`bottom` is the part of the network that the owner holds; the code that trains is not changed otherwise. A
forward pass in training is a round: what it gives crosses as `activations`, the gradient of the loss by it as
`gradients`.

Relations follow where `bottom` is one dense layer without a bias, in front of which nothing but a reshaping
stands, and the samples of every pass are named: activations are `Products` of the samples, a pixel entering
as a `unit`-th part. Where SGD is stated, with a step after every pass, so is how the layer moved: `Update`.
Of any other `bottom` nothing is stated, so that what crosses reads "not analysed".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from protocols.language.errors import ConfigError
from protocols.language.relations import Map, Positions, Products, Update
from protocols.language.roles import index_of
from protocols.language.statements import Said, steps
from scenarios.recorder.recorder import Recorder

if TYPE_CHECKING:
    import torch

_STEPS = 4096  # of which it is stated how the layer moved: the terms of each are as many numbers


@dataclass(frozen=True)
class Sgd:
    """How the owner's layer is trained: v <- `momentum` v + g, W <- W - `lr` v, after every pass; no weight
    decay, no dampening.
    """

    lr: float
    momentum: float = 0.0


class Cut:
    """The cut of a network while it is watched."""

    def __init__(
        self, recorder: Recorder, bottom: torch.nn.Module, ends: tuple[str, str], sgd: Sgd | None, unit: float
    ) -> None:
        self._recorder, self._ends, self._sgd, self._unit = recorder, ends, sgd, unit
        self._owner, self._first = index_of(ends[0]), _first_layer(bottom)
        self._index: Positions | None = None
        self._round = 0
        self._passes: list[tuple[Positions | None, Said | None]] = []
        self._width: int | None = None

    def samples(self, index: Sequence[int] | Positions) -> None:
        """Name the samples of the next pass, by their positions among all."""
        self._index = np.asarray(index, np.int64).reshape(-1)

    def forward(self, module: torch.nn.Module, given: tuple[Any, ...], out: Any) -> None:
        """After the owner's part: what leaves it crosses. A pass without gradients is no training."""
        del given
        if not getattr(out, "requires_grad", False) or not module.training:
            return
        self._recorder.begin(self._round)
        sent = self._recorder.send(*self._ends, activations=out)
        index, self._index = self._index, None
        if index is not None and len(index) != len(out):
            raise ConfigError(f"{len(index)} samples were named for a pass of {len(out)}")
        if self._first is not None and index is not None:
            which = Map("w1", self._owner, self._round)
            self._recorder.relation(Products(index, sent.times(self._unit), which))
        number = self._round
        self._passes.append((index, None))
        self._round += 1
        out.register_hook(lambda gradient: self._backward(number, gradient))

    def _backward(self, number: int, gradient: torch.Tensor) -> None:
        self._recorder.begin(number)
        owner, cloud = self._ends
        sent = self._recorder.send(cloud, owner, gradients=gradient)
        index, before = self._passes[number]
        if before is not None:  # a second backward pass adds to the gradient
            raise ConfigError(
                "two backward passes of one forward pass: what the layer moves by is not theirs"
            )
        self._passes[number] = index, sent

    def close(self) -> None:
        """State how the layer moved, for as long as every pass had named samples and a gradient."""
        told = [(index, sent) for index, sent in self._passes if index is not None and sent is not None]
        if self._first is None or self._sgd is None or len(told) < len(self._passes):
            return
        told = told[:_STEPS]
        moved = steps(tuple(index for index, _ in told), tuple(sent for _, sent in told))
        count = len(told)
        for t in range(1, count + (count < len(self._passes))):
            terms = np.zeros(count)
            terms[:t] = self._sgd.lr / self._unit * self._sgd.momentum ** np.arange(t - 1, -1, -1)
            before, after = (Map("w1", self._owner, time) for time in (t - 1, t))
            self._recorder.relation(Update(before, after, terms, moved, since=t))


def _first_layer(bottom: torch.nn.Module) -> torch.nn.Linear | None:
    """The dense layer without a bias that the owner's part is, if it is one."""
    from torch import nn

    layers = list(bottom.children()) if isinstance(bottom, nn.Sequential) else [bottom]
    layers = [layer for layer in layers if not isinstance(layer, nn.Flatten | nn.Identity)]
    alone = layers[0] if len(layers) == 1 else None
    return alone if isinstance(alone, nn.Linear) and alone.bias is None else None


@contextmanager
def watch(
    recorder: Recorder,
    bottom: torch.nn.Module,
    *,
    owner: str,
    cloud: str,
    sgd: Sgd | None = None,
    unit: float = 1.0,
) -> Iterator[Cut]:
    """Record what crosses between the owner's part of a network and the rest while the block runs.

    `unit`: what a whole pixel is divided by before it enters, such as 255; relations are false of samples
    that enter otherwise (less their mean, say): then give none, by leaving the samples unnamed.
    """
    cut = Cut(recorder, bottom, (owner, cloud), sgd, unit)
    hook = bottom.register_forward_hook(cut.forward)
    try:
        yield cut
        cut.close()
    finally:
        hook.remove()
