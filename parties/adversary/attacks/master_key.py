"""Solve for the master secret key: sk_y = <s, y> is linear in s, so n independent keys give s; or replay it
from the authority's coins.

Holds for every stateless inner-product scheme of this shape (Abdalla et al., PKC 2015, eprint 2015/017,
security is against fewer than n keys that span everything). DDH: a linear system mod q. LWE: S is small and Y
S = SK holds over the integers, so that far fewer keys do: a column of S is the shortest whole solution of its
equations, in the kernel lattice of the keys' vectors (`solvers/lattice.py`). Keys of a fresh row have about 9
bits of a column that has 2 n; half as many keys as pixels are taken. In the scheme of 2015/017 S is uniform,
and n - k of its dimensions stay open; it is short here because the compact public key needs it, which
Agrawal, Libert, Stehle (CRYPTO 2016, eprint 2015/608) answer with an S that is short and wide. The key is
then proven against the public one, and it opens every ciphertext, past and future. Costs one n x n inverse.
Where there is an instance for each epoch or batch, each needs n independent keys of its own, and its master
key is tried on the others. A coalition with the authority needs no function key: the coins of its view, put
through the scheme's own Setup, are the key.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import NotApplicable, Prior, Quantity, Reconstruction, Relations
from parties.adversary.attacks.all_keys import blank, told
from parties.adversary.solvers.exact import solve_exactly, solve_modulo
from parties.adversary.solvers.lattice import LATTICE, Coset
from parties.adversary.solvers.systems import System, gather
from protocols.crypto import ipfe_ddh, ipfe_lwe, ipfe_rlwe
from protocols.crypto.coins import Coins
from protocols.crypto.groups.named import get_group
from protocols.language.relations import Equations, Instance, MasterKey

NAME = "master_key"
SUMMARY = "n independent keys, or the authority's coins, give the master key, which opens every ciphertext"
CONSUMES = (Instance | MasterKey,)
_SHORT = (ipfe_lwe, ipfe_rlwe)
_TRIED = 8  # other instances on which a master key is tried
_SECONDS = 60.0  # about what is spent on opening ciphertexts whose products are dear


def solve(relations: Relations, prior: Prior, rng: np.random.Generator) -> Reconstruction:
    """Recover the master key, prove it against the public key and open every ciphertext with it."""
    held = list(relations.of(MasterKey))
    if held:
        return _with(relations, held, prior, rng)
    every = [gather([instance]) for instance in told(relations)]
    proven = [key for system in every if (key := proven_key(system)) is not None]
    if not proven:
        best = max(every, key=lambda system: system.rank)
        short = " and short secrets are not found" if best.instances[0].scheme in _SHORT else ""
        raise NotApplicable(
            "the key that solves the equations does not match the public key"
            if best.full
            else f"the keys have rank {best.rank} of {best.echelon.columns}: "
            f"the function keys do not determine the master key{short}"
        )
    values = blank(relations, proven[0].system.echelon.columns)
    for system, secret in ((key.system, key.secret) for key in proven):
        if np.isnan(
            values[np.concatenate(system.blocks), 0]
        ).any():  # else they lay under another epoch's key too
            _open(system.instances[0], opener(system.instances[0], secret), values, prior)
    first, secret, since = proven[0].system, proven[0].secret, proven[0].since
    step = max(key.since for key in proven) if np.isnan(values).any() or _parted(every) else since
    notes = {
        **_proof(first.instances[0], opener(first.instances[0], secret), prior, rng),
        "from": "function keys",
        "keys_used": proven[0].keys,
        "samples_not_yet_used": not_yet_used(relations, step),
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


@dataclass(frozen=True)
class Proven:
    """A master key that matches the public key, how many keys gave it, and since which round."""

    system: System
    secret: Any
    keys: int
    since: int


def proven_key(system: System) -> Proven | None:
    """The master key that the keys of an instance give, if it matches its public key; else None."""
    instance, few = system.instances[0], _few(system)
    if few and system.echelon.columns <= LATTICE:
        secret = _short_master_key(system, few)
        if secret is not None and instance.scheme.check_master_key(instance.mpk(), secret):
            return Proven(system, secret, few, system.reached(few))
    secret = solve_master_key(system) if system.full else None
    if secret is None or not instance.scheme.check_master_key(instance.mpk(), secret):
        return None
    return Proven(system, secret, system.rank, system.ranks[-1][0])


def why_none(system: System) -> str:
    """Why the keys of an instance give no master key here, in words: what was tried, and what is left by an
    estimate.
    """
    instance, n, few = system.instances[0], system.echelon.columns, _few(system)
    said = f"{system.rank} of {n} independent keys"
    if instance.scheme not in _SHORT:
        return f"{said}; the key that solves them does not match" if system.full else said
    params = instance.mpk().params
    upper = np.linalg.qr(system.vectors.T.astype(np.float64))[1]
    log2 = float(np.log2(np.abs(np.diag(upper))).mean())
    if n > LATTICE:
        tried = f"no lattice tried: more than {LATTICE} pixels"
    elif few:
        tried = f"the lattice of {few} keys gives none that matches the public key"
    else:
        tried = "no lattice tried: by their volume more than one secret fits"
    left = instance.scheme.level(params, system.rank, 2.0**log2)
    return f"{said}; {tried}; core-SVP by an estimate: {left} bit left of the secret"


def _few(system: System) -> int:
    """How many keys the lattice is given: under LWE half as many as pixels; under ring-LWE, whose secrets are
    wide, four more than leave nothing by the volume of their lattice, where there are so many, and fewer than
    n. 0: none.
    """
    scheme, n = system.instances[0].scheme, system.echelon.columns
    if scheme is ipfe_lwe:
        return min(system.rank, (n + 1) // 2)
    if scheme is not ipfe_rlwe or system.full or not system.rank:
        return 0
    params, upper = system.instances[0].mpk().params, np.linalg.qr(system.vectors.T.astype(np.float64))[1]
    volumes = np.cumsum(np.log2(np.abs(np.diag(upper))))
    enough = (k for k, log2 in enumerate(volumes, 1) if not scheme.level(params, k, 2 ** (log2 / k)))
    return min(system.rank, next(enough, -4) + 4)


def _short_master_key(system: System, few: int) -> NDArray[np.int64] | None:
    """S (n, d) as the shortest whole solution of the equations of the first keys; None where it is not
    short.
    """
    stacked = np.vstack([np.asarray(keys.sk, dtype=np.int64) for _, keys, _ in system.parts])[:few]
    n = system.echelon.columns
    try:
        columns, solvable = Coset.of(system.vectors[:few], np.ones(n)).nearest(stacked.T, np.zeros(n))
    except (OverflowError, ValueError):  # the latter: of nearly n keys LLL does not find the kernel
        return None
    return columns.T if solvable.all() else None


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
