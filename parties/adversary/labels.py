"""Read the labels: they crossed in the clear, or as P + (Y - P) under FEBO.

With CryptoNN's labels (Xu, Joshi, Li, ICDCS 2019, arXiv:1904.07303) the cloud asks for keys to P, decrypts Y - P and knows P, so it
knows Y exactly. Assumes nothing; costs one decryption an element.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction
from parties.adversary.equations import need, offsets, public_key, received
from parties.record.view import Kind, View
from protocols import plain_fe
from protocols.crypto import febo
from protocols.network.config import batches

NAME = "labels"
SUMMARY = "labels in the clear, or Y = P + (Y - P) under FEBO"
CONSUMES = ("labels | p, ct_labels, sk_labels",)


def reconstruct(view: View, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Return the label of every sample that the view gives away."""
    clear = received(view, "labels")  # an owner's own labels are its input and no finding
    if not clear and "sk_labels" not in view:
        raise NotApplicable(f"the view of {', '.join(view.parties)} holds neither labels nor sk_labels")
    values = np.full(sum(view.config.counts), -1, dtype=np.int64)
    since = None
    for step, index, labels in _clear(view) if clear else _from_febo(view):
        values[index] = labels
        since = step if since is None else min(since, step)
    (known,) = np.nonzero(values >= 0)  # of a run that was killed, the batches that it came to
    return Reconstruction(Quantity.LABELS, known, values[known], since)


def _clear(view: View) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Labels that were uploaded; known before the first step."""
    need(view, "labels")
    ends = list(offsets(view.config))  # an owner uploads its labels in the order of its samples
    for row, labels in view.values("labels", Kind.RECEIVED):
        owner = int(row.sender.partition(":")[2])
        yield 0, ends[owner] + np.arange(len(labels)), labels
        ends[owner] += len(labels)


def _from_febo(view: View) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Y = P + (Y - P) of every batch, at its first visit."""
    need(view, "p", "sk_labels", "ct_labels", "mpk_labels")
    config, mpk, start = view.config, public_key(view, "mpk_labels"), offsets(view.config)
    uploads = {(row.sender, row.round): row for row in view.rows("ct_labels")}
    for (row, asked), (_, sk), batch in zip(
        view.values("p"), view.values("sk_labels"), batches(config), strict=False
    ):
        part, first = divmod(batch.start, plain_fe.upload_rows(config))
        ct = view.value(uploads[f"data_owner:{batch.owner}", part])
        y = febo.decrypt(mpk, sk, febo.rows(ct, first, first + batch.size)) + asked.p
        yield row.round, start[batch.owner] + np.arange(batch.start, batch.stop), y.argmax(axis=1)
