"""Solve for the master secret key: sk_y = <s, y> is linear in s, so n independent keys give s; or replay it from the authority's coins.

Holds for every stateless inner-product scheme of this shape (Abdalla et al., PKC 2015, eprint 2015/017, security is against fewer
than n keys that span everything). DDH: a linear system mod q. LWE: S is small and S Y = SK holds over the integers. The key is
then proven against the public one, and it opens every ciphertext, past and future. Costs one n x n inverse.

A coalition with the authority needs no function key: the coins of its view, put through the scheme's own Setup, are the key.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

import numpy as np

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction
from parties.adversary.equations import Keys, ciphertexts, independent_keys, need, public_key
from parties.adversary.linear import solve_exactly, solve_modulo
from parties.transcript import Kind, View
from protocols import plain_fe
from protocols.config import Scheme, batches
from protocols.crypto import ipfe_ddh
from protocols.crypto.coins import Coins
from protocols.crypto.group import from_bytes, get_group
from protocols.roles import KEY_AUTHORITY

NAME = "master_key"
SUMMARY = "n independent keys, or the authority's coins, give the master key, which opens every ciphertext"
CONSUMES = ("mpk", "ct", "sk_w1 | coins")


def reconstruct(view: View, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Recover the master key, prove it against the public key and open every ciphertext with it."""
    need(view, "mpk", "ct")
    if view.protocol != plain_fe.NAME:
        raise NotApplicable(f"{view.protocol}: the public key in the view is not one of inner products")
    secret, step = _from_coins(view) if _coins(view) is not None else _from_keys(view)
    scheme, mpk, pixels = plain_fe.scheme_of(view.config), public_key(view), view.config.features
    if secret is None or not scheme.check_master_key(mpk, secret):
        raise NotApplicable("the key that was found does not match the public key")
    opener = ipfe_ddh.master_key(mpk.params, secret) if view.config.scheme is Scheme.DDH else secret
    values = np.full((sum(view.config.counts), pixels), np.nan, dtype=np.float32)
    for position, ct in ciphertexts(view):
        x = scheme.open_with_master_key(mpk, opener, ct)
        values[position : position + len(x)] = x / prior.x_max
    notes = {
        "matches_public_key": True,
        "opens_fresh_ciphertext": opens_fresh(scheme, mpk, opener, prior, pixels, rng),
        "samples_not_yet_used": _not_yet_used(view, step),
        "from": "coins of the authority" if step < 0 else "function keys",
    }
    return Reconstruction(Quantity.IMAGES, np.arange(len(values)), values, max(step, 0), notes=notes)


def _from_keys(view: View) -> tuple[Any, int]:
    """(master key, step whose keys determined it); `NotApplicable` where they do not."""
    need(view, "sk_w1")
    keys = independent_keys(view)
    if not keys.full:
        last = keys.ranks[-1][1] if keys.ranks else 0
        raise NotApplicable(
            f"the keys have rank {last} of {keys.columns}: the function keys do not determine the master key"
        )
    return solve_master_key(view, keys), keys.solved_at_step or 0


def _coins(view: View) -> bytes | None:
    """The authority's 32-byte key of coins, if its view is among those corrupted."""
    rows = (row for row in view.rows("coins", Kind.COINS) if row.party == KEY_AUTHORITY.value)
    row = next(rows, None)
    return None if row is None else bytes(view.value(row))


def _from_coins(view: View) -> tuple[Any, int]:
    """(master key, -1: before the first step), by the scheme's Setup: the first use of its coins, as in `plain_fe.setup_samples`."""
    config = view.config
    parameters = plain_fe.parameters(config, plain_fe.sample_bounds(config))
    _, msk = plain_fe.scheme_of(config).setup(parameters, Coins(_coins(view) or b""))
    return from_bytes(msk.s) if config.scheme is Scheme.DDH else msk.s, -1


def solve_master_key(view: View, keys: Keys) -> Any:
    """The master key that n independent function keys determine; None if they contradict each other."""
    if view.config.scheme is Scheme.DDH:
        order = get_group(public_key(view).params.group).order
        exponents = [int.from_bytes(bytes(row), "big") for key in keys.keys for row in key.sk]
        return solve_modulo(keys.vectors, exponents, order)
    stacked = np.vstack([np.asarray(key.sk, dtype=np.int64) for key in keys.keys])  # (n, d): row i is S y_i
    return solve_exactly(keys.vectors, stacked)


def opens_fresh(scheme: ModuleType, mpk: Any, opener: Any, prior: Prior, n: int, rng: np.random.Generator) -> bool:
    """Whether the key opens a ciphertext that was in no transcript: the adversary encrypts a random vector itself."""
    vector = rng.integers(0, prior.x_max + 1, (1, n))
    ct = scheme.load(mpk, scheme.encrypt(mpk, vector, Coins(os.urandom(32))))
    return bool((scheme.open_with_master_key(mpk, opener, ct) == vector).all())


def _not_yet_used(view: View, step: int) -> int:
    """Samples whose batch comes after the step in which the key was found."""
    return sum(batch.size for batch in batches(view.config) if batch.number > step)
