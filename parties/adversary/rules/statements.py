"""What follows from labels, from gradients of linear models, and from what a protocol states itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from parties.adversary.attacks.class_sums import summed
from parties.adversary.attacks.moments import opened, targets
from parties.adversary.rules.told import Sight, Told
from parties.adversary.solvers.products import Stack
from protocols.language.relations import (
    ClassSums,
    Equations,
    Gradients,
    Instance,
    LabelErrors,
    Labels,
    Moments,
    Unopened,
    now,
)

_BATCHES = 2  # of which gradients are solved at the end of every run


def labelled(sight: Sight) -> Iterator[Told]:
    """Labels that follow from several messages together; numbers that depend on labels."""
    derived = [labels for labels in sight.relations.of(Labels) if len(labels.labels) > 1]
    if derived:
        index, since = sight.united((labels.samples, labels.since) for labels in derived)
        of = f"{len(index)} of {sum(sight.counts)} samples"
        detail = " + ".join(derived[0].labels) + f": {derived[0].how}"
        yield Told("labels", of, "exact" if sight.payloads else "bounded", detail, since, samples=index)
    told = np.concatenate([np.zeros(0, np.int64), *(labels.samples for labels in sight.relations.of(Labels))])
    every = [e for e in sight.relations.of(LabelErrors) if len(np.setdiff1d(e.samples, told))]
    errors = next(iter(every), None)
    if errors is not None and (errors.samples[0] >= 0 or not len(told)):
        tells = "is what the network says of it (label-outputs)"
        if not errors.outputs:
            tells = "points as its class does, up to a renaming of the classes (label-clusters)"
        detail = f"{', '.join(errors.labels)} of each sample depends on its label: it {tells}"
        index, since = sight.united((each.samples, each.since) for each in every)
        index = np.setdiff1d(index, told)
        yield Told("labels", sight.of(index, told), "bounded", detail, since, samples=index)


def stated(sight: Sight) -> Iterator[Told]:
    """Equations and moments that a protocol states of samples, where no keys do."""
    if any(not i.across for i in sight.relations.of(Instance)):
        return
    for moments in islice(sight.relations.of(Moments), 1):
        yield Told(
            "gram", f"{len(moments.samples)} samples", "exact", "as the protocol states them", moments.since
        )
    first = next(sight.relations.of(Equations), None)
    if first is not None and sight.payloads:
        a = np.asarray(now(first.a), np.float64)
        rank = Stack.of([a]).numerical_rank()
        how = "exact" if rank == a.shape[1] and not first.noise else "bounded"
        of = f"{len(first.samples)} samples of step {first.since}"
        said = f"known equations: rank {rank} of {a.shape[1]}" + ("; no lattice tried" * (how != "exact"))
        yield Told("samples", of, how, said, first.since, samples=first.samples)


def unopened(sight: Sight) -> Iterator[Told]:
    """Ciphertexts without their key: what was looked for in them, and in vain."""
    for sealed in sight.relations.of(Unopened):
        found = dict.fromkeys(("samples", "labels", "weights"), "undecided")
        said = "payloads not recorded: not looked at"
        if sight.payloads:
            found, said = sealed.tried()
        of = sight.of(sealed.samples, sealed.samples[:0])
        for name, how in found.items():
            since = 0 if how in ("bounded", "exact") else None
            if name in ("samples", "labels"):
                yield Told(name, of, how, said, since, samples=sealed.samples)
            else:
                yield Told(
                    name, "all that is trained" if name == "weights" else "its owner", how, said, since
                )


def contrasted(sight: Sight) -> Iterator[Told]:
    """Labels and samples, by the sums of the samples of each class of a batch, or of one less all others."""
    every = list(sight.relations.of(ClassSums))
    if not every:
        return
    each = len(every[0].heads) == every[0].classes > 2
    said = "of each batch the sum of its samples of each class" if each else (
        "of each batch the sum of its samples of one class less that of all others"
    )  # fmt: skip
    said += ", by its gradient at weights of zero, as far as that is known (class-sums)"
    found = [summed(sums, sight.prior.x_max) for sums in every[:_BATCHES]] if sight.payloads else []
    sums = [batch for batch in found if batch is not None and batch.error < 0.5]
    alone = sum(int(batch.alone.sum()) for batch in sums)
    rough = [batch.error for batch in found if batch is not None and batch.error >= 0.5]
    if rough:
        said += f"; up to {min(rough):.2g} steps of a pixel"
    if sums:
        said += f"; {len(sums)} of {len(found)} batches tried exactly: {alone} samples are all of their class"
    told = np.concatenate([np.zeros(0, np.int64), *(some.samples for some in sight.relations.of(Labels))])
    index, since = sight.united((sums.samples, sums.since) for sums in every)
    left = np.setdiff1d(index, told)
    if len(left):
        of = sight.of(left, np.intersect1d(told, sight.index))
        yield Told("labels", of, "bounded", said, since, samples=left, by="class sums")
    of, tried = sight.of(index, index[:0]), f"{said}; no lattice tried"
    yield Told("samples", of, "bounded", tried, since, samples=index, by="class sums")
    since = max(sums.since for sums in every[:_BATCHES])
    said = "each the only one of its class in its batch, as the range of pixels leaves no other count"
    named = sum(int((batch.alone & (batch.classes >= 0)).sum()) for batch in sums)
    for quantity, count in (("samples", alone), ("labels", named)):
        if count:  # no positions: which sample of the batch it is, is not known
            of = f"{count} of {sum(sight.counts)} samples (positions not known)"
            none = np.zeros(0, np.int64)
            yield Told(quantity, of, "exact", f"{said} (class-sums)", since, samples=none, by="class alone")


def differenced(sight: Sight) -> Iterator[Told]:
    """Samples that the gradients of linear models on their batch determine, as whole numbers."""
    every = list(sight.relations.of(Gradients))
    if not every:
        return
    if not sight.payloads:
        said = "gradients of linear models on every batch, for every key (payloads not recorded)"
        yield Told("samples", sight.all, "bounded", said, samples=sight.index)
        return
    found = [opened(each, sight.prior.x_max) for each in every[:_BATCHES]]
    solved = [(each, rows) for each, rows in zip(every, found, strict=False) if rows.rows is not None]
    index, since = sight.united((each.samples, each.since) for each in every)
    n = np.asarray(now(every[0].weights)).shape[1]
    ranks = ", ".join(
        f"{rows.rank} of {min(len(each.samples), n)}" for each, rows in zip(every, found, strict=False)
    )
    said = f"X^T X of a batch from differences of gradients: rank {ranks}"
    whole = sum(rows.matrix is not None for rows in found)
    if whole:
        said += f", and so whole, entry by entry, of {whole} of {len(found)} batches tried"
    if len(solved) < len(every):
        more = f"; no lattice tried beyond {_BATCHES} batches" * (len(every) > _BATCHES)
        lattice = f"; the lattice solved {len(solved)} of {len(found)} batches tried{more}"
        yield Told("samples", sight.of(index, index[:0]), "bounded", said + lattice, since, samples=index)
    if solved:
        index = np.unique(np.concatenate([each.samples for each, _ in solved]))
        since = max(rows.since for _, rows in solved)
        of = sight.of(index, index[:0])
        detail = f"{said}; its whole root is the batch, in no order: {len(solved)} of {len(found)} tried"
        yield Told("samples", of, "exact", detail, since, samples=index, by="moments")
        told = [targets(each, rows.rows) for each, rows in solved if rows.rows is not None]
        if all(found is not None for found in told):
            heads = len(np.unique(every[0].heads))
            whole = heads == getattr(sight.config, "classes", 0)
            said = "the targets of those samples, which any gradient then leaves" + "; of one class" * (
                not whole
            )
            how = "exact" if whole else "bounded"
            yield Told("labels", of, how, said, since, samples=index, by="moments")
