"""The image of least total variation that explains one observation: min |D x|_1 subject to W1 x = z and 0 <=
x <= x_max.

D takes the difference of every pair of neighbouring pixels in a channel: anisotropic total variation (Rudin,
Osher and Fatemi, 1992, is the isotropic one), which keeps edges where `smooth` blurs them. Assumes that W1 is
known.

Solved by ADMM (Boyd et al., Foundations and Trends in Machine Learning 3(1), 2011, sections 3.1 to 3.4) on
the splitting d = D x, v = x with v in the box: x meets the equations in every iteration, d is thresholded, v
is clipped. H = D'D + I, which x is found with, is diagonal in the discrete cosine transform, and its
correction onto the equations is factorised once for all images. Cost: 100 to 500 iterations of two products
with A (h x n) for all images of a block together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn
from scipy.linalg import cho_factor, cho_solve

from parties.adversary.attack import Prior
from parties.adversary.solvers.box import Info, finish, only_solution
from parties.adversary.solvers.polytope import Equations, Vector, differences, equations

# Chosen by how fast the residuals fall, which a view alone shows; pixels are in [0, 1].
_PENALTY = 30.0
_OVER_RELAXATION = 1.6
_TOLERANCE = 1e-3  # largest residual at which an image is done: a quarter of a quantum of 1/255
_MAX_ITERATIONS = 500
_CHECK_EVERY = 25
_BLOCK = 64  # images solved at once: memory is that of about 10 arrays of 2 n numbers for each


def solve_tv(w: NDArray[Any], z: NDArray[Any], prior: Prior) -> tuple[Vector, Info]:
    """Return the image (n,) in [0, 1] of least variation with W x = z / x_max, and how it was found; NaN
    where there is none.

    `w` (h, n) and `z` (h,) are exact integers: inner products of integer weights with integer pixels in [0,
    x_max].
    """
    return prepare(equations(w, prior), prior)(z)


def prepare(eq: Equations, prior: Prior) -> LeastVariation:
    """Return the solver for samples that share their W."""
    return LeastVariation(eq, prior)


class LeastVariation:
    """Solves for one sample, or for many at once."""

    def __init__(self, eq: Equations, prior: Prior) -> None:
        self._eq, self._miss = eq, 0.5 / prior.x_max
        self._step = None if eq.determined else _Projection(eq, prior.shape)

    def __call__(self, z: NDArray[Any]) -> tuple[Vector, Info]:
        """The image (n,) behind z (h,), and how it was found."""
        return self.many(np.asarray(z)[None])[0]

    def many(self, samples: NDArray[Any]) -> list[tuple[Vector, Info]]:
        """The same for samples (m, h)."""
        blocks = range(0, len(samples), _BLOCK)
        return [found for start in blocks for found in self._block(samples[start : start + _BLOCK])]

    def _block(self, samples: NDArray[Any]) -> Iterator[tuple[Vector, Info]]:
        sound = [not self._eq.contradict(z) for z in samples]
        if self._step is None:
            for z, fits in zip(samples, sound, strict=True):
                yield finish(self._eq, z, only_solution(self._eq, z) if fits else None, 0.0, 0)
            return
        found = iter(self._minimised(samples[sound]))
        for z, fits in zip(samples, sound, strict=True):
            x, iterations = next(found) if fits else (None, 0)
            yield finish(self._eq, z, x, 0.0, iterations)

    def _minimised(self, samples: NDArray[Any]) -> list[tuple[Vector | None, int]]:
        """(image, iterations) of each sample; None where the equations are met outside of the box only."""
        if self._step is None or not len(samples):
            return []
        b = np.stack([self._eq.right_side(z) for z in samples], axis=1)
        start = np.stack([self._eq.projection(z) for z in samples], axis=1)
        x, iterations = _admm(self._step, b, start)
        # A point of ADMM is not quite in the box; further out than half a quantum, it is no image at all.
        outside = np.maximum(-x, x - 1.0).max(axis=0, initial=0.0) > self._miss
        return [
            (None if out else column, int(k)) for column, out, k in zip(x.T, outside, iterations, strict=True)
        ]


class _Projection:
    """argmin of x'Hx / 2 - r'x subject to A x = b for H = D'D + I, for many r and b as columns."""

    def __init__(self, eq: Equations, shape: tuple[int, ...]) -> None:
        self._a, self._grid = eq.a, shape[:2]
        self.differences = differences(shape)
        self.adjoint = self.differences.T.tocsr()
        down, across = (2.0 - 2.0 * np.cos(np.pi * np.arange(k) / k) for k in self._grid)
        self._eigenvalues = (1.0 + down[:, None] + across[None, :])[:, :, None]
        v = self._inverse(np.ascontiguousarray(eq.a.T))
        self._correction = np.ascontiguousarray(
            cho_solve(cho_factor(eq.a @ v), v.T).T
        )  # H^-1 A' (A H^-1 A')^-1

    def __call__(self, right: Vector, b: Vector) -> Vector:
        free = self._inverse(right)
        x: Vector = free - self._correction @ (self._a @ free - b)
        return x

    def _inverse(self, right: Vector) -> Vector:
        """H^-1 r: with free borders, D'D is diagonal in the cosine transform of the second type."""
        spectrum = dctn(right.reshape(*self._grid, -1), axes=(0, 1), norm="ortho") / self._eigenvalues
        found: Vector = idctn(spectrum, axes=(0, 1), norm="ortho").reshape(right.shape)
        return found


