"""What the authority's own requests give away without any ciphertext: it is asked for keys of W1(t) and, with `gradient=fe`, dZ1(t).

SGD says W1(t) = W1(0) - lr sum_k c(t - k) dZ1(k)^T X_k / B_k with c(j) = 1 + m + ... + m^(j - 1) for the momentum m, which is public. The
requests are W1(t) rounded to 1 / scale, an error of variance 1 / (12 scale^2) in each step, and dZ1 exactly. So all requests together are a
linear system in all samples, with W1(0) free. Its estimate is the linear one of least mean square error (N. Wiener, 1949) in the box [0, 1]:
the prior's mean image and the covariance of its public images against the variance of rounding, both fixed before anything is solved.
The differences W1(t) - W1(t+1) alone would not do: their errors are correlated, and what adds up over steps is known best.

That rounding errors of one weight are independent from step to step is an approximation; it fails where W1 moves by less than a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction
from parties.adversary.gradients import Reals, positions, rounds_of
from parties.record.view import Kind, Row, View
from protocols.language.roles import KEY_AUTHORITY
from protocols.network.config import Batch, Config, Optimizer, batches, steps_per_epoch

LIMIT = 2048  # samples solved for together, those of the first batches: the system is dense in them
_SWEEPS = 50  # of the projection onto the box
_STIFFNESS = 10.0  # of that projection, in units of a pixel's precision


@dataclass(frozen=True)
class Requests:
    """`w` (T, h, n): W1 as requested in the steps `asked` (T,); `dz1` and `used`: dZ1 / B of steps 0, 1, ... and their batches."""

    asked: NDArray[np.int64]
    w: Reals
    dz1: tuple[Reals, ...]
    used: tuple[Batch, ...]


def estimate(view: View, prior: Prior) -> Reconstruction:
    """Estimate the samples whose step was followed by another request; not applicable under Adam."""
    config = view.config
    requests = read(view)
    index = np.concatenate([positions(config, batch) for batch in dict.fromkeys(requests.used)])
    gram, right = normal_equations(requests, index, config)
    precision = 12.0 * config.weight_scale**2
    values = in_box(gram * precision, right * precision, prior)
    order = np.argsort(index)
    return Reconstruction(
        quantity=Quantity.IMAGES,
        index=index[order],
        values=values[order],
        solved_at_step=None,
        notes={
            "how": "an estimate from the authority's requests W1 and dZ1, without ciphertexts; mean and covariance of the public "
            "images against the variance of rounding",
            "requests": len(requests.asked),
            "weight_scale": config.weight_scale,
            "samples_beyond_the_limit": max(0, sum(config.counts) - LIMIT),
        },
    )


def read(view: View) -> Requests:
    """The requests of the first steps, as many as concern `LIMIT` samples; `NotApplicable` where they give no equations."""
    config = view.config
    weights, errors = _asked(view, "w1"), _asked(view, "dz1")
    if not view.has_payloads():
        raise NotApplicable("payloads not recorded")
    if config.optimizer is Optimizer.ADAM:
        raise NotApplicable("under Adam W1(t) - W1(t+1) is no linear function of dW1")
    used = _used(config, next(t for t in count() if t not in errors or not {t, t + 1} <= weights.keys()))
    asked, w = [], []
    for t in range(len(used) + 1) if used else ():
        rows = np.asarray(view.value(weights[t]))
        if _is_weights(rows):
            asked.append(t)
            w.append(rows / config.weight_scale)
    if len(asked) < 2:
        raise NotApplicable("W1 was asked for fewer than two times: there is no change of it to explain")
    dz1 = tuple(
        np.asarray(view.value(errors[t]), dtype=np.float64)[:, : batch.size]
        / (config.weight_scale * batch.size)
        for t, batch in enumerate(used)
    )
    return Requests(np.array(asked), np.array(w), dz1, used)


def _asked(view: View, label: str) -> dict[int, Row]:
    """The requests of the training by round: what was sent to the authority, and not to an owner of the coalition."""
    rows = rounds_of(view, label, Kind.RECEIVED)
    found = {t: row for t, row in rows.items() if row.receiver == KEY_AUTHORITY.value}
    if not found:
        names = ", ".join(view.parties)
        raise NotApplicable(
            f"the view of {names} holds no ct_batch, no dw1 of another party, and no {label} asked of it"
        )
    return found


def _used(config: Config, steps: int) -> tuple[Batch, ...]:
    """The batches of the first `steps` steps, or of as many as hold at most `LIMIT` samples."""
    epoch = list(batches(config))
    seen: list[Batch] = []
    samples = 0
    for t in range(steps):
        batch = epoch[t % len(epoch)]
        samples += batch.size if t < len(epoch) else 0
        if samples > LIMIT and seen:
            break
        seen.append(batch)
    return tuple(seen)


def _is_weights(rows: NDArray[np.int64]) -> bool:
    """Whether a request is W1, and not unit vectors that a malicious cloud asks for in its place."""
    return bool((np.count_nonzero(rows, axis=1) > 1).any())


def normal_equations(requests: Requests, index: NDArray[np.int64], config: Config) -> tuple[Reals, Reals]:
    """(M^T M, M^T w) of w = W1(0) + M X for the pixels X of the samples `index` in the network's units times x_max, W1(0) eliminated.

    M is never formed: its rows are running sums of dZ1, so that M^T M is dZ1^T dZ1 weighted by how two steps act together.
    """
    moves, size, per_epoch = _moves(requests, config), len(index), steps_per_epoch(config)
    place = np.zeros(sum(config.counts), dtype=np.int64)
    place[index] = np.arange(size)
    pull = np.tensordot(moves.T, requests.w - requests.w.mean(axis=0), axes=1)  # (steps, h, n)
    passes = -(-len(requests.used) // per_epoch)
    right, stacked = np.zeros((size, requests.w.shape[2])), np.zeros((passes, requests.w.shape[1], size))
    step_of = np.zeros((passes, size), dtype=np.int64)
    for t, (batch, dz1) in enumerate(zip(requests.used, requests.dz1, strict=True)):
        where = place[positions(config, batch)]
        stacked[t // per_epoch][:, where], step_of[t // per_epoch][where] = dz1, t
        right[where] += dz1.T @ pull[t]
    together, gram = moves.T @ moves, np.zeros((size, size))
    for i in range(passes):
        for j in range(i + 1):
            part = (stacked[i].T @ stacked[j]) * together[np.ix_(step_of[i], step_of[j])]
            gram += part if i == j else part + part.T
    unit = config.x_max / config.pixel_unit  # pixels in [0, 1] enter the network times this
    return gram * unit**2, right * unit


def _moves(requests: Requests, config: Config) -> Reals:
    """How step k moves W1 as requested in step t, (T, steps): -lr c(t - k), less the mean over t, which W1(0) explains."""
    lag = np.maximum(requests.asked[:, None] - np.arange(len(requests.used))[None, :], 0)
    moves = -config.lr * (1.0 - config.momentum**lag) / (1.0 - config.momentum)
    centred: Reals = moves - moves.mean(axis=0)
    return centred


def in_box(gram: Reals, right: Reals, prior: Prior) -> Reals:
    """The X (N, n) in [0, 1] that minimises |M X - w|^2 / variance + |X - mean|^2 in the metric of the prior's covariance.

    Alternating directions (S. Boyd et al., 2011), in the eigenvectors of the Gram matrix and of the covariance, where the linear
    part is diagonal; a fixed number of sweeps.
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
    """The covariance of pixels in [0, 1]: of the public images, drawn to its diagonal as they are few; without any, of uniform pixels."""
    n = int(np.prod(prior.shape))
    if prior.public is None or len(prior.public) < 2:
        return np.eye(n) / 12.0
    found, drawn = np.cov(prior.public.T), n / (n + len(prior.public))
    quantum = 1.0 / (12.0 * prior.x_max**2)  # pixels are integers: no direction is known better beforehand
    result: Reals = (1.0 - drawn) * found + np.diag(drawn * np.diag(found) + quantum)
    return result
