"""A first convolution: its geometry, its inner products over patches, and the same layer as a matrix for
whole images.

`conv:6x5x5` is 6 kernels of 5 x 5 pixels, stride 1, no padding, summed over the channels as a convolution is
(what FE reveals of RGB is the sum, never a channel's share). Symbols: F kernels of L = rows x columns x
channels weights, P positions. An image is (n,) integers: rows, columns, channels last. W1 (F, L) holds the
kernels; Z1 (B, F P) goes kernel by kernel, as torch flattens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.confine import shared
from protocols.language.errors import ConfigError

Taps = NDArray[np.int64]
Ints = NDArray[Any]

_SPEC = re.compile(r"conv:([1-9][0-9]{0,4})x([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_ENTRIES = 1 << 24  # of the patches that are held at a time


@dataclass(frozen=True)
class Convolution:
    """`kernels` F of `size` (rows, columns) over images of `shape` (rows, columns, channels)."""

    kernels: int
    size: tuple[int, int]
    shape: tuple[int, int, int]

    @property
    def length(self) -> int:
        """L, weights of a kernel."""
        return prod(self.size) * self.shape[2]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of positions."""
        return self.shape[0] - self.size[0] + 1, self.shape[1] - self.size[1] + 1

    @property
    def positions(self) -> int:
        """P, positions of a kernel in an image."""
        return prod(self.grid)

    @property
    def outputs(self) -> int:
        """F P, numbers of Z1 for one image."""
        return self.kernels * self.positions

    @property
    def features(self) -> int:
        """n, pixels of an image, all channels counted."""
        return prod(self.shape)


def parse(spec: str, shape: tuple[int, ...]) -> Convolution:
    """The convolution that `--first` names for images of `shape`; `ConfigError` if it is none or does not
    fit.
    """
    found = _SPEC.fullmatch(spec)
    if found is None:
        raise ConfigError(f"--first expects conv:KERNELSxROWSxCOLUMNS such as conv:6x5x5, got {spec!r}")
    if len(shape) not in (2, 3):
        raise ConfigError(
            f"--first {spec}: a convolution needs images of rows and columns, these are of shape {shape}"
        )
    kernels, rows, columns = (int(number) for number in found.groups())
    whole = (shape[0], shape[1], shape[2] if len(shape) == 3 else 1)
    if rows > whole[0] or columns > whole[1]:
        raise ConfigError(
            f"--first {spec}: kernels of {rows} x {columns} do not fit into images of {whole[0]} x {whole[1]}"
        )
    return Convolution(kernels, (rows, columns), whole)


@shared
def taps(conv: Convolution) -> Taps:
    """(P, L): which pixel each weight of a kernel meets at each position; read-only."""
    corner = np.arange(conv.features).reshape(conv.shape)
    inside = corner[: conv.size[0], : conv.size[1]].ravel()
    found: Taps = corner[: conv.grid[0], : conv.grid[1], 0].reshape(-1, 1) + inside
    found.flags.writeable = False
    return found


def patches(x: Ints, conv: Convolution) -> Ints:
    """(B, P, L) of images x (B, n): what the kernel meets at each position."""
    return x[:, taps(conv)]


def parts(count: int, conv: Convolution) -> Iterator[slice]:
    """Slices of `count` images, so that the patches of a slice fit into memory."""
    rows = max(1, _ENTRIES // (conv.positions * conv.length))
    return (slice(start, start + rows) for start in range(0, count, rows))


def products(x: Ints, kernels: Ints, conv: Convolution) -> NDArray[np.int64]:
    """Exact Z1 (B, F P) of integer images (B, n) and integer kernels (F, L)."""
    w = kernels.astype(np.int64).T
    found = [patches(x[some], conv).astype(np.int64) @ w for some in parts(len(x), conv)]
    return np.concatenate(found).transpose(0, 2, 1).reshape(len(x), conv.outputs)


def matrix(kernels: Ints, conv: Convolution) -> Ints:
    """The layer as a matrix (F P, n) for whole images: a row is one kernel at one position, else zeros."""
    rows = np.zeros((conv.kernels, conv.positions, conv.features), dtype=kernels.dtype)
    rows[:, np.arange(conv.positions)[:, None], taps(conv)] = kernels[:, None, :]
    return rows.reshape(conv.outputs, conv.features)


def folded(products: NDArray[np.int64], conv: Convolution) -> NDArray[np.int64]:
    """dW1 (F, L) of dZ1^T X (F P, n): for each weight the sum over positions, at the pixel that it meets."""
    whole = products.reshape(conv.kernels, conv.positions, conv.features)
    met: NDArray[np.int64] = whole[:, np.arange(conv.positions)[:, None], taps(conv)].sum(axis=1)
    return met


def gradient_products(dz1: NDArray[np.int64], x: Ints, conv: Convolution) -> NDArray[np.int64]:
    """The same (F, L) from integer dZ1 (B, F P) and images (B, n) directly."""
    total = np.zeros((conv.kernels, conv.length), dtype=np.int64)
    for some in parts(len(x), conv):
        rows = (
            dz1[some].reshape(-1, conv.kernels, conv.positions).transpose(1, 0, 2).reshape(conv.kernels, -1)
        )
        total += rows @ patches(x[some], conv).reshape(-1, conv.length).astype(np.int64)
    return total
