"""One image and its class from a gradient, as what a small generator has to draw to have the same one.

H. Ren, J. Deng, X. Xie, *GRNN: Generative Regression Neural Network - A Data Leakage Attack for Federated
Learning*, arXiv:2105.00529. Noise that stays as it is goes into two branches: 128 numbers through transposed
convolutions with gated linear units to an image, and through a linear layer to the probabilities of classes.
No pixel and no label is fitted: the weights of the generator are, by RMSprop (1e-4, momentum .99), so that
the gradient of what it draws is the one that was seen: the squared distance, its root, and 1e-3 of the total
variation. It needs no labels, no data and no trained generator: the one here begins at random.

What is returned is what it drew when the gradients were nearest. Condition: a gradient of one sample (larger
batches are left to `invert`), of the whole network, after one local step. The generator has three stages of
128, 64 and 32 channels, half of that for images up to 16 x 16: this project's choice for a CPU. Works on the
first samples alone, a twentieth of the prior's limit, one at least. Cost: a minute an image of 32 x 32 x 3
under LeNet, 1500 steps.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.attacks.invert import Problem, first_gradients
from protocols.language.relations import Gradient

NAME = "grnn"
SUMMARY = "one image and its class by fitting a generator to the gradient (GRNN)"
CONSUMES = (Gradient,)

_NOISE = 128
_CHANNELS = (128, 64, 32)
_FEW, _SMALL = (64, 32, 16), 16  # channels of images of at most so many rows and columns
_ITERATIONS = 1500
_RATE, _MOMENTUM = 1e-4, 0.99  # of RMSprop
_VARIATION = 1e-3
_NEAR = 1e-6  # of the squared length of the gradient seen: near enough to stop


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """The samples of the first gradients of one sample each."""
    chosen = first_gradients(relations, 1, max(prior.limit // 20, 1))
    if not chosen:
        raise NotApplicable("every gradient is of more than one sample, or of one that the view holds")
    images, distances, classes = list[NDArray[np.float64]](), list[float](), list[int]()
    for each in chosen:
        image, distance, label = _drawn(each, prior, rng)
        images.append(image)
        distances.append(distance)
        classes.append(label)
    index = np.concatenate([each.samples for each in chosen])
    notes = {"relative_distance_of_gradients": distances, "class_of_each": classes}
    since = max(each.since for each in chosen)
    return Reconstruction(Quantity.IMAGES, index, np.stack(images), since, notes=notes)


def _drawn(seen: Gradient, prior: Prior, rng: np.random.Generator) -> tuple[NDArray[np.float64], float, int]:
    """An image (n,) in [0, 1], how far its gradient is from the one seen, relatively, and its class."""
    problem = Problem(seen, prior)
    generator = _Generator(prior.shape, problem.outputs, rng)
    noise = torch.tensor(rng.standard_normal((1, _NOISE)), dtype=torch.float32)
    optimizer = torch.optim.RMSprop(generator.parameters(), lr=_RATE, momentum=_MOMENTUM, foreach=True)
    best, image, label = np.inf, np.full(prior.pixels, 0.5), 0
    for _ in range(_ITERATIONS):
        x, y = generator(noise)
        far = problem.far(x, y) * problem.norm
        distance = float(far.detach()) / problem.norm
        if distance < best:
            best, image, label = distance, x.detach().double().numpy()[0], int(y.argmax())
        if not np.isfinite(distance) or distance < _NEAR:
            break
        cost = far + torch.sqrt(far + 1e-12) + _VARIATION * problem.variation(x)
        optimizer.zero_grad()
        cost.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return image, best, label


class _Generator(nn.Module):
    """Noise (m, 128) to images (m, n) in [0, 1] and probabilities (m, k)."""

    def __init__(self, shape: tuple[int, ...], classes: int, rng: np.random.Generator) -> None:
        super().__init__()
        self._shape = (*shape, 1)[:3]
        channels = _CHANNELS if max(shape[:2]) > _SMALL else _FEW
        first, *_, last = channels
        self._low = (first, *(-(-side // 2 ** len(channels)) for side in shape[:2]))
        self.first = nn.Linear(_NOISE, int(np.prod(self._low)))
        stages = zip(channels, (*channels[1:], last), strict=True)
        self.stages = nn.ModuleList(_stage(into, out) for into, out in stages)
        self.last = nn.Conv2d(last, self._shape[2], 3, 1, 1)
        self.classes = nn.Linear(_NOISE, classes)
        for name, parameter in self.named_parameters():  # from `rng`, not from torch's global generator
            if name.endswith("bias"):
                parameter.data.zero_()
            elif parameter.ndim > 1:
                fan = parameter[0].numel() if "stages" not in name else parameter[:, 0].numel()
                drawn = rng.uniform(-1.0, 1.0, tuple(parameter.shape)) / np.sqrt(fan)
                parameter.data = torch.from_numpy(drawn.astype(np.float32))

    def forward(self, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(images, probabilities)."""
        a = self.first(noise).reshape(len(noise), *self._low)
        for stage in self.stages:
            a = stage(a)
        drawn = torch.sigmoid(self.last(a))[:, :, : self._shape[0], : self._shape[1]]
        images = drawn.permute(0, 2, 3, 1).reshape(len(noise), -1)
        return images, functional.softmax(self.classes(noise), 1)


def _stage(into: int, out: int) -> nn.Sequential:
    """Twice as many rows and columns, gated."""
    return nn.Sequential(
        nn.ConvTranspose2d(into, 2 * out, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * out), nn.GLU(1)
    )
