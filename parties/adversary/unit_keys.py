"""Read samples from function keys of unit vectors, for which a malicious cloud asks in place of W1: <e_i, x> = x_i.

No scheme of this shape prevents it: any vector within the bound may be asked for (Abdalla et al., PKC 2015, eprint 2015/017), and only
the authority could refuse. `--malicious unit-keys` has the cloud of plain FE do so in its first ceil(n / h) steps
(`plain_fe.unit_rows`); n such keys open every ciphertext, used or not. Assumes nothing; costs n decryptions a sample.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction
from parties.adversary.equations import ciphertexts, need, public_key
from parties.record.view import Kind, View
from protocols import plain_fe

NAME = "unit_keys"
SUMMARY = "a malicious cloud asks for keys of unit vectors: exact integers after ceil(n / h) steps"
CONSUMES = ("mpk", "ct", "sk_w1")


def reconstruct(view: View, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Read every pixel that a unit key opens; the others are the prior's guess. Not applicable without such keys."""
    need(view, *CONSUMES)
    if view.protocol != plain_fe.NAME:
        raise NotApplicable(f"{view.protocol}: its function keys are no inner products of plain FE")
    keys, pixels, factors, steps = unit_keys(view)
    if not keys:
        raise NotApplicable(
            "no key of a unit vector in the view: the cloud asked for W1, as the protocol says"
        )
    scheme, mpk = plain_fe.scheme_of(view.config), public_key(view)
    values = np.full((sum(view.config.counts), view.config.features), np.nan, dtype=np.float32)
    for position, ct in ciphertexts(view):
        x = np.hstack([scheme.decrypt(mpk, key, ct) for key in keys]) // factors
        rows = slice(position, position + len(x))
        values[rows] = prior.guess()
        values[rows, pixels] = x / prior.x_max
    full = len(pixels) == view.config.features
    return Reconstruction(
        quantity=Quantity.IMAGES,
        index=np.arange(len(values)),
        values=values,
        solved_at_step=max(steps) if full else None,
        notes={"unit_keys": len(pixels), "pixels": view.config.features, "steps": [min(steps), max(steps)]},
    )


def unit_keys(view: View) -> tuple[list[Any], NDArray[np.int64], NDArray[np.int64], list[int]]:
    """(keys, their pixels, their entries, their rounds) of vectors with one entry other than zero, each pixel once."""
    keys, pixels, factors, steps = [], np.zeros(0, np.int64), np.zeros(0, np.int64), []
    for row, sk in view.values("sk_w1", Kind.RECEIVED, Kind.SENT):
        (single,) = np.nonzero(np.count_nonzero(sk.y, axis=1) == 1)
        at, first = np.unique(np.abs(sk.y[single]).argmax(axis=1), return_index=True)
        fresh = ~np.isin(at, pixels)
        chosen = single[first[fresh]]
        if len(chosen):
            keys.append(replace(sk, y=sk.y[chosen], sk=sk.sk[chosen]))
            pixels = np.concatenate([pixels, at[fresh]])
            factors = np.concatenate([factors, sk.y[chosen, at[fresh]].astype(np.int64)])
            steps.append(row.round)
        if len(pixels) == view.config.features:
            break
    return keys, pixels, factors, steps
