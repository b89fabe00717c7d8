"""The mean loss of a network as a function of its weights and of its inputs, which torch differentiates.

The same network as in `nn.py`, whose passes are written by hand: that module is for parties, which train;
this one for who asks what a gradient says of the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from protocols.network import conv
from protocols.network.config import Activation, Loss, Training


def mean_loss(
    weights: Sequence[torch.Tensor], x: torch.Tensor, y: torch.Tensor, config: Training
) -> torch.Tensor:
    """Of images x (m, n) in [0, 1] and rows y (m, k) of probabilities; `weights`: W1, then a weight and a
    bias of each layer above it.
    """
    first, *upper = weights
    a = _activated(_first(first, x * (config.x_max / config.pixel_unit), config), config)
    for weight, bias in zip(upper[:-2:2], upper[1:-2:2], strict=True):
        a = _activated(functional.linear(a, weight, bias), config)
    outputs = functional.linear(a, upper[-2], upper[-1])
    if config.loss is Loss.CE:
        return -(y * functional.log_softmax(outputs, 1)).sum(1).mean()
    return functional.binary_cross_entropy_with_logits(outputs, y, reduction="none").sum(1).mean()


def _first(w1: torch.Tensor, x: torch.Tensor, config: Training) -> torch.Tensor:
    layer = config.conv
    columns = x.shape[1] if layer is None else layer.length
    w, bias = w1[:, :columns], w1[:, columns] if config.biased else None
    if layer is None:
        return functional.linear(x, w, bias)
    patches = x[:, torch.from_numpy(conv.taps(layer).copy())]
    return functional.linear(patches, w, bias).transpose(1, 2).reshape(len(x), layer.outputs)


def _activated(z: torch.Tensor, config: Training) -> torch.Tensor:
    return torch.relu(z) if config.activation is Activation.RELU else torch.sigmoid(z)
