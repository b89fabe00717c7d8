"""What follows from ciphertexts and function keys: a master key, the rank of keys over samples, and sums of
the samples of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attacks import gradient, lattice, master_key
from parties.adversary.rules.told import Sight, Told
from parties.adversary.solvers import intervals
from parties.adversary.solvers.lattice import LATTICE
from parties.adversary.solvers.moves import own
from parties.adversary.solvers.systems import System, gather, systems
from protocols.language.relations import Combinations, Instance, KnownMap, MasterKey, Opaque

_TRIED = 64  # samples that are solved for, to confirm what the rank says
_OPENED = 1  # samples that a master key opens, where that is dear
_SECONDS = 0.5  # a linear program that takes longer says nothing of its pixel
_BATCHES = 8  # that are tried for combinations that separate their samples
_VISITS = 32  # of each, at most
_PIXELS = 1024  # of an image up to which intervals are computed

Searched = tuple[
    NDArray[np.int64], int, int
]  # by a lattice: which were solved, of how many, by how many keys


def opened(sight: Sight) -> Iterator[Told]:
    """A master key, and ciphertexts that it opens; some are opened to prove it."""
    mine = own(sight.relations)
    for key in sight.relations.of(MasterKey) if sight.payloads else ():
        blocks = key.instance.blocks
        index = np.concatenate(blocks)
        if not len(np.setdiff1d(index, mine)):
            continue
        tried = np.arange(min(_OPENED if key.instance.seconds else _TRIED, len(blocks[0])))
        secret = key.secret()
        x = None if secret is None else key.instance.open(secret, 0, tried)
        if x is None or x.min() < 0 or x.max() > sight.prior.x_max:
            continue
        detail = f"{key.how}; {len(tried)} of {len(tried)} tried are opened"
        whole = len(index) == sum(sight.counts)
        of = sight.all if whole else f"{len(index)} samples of {sight.owner(int(index[0]))}"
        yield Told("samples", of, "exact", detail, samples=index)


def by_keys(sight: Sight) -> Iterator[Told]:
    """Samples and the master key, from the rank of the function keys over the ciphertexts."""
    told = [i for i in sight.relations.of(Instance) if not i.hides and not i.across]
    if not told:
        return
    if not sight.payloads:
        detail = "every key works on every ciphertext (their rank is not computed: payloads not recorded)"
        yield Told("samples", sight.all, "bounded", detail, samples=sight.index)
        return
    every = list(systems(told))
    best, full = max(every, key=lambda system: system.rank), [system for system in every if system.full]
    if not best.ranks:
        opaque = next((o.why for o in sight.relations.of(Opaque) if set(o.labels) & set(told[0].labels)), "")
        yield Told(
            "samples",
            sight.all,
            "nothing found",
            opaque or "ciphertexts without keys",
            None,
            samples=sight.index,
        )
        return
    curve = [[step, rank, count] for (step, rank), count in zip(best.ranks, best.determined, strict=True)]
    data: dict[str, Any] = {"unknowns": best.echelon.columns, "curve": curve}
    which = (
        f" of a batch ({len(full)} of {len(every)} batches have as many as pixels)" if len(every) > 1 else ""
    )
    rank = f"rank {best.rank} of {best.echelon.columns}"
    searched = None if best.echelon.columns > LATTICE else lattice.confirmed(best, sight.prior, _TRIED)
    if searched is not None:
        yield from _in_whole_numbers(sight, every, best, searched, data)
    if len(full) < len(every):
        pinned, bounds = _pixel_intervals(sight, best)
        pinned += "; " + _no_lattice(searched)
        keyed = [system for system in every if system.rank]
        least = min(system.rank for system in keyed)
        index = np.unique(np.concatenate([block for system in keyed for block in system.blocks]))
        detail = f"at least {least} equations a sample: {rank} of the keys for W1{which}{pinned}"
        since = max(system.ranks[0][0] for system in keyed)
        of = sight.of(index, index[:0])
        yield Told("samples", of, "bounded", detail, since, {**data, **bounds}, index)
    else:
        tried = np.arange(min(_TRIED, len(best.blocks[0])))
        solved = len(tried) if best.solve(0, tried) is not None else 0
        detail = f"{rank}{which}; {solved} of {len(tried)} tried are solved in integers"
        how, since = "exact" if solved else "bounded", max(system.ranks[-1][0] for system in every)
        yield Told("samples", sight.all, how, detail, since, data, sight.index)
    yield from _master_keys(sight, told)


def _in_whole_numbers(
    sight: Sight, every: list[System], best: System, found: Searched, data: dict[str, Any]
) -> Iterator[Told]:
    """Samples of which fewer equations than pixels leave one whole solution in the pixel range."""
    right, tried, few = found
    solved = len(right)
    if not solved or (best.full and solved < tried):
        return
    others = best.rank - few
    proof = f"the other {others} equations agree" if others else "no equation is left to confirm it"
    detail = f"{few} equations and whole pixels: {solved} of {tried} tried are solved; {proof}"
    whole = solved == tried and len(every) == 1
    since = best.reached(min(few, best.rank))
    of, index = (sight.all, sight.index) if whole else (f"{solved} of {tried} tried", best.blocks[0][right])
    yield Told("samples", of, "exact", detail, since, data, index, by="lattice")


def _no_lattice(found: Searched | None) -> str:
    """What the search for whole pixels came to, or why there was none."""
    if found is None:
        return f"no lattice tried: more than {LATTICE} pixels"
    solved, tried, few = found
    if not tried:
        return f"no lattice tried: its {few} equations leave more than one image or nothing to confirm it"
    return f"the lattice solved {len(solved)} of {tried} tried by {few} equations"


def _master_keys(sight: Sight, told: list[Instance]) -> Iterator[Told]:
    """The master keys that their own keys determine; where none does, what was tried and is left."""
    every = [gather([instance]) for instance in told]
    found = [key for system in every if (key := master_key.proven_key(system)) is not None]
    best = max(every, key=lambda system: system.rank)
    if not found and best.rank:
        yield Told("master key", "key_authority", "bounded", master_key.why_none(best), None)
    if found:
        first = min(found, key=lambda key: key.since)
        detail = f"solved from {first.keys} function keys, matches the public key"
        detail += f"; {len(found)} of {len(every)}" if len(every) > 1 else ""
        yield Told("master key", "key_authority", "exact", detail, first.since)
        if len(found) == len(every) and not all(key.system.full for key in found):
            said = f"opened by the master key that {first.keys} function keys give"
            since = max(key.since for key in found)
            yield Told("samples", sight.all, "exact", said, since, samples=sight.index, by="master key")


def _pixel_intervals(sight: Sight, system: System) -> tuple[str, dict[str, list[list[float | None]]]]:
    """In words and numbers, between what some pixels of the first sample lie: [pixel, least, largest] in [0,
    1].
    """
    prior = sight.prior
    if not system.rank or prior.pixels > _PIXELS or not getattr(sight.config, "shape", ()):
        return "", {}
    z = system.products(0, np.arange(1))[0]
    chosen = intervals.spread(prior.shape)
    found = intervals.intervals(system.vectors, z / prior.x_max, chosen, _SECONDS)
    widths = (found[:, 1] - found[:, 0])[np.isfinite(found).all(axis=1)]
    if not len(widths):
        return "", {}
    pinned = widths < 1.0 / prior.x_max
    said = f"; of {len(widths)} pixels tried the range pins {int(pinned.sum())}"
    if not pinned.all():
        said += f" and leaves the others {np.median(widths[~pinned]):.0%} of it (median)"
    rows = [
        [int(c), *(None if v != v else float(v) for v in pair)] for c, pair in zip(chosen, found, strict=True)
    ]
    return said, {"intervals": rows}


def known_keys(sight: Sight) -> Iterator[Told]:
    """Keys that hide a known map work on every ciphertext; one sample is solved for if they suffice."""
    mine = own(sight.relations)
    maps = {k.map: k.value for k in sight.relations.of(KnownMap)}
    for instance in sight.relations.of(Instance) if sight.payloads else ():
        if not instance.hides or not len(np.setdiff1d(instance.blocks[0], mine)):
            continue
        system = gather([instance], maps)
        if not system.rank:
            continue
        of = f"all samples of {sight.owner(int(instance.blocks[0][0]))}"
        detail = f"Z1 = [W1] x with the rounded W1 known: rank {system.rank} of {instance.columns}"
        detail += "" if system.full else "; no lattice tried: a product of pairings is dear"
        how, since = "bounded", int(system.ranks[0][0])
        if system.full:
            solved = system.solve(0, np.arange(1)) is not None
            detail += f"; {int(solved)} of 1 tried is solved"
            how, since = "exact" if solved else "bounded", system.since or 0
        yield Told("samples", of, how, detail, since, samples=instance.blocks[0])


def combined(sight: Sight) -> Iterator[Told]:
    """The samples of the first batch that combinations of its samples determine, by keys or by gradients; and
    all that were found in the batches that were tried, where these are more.
    """
    across = [i for i in sight.relations.of(Instance) if i.across] if sight.payloads else []
    clear = sight.payloads and any(True for _ in sight.relations.of(Combinations))
    if across:
        found, how = gradient.by_keys(across[0], sight.prior.x_max), "keys for dZ1 on the rows of X_B^T"
    elif clear:
        found, how = gradient.by_combinations(sight.relations, sight.prior, visits=_VISITS), "dZ1 and dW1"
    else:
        return
    tried = list(islice(found, _BATCHES))
    some = [(number, each) for number, each in enumerate(tried) if len(each.index)]
    whole = [pair for pair in some if len(pair[1].index) == len(pair[1].block)]
    limits = f"not tried beyond {_BATCHES} batches" + ("" if across else f" and {_VISITS} visits of each")
    if not some:
        if tried:
            left = f"no sample is separated in {len(tried)} batches; no lattice tried, {limits} (gradient)"
            detail = f"{how}: {left}"
            yield Told("samples", sight.all, "bounded", detail, None, samples=sight.index, by="gradient")
        return
    number, best = min(whole or some, key=lambda pair: int(pair[1].steps.max()))
    of = f"{len(best.index)} of the {len(best.block)} samples of batch {number}"
    which = "the first whole one" if whole else "none is whole"
    detail = f"{how}: solved in integers; {which} of {len(tried)} batches, {limits}"
    yield Told("samples", of, "exact", detail, int(best.steps.max()), samples=best.index)
    index = np.unique(np.concatenate([each.index for _, each in some]))
    if len(index) > len(best.index):
        since = max(int(each.steps.max()) for _, each in some)
        said, of = f"{how}: solved in integers, in {len(some)} batches, {limits}", sight.of(index, index[:0])
        yield Told("samples", of, "exact", said, since, samples=index, by="batches")
