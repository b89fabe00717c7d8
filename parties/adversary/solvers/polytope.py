"""What one observation and the prior say of an image: equations, a box, and rows of neighbouring pixels.

Pixels are x / x_max here, so that the box is [0, 1]; an image is (n,) with n = rows * columns [* channels],
channels last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior

Vector = NDArray[np.float64]

_CONTRADICTION = (
    1e-6  # relative residual of W x = z above which no x solves it: rounding alone leaves about 1e-12
)


@dataclass(frozen=True)
class Equations:
    """W x = z in orthonormal form, A x = b: `a` (r, n) has the r = rank W right singular vectors as rows.

    `w` (h, n) integers up to thousands and `z` up to 1e7 would mix badly with a box of size 1; A and b are of
    size 1. `to_b` (h, r) turns z into b.
    """

    w: Vector
    a: Vector
    to_b: Vector
    x_max: int

    @property
    def determined(self) -> bool:
        """Whether the equations alone leave one image."""
        rank, n = self.a.shape
        return bool(rank == n)

    def right_side(self, z: NDArray[Any]) -> Vector:
        """Return b (r,) for one sample's inner products z (h,)."""
        b: Vector = self.to_b.T @ (np.asarray(z, dtype=np.float64) / self.x_max)
        return b

    def contradict(self, z: NDArray[Any]) -> bool:
        """Whether no x at all, in the box or not, has W x = z: the keys are not those of this ciphertext."""
        scaled = np.asarray(z, dtype=np.float64) / self.x_max
        rest = self.w @ (self.a.T @ self.right_side(z)) - scaled
        return float(np.abs(rest).max()) > _CONTRADICTION * (1.0 + float(np.abs(scaled).max()))

    def projection(self, z: NDArray[Any], level: float = 0.5) -> Vector:
        """The least-norm correction of a constant image onto the equations (n,): the baseline of one-shot
        attacks.
        """
        constant = np.full(self.a.shape[1], level)
        corrected: Vector = constant + self.a.T @ (self.right_side(z) - self.a @ constant)
        return corrected


def equations(w: NDArray[Any], prior: Prior) -> Equations:
    """Bring W (h, n) into orthonormal form once for all samples that it was applied to.

    Raises `NotApplicable` if W has another number of columns than the prior's images have pixels, or is zero.
    """
    n = int(np.prod(prior.shape))
    if w.ndim != 2 or w.shape[1] != n:
        raise NotApplicable(
            f"the equations are of shape {w.shape}; the prior's images {prior.shape} have {n} pixels"
        )
    real = np.asarray(w, dtype=np.float64)
    u, s, vt = np.linalg.svd(real, full_matrices=False)
    rank = (
        int(np.count_nonzero(s > s[0] * max(w.shape) * np.finfo(np.float64).eps))
        if s.size and s[0] > 0
        else 0
    )
    if rank == 0:
        raise NotApplicable("every weight of the observation is zero, so it holds no equation")
    return Equations(real, vt[:rank], u[:, :rank] / s[:rank], prior.x_max)


def neighbour_rows(shape: tuple[int, ...], period: int) -> sp.csr_matrix:
    """Rows x_p - mean of the 4 neighbours of p, for pixels p = (i, j) with (i + j) mod period = 0; channel by
    channel. None where the sample is no image: columns of a table have no neighbours.

    Neighbours outside the image are left out of the mean: the paper's code lets them wrap around the border,
    which asks the left edge of a picture to resemble its right edge.
    """
    if len(shape) < 2:
        return sp.csr_matrix((0, int(np.prod(shape))))
    index = _positions(shape)
    rows, columns = index.shape[:2]
    found = [(i, j) for i in range(rows) for j in range(columns) if (i + j) % period == 0]
    entries: list[tuple[int, int, float]] = []
    for k, (i, j) in enumerate(found):
        around = [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
        near = [index[p] for p in around if 0 <= p[0] < rows and 0 <= p[1] < columns]
        for channel, centre in enumerate(index[i, j]):
            row = k * index.shape[2] + channel
            entries += [(row, centre, 1.0)] + [(row, p[channel], -1.0 / len(near)) for p in near]
    r, c, v = (np.array(part) for part in zip(*entries, strict=True))
    return sp.csr_matrix((v, (r, c)), shape=(len(found) * index.shape[2], index.size))


def differences(shape: tuple[int, ...]) -> sp.csr_matrix:
    """D: one row x_p - x_q for each pair of horizontal or vertical neighbours within a channel; raises
    `NotApplicable` where the sample is no image.
    """
    if len(shape) < 2:
        raise NotApplicable(
            f"no image: a sample is a row of {int(np.prod(shape))} columns, which have no neighbours"
        )
    index = _positions(shape)
    first = np.concatenate([index[1:].ravel(), index[:, 1:].ravel()])
    second = np.concatenate([index[:-1].ravel(), index[:, :-1].ravel()])
    count = len(first)
    values = np.concatenate([np.ones(count), -np.ones(count)])
    where = (np.tile(np.arange(count), 2), np.concatenate([first, second]))
    return sp.csr_matrix((values, where), shape=(count, index.size))


def _positions(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """(rows, columns, channels) positions in the flat image."""
    rows, columns, channels = shape if len(shape) == 3 else (*shape, 1)
    return np.arange(rows * columns * channels).reshape(rows, columns, channels)
