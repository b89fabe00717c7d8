"""Images whose gradient is the one that was seen, by optimisation: any network, it asks for no bias.

L. Zhu, Z. Liu, S. Han, *Deep Leakage from Gradients*, NeurIPS 2019, arXiv:1906.08935 (DLG); J. Geiping et
al., *Inverting Gradients*, NeurIPS 2020, arXiv:2003.14053. Labels first: the gradient by the output biases is
the mean of P - Y, so that of one image the negative entry is its class (B. Zhao et al., arXiv:2001.02610),
and of a batch B (P - that) says about how often each class is in it, with P of the prior's guess. Then
images, all of a batch at once: 1 - cosine of the gradients and total variation, by Adam on the sign of its
gradient in the pixel range (Geiping); then the squared distance of the gradients by L-BFGS from there (DLG).
What has the smaller distance is returned.

The published setting: images of CIFAR and ImageNet under convolutional networks, one at a time mostly; larger
batches and trained networks come out worse. In no order, so scored by one matching, but for one image. Works
on the first samples alone, as many as the prior's limit. Cost: three passes of the network an iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.solvers.moves import own
from protocols.language.relations import Gradient

NAME = "invert"
SUMMARY = "images whose gradient is the one that was seen, by optimisation (DLG, Geiping)"
CONSUMES = (Gradient,)

_ITERATIONS = 600
_RATE = 0.1  # of Adam, of the pixel range; a tenth of it after each of _FALLS
_FALLS = (0.375, 0.625, 0.875)
_VARIATION = 1e-4  # weight of the total variation of an image, a mean over neighbours
_FITS = 200  # evaluations of L-BFGS
MOST = 64  # samples of a gradient

Tensors = list[torch.Tensor]


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """The samples of the first gradients, at most as many as the prior's limit, of one gradient at least."""
    chosen = first_gradients(relations, MOST, prior.limit)
    if not chosen:
        raise NotApplicable(f"every gradient is of more than {MOST} samples, or of some that the view holds")
    seen = np.concatenate([each.samples for each in chosen])
    images, distances, labels, named = [], list[float](), list[list[int]](), list[NDArray[np.int64]]()
    for each in chosen:
        problem = Problem(each, prior)
        classes = problem.classes()
        found, distance = problem.images(classes, rng)
        images.append(found)
        distances.append(distance)
        named.append(classes)
        labels.append(np.bincount(classes, minlength=problem.outputs).tolist())
    single = all(len(each.samples) == 1 for each in chosen)
    kind = Quantity.IMAGES if single else Quantity.UNORDERED_IMAGES
    notes = {"relative_distance_of_gradients": distances[:16], "samples_of_each_class": labels[:16]}
    since = max(each.since for each in chosen)
    says = {"label": np.concatenate(named)}
    return Reconstruction(kind, seen, np.vstack(images), since, per_sample=says, notes=notes)


def first_gradients(relations: Relations, most: int, limit: int) -> list[Gradient]:
    """The first gradients of at most `most` samples each, all of others and each of new ones: of at most
    `limit` samples together, of one gradient at least.
    """
    mine, chosen, count = own(relations), list[Gradient](), 0
    seen = np.zeros(0, np.int64)
    for each in sorted(relations.of(Gradient), key=lambda each: (each.since, len(each.samples))):
        fresh = np.setdiff1d(each.samples, np.concatenate([seen, mine]))
        if len(each.samples) > most or len(fresh) < len(each.samples):
            continue
        if chosen and count + len(fresh) > limit:
            break
        chosen.append(each)
        count, seen = count + len(fresh), np.concatenate([seen, fresh])
    return chosen


