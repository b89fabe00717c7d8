"""Samples from some known ones under MITIG1, with no weight known: every hiding key works on every
ciphertext.

The cloud decrypts Z = X W^T for the keys of as many steps as it likes, rows of an unknown W of rank n. Known
samples X_k have known Z_k = X_k W^T, so for another sample z = Z_k^T c gives x = X_k^T c: exact once the
known samples span the others. No learning rate, no W1 and no dZ1 is needed, and no optimizer matters. Where
they do not span them, the lattice of whole pixels does what linear algebra cannot (`solvers/subset_sum.py`):
of digits of rank 55, 16 to 25 known ones give nearly all others, on the pixels that they show. Where the
others differ in the pixels that none of them shows, public images tell which. How long the training was
hardly matters, as keys that generate the lattice say all of it. What is left is regressed: x on z, with a
ridge chosen by leaving each known sample out. Clipped to the pixel range and rounded to integers.

This project's observation. Assumes known samples; cost: (n + 8) decryptions a sample, at 5 to 8 ms each, one
least-squares system and up to some 20 lattice reductions, seconds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.attacks.known_maps import PRODUCTS
from parties.adversary.solvers.exact import Echelon
from parties.adversary.solvers.lattice import LATTICE, expected_of
from parties.adversary.solvers.subset_sum import from_known, with_rest
from protocols.language.relations import Instance, Keys, now

NAME = "known_samples"
SUMMARY = "MITIG1: with some samples known, all others, from what every key gives on every ciphertext"
CONSUMES = (Instance,)

_MARGIN = 8  # keys beyond n: some rows are linearly dependent
_RANK = 1e-9  # singular values of integers below it, relative to the largest, count as zero
_POWERS = (1.0, 0.5, 0.0)  # of the singular values of Z, from as it is to white
_RIDGES = tuple(10.0**p for p in range(-8, 2))  # relative to the mean square of the known features
_CONSTANT = 10.0

Reals = NDArray[np.float64]
Group = list[tuple[Instance, list[Keys]]]  # instances whose keys, in this order, stand for the same maps


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Return every sample that was not known, of the owners of whom enough was decrypted."""
    del rng  # nothing here is drawn
    if prior.known is None:
        raise NotApplicable("no sample is known beforehand: give --known K")
    index, values, ranks, last, used, solved = [], [], [], 0, 0, np.zeros(2, dtype=np.int64)
    for group in groups(relations):
        where, z = _decrypted(group, prior.known.index)
        known = np.isin(where, prior.known.index)
        if not known.any() or known.all():
            continue
        images = prior.known.images[np.searchsorted(prior.known.index, where[known])]
        found, rank = solve_known(z[known], images, z[~known], prior.x_max)
        if rank < _rank(z) and prior.pixels <= LATTICE:
            keys = len(now(group[0][1][0].key).elements)
            exact = from_known(np.vstack([z[known], z[~known]]), images, expected_of(prior), keys)
            good = exact.whole | exact.shown
            placed = exact.values
            if prior.public is not None:
                placed = with_rest(exact, np.asarray(images.any(axis=0)), prior.public * prior.x_max)
            found[good] = placed[good]
            solved += np.array([exact.whole.sum(), exact.shown.sum()])
        index.append(where[~known])
        values.append(found / prior.x_max)
        ranks.append([rank, _rank(z)])
        last, used = max(last, group[0][1][-1].since), max(used, z.shape[1])
    if not index:
        raise NotApplicable("none of the known samples lies among those that are decrypted")
    notes = {"keys_used": used, "rank_of_known_and_of_all": ranks, "samples_decrypted": sum(map(len, index))}
    notes |= {"solved_in_whole_numbers": int(solved[0])}
    notes |= {"likely_but_for_pixels_that_no_known_sample_shows": int(solved[1])}
    whole = all(known == total for known, total in ranks)
    return Reconstruction(
        Quantity.IMAGES, np.concatenate(index), np.vstack(values), last if whole else None, notes=notes
    )


