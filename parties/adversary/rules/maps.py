"""What follows from maps of samples, Z = W X^T: with W known, with W hidden, and from how W moved, a span of
the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable
from parties.adversary.attacks import gram, gram_public, known_maps, lattice_gram, lattice_span, update
from parties.adversary.rules.networks import by_change
from parties.adversary.rules.told import Sight, Told
from parties.adversary.solvers.lattice import LATTICE
from parties.adversary.solvers.moves import (
    between_known,
    changes,
    computable,
    own,
    placed,
    rounding_error,
    samples_of,
)
from parties.adversary.solvers.portions import Portions, whole
from parties.adversary.solvers.products import Stack
from parties.adversary.solvers.spans import points_of_span
from protocols.language.relations import (
    Instance,
    KnownMap,
    Map,
    Noised,
    Opaque,
    Products,
    Replay,
    Samples,
    Update,
    Without,
    now,
)
from protocols.language.roles import DATA_OWNER, party_name

_GRAM_SAMPLES = 256  # up to which a Gram matrix is computed at the end of every run: a second
_GRAM_ERROR = (
    0.001  # expected relative error up to which it counts as exact: the estimate can be some times too low
)

_OWNERS = 4  # owners whose first change is solved for
_CHANGES, _UNKNOWNS = 32, 256  # changes that are solved for together, and samples in them at most
_LATTICES = 4  # of known maps that are reduced: a second or two each
_ENTRIES = 10_000_000  # pixels of a data set up to which that is done

_SPAN_WORK = 8 * 24**3  # cubes of the samples in a sum that are spent on lattices: some seconds
_SPANNED = 24  # samples in a sum up to which the lattice of its span is searched at the end of every run
_OUT = "come out as integers"

Reals = NDArray[np.float64]


# --- how maps moved


def changed(sight: Sight) -> Iterator[Told]:
    """What the change between two known maps says of the samples that moved it: the first one, solved for."""
    relations, mine = sight.relations, own(sight.relations)
    known = {k.map: k for k in relations.of(KnownMap) if k.labels and not k.own}
    moved = between_known(relations, rounded=True)
    rounded = next(iter(moved), None)
    if rounded is not None:
        detail = "W1(t) - W1(t+1) of the requests for keys are combinations of the samples, up to rounding"
        detail += "; dZ1 says which" if computable(rounded.terms, rounded.steps) else ""
        detail += "; no lattice tried"
        index, since = sight.united((samples_of(each), each.since) for each in moved)
        index = np.setdiff1d(index, mine)
        yield Told("samples", sight.of(index, mine), "bounded", detail, since, samples=index, by="rounded")
    every = between_known(relations)
    if not every:
        reason = next((w.why for w in relations.of(Without) if w.type is Update), "")
        if reason and len({k for k in known if k.name != "head_mean"}) > 1:
            said = f"W1 - W1' of known maps: {reason}; no lattice nor other solver tried: not analysed"
            if next(relations.of(Noised), None) is not None:
                said += "; further: bias (samples that are batches by themselves, estimated under the noise)"
            index = np.setdiff1d(sight.index, mine)
            if len(index):
                yield Told("samples", sight.of(index, mine), "bounded", said, samples=index)
        return
    firsts = {each.after.owner: each for each in reversed(every)}  # of each owner, or of everybody
    order = sorted(firsts.values(), key=lambda each: (each.since, each.after.owner))
    solved, told = set[int](), set[int]()
    for first in order[:_OWNERS]:
        index = np.setdiff1d(samples_of(first), mine)
        how, detail = "bounded", f"W1 - W1' spans them ({len(index)} samples; payloads not recorded)"
        if sight.payloads:
            how, detail = _change(sight, first, known, index)
        yield Told("samples", _of_change(sight, first, index), how, detail, first.since, samples=index)
        told |= set(index.tolist())
        solved |= set(index.tolist()) if how == "exact" else set()
    left = [u for u in order[_OWNERS:] if not sight.payloads or computable(u.terms, u.steps)]
    yield from _others(sight, left, mine)
    if sight.payloads:
        yield from _stacked(sight, every, solved)
        yield from _spanned(sight, every, solved, told)


def _others(sight: Sight, left: list[Update], mine: NDArray[np.int64]) -> Iterator[Told]:
    """The samples of owners whose copies were not tried."""
    if left:
        index = np.setdiff1d(np.concatenate([samples_of(each) for each in left]), mine)
        detail = (
            "the change of each copy spans its owner's samples; no lattice tried, nor dZ1: for others only "
            "(lattice-span, bias, exclusive, spear)"
        )
        since = max(each.since for each in left)
        yield Told(
            "samples", f"{len(index)} samples of others", "bounded", detail, since, {}, index, "others"
        )


def _stacked(sight: Sight, every: list[Update], solved: set[int]) -> Iterator[Told]:
    """Samples that the first changes determine together, where each by itself leaves some open."""
    mine, some, used = set(own(sight.relations).tolist()), list[Update](), set[int]()
    tried, known = set[int](), [each for each in every if computable(each.terms, each.steps)]
    for each in sorted(every, key=lambda each: (each.since, each.after.owner))[:_CHANGES]:
        used |= set(samples_of(each).tolist())
        if len(used) > _UNKNOWNS:
            break
        if computable(each.terms, each.steps):
            some.append(each)
            tried |= set(samples_of(each).tolist())
    left = {int(i) for each in known for i in samples_of(each)} - tried - mine - solved
    if left:
        where = np.array(sorted(left), np.int64)
        said = f"changes of known maps and dZ1, not tried beyond {_CHANGES} changes and {_UNKNOWNS} samples"
        since, of = max(each.since for each in known), sight.of(where, own(sight.relations))
        yield Told("samples", of, "bounded", f"{said} (update)", since, samples=where, by="not stacked")
    if not some or used - mine <= solved or sum(sight.counts) * sight.prior.pixels > _ENTRIES:
        return
    rows, found = update.solve_updates(sight.relations, changes(sight.relations, some), sight.prior)
    index = np.setdiff1d(np.flatnonzero(rows.solved), list(mine))
    if not set(index.tolist()) <= solved:
        detail = f"{len(some)} changes of known maps and dZ1 together: solved in integers (update)"
        since, of = max(step for step, fresh in found.items() if fresh), sight.of(index, own(sight.relations))
        yield Told("samples", of, "exact", detail, since, samples=index, by="stacked")


def _spanned(sight: Sight, every: list[Update], solved: set[int], told: set[int]) -> Iterator[Told]:
    """Samples in the spans of all changes whose dZ1 is not known, as `lattice_span` reads them, where these
    are more than those `solved` by the first change of each owner; and, but for those `told`, all others.
    """
    mine = own(sight.relations)
    some = [each for each in every if not computable(each.terms, each.steps)]
    work, found, part, left = _SPAN_WORK, dict[int, int](), list[tuple[int, set[int], int]](), set[int]()
    batch = min((len(index) for index in some[0].steps.samples), default=0) if some else 0
    units = 0
    for moved, change, last in lattice_span.together(sight.relations, some):
        index = set(np.setdiff1d(moved, mine).tolist())
        if index <= solved | found.keys():
            continue
        units = max(units, len(change))
        if len(moved) > min(_SPANNED, len(change)) or len(moved) ** 3 > work:
            left |= index
            continue
        work -= len(moved) ** 3
        points, _ = points_of_span(change, len(moved), sight.prior.x_max, 1.0)
        if points.only and len(points.rows) == len(moved):
            found |= {i: last for i in index if i not in found}
        else:
            part += [(len(points.rows), index, last)] if len(points.rows) else []
            left |= index
    limits = f"{_SPANNED} samples in a sum, and some seconds"
    known = solved | found.keys()
    if found:
        rows, since = np.array(sorted(known), np.int64), max(found.values())  # with those of first changes
        said = f"the whole points of the spans of changes, not tried beyond {limits} (lattice-span)"
        yield Told("samples", sight.of(rows, mine), "exact", said, since, samples=rows, by="spans")
    part = [each for each in part if not each[1] <= known | told]
    for count, index, last in part[:1]:
        said = f"of the whole points of a later change {count} of {len(index)} are certain (lattice-span)"
        where = np.array(sorted(index), np.int64)
        yield Told("samples", sight.of(where, mine), "up to", said, last, samples=where, by="a later span")
    if left - known - told:
        where = np.array(sorted(left - known - told), np.int64)
        said = (
            f"changes of known maps span them; no lattice gave all, none tried beyond {limits} (lattice-span)"
            f"; further: {by_change(sight, batch, units)}"
        )
        since = max(each.since for each in some)
        yield Told("samples", sight.of(where, mine), "bounded", said, since, samples=where, by="open spans")


def _of_change(sight: Sight, change: Update, index: NDArray[np.int64]) -> str:
    """Whose samples moved a map, in words: of one owner, whose copy came back, or of all of a round."""
    owners = {sight.owner(int(i)) for i in index}
    copy = change.after.owner >= 0
    whose = next(iter(owners)) if copy else f"{len(owners)} other owners"
    return f"{len(index)} samples of {whose}, round {change.after.time if copy else change.before.time}"


def _change(
    sight: Sight, first: Update, known: dict[Map, KnownMap], index: NDArray[np.int64]
) -> tuple[str, str]:
    """(how, detail) of solving one change for samples."""
    before, after = (np.asarray(now(known[which].value)) for which in (first.before, first.after))
    if not computable(first.terms, first.steps):
        noise = rounding_error(first, after)
        dimensions = min(len(index), len(update.span(before - after, noise)))
        return _of_span(sight, before - after, len(samples_of(first)), dimensions, noise)
    weights, change = placed(first.terms, first.steps, sum(sight.counts)), before - after
    for mine in sight.relations.of(Samples):
        change = change - weights[mine.samples].T @ now(mine.values)
    rank = Stack.of([weights[index].T], first.steps.roundoff).numerical_rank()
    share = whole(np.linalg.pinv(weights[index].T) @ change, sight.prior.x_max).mean()
    detail = f"W1 - W1' and dZ1: rank {rank} for {len(index)} samples; {share:.0%} of the pixels {_OUT}"
    if rank == len(index) and share == 1.0:
        return "exact", detail
    return "bounded", f"{detail}; no lattice tried"


def _of_span(sight: Sight, change: Reals, samples: int, dimensions: int, noise: float) -> tuple[str, str]:
    """(how, detail) of a span: its whole points in the pixel range, where they are found."""
    said = f"W1 - W1' spans {dimensions} dimensions of their space"
    if samples > min(_SPANNED, len(change)):
        names = by_change(sight, samples, len(change))
        return "bounded", f"{said}; no lattice tried here: {samples} samples in one sum; further: {names}"
    points, off = points_of_span(change, samples, sight.prior.x_max, noise)
    if not len(points.rows):
        missing = (
            "points of its lattice in range were" if off < np.inf else "lattice of its whole vectors was"
        )
        names = by_change(sight, samples, len(change))
        return "bounded", f"{said}; the {missing} not found in this one change; further: {names}"
    found = f"{said}, of whose whole points {len(points.rows)} of {samples} are certain"
    whole = points.only and len(points.rows) == samples
    return ("exact" if whole else "up to"), f"{found} (lattice-span)"


def unmasked(sight: Sight) -> Iterator[Told]:
    """Maps that crossed as opaque numbers, and that the view can read all the same."""
    opaque = {label for relation in sight.relations.of(Opaque) for label in relation.labels}
    maps = [
        k for k in sight.relations.of(KnownMap)
        if not k.own and set(k.labels) & opaque and k.map.owner >= 0  # the mean of all is no copy
    ]  # fmt: skip
    for owner in dict.fromkeys(k.map.owner for k in maps):
        mine = [k for k in maps if k.map.owner == owner]
        detail = f"{', '.join(mine[0].labels)}: the view holds every mask of {len(mine)} copies"
        yield Told("weights", party_name(DATA_OWNER, owner), "exact", detail, mine[0].since)


def followed(sight: Sight) -> Iterator[Told]:
    """How W1 moved, for whoever holds the samples and the errors of the steps that moved it."""
    mine, known = own(sight.relations), {k.map for k in sight.relations.of(KnownMap)}
    moves = {u.before: u for u in reversed(list(sight.relations.of(Update)))}
    computed = [
        u for u in moves.values()
        if computable(u.terms, u.steps) and len(used := samples_of(u)) and np.isin(used, mine).all()
    ]  # fmt: skip
    if computed:
        first = min(computed, key=lambda each: each.since)
        detail = f"its changes in {len(computed)} steps are dZ1^T X_B of its own samples"
        detail += "; so is W1, where its beginning is known"
        how = "exact" if first.before in known else "bounded"
        yield Told("weights", "W1", how, detail, first.since)


# --- known maps


def known_products(sight: Sight) -> Iterator[Told]:
    """Z = W X^T with W known: the first batch of somebody else, each time that its map is known; and all that
    are solved map by map.
    """
    relations, mine = sight.relations, own(sight.relations)
    maps = {k.map: k.value for k in relations.of(KnownMap) if not k.own}
    public = [k for k in relations.of(KnownMap) if not k.labels]
    if public:
        yield Told("weights", "W1(0)", "exact", "drawn from a public seed")
    if not sight.payloads:
        yield from _not_solved(sight, maps, mine)
        return
    found = Portions(sum(sight.counts), sight.prior.pixels, sight.prior.x_max)
    if any(True for _ in relations.of(Replay)):
        yield from _replayed(sight, found)
    seen = [
        p
        for p in relations.of(Products)
        if p.map in maps and len(np.setdiff1d(p.samples, mine)) and p.samples.min() >= 0
    ]
    same = [p for p in seen if np.array_equal(p.samples, seen[0].samples)]
    if not same:
        return
    solved = dict[int, int]()
    if sum(sight.counts) * sight.prior.pixels <= _ENTRIES:
        for samples in (each for each in relations.of(Samples) if (each.samples >= 0).all()):
            found.learn(samples.samples, np.asarray(now(samples.values), np.int64))
        solved = known_maps.by_maps(relations, sight.prior, maps, found, _UNKNOWNS, _LATTICES)
    first = np.setdiff1d(same[0].samples, mine)
    told = replace(_first_batch(sight, same, maps, solved), samples=first)
    limits = f"not tried beyond {_UNKNOWNS} samples and {_LATTICES} lattices (known-average, known-init)"
    yield told if told.how == "exact" else replace(told, detail=f"{told.detail}; map by map {limits}")
    index = np.setdiff1d(np.array(sorted(solved), np.int64), mine)
    if not np.isin(index, first if told.how == "exact" else first[:0]).all():
        detail = f"Z1 = W1 x with W1 known, map by map: {len(index)} samples solved in integers"
        detail += f", {limits}" if len(index) + len(mine) < sum(sight.counts) else ""
        since = max(solved[int(i)] for i in index)
        yield Told("samples", sight.of(index, mine), "exact", detail, since, samples=index, by="maps")


def _not_solved(sight: Sight, maps: Mapping[Map, Any], mine: NDArray[np.int64]) -> Iterator[Told]:
    """The samples about which the view has such equations, where they cannot be read."""
    seen = [p for p in sight.relations.of(Products) if p.map in maps and p.samples.min(initial=-1) >= 0]
    index, since = sight.united((np.setdiff1d(p.samples, mine), p.since) for p in seen)
    if len(index):
        detail = "Z1 = W1 x with W1 known; not solved: payloads not recorded"
        yield Told("samples", sight.of(index, mine), "bounded", detail, since, samples=index, by="maps")


def _first_batch(sight: Sight, same: list[Products], maps: dict[Map, Any], solved: dict[int, int]) -> Told:
    w, z, x, n = [], [], None, sight.prior.pixels
    for products in same:
        w.append(np.asarray(now(maps[products.map])))
        z.append(now(products.values))
        if sum(map(len, w)) >= n and Stack.of(w, same[0].roundoff).numerical_rank() == n:
            x = Stack.of(w).least_squares(np.hstack(z))
            break
    few = all(solved.get(int(i), same[0].since + 1) <= same[0].since for i in same[0].samples)
    if not few:
        x1 = known_maps.in_whole_numbers(w[:1], z[:1], same[0].noise, sight.prior, same[0].roundoff)
        few = x1 is not None
    of = f"the first batch of {sight.owner(int(same[0].samples[0]))}"
    rank = Stack.of(w, same[0].roundoff).numerical_rank()
    detail = f"Z1 = W1 x with W1 known: rank {rank} of {n}"
    if few:
        said = f"Z1 = W1 x with W1 known: {len(w[0])} equations and whole pixels, solved"
        return Told("samples", of, "exact", said, same[0].since)
    if x is None:
        why = known_maps.why_not_whole(w[:1], z[:1], same[0].noise, sight.prior, same[0].roundoff)
        return Told("samples", of, "bounded", f"{detail}; {why}", same[0].since)
    share = whole(x, sight.prior.x_max).mean()
    said = f"{detail}; {share:.0%} of the pixels {_OUT}"
    return Told("samples", of, "exact" if share == 1.0 else "bounded", said, same[len(w) - 1].since)


def _replayed(sight: Sight, found: Portions) -> Iterator[Told]:
    """Samples that a public first map gives away, and with them the next maps; adds to `found`."""
    prior, total, last = sight.prior, sum(sight.counts), 0
    for products, w in known_maps.replayed(sight.relations, found):
        if found.solved[products.samples].all():
            continue
        x = Stack.of([w], products.roundoff).solved(now(products.values), prior.x_max, products.noise)
        if x is None:
            z = [now(products.values)]
            x = known_maps.in_whole_numbers([w], z, products.noise, prior, products.roundoff)
        if x is not None:
            found.learn(products.samples, x)
            last = products.since
    count = int(found.solved.sum())
    if count:
        of = sight.all if count == total else f"{count} of {total} samples"
        said, index = (
            f"Z1 = W1 x with W1 known: solved in integers, to step {last}",
            np.flatnonzero(found.solved),
        )
        yield Told("samples", of, "exact", said, last, samples=index, by="replay")


# --- hidden maps

_ENDED = "; known samples give others in whole pixels (known-samples)"


def hidden(sight: Sight) -> Iterator[Told]:
    """Z with W unknown, and what its changes say of inner products."""
    mine = own(sight.relations)
    products = next((p for p in sight.relations.of(Products) if len(np.setdiff1d(p.samples, mine))), None)
    instances = [i for i in sight.relations.of(Instance) if i.hides]
    keyed = next((keys for i in instances for keys in i.messages()), None)
    if products is None and keyed is None:
        return
    seen = (
        "of each batch in its step"
        if products
        else "of every sample in every step, as keys work on all ciphertexts"
    )
    blocks = [(block, 0) for i in instances for block in i.blocks]
    index, since = sight.united([*blocks, *((p.samples, p.since) for p in sight.relations.of(Products))])
    index = np.setdiff1d(index, mine)
    noise = f", under noise of {products.noise:.3g}" if products is not None and products.noise else ""
    width = getattr(sight.config, "width", "some")
    detail = f"Z1 = W1 x with W1 unknown: {width} numbers a step, {seen}{noise}"
    solved = cache(lambda: _solved(sight))  # once for both lines
    why = "W1 is unknown" if sight.payloads else "payloads not recorded"
    found, why = _columns(sight, solved) if keyed is None and sight.payloads else (None, why)
    detail += "" if found else f"; no lattice: {why}{'' if keyed else _turned(sight, solved)}"
    detail += _ENDED if keyed is not None and sight.prior.pixels <= LATTICE else ""
    yield Told("samples", sight.of(index, mine), "bounded", detail, since, samples=index)
    yield from [found] if found else []
    yield _gram(sight, solved, dear=keyed is not None)


def _solved(sight: Sight) -> gram.Gram | NotApplicable:
    """The inner products that the view determines, or why none."""
    try:
        return gram.gram(sight.relations, sight.prior.x_max, samples=_GRAM_SAMPLES, pixels=sight.prior.pixels)
    except NotApplicable as cause:
        return cause


def _columns(sight: Sight, solved: Callable[[], gram.Gram | NotApplicable]) -> tuple[Told | None, str]:
    """Samples whose inner products are known: over the reals up to a rotation, in whole pixels up to the
    order of the columns, which public images tell; or none, and why.
    """
    if sight.prior.pixels > LATTICE:
        return None, f"more than {LATTICE} pixels"
    found = solved()
    if isinstance(found, NotApplicable):
        return None, str(found)
    try:
        index, products = lattice_gram.whole_block(found, sight.prior.x_max)
        columns, _ = lattice_gram.whole_columns(products, sight.prior.x_max)
    except NotApplicable as cause:
        return None, str(cause)
    count = columns.values.shape[1]
    detail = (
        f"the order of pixels, and with {count} of {columns.rank} columns found in whole numbers; "
        "public images end the order (lattice-gram)"
    )
    of = sight.all if len(index) == sum(sight.counts) else f"{len(index)} samples"
    data = {"columns": count, "rank": columns.rank}
    return Told("samples", of, "up to", detail, found.since, data, index, by="columns"), ""


def _turned(sight: Sight, solved: Callable[[], gram.Gram | NotApplicable]) -> str:
    """What ends the rotation that inner products leave, where no lattice does."""
    moves = any(True for _ in sight.relations.of(Update))
    found = solved() if moves and sight.payloads else NotApplicable("")
    if isinstance(found, NotApplicable):
        return ""
    labels = gram_public.labels_of(sight.relations, len(found.values))
    known = len(gram_public.whole_block(found, labels >= 0))
    if known < 2:
        return ""
    return (
        f"; inner products of {known} are known, and with labels public images end the rotation (gram-public)"
    )


def _gram(sight: Sight, solved: Callable[[], gram.Gram | NotApplicable], dear: bool) -> Told:
    """The inner products of all samples, computed where that is quick."""
    reason = next((w.why for w in sight.relations.of(Without) if w.type is Update), "")
    updates = list(sight.relations.of(Update))
    if reason or not updates or not sight.payloads:
        reason = reason or ("how W1 moves is not stated" if sight.payloads else "payloads not recorded")
        return Told("gram", sight.all, "bounded", f"not computed: {reason}", None)
    if dear:
        return _first_update(sight, updates[0].steps)
    large = sight.prior.pixels > gram.RANK
    by_rank = f"; by their rank not tried beyond {gram.RANK} pixels" if large else ""
    found = solved()
    if isinstance(found, NotApplicable):
        return Told("gram", sight.all, "bounded", f"not computed: {found}{by_rank}", None)
    error = found.noise / float(np.sqrt(np.nanmean(found.values**2)))
    detail = f"from changes of Z1: {found.how}, {found.pairs:.0%} of the pairs"
    exact = found.pairs == 1.0 and error < _GRAM_ERROR
    said = f"{detail}, expected error {error:.1g}" + ("" if exact else by_rank)
    return Told("gram", sight.all, "exact" if exact else "bounded", said, found.since)


def _first_update(sight: Sight, steps: Any) -> Told:
    """What the first update shows, without a decryption."""
    times = {keys.map for i in sight.relations.of(Instance) if i.hides for keys in islice(i.messages(), 2)}
    if not steps.known or len(times) < 2:
        return Told("gram", sight.all, "bounded", "the view ends before an update of W1 was seen", None)
    first = steps.error(0)
    rank, size = int(np.linalg.matrix_rank(first)), len(first)
    which = "their" if rank == size else "some of their"
    detail = (
        f"Z1' - Z1 of all samples after an update with rank dZ1 = {rank} for {size} samples: "
        f"{which} inner products with all (not decrypted here)"
    )
    return Told("gram", sight.all, "bounded", detail)
