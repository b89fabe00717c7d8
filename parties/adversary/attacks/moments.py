"""Batches from gradients of linear models: keys of every step give X^T X of each batch; pixels are whole.

The gradient of a linear model on a batch X (m, n) is affine in its weights, g(w) = X^T X w - c X^T t. Under
quadratic functional encryption for vertical federated learning (S. Chen et al., arXiv:2305.08358) the cloud
decrypts g alone; but a key works on every ciphertext of its instance, so that the keys of all steps give g of
every batch at the weights of every step. Differences of two, of one head, are K = M S with M = X^T X and S
the differences of the weights. Once S has as many directions as M, at most m, M = K (S^T K)^-1 K^T: after m +
1 steps with one head. It is computed modulo a prime of 61 bit, and taken only where every entry comes out
small, which entries of a wrong M do not.

Over the reals M is X up to a rotation. Over the integers it is X up to signs and order: the rows of M
generate the lattice of the samples where the columns of X generate Z^m; LLL gives a basis B of it, X = U B
with U unimodular, and P = U^T U follows from M. LLL on the quadratic form P finds its m orthonormal vectors
(the lattice Z^m in disguise), so X. What is returned has X^T X = M, entry by entry. With X, the targets t
follow from any gradient. An observation of this project; that X^T X of whole numbers gives X away holds
of any linear regression that releases it. In no order within a batch. Costs two reductions a batch, under a
second, and the decryption of as many steps as it takes.

Assumes that the columns of X generate Z^m, which takes more columns that vary than samples. Digits, of whose
64 columns some 54 vary, made-up gradients: every batch of up to 44 came out, of 48 five of six, of 52 two of
six, of 56 none; a real batch of 48: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import fmpz_mat, nmod_mat
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from protocols.language.relations import Gradients, now

NAME = "moments"
SUMMARY = "gradients of linear models at the weights of every step: X^T X of each batch, and its whole root"
CONSUMES = (Gradients,)

_PRIME = (1 << 61) - 1
_MOST = 64  # samples of a batch whose lattice is reduced

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Opened:
    """What a batch gave: the rank of what was found of M, M (n, n) where it is whole, the samples (m, n) in
    no order, and the round by which the weights had as many directions.
    """

    rank: int
    since: int
    matrix: Integers | None = None
    rows: Integers | None = None


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """The samples of every batch, in no order."""
    del rng  # nothing here is drawn
    index, values, found = [], [], []
    for each in relations.of(Gradients):
        got = opened(each, prior.x_max)
        rows = np.full((len(each.samples), prior.pixels), np.nan)
        if got.rows is not None:
            rows[:] = got.rows / prior.x_max
        index.append(each.samples)
        values.append(rows)
        found.append(got)
    if not any(got.matrix is not None for got in found):
        most = max(got.rank for got in found)
        least = min(map(len, index))
        raise NotApplicable(f"the weights of the keys have {most} directions, for batches of {least} or more")
    solved = [got for got in found if got.rows is not None]
    notes: dict[str, Any] = {
        "batches": len(found),
        "matrices": sum(got.matrix is not None for got in found),
        "batches_solved": len(solved),
        "ranks": [got.rank for got in found[:16]],
    }
    when = max(got.since for got in solved) if len(solved) == len(found) else None
    return Reconstruction(
        Quantity.UNORDERED_IMAGES, np.concatenate(index), np.concatenate(values), when, notes=notes
    )


def opened(gradients: Gradients, x_max: int) -> Opened:
    """M of a batch by the differences of its gradients, and its whole root. M has rank min(m, n) at most."""
    size, every = len(gradients.samples), np.unique(gradients.steps)
    least = 2 + -(-size // len(np.unique(gradients.heads)))  # steps: one more than it takes
    while True:
        s, k, steps = _differences(gradients, every[:least])
        chosen = _independent(k)
        rank, since = len(chosen), int(steps[chosen].max()) if len(chosen) else gradients.since
        if rank >= min(size, k.shape[1]) or least >= len(every):
            break
        least *= 2
    if not rank:
        return Opened(0, since)
    found = _matrix(s[chosen], k[chosen], size * x_max**2)
    if found is None:
        return Opened(rank, since)
    return Opened(rank, since, found, root(found, rank, size, x_max) if rank <= _MOST else None)


def targets(gradients: Gradients, rows: Integers) -> Integers | None:
    """T (m, heads) of samples in the order of `rows`, by a gradient of each head; None unless all are +-1."""
    (first,) = np.nonzero(gradients.steps == gradients.steps.min())
    weights = np.asarray(now(gradients.weights), np.float64)[first]
    g = np.asarray(gradients.values(gradients.steps[first][:1]), np.float64)
    if np.linalg.matrix_rank(rows.astype(np.float64)) < len(rows):
        return None
    errors = np.linalg.lstsq(rows.T.astype(np.float64), g.T, rcond=None)[0]
    found = (rows @ weights.T - errors) / gradients.scale
    whole: Integers = np.rint(found).astype(np.int64)
    right = (np.abs(whole) == 1).all() and np.array_equal(
        (rows @ weights.T - gradients.scale * whole).T @ rows, g
    )
    return whole if right else None


def _differences(gradients: Gradients, some: Integers) -> tuple[NDArray[Any], NDArray[Any], Integers]:
    """Differences (r, n) of weights and of gradients of some steps, between each step of a head and its
    first.
    """
    (chosen,) = np.nonzero(np.isin(gradients.steps, some))
    weights = np.asarray(now(gradients.weights))[chosen].astype(object)
    values = np.asarray(gradients.values(some)).astype(object)
    heads, steps = gradients.heads[chosen], gradients.steps[chosen]
    parts = [np.flatnonzero(heads == head) for head in np.unique(heads)]
    first = np.concatenate([np.full(len(part) - 1, part[0]) for part in parts])
    later = np.concatenate([part[1:] for part in parts])
    order = np.argsort(steps[later], kind="stable")
    first, later = first[order], later[order]
    return weights[later] - weights[first], values[later] - values[first], steps[later]


def _independent(k: NDArray[Any]) -> Integers:
    """The first rows (r, n) that are independent."""
    if not k.size:
        return np.zeros(0, np.int64)
    reduced, rank = _modulo(k.T).rref()
    table = np.array([[int(v) for v in row] for row in reduced.tolist()], object)[:rank]
    return np.array([int(np.flatnonzero(row)[0]) for row in table], np.int64)


def _modulo(values: NDArray[Any]) -> nmod_mat:
    return nmod_mat([[int(v) % _PRIME for v in row] for row in values], _PRIME)


def _matrix(s: NDArray[Any], k: NDArray[Any], largest: int) -> Integers | None:
    """M = K^T (S K^T)^-1 K for rows S, K (r, n); None unless it is of whole numbers from 0 to `largest`."""
    tall = _modulo(k)
    inner = _modulo(s) * tall.transpose()
    if inner.rank() < len(s):
        return None
    whole = tall.transpose() * inner.solve(tall)
    found = np.array([[int(v) for v in row] for row in whole.tolist()], object)
    fits = (found <= largest).all() and (found == found.T).all()
    return found.astype(np.int64) if fits else None


def root(m: Integers, rank: int, size: int, x_max: int) -> Integers | None:
    """X (size, n) with X^T X = M and entries from 0 to `x_max`, in no order; None where it is not found,
    or where it has fewer columns than rows, of which M is no proof.
    """
    if rank > size or len(m) < size:
        return None
    basis = _array(fmpz_mat(m.tolist()).lll())[-rank:]
    if np.linalg.matrix_rank(basis.astype(np.float64)) < rank:
        return None
    form = _form(m, basis)
    if form is None:
        return None
    reduced, moved = fmpz_mat(form.tolist()).lll(True, 0.99, 0.51, "gram")
    if reduced != fmpz_mat(np.eye(rank, dtype=np.int64).tolist()):
        return None
    inverse = np.rint(np.linalg.inv(_array(moved).T.astype(np.float64))).astype(np.int64)
    rows = inverse @ basis
    rows = rows * np.where(rows.sum(axis=1, keepdims=True) < 0, -1, 1)
    rows = np.vstack([rows, np.zeros((size - rank, m.shape[1]), np.int64)])
    right = rows.min() >= 0 and rows.max() <= x_max and np.array_equal(rows.T @ rows, m)
    return rows if right else None


def _form(m: Integers, basis: Integers) -> Integers | None:
    """P (r, r) with B^T P B = M, for a basis B (r, n); None unless it is whole."""
    b = basis.astype(np.float64)
    inverse = np.linalg.pinv(b)
    guess = np.rint(inverse.T @ m @ inverse).astype(np.int64)
    return guess if np.array_equal(basis.T @ guess @ basis, m) else None


def _array(matrix: fmpz_mat) -> Integers:
    return np.array([[int(v) for v in row] for row in matrix.tolist()], np.int64)
