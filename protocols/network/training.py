"""Local steps of training that several protocols share; each runs at the party that holds the model.

Who holds W1 keeps it as `state.w1` (h, n), or kernels (F, L) of a first convolution, and h then stands for
the F P numbers of Z1; who holds layers above it as `state.hidden` and `state.output`. Rounding is part of a
step, so that a protocol on encrypted data and `plain` with the same weight scale compute the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.language.errors import MalformedError
from protocols.language.precision import real
from protocols.language.state import Owner, State
from protocols.network import nn
from protocols.network.config import Rounded, RoundedLabels, Training
from protocols.network.schedule import Batch


def start_model(state: State) -> None:
    """Draw all weights from the party's own generator."""
    start_first(state)
    start_upper(state)


def start_first(state: State) -> None:
    """Draw W1 in private."""
    state.w1 = nn.draw_first(state.config, state.rng)


def start_public_first(state: State) -> None:
    """W1 from the public seed."""
    state.w1 = nn.draw_public(state.config)


def start_upper(state: State) -> None:
    """Draw every layer above the first."""
    *state.hidden, state.output = nn.draw_layers(nn.upper_sizes(state.config), state.config, state.rng)


def start_hidden(state: State) -> None:
    """Draw the layers between the first and the last."""
    state.hidden = nn.draw_layers(nn.hidden_sizes(state.config), state.config, state.rng)


def start_output(state: State) -> None:
    """Draw the last layer."""
    (state.output,) = nn.draw_layers(nn.upper_sizes(state.config)[-2:], state.config, state.rng)


def give_first(state: State) -> NDArray[np.float32]:
    """W1 (h, n)."""
    w1: NDArray[np.float32] = state.w1.value.numpy()
    return w1


def take_first(state: State, w1: NDArray[np.float32]) -> None:
    """Replace W1; what the optimizer remembers of the party's own steps stays."""
    if getattr(state, "w1", None) is None:
        state.w1 = nn.track(tensor(w1), state.config)
    else:
        state.w1.value.copy_(tensor(w1))


def give_hidden(state: State) -> NDArray[np.float32]:
    """The layers between the first and the last, one after the other: weights row by row, then biases."""
    weights = [
        weight.value.numpy().ravel() for layer in state.hidden for weight in (layer.weight, layer.bias)
    ]
    flat: NDArray[np.float32] = np.concatenate(weights)
    return flat


def take_hidden(state: State, flat: NDArray[np.float32]) -> None:
    """Replace the layers between the first and the last."""
    found, at = [], 0
    for into, out in pairwise(nn.hidden_sizes(state.config)):
        weight = tensor(flat[at : at + out * into].reshape(out, into))
        at += out * into
        found.append((weight, tensor(flat[at : at + out])))
        at += out
    if getattr(state, "hidden", None) is None:
        track = partial(nn.track, config=state.config)
        state.hidden = [nn.Layer(track(weight), track(bias)) for weight, bias in found]
        return
    for layer, (weight, bias) in zip(state.hidden, found, strict=True):
        layer.weight.value.copy_(weight)
        layer.bias.value.copy_(bias)


def give_output(state: State) -> NDArray[np.float32]:
    """The last layer (k, width + 1): weights, then biases."""
    layer = state.output
    head: NDArray[np.float32] = np.concatenate(
        [layer.weight.value.numpy(), layer.bias.value.numpy()[:, None]], axis=1
    )
    return head


def take_output(state: State, head: NDArray[np.float32]) -> None:
    """Replace the last layer."""
    weight, bias = tensor(head[:, :-1]), tensor(head[:, -1])
    if getattr(state, "output", None) is None:
        state.output = nn.Layer(nn.track(weight, state.config), nn.track(bias, state.config))
    else:
        state.output.weight.value.copy_(weight)
        state.output.bias.value.copy_(bias)


def quantised_w1(state: State) -> NDArray[Any]:
    """W1 as integers (h, n), `weight_scale` steps a unit; `BoundError` beyond the weight bound."""
    return quantise(state.w1.value.numpy(), state.config, "W1")


def quantise(values: NDArray[Any], config: Rounded, what: str) -> NDArray[Any]:
    """Round reals to the integers of the weights' fixed-point format."""
    return config.weights.quantise(values, what)


def dequantise(products: NDArray[np.int64], config: Rounded) -> torch.Tensor:
    """Reals of products of weights and pixels: one division by both scales, in float64, then float32."""
    return torch.from_numpy((products / (config.weight_scale * config.pixel_unit)).astype(real()))


def forward_upper(state: State, z1: torch.Tensor) -> torch.Tensor:
    """Forward pass from Z1 (B, h); keeps the pass and returns P (B, k)."""
    return nn.forward_output(state.output, forward_hidden(state, z1), state.config)


def forward_hidden(state: State, z1: torch.Tensor) -> torch.Tensor:
    """Forward pass from Z1 (B, h) up to the last layer; keeps the pass and returns its input (B, width)."""
    state.run = nn.forward_hidden(state.hidden, z1, state.config)
    a: torch.Tensor = state.run.a[-1]
    return a


