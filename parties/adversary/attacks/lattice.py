"""Whole pixels from few keys: W x = z has whole solutions in a lattice, the image near the guess.

Over the reals r < n equations bound a sample and no more. Pixels are short whole numbers: an observation of
this project, derived in `solvers/lattice.py`. Every function key works on every ciphertext, so that the
keys of one step are r = h equations on each sample. Assumes the prior's mean and spread of each pixel
(public images), or nothing but the pixel range. What is returned satisfies every equation that was used and
lies in the pixel range; that nothing else does is likely, not proven. Costs one lattice reduction for each
system and a nearest plane a sample; limited to images of `LATTICE` pixels, beyond which the reduction takes
too long here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.attacks.all_keys import blank, told
from parties.adversary.solvers.lattice import LATTICE, SURE, Coset, Expected, expected_of, surplus
from parties.adversary.solvers.systems import System, systems
from protocols.language.relations import Instance

NAME = "lattice"
SUMMARY = "whole pixels from fewer keys than pixels: the lattice of whole solutions, near the prior's guess"
CONSUMES = (Instance,)

_FIRST = 8  # samples that are tried before all others


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Solve for every sample in whole numbers; rows of NaN where no solution in the pixel range was found."""
    del rng  # nothing here is drawn
    every = [system for system in systems(told(relations)) if system.rank]
    if not every:
        raise NotApplicable("the view holds no keys that work on a ciphertext")
    if every[0].echelon.columns > LATTICE:
        raise NotApplicable(f"images of more than {LATTICE} pixels: the lattice was not reduced")
    expected = expected_of(prior)
    every = [system for system in every if surplus(_rows(system, expected), expected) >= 0]
    if not every:
        raise NotApplicable("the keys say less than is open of an image: many whole images satisfy them all")
    values = blank(relations, every[0].echelon.columns)
    for system in every:
        _fill(values, system, prior)
    found = int(np.isfinite(values[:, 0]).sum())
    notes = {"keys_used": [used(system, expected) for system in every][:8], "solved_in_integers": found}
    last = max(system.reached(used(system, expected)) for system in every) if found == len(values) else None
    return Reconstruction(Quantity.IMAGES, np.arange(len(values)), values, last, notes=notes)


def used(system: System, expected: Expected) -> int:
    """Equations that are used: of half as many as pixels, as fewer make a larger lattice; where these say too
    little, as many as it takes to leave one image, or all.
    """
    few = min(system.rank, (system.echelon.columns + 1) // 2)
    rows = system.vectors.astype(np.float64)
    if surplus(rows[:few], expected) < 0:
        while few < system.rank and surplus(rows[:few], expected) < SURE:
            few += 1
    return few


def _fill(values: NDArray[np.float32], system: System, prior: Prior) -> None:
    """The samples of one system, by as many of its equations as are of use."""
    expected = expected_of(prior)
    rows = system.vectors[: used(system, expected)].astype(np.int64)
    coset = Coset.of(rows, expected.spread)
    for number, block in enumerate(system.blocks):
        z = system.products(number, np.arange(len(block)))[:, : len(rows)].astype(np.int64)
        x, inside = coset.within(z, expected.guess, 0, prior.x_max)
        values[block[inside]] = x[inside] / prior.x_max


def _rows(system: System, expected: Expected) -> NDArray[np.float64]:
    return system.vectors[: used(system, expected)].astype(np.float64)


def confirmed(system: System, prior: Prior, tried: int) -> tuple[NDArray[np.int64], int, int]:
    """Of which of the first samples the lattice gives whole pixels that satisfy every equation that there is:
    (which, of how many tried, by how many equations); none is tried where equations say too little.
    """
    expected = expected_of(prior)
    few = used(system, expected)
    rows, which = system.vectors, np.arange(min(tried, len(system.blocks[0])))
    more = surplus(rows[:few].astype(np.float64), expected)
    if more < (SURE if len(rows) == few else 0.0):
        return which[:0], 0, few  # too little, or nothing to confirm what would be found
    coset = Coset.of(rows[:few].astype(np.int64), expected.spread)

    def right(some: NDArray[np.int64]) -> NDArray[np.int64]:
        z = system.products(0, some).astype(np.int64)
        x, inside = coset.within(z[:, :few], expected.guess, 0, prior.x_max, wide=False)
        whole: NDArray[np.int64] = some[inside & (x @ rows.T.astype(np.int64) == z).all(axis=1)]
        return whole

    first = which[:_FIRST]
    found = right(first)
    if 2 * len(found) < len(
        first
    ):  # equations of steps that hardly differ: the search fails for most, at length
        return found, len(first), few
    return np.concatenate([found, right(which[_FIRST:])]) if len(which) > _FIRST else found, len(which), few
