"""Secret randomness: an AES-256-CTR keystream keyed by HKDF-SHA256(run key, party, purpose, use).

Every secret that a scheme draws comes from here. numpy's and torch's generators serve weights and shuffles
only: they are not cryptographic, and their 32-bit seeds would give a secret key away together with the public
one.

`Coins` belongs to one party. `coins.stream(purpose)` never returns the same stream twice: each call opens the
next use of that purpose. Whoever holds the run key (`--seed`) can derive every stream of every party.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from protocols.crypto.groups import workers

_KEY_BYTES = 32
_BLOCK = 1 << 18  # pairs of normal variates made at once: two blocks of 2 MB stay in the cache


def derive(key: bytes, *info: str) -> bytes:
    """HKDF-SHA256 of `key` (32 bytes) for the purpose named by `info`; injective in `info`."""
    joined = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in info)
    return HKDF(algorithm=hashes.SHA256(), length=_KEY_BYTES, salt=b"keyhole coins v1", info=joined).derive(
        key
    )


@dataclass
class Coins:
    """The secret coins of one party: independent keystreams, one per purpose and use.

    `key` is the party's own 32-byte key, `derive(run_key, party)`; `uses` counts how often a purpose was
    opened, so that a party restored from a checkpoint goes on where it stopped.
    """

    key: bytes = field(repr=False)
    uses: dict[str, int] = field(default_factory=dict)

    def stream(self, purpose: str) -> Stream:
        """Open the next unused stream for `purpose`."""
        use = self.uses.get(purpose, 0)
        self.uses[purpose] = use + 1
        return Stream(derive(self.key, purpose, str(use)))


class Stream:
    """A keystream and the distributions that schemes draw from it."""

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise ValueError(f"a stream key has {_KEY_BYTES} bytes, got {len(key)}")
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def bytes(self, n: int) -> bytes:
        """The next `n` bytes of the keystream."""
        return self._encryptor.update(bytes(n))

    def words(self, *shape: int) -> NDArray[np.uint64]:
        """Uniform 64-bit words."""
        count = int(np.prod(shape, dtype=np.int64))
        words = np.empty(count, dtype="<u8")
        if count:
            out = words.data.cast("B")
            zeros = bytes(min(count * 8, 1 << 20))
            for start in range(0, count * 8, 1 << 20):
                n = min(1 << 20, count * 8 - start)
                out[start : start + n] = self._encryptor.update(zeros[:n])
        return words.reshape(shape)

    def below(self, q: int, n: int) -> list[int]:
        """`n` integers uniform in [0, q), by rejection."""
        nbits = q.bit_length()
        nbytes = (nbits + 7) // 8
        mask = (1 << nbits) - 1
        out: list[int] = []
        while len(out) < n:
            block = self.bytes(nbytes * max(8, (n - len(out)) * 5 // 4))
            draws = (
                int.from_bytes(block[i : i + nbytes], "big") & mask for i in range(0, len(block), nbytes)
            )
            out.extend(d for d in draws if d < q)
        return out[:n]

    def uniform(self, bound: float, *shape: int) -> NDArray[np.float64]:
        """Reals uniform in [-bound, bound], in steps of bound / 2^52."""
        steps = (self.words(*shape) >> np.uint64(11)).astype(np.float64)  # 53 bits
        reals: NDArray[np.float64] = (steps * 2.0**-52 - 1.0) * bound
        return reals

    def centred_binomial(self, *shape: int) -> NDArray[np.int8]:
        """Centred binomial with parameter 2, a difference of two sums of two bits: variance 1, -2 to 2."""
        count = int(np.prod(shape, dtype=np.int64))
        block = np.frombuffer(self.bytes((count + 1) // 2), dtype=np.uint8)
        nibbles = np.stack([block & 15, block >> 4], axis=1).reshape(-1)[:count]
        table = np.array(
            [(v & 1) + (v >> 1 & 1) - (v >> 2 & 1) - (v >> 3 & 1) for v in range(16)], dtype=np.int8
        )
        return table[nibbles].reshape(shape)

    def rounded_gaussian(self, sigma: float, *shape: int) -> NDArray[np.int64]:
        """Normal variates of deviation `sigma`, rounded to integers (Box-Muller on 53-bit uniforms).

        Words are drawn in their order, and several blocks of them turned into variates at once.
        """
        count = int(np.prod(shape, dtype=np.int64))
        half = (count + 1) // 2
        out = np.empty(2 * half, dtype=np.int64)
        edges = [*range(0, half, _BLOCK), half]
        blocks = [(start, stop, self.words(2, stop - start)) for start, stop in pairwise(edges)]

        def task(block: tuple[int, int, NDArray[np.uint64]]) -> None:
            start, stop, words = block
            u = (words >> np.uint64(11)).astype(np.float64)
            radius = (
                np.sqrt(-2.0 * np.log((u[0] + 1.0) * 2.0**-53)) * sigma
            )  # u + 1 in (0, 2^53]: log is finite
            angle = u[1] * (2.0 * np.pi * 2.0**-53)
            out[2 * start : start + stop] = np.rint(radius * np.cos(angle))
            out[start + stop : 2 * stop] = np.rint(radius * np.sin(angle))

        workers.spread(task, blocks, workers.available())
        return out[:count].reshape(shape)
