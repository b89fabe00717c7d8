"""Which quantities a coalition's view determines, by the rank of the derivative of all that it sees.

With K(theta) everything that a coalition sees, as a function of what it does not know, and J = dK/dtheta: a
quantity g(theta) is *locally determined* iff its gradient lies in the row space of J (local identifiability
by sensitivity rank, as in system identification; for leakage of training see Hannun, Guo, van der Maaten, UAI
2021, on Fisher information). Local: up to discrete symmetries, and for this instance, which stands for all
that have no accident in it. Whole numbers can only add to it.

The derivative is taken by differences of the fourth order, so singular values below about 1e-11 of the
largest are noise. Where no gap separates the two, the answer is "undecided", never "nothing".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parties.audit.watch import Trace
from protocols.crypto.ideal import opened, together

Reals = NDArray[np.float64]

STEP = 3e-4  # of an unknown's unit, by which it is moved
STENCIL = (-2 * STEP, -STEP, STEP, 2 * STEP)
LINEAR = (-STEP, STEP)  # of pads, which are added and fall away
_NOISE = 1e-8  # singular values beyond this share of the largest may be noise
_GAP = 1e3  # what separates the smallest that counts from noise
DETERMINED, OPEN = 1e-5, 1e-2  # residuals below and above which a gradient lies in the row space, or does not

Moment = tuple[str, int]  # phase and round


def slope(values: Sequence[Reals]) -> Reals:
    """The derivative at 0 from values at the points of `STENCIL`, up to its fourth power; or of what is
    linear.
    """
    if len(values) == len(LINEAR):
        return (values[1] - values[0]) / (2 * STEP)
    a, b, c, d = values
    found: Reals = (a - 8 * b + 8 * c - d) / (12 * STEP)
    return found


@dataclass(frozen=True)
class Seen:
    """What a coalition learns at one moment from one message, or from two sealed arrays that it has by
    then.
    """

    moment: Moment
    label: str
    numbers: Reals


def seen(trace: Trace, coalition: frozenset[str]) -> list[Seen]:
    """Everything that reaches a coalition from outside, in order of time."""
    found, held = [], [master for party, master in trace.masters if party in coalition]
    for message in trace.messages:
        if message.receiver not in coalition:
            continue
        moment = message.phase, message.round
        if message.sender not in coalition:
            found.append(Seen(moment, message.label, message.numbers))
        for each in message.sealed:
            both = ((other, opened(each, other)) for other in held)
            found += [Seen(moment, f"{message.label} opened", value.ravel())
                      for _, value in both if value is not None]  # fmt: skip
            found += [
                Seen(moment, f"{message.label} opened", value.ravel()) for value in together(each, held)
            ]
            held.append(each)
    return found


@dataclass(frozen=True)
class Spectrum:
    """Rank of what was seen up to a moment: `rows` (rank, u) span it; `gap` is what separates it from
    noise.
    """

    moment: Moment
    rows: Reals
    values: Reals

    @property
    def rank(self) -> int:
        return len(self.rows)

    @property
    def gap(self) -> float:
        """The smallest singular value that counts over the next, or over the noise where there is none."""
        if not self.rank:
            return np.inf
        after = self.values[self.rank] if len(self.values) > self.rank else 0.0
        return float(self.values[self.rank - 1] / max(after, 1e-16 * self.values[0], 1e-300))

    @property
    def decided(self) -> bool:
        """Whether rank and noise are told apart."""
        return self.gap >= _GAP


def spectra(derivative: Sequence[tuple[Moment, Reals]], unknowns: int) -> list[Spectrum]:
    """The spectrum of the derivative (rows of each moment) up to every moment that adds something."""
    found: list[Spectrum] = []
    triangle = np.zeros((0, unknowns))
    for moment, rows in derivative:
        if not len(rows):
            continue
        triangle = np.asarray(np.linalg.qr(np.vstack([triangle, rows]), mode="r"))
        found.append(_spectrum(moment, triangle))
    return found


def _spectrum(moment: Moment, triangle: Reals) -> Spectrum:
    _, values, right = np.linalg.svd(triangle, full_matrices=False)
    return Spectrum(moment, right[: rank_of(values)], values)


def rank_of(values: Reals) -> int:
    """How many singular values count: those before the widest gap at which the noise may begin."""
    if not len(values) or values[0] <= 1e-13:
        return 0
    scaled = np.append(values, 0.0) / values[0]
    ends = [r for r in range(1, len(values) + 1) if scaled[r] < _NOISE]
    return max(ends, key=lambda r: scaled[r - 1] / max(scaled[r], 1e-13))


def residuals(gradients: Reals, spectrum: Spectrum) -> Reals:
    """How much of each gradient (q, u) lies outside of the row space, from 0 to 1."""
    norms = np.linalg.norm(gradients, axis=1)
    inside = gradients @ spectrum.rows.T
    outside = np.linalg.norm(gradients - inside @ spectrum.rows, axis=1)
    shares: Reals = outside / np.maximum(norms, 1e-300)
    return shares
