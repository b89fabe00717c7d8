"""Read the labels: they crossed in the clear, or as P + (Y - P) under FEBO.

With CryptoNN's labels (Xu, Joshi, Li, ICDCS 2019, arXiv:1904.07303) the cloud asks for keys to P, decrypts Y
- P and knows P, so it knows Y exactly. Assumes nothing; costs one decryption an element.
"""

from __future__ import annotations

import numpy as np

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from protocols.language.relations import Labels, now

NAME = "labels"
SUMMARY = "labels in the clear, or Y = P + (Y - P) under FEBO"
CONSUMES = (Labels,)


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Return the label of every sample that the view gives away; a party's own are no finding."""
    del prior, rng
    found = [labels for labels in relations.of(Labels) if not labels.own]
    if not found:
        raise NotApplicable(f"the view of {', '.join(relations.parties)} holds no Labels but its own")
    index = np.concatenate([labels.samples for labels in found])
    values = np.concatenate([now(labels.values) for labels in found]).astype(np.int64)
    order = np.argsort(index, kind="stable")
    return Reconstruction(Quantity.LABELS, index[order], values[order], min(labels.since for labels in found))
