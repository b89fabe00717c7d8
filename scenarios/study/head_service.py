"""Services for the matrix of attacks: integer heads that decide, and one that does through ciphertexts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.heads import malleability
from parties.adversary.heads.blackbox import Decide, Phi
from protocols.crypto import paillier
from protocols.crypto.coins import Coins, derive
from protocols.crypto.paillier_keys import PaillierHead, PaillierPublicKey, PaillierSecretKey
from protocols.network.head_integers import HeadFormat, integer_logits, quantise_features
from protocols.network.public_base import Float, FrozenBase, unpooled

_X_MAX = 255

Ints = NDArray[np.int64]
Integers = tuple[Ints, Ints]  # weights (k, d) and bias (k,)


def matrix_of(head: Integers) -> Ints:
    """(k, d + 1), the bias last."""
    return np.hstack([head[0], head[1][:, None]])


def served(base: FrozenBase, form: HeadFormat) -> Phi:
    """Features of inputs (m, n) as a service has them of integer pixels: integers, as floats."""
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
    """Decisions (m,) on inputs (m, n) from a head's ciphertexts: integer pixels, encrypted logits,
    decryption.

    Counts queries and seconds, and whether the logits were those of the integer head.
    """

    pk: PaillierPublicKey
    sk: PaillierSecretKey
    sealed: PaillierHead
    head: Integers
    base: FrozenBase | None
    form: HeadFormat
    queries: int = 0
    server: float = 0.0
    authority: float = 0.0
    equal: bool = True

    def __post_init__(self) -> None:
        self.coins = Coins(derive(bytes(32), "queries"))
        self.loaded = paillier.load(self.pk, self.sealed)

    def __call__(self, inputs: Float) -> Ints:
        start, base = time.perf_counter(), self.base
        assert base is not None
        images = unpooled(inputs, base.shape, base.pool, _X_MAX)
        features = quantise_features(base.phi(base.inputs(images / _X_MAX)), self.form)
        ct = paillier.linear(self.pk, self.loaded, features, self.coins, tables=True)
        expected = integer_logits(*self.head, features)
        return self._opened(ct, expected, start)

    def shifted(self, columns: Ints, shifts: Ints) -> Ints:
        """Decisions on shifted ciphertexts of its columns."""
        start = time.perf_counter()
        ct = malleability.shifted(self.pk, self.sealed, columns, shifts)
        return self._opened(ct, matrix_of(self.head).T[columns] + shifts, start)

    def _opened(self, ct: Any, expected: Ints, start: float) -> Ints:
        made = time.perf_counter()
        found = paillier.decrypt(self.sk, ct)
        self.authority += time.perf_counter() - made
        self.server += made - start
        self.queries += len(found)
        self.equal &= np.array_equal(found, expected)
        decisions: Ints = found.argmax(1)
        return decisions

    def cost(self, queries: int) -> dict[str, Any]:
        """For a row: of what was asked, and the time that so many queries would take."""
        server, authority = (1e3 * seconds / self.queries for seconds in (self.server, self.authority))
        return {
            "real_queries": self.queries,
            "real_equal": self.equal,
            "server_ms": round(server, 3),
            "authority_ms": round(authority, 3),
            "extrapolated_seconds": round((server + authority) * queries / 1e3, 1),
        }
