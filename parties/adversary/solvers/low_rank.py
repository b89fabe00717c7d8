"""Samples up to a rotation from Z1 = W1 X^T under a moving map: X X^T has the rank of X, and no more.

As W1(t) = W1(0) - sum_u a_tu dZ_u^T X_u with all a and dZ known, Z1 of a sample at one time is that at
another plus x (W1(t) - W1(t'))^T. Taken to the same few times tau, the Z1 of all samples are M = X
[W1(tau)^T], of rank n at most. So, in turn, for X = U K with U orthonormal and S = K K^T:

    U      the leading singular vectors of M
    S, Q   in these coordinates W1(t) is Q - Y_t S, Y_t = sum_u a_tu dZ_u^T U_u: least squares, all uses
    M      every Z1 moved to the times tau with U S Y^T; at first it is interpolated

until M stays. S is kept positive semidefinite. Alternating minimisation as in P. Jain, P. Netrapalli, S.
Sanghavi, *Low-rank Matrix Completion using Alternating Minimization*, 2013; this form of it, for a moving
map, is this project's. Nothing guarantees that it converges: it is said whether it did. A sample counts as
found where a second run, from a start and from values that were disturbed, comes back to it; how far apart
the two are is the error to be expected.

Cost of an iteration: O(T h r (B + log T) + N V h r), V visits of a sample; some 30 to 60 iterations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_continuous_lyapunov

Reals = NDArray[np.float64]
Whole = NDArray[np.int64]

_LEAF, _THIN = 64, 6  # size of a block that is kept whole, and the rank of larger ones
_ITERATIONS, _INNER = 80, 6
_STILL = 0.25  # of the residual: M moves by no more once it has converged, and
_FALLEN = 0.98  # the residual no longer falls
_DISTURBED = 0.05  # of the size of M, for the second run
_APART = 10.0  # times the median distance of the two runs, beyond which a sample is not determined
_EXPLAINED = 1e-4  # of Z1 at most that iterations which converged leave, beside the stated noise
_ALIKE = 2.0  # errors that are alike at several uses, as the rounding of W1 is, count for more
_USELESS = 0.5  # of the inner products: an error as large says nothing of them
_TINY = 1e-12


class Blocks:
    """A matrix (T, U) whose off-diagonal blocks have low rank, as the coefficients of training do."""

    def __init__(self, a: Reals) -> None:
        self.shape = a.shape
        self._parts: list[tuple[int, int, Reals, Reals | None]] = []
        self._split(a, 0, 0, np.random.default_rng(0))

    def _split(self, a: Reals, row: int, column: int, rng: np.random.Generator) -> None:
        if not a.any():
            return
        if min(a.shape) <= _LEAF:
            self._parts.append((row, column, a, None))
            return
        q = np.linalg.qr(a @ rng.normal(size=(a.shape[1], _THIN)))[0]
        rest = q.T @ a
        if np.abs(a - q @ rest).max() <= 1e-14 * np.abs(a).max():
            self._parts.append((row, column, q, rest))
            return
        i, j = a.shape[0] // 2, a.shape[1] // 2
        for rows in (slice(0, i), slice(i, a.shape[0])):
            for columns in (slice(0, j), slice(j, a.shape[1])):
                self._split(a[rows, columns], row + rows.start, column + columns.start, rng)

    def times(self, x: Reals) -> Reals:
        """A x."""
        y = np.zeros((self.shape[0], x.shape[1]))
        for row, column, left, right in self._parts:
            width = left.shape[1] if right is None else right.shape[1]
            part = x[column : column + width]
            y[row : row + len(left)] += left @ (part if right is None else right @ part)
        return y


@dataclass(frozen=True, eq=False)
class Uses:
    """Z1 at T uses of batches and what moved the map in U steps, of N samples; places without one hold N.

    `z` (T, B, h), zero where there is no sample, and `samples` (T, B); `terms` (T, U); `errors` (U, B, h) and
    `moved` (U, B). `noise`: of an entry of z, as stated.
    """

    z: Reals
    samples: Whole
    terms: Reals
    errors: Reals
    moved: Whole
    count: int
    noise: float = 0.0

    @classmethod
    def of(
        cls,
        seen: list[tuple[Whole, Reals]],
        terms: Reals,
        steps: list[tuple[Whole, Reals]],
        count: int,
        noise: float = 0.0,
    ) -> Uses:
        """From (samples, values) of each use and of each step."""
        samples, z = _padded(seen, count)
        moved, errors = _padded(steps, count)
        return cls(z, samples, terms, errors, moved, count, noise)

    @cached_property
    def blocks(self) -> Blocks:
        """The terms, to be multiplied by."""
        return Blocks(self.terms)

    @cached_property
    def visits(self) -> list[tuple[Whole, Whole]]:
        """When each sample was used, and where it stood in the batch."""
        when: list[list[int]] = [[] for _ in range(self.count)]
        where: list[list[int]] = [[] for _ in range(self.count)]
        for t, j in zip(*np.nonzero(self.samples < self.count), strict=True):
            when[self.samples[t, j]].append(int(t))
            where[self.samples[t, j]].append(int(j))
        return [
            (np.array(t, dtype=np.int64), np.array(j, dtype=np.int64))
            for t, j in zip(when, where, strict=True)
        ]

    @cached_property
    def times(self) -> Whole:
        """Under how many different maps each sample was used (N,): a map that rests gives no new equation."""
        which = np.unique(self.terms, axis=0, return_inverse=True)[1].ravel()
        return np.array([len(np.unique(which[when])) for when, _ in self.visits])

    def path(self, u: Reals) -> Reals:
        """Y (T, h, r) for U (N, r): by how much U^T-coordinates moved the map until each use."""
        sums = np.matmul(self.errors.transpose(0, 2, 1), _extended(u)[self.moved])
        return self.blocks.times(sums.reshape(len(sums), -1)).reshape(len(self.z), -1, u.shape[1])


@dataclass(frozen=True)
class Factored:
    """Inner products (N, N) of samples, rank of a factor, error to be expected of an entry, root mean square
    of what is left of Z1, iterations, and which samples are determined (N,).
    """

    values: Reals
    rank: int
    noise: float
    residual: float
    iterations: int
    determined: NDArray[np.bool_]


def _padded(parts: list[tuple[Whole, Reals]], count: int) -> tuple[Whole, Reals]:
    most = max(len(index) for index, _ in parts)
    samples = np.full((len(parts), most), count)
    values = np.zeros((len(parts), most, parts[0][1].shape[1]))
    for k, (index, each) in enumerate(parts):
        samples[k, : len(index)], values[k, : len(index)] = index, each
    return samples, values


def _extended(u: Reals) -> Reals:
    """With a row of zeros for places without a sample."""
    return np.vstack([u, np.zeros((1, u.shape[1]))])


def low_rank(uses: Uses, rank: int, rng: np.random.Generator) -> Factored | None:
    """The inner products of all samples of rank `rank` at most; None where the iterations do not converge."""
    moves = _Moves.of(uses)
    begin = moves.interpolated()
    rank = min(rank, _above(begin.reshape(len(begin), -1), uses.noise))
    first = _iterated(moves, uses.z, begin, rank)
    if first is None:
        return None
    at, found = first
    present = (uses.samples < uses.count)[:, :, None]
    again = uses.z + present * rng.normal(scale=found.residual, size=uses.z.shape)
    start = at * (1.0 + _DISTURBED * rng.normal(size=at.shape))
    second = _iterated(moves, again, start, rank)
    if second is None:
        return None
    apart = np.sqrt(np.mean((found.products() - second[1].products()) ** 2, axis=1))
    determined = (uses.times * uses.z.shape[2] >= rank) & (apart <= _APART * np.median(apart) + _TINY)
    if not determined.any():
        return None
    size = float(np.sqrt(np.mean(found.products()[np.ix_(determined, determined)] ** 2)))
    noise = _ALIKE * float(np.sqrt(np.mean(apart[determined] ** 2)))
    if noise > _USELESS * size:
        return None
    return Factored(
        found.products(), rank, noise, found.residual, found.iterations + second[1].iterations, determined
    )


@dataclass(frozen=True)
class _State:
    """U (N, r), S (r, r), the root mean square of what they leave of Z1, iterations."""

    u: Reals
    s: Reals
    residual: float
    iterations: int

    def products(self) -> Reals:
        values: Reals = self.u @ self.s @ self.u.T
        return values


def _iterated(moves: _Moves, z: Reals, start: Reals, rank: int) -> tuple[Reals, _State] | None:
    """(M, state) once M (N, V, h) stays; None if it does not."""
    at, allowed = start, np.hypot(_EXPLAINED * np.sqrt(np.mean(start**2)), 2 * moves.uses.noise)
    before = np.inf
    for k in range(_ITERATIONS):
        u, s, residual, path = _fitted(moves, z, at, rank)
        after = moves.taken(z, path, u @ s)
        moved = float(np.sqrt(np.mean((after - at) ** 2)))
        if not np.isfinite(moved):
            return None
        if moved <= _STILL * residual and _FALLEN * before <= residual <= allowed:
            return after, _State(u, s, residual, k + 1)
        at, before = after, residual
    return None


def _fitted(moves: _Moves, z: Reals, at: Reals, rank: int) -> tuple[Reals, Reals, float, Reals]:
    """(U, S, residual, Y) for M (N, V, h)."""
    uses, flat = moves.uses, at.reshape(len(at), -1)
    u = _leading(flat, rank)
    path = uses.path(u)
    there = path[moves.times]
    turned = np.diff(u.T @ flat.reshape(len(at), len(moves.times), -1).transpose(1, 0, 2), axis=0)
    y = np.diff(there, axis=0).reshape(-1, u.shape[1])
    right = -turned.transpose(1, 0, 2).reshape(u.shape[1], -1) @ y
    square = y.T @ y
    square += _TINY * max(np.trace(square), _TINY) * np.eye(len(square))
    s = solve_continuous_lyapunov(square, right + right.T)
    q = ((u.T @ flat).reshape(len(s), len(moves.times), -1).transpose(1, 2, 0) + there @ s).mean(axis=0)
    s, residual = _least_squares(moves, z, u, path, (s + s.T) / 2, q)
    values, vectors = np.linalg.eigh(s)
    return u, (vectors * np.maximum(values, 0.0)) @ vectors.T, residual, path


def _above(m: Reals, noise: float) -> int:
    """How many singular values of a matrix exceed those that noise alone would have."""
    values = np.linalg.svd(m, compute_uv=False)
    return max(1, int((values > noise * (np.sqrt(m.shape[0]) + np.sqrt(m.shape[1]))).sum()))


def _leading(m: Reals, rank: int) -> Reals:
    """The leading left singular vectors (N, r) of a matrix."""
    small = m.T @ m if m.shape[0] > m.shape[1] else m @ m.T
    vectors = np.linalg.eigh(small)[1][:, ::-1][:, :rank]
    if m.shape[0] <= m.shape[1]:
        return vectors
    q: Reals = np.linalg.qr(m @ vectors)[0]
    return q


def _least_squares(moves: _Moves, z: Reals, u: Reals, path: Reals, s: Reals, q: Reals) -> tuple[Reals, float]:
    """(symmetric S, residual) with least sum_t |Z_t - U_t (Q - Y_t S)^T|^2 over S and Q: conjugate gradients.

    Preconditioned as if every batch were a fair sample, U_t^T U_t = c 1; then S solves a Lyapunov equation.
    """
    batch = _extended(u)[moves.uses.samples]
    mean = path.mean(axis=0)
    apart = path - mean
    together = batch.reshape(-1, u.shape[1])
    within = together.T @ together
    share = float(np.trace(within)) / u.shape[1] / len(z)
    flat = apart.reshape(-1, u.shape[1])
    strength, turn = np.linalg.eigh(flat.T @ flat * share)
    strength = np.maximum(strength, 0.0)
    weight = np.maximum(strength[:, None] + strength, 1e-13 * strength[-1] + np.finfo(np.float64).tiny)
    inverse = np.linalg.pinv(within)

    def forward(s: Reals, q: Reals) -> Reals:
        made: Reals = np.matmul(batch, (q - apart @ s).transpose(0, 2, 1))
        return made

    def backward(rest: Reals) -> tuple[Reals, Reals]:
        slope = np.matmul(rest.transpose(0, 2, 1), batch)
        by_s = -np.tensordot(apart, slope, ([0, 1], [0, 1]))
        return (by_s + by_s.T) / 2, slope.sum(axis=0)

    def scaled(by_s: Reals, by_q: Reals) -> tuple[Reals, Reals]:
        return turn @ (2 * (turn.T @ by_s @ turn) / weight) @ turn.T, by_q @ inverse

    q = q - mean @ s
    rest = z - forward(s, q)
    slope = backward(rest)
    step = way = scaled(*slope)
    power = _inner(slope, step)
    for _ in range(_INNER):
        moved = forward(*way)
        length = power / max(float((moved**2).sum()), np.finfo(np.float64).tiny)
        s, q, rest = s + length * way[0], q + length * way[1], rest - length * moved
        slope = backward(rest)
        step = scaled(*slope)
        before, power = power, _inner(slope, step)
        if power <= 1e-20 * before:
            break
        way = (step[0] + power / before * way[0], step[1] + power / before * way[1])
    return s, float(np.sqrt((rest**2).sum() / moves.entries))


def _inner(one: tuple[Reals, Reals], two: tuple[Reals, Reals]) -> float:
    return float((one[0] * two[0]).sum() + (one[1] * two[1]).sum())


@dataclass(frozen=True, eq=False)
class _Moves:
    """How Z1 of every sample is taken to V times: `times` (V,) are uses; for each sample and time the nearest
    use of it, `when` and `where` (N, V).
    """

    uses: Uses
    times: Whole
    when: Whole
    where: Whole
    entries: int

    @classmethod
    def of(cls, uses: Uses) -> _Moves:
        visits = uses.visits
        most = max(len(when) for when, _ in visits)
        times = np.array(
            [int(np.median([when[v] for when, _ in visits if len(when) > v])) for v in range(most)]
        )
        near = [np.abs(when[:, None] - times).argmin(axis=0) for when, _ in visits]
        when = np.array([t[k] for (t, _), k in zip(visits, near, strict=True)])
        where = np.array([j[k] for (_, j), k in zip(visits, near, strict=True)])
        return cls(uses, times, when, where, int((uses.samples < uses.count).sum()) * uses.z.shape[2])

    def taken(self, z: Reals, path: Reals, right: Reals) -> Reals:
        """M (N, V, h): Z1 of each sample at each of the times, by the path (T, h, r) and U S (N, r)."""
        found = z[self.when, self.where]
        for v, time in enumerate(self.times):
            found[:, v] += np.matmul(path[self.when[:, v]] - path[time], right[:, :, None])[:, :, 0]
        return found

    def interpolated(self) -> Reals:
        """M by interpolation between the uses of each sample."""
        found = np.zeros((*self.when.shape, self.uses.z.shape[2]))
        for i, (when, where) in enumerate(self.uses.visits):
            z = self.uses.z[when, where]
            right = np.clip(np.searchsorted(when, self.times), 1, max(len(when) - 1, 1))
            if len(when) == 1:
                found[i] = z[0]
                continue
            span = (when[right] - when[right - 1]).astype(np.float64)
            share = np.clip((self.times - when[right - 1]) / span, 0.0, 1.0)[:, None]
            found[i] = (1 - share) * z[right - 1] + share * z[right]
        return found
