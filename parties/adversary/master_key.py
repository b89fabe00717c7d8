"""Solve for the master secret key: sk_y = <s, y> is linear in s, so n independent keys give s; or replay it from the authority's coins.

Holds for every stateless inner-product scheme of this shape (Abdalla et al., PKC 2015, eprint 2015/017, security is against fewer
than n keys that span everything). DDH: a linear system mod q. LWE: S is small and S Y = SK holds over the integers. The key is
then proven against the public one, and it opens every ciphertext, past and future. Costs one n x n inverse. Where there is an
instance for each epoch or batch, each needs n independent keys of its own, and its master key is tried on the others.
A coalition with the authority needs no function key: the coins of its view, put through the scheme's own Setup, are the key.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

import numpy as np

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction
from parties.adversary.equations import Keys, ciphertexts, independent_keys, instances, need, public_key
from parties.adversary.solvers.exact import solve_exactly, solve_modulo
from parties.record.view import Kind, View
from protocols import plain_fe
from protocols.crypto import ipfe_ddh
from protocols.crypto.coins import Coins
from protocols.crypto.groups.elements import from_bytes
from protocols.crypto.groups.named import get_group
from protocols.language.roles import KEY_AUTHORITY
from protocols.network.config import KeyScope, Scheme, batches
from protocols.parts.keys import bounds_of, parameters

NAME = "master_key"
SUMMARY = "n independent keys, or the authority's coins, give the master key, which opens every ciphertext"
CONSUMES = ("mpk", "ct", "sk_w1 | coins")
_TRIED = 8  # other instances on which a master key is tried


def reconstruct(view: View, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Recover the master key, prove it against the public key and open every ciphertext with it."""
    need(view, "mpk", "ct")
    if view.protocol != plain_fe.NAME:
        raise NotApplicable(f"{view.protocol}: the public key in the view is not one of inner products")
    if _coins(view) is not None:
        return _from_coins(view, prior, rng)
    need(view, "sk_w1")
    config = view.config
    scheme, n = plain_fe.scheme_of(config), config.features
    every = [independent_keys(view, scope) for scope in instances(config)]
    full = [keys for keys in every if keys.full]
    if not full:
        best = max(keys.rank for keys in every)
        raise NotApplicable(
            f"the keys have rank {best} of {n}: the function keys do not determine the master key"
        )
    proven = [(keys, secret) for keys in full if (secret := _proven(view, keys)) is not None]
    if not proven:
        raise NotApplicable("the key that solves the equations does not match the public key")
    values = np.full((sum(config.counts), n), np.nan, dtype=np.float32)
    by_batch = config.keys_for is KeyScope.BATCH
    for keys, secret in proven if by_batch else proven[:1]:  # the same samples lie under every epoch's key
        mpk, opener = public_key(view, scope=keys.scope), _opener(view, keys, secret)
        for position, ct in ciphertexts(view, keys.scope):
            x = scheme.open_with_master_key(mpk, opener, ct)
            values[position : position + len(x)] = x / prior.x_max
    keys, secret = proven[0]
    complete = not by_batch or len(proven) == len(every)
    step = max(k.ranks[-1][0] for k, _ in proven) if by_batch else keys.solved_at_step
    mpk = public_key(view, scope=keys.scope)
    notes: dict[str, Any] = {
        "matches_public_key": True,
        "opens_fresh_ciphertext": opens_fresh(scheme, mpk, _opener(view, keys, secret), prior, n, rng),
        "samples_not_yet_used": _not_yet_used(view, step or 0),
        "from": "function keys",
    }
    if len(every) > 1:
        others = [public_key(view, scope=k.scope) for k in every if k.scope != keys.scope][:_TRIED]
        fits = sum(scheme.check_master_key(other, secret) for other in others)
        notes |= {
            "master_keys": len(proven),
            "instances": len(every),
            "others_it_fits": [int(fits), len(others)],
        }
    return Reconstruction(
        Quantity.IMAGES, np.arange(len(values)), values, step if complete else None, notes=notes
    )


def _proven(view: View, keys: Keys) -> Any:
    """The master key that determines some keys, if it matches its public key; else None."""
    secret, mpk = solve_master_key(view, keys), public_key(view, scope=keys.scope)
    right = secret is not None and plain_fe.scheme_of(view.config).check_master_key(mpk, secret)
    return secret if right else None


def _opener(view: View, keys: Keys, secret: Any) -> Any:
    """A master key as its scheme's decryption takes it."""
    if view.config.scheme is not Scheme.DDH:
        return secret
    return ipfe_ddh.master_key(public_key(view, scope=keys.scope).params, secret)


def _coins(view: View) -> bytes | None:
    """The authority's 32-byte key of coins, if its view is among those corrupted."""
    rows = (row for row in view.rows("coins", Kind.COINS) if row.party == KEY_AUTHORITY.value)
    row = next(rows, None)
    return None if row is None else bytes(view.value(row))


def _from_coins(view: View, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """The first master key by the scheme's Setup: the first use of the authority's coins; known before the first step.

    Where every epoch has a key of its own, the first one opens every sample.
    """
    config, scope = view.config, next(iter(instances(view.config)))
    if config.keys_for is KeyScope.BATCH:
        raise NotApplicable("an instance for each batch: replaying their coins is not done here")
    scheme, mpk = plain_fe.scheme_of(config), public_key(view, scope=scope)
    _, msk = scheme.setup(parameters(config, bounds_of(config)), Coins(_coins(view) or b""))
    secret = from_bytes(msk.s) if config.scheme is Scheme.DDH else msk.s
    if not scheme.check_master_key(mpk, secret):
        raise NotApplicable("the key that was found does not match the public key")
    opener = ipfe_ddh.master_key(mpk.params, secret) if config.scheme is Scheme.DDH else secret
    values = np.full((sum(config.counts), config.features), np.nan, dtype=np.float32)
    for position, ct in ciphertexts(view, scope):
        x = scheme.open_with_master_key(mpk, opener, ct)
        values[position : position + len(x)] = x / prior.x_max
    notes = {
        "matches_public_key": True,
        "opens_fresh_ciphertext": opens_fresh(scheme, mpk, opener, prior, config.features, rng),
        "samples_not_yet_used": _not_yet_used(view, -1),
        "from": "coins of the authority",
    }
    return Reconstruction(Quantity.IMAGES, np.arange(len(values)), values, 0, notes=notes)


def solve_master_key(view: View, keys: Keys) -> Any:
    """The master key that n independent function keys determine; None if they contradict each other."""
    if view.config.scheme is Scheme.DDH:
        order = get_group(public_key(view).params.group).order
        exponents = [int.from_bytes(bytes(row), "big") for key in keys.keys for row in key.sk]
        return solve_modulo(keys.vectors, exponents, order)
    stacked = np.vstack([np.asarray(key.sk, dtype=np.int64) for key in keys.keys])  # (n, d): row i is S y_i
    return solve_exactly(keys.vectors, stacked)


def opens_fresh(
    scheme: ModuleType, mpk: Any, opener: Any, prior: Prior, n: int, rng: np.random.Generator
) -> bool:
    """Whether the key opens a ciphertext that was in no transcript: the adversary encrypts a random vector itself."""
    vector = rng.integers(0, prior.x_max + 1, (1, n))
    ct = scheme.load(mpk, scheme.encrypt(mpk, vector, Coins(os.urandom(32))))
    return bool((scheme.open_with_master_key(mpk, opener, ct) == vector).all())


def _not_yet_used(view: View, step: int) -> int:
    """Samples whose batch comes after the step in which the key was found."""
    return sum(batch.size for batch in batches(view.config) if batch.number > step)
