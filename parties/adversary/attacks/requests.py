"""What requests for keys give away without any ciphertext: an authority is asked for keys of the rounded
W1(t) and dZ1(t).

SGD says W1(t) = W1(0) - lr sum_k c(t - k) dZ1(k)^T X_k / B_k with c(j) = 1 + m + ... + m^(j - 1) for the
momentum m, which is public. The requests are W1(t) rounded to 1 / scale, an error of variance 1 / (12
scale^2) in each step, and dZ1 exactly. So all requests together are a linear system in all samples, with
W1(0) free. Its estimate is the linear one of least mean square error (N. Wiener, 1949) in the box [0, 1]: the
prior's mean image and the covariance of its public images against the variance of rounding, both fixed before
anything is solved. The differences W1(t) - W1(t+1) alone would not do: their errors are correlated, and what
adds up over steps is known best.

That rounding errors of one weight are independent from step to step is an approximation; it fails where W1
moves by less than a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from protocols.language.relations import KnownMap, Map, Update, now

Reals = NDArray[np.float64]

LIMIT = 2048  # samples solved for together, those of the first batches: the system is dense in them
_SWEEPS = 50  # of the projection onto the box
_STIFFNESS = 10.0  # of that projection, in units of a pixel's precision


@dataclass(frozen=True)
class Requests:
    """`w` (T, h, n): W1 as it was asked for at T times; `moves` (T, U): how the errors `dz1` of step u, on
    the samples `used[u]`, had moved it by then; `variance` of an entry.
    """

    w: Reals
    moves: Reals
    dz1: tuple[Reals, ...]
    used: tuple[NDArray[np.int64], ...]
    variance: float


def estimate(relations: Relations, prior: Prior) -> Reconstruction:
    """Estimate the samples whose step was followed by another request."""
    requests = read(relations)
    index = np.unique(np.concatenate(requests.used))
    gram, right = normal_equations(requests, index)
    values = in_box(
        gram * (prior.x_max**2 / requests.variance), right * (prior.x_max / requests.variance), prior
    )
    return Reconstruction(
        quantity=Quantity.IMAGES,
        index=index,
        values=values,
        solved_at_step=None,
        notes={
            "how": "an estimate from requests for W1 and dZ1, without ciphertexts; mean and covariance of "
            "the public images against the variance of rounding",
            "requests": len(requests.w),
            "samples_beyond_the_limit": max(0, relations.count() - len(index)),
        },
    )


def read(relations: Relations) -> Requests:
    """The requests of the first steps, as many as concern `LIMIT` samples; `NotApplicable` where they give no
    equations.
    """
    known = {k.map: k for k in relations.of(KnownMap) if k.noise and not k.own}
    updates = [
        u for u in relations.of(Update) if not u.terms.any() or np.flatnonzero(u.terms).max() < u.steps.known
    ]
    position: dict[Map, Reals] = {}
    for update in updates:
        start = position.setdefault(update.before, np.zeros(len(update.terms)))
        position.setdefault(update.after, start + update.terms)
    asked = [which for which in position if which in known]
    count = _steps_within(updates, LIMIT) if updates else 0
    asked = [which for which in asked if not position[which][count:].any()]
    if len(asked) < 2 or not count:
        raise NotApplicable("W1 was asked for fewer than two times: there is no change of it to explain")
    moves, steps = -np.array([position[which][:count] for which in asked]), updates[0].steps
    dz1 = tuple(steps.error(u).T for u in range(count))
    noise = known[asked[0]].noise  # half a step of rounding
    w = np.array([now(known[which].value) for which in asked])
    return Requests(w, moves - moves.mean(axis=0), dz1, steps.samples[:count], noise**2 / 3.0)


def _steps_within(updates: list[Update], limit: int) -> int:
    """How many first steps have errors that are known, and at most `limit` samples."""
    steps, seen = updates[0].steps, set[int]()
    last = max((int(np.flatnonzero(u.terms).max(initial=-1)) for u in updates), default=-1)
    for u in range(min(steps.known, last + 1)):
        seen.update(steps.samples[u].tolist())
        if len(seen) > limit and u:
            return u
    return min(steps.known, last + 1)


def normal_equations(requests: Requests, index: NDArray[np.int64]) -> tuple[Reals, Reals]:
    """(M^T M, M^T w) of w = W1(0) + M X for the pixels X of the samples `index`, W1(0) eliminated.

    M is never formed: its rows are running sums of dZ1, so that M^T M is dZ1^T dZ1 weighted by how two steps
    act together.
    """
    size, moves = len(index), requests.moves
    place = np.zeros(int(index.max()) + 1, dtype=np.int64)
    place[index] = np.arange(size)
    pull = np.tensordot(moves.T, requests.w - requests.w.mean(axis=0), axes=1)  # (steps, h, n)
    passes = _passes(requests.used)
    right, stacked = (
        np.zeros((size, requests.w.shape[2])),
        np.zeros((max(passes) + 1, requests.w.shape[1], size)),
    )
    step_of = np.zeros((max(passes) + 1, size), dtype=np.int64)
    for t, (samples, dz1) in enumerate(zip(requests.used, requests.dz1, strict=True)):
        where = place[samples]
        stacked[passes[t]][:, where], step_of[passes[t]][where] = dz1, t
        right[where] += dz1.T @ pull[t]
    together, gram = moves.T @ moves, np.zeros((size, size))
    for i in range(len(stacked)):
        for j in range(i + 1):
            part = (stacked[i].T @ stacked[j]) * together[np.ix_(step_of[i], step_of[j])]
            gram += part if i == j else part + part.T
    return gram, right


def _passes(used: tuple[NDArray[np.int64], ...]) -> list[int]:
    """For each step, how often one of its samples was used before."""
    times: dict[int, int] = {}
    found = []
    for samples in used:
        found.append(max(times.get(s, 0) for s in samples.tolist()))
        times |= {s: found[-1] + 1 for s in samples.tolist()}
    return found


def in_box(gram: Reals, right: Reals, prior: Prior) -> Reals:
    """The X (N, n) in [0, 1] that minimises |M X - w|^2 / variance + |X - mean|^2 in the metric of the
    prior's covariance.

    Alternating directions (S. Boyd et al., 2011), in the eigenvectors of the Gram matrix and of the
    covariance, where the linear part is diagonal; a fixed number of sweeps.
    """
    mean, (scale, turn) = prior.guess(), np.linalg.eigh(covariance(prior))
    strength, turned = np.linalg.eigh((gram + gram.T) / 2)
    pulled = turned.T @ (right - gram.sum(axis=1, keepdims=True) * mean) @ turn
    weight = np.maximum(strength, 0.0)[:, None] + 1.0 / scale[None, :]
    stiff = _STIFFNESS / float(scale.mean())
    x = turned @ (pulled / weight) @ turn.T
    boxed, owed = np.clip(x, -mean, 1.0 - mean), np.zeros_like(x)
    for _ in range(_SWEEPS):
        x = turned @ ((pulled + stiff * (turned.T @ (boxed - owed) @ turn)) / (weight + stiff)) @ turn.T
        boxed = np.clip(x + owed, -mean, 1.0 - mean)
        owed += x - boxed
    result: Reals = boxed + mean
    return result


def covariance(prior: Prior) -> Reals:
    """The covariance of pixels in [0, 1]: of the public images, drawn to its diagonal as they are few;
    without any, of uniform pixels.
    """
    n = int(np.prod(prior.shape))
    if prior.public is None or len(prior.public) < 2:
        return np.eye(n) / 12.0
    found, drawn = np.cov(prior.public.T), n / (n + len(prior.public))
    quantum = 1.0 / (12.0 * prior.x_max**2)  # pixels are integers: no direction is known better beforehand
    result: Reals = (1.0 - drawn) * found + np.diag(drawn * np.diag(found) + quantum)
    return result
