"""Least squares on a first convolution: keys of F kernels at P positions are F P equations for the n pixels
of an image.

Where a dense layer gives h < n equations a step, a convolution gives more than there are pixels: MNIST with
`conv:6x5x5` 3456 for 784, and they are as well-conditioned as equations come. One step suffices, the first,
for every sample, used in it or not. Kernels over RGB give sums over the channels, and it is these sums that
are solved: the code of Ionita and Ionita (RAID 2025, arXiv:2509.21497) attacks a ResNet's first layer with a
share for each channel, which FE does not reveal, and there is no need of it.

When is one step enough? Write an image as x = (x_1, ..., x_c), its channels. A pattern that every kernel maps
to zero is a combination of u^i v^j a for pixel (i, j), where the F x c matrix of the kernels' polynomials has
rank below c at (u, v) and a is in its null space. For kernels in general position, of R x C pixels
(polynomials of degree R - 1 and C
- 1):

    F <= c       P F equations, all of them independent, and fewer than n F = c + 1    F (F - 1) (R - 1) (C -
    1) such points (Bezout and Porteous), by which the rank falls short of n F >= c + 2   none: the rank is n
    as soon as there are n equations

so gray images need 3 kernels and RGB 5; where they are fewer, the next step brings others. This count is this
project's. Cost: a sparse product, a Cholesky factor of size n and F P decryptions a sample. Assumes nothing
of the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.attacks.all_keys import blank, told
from parties.adversary.solvers.least_squares import LeastSquares
from protocols.language.relations import Instance, now
from protocols.network.conv import Convolution

NAME = "conv"
SUMMARY = "a first convolution: all kernels at all positions by least squares, exact integers from one step"
CONSUMES = (Instance,)

_STEPS = 8  # whose keys are tried at most: more kernels help only while they differ
_ROWS = 256  # samples decrypted at a time


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Solve for every sample, from as few steps as have full rank; samples that no integers explain are
    failures.
    """
    del rng  # nothing here is drawn
    instance = told(relations)[0]
    layer = instance.layer
    if layer is None:
        raise NotApplicable("the first layer is dense: its equations are those of stack")
    system, keys, ranks = gather(instance)
    if not system.full:
        raise NotApplicable(f"{_short(layer, ranks)}; smooth takes the smoothest of the images that are left")
    values = blank(relations, instance.columns)
    for number, block in enumerate(instance.blocks):
        for start in range(0, len(block), _ROWS):
            which = np.arange(start, min(start + _ROWS, len(block)))
            z = np.hstack([instance.products(key, number, which) for key in keys])
            x, right = system.solve_integers(z)
            values[block[which[right]]] = x[right] / prior.x_max
    solved = int(np.isfinite(values[:, 0]).sum())
    notes = {"equations": system.equations, "unknowns": layer.features, "solved_in_integers": solved}
    return Reconstruction(
        quantity=Quantity.IMAGES,
        index=np.arange(len(values)),
        values=values,
        solved_at_step=ranks[-1][0],
        notes={**notes, "ranks": [list(point) for point in ranks], "rank_expected": expected_rank(layer)},
    )


def gather(instance: Instance) -> tuple[LeastSquares, list[Any], list[tuple[int, int]]]:
    """The equations of the first steps until they determine the images, the keys, and (round, rank) after
    each.
    """
    system, keys, ranks = LeastSquares(instance.columns), [], []
    for message in instance.messages():
        keys.append(now(message.key))
        ranks.append((message.since, system.add(np.asarray(message.vectors))))
        if system.full or len(keys) == _STEPS:
            break
    return system, keys, ranks


def expected_rank(layer: Convolution) -> int:
    """Rank of the equations of one step, for kernels in general position."""
    count, channels = layer.kernels, layer.shape[2]
    missing = count * (count - 1) * (layer.size[0] - 1) * (layer.size[1] - 1) if count == channels + 1 else 0
    return min(layer.outputs, max(0, layer.features - missing))


def _short(layer: Convolution, ranks: list[tuple[int, int]]) -> str:
    rank = ranks[-1][1] if ranks else 0
    said = f"the kernels of {len(ranks)} steps have rank {rank} of {layer.features}"
    if layer.kernels <= layer.shape[2]:
        few = f"{layer.kernels} kernels over {layer.shape[2]} channels"
        return f"{said}: {few} give {layer.outputs} equations a step"
    return f"{said}: {layer.features - rank} patterns are mapped to zero by every kernel"
