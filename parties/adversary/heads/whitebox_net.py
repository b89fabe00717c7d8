"""`whitebox` with a small convolutional network instead of the ridge, the shape of the attack in its paper.

R. Allison, T. Maciazek, H. Bourne, arXiv:2505.14323: a network learns on shadow heads to draw the image from
the parameters. Deviation: it is small enough for minutes on a processor (dense, twice as large, convolution,
convolution), and one network draws all classes, told which.

Input: row c of a head, standardised, and c one-hot; output: the image of class c. Mean squared error, Adam,
deterministic by `rng`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from parties.adversary.attack import NotApplicable, Prior, Reconstruction, Relations
from parties.adversary.heads.shadows import Shadows, images_of_classes, rows_of, shadows_of, task_of
from protocols.language.head_relations import HeadWeights
from protocols.network.head import Float, Heads

NAME = "whitebox_net"
SUMMARY = "training images from the parameters of a head, by a convolutional network trained on shadow heads"
CONSUMES = (HeadWeights,)

_WIDTH, _CHANNELS = 256, (24, 12)
_EPOCHS, _BATCH, _LR = 12, 256, 2e-3
_SHADOWS = 4000  # at most; more cost minutes


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Images of every owner and class."""
    relations.need(*CONSUMES)
    if len(prior.shape) < 2:
        raise NotApplicable(f"no image: a row of {prior.pixels} columns, which a convolution cannot draw")
    heads, shadows = next(relations.of(HeadWeights)), shadows_of(task_of(relations), prior).first(_SHADOWS)
    images = rebuild_by_net(shadows, Heads(heads.layers()), prior.shape, rng)
    return images_of_classes(heads.owners, images, shadows=len(shadows.images))


def rebuild_by_net(
    shadows: Shadows, victims: Heads, shape: tuple[int, ...], rng: np.random.Generator
) -> Float:
    """Images (V, k, n) of V victims' heads, for images of this shape."""
    known = rows_of(shadows.heads)
    mean, std = known.mean(0), np.maximum(known.std(0), 1e-3 * known.std(0).max())
    x, targets = _inputs((known - mean) / std), shadows.images.reshape(-1, shadows.images.shape[2])
    middle = targets.mean(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same bits whatever the machine
    try:
        net = _Net(x.shape[1], shape, rng)
        _train(net, torch.from_numpy(x), torch.from_numpy(targets - middle), rng)
        with torch.no_grad():
            found = net(torch.from_numpy(_inputs((rows_of(victims) - mean) / std))).numpy()
    finally:
        torch.set_num_threads(threads)
    images: Float = np.clip(found + middle, 0, 1).reshape(len(victims), -1, targets.shape[1])
    return images


class _Net(nn.Module):
    def __init__(self, inputs: int, shape: tuple[int, ...], rng: np.random.Generator) -> None:
        super().__init__()
        self.small = (-(-shape[0] // 2), -(-shape[1] // 2))
        self.image, channels = shape, shape[2] if len(shape) == 3 else 1
        first, second = _CHANNELS
        self.dense = nn.Sequential(
            nn.Linear(inputs, _WIDTH),
            nn.ReLU(),
            nn.Linear(_WIDTH, first * self.small[0] * self.small[1]),
            nn.ReLU(),
        )
        self.conv = nn.Sequential(
            nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.Conv2d(second, channels, 3, padding=1)
        )
        for parameter in self.parameters():  # from `rng`, not from torch's global generator
            bound = 1.0 / np.sqrt(max(1, int(np.prod(parameter.shape[1:]))))
            drawn = (
                rng.uniform(-bound, bound, tuple(parameter.shape))
                if parameter.dim() > 1
                else np.zeros(len(parameter))
            )
            parameter.data = torch.from_numpy(drawn.astype(np.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = self.dense(x).reshape(len(x), -1, *self.small)
        drawn: torch.Tensor = self.conv(nn.functional.interpolate(grid, scale_factor=2))
        return drawn[:, :, : self.image[0], : self.image[1]].permute(0, 2, 3, 1).reshape(len(x), -1)


def _train(net: _Net, x: torch.Tensor, targets: torch.Tensor, rng: np.random.Generator) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr=_LR)
    total = _EPOCHS * -(-len(x) // _BATCH)
    for step, rows in enumerate(_batches(len(x), rng)):
        for group in optimizer.param_groups:
            group["lr"] = _LR * (1 - step / total)
        optimizer.zero_grad()
        nn.functional.mse_loss(net(x[rows]), targets[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _batches(count: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    for _ in range(_EPOCHS):
        yield from np.array_split(rng.permutation(count), -(-count // _BATCH))


def _inputs(rows: NDArray[np.floating]) -> Float:
    """Rows (V, k, p) as (V k, p + k), the class one-hot beside them."""
    count, classes, _ = rows.shape
    told = np.broadcast_to(np.eye(classes, dtype=np.float32), (count, classes, classes))
    return np.concatenate([rows, told], axis=2).reshape(count * classes, -1).astype(np.float32)
