"""Samples from what known maps made of them: Z1 = W1 X^T with W1 known are exact equations.

`known_average`, behind the preset `collusion`: cloud and one of many owners. The corrupted owner is handed
the W1 with which everybody begins a round. For every other owner's first batch of the round the cloud's Z1
gives h exact equations a sample, as plain FE does; those of all rounds that begin with the same batch are
stacked, and once their rank is n the samples come out as integers. In later local steps an owner's W1 follows
from dZ1 and the samples that it used before, once these are solved. Where keys hide W1, those of a rounded
average work on every ciphertext, and all equations are over the integers.

`known_init`: the first W1 is public, because both sides share a seed, as in the public code of the
mitigations' authors. If h >= n, dZ1 and the samples give the next W1, computed by the owner's own step in
float32, and so on: each batch at its first use, under any optimizer. With h < n it stops at the first batch.

What is not determined is rebuilt as `smooth` does, the first samples only; directions in which the weights of
several rounds hardly differ, so that float32 hides them, are left out. That a corrupted owner knows the
average is part of the protocol; the equations are this project's derivation. Cost: one singular value
decomposition a batch; under pairings n decryptions a sample, 10 000 in all; a quadratic program an image that
is smoothed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import LIMIT, NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.solvers import smooth
from parties.adversary.solvers.lattice import LATTICE, SURE, expected_of, near_solutions, surplus
from parties.adversary.solvers.moves import computable, own, placed
from parties.adversary.solvers.polytope import equations
from parties.adversary.solvers.portions import Portions
from parties.adversary.solvers.products import Stack, rounding
from parties.adversary.solvers.systems import gather
from protocols.language.precision import Precision
from protocols.language.relations import (
    Array,
    Instance,
    KnownMap,
    Map,
    Products,
    Replay,
    Samples,
    Update,
    now,
)

_FEWEST = 0.2  # of 24 bits for each pixel: below it no lattice is tried
_ROUNDINGS = 4.0  # in the bound on the error of Z1, of which about one deviation is taken
PRODUCTS = 10_000  # of pairings that an attack decrypts, at 5 to 8 ms each: about a minute

Reals = NDArray[np.float64]
Integers = NDArray[np.int64]


def known_average(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Return the samples of the owners outside of the view that were used, solved or smoothed."""
    del rng  # nothing here is drawn
    maps = {k.map: k.value for k in relations.of(KnownMap) if k.labels}
    if not maps:
        raise NotApplicable(
            f"the view of {', '.join(relations.parties)} holds no average: W1 is unknown to it"
        )
    if len(own(relations)) == relations.count():
        raise NotApplicable("every owner is corrupted: nothing is left to rebuild")
    return _solve(relations, prior, maps, replay=False)


