"""Solve for the master secret key: sk_y = <s, y> is linear in s, so n independent keys give s; or replay it
from the authority's coins.

Holds for every stateless inner-product scheme of this shape (Abdalla et al., PKC 2015, eprint 2015/017,
security is against fewer than n keys that span everything). DDH: a linear system mod q. LWE: S is small and S
Y = SK holds over the integers. The key is then proven against the public one, and it opens every ciphertext,
past and future. Costs one n x n inverse. Where there is an instance for each epoch or batch, each needs n
independent keys of its own, and its master key is tried on the others. A coalition with the authority needs
no function key: the coins of its view, put through the scheme's own Setup, are the key.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.attacks.all_keys import blank, told
from parties.adversary.solvers.exact import solve_exactly, solve_modulo
from parties.adversary.solvers.systems import System, gather
from protocols.crypto import ipfe_ddh
from protocols.crypto.coins import Coins
from protocols.crypto.groups.named import get_group
from protocols.language.relations import Equations, Instance, MasterKey

NAME = "master_key"
SUMMARY = "n independent keys, or the authority's coins, give the master key, which opens every ciphertext"
CONSUMES = (Instance,)
_TRIED = 8  # other instances on which a master key is tried
_SECONDS = 60.0  # about what is spent on opening ciphertexts whose products are dear


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Recover the master key, prove it against the public key and open every ciphertext with it."""
    held = list(relations.of(MasterKey))
    if held:
        return _with(relations, held, prior, rng)
    every = [gather([instance]) for instance in told(relations)]
    full = [system for system in every if system.full]
    if not full:
        best = max(every, key=lambda system: system.rank)
        raise NotApplicable(
            f"the keys have rank {best.rank} of {best.echelon.columns}: "
            "the function keys do not determine the master key"
        )
    proven = [(system, secret) for system in full if (secret := proven_key(system)) is not None]
    if not proven:
        raise NotApplicable("the key that solves the equations does not match the public key")
    values = blank(relations, full[0].echelon.columns)
    for system, secret in proven:
        if np.isnan(
            values[np.concatenate(system.blocks), 0]
        ).any():  # else they lay under another epoch's key too
            _open(system.instances[0], opener(system.instances[0], secret), values, prior)
    first, secret = proven[0]
    step = (
        max(system.since or 0 for system, _ in proven)
        if np.isnan(values).any() or _parted(every)
        else first.since
    )
    notes = {
        **_proof(first.instances[0], opener(first.instances[0], secret), prior, rng),
        "from": "function keys",
        "samples_not_yet_used": not_yet_used(relations, step or 0),
    }
    if len(every) > 1:
        others = [system.instances[0] for system in every if system is not first][:_TRIED]
        fits = sum(other.scheme.check_master_key(other.mpk(), secret) for other in others)
        notes |= {
            "master_keys": len(proven),
            "instances": len(every),
            "others_it_fits": [int(fits), len(others)],
        }
    done = None if np.isnan(values).any() else step
    return Reconstruction(Quantity.IMAGES, np.arange(len(values)), values, done, notes=notes)


def _parted(every: list[System]) -> bool:
    """Whether master keys protect different samples."""
    return len({system.blocks[0].tobytes() for system in every}) > 1


def proven_key(system: System) -> Any:
    """The master key that determines the keys of an instance, if it matches its public key; else None."""
    instance, secret = system.instances[0], solve_master_key(system)
    right = secret is not None and instance.scheme.check_master_key(instance.mpk(), secret)
    return secret if right else None


def solve_master_key(system: System) -> Any:
    """The master key that n independent function keys determine; None if they contradict each other."""
    instance, parts = system.instances[0], [keys for _, keys, _ in system.parts]
    if instance.scheme is ipfe_ddh:
        order = get_group(instance.mpk().params.group).order
        exponents = [int.from_bytes(bytes(row), "big") for keys in parts for row in keys.sk]
        return solve_modulo(system.vectors, exponents, order)
    stacked = np.vstack([np.asarray(keys.sk, dtype=np.int64) for keys in parts])  # (n, d): row i is S y_i
    return solve_exactly(system.vectors, stacked)


def opener(instance: Instance, secret: Any) -> Any:
    """A master key as its scheme's decryption takes it."""
    return ipfe_ddh.master_key(instance.mpk().params, secret) if instance.scheme is ipfe_ddh else secret


def _with(
    relations: Relations, held: list[MasterKey], prior: Prior, rng: np.random.Generator
) -> Reconstruction:
    """Open with master keys that the view holds; known before the first step."""
    values = blank(relations, held[0].instance.columns)
    for key in held:
        if np.isnan(values[np.concatenate(key.instance.blocks), 0]).any():
            secret = key.secret()
            if secret is None:
                raise NotApplicable("the key that was found does not match the public key")
            _open(key.instance, secret, values, prior, len(held))
    notes = {"from": held[0].how, "samples_not_yet_used": not_yet_used(relations, -1)}
    if not held[0].instance.hides:
        notes |= _proof(held[0].instance, held[0].secret(), prior, rng)
    (index,) = np.nonzero(np.isfinite(values[:, 0]))
    return Reconstruction(Quantity.IMAGES, index, values[index], 0, notes=notes)


def _open(instance: Instance, secret: Any, values: Any, prior: Prior, among: int = 1) -> None:
    for number, block in enumerate(instance.blocks):
        which = np.arange(len(block))
        if instance.seconds:
            which = which[: max(1, int(_SECONDS / among / instance.seconds / instance.columns))]
        values[block[which]] = instance.open(secret, number, which) / prior.x_max


def _proof(instance: Instance, secret: Any, prior: Prior, rng: np.random.Generator) -> dict[str, Any]:
    """That the key matches the public one, and opens a ciphertext that was in no transcript: of a random
    vector that the adversary encrypts itself.
    """
    scheme, mpk = instance.scheme, instance.mpk()
    vector = rng.integers(0, prior.x_max + 1, (1, instance.columns))
    ct = scheme.load(mpk, scheme.encrypt(mpk, vector, Coins(os.urandom(32))))
    opened = bool((scheme.open_with_master_key(mpk, secret, ct) == vector).all())
    return {"matches_public_key": True, "opens_fresh_ciphertext": opened}


def not_yet_used(relations: Relations, step: int) -> int:
    """Samples that were first used after a step, as far as observations tell."""
    used = {s for seen in relations.of(Equations) if seen.since <= step for s in seen.samples.tolist()}
    return relations.count() - len(used)
