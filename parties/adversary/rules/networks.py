"""What attacks that a rule cannot try may still get: by optimisation, from gradients and weights of whole
networks, and from changes whose samples nothing here told apart.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parties.adversary.attacks import cocktail, invert, labels, lattice_span, spear, stationary, tensor
from parties.adversary.rules.told import Sight, Told
from parties.adversary.solvers.moves import own
from protocols.language.relations import Gradient, KnownMap, Labels, Shift, Trained
from protocols.network.config import Activation


def inverted(sight: Sight) -> Iterator[Told]:
    """Samples of which the view holds the gradient of the whole network, or the network that they trained: no
    rule solves these, attacks go further by optimisation.
    """
    mine, told = own(sight.relations), np.zeros(0, np.int64)
    gradients = [g for g in sight.relations.of(Gradient) if len(np.setdiff1d(g.samples, mine))]
    names = by_gradient(sight, [len(g.samples) for g in gradients])
    if gradients and names:
        told, since = sight.united((np.setdiff1d(g.samples, mine), g.since) for g in gradients)
        sent = "the gradient" if all(g.exact for g in gradients) else "what owners made of the gradient"
        said = f"{sent} of a whole network; no lattice or other solver tried here; further: {names}"
        yield Told("samples", sight.of(told, mine), "bounded", said, since, samples=told, by="gradient")
    seen = next(sight.relations.of(Trained), None)
    if seen is not None and seen.start is not None:
        index = np.setdiff1d(seen.samples, mine)
        if len(np.setdiff1d(index, told)):
            said = "a network before and after training; no lattice or other solver tried here; further: "
            said += f"stationary (up to {stationary.MOST} samples)"
            of = sight.of(index, mine)
            yield Told("samples", of, "bounded", said, seen.since, samples=index, by="network")


def shifted(sight: Sight) -> Iterator[Told]:
    """Labels by how the bias of the outputs moved: P - Y of a sample is below 0 for its class alone."""
    told = [each.samples for each in sight.relations.of(Labels)]
    mine = np.unique(np.concatenate([own(sight.relations), *told]))
    every = [s for s in sight.relations.of(Shift) if len(np.setdiff1d(s.samples, mine))]
    if not every:
        return
    index, since = sight.united((np.setdiff1d(each.samples, mine), each.since) for each in every)
    some = [g for g in labels.alone(sight.relations) if not np.isin(g.samples, mine).all()]
    sure, tried = index[:0], "; no sample is a batch by itself"
    if some:
        tried = f"; of {len(some)} gradients of one sample not read: payloads not recorded"
    if some and sight.payloads:
        found = labels.signs(some)
        sure = found.index[found.sure]
        tried = (
            f"; of {len(found.index)} samples that are batches by themselves {len(sure)} labels are certain"
        )
        if len(sure):
            said = f"P - Y of each by itself is below 0 for its class alone (labels){_by_noise(every)}"
            yield Told("labels", sight.of(sure, mine), "exact", said, found.since, samples=sure, by="signs")
    if len(np.setdiff1d(index, sure)):
        said = f"the bias of the outputs moves by sums of P - Y, which say labels{_by_noise(every)}{tried}"
        said += "; further: labels (estimates), invert" if some else "; further: invert"
        yield Told("labels", sight.of(index, mine), "bounded", said, since, samples=index, by="shift")


def _by_noise(every: list[Shift]) -> str:
    """Whether owners added noise, in words."""
    return ", under noise" if any(each.noise for each in every) else ""


def by_gradient(sight: Sight, sizes: list[int]) -> str:
    """The attacks on gradients whose conditions on sizes hold, in words."""
    least = min(sizes, default=0)
    layers: tuple[int, ...] = getattr(sight.config, "layers", ())
    wide = len(layers) == 1 and layers[0] >= tensor.UNITS and sight.config.conv is None
    conditions = (
        ("invert", least <= invert.MOST, f"up to {invert.MOST} samples in one"),
        ("grnn", least == 1, "one"),
        ("tensor", wide and least <= tensor.MOST, f"up to {tensor.MOST}"),
        ("stationary", sum(sight.counts) <= stationary.MOST, "the trained network"),
    )
    return ", ".join(f"{name} ({what})" for name, holds, what in conditions if holds)


def by_change(sight: Sight, samples: int, units: int) -> str:
    """The attacks on a change by so many samples of a map of so many units whose conditions hold, by name."""
    biased = any(known.bias is not None for known in sight.relations.of(KnownMap))
    relu = getattr(sight.config, "activation", Activation.RELU) is Activation.RELU
    conditions = (
        ("bias" if biased else "exclusive", True),
        ("spear", relu and 2 <= samples <= min(spear.MOST, units - 1)),
        ("lattice-span", samples <= min(lattice_span.MOST, units)),
        ("cocktail", 2 <= samples <= min(cocktail.MOST, units)),
    )
    return ", ".join(name for name, holds in conditions if holds)
