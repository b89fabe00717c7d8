"""Heads under real encryption for the matrix of attacks: what the server holds of them, and what its queries cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.heads import malleability as oracle
from parties.adversary.heads.shadow import Decide, Phi
from protocols.crypto import paillier
from protocols.crypto.coins import Coins, derive
from protocols.crypto.paillier_keys import PaillierHead, PaillierPublicKey, PaillierSecretKey
from protocols.network.head import Heads
from protocols.network.head_integers import HeadFormat, integer_logits, quantise_features, quantise_head
from protocols.network.public_base import Float, FrozenBase, unpooled

_X_MAX = 255

Ints = NDArray[np.int64]
Integers = tuple[Ints, Ints]  # weights (k, d) and bias (k,)


@dataclass(frozen=True)
class Sealed:
    """Encrypted heads under one key: the bytes of all ciphertexts of each, (V, p), and the first one itself."""

    pk: PaillierPublicKey
    sk: PaillierSecretKey
    elements: NDArray[np.uint8]
    first: PaillierHead
    seconds_each: float

    @property
    def nbytes(self) -> int:
        """Of one encrypted head."""
        return int(self.elements.shape[1])


def seal(heads: Heads, form: HeadFormat, key_bits: int, toy: bool, seed: int) -> Sealed:
    """Encrypt every head, as the protocol's owner does; one key for all, fresh blinding for each ciphertext."""
    _, classes, width = heads.layers[0].shape
    coins = Coins(derive(seed.to_bytes(32, "big"), "matrix"))
    params = paillier.parameters(form.head_bounds(classes, width - 1), key_bits, toy)
    pk, sk = paillier.setup(params, coins)
    paillier.blinding(pk, 0, coins.stream("none"))  # the table of h_n
    start = time.perf_counter()
    sealed = [paillier.encrypt(pk, *integers, coins) for integers in integer_heads(heads, form)]
    seconds = (time.perf_counter() - start) / len(sealed)
    return Sealed(pk, sk, np.stack([head.elements.reshape(-1) for head in sealed]), sealed[0], seconds)


def integer_heads(heads: Heads, form: HeadFormat) -> list[Integers]:
    """Heads as they are encrypted."""
    return [quantise_head(w, b, form) for w, b in zip(heads.weights, heads.bias, strict=True)]


def integer_accuracy(
    heads: list[Integers], features: Float, labels: NDArray[np.int64], form: HeadFormat
) -> float:
    """Share of inputs that integer heads classify rightly, mean over heads."""
    inputs = quantise_features(features, form)
    return float(np.mean([(integer_logits(*head, inputs).argmax(1) == labels).mean() for head in heads]))


def served(base: FrozenBase, form: HeadFormat) -> Phi:
    """Features as a service computes them of inputs (m, n'), which reach it as integer pixels, in integers, as floats of their value."""
    steps = _X_MAX * base.pool**2

    def phi(inputs: Float) -> NDArray[np.float64]:
        seen = np.rint(np.asarray(inputs, np.float64) * steps) / steps
        return form.feature.restore(quantise_features(base.phi(seen), form))

    return phi


def service(phi: Phi, head: Integers, form: HeadFormat) -> Decide:
    """Decisions of the integer head; exact in float64, whose 53 bits hold every logit."""
    weights, bias = head[0].T.astype(np.float64), head[1] / form.feature.scale
    return lambda inputs: (phi(inputs) @ weights + bias).argmax(1)


@dataclass
class RealService:
    """Decisions (m,) on inputs (m, n') from the first head's ciphertexts: integer pixels, encrypted logits, decryption.

    Counts queries and seconds, and whether the logits were those of the integer head.
    """

    sealed: Sealed
    head: Integers
    base: FrozenBase
    form: HeadFormat
    queries: int = 0
    server: float = 0.0
    authority: float = 0.0
    equal: bool = True

    def __post_init__(self) -> None:
        self.coins = Coins(derive(bytes(32), "queries"))
        self.loaded = paillier.load(self.sealed.pk, self.sealed.first)

    def __call__(self, inputs: Float) -> Ints:
        start, base = time.perf_counter(), self.base
        images = unpooled(inputs, base.shape, base.pool, _X_MAX)
        features = quantise_features(base.phi(base.inputs(images / _X_MAX)), self.form)
        ct = paillier.linear(self.sealed.pk, self.loaded, features, self.coins, tables=True)
        made = time.perf_counter()
        found = paillier.decrypt(self.sealed.sk, ct)
        self.authority += time.perf_counter() - made
        self.server += made - start
        self.queries += len(found)
        self.equal &= np.array_equal(found, integer_logits(*self.head, features))
        decisions: Ints = found.argmax(1)
        return decisions

    def cost(self) -> dict[str, Any]:
        """For a row."""
        return _cost(self.queries, self.equal, self.server, self.authority)


def cost_of_shifts(sealed: Sealed, head: Integers, columns: Ints, shifts: Ints) -> dict[str, Any]:
    """Ask for the decisions about shifted ciphertexts of the first head, as `oracle` does, through real ones."""
    start = time.perf_counter()
    ct = oracle.shifted(sealed.pk, sealed.first, columns, shifts)
    made = time.perf_counter()
    found = paillier.decrypt(sealed.sk, ct)
    done = time.perf_counter()
    expected = np.hstack([head[0], head[1][:, None]]).T[columns] + shifts
    return _cost(len(found), np.array_equal(found, expected), made - start, done - made)


def _cost(queries: int, equal: bool, server: float, authority: float) -> dict[str, Any]:
    return {
        "real_queries": queries,
        "real_equal": equal,
        "server_ms": round(1e3 * server / queries, 3),
        "authority_ms": round(1e3 * authority / queries, 3),
    }
