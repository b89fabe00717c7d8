"""One instance of every scheme with a value of each of its records, and how a receiver takes each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from protocols.crypto import febo, fhipe, ipfe_ddh, ipfe_lwe, ipfe_rlwe, paillier, qfe
from protocols.crypto.coins import Coins
from protocols.crypto.integers.packing import HeadBounds
from protocols.crypto.records import Bounds

TOY = 64  # dimension of lwe where security is not the matter
INNER = ("ddh", "lwe", "rlwe", "fhipe")
ALL = (*INNER, "febo", "paillier", "qfe")


@dataclass(frozen=True)
class Inner:
    """An instance of an inner-product scheme, with the same verbs for all."""

    scheme: ModuleType
    mpk: Any
    msk: Any
    coins: Coins

    @property
    def bounds(self):
        return self.mpk.params.bounds

    def encrypt(self, x):
        return self.scheme.encrypt(self.msk if self.scheme is fhipe else self.mpk, x, self.coins)

    def key(self, y):
        return self.scheme.key_derive(self.msk, y, *([self.coins] if self.scheme is fhipe else []))

    def decrypt(self, sk, ct):
        return self.scheme.decrypt(self.mpk, sk, ct)

    def run(self, x, y):
        return self.decrypt(self.key(y), self.encrypt(x))


def inner(name, bounds=None, seed=1, group=None, dimension=TOY):
    """A new instance, small and of the fastest group unless told otherwise."""
    scheme = {"ddh": ipfe_ddh, "lwe": ipfe_lwe, "rlwe": ipfe_rlwe, "fhipe": fhipe}[name]
    coins, bounds = Coins(bytes([seed]) * 32), bounds or Bounds(6, 16, 128)
    more = [dimension] if name == "lwe" else [None, dimension] if name == "rlwe" else [group] if group else []
    return Inner(scheme, *scheme.setup(scheme.parameters(bounds, *more), coins), coins)


def matrices(bounds, count=3, keys=4, seed=0):
    """x (count, n) and y (keys, n) within the bounds."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-bounds.x, bounds.x + 1, (count, bounds.length)).astype(np.int32)
    return x, rng.integers(-bounds.y, bounds.y + 1, (keys, bounds.length)).astype(np.int32)


@dataclass(frozen=True)
class Case:
    """Records by name, and for those that a peer sends how the receiver takes them."""

    module: ModuleType
    other: Any  # parameters that are not those of the instance
    records: dict[str, Any]
    take: dict[str, Callable[[Any], Any]]
    shapes: dict[str, tuple[int, ...]]  # with which a transcript lists them, where not ()
    rebuilt: Callable[[dict[str, Any]], Any]  # the result from records that crossed
    expected: Any


@cache
def case(name, seed=1):
    """The case of a scheme, made once; another seed gives another instance."""
    return fresh(name, seed)


def fresh(name, seed):
    """As `case`, made anew."""
    return {"febo": _febo, "paillier": _paillier, "qfe": _qfe}.get(name, _inner)(name, seed)


def _inner(name, seed):
    it = inner(name, seed=seed)
    x, y = matrices(it.bounds)
    records = {"params": it.mpk.params, "mpk": it.mpk, "msk": it.msk, "ct": it.encrypt(x), "sk": it.key(y)}
    records["bounds"] = it.bounds
    scheme, mpk, ct = it.scheme, it.mpk, records["ct"]
    take = {
        "mpk": lambda v: scheme.check(v, mpk.params),
        "ct": lambda v: scheme.load(mpk, v),
        "sk": lambda v: scheme.decrypt(mpk, v, ct),
    }
    keys = {
        "ddh": {"mpk": (6,), "msk": (6,)},
        "lwe": {"mpk": (TOY, 6), "msk": (6, TOY)},
        "rlwe": {"mpk": (TOY, 6), "msk": (6, TOY)},
        "fhipe": {"msk": (6, 6)},
    }
    shapes = {"ct": (3, 6), "sk": (4, 6)} | keys[name]
    other = replace(mpk.params, bounds=Bounds(6, 16, 129))
    return Case(
        scheme, other, records, take, shapes, lambda r: scheme.decrypt(r["mpk"], r["sk"], r["ct"]), x @ y.T
    )