class Problem:
    """The images of one gradient."""

    def __init__(self, seen: Gradient, prior: Prior) -> None:
        self._loss: Callable[[Tensors, Any, Any], Any] = seen.loss
        self._weights = [torch.tensor(w, dtype=torch.float32).requires_grad_() for w in seen.weights()]
        self._target = [torch.tensor(g, dtype=torch.float32) for g in seen.gradients()]
        self.norm = float(sum((g**2).sum() for g in self._target)) or 1.0
        self._count, self._prior, self.outputs = len(seen.samples), prior, len(self._target[-1])

    def gradients(self, x: torch.Tensor, y: torch.Tensor) -> Tensors:
        """Those of images (m, n) with labels (m, k), differentiable."""
        return list(torch.autograd.grad(self._loss(self._weights, x, y), self._weights, create_graph=True))

    def classes(self) -> NDArray[np.int64]:
        """The class of each image, in order of the classes."""
        shifts = self._target[-1].double().numpy()
        if self._count == 1:
            return np.array([shifts.argmin()])
        guess = torch.tensor(self._prior.guess()[None], dtype=torch.float32)
        some = [
            -self.gradients(guess, torch.eye(self.outputs)[[c]])[-1][c].item() + 1
            for c in range(self.outputs)
        ]
        share = self._count * (np.array(some) - shifts)  # P of the guess, less the mean of P - Y
        counts = np.maximum(np.floor(share), 0).astype(np.int64)
        while counts.sum() > self._count:
            counts[np.argmax(np.where(counts > 0, counts - share, -np.inf))] -= 1
        while counts.sum() < self._count:
            counts[np.argmax(share - counts)] += 1
        return np.repeat(np.arange(self.outputs), counts)

    def images(
        self, classes: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], float]:
        """Images (m, n) in [0, 1], and the relative squared distance of their gradients from those seen."""
        y = torch.eye(self.outputs)[torch.from_numpy(classes)]
        start = torch.tensor(rng.random((self._count, self._prior.pixels)), dtype=torch.float32)
        candidates = [self._geiping(start, y)]
        candidates.append(self._dlg(candidates[0], y))
        distances = [self._distance(x, y) for x in candidates]
        best = int(np.argmin(distances))
        return candidates[best].double().numpy(), distances[best]

    def _geiping(self, start: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([x], lr=_RATE)
        falls = [int(share * _ITERATIONS) for share in _FALLS]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, falls, gamma=0.1)
        for _ in range(_ITERATIONS):
            found = self.gradients(x, y)
            along = sum((a * b).sum() for a, b in zip(found, self._target, strict=True))
            length = torch.sqrt(torch.stack([(a**2).sum() for a in found]).sum() * self.norm + 1e-30)
            cost = 1 - along / length + _VARIATION * self.variation(x)
            (x.grad,) = torch.autograd.grad(cost, x)
            x.grad.sign_()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                x.clamp_(0, 1)
        return x.detach()

    def _dlg(self, start: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x = start.clone().requires_grad_()
        optimizer = torch.optim.LBFGS([x], max_iter=_FITS, history_size=50, line_search_fn="strong_wolfe",
                                      tolerance_grad=1e-12, tolerance_change=1e-14)  # fmt: skip

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            far = self.far(x, y)
            (x.grad,) = torch.autograd.grad(far, x)
            return far.detach()

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        return x.detach().nan_to_num(0.5).clamp(0, 1)

    def far(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The squared distance of the gradients of images (m, n) from those seen, relatively."""
        pairs = zip(self.gradients(x, y), self._target, strict=True)
        far: torch.Tensor = sum(((a - b) ** 2).sum() for a, b in pairs) / self.norm  # type: ignore[assignment]
        return far

    def _distance(self, x: torch.Tensor, y: torch.Tensor) -> float:
        return float(self.far(x, y).detach())

    def variation(self, x: torch.Tensor) -> torch.Tensor:
        """The mean difference of neighbours of images (m, n)."""
        image = x.reshape(len(x), *self._prior.shape)
        down, right = image.diff(dim=1).abs().mean(), image.diff(dim=2).abs().mean()
        return down + right
