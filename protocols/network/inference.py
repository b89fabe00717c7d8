"""What the protocols share when the trained network is asked: the querier is the first data owner, with new
samples.

A protocol's `predict` says the same messages as a forward pass of its training, under the same protection,
and the predicted classes go to the querier only. Its arrows are in `PREDICT`. What a party needs for it after
the run is what `kept` returns and `restore` takes: plain data, written by the party's own host.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.language.state import Owner, State
from protocols.network import nn, training
from protocols.network.config import Training

ROWS = 4096  # samples in a message


def parts(count: int, rows: int = ROWS) -> Iterator[int]:
    """Numbers of the parts in which `count` samples are asked."""
    return iter(range(-(-count // rows)))


def classes(state: State, z1: torch.Tensor) -> NDArray[np.int16]:
    """The class of each sample from Z1 (m, h), by a party that holds every layer above the first."""
    run = nn.forward_hidden(state.hidden, z1, state.config)
    return last_classes(state, run.a[-1])


def last_classes(state: State, a: torch.Tensor) -> NDArray[np.int16]:
    """The class of each sample from the input of the last layer (m, width)."""
    p = nn.forward_output(state.output, a, state.config)
    return p.argmax(1).numpy().astype(np.int16)


def take_classes(state: Owner, predicted: NDArray[np.int16]) -> NDArray[np.int16]:
    """O: what it was told."""
    return predicted


def model(state: State) -> dict[str, Any]:
    """The weights that a party holds."""
    kept: dict[str, Any] = {}
    if getattr(state, "w1", None) is not None:
        kept["w1"] = state.w1.value.numpy()
    if getattr(state, "hidden", None) is not None:
        kept["hidden"] = [[layer.weight.value.numpy(), layer.bias.value.numpy()] for layer in state.hidden]
    if getattr(state, "output", None) is not None:
        kept["output"] = [state.output.weight.value.numpy(), state.output.bias.value.numpy()]
    return kept


def load_model(state: State, kept: dict[str, Any]) -> None:
    """The weights that `model` returned."""
    config: Training = state.config
    if "w1" in kept:
        state.w1 = nn.track(training.tensor(kept["w1"]), config)
    if "hidden" in kept:
        state.hidden = [_layer(weight, bias, config) for weight, bias in kept["hidden"]]
    if "output" in kept:
        weight, bias = kept["output"]
        state.output = _layer(weight, bias, config)


def _layer(weight: NDArray[Any], bias: NDArray[Any], config: Training) -> nn.Layer:
    return nn.Layer(nn.track(training.tensor(weight), config), nn.track(training.tensor(bias), config))
