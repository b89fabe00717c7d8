"""Attacks by every function key on every ciphertext: what was asked for one batch in one step opens all
samples.

`stack`: the observation of the paper (Ionita and Ionita, RAID 2025, arXiv:2509.21497, section on repeated
steps) taken to its end: the keys of training are vectors of W1, which changes in every step, so that after a
few steps n of them are independent and W X^T = Z has one solution. Costs n decryptions a sample and one n x n
inverse for each system.

`smooth_stack`: where a budget on keys, or keys bound to a batch, leave r < n equations a sample: the
smoothest image that explains them all. No free parameter. Costs r decryptions and one quadratic program a
sample.

`unit_keys`: a malicious cloud asks for keys of unit vectors instead of W1, and <e_i, x> = x_i. No scheme of
this shape prevents it: any vector within the bound may be asked for (Abdalla et al., PKC 2015, eprint
2015/017), and only the authority could refuse. Costs n decryptions a sample.

None assumes anything about the data, but smoothness in the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import LIMIT, NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.solvers import smooth
from parties.adversary.solvers.polytope import equations
from parties.adversary.solvers.systems import Integers, System, systems
from protocols.language.relations import Instance, Keys, now


def told(relations: Relations) -> list[Instance]:
    """The instances whose keys tell their vectors."""
    found = [instance for instance in relations.of(Instance) if not instance.hides and not instance.across]
    if not found:
        raise NotApplicable(
            f"the view of {', '.join(relations.parties)} holds no keys whose vectors are told"
        )
    return found


def blank(relations: Relations, pixels: int) -> NDArray[np.float32]:
    """A row of NaN for each sample."""
    return np.full((relations.count(), pixels), np.nan, dtype=np.float32)


def stack(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Solve for every sample exactly; not applicable while the rank of the keys is below n."""
    del rng  # nothing here is drawn
    every = list(systems(told(relations)))
    full = [system for system in every if system.full]
    if not full:
        raise NotApplicable(_short(every, "the equations have more than one solution"))
    values = blank(relations, full[0].echelon.columns)
    for system in full:
        for number, block in enumerate(system.blocks):
            x = system.solve(number)
            if x is not None:
                values[block] = x / prior.x_max
    notes: dict[str, Any] = {
        "keys_used": full[0].rank,
        "solved_in_integers": int(np.isfinite(values[:, 0]).sum()),
        "ranks": [list(point) for point in full[0].ranks],
    }
    if len(every) > 1:
        notes |= {"batches_solved": len(full), "batches": len(every)}
    last = max(system.ranks[-1][0] for system in full) if len(full) == len(every) else None
    return Reconstruction(Quantity.IMAGES, np.arange(len(values)), values, last, notes=notes)


def _short(every: list[System], said: str) -> str:
    best = max(every, key=lambda system: system.rank)
    return f"the keys have rank {best.rank} of {best.echelon.columns}: {said}"


def smooth_stack(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Rebuild the first samples of a view from all that its keys say of them."""
    del rng  # nothing here is drawn
    index, rows, projections, seconds, ranks = [], [], [], [], []
    for system, which, z in _samples(relations):
        eq = equations(system.vectors, prior)
        solve = smooth.prepare(eq, prior)
        for position, one in zip(which, z, strict=True):
            start = perf_counter()
            x, info = solve(one)
            seconds.append(perf_counter() - start)
            index.append(int(position))
            rows.append(x)
            projections.append(info.projection)
        ranks.append(system.rank)
    if not rows:
        raise NotApplicable("the view holds no keys that work on a ciphertext")
    return Reconstruction(
        quantity=Quantity.IMAGES,
        index=np.array(index, dtype=np.int64),
        values=np.array(rows),
        projection=np.array(projections),
        notes={"rank": [min(ranks), max(ranks)], "seconds_per_image_median": float(np.median(seconds))},
    )


def _samples(relations: Relations) -> Iterator[tuple[System, Integers, Integers]]:
    """(system, positions, Z) of the first `LIMIT` samples."""
    left = LIMIT
    for system in systems(told(relations)):
        for number, block in enumerate(system.blocks) if system.rank else ():
            some = np.arange(min(left, len(block)))
            yield system, block[some], system.products(number, some)
            left -= len(some)
            if left <= 0:
                return


def unit_keys(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Read every pixel that a unit key opens; the others are the prior's guess. Not applicable without such
    keys.
    """
    del rng  # nothing here is drawn
    instance = told(relations)[0]
    keys, pixels, factors, steps = _units(instance)
    if not keys:
        raise NotApplicable(
            "no key of a unit vector in the view: the cloud asked for W1, as the protocol says"
        )
    values = blank(relations, instance.columns)
    for number, block in enumerate(instance.blocks):
        x = np.hstack([instance.products(key, number, None) for key in keys]) // factors
        rows = np.tile(prior.guess(), (len(block), 1))
        rows[:, pixels] = x / prior.x_max
        values[block] = rows
    full = len(pixels) == instance.columns
    notes = {"unit_keys": len(pixels), "pixels": instance.columns, "steps": [min(steps), max(steps)]}
    last = max(steps) if full else None
    return Reconstruction(Quantity.IMAGES, np.arange(len(values)), values, last, notes=notes)


def _units(instance: Instance) -> tuple[list[Any], Integers, Integers, list[int]]:
    """(keys, their pixels, their entries, their rounds) of vectors with one entry other than zero, each pixel
    once.
    """
    keys, pixels, factors, steps = [], np.zeros(0, np.int64), np.zeros(0, np.int64), []
    for message in instance.messages():
        y = _vectors(message)
        (single,) = np.nonzero(np.count_nonzero(y, axis=1) == 1)
        at, first = np.unique(np.abs(y[single]).argmax(axis=1), return_index=True)
        fresh = ~np.isin(at, pixels)
        chosen = single[first[fresh]]
        if len(chosen):
            keys.append(instance.rows(now(message.key), chosen))
            pixels = np.concatenate([pixels, at[fresh]])
            factors = np.concatenate([factors, y[chosen, at[fresh]]])
            steps.append(message.since)
        if len(pixels) == instance.columns:
            break
    return keys, pixels, factors, steps


def _vectors(message: Keys) -> Integers:
    assert message.vectors is not None
    return message.vectors
