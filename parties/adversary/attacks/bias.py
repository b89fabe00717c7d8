"""Samples that alone moved a unit of a first layer with a bias: dW1_i / db_i.

L. Phong, Y. Aono, T. Hayashi, L. Wang, S. Moriai, IEEE TIFS 2018; J. Geiping et al., NeurIPS 2020
(proposition 3.1). A party that sees a first layer before and after has, of unit i, sum_s d_is x_s and of its
bias sum_s d_is: their quotient is a mean of the samples with the errors of the unit as weights, and a sample
where one alone has an error there. With one sample in a change every unit is such. With ReLU a unit is moved
by those samples that activate it.

A quotient that is whole in every pixel, in range, is taken for a sample; all others are left. In no order, so
scored by one matching. Cost: a division for each weight.

Under the noise of DP no quotient is whole. Of a sample that is a batch by itself all its changes, of all
visits, are noise about one direction, (x, 1) in units of the noise of pixels and bias: the first right
singular vector of all rows, each over its noise, taken where the first singular value is beyond what noise
alone has, sqrt(rows) + sqrt(columns) (K. Davidson, S. Szarek, 2001). An estimate, by position. Without a bias
the direction is that of x alone: pixels are not negative, and the largest is taken to be x_max.
Where owners leave out what moved least (`--defence prune`) the rest is as it was (`solvers/pruned.py`):
pixels that it gives are exact, others are known up to a bound, below which the prior's guess is taken; notes
say how many images are known in every pixel. With momentum that is one batch in the first round alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.attacks.lattice_span import of_rows
from parties.adversary.solvers.moves import Moved, noisy, unmixed
from parties.adversary.solvers.pruned import Part, of_changes, united
from parties.adversary.solvers.rows import by_bias
from protocols.language.relations import KnownMap, Noised, Pruned, Update

NAME = "bias"
SUMMARY = "a bias in the first layer: samples that alone moved a unit, as dW1_i / db_i"
CONSUMES = (KnownMap, Update | Noised | Pruned)

_BEYOND = 1.1  # times the largest singular value of noise alone


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Every sample that some unit gives."""
    del rng  # nothing here is drawn
    if any(True for _ in relations.of(Noised)):
        return _under_noise(relations, prior)
    if any(True for _ in relations.of(Pruned)):
        return _of_pruned(relations, prior)
    every = [each for each in unmixed(relations) if each.bias is not None]
    if not every:
        raise NotApplicable(
            "the view holds no bias of a first layer before and after samples of others moved it"
        )
    return of_rows(relations, every, _rows, prior)


def _under_noise(relations: Relations, prior: Prior) -> Reconstruction:
    """Samples that were a batch by themselves, each from all of its changes; those that noise drowns fail."""
    alone = [each for each in noisy(relations) if len(each.index) == 1]
    if not alone:
        raise NotApplicable("owners add noise, and the view holds no first layer that one sample alone moved")
    index = np.unique(np.concatenate([each.index for each in alone]))
    values, ratios = np.full((len(index), prior.pixels), np.nan), np.zeros(len(index))
    for k, sample in enumerate(index):
        rows = np.vstack([_over_noise(each) for each in alone if each.index[0] == sample])
        _, sizes, right = np.linalg.svd(rows, full_matrices=False)
        ratios[k] = sizes[0] / (np.sqrt(rows.shape[0]) + np.sqrt(rows.shape[1]))
        if ratios[k] > _BEYOND:
            part = next(each for each in alone if each.index[0] == sample)
            values[k] = np.clip(_along(right[0], part, prior.x_max) / prior.x_max, 0, 1)
    notes = {"changes": len(alone), "signal_over_noise": ratios[:16].tolist()}
    since = max(each.since for each in alone)
    return Reconstruction(Quantity.IMAGES, index, values, since, notes=notes)


def _along(direction: NDArray[np.float64], part: Moved, x_max: int) -> NDArray[np.float64]:
    """The sample (n,) along a direction: as long as its bias says, else as the pixel range does."""
    if part.bias is None:
        pixels = direction * np.sign(direction.sum() or 1.0)
        scaled: NDArray[np.float64] = pixels * x_max / pixels.max()
        return scaled
    found: NDArray[np.float64] = direction[:-1] * part.noise / (direction[-1] * part.bias_noise)
    return found


def _over_noise(moved: Moved) -> NDArray[np.float64]:
    if moved.bias is None:
        return moved.matrix / moved.noise
    return np.column_stack([moved.matrix / moved.noise, moved.bias / moved.bias_noise])


def _rows(moved: Moved, prior: Prior) -> NDArray[np.int64]:
    assert moved.bias is not None
    return by_bias(moved.matrix, moved.bias, (moved.noise, moved.bias_noise), prior.x_max)


def _of_pruned(relations: Relations, prior: Prior) -> Reconstruction:
    parts, some, since, changes = list[Part](), list[NDArray[np.int64]](), 0, 0
    for index, found, number in of_changes(relations, prior.x_max):
        changes += 1
        if found:
            parts, some, since = united([*parts, *found]), [*some, index], number
    if not parts:
        raise NotApplicable(f"no sample was alone in moving a unit with a bias, in {changes} pruned changes")
    index = np.unique(np.concatenate(some))
    values, guess = np.full((len(index), prior.pixels), np.nan), prior.guess() * prior.x_max
    for row, part in zip(values, parts, strict=False):
        row[:] = np.clip(guess, part.low, part.high) / prior.x_max
    notes = {
        "solved": sum(bool(part.known.all()) for part in parts),
        "pixels_known": [round(float(part.known.mean()), 3) for part in parts[:16]],
        "changes": changes,
    }
    when = since if notes["solved"] == len(index) else None
    return Reconstruction(Quantity.UNORDERED_IMAGES, index, values, when, notes=notes)
