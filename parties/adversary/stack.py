"""Stack the equations of all steps: every function key that C received, on every ciphertext that it holds.

Observation of the paper (Ionita and Ionita, RAID 2025, arXiv:2509.21497, section on repeated steps) taken to its end: the keys of
training are vectors of W1, which changes in every step, so that after a few steps n of them are independent and W X^T = Z has one
solution. Where every epoch has a master key of its own, the samples are still the same, so that W(t) x = z of all epochs is one system;
where every batch has one, its system has the equations of its own visits. Assumes nothing about the data. Costs n decryptions a
sample and one n x n inverse for each system.
"""

from __future__ import annotations

import numpy as np

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction
from parties.adversary.equations import independent_keys, inner_products, need, systems
from parties.adversary.solvers.exact import solve_exactly
from parties.record.view import View

NAME = "stack"
SUMMARY = "all function keys on all ciphertexts: exact integers once their rank is n"
CONSUMES = ("mpk", "ct", "sk_w1")


def reconstruct(view: View, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Solve for every sample exactly; not applicable while the rank of the keys is below n."""
    need(view, *CONSUMES)
    config = view.config
    every = [
        independent_keys(view, scope) for scope in systems(config)
    ]  # one, or one for each batch with keys of its own
    full = [keys for keys in every if keys.full]
    if not full:
        best = max(keys.rank for keys in every)
        raise NotApplicable(
            f"the keys have rank {best} of {config.features}: the equations have more than one solution"
        )
    values = np.full((sum(config.counts), config.features), np.nan, dtype=np.float32)
    for keys in full:
        for position, z in inner_products(view, keys):
            x = solve_exactly(keys.vectors, z.T.copy())
            if x is not None:
                values[position : position + len(z)] = x.T / prior.x_max
    notes = {
        "keys_used": config.features,
        "solved_in_integers": int(np.isfinite(values[:, 0]).sum()),
        "ranks": [list(point) for point in full[0].ranks],
    }
    if len(every) > 1:
        notes |= {"batches_solved": len(full), "batches": len(every)}
    return Reconstruction(
        quantity=Quantity.IMAGES,
        index=np.arange(len(values)),
        values=values,
        solved_at_step=max(keys.ranks[-1][0] for keys in every) if len(full) == len(every) else None,
        notes=notes,
    )
