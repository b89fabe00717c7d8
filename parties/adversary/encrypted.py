"""What views of plain FE give away about samples and the master key: keys on ciphertexts, gradients, the authority's coins.

* n independent keys for W1 determine every sample, and the master key; fewer bound each pixel between two linear programs.
* Keys for dZ1, or dZ1 and dW1 themselves, determine the samples of a batch while the rank of dZ1 is its size.
* The authority's coins are the master key, which opens what the cloud holds.

What is said to be exact was solved for, on some samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from parties.adversary import gradient, master_key
from parties.adversary.attack import Learned, NotApplicable, Prior
from parties.adversary.equations import (
    Keys,
    independent_keys,
    inner_products,
    instances,
    public_key,
    received,
    systems,
)
from parties.adversary.gradients import opened_batches, owner_visits
from parties.adversary.master_key import solve_master_key
from parties.adversary.solvers import intervals
from parties.adversary.solvers.exact import solve_exactly
from parties.record.view import View
from protocols import plain_fe
from protocols.language.roles import KEY_AUTHORITY
from protocols.network.config import batches

_TRIED = 64  # samples that are solved for, to confirm what the rank says
_SECONDS = 0.5  # a linear program that takes longer says nothing of its pixel
_BATCHES = 8  # that are tried for a gradient that separates its samples
_PIXELS = 1024  # of an image up to which intervals are computed


def samples(view: View) -> list[Learned]:
    """Lines about samples and the master key of plain FE; empty for other protocols."""
    if view.protocol != plain_fe.NAME or any(row.phase == "predict" for row in view.rows("sk_w1")):
        return []  # of a query: `knowledge.queried` says what the keys of training do to it
    return [*opened_with_coins(view), *keys_on_ciphertexts(view), *first_gradient(view), *requested(view)]


def requested(view: View) -> list[Learned]:
    """The authority without ciphertexts: what its key requests say."""
    if KEY_AUTHORITY.value not in view.parties or received(view, "ct") or not received(view, "w1"):
        return []
    detail = "W1(t) - W1(t+1) of the key requests are combinations of the samples, up to rounding"
    if received(view, "dz1"):
        detail += "; dZ1 says which (the attack gradient estimates them)"
    return [
        Learned(
            ", ".join(view.parties), "samples", f"all {sum(view.config.counts)} samples", "bounded", detail, 0
        )
    ]


def keys_on_ciphertexts(view: View) -> list[Learned]:
    """Samples and the master key, from the rank of the function keys over the ciphertexts."""
    party, total = ", ".join(view.parties), f"all {sum(view.config.counts)} samples"
    if "mpk" not in view or not received(view, "ct"):  # what an owner sent is its own
        return []
    if "sk_w1" not in view:
        return [Learned(party, "samples", total, "nothing", "ciphertexts without function keys", None)]
    if not view.has_payloads():
        detail = "every key works on every ciphertext (how many are independent is not computed: payloads not recorded)"
        return [Learned(party, "samples", total, "bounded", detail, 0)]
    every = [independent_keys(view, scope) for scope in systems(view.config)]
    keys = max(every, key=lambda keys: keys.rank)
    curve = {
        "unknowns": keys.columns,
        "curve": [
            [step, rank, solved] for (step, rank), solved in zip(keys.ranks, keys.determined, strict=True)
        ],
    }
    full = [keys for keys in every if keys.full]
    since = keys.ranks[0][0] if keys.ranks else 0
    which = (
        "" if len(every) == 1 else f" of a batch ({len(full)} of {len(every)} batches have as many as pixels)"
    )
    if len(full) < len(every):
        pinned, bounds = pixel_intervals(view, keys)
        detail = f"at least {keys.rank} equations a sample: rank {keys.rank} of {keys.columns} of the keys for W1{which}{pinned}"
        found = [Learned(party, "samples", total, "bounded", detail, since, {**curve, **bounds})]
        return [*found, *_master_key(view, every)] if full else found
    tried, solved = confirm(view, keys)
    how = "exact" if solved == tried > 0 else "bounded"
    detail = f"rank {keys.rank} of {keys.columns}{which}; {solved} of {tried} tried are solved in integers"
    step = max(keys.ranks[-1][0] for keys in every)
    return [Learned(party, "samples", total, how, detail, step, curve), *_master_key(view, every)]


def confirm(view: View, keys: Keys) -> tuple[int, int]:
    """(tried, solved): solve for the first samples of the view."""
    for _, z in inner_products(view, keys, _TRIED):
        solved = solve_exactly(keys.vectors, z.T.copy())
        return len(z), len(z) if solved is not None else 0
    return 0, 0


def pixel_intervals(view: View, keys: Keys) -> tuple[str, dict[str, list[list[float | None]]]]:
    """In words and numbers, between what some pixels of the first sample lie: [pixel, least, largest] in [0, 1]."""
    config = view.config
    if not keys.rank or config.features > _PIXELS or not config.shape:
        return "", {}
    first = next(inner_products(view, keys, 1), None)
    if first is None:
        return "", {}
    chosen = intervals.spread(config.shape)
    found = intervals.intervals(keys.vectors, first[1][0] / config.x_max, chosen, _SECONDS)
    widths = (found[:, 1] - found[:, 0])[np.isfinite(found).all(axis=1)]
    if not len(widths):
        return "", {}
    pinned = widths < 1.0 / config.x_max
    said = f"; of {len(widths)} pixels tried the range pins {int(pinned.sum())}"
    if not pinned.all():
        said += f" and leaves the others {np.median(widths[~pinned]):.0%} of it (median)"
    rows = [
        [int(c), *(None if v != v else float(v) for v in pair)] for c, pair in zip(chosen, found, strict=True)
    ]
    return said, {"intervals": rows}


def first_gradient(view: View) -> list[Learned]:
    """The samples of the first batch, from the gradient of its first step: solved for and checked."""
    if not view.has_payloads() or not (received(view, "ct_batch") or received(view, "dw1")):
        return []
    try:
        gradient.fits(view.config)
    except NotApplicable:
        return []
    how = "keys for dZ1 on ct_batch" if received(view, "ct_batch") else "dZ1 and dW1"
    batches_ = _from_keys(view) if received(view, "ct_batch") else _from_owner(view)
    solved, size, number, step = max(
        islice(batches_, _BATCHES), default=(0, 0, 0, 0), key=lambda batch: batch[0] == batch[1]
    )
    party, of = ", ".join(view.parties), f"{solved} of the {size} samples of batch {number}"
    if not solved:
        return []
    return [
        Learned(
            party,
            "samples",
            of,
            "exact",
            f"{how}: solved in integers; of up to {_BATCHES} batches tried the first whole one",
            step,
        )
    ]


def _from_keys(view: View) -> Iterator[tuple[int, int, int, int]]:
    """(samples solved, size, number, step) of batch after batch, from keys for dZ1."""
    sizes = [batch.size for batch in batches(view.config)]
    for number, opened in enumerate(opened_batches(view)):
        yield len(opened.index), sizes[number], number, int(opened.steps.max(initial=0))


def _from_owner(view: View) -> Iterator[tuple[int, int, int, int]]:
    """The same from dZ1 and dW1, at the first visit of each batch."""
    config = view.config
    for number, (batch, visits) in enumerate(owner_visits(view)):
        stack = gradient.Stack(batch.size, config.features, config.x_max)
        for visit in islice(visits, 1):
            stack.add(visit)
        yield int(stack.known.sum()), batch.size, number, number


def opened_with_coins(view: View) -> list[Learned]:
    """Authority and cloud: the master key by replaying Setup, and the ciphertexts that it opens."""
    if KEY_AUTHORITY.value not in view.parties or not view.has_payloads() or not received(view, "ct"):
        return []
    config, party = view.config, ", ".join(view.parties)
    try:
        found = master_key.reconstruct(
            view, Prior(config.x_max, config.shape or (config.features,)), np.random.default_rng(0)
        )
    except NotApplicable:
        return []
    solved, detail = (
        int(np.isfinite(found.values[:, 0]).sum()),
        "opened with the master key, which the authority's coins give",
    )
    return [Learned(party, "samples", "all " * (solved == sum(config.counts)) + f"{solved} samples", "exact", detail, 0),
            Learned(party, "master key", "key_authority", "exact", "the authority's own", 0)]  # fmt: skip


def _master_key(view: View, systems: list[Keys]) -> list[Learned]:
    """The master keys that n independent keys of their own determine."""
    config = view.config
    steps: list[int] = []
    known = {keys.scope: keys for keys in systems}
    for scope in instances(config):
        keys, mpk = known.get(scope) or independent_keys(view, scope), public_key(view, scope=scope)
        secret = solve_master_key(view, keys) if keys.full else None
        if secret is not None and plain_fe.scheme_of(config).check_master_key(mpk, secret):
            steps.append(keys.ranks[-1][0])
    if not steps:
        return []
    count = len(list(instances(config)))
    detail = "solved from the function keys, matches the public key" + (
        f"; {len(steps)} of {count}" if count > 1 else ""
    )
    return [Learned(", ".join(view.parties), "master key", "key_authority", "exact", detail, min(steps))]
