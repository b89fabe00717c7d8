"""What follows from labels and from what a protocol states itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from parties.adversary.rules.told import Sight, Told
from parties.adversary.solvers.products import Stack
from protocols.language.relations import Equations, Instance, LabelErrors, Labels, Moments, now


def labelled(sight: Sight) -> Iterator[Told]:
    """Labels that follow from several messages together; numbers that depend on labels."""
    derived = [labels for labels in sight.relations.of(Labels) if len(labels.labels) > 1]
    if derived:
        index, since = sight.united((labels.samples, labels.since) for labels in derived)
        of = f"{len(index)} of {sum(sight.counts)} samples"
        detail = " + ".join(derived[0].labels) + ": Y = P + (Y - P)"
        yield Told("labels", of, "exact" if sight.payloads else "bounded", detail, since, samples=index)
        return
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
