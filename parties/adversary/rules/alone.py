"""Samples that alone moved a unit of a map, one by one, as `bias` and `exclusive` read them; pruned ones."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attacks.lattice_span import own_rows
from parties.adversary.rules.told import Sight, Told
from parties.adversary.solvers.moves import Moved, between_known, computable, own, unmixed
from parties.adversary.solvers.pruned import of_changes
from parties.adversary.solvers.rows import by_bias, by_scale
from protocols.language.relations import KnownMap, Pruned

_CHANGES = 64  # that are looked at, the first ones
_WORK = 100_000_000  # roundings that are spent, about two seconds


def alone(sight: Sight) -> Iterator[Told]:
    """Whole rows of the changes between known maps: of batches that give as many as they have samples, these;
    of others how many there are, since which of a batch they are is not known.
    """
    every = between_known(sight.relations) if sight.payloads else []
    if all(computable(u.terms, u.steps) for u in every):  # solved for elsewhere, if it was kept
        for update in every[:1]:
            update.steps.error(int(np.flatnonzero(update.terms)[0]))
        return
    mine, held = own(sight.relations), own_rows(sight.relations)
    first = sorted(every, key=lambda each: (each.since, each.after.owner))[:_CHANGES]
    whole, placed, met, left = dict[int, int](), set[bytes](), dict[bytes, int](), _WORK
    for moved in unmixed(sight.relations, first):
        left -= moved.matrix.size * (1 if moved.bias is not None else sight.prior.x_max)
        if left < 0:
            break
        rows = {row.tobytes() for row in _rows(moved, sight.prior.x_max)} - held
        index = np.setdiff1d(moved.index, mine)
        if len(index) and len(rows) >= len(index):
            whole |= {int(i): moved.since for i in index if int(i) not in whole}
            placed |= rows
        elif len(index):
            met |= {row: moved.since for row in rows if row not in met}
    how = f"whole rows of changes of known maps, not tried beyond {_CHANGES} changes and some seconds"
    if whole:
        index = np.array(sorted(whole), np.int64)
        said = f"each moved a unit alone: {how} (bias, exclusive)"
        yield Told(
            "samples", sight.of(index, mine), "exact", said, max(whole.values()), samples=index, by="alone"
        )
    met = {row: since for row, since in met.items() if row not in placed}
    if met:
        # No positions: a larger view, of which other rows are its own, is not asked for the same ones.
        of = f"{len(met)} of {sum(sight.counts)} samples (positions not known)"
        said = f"moved a unit alone, which of their batches is not known: {how} (bias, exclusive)"
        none = np.zeros(0, np.int64)
        yield Told("samples", of, "exact", said, max(met.values()), samples=none, by="some alone")


def pruned(sight: Sight) -> Iterator[Told]:
    """What is left of changes of which owners set back what moved least: batches that it gives whole, and
    what is known of all others.
    """
    every, mine = list(sight.relations.of(Pruned)), own(sight.relations)
    index, since = sight.united((np.setdiff1d(each.samples, mine), each.since) for each in every)
    if not len(index):
        return
    whole = dict[int, int]()
    if sight.payloads:
        for some, parts, number in islice(of_changes(sight.relations, sight.prior.x_max), _CHANGES):
            if sum(bool(part.known.all()) for part in parts) >= len(some):
                whole = {**{int(i): number for i in some}, **whole}
    biased = any(known.bias is not None for known in sight.relations.of(KnownMap))
    tried = f"by bias in {_CHANGES} changes at most" if biased else "by nothing: the first layer has no bias"
    tried = tried if sight.payloads else "by nothing: payloads not recorded"
    if whole:
        rows = np.array(sorted(whole), np.int64)
        said = f"each moved a unit alone, and pruning left enough of it, read {tried} (bias)"
        yield Told(
            "samples", sight.of(rows, mine), "exact", said, max(whole.values()), samples=rows, by="left"
        )
    if len(whole) < len(index):
        said = f"entries of W1 - W1' that pruning left are as they were; no lattice tried, read {tried}"
        said += "; further: bias, invert" if biased else "; further: invert"
        yield Told("samples", sight.of(index, mine), "bounded", said, since, samples=index, by="pruned")


def _rows(moved: Moved, x_max: int) -> NDArray[np.int64]:
    """Whole rows of a change, by its bias where the view holds it."""
    if moved.bias is None:
        return by_scale(moved.matrix, moved.noise, x_max)
    return by_bias(moved.matrix, moved.bias, (moved.noise, moved.bias_noise), x_max)
