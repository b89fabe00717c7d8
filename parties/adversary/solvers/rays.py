"""Samples in the span of many, as the extreme directions of its part without negative pixels.

The rows w R (n,) of a span R (b, n) that are nowhere negative are a cone; a sample is an extreme ray of it
where b - 1 of its dark pixels determine it. A linear program over the cone ends in an extreme ray. T. Chan,
W. Ma, C. Chi, Y. Wang, *A Convex Analysis Framework for Blind Separation of Non-Negative Sources*, IEEE
Trans. Signal Processing 56(10), 2008, use it where sources are dark in places of their own; on what a
gradient spans it is an observation of this project. Not every extreme ray is a sample: the caller has to
tell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

Reals = NDArray[np.float64]

_DARK = 1e-3  # of a ray's brightest pixel: what counts as dark
_ABOUT = (0.03, 0.015, 0.008, 0.004, 0.002, 0.001)  # the same, of what is near an image and then nearer
_SLACK = 1e-6  # by which a pixel may be negative in the program, where the chosen one is 1


def darkened(rows: Reals, near: Reals) -> Reals:
    """The ray (n,) of orthonormal rows (b, n) that is darkest where `near` (n,), close to an image, is dark,
    1 at its brightest; then where that ray is, by darker pixels alone.
    """
    ray: Reals = near / near[np.abs(near).argmax()]
    for share in _ABOUT:
        dark = rows[:, np.abs(ray) < share]
        if dark.shape[1] < len(rows) - 1:
            break
        left = np.linalg.svd(dark, full_matrices=dark.shape[1] < len(rows))[0]
        ray = left[:, -1] @ rows
        ray = ray / ray[np.abs(ray).argmax()]
    return ray


def extreme_ray(rows: Reals, covered: Reals, rng: np.random.Generator) -> Reals | None:
    """A ray (n,) of the cone of orthonormal rows (b, n), 1 at its brightest; None where the program finds
    none. A pixel is asked for that `covered` (n,) has least of.
    """
    live = np.flatnonzero(np.linalg.norm(rows, axis=0) > 1e-9)
    a = rows[:, live].T
    weight = np.linalg.norm(a, axis=1) / (covered[live] + 0.05 * covered.max() + 1e-9)
    pixel = rng.choice(len(live), p=weight / weight.sum())
    cost = a.T @ (1.0 + rng.random(len(live)))
    found = linprog(cost, A_ub=-a, b_ub=np.full(len(a), _SLACK), A_eq=a[[pixel]], b_eq=[1.0],
                    bounds=(None, None), method="highs")  # fmt: skip
    if found.status != 0:
        return None
    ray = found.x @ rows
    dark = rows[:, np.abs(ray) < _DARK * np.abs(ray).max()]
    if dark.shape[1] >= len(rows) - 1:  # what its dark pixels determine, without the slack
        ray = np.linalg.svd(dark, full_matrices=True)[0][:, -1] @ rows
    found_ray: Reals = ray / ray[np.abs(ray).argmax()]
    return found_ray
