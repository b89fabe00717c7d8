"""Recover a head from the logits of d + 1 inputs or more: a system of linear equations.

What a service gives away that returns logits instead of decisions; F. Tramer et al., *Stealing Machine
Learning Models via Prediction APIs*, USENIX Security 2016, section 4.1. Then as `whitebox`, up to scale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Reconstruction, Relations
from parties.adversary.heads.blackbox import rebuild_extracted
from parties.adversary.heads.shadows import images_of_classes, shadows_of, task_of
from protocols.language.head_relations import HeadLogits
from protocols.language.relations import now

NAME = "logits"
SUMMARY = "the head itself from the logits of about as many inputs as it has features"
CONSUMES = (HeadLogits,)


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Images of every owner and class."""
    relations.need(*CONSUMES)
    task = task_of(relations)
    found = next((each for each in relations.of(HeadLogits) if each.features is not None), None)
    if found is None or found.features is None or found.width != task.classes:
        raise NotApplicable("the logits in the view are not linear in features that it has")
    features = now(found.features) / found.unit
    heads = np.stack([solve_logits(features, each) for each in now(found.values)])
    images = rebuild_extracted(shadows_of(task, prior), heads)
    return images_of_classes(found.owners, images, queries=len(features))


def solve_logits(features: NDArray[np.floating], logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """The head (k, d + 1) from features (m, d) and logits (m, k); least norm in features that never move."""
    if len(features) <= features.shape[1]:
        raise NotApplicable(f"{len(features)} inputs are too few for {features.shape[1]} features and a bias")
    inputs = np.hstack([features, np.ones((len(features), 1))]).astype(np.float64)
    found: NDArray[np.float32] = np.linalg.lstsq(inputs, logits, rcond=1e-9)[0].T.astype(np.float32)
    return found
