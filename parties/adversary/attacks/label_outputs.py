"""Labels from what the network says of its own training samples: the largest entry of P, when it was last
asked.

Under FEBO (CryptoNN: R. Xu, J. Joshi, C. Li, ICDCS 2019, arXiv:1904.07303) the cloud asks for a key of every
entry of P of a batch, so the authority, which sees neither samples nor labels, sees what the network makes of
them in each step. A network that fits its training samples says their labels: right for as many samples as
the accuracy on the training set just before their last visit. Observed here; that outputs on training samples
are labels once these are fitted is plain. Assumes that samples are recognised when they come back. No free
parameter.
"""

from __future__ import annotations

import numpy as np

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from protocols.language.relations import LabelErrors, now

NAME = "label_outputs"
SUMMARY = "labels under FEBO: the largest of the outputs for which the authority is asked for keys"
CONSUMES = (LabelErrors,)


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Return the class that the network gave each sample at its last visit."""
    del prior, rng
    last: dict[int, tuple[LabelErrors, int]] = {}
    for errors in relations.of(LabelErrors):
        if errors.outputs:
            last |= {int(sample): (errors, row) for row, sample in enumerate(errors.samples) if sample >= 0}
    if not last:
        raise NotApplicable(f"the view of {', '.join(relations.parties)} holds no outputs of a network")
    index, said = np.array(sorted(last), np.int64), {id(e): now(e.values) for e, _ in last.values()}
    values = [int(said[id(errors)][row].argmax()) for errors, row in (last[sample] for sample in index)]
    since = max(errors.since for errors, _ in last.values())
    return Reconstruction(Quantity.LABELS, index, np.array(values, np.int64), since)
