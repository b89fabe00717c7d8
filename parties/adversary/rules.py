"""What follows from relations, rule by rule: a rank, and a solution for some samples to prove it. Each rule
is cheap.

* `opened`: a master key that the view holds opens ciphertexts.
* `by_keys`: n independent keys determine every sample, and the master key; fewer bound each pixel between two
  linear programs.
* `across_keys`, `combined`: combinations of the samples of a batch determine them while the rank of their
  weights is its size.
* `known_maps`: Z = W X^T with W known, by an average, a public seed or a corrupted owner, are equations.
* `changed`: W - W' = sum_u a_u dZ_u^T X_u between two known maps; with dZ h equations for each pixel, without
  it the span.
* `unmasked`: copies that crossed under masks which the view holds.
* `followed`: how W moved, for whoever has the samples and dZ.
* `hidden`: Z with W unknown, and from its changes the inner products of the samples (`gram`).
* `labelled`: labels that follow from several messages together, and numbers that depend on labels.

That averaging and split learning leak updates is known; the equations are this project's derivation. What is
said to be exact was solved for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import STRENGTH, NotApplicable, Prior, Relations
from parties.adversary.attacks import gradient, gram, known_maps, lattice, lattice_gram, master_key, update
from parties.adversary.solvers import intervals
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
from parties.adversary.solvers.systems import System, gather, systems
from protocols.language.relations import (
    Combinations,
    Equations,
    Instance,
    KnownMap,
    LabelErrors,
    Labels,
    Map,
    MasterKey,
    Moments,
    Opaque,
    Products,
    Replay,
    Samples,
    Update,
    Without,
    now,
)
from protocols.language.roles import DATA_OWNER, party_name

_TRIED = 64  # samples that are solved for, to confirm what the rank says
_OPENED = 1  # samples that a master key opens, where that is dear
_SECONDS = 0.5  # a linear program that takes longer says nothing of its pixel
_BATCHES = 8  # that are tried for combinations that separate their samples
_VISITS = 32  # of each, at most
_PIXELS = 1024  # of an image up to which intervals are computed
_GRAM_SAMPLES = 256  # up to which a Gram matrix is computed at the end of every run: a second
_GRAM_ERROR = (
    0.001  # expected relative error up to which it counts as exact: the estimate can be some times too low
)

_OWNERS = 4  # owners whose first change is solved for
_CHANGES, _UNKNOWNS = 32, 256  # changes that are solved for together, and samples in them at most
_LATTICES = 4  # of known maps that are reduced: a second or two each
_ENTRIES = 10_000_000  # pixels of a data set up to which that is done

_SPANNED = 24  # samples in a sum up to which the lattice of its span is searched at the end of every run
_OUT = "come out as integers"

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Told:
    """A line: of what, of whose, how, and in words.

    `since`: the round from which on its rule expects it to hold; None for what says nothing. `samples`:
    positions of the samples that it is about, None for what has no parts. `by`: which derivation of a rule
    that has several.
    """

    quantity: str
    of: str
    how: str
    detail: str
    since: int | None = 0
    data: dict[str, Any] = field(default_factory=dict)
    samples: NDArray[np.int64] | None = None
    by: str = ""

    @property
    def line(self) -> tuple[Any, ...]:
        """The fields in the order of `Learned`, with runs [start, stop) of samples in `data`."""
        runs = {} if self.samples is None else {"samples": runs_of(self.samples)}
        return self.quantity, self.of, self.how, self.detail, self.since, {**self.data, **runs}


def runs_of(samples: NDArray[np.int64]) -> list[list[int]]:
    """Positions as runs [start, stop); samples without names are in none."""
    index = np.unique(samples[samples >= 0])
    edges = np.flatnonzero(np.diff(index) != 1) + 1
    return [[int(run[0]), int(run[-1]) + 1] for run in np.split(index, edges) if len(run)]


def covers(one: Told, other: Told) -> bool:
    """Whether a line says, by the same derivation, at least what another says."""
    if (one.quantity, one.by) != (other.quantity, other.by) or (one.since is None) > (other.since is None):
        return False
    if one.samples is None or other.samples is None:
        same = one.samples is other.samples and one.of == other.of
    else:
        same = bool(np.isin(other.samples, one.samples).all())
    return same and STRENGTH.index(one.how) >= STRENGTH.index(other.how)


@dataclass(frozen=True)
class Sight:
    """What a rule looks at: the relations, the public configuration, and whether arrays can be read."""

    relations: Relations
    config: Any
    payloads: bool

    @property
    def counts(self) -> tuple[int, ...]:
        """Samples of each owner, as far as the configuration says."""
        return tuple(getattr(self.config, "counts", ()) or (self.relations.count(),))

    @property
    def all(self) -> str:
        """All samples, in words."""
        return f"all {sum(self.counts)} samples"

    @property
    def index(self) -> NDArray[np.int64]:
        """Positions of all samples."""
        return np.arange(sum(self.counts))

    def of(self, index: NDArray[np.int64], mine: NDArray[np.int64]) -> str:
        """Samples in words: all, if these are all that are not `mine`."""
        named = not (index < 0).any()
        whole = named and len(np.union1d(index, mine)) == sum(self.counts)
        return self.all if whole else f"{len(index)} of {sum(self.counts)} samples"

    def united(self, parts: Iterable[tuple[NDArray[np.int64], int]]) -> tuple[NDArray[np.int64], int]:
        """Positions in any of some parts, each with its round, and the first round by which there were all.

        Rows without names are as many samples as there are rows, up to all: negative positions, no two alike.
        """
        found, rows, since, total = set[int](), 0, 0, sum(self.counts)
        for index, number in parts:
            if len(found) + rows >= total:
                break
            fresh, nameless = set(index[index >= 0].tolist()) - found, int((index < 0).sum())
            found, rows = found | fresh, rows + nameless
            since = max(since, number) if fresh or nameless else since
        if rows and len(found) + rows >= total:
            return self.index, since
        return np.array([*range(-rows, 0), *sorted(found)], np.int64), since

    @property
    def prior(self) -> Prior:
        """The pixel range and shape that the configuration states, and nothing else."""
        shape = getattr(self.config, "shape", ()) or (1, self.config.features)
        return Prior(self.config.x_max, tuple(shape))

    def owner(self, position: int) -> str:
        """The name of the owner of a sample."""
        return party_name(DATA_OWNER, int(np.searchsorted(np.cumsum(self.counts), position, side="right")))


Searched = tuple[
    NDArray[np.int64], int, int
]  # by a lattice: which were solved, of how many, by how many keys
Rule = Callable[[Sight], Iterator[Told]]


# --- ciphertexts ---------------------------------------------------------------------------------------


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
    """The master keys that n independent keys of their own determine."""
    every = [gather([instance]) for instance in told]
    found = [key for system in every if (key := master_key.proven_key(system)) is not None]
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


# --- combinations of the samples of a batch ------------------------------------------------------------


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
    some = [(number, each) for number, each in enumerate(islice(found, _BATCHES)) if len(each.index)]
    whole = [pair for pair in some if len(pair[1].index) == len(pair[1].block)]
    if not some:
        return
    number, best = min(whole or some, key=lambda pair: int(pair[1].steps.max()))
    of = f"{len(best.index)} of the {len(best.block)} samples of batch {number}"
    which = "the first whole one" if whole else "none is whole"
    detail = f"{how}: solved in integers; of up to {_BATCHES} batches tried {which}"
    yield Told("samples", of, "exact", detail, int(best.steps.max()), samples=best.index)
    index = np.unique(np.concatenate([each.index for _, each in some]))
    if len(index) > len(best.index):
        since = max(int(each.steps.max()) for _, each in some)
        said, of = f"{how}: solved in integers, in {len(some)} batches", sight.of(index, index[:0])
        yield Told("samples", of, "exact", said, since, samples=index, by="batches")


# --- maps
# --------------------------------------------------------------------------------------------------- ---


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
            said = f"W1 - W1' of known maps: {reason}; no lattice tried"
            yield Told("samples", sight.all, "bounded", said, samples=sight.index)
        return
    firsts = {each.after.owner: each for each in reversed(every)}  # of each owner, or of everybody
    order = sorted(firsts.values(), key=lambda each: (each.since, each.after.owner))
    solved, tried = set[int](), 0
    for first in order[:_OWNERS]:
        tried += 1
        index = np.setdiff1d(samples_of(first), mine)
        how, detail = "bounded", f"W1 - W1' spans them ({len(index)} samples; payloads not recorded)"
        if sight.payloads:
            how, detail = _change(sight, first, known, index)
        yield Told("samples", _of_change(sight, first, index), how, detail, first.since, samples=index)
        solved |= set(index.tolist()) if how == "exact" else set()
        if how == "exact" and not computable(first.terms, first.steps):
            break  # a lattice is dear, and owners are alike
    yield from _others(sight, order[tried:], mine)
    if sight.payloads:
        yield from _stacked(sight, every, solved)


def _others(sight: Sight, left: list[Update], mine: NDArray[np.int64]) -> Iterator[Told]:
    """The samples of owners whose copies were not tried."""
    if left:
        index = np.setdiff1d(np.concatenate([samples_of(each) for each in left]), mine)
        detail = (
            "the change of each copy spans its owner's samples; no lattice tried, nor dZ1: for others only"
        )
        since = max(each.since for each in left)
        yield Told(
            "samples", f"{len(index)} samples of others", "bounded", detail, since, {}, index, "others"
        )


def _stacked(sight: Sight, every: list[Update], solved: set[int]) -> Iterator[Told]:
    """Samples that the first changes determine together, where each by itself leaves some open."""
    mine, some, used = set(own(sight.relations).tolist()), list[Update](), set[int]()
    for each in sorted(every, key=lambda each: (each.since, each.after.owner))[:_CHANGES]:
        used |= set(samples_of(each).tolist())
        if len(used) > _UNKNOWNS:
            break
        if computable(each.terms, each.steps):
            some.append(each)
    if not some or used - mine <= solved or sum(sight.counts) * sight.prior.pixels > _ENTRIES:
        return
    rows, found = update.solve_updates(sight.relations, changes(sight.relations, some), sight.prior)
    index = np.setdiff1d(np.flatnonzero(rows.solved), list(mine))
    if not set(index.tolist()) <= solved:
        detail = f"{len(some)} changes of known maps and dZ1 together: solved in integers (update)"
        since, of = max(step for step, fresh in found.items() if fresh), sight.of(index, own(sight.relations))
        yield Told("samples", of, "exact", detail, since, samples=index, by="stacked")


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
        return "bounded", f"{said}; no lattice tried here: {samples} samples in one sum (lattice-span)"
    points, off = points_of_span(change, samples, sight.prior.x_max, noise)
    if not len(points.rows):
        missing = (
            "points of its lattice in range were" if off < np.inf else "lattice of its whole vectors was"
        )
        return "bounded", f"{said}; the {missing} not found in this one change"
    found = f"{said}, of whose whole points {len(points.rows)} of {samples} are certain"
    whole = points.only and len(points.rows) == samples
    return ("exact" if whole else "up to"), f"{found} (lattice-span)"


def unmasked(sight: Sight) -> Iterator[Told]:
    """Maps that crossed as opaque numbers, and that the view can read all the same."""
    opaque = {label for relation in sight.relations.of(Opaque) for label in relation.labels}
    maps = [k for k in sight.relations.of(KnownMap) if not k.own and set(k.labels) & opaque]
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
    yield told
    index = np.setdiff1d(np.array(sorted(solved), np.int64), mine)
    if not np.isin(index, first if told.how == "exact" else first[:0]).all():
        detail = f"Z1 = W1 x with W1 known, map by map: {len(index)} samples solved in integers"
        detail += f"; the first {_UNKNOWNS} were tried" if sum(sight.counts) > _UNKNOWNS else ""
        since = max(solved[int(i)] for i in index)
        yield Told("samples", sight.of(index, mine), "exact", detail, since, samples=index, by="maps")


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
    detail = f"Z1 = W1 x with W1 unknown: {sight.config.width} numbers a step, {seen}{noise}"
    found, why = _columns(sight) if keyed is None and sight.payloads else (None, "W1 is unknown")
    detail += "" if found else f"; no lattice: {why}"
    yield Told("samples", sight.of(index, mine), "bounded", detail, since, samples=index)
    yield from [found] if found else []
    yield _gram(sight, dear=keyed is not None)


def _columns(sight: Sight) -> tuple[Told | None, str]:
    """Samples whose inner products are known: over the reals up to a rotation, in whole pixels up to the
    order of the columns, which public images tell; or none, and why.
    """
    if sight.prior.pixels > LATTICE:
        return None, f"more than {LATTICE} pixels"
    try:
        found = gram.gram(
            sight.relations, sight.prior.x_max, samples=_GRAM_SAMPLES, pixels=sight.prior.pixels
        )
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


def _gram(sight: Sight, dear: bool) -> Told:
    """The inner products of all samples, computed where that is quick."""
    reason = next((w.why for w in sight.relations.of(Without) if w.type is Update), "")
    updates = list(sight.relations.of(Update))
    if reason or not updates or not sight.payloads:
        reason = reason or ("how W1 moves is not stated" if sight.payloads else "payloads not recorded")
        return Told("gram", sight.all, "bounded", f"not computed: {reason}", None)
    if dear:
        return _first_update(sight, updates[0].steps)
    try:
        found = gram.gram(
            sight.relations, sight.prior.x_max, samples=_GRAM_SAMPLES, pixels=sight.prior.pixels
        )
    except NotApplicable as cause:
        return Told("gram", sight.all, "bounded", f"not computed: {cause}", None)
    error = found.noise / float(np.sqrt(np.nanmean(found.values**2)))
    detail = f"from changes of Z1: {found.how}, {found.pairs:.0%} of the pairs"
    exact = found.pairs == 1.0 and error < _GRAM_ERROR
    said = f"{detail}, expected error {error:.1g}"
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


# --- labels, and what a protocol states itself ---------------------------------------------------------


def labelled(sight: Sight) -> Iterator[Told]:
    """Labels that follow from several messages together; numbers that depend on labels."""
    derived = [labels for labels in sight.relations.of(Labels) if len(labels.labels) > 1]
    if derived:
        index, since = sight.united((labels.samples, labels.since) for labels in derived)
        of = f"{len(index)} of {sum(sight.counts)} samples"
        detail = " + ".join(derived[0].labels) + ": Y = P + (Y - P)"
        yield Told("labels", of, "exact" if sight.payloads else "bounded", detail, since, samples=index)
        return
    told = np.concatenate([np.zeros(0, np.int64), *(labels.samples for labels in sight.relations.of(Labels))])
    every = [e for e in sight.relations.of(LabelErrors) if len(np.setdiff1d(e.samples, told))]
    errors = next(iter(every), None)
    if errors is not None and (errors.samples[0] >= 0 or not len(told)):
        tells = "is what the network says of it (label-outputs)"
        if not errors.outputs:
            tells = "points as its class does, up to a renaming of the classes (label-clusters)"
        detail = f"{', '.join(errors.labels)} of each sample depends on its label: it {tells}"
        index, since = sight.united((each.samples, each.since) for each in every)
        index = np.setdiff1d(index, told)
        yield Told("labels", sight.of(index, told), "bounded", detail, since, samples=index)


def stated(sight: Sight) -> Iterator[Told]:
    """Equations and moments that a protocol states of samples, where no keys do."""
    if any(not i.across for i in sight.relations.of(Instance)):
        return
    for moments in islice(sight.relations.of(Moments), 1):
        yield Told(
            "gram", f"{len(moments.samples)} samples", "exact", "as the protocol states them", moments.since
        )
    first = next(sight.relations.of(Equations), None)
    if first is not None and sight.payloads:
        a = np.asarray(now(first.a), np.float64)
        rank = Stack.of([a]).numerical_rank()
        how = "exact" if rank == a.shape[1] and not first.noise else "bounded"
        of = f"{len(first.samples)} samples of step {first.since}"
        said = f"known equations: rank {rank} of {a.shape[1]}" + ("; no lattice tried" * (how != "exact"))
        yield Told("samples", of, how, said, first.since, samples=first.samples)


RULES: tuple[Rule, ...] = (
    opened,
    by_keys,
    combined,
    changed,
    unmasked,
    followed,
    known_products,
    known_keys,
    hidden,
    labelled,
    stated,
)
