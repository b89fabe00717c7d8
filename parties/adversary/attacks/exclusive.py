"""Samples that alone moved a unit of the first layer: rows of its change that are whole at some scale.

X. Pan et al., *Exploring the Security Boundary of Data Reconstruction via Neuron Exclusivity Analysis*,
arXiv:2010.13356: with ReLU a unit is moved by the samples that activate it, and a sample with a unit of its
own is read off its row. Without a bias the row is d x with d unknown; pixels are whole, so x is a multiple of
the smallest whole vector along it, the vector itself where a multiple is out of range or the values are many.

In no order, so scored by one matching. Cost: x_max roundings for each weight.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Reconstruction, Relations
from parties.adversary.attacks.lattice_span import of_rows
from parties.adversary.solvers.moves import Moved, unmixed
from parties.adversary.solvers.rows import by_scale
from protocols.language.relations import KnownMap, Update

NAME = "exclusive"
SUMMARY = "samples that alone moved a unit of the first layer: rows of its change that are whole at a scale"
CONSUMES = (KnownMap, Update)


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Every sample that some unit gives."""
    del rng  # nothing here is drawn
    every = unmixed(relations)
    if not every:
        raise NotApplicable("the view holds no two maps in a row that samples of others moved")
    return of_rows(relations, every, _rows, prior)


def _rows(moved: Moved, prior: Prior) -> NDArray[np.int64]:
    return by_scale(moved.matrix, moved.noise, prior.x_max)