def known_init(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Return the samples that a public first W1 gives away, solved or smoothed."""
    del rng  # nothing here is drawn
    maps = {k.map: k.value for k in relations.of(KnownMap) if not k.labels}
    if not maps:
        raise NotApplicable("W1 was drawn in private: no seed is shared (--init shared)")
    return _solve(relations, prior, maps, replay=True)


def _solve(relations: Relations, prior: Prior, maps: dict[Map, Any], replay: bool) -> Reconstruction:
    if any(instance.hides for instance in relations.of(Instance)):
        return _on_ciphertexts(relations, prior, maps)
    return on_products(relations, prior, maps, replay)


@dataclass
class _Batch:
    """What was collected of one batch: its positions, and the map and Z1 of every use whose map is known."""

    index: Integers
    noise: float = 0.0
    roundoff: float = Precision.SINGLE.roundoff
    since: int = 0
    w: list[Reals] = field(default_factory=list)
    z: list[Reals] = field(default_factory=list)


def on_products(relations: Relations, prior: Prior, maps: dict[Map, Any], replay: bool) -> Reconstruction:
    """From Z1 in the clear: batch by batch, in order of time."""
    found, mine = Portions(relations.count(), prior.pixels, prior.x_max), own(relations)
    for samples in relations.of(Samples):
        found.learn(samples.samples, np.asarray(now(samples.values), np.int64))
    met, last = dict[bytes, _Batch](), 0
    seen = replayed(relations, found) if replay else followed(relations, maps, found)
    for products, w in seen:
        batch = met.setdefault(
            products.samples.tobytes(),
            _Batch(products.samples, roundoff=products.roundoff, since=products.since),
        )
        if found.solved[batch.index].all():
            continue
        batch.w.append(w)
        batch.z.append(now(products.values))
        batch.noise = max(batch.noise, products.noise)
        x = Stack.of(batch.w, batch.roundoff).solved(np.hstack(batch.z), prior.x_max, batch.noise)
        x = in_whole_numbers(batch.w, batch.z, batch.noise, prior, batch.roundoff) if x is None else x
        if x is not None:
            found.learn(batch.index, x)
            last = products.since
    used = [np.zeros(0, np.int64), *(p.samples[p.samples >= 0] for p in relations.of(Products))]
    return _put_together(prior, found, list(met.values()), np.setdiff1d(np.concatenate(used), mine), last)


def in_whole_numbers(
    w: list[Reals], z: list[Reals], noise: float, prior: Prior, roundoff: float
) -> Integers | None:
    """Samples (m, n) from fewer equations than pixels, W x = z of several times: the whole solutions near the
    guess, if every sample has one.
    """
    a, b = np.vstack(w), np.hstack(z).astype(np.float64)
    if _too_little(a, b, noise, prior, roundoff):
        return None
    x, found = near_solutions(a, b, _error(b, noise, roundoff), expected_of(prior))
    return x if found.all() else None


def why_not_whole(w: list[Reals], z: list[Reals], noise: float, prior: Prior, roundoff: float) -> str:
    """Why no whole solutions were found: what kept the lattice from being tried, or that it was."""
    reason = _too_little(np.vstack(w), np.hstack(z).astype(np.float64), noise, prior, roundoff)
    return f"no lattice tried: {reason}" if reason else "the lattice did not solve them all"


def _too_little(a: Reals, b: Reals, noise: float, prior: Prior, roundoff: float) -> str:
    (count, pixels), bits = a.shape, -np.log2(roundoff)
    if pixels > LATTICE:
        return f"more than {LATTICE} pixels"
    if not pixels * _FEWEST <= count * bits / 24 or count >= pixels:
        return f"{count} equations for {pixels} pixels"
    if surplus(a, expected_of(prior), _error(b, noise, roundoff)) < SURE:
        return "the equations say less than is open of an image"
    return ""


def _error(b: Reals, noise: float, roundoff: float) -> float:
    return max(rounding(b, roundoff) / _ROUNDINGS, noise)


def followed(relations: Relations, maps: dict[Map, Any], found: Portions) -> Iterator[tuple[Products, Array]]:
    """(Z1, the map behind it) in order of time: maps that are known, and those that follow from samples
    solved meanwhile.
    """
    moves = moves_to(relations)
    for products in relations.of(Products):
        if (products.samples < 0).any() or found.solved[products.samples].all():
            continue
        w = map_behind(products.map, maps, moves, found)
        if w is not None:
            yield products, w


def moves_to(relations: Relations) -> dict[Map, list[Update]]:
    """The updates that led to each map."""
    moves: dict[Map, list[Update]] = {}
    for update in relations.of(Update):
        moves.setdefault(update.after, []).append(update)
    return moves


def map_behind(
    which: Map, maps: dict[Map, Any], moves: dict[Map, list[Update]], found: Portions
) -> Array | None:
    """A map that is known, or follows from a known one and samples that are; None if it does not."""
    if which in maps:
        return np.asarray(now(maps[which]))
    for update in moves.get(which, []):
        (used,) = np.nonzero(update.terms)
        solved = all(found.solved[update.steps.samples[u]].all() for u in used)
        if update.before in maps and solved and computable(update.terms, update.steps):
            moved = placed(update.terms, update.steps, len(found.x)).T @ found.x
            return np.asarray(now(maps[update.before])) - moved
    return None


def by_maps(
    relations: Relations, prior: Prior, maps: dict[Map, Any], found: Portions, most: int, lattices: int
) -> dict[int, int]:
    """Solve for the first `most` samples, those of one map together, with at most so many lattices reduced;
    adds to `found`, and returns the round of each sample that was solved here.

    Cheaper than `on_products`: a lattice for each map instead of each batch, and visits that are stacked are
    tried as often as their equations double.
    """
    moves, met, solved, used = moves_to(relations), dict[bytes, _Batch](), dict[int, int](), set[int]()
    due: dict[bytes, int] = {}
    for which, group in groupby(relations.of(Products), key=lambda products: products.map):
        seen = [p for p in group if (p.samples >= 0).all() and not found.solved[p.samples].all()]
        used |= {i for p in seen for i in p.samples.tolist()}
        if len(used) > most:
            break
        w = map_behind(which, maps, moves, found) if seen else None
        if w is None:
            continue
        for p in seen:
            name = p.samples.tobytes()
            batch = met.setdefault(name, _Batch(p.samples, roundoff=p.roundoff))
            batch.w.append(w)
            batch.z.append(now(p.values))
            batch.noise = max(batch.noise, p.noise)
            rows = sum(map(len, batch.w))
            if rows >= due.get(name, prior.pixels):
                due[name] = 2 * rows
                x = Stack.of(batch.w, batch.roundoff).solved(np.hstack(batch.z), prior.x_max, batch.noise)
                if x is not None:
                    found.learn(p.samples, x)
                    solved |= dict.fromkeys(p.samples.tolist(), p.since)
        left = [p for p in seen if not found.solved[p.samples].all()]
        if not left or not lattices:
            continue
        b, noise = np.vstack([now(p.values) for p in left]).astype(np.float64), max(p.noise for p in left)
        if _too_little(w, b, noise, prior, left[0].roundoff):
            continue
        lattices -= 1
        x, right = near_solutions(w, b, _error(b, noise, left[0].roundoff), expected_of(prior))
        index, since = np.concatenate([p.samples for p in left]), max(p.since for p in left)
        found.learn(index[right], x[right])
        solved |= dict.fromkeys(index[right].tolist(), since)
    return solved


def replayed(relations: Relations, found: Portions) -> Iterator[tuple[Products, Array]]:
    """The same by repeating the owners' training from a public start."""

    def known(index: Integers) -> Array | None:
        return found.x[index] if found.solved[index].all() else None

    for replay in relations.of(Replay):
        yield from replay.run(known)


def _put_together(
    prior: Prior, found: Portions, met: list[_Batch], used: Integers, last: int
) -> Reconstruction:
    """What was solved, and the first of the others smoothed."""
    index = used[found.solved[used]]
    where, images, ranks, left = [index], [found.x[index] / prior.x_max], [], LIMIT
    waiting = [batch for batch in met if batch.w and not found.solved[batch.index].all()]
    for batch in waiting:
        if left:
            stack, z = Stack.of(batch.w, batch.roundoff), np.hstack(batch.z)[:left]
            where.append(batch.index[: len(z)])
            images.append(stack.smoothed(z, prior, batch.noise))
            ranks.append(stack.rank(z, prior.x_max, batch.noise))
            left -= len(z)
    if not sum(map(len, where)):
        raise NotApplicable("the view ends before another owner's batch was used with a W1 that is known")
    notes = {"solved": len(index), "used": len(used), "smoothed": LIMIT - left, "rank_of_smoothed": ranks}
    if waiting:
        notes["stopped_at_step"] = waiting[0].since
    done = last if found.solved[used].all() else None
    return Reconstruction(Quantity.IMAGES, np.concatenate(where), np.vstack(images), done, notes=notes)


def _on_ciphertexts(relations: Relations, prior: Prior, maps: dict[Map, Any]) -> Reconstruction:
    """Under hidden keys: owner by owner; the rounded maps are the integers that its keys stand for."""
    mine = own(relations)
    every = [i for i in relations.of(Instance) if i.hides and len(np.setdiff1d(i.blocks[0], mine))]
    where, images, notes, last, solved = [], [], [], 0, 0
    for instance in every:
        system = gather([instance], maps)
        if not system.rank:
            continue
        few = LIMIT // len(every) + 1
        count = PRODUCTS // (len(every) * system.rank) if system.full else few
        which = np.arange(min(len(instance.blocks[0]), count))
        where.append(instance.blocks[0][which])
        if system.full:
            x = system.solve(0, which)
            images.append(np.full((len(which), prior.pixels), np.nan) if x is None else x / prior.x_max)
        else:
            solver = smooth.prepare(equations(system.vectors, prior), prior)
            images.append(np.array([solver(row)[0] for row in system.products(0, which)]))
        notes.append([int(instance.blocks[0][0]), system.rank, len(which)])
        last, solved = max(last, system.ranks[-1][0]), solved + len(which) * system.full
    if not where:
        raise NotApplicable("the view ends before keys for a W1 that is known")
    index = np.concatenate(where)
    said = {"first_sample_rank_samples": notes, "solved": solved}
    done = last if solved == len(index) else None
    return Reconstruction(Quantity.IMAGES, index, np.vstack(images), done, notes=said)
