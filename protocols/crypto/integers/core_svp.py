"""How hard it is to find a short secret, given what a lattice and function keys say of it: core-SVP.

E. Alkim, L. Ducas, T. Poeppelmann, P. Schwabe, *Post-quantum key exchange: a new hope*, USENIX Security 2016
(eprint 2015/1092), section 6.3: an unusually short vector, of deviation sigma in each entry, is found in a
lattice of dimension d by BKZ with the smallest block size beta for which

    sqrt(beta) sigma <= delta(beta)^(2 beta - d - 1) vol^(1/d)

and one call of a sieve in dimension beta costs 2^(.292 beta) (A. Becker, L. Ducas, N. Gama, T. Laarhoven,
SODA 2016). It is a lower bound on what an attack by BKZ costs: one call is counted, and no memory.

**A secret under its own keys.** Schemes of the shape of Abdalla et al. (PKC 2015) with a short secret S (n,
d) hand out Y S over the integers, for the k rows of Y. Each column s of S, n entries of deviation sigma, then
solves Y s = sk: it lies in a known coset of the kernel lattice of Y. That has dimension n - k, and volume
det(Y Y^T)^(1/2) over the index of Y's rows in the whole vectors of their span, at most prod |y_i| (Hadamard).
So s is a closest-vector problem, and by Kannan's embedding with factor sigma a short vector in dimension n -
k + 1 and volume sigma prod |y_i|. One reduction serves all columns. With r = sigma / vol^(1 / (n - k)):

    a block size beta exists    the column is determined, at .292 beta bits; 0 where LLL or a small block
                                finds it
    none does                   r sqrt(2 pi e) > 1: more than one column fits, and only the public key tells
                                which, as LWE with a secret of deviation r (sigma 1, no key: r = 1)

Bits of a block size are fewer than those of the HomomorphicEncryption.org standard, which counts every call
of the sieve and 2^16.4 steps in each: LWE that has 128 bit there has beta = 340, 99 bit, here. So the figure
falls where a column becomes determined, in the cautious direction.

What this leaves out. E of the public key, of which keys say as much as of S, is no shorter than S in the
schemes here. Rows of Y that are short combinations of each other (weights of successive steps) give less
volume than their lengths say, and so less than is counted. An adversary that chooses Y (powers of five read
several entries of a short S with one key) is bounded only by the longest y that is allowed, and can ask for
what it wants to know anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_SIEVE = 0.292  # bits of a sieve for each dimension
EASY = 40  # block sizes up to here are a matter of seconds
VOID = 80  # bits below which a budget protects nothing
# Measured root Hermite factors of LLL and of small blocks, as in the estimator of Albrecht, Player, Scott
# (eprint 2015/046); the asymptotic formula (Y. Chen, 2013) holds from about 40 on.
_SMALL = (
    (2, 1.02190), (5, 1.01862), (10, 1.01616), (15, 1.01485), (20, 1.01420), (25, 1.01342), (28, 1.01331),
)  # fmt: skip
_ENTROPY = math.log2(math.sqrt(2 * math.pi * math.e))  # of a Gaussian of deviation 1


@dataclass(frozen=True)
class Issued:
    """How many independent keys of one master key a run issues: in its first step, and in all.

    `norm` is the length of a key's vector, None where only the bounds are known; `limited`: `total` is a
    budget that the authority enforces.
    """

    first: int
    total: int
    norm: float | None = None
    limited: bool = False


def delta(beta: int) -> float:
    """The root Hermite factor of BKZ with this block size."""
    if beta >= EASY:
        return float(((math.pi * beta) ** (1 / beta) * beta / (2 * math.pi * math.e)) ** (1 / (2 * beta - 2)))
    return next(factor for size, factor in reversed(_SMALL) if size <= max(beta, 2))


def block_size(dimension: int, log2_volume: float, sigma: float) -> int | None:
    """The smallest block size that finds a vector with entries of deviation sigma; None if not even the
    whole lattice as one block does, as it is not unusually short.
    """
    room = log2_volume / dimension - math.log2(sigma)
    for beta in range(2, dimension + 1):
        if math.log2(beta) / 2 <= (2 * beta - dimension - 1) * math.log2(delta(beta)) + room:
            return beta
    return None


@lru_cache(maxsize=256)
def lwe_block_size(dimension: int, log2_modulus: float, secret: float, error: float) -> int:
    """The block size of LWE with these deviations of secret and error, for the best number of samples.

    The secret's entries are scaled to the error's: S. Bai, S. Galbraith, ACISP 2014.
    """
    samples = np.arange(dimension // 4, 2 * dimension, 8)
    d = dimension + samples + 1
    volume = samples * log2_modulus + dimension * math.log2(error / secret) + math.log2(error)
    for beta in range(2, 4 * dimension):
        left = math.log2(beta) / 2 + math.log2(error)
        if (left <= (2 * beta - d - 1) * math.log2(delta(beta)) + volume / d)[d >= beta].any():
            return beta
    raise OverflowError("no block size is large enough")


def bits(beta: int) -> float:
    """Core-SVP of a block size; 0 where it takes no time to speak of."""
    return _SIEVE * beta if beta > EASY else 0.0


@dataclass(frozen=True)
class Column:
    """What is left of a column of n entries of deviation sigma, given keys of vectors of length `norm`."""

    length: int
    keys: int
    norm: float
    sigma: float

    @property
    def dimension(self) -> int:
        """Of what the keys leave open."""
        return max(0, self.length - self.keys)

    @property
    def log2_volume(self) -> float:
        """Of the kernel lattice of the keys, at most."""
        return self.keys * math.log2(max(self.norm, 1.0))

    @property
    def deviation(self) -> float:
        """r: sigma by the volume that a lattice point of the kernel takes, in each dimension."""
        return float(2.0 ** (math.log2(self.sigma) - self.log2_volume / self.dimension))

    @property
    def determined(self) -> int | None:
        """The block size that finds it; None if more than one column fits."""
        if not self.dimension:
            return 0
        volume = self.log2_volume + math.log2(self.sigma)
        found = block_size(self.dimension + 1, volume, self.sigma)
        if found is None and math.log2(self.deviation) + _ENTROPY <= 0:
            return self.dimension  # the two conditions differ by lower terms: the cautious one holds
        return found


def left(column: Column, alone: float, block: Callable[[float], int]) -> int:
    """Bits that are left of a master key, `alone` those of its public key without any key of a function.

    While a column is not determined, all that is lost is that the public key is as hard as with a secret of
    deviation r: `block` says of which block size.
    """
    if not column.dimension:
        return 0
    lost = block(math.inf) - block(max(column.deviation, 2**-_ENTROPY))
    of_public_key = alone - _SIEVE * max(0, lost)
    beta = column.determined
    return math.floor(of_public_key if beta is None else min(of_public_key, bits(beta)))


def said(whole: str, issued: Issued | None, level: Callable[[int, float | None], int]) -> tuple[str, str]:
    """For a line on a scheme whose public key alone has the level `whole`: what is left in two words, and of
    which keys; nothing where no keys are told. `level`: bits that some keys of a length leave.
    """
    if issued is None:
        return "", ""
    first, total = (level(keys, issued.norm) for keys in (issued.first, issued.total))
    void = "void, " if issued.limited and total < VOID else ""
    which = f"the budget of {issued.total}" if issued.limited else f"the {issued.total} of the run"
    return f", {void}{total} bit left", (
        f"{whole} is mpk alone; core-SVP of the secret: {first} bit after the {issued.first} keys of the "
        f"first step, {total} bit after {which}; "
    )