def _febo(name, seed):
    coins = Coins(bytes([seed]) * 32)
    mpk, msk = febo.setup(febo.parameters(40, 30), coins)
    x, y = np.array([[40, 0, -40], [0, 7, 1]]), np.array([[-30, 30, 30], [0, 17, -30]])
    ct = febo.encrypt(mpk, x, coins)
    sk = febo.key_derive(msk, ct.commitments, febo.Operation.SUB, y)
    records = {"params": mpk.params, "mpk": mpk, "msk": msk, "ct": ct, "sk": sk}
    take = {
        "mpk": lambda v: febo.check(v, mpk.params),
        "ct": lambda v: febo.decrypt(mpk, sk, v),
        "sk": lambda v: febo.decrypt(mpk, v, ct),
    }
    shapes, other = {"ct": (2, 3), "sk": (2, 3)}, replace(mpk.params, x=41)
    return Case(febo, other, records, take, shapes, lambda r: febo.decrypt(r["mpk"], r["sk"], r["ct"]), x - y)


def _paillier(name, seed):
    coins, bounds, rng = Coins(bytes([seed]) * 32), HeadBounds(3, 11, 100, 15, 1000), np.random.default_rng(0)
    pk, sk = paillier.setup(paillier.parameters(bounds, 512, toy=True), coins)
    weights, bias = rng.integers(-100, 101, (3, 11)), rng.integers(-1000, 1001, 3)
    features = rng.integers(0, 16, (5, 11))
    head, floats = (f(pk, weights, bias, coins) for f in (paillier.encrypt, paillier.encrypt_float))
    ct = paillier.linear(pk, head, features, coins)
    records = {"params": pk.params, "mpk": pk, "msk": sk, "head": head, "ct": ct, "floats": floats}
    records["bounds"] = bounds
    take = {
        "mpk": lambda v: paillier.check(v, pk.params),
        "head": lambda v: paillier.load(pk, v),
        "ct": lambda v: paillier.decrypt(sk, v),
        "floats": lambda v: paillier.linear_float(pk, v, features, coins),
    }
    shapes = {"head": (12, 1), "ct": (5, 1), "floats": (3, 12)}
    other, expected = replace(pk.params, bounds=replace(bounds, bias=999)), features @ weights.T + bias
    return Case(
        paillier, other, records, take, shapes, lambda r: paillier.decrypt(r["msk"], r["ct"]), expected
    )


def _qfe(name, seed):
    coins, rng = Coins(bytes([seed]) * 32), np.random.default_rng(0)
    bounds = qfe.QfeBounds(3, 4, 9, 7, 98280)
    mpk, msk = qfe.setup(qfe.parameters(bounds), coins)
    f, x, y = rng.integers(-130, 131, (5, 3, 4)), rng.integers(-9, 10, (2, 3)), rng.integers(-7, 8, (2, 4))
    ct, sk = qfe.encrypt(mpk, x, y, coins), qfe.key_derive(msk, qfe.dense(f))
    records = {"params": mpk.params, "mpk": mpk, "msk": msk, "ct": ct, "sk": sk, "bounds": bounds}
    take = {
        "mpk": lambda v: qfe.check(v, mpk.params),
        "ct": lambda v: qfe.load(mpk, v),
        "sk": lambda v: qfe.decrypt(mpk, v, ct),
    }
    shapes = {"mpk": (3, 4), "msk": (3, 4), "ct": (2, 3, 4), "sk": (5, 1)}
    other, expected = qfe.parameters(replace(bounds, x=10)), np.einsum("Ni,hij,Nj->Nh", x, f, y)[..., None]
    return Case(
        qfe, other, records, take, shapes, lambda r: qfe.decrypt(r["mpk"], r["sk"], r["ct"]), expected
    )
