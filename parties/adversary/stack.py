"""Stack the equations of all steps: every function key that C received, on every ciphertext that it holds.

Observation of the paper (Ionita and Ionita, RAID 2025, arXiv:2509.21497, section on repeated steps) taken to its end: the keys of
training are vectors of W1, which changes in every step, so that after a few steps n of them are independent and W X^T = Z has one
solution. Assumes nothing about the data. Costs n decryptions a sample and one n x n inverse.
"""

from __future__ import annotations

import numpy as np

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction
from parties.adversary.equations import independent_keys, inner_products, need
from parties.adversary.linear import solve_exactly
from parties.transcript import View

NAME = "stack"
SUMMARY = "all function keys on all ciphertexts: exact integers once their rank is n"
CONSUMES = ("mpk", "ct", "sk_w1")


def reconstruct(view: View, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Solve for every sample exactly; not applicable while the rank of the keys is below n."""
    need(view, *CONSUMES)
    keys = independent_keys(view)
    if not keys.full:
        last = keys.ranks[-1][1] if keys.ranks else 0
        raise NotApplicable(f"the keys have rank {last} of {keys.columns}: the equations have more than one solution")
    values = np.full((sum(view.config.counts), keys.columns), np.nan, dtype=np.float32)
    for position, z in inner_products(view, keys):
        x = solve_exactly(keys.vectors, z.T.copy())
        if x is not None:
            values[position : position + len(z)] = x.T / prior.x_max
    solved = int(np.isfinite(values[:, 0]).sum())
    return Reconstruction(
        quantity=Quantity.IMAGES,
        index=np.arange(len(values)),
        values=values,
        solved_at_step=keys.solved_at_step,
        notes={"keys_used": keys.columns, "solved_in_integers": solved, "ranks": [list(r) for r in keys.ranks]},
    )
