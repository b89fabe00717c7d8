"""Recover an encrypted head exactly by a server that is malicious and learns decisions: Paillier ciphertexts
can be shifted.

From Enc(w_j), the packed weights of feature j, anybody makes Enc(w_j + t) for t of its choice. The authority
decrypts it as it would an inference, and the largest of w_cj + t_c is the decision. With all classes but two
pushed far down the decision compares two weights, and bisection over t gives their difference, exactly, in
about log2 of their range queries: no data, no query of a user, no shadow. Decisions never tell what is common
to all classes; gradient descent from zero keeps its sum at zero, and there the head is then put.

The bisections of all features and classes go on side by side: as many ciphertexts a round as there are
unknowns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Reconstruction, Relations
from parties.adversary.heads.blackbox import rebuild_extracted
from parties.adversary.heads.shadows import images_of_classes, shadows_of, task_of
from protocols.crypto.integers.packing import pack
from protocols.crypto.paillier_keys import (
    PaillierHead,
    PaillierLogits,
    PaillierPublicKey,
    bytes_of,
    numbers_of,
)
from protocols.language.head_relations import HeadService

NAME = "oracle"
SUMMARY = "the head itself by a malicious server: shifted ciphertexts, and a decision on each"
CONSUMES = (HeadService,)

Ints = NDArray[np.int64]
# columns (m,) and shifts (m, k) -> the class (m,) where w_cj + t_c is largest, the first of equals
Compare = Callable[[Ints, Ints], Ints]


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Images of every owner and class, from heads exact but for what is common to all classes."""
    relations.need(*CONSUMES)
    task, service = task_of(relations), next(relations.of(HeadService))
    compare, limits, steps = service.compare, service.limits, service.steps
    if compare is None or limits is None or steps is None:
        raise NotApplicable("the service decides on no ciphertext of the adversary's choice")
    found = [recover(partial(compare, v), limits, task.classes) for v in service.owners]
    heads = np.stack([each.head(steps) for each in found])
    rebuilt = images_of_classes(
        service.owners, rebuild_extracted(shadows_of(task, prior), heads), queries=found[0].queries
    )
    return replace(rebuilt, per_sample={"head": heads.reshape(len(rebuilt.index), -1)})


@dataclass(frozen=True)
class Recovered:
    """Integer differences to the first class, (k, d + 1), the bias last, and what they cost."""

    differences: Ints
    queries: int

    def head(self, steps_per_unit: NDArray[np.floating]) -> NDArray[np.float32]:
        """The head (k, d + 1) with rows that sum to zero, of columns with so many steps a unit (d + 1,)."""
        real = self.differences / steps_per_unit
        centred: NDArray[np.float32] = (real - real.mean(0)).astype(np.float32)
        return centred


def recover(compare: Compare, limits: Ints, classes: int, queries: int | None = None) -> Recovered:
    """All differences w_cj - w_0j of a head whose column j is bounded by limits (d + 1,).

    With `queries` the bisections stop before that number is exceeded, and the middle of what is left is
    returned.
    """
    columns = np.tile(np.arange(len(limits)), classes - 1)
    rivals = np.repeat(np.arange(1, classes), len(limits))
    reach = 2 * limits[columns]
    low, high, asked = -reach - 1, reach.copy(), 0  # low < w_c - w_0 <= high
    while (high - low > 1).any():
        (open_,) = np.nonzero(high - low > 1)
        if queries is not None and asked + len(open_) > queries:
            break
        middle = (low + high)[open_] // 2
        shifts = shifts_of(rivals[open_], middle, reach[open_], classes)
        first = compare(columns[open_], shifts) == 0  # w_0 + t >= w_c: the difference is at most t
        high[open_], low[open_] = np.where(first, middle, high[open_]), np.where(first, low[open_], middle)
        asked += len(open_)
    found = high - (high - low - 1) // 2
    return Recovered(np.vstack([np.zeros(len(limits), np.int64), found.reshape(classes - 1, -1)]), asked)


def shifted(pk: PaillierPublicKey, head: PaillierHead, columns: Ints, shifts: Ints) -> PaillierLogits:
    """Ciphertexts of w_j + t, as of the logits of an inference, for columns (m,) of an encrypted head and
    shifts (m, k).

    (1 + n T) c with T the packed shifts. Not blinded: the authority learns which weight it was asked about,
    and the server does not mind.
    """
    packed = pack(shifts, pk.params.bounds.slot_bits, pk.params.per_plaintext)
    ciphertexts = [numbers_of(head.elements[j]) for j in columns]
    values = [
        (1 + t * pk.n) * c % pk.square
        for row, chunks in zip(packed, ciphertexts, strict=True)
        for t, c in zip(row, chunks, strict=True)
    ]
    return PaillierLogits(head.tag, bytes_of(values, pk.params, len(columns), pk.params.chunks))


def shifts_of(rivals: Ints, t: Ints, reach: Ints, classes: int) -> Ints:
    """t on class 0, nothing on its rival, and on all others so little that they cannot win."""
    shifts = np.repeat(-4 * (reach[:, None] + 1), classes, axis=1)
    shifts[:, 0] = t
    shifts[np.arange(len(rivals)), rivals] = 0
    return shifts
