"""What a reconstruction is worth to who wants the data: a fresh network, trained on it.

*Leak and Learn*, arXiv:2403.18144: error and similarity of images do not say whether they
teach. The same small network is trained from the same first weights on what an attack rebuilt, on the true
samples, and on the prior's guess of them; what counts is its accuracy on held-out samples. Rebuilt pixels are
rounded to whole ones, as all pixels are, so that a perfect reconstruction is the true data and gives its
accuracy exactly. Failures are left out. Labels are the attack's own, or those that the view tells; where it
tells none, the true ones, so that the figure is the most that the images can be worth.

True labels teach by themselves, and images in no order get them by their distance to the true ones: of public
images, of which no attack knows more, that alone makes a training set. So where labels are the truth's the
guess has them too, the mean public image of each class, and a `control` is measured beside it: as many public
images in the place of those that were rebuilt, matched and labelled in the same way. Only what is above both
speaks for the attack; what is not speaks for nothing, as single images may be right all the same (`metrics`).

The network, its training and its seeds are fixed: all attacks, and all runs on a data set, are measured
alike. Cost: `NETWORKS` trainings of at most `_MOST` steps on each of the three, or four; some seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from parties.adversary.attack import Prior, Quantity, Reconstruction
from protocols.language.precision import Precision, computed_in
from protocols.network import nn
from protocols.network.config import Training
from scenarios.score.metrics import Truth, matched, nearest_of_class, zero_line

NETWORKS = 3  # trainings, from other first weights, of which the mean is taken
LABEL = "label"  # per sample, of an attack that finds the label of what it rebuilds
_WIDTH, _BATCH = 64, 32
_LR, _MOMENTUM = 0.05, 0.9
_EPOCHS, _LEAST, _MOST = 15, 1000, 4000  # passes over the true samples, in steps no fewer and no more
_IMAGES = (Quantity.IMAGES, Quantity.UNORDERED_IMAGES, Quantity.CLASS_IMAGES)


@dataclass(frozen=True)
class HeldOut:
    """Samples that nobody trained on: integers (T, n) and labels (T,)."""

    images: NDArray[Any]
    labels: NDArray[Any]


def retrained(
    recon: Reconstruction, truth: Truth, prior: Prior, labelled: bool, test: HeldOut
) -> dict[str, Any]:
    """Accuracy on held-out samples by what was trained on; plain data with the names of result.json, or `why`
    there is none.
    """
    if recon.quantity not in _IMAGES:
        return {"why": f"no samples to train on: it rebuilds {recon.quantity.value.replace('_', ' ')}"}
    placed = matched(nearest_of_class(recon, truth), truth)
    index, found = placed.index, _found(placed)
    if not found.any():
        return {"why": "nothing was rebuilt to train on"}
    of, labels = _labels(recon, placed, truth, labelled)
    steps = min(max(_EPOCHS * len(index) // _BATCH, _LEAST), _MOST)
    guess = zero_line(index, truth, prior, labelled or of == "truth")
    public = _control(recon, prior) if of == "truth" else None

    def measured(images: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
        whole = np.rint(np.clip(images, 0, 1) * truth.x_max).astype(np.int64)
        k = int(max(truth.labels.max(), test.labels.max())) + 1
        return float(
            np.mean([_accuracy(whole, classes, k, truth.x_max, steps, s, test) for s in range(NETWORKS)])
        )

    def control() -> dict[str, Any]:
        if public is None:
            return {}
        drawn = matched(nearest_of_class(public, truth), truth)
        some = _found(drawn)
        accuracy = measured(np.asarray(drawn.values)[some], truth.labels[drawn.index[some]])
        return {"control": accuracy, "control_on": int(some.sum())}

    return {
        "why": "",
        "rebuilt": measured(np.asarray(placed.values, np.float64)[found], labels[found]),
        "truth": measured(truth.pixels(index), truth.labels[index]),
        "guess": measured(guess, truth.labels[index]),
        **control(),
        "labels": of,
        "trained_on": int(found.sum()),
        "tested_on": len(test.labels),
        "networks": NETWORKS,
    }


def _found(placed: Reconstruction) -> NDArray[np.bool_]:
    """Which samples were rebuilt, (m,)."""
    if not len(placed.index):
        return np.zeros(0, np.bool_)
    found: NDArray[np.bool_] = np.all(np.isfinite(np.asarray(placed.values, np.float64)), axis=1)
    return found


def _control(recon: Reconstruction, prior: Prior) -> Reconstruction | None:
    """The same with public images, drawn without replacement, for those that were rebuilt, as far as there
    are enough; None without any.
    """
    if prior.public is None or not len(prior.public):
        return None
    values = np.full(np.shape(recon.values), np.nan)
    rows = np.flatnonzero(_found(recon))
    drawn = np.random.default_rng(0).permutation(len(prior.public))[: len(rows)]
    values[rows[: len(drawn)]] = prior.public[drawn]
    return replace(recon, values=values, per_sample={})


def _labels(
    recon: Reconstruction, placed: Reconstruction, truth: Truth, labelled: bool
) -> tuple[str, NDArray[np.int64]]:
    """Whose labels the rebuilt samples have, and these; a view that tells labels by position says none of
    images in no order.
    """
    if LABEL in placed.per_sample:
        return "attack", np.nan_to_num(np.asarray(placed.per_sample[LABEL], np.float64)).astype(np.int64)
    told = labelled and recon.quantity is not Quantity.UNORDERED_IMAGES
    return "view" if told else "truth", truth.labels[placed.index].astype(np.int64)


def _accuracy(
    images: NDArray[np.int64], labels: NDArray[np.int64], classes: int, x_max: int, steps: int, seed: int,
    test: HeldOut,
) -> float:  # fmt: skip
    """Of one network, dense with one hidden layer of ReLU, trained by SGD; the same bits on every machine of
    a kind, whatever its threads.
    """
    config = Training(features=images.shape[1], classes=classes, x_max=x_max, counts=(len(images),),
                      layers=(_WIDTH,), batch=_BATCH, lr=_LR, momentum=_MOMENTUM)  # fmt: skip
    rng, threads = np.random.default_rng(seed), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with computed_in(Precision.SINGLE):
            w1 = nn.draw_first(config, rng)
            (output,) = nn.draw_layers(nn.upper_sizes(config), config, rng)
            order = np.zeros(0, np.int64)
            for _ in range(steps):
                if not len(order):
                    order = rng.permutation(len(images))
                some, order = order[:_BATCH], order[_BATCH:]
                _step(w1, output, images[some], labels[some], config)
            weights, biases = [output.weight.value.numpy()], [output.bias.value.numpy()]
            return nn.accuracy(w1.value.numpy(), weights, biases, config, test.images, test.labels)
    finally:
        torch.set_num_threads(threads)


def _step(
    w1: nn.Weight, output: nn.Layer, x: NDArray[np.int64], y: NDArray[np.int64], config: Training
) -> None:
    run = nn.forward_hidden([], nn.first_layer(x, w1.value, config.pixel_unit), config)
    error = nn.forward_output(output, run.a[-1], config) - nn.one_hot(y, config.classes)
    dz1 = nn.backward_hidden([], run, nn.backward_output(output, run.a[-1], error, config), config)
    nn.descend(w1, nn.first_layer_gradient(dz1, x, config.pixel_unit), config)
