"""Read the labels: in the clear, as P + (Y - P) under FEBO, or by the signs that the output bias shows.

With CryptoNN's labels (Xu, Joshi, Li, ICDCS 2019, arXiv:1904.07303) the cloud asks for keys to P, decrypts Y
- P and knows P, so it knows Y exactly. Assumes nothing; costs one decryption an element.

Where neither is so but gradients of whole networks are in the view: that of one sample by the bias of the
outputs is P - Y, whose negative entry is its class (B. Zhao et al., arXiv:2001.02610). Of a sample that is a
batch by itself all visits are summed up. What an owner does to it first, clipping, leaving out, leaves the
sign; under the noise of DP the least entry is an estimate, and one that is below 0 by more than `SURE`
deviations of the noise is the class. No free parameter but that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.solvers.moves import own
from protocols.language.relations import Gradient, Labels, now

NAME = "labels"
SUMMARY = "labels in the clear, as Y = P + (Y - P) under FEBO, or by the sign of a sample's P - Y"
CONSUMES = (Labels | Gradient,)

SURE = 6.0  # deviations of noise beyond which a sign is certain


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Return the label of every sample that the view gives away; a party's own are no finding."""
    del prior, rng
    found = [labels for labels in relations.of(Labels) if not labels.own]
    if not found:
        return _of_signs(relations)
    index = np.concatenate([labels.samples for labels in found])
    values = np.concatenate([now(labels.values) for labels in found]).astype(np.int64)
    order = np.argsort(index, kind="stable")
    return Reconstruction(Quantity.LABELS, index[order], values[order], min(labels.since for labels in found))


@dataclass(frozen=True)
class Signs:
    """Classes (m,) of the samples at `index` by the least entry of their P - Y, summed over visits, and since
    when; `lead`: how far it is below 0, in deviations of its error (m,).
    """

    index: NDArray[np.int64]
    classes: NDArray[np.int64]
    lead: NDArray[np.float64]
    since: int

    @property
    def sure(self) -> NDArray[np.bool_]:
        """Whose class is certain."""
        return self.lead > SURE


def alone(relations: Relations) -> list[Gradient]:
    """Gradients of one sample each, of others, whose signs were left."""
    mine = own(relations)
    every = (g for g in relations.of(Gradient) if len(g.samples) == 1 and np.isfinite(g.noise))
    return [g for g in every if g.samples[0] >= 0 and not np.isin(g.samples, mine).all()]


def signs(some: list[Gradient]) -> Signs:
    """The classes of samples of which the gradients of each alone are known."""
    sums, errors, since = dict[int, NDArray[np.float64]](), dict[int, float](), 0
    for each in some:
        sample, bias = int(each.samples[0]), np.asarray(each.gradients()[-1], np.float64)
        rounding = each.rounding * float(np.abs(each.weights()[-1]).max())
        sums[sample] = sums.get(sample, 0.0) + bias
        errors[sample] = errors.get(sample, 0.0) + each.noise**2 + rounding**2
        since = max(since, each.since)
    index = np.array(sorted(sums), np.int64)
    total = np.stack([sums[int(i)] for i in index])
    error = np.sqrt([errors[int(i)] for i in index])
    lead = -total.min(axis=1) / np.maximum(error, 1e-30)
    return Signs(index, total.argmin(axis=1).astype(np.int64), lead, since)


def _of_signs(relations: Relations) -> Reconstruction:
    some = alone(relations)
    if not some:
        parties = ", ".join(relations.parties)
        raise NotApplicable(
            f"the view of {parties} holds no Labels but its own, and no gradient of one sample"
        )
    found = signs(some)
    notes = {"visits": len(some), "certain": int(found.sure.sum())}
    said = {"deviations": found.lead}
    return Reconstruction(
        Quantity.LABELS, found.index, found.classes, found.since, per_sample=said, notes=notes
    )