def rounded_p(p: torch.Tensor, config: RoundedLabels) -> NDArray[Any]:
    """P (B, k) as integers, `label_scale` steps a unit."""
    return config.probabilities.quantise(p.numpy(), "P")


def rounded_labels(labels: NDArray[Any], config: RoundedLabels) -> NDArray[np.int64]:
    """One-hot Y (B, k) as integers, `label_scale` steps a unit."""
    if labels.dtype.kind == "f":  # rows of reals, in an audit
        return labels * config.label_scale
    hot: NDArray[np.int64] = np.eye(config.classes, dtype=np.int64)[labels] * config.label_scale
    return hot


def output_error(p: torch.Tensor, labels: NDArray[Any], config: Training) -> torch.Tensor:
    """P - Y (B, k) for labels in the clear."""
    return p - nn.one_hot(labels, config.classes)


def restored_error(y_minus_p: NDArray[np.int64], config: RoundedLabels) -> torch.Tensor:
    """P - Y (B, k) as reals from the integers Y - P that FEBO decrypts to."""
    return torch.from_numpy((-y_minus_p / config.label_scale).astype(real()))


def backward_upper(state: State, error: torch.Tensor) -> NDArray[np.float32]:
    """Backward pass through all upper layers, which are updated; returns dZ1 (B, h)."""
    return backward_hidden(state, nn.backward_output(state.output, state.run.a[-1], error, state.config))


def backward_hidden(state: State, da: torch.Tensor) -> NDArray[np.float32]:
    """Backward pass below the last layer, from dA (B, width); returns dZ1 (B, h)."""
    dz1: NDArray[np.float32] = nn.backward_hidden(state.hidden, state.run, da, state.config).numpy()
    del state.run
    return dz1


def rounded_dw1(products: NDArray[np.int64], size: int, config: Rounded) -> torch.Tensor:
    """dW1 (h, n) of the exact products of rounded dZ1 and integer pixels, for a batch of `size`."""
    return dequantise(products, config) / size


def first_layer_gradient(dz1: NDArray[np.float32], x: NDArray[Any], config: Training) -> torch.Tensor:
    """dW1 (h, n) of dZ1 (B, h) and integer pixels (B, n)."""
    held = torch.from_numpy(np.array(dz1))
    return nn.first_layer_gradient(held, x, config.pixel_unit, config.conv, config.biased)


def upper_layers(state: State, z1: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float32]:
    """Forward and backward pass and update of all upper layers, labels in the clear; dZ1 (B, h)."""
    p = forward_upper(state, tensor(z1))
    return backward_upper(state, p - nn.one_hot(labels, state.config.classes))


def update_first(state: State, dz1: NDArray[np.float32], batch: Batch) -> None:
    """W1 <- W1 - lr dZ1^T X_B / B, of a batch of the party's own samples."""
    x = batch_slice(state.inputs["images"], batch)
    update_w1(state, nn.first_layer_gradient(tensor(dz1), x, state.config.pixel_unit, state.config.conv))


def update_w1(state: State, dw1: torch.Tensor) -> None:
    """One step of the optimizer on W1."""
    nn.descend(state.w1, dw1, state.config)


def weights(state: State) -> dict[str, Any]:
    """All weights as plain arrays, for the experimenter who measures accuracy."""
    return {**first_weights(state), **upper_weights(state)}


def first_weights(state: State) -> dict[str, Any]:
    """W1 as a plain array."""
    return {"w1": state.w1.value.numpy().copy()}


def upper_weights(state: State) -> dict[str, Any]:
    """The layers above the first as plain arrays, of those that the party holds."""
    layers = [*getattr(state, "hidden", ()), *([state.output] if hasattr(state, "output") else ())]
    return {
        "weights": [layer.weight.value.numpy().copy() for layer in layers],
        "biases": [layer.bias.value.numpy().copy() for layer in layers],
    }


def own_samples(state: Owner, part: int, rows: int) -> NDArray[Any]:
    """O: a chunk of rows of X, integers (m, n)."""
    return state.inputs["images"][part * rows : (part + 1) * rows]


def check_rows(held: Sequence[int], config: Training, first: int = 0) -> None:
    """Raise unless each owner, from the first on, has handed over as many samples as the others, or all."""
    furthest = max(held)
    for owner, rows in enumerate(held, start=first):
        count = config.counts[owner]
        if rows != min(count, furthest):
            raise MalformedError(f"{rows} rows of owner {owner}, of {count}, where others sent {furthest}")


def batch_slice(values: NDArray[Any], batch: Batch) -> NDArray[Any]:
    """The rows of a batch."""
    return values[batch.start : batch.stop]


def tensor(values: NDArray[np.float32]) -> torch.Tensor:
    """A tensor of its own from an array that arrived (those are read-only)."""
    return torch.from_numpy(np.array(values, dtype=real()))
