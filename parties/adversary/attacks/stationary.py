"""Samples from a trained network alone: images and duals that explain where its training went.

N. Haim, G. Vardi, G. Yehudai, O. Shamir, M. Irani, *Reconstructing Training Data from Trained Neural
Networks*, arXiv:2206.07758: a homogeneous network that was trained on two classes until its loss vanishes is
near a point where W = sum_i l_i y_i df(x_i) / dW (the conditions of Karush, Kuhn and Tucker of the largest
margin), which is solved for all x_i and l_i at once. N. Loo et al., arXiv:2302.01428: where the first weights
are known, W0 - W = sum_i a_i df(x_i) / dW, with the gradients at W0, holds the better the wider the network
is (neural tangent kernel). In federated learning everybody is given W0, so that the latter is used where the
view holds it, else the former. With k outputs a sample has k duals; they are real numbers in place of its
label, for the gradient of the loss is linear in these.

Fitted by Adam, images in the pixel range, from random ones; as many as there are samples, of which those of
parties of the view are known. No gradient of a batch, no label and no local step is asked for, so that sums
over any number of owners do, FedAvg too. Conditions: SGD; a network wide for its samples (one of 200 units
gave nothing for 10 images of digits, one of 3000 did); no more than 256 samples, and the work below. The
published setting is a job for a GPU: notes extrapolate to 250 images of 32 x 32 x 3 of each of two classes
under two layers of 1000 units. Cost: 6 multiply-adds a weight, sample and iteration.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.solvers.moves import own
from protocols.language.relations import Samples, Trained, now

NAME = "stationary"
SUMMARY = "samples from the weights of a trained network, by its conditions of stationarity (Haim, Loo)"
CONSUMES = (Trained,)

MOST = 256  # samples
_ITERATIONS = 2000
_RATE, _FALL = 0.02, 0.03  # of Adam in the pixel range, and what is left of it at the end
_DUALS = 3.0  # times that rate, for duals
_PASSES = 6  # multiply-adds for each weight, sample and iteration
_WORK = 3e12  # multiply-adds, minutes
_PUBLISHED = 500 * (3072 * 1000 + 1000 * 1000 + 1000)  # samples times weights

Tensors = list[torch.Tensor]


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """All samples of others that trained the network."""
    seen = next(relations.of(Trained))
    index = np.setdiff1d(seen.samples, own(relations))
    work = _PASSES * len(seen.samples) * sum(np.size(w) for w in seen.end()) * _ITERATIONS
    if not len(index) or len(seen.samples) > MOST or work > _WORK:
        raise NotApplicable(
            f"{len(index)} samples of others in {len(seen.samples)}, at most {MOST}; {work:.1e} "
            f"multiply-adds, at most {_WORK:.0e}: else a job for a GPU"
        )
    begun = time.perf_counter()
    held = [
        np.asarray(now(s.values))[np.isin(s.samples, seen.samples)] for s in relations.of(Samples) if s.own
    ]
    known = np.vstack([np.zeros((0, prior.pixels)), *held]) / prior.x_max
    images, left = _fitted(seen, len(index), known, rng)
    seconds = time.perf_counter() - begun
    hours = seconds / work * _PASSES * _ITERATIONS * _PUBLISHED / 3600
    notes = {
        "from": "the last weights alone" if seen.start is None else "the first and the last weights",
        "left_of_the_change": left,
        "multiply_adds": work,
        "extrapolated": f"{hours:.1f} hours on this machine for the published size, {_ITERATIONS} iterations",
    }
    return Reconstruction(Quantity.UNORDERED_IMAGES, index, images, seen.since, notes=notes)


def _fitted(
    seen: Trained, count: int, known: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], float]:
    """Images (count, n) in [0, 1], and the share of the squared change that they and `known` ones leave."""
    end = [torch.tensor(w, dtype=torch.float32) for w in seen.end()]
    begin = [torch.zeros_like(w) for w in end]
    if seen.start is not None:
        begin = [torch.tensor(w, dtype=torch.float32) for w in seen.start()]
    at = [w.clone().requires_grad_() for w in (end if seen.start is None else begin)]
    moved = [after - before for after, before in zip(end, begin, strict=True)]
    length = float(sum((m**2).sum() for m in moved)) or 1.0
    x = torch.tensor(rng.random((count, known.shape[1])), dtype=torch.float32).requires_grad_()
    every = count + len(known)
    duals = torch.tensor(0.1 * rng.standard_normal((every, len(end[-1]))), dtype=torch.float32)
    duals.requires_grad_()
    fixed = torch.tensor(known, dtype=torch.float32)

    def left() -> torch.Tensor:
        loss: Any = seen.loss(at, torch.cat([x, fixed]), duals) * every
        found = torch.autograd.grad(loss, at, create_graph=True)
        far: Any = sum(((m + g) ** 2).sum() for m, g in zip(moved, found, strict=True))
        return torch.as_tensor(far) / length

    optimizer = torch.optim.Adam(
        [{"params": [x], "lr": _RATE}, {"params": [duals], "lr": _DUALS * _RATE}], foreach=True
    )
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, _FALL ** (1 / _ITERATIONS))
    for _ in range(_ITERATIONS):
        x.grad, duals.grad = torch.autograd.grad(left(), [x, duals])
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            x.clamp_(0, 1)
    return x.detach().double().nan_to_num(0.5).numpy(), float(left().detach())