@dataclass
class _Split:
    """ADMM's variables besides x: d for D x, v for x, each with its scaled multiplier; a column an image."""

    d: Vector
    v: Vector
    d_dual: Vector
    v_dual: Vector

    def keep(self, columns: NDArray[np.bool_]) -> _Split:
        return _Split(*(part[:, columns] for part in (self.d, self.v, self.d_dual, self.v_dual)))


def _admm(step: _Projection, b: Vector, start: Vector) -> tuple[Vector, NDArray[np.int64]]:
    """(images (n, m), iterations (m,)) for right sides b (r, m); an image that is done leaves the block."""
    images, iterations = start.copy(), np.full(start.shape[1], _MAX_ITERATIONS)
    active, variation = np.arange(start.shape[1]), step.differences @ start
    split = _Split(variation, np.clip(start, 0.0, 1.0), np.zeros_like(variation), np.zeros_like(start))
    for k in range(1, _MAX_ITERATIONS + 1):
        if not len(active):
            break
        x, split, residual = _iterate(step, b[:, active], split)
        if k % _CHECK_EVERY and k < _MAX_ITERATIONS:
            continue
        images[:, active] = x
        going = residual.max(axis=0) > _TOLERANCE
        iterations[active[~going]] = k
        active, split = active[going], split.keep(going)
    return images, iterations


def _iterate(step: _Projection, b: Vector, old: _Split) -> tuple[Vector, _Split, Vector]:
    """(x, split, residuals (4, m)): primal ones, and by how much the split variables moved."""
    x = step(step.adjoint @ (old.d - old.d_dual) + (old.v - old.v_dual), b)
    variation = step.differences @ x
    d, v = _relaxed(variation, old.d) + old.d_dual, _relaxed(x, old.v) + old.v_dual
    new_d = np.sign(d) * np.maximum(np.abs(d) - 1.0 / _PENALTY, 0.0)
    new_v = np.clip(v, 0.0, 1.0)
    residuals = (variation - new_d, x - new_v, new_d - old.d, new_v - old.v)
    return (
        x,
        _Split(new_d, new_v, d - new_d, v - new_v),
        np.stack([np.abs(part).max(axis=0) for part in residuals]),
    )


def _relaxed(found: Vector, old: Vector) -> Vector:
    return _OVER_RELAXATION * found + (1.0 - _OVER_RELAXATION) * old