def solve_known(
    z_known: NDArray[np.int64], x_known: NDArray[np.int64], z: NDArray[np.int64], x_max: int
) -> tuple[NDArray[np.int64], int]:
    """Integer pixels (m, n) with z (m, K) = x W^T for the unknown W of z_known (k, K) = x_known W^T, and the
    rank of z_known.
    """
    c, _, rank, _ = np.linalg.lstsq(z_known.T.astype(np.float64), z.T.astype(np.float64), rcond=_RANK)
    spans = int(rank) == _rank(np.vstack([z_known, z]))
    pixels = (x_known.T @ c).T if spans else regressed(z_known, x_known, z)
    return np.rint(np.clip(pixels, 0, x_max)).astype(np.int64), int(rank)


def regressed(z_known: NDArray[np.int64], x_known: NDArray[np.int64], z: NDArray[np.int64]) -> Reals:
    """Pixels (m, n) where the known samples do not span the others: ridge regression of x on z from the k
    known pairs.

    The rows of W are far from orthogonal, so that least squares fit the few directions in which they are long
    and little else. How much those are shortened, and the ridge, are chosen by the error that each known
    sample has when it is left out: not by the truth.
    """
    every = np.vstack([z_known, z]).astype(np.float64)
    u, s, _ = np.linalg.svd(every - every.mean(axis=0), full_matrices=False)
    kept, mean, k = s > s[0] * _RANK, x_known.mean(axis=0), len(x_known)
    best, found = np.inf, np.broadcast_to(mean, (len(z), len(mean)))
    for power in _POWERS:
        features = u[:, kept] * s[kept] ** power
        products = (features - features[:k].mean(axis=0)) @ (features[:k] - features[:k].mean(axis=0)).T
        unit = np.trace(products[:k]) / k
        products = products + _CONSTANT * unit  # a constant term that is hardly held back
        for ridge in _RIDGES:
            inverse = np.linalg.inv(products[:k] + ridge * unit * np.eye(k))
            weights = inverse @ (x_known - mean)
            error = float(
                ((weights / np.diag(inverse)[:, None]) ** 2).mean()
            )  # of each when left out, in closed form
            if error < best:
                best, found = error, mean + products[k:] @ weights
    return found


def groups(relations: Relations) -> list[Group]:
    """Whose keys stand for the same maps, as many messages as n + a margin keys take, spread over the run: W1
    differs most between distant ones. Where owners never have the same map at the same time, each stands
    alone.
    """
    every = [
        (i, {keys.map: keys for keys in i.messages() if keys.map}) for i in relations.of(Instance) if i.hides
    ]
    if not any(messages for _, messages in every):
        raise NotApplicable(f"the view of {', '.join(relations.parties)} holds no keys that hide a map")
    shared = [which for which in every[0][1] if all(which in messages for _, messages in every)]
    if shared:
        return [[(i, _spread(i, [messages[which] for which in shared])) for i, messages in every]]
    return [[(i, _spread(i, list(messages.values())))] for i, messages in every if messages]


def _spread(instance: Instance, messages: list[Keys]) -> list[Keys]:
    h = len(now(messages[0].key).elements)
    wanted = min(len(messages), -(-(instance.columns + _MARGIN) // h))
    return [messages[i] for i in np.unique(np.linspace(0, len(messages) - 1, wanted).astype(int))]


def _decrypted(group: Group, known: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(positions (m,), Z (m, K)) of samples of a group; the known ones and then the first ones if they are
    too many.
    """
    h = len(now(group[0][1][0].key).elements)
    count = h * len(group[0][1])
    every = np.concatenate([instance.blocks[0] for instance, _ in group])
    known = np.intersect1d(every, known)
    others = np.setdiff1d(every, known)[: max(0, PRODUCTS // count - len(known))]
    chosen, where, parts = np.union1d(known, others), [], []
    for instance, messages in group:
        which = np.flatnonzero(np.isin(instance.blocks[0], chosen))
        if len(which):
            parts.append(np.hstack([instance.products(now(keys.key), 0, which) for keys in messages]))
            where.append(instance.blocks[0][which])
    return np.concatenate(where), np.vstack(parts)


def _rank(z: NDArray[np.int64]) -> int:
    echelon = Echelon(z.shape[1])
    echelon.add(z)
    return echelon.rank
