"""How maps moved, from what updates say: their sums over the errors that are known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import Relations
from protocols.language.relations import KnownMap, Map, Noised, Samples, Steps, Update, now

Reals = NDArray[np.float64]


def positions(updates: Iterable[Update]) -> dict[Map, Reals]:
    """How far each map is from the first one that the updates name: W(first) - W(map) = sum_u terms[u] dZ_u^T
    X_u.
    """
    found: dict[Map, Reals] = {}
    for update in updates:
        if not found:
            found[update.before] = np.zeros(len(update.terms))
        if update.before in found:
            found.setdefault(update.after, found[update.before] + update.terms)
    return found


def computable(terms: Reals, steps: Steps) -> bool:
    """Whether the errors of every step that counts are known."""
    return int(np.flatnonzero(terms).max(initial=-1)) < steps.known


def placed(terms: Reals, steps: Steps, count: int) -> Reals:
    """C (count, h) with sum_u terms[u] dZ_u^T X_u = C^T X: the errors at the rows of their samples."""
    (used,) = np.nonzero(terms)
    total = None
    for u in used:
        error = steps.error(int(u))
        total = np.zeros((count, error.shape[1])) if total is None else total
        total[steps.samples[u]] += terms[u] * error
    return np.zeros((count, 1)) if total is None else total


def samples_of(update: Update) -> NDArray[np.int64]:
    """Positions of the samples that moved the map."""
    return update.steps.moved_by(update.terms)


def own(relations: Relations) -> NDArray[np.int64]:
    """Positions of the samples that are the input of a party of the view."""
    return np.unique(
        np.concatenate([np.zeros(0, np.int64), *(s.samples for s in relations.of(Samples) if s.own)])
    )


def between_known(relations: Relations, rounded: bool = False) -> list[Update]:
    """Updates between two maps that the view holds, and that move samples of others.

    Of copies of the map that came back, where there are any; of samples that none of these moves, of the map
    of everybody, from each time that it is known to the next. `rounded`: of maps that are known up to
    rounding only.
    """
    known = {k.map for k in relations.of(KnownMap) if k.labels and not k.own and bool(k.noise) == rounded}
    updates, mine = list(relations.of(Update)), own(relations)
    found = [u for u in updates if u.after.owner >= 0 and {u.before, u.after} <= known]
    covered = np.unique(np.concatenate([mine, *map(samples_of, found)])) if found else mine
    found += [
        u for u in _of_everybody(updates, known) if not found or len(np.setdiff1d(samples_of(u), covered))
    ]
    return [u for u in found if len(np.setdiff1d(samples_of(u), mine, assume_unique=True))]


def _of_everybody(updates: list[Update], known: set[Map]) -> list[Update]:
    if not updates:
        return []
    at = positions(updates)
    times = sorted(
        (which for which in at if which in known and which.owner < 0), key=lambda which: which.time
    )
    since: dict[Map, int] = {}
    for update in updates:
        since[update.after] = max(update.since, since.get(update.after, 0))
    found = []
    for before, after in pairwise(times):
        terms, apart = at[after] - at[before], after.time - before.time
        found.append(Update(before, after, terms, updates[0].steps, apart, since=since.get(after, 0)))
    return found


def rounding_error(update: Update, after: Reals) -> float:
    """About the error of an entry of W(before) - W(after) by the rounding of both maps."""
    return 2 * update.steps.roundoff * float(np.abs(after).max()) * float(np.sqrt(update.roundings))


def changes(relations: Relations, some: list[Update] | None = None) -> list[tuple[Update, Reals, float]]:
    """(update, W(before) - W(after) (h, n), about the error of an entry) of some updates between two known
    maps, or of all.
    """
    known = {k.map: k for k in relations.of(KnownMap)}
    found = []
    for update in between_known(relations) if some is None else some:
        before, after = (now(known[which].value) for which in (update.before, update.after))
        noise = rounding_error(update, after)
        found.append((update, before - after, noise + known[update.before].noise + known[update.after].noise))
    return found


@dataclass(frozen=True)
class Moved:
    """D X (h, n) of the samples at `index`, D unknown, with errors of about `noise` in its columns; `bias`
    (h,) is D 1, where the view holds it, with errors of about `bias_noise`; known from round `since` on.
    """

    index: NDArray[np.int64]
    matrix: Reals
    noise: float
    since: int
    bias: Reals | None = None
    bias_noise: float = 0.0


def noisy(relations: Relations) -> list[Moved]:
    """Changes of copies under noise in every step, of one step each, `noise` being what is to be expected;
    those of samples of the view's own parties are left out.
    """
    known, mine = {k.map: k for k in relations.of(KnownMap)}, own(relations)
    found = []
    for each in relations.of(Noised):
        update = each.update
        if update.after.owner < 0 or np.count_nonzero(update.terms) != 1:
            continue
        if not {update.before, update.after} <= known.keys() or known[update.after].own:
            continue
        index, size = samples_of(update), float(np.abs(update.terms).max())
        if np.isin(index, mine).all():
            continue
        before, after = (known[which] for which in (update.before, update.after))
        bias = None
        if before.bias is not None and after.bias is not None:
            bias = now(before.bias) - now(after.bias)
        moved = now(before.value) - now(after.value)
        found.append(Moved(index, moved, size * each.noise, update.since, bias, size * each.bias_noise))
    return found


@dataclass(frozen=True)
class _Mixed:
    """A change: which steps it sums up, the last of them, its columns and those of their errors."""

    terms: Reals
    columns: Reals
    noise: Reals

    @property
    def last(self) -> int:
        """The last step that counts."""
        return int(np.flatnonzero(self.terms)[-1])

    def without(self, other: _Mixed) -> _Mixed:
        """What is left when as much of another is taken off as its last step counts here."""
        share = self.terms[other.last] / other.terms[other.last]
        terms = self.terms - share * other.terms
        terms[np.abs(terms) < _FORGOTTEN * np.abs(self.terms).max()] = 0.0
        return _Mixed(terms, self.columns - share * other.columns, self.noise + abs(share) * other.noise)


_FORGOTTEN = 1e-9  # of the largest term: what momentum leaves of it is rounding


def unmixed(relations: Relations, some: list[Update] | None = None) -> list[Moved]:
    """Changes between two known maps, of some updates or of all, each of as few steps as can be: what
    momentum carries over from earlier ones is taken off, by the terms, which are public.
    """
    known, mine = {k.map: k for k in relations.of(KnownMap)}, own(relations)
    before: dict[int, list[_Mixed]] = {}  # by owner, as they are: eliminated by each other, errors would grow
    found = []
    for update, change, noise in sorted(
        changes(relations, some), key=lambda c: (c[0].since, c[0].after.owner)
    ):
        ends = [known[which].bias for which in (update.before, update.after)]
        biased, errors = all(bias is not None for bias in ends), [noise]
        if biased:
            first, last = (now(bias) for bias in ends)
            change, errors = np.column_stack([change, first - last]), [noise, rounding_error(update, last)]
        left = whole = _Mixed(update.terms, change, np.array(errors))
        if not whole.terms.any():
            continue
        for other in reversed(before.setdefault(update.after.owner, [])):
            if other.columns.shape == change.shape and left.terms[other.last]:
                left = left.without(other)
        before[update.after.owner].append(whole)
        index = update.steps.moved_by(left.terms)
        if len(np.setdiff1d(index, mine)):
            bias = left.columns[:, -1] if biased else None
            columns = left.columns[:, :-1] if biased else left.columns
            found.append(
                Moved(index, columns, float(left.noise[0]), update.since, bias, float(left.noise[-1]))
            )
    return found
