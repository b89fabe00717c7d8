"""Paillier encryption of a linear head: the weights are encrypted, the features are not.

P. Paillier, *Public-Key Cryptosystems Based on Composite Degree Residuosity Classes*, EUROCRYPT 1999, with
the key and the blinding of I. Damgard, M. Jurik, J. B. Nielsen, *A generalization of Paillier's public-key
system with applications to electronic voting*, Int. J. of Information Security 9 (2010), the section on
optimisations. n = p q, p = q = 3 mod 4, gcd(p - 1, q - 1) = 2; all arithmetic mod n^2:

    Setup      h = -r^2 mod n, h_n = h^n                          pk = (n, h_n), sk = (p, q)
    Encrypt    c_j = (1 + n P_j) h_n^{a_j}                        a_j uniform with |n|/2 bits,
                                                                  P_j = all weights of feature j, packed
    Linear     R = c_bias prod_j c_j^{f_j} h_n^a                  = Enc(sum_j f_j P_j + P_bias), a fresh
    Decrypt    L_p(R^{p-1} mod p^2) / L_p((1 + n)^{p-1}) mod p,   L_p(x) = (x - 1) / p
               the same mod q, CRT

Weights and features are integers with one fixed exponent (`protocols/network/fixedpoint.py`);
`integers/packing.py` says how the classes of a feature share a plaintext. What the head can reach follows
from the bounds at set-up: a slot cannot overflow later.

Security: IND-CPA under the decisional composite residuosity assumption, and under the assumption that h_n^a
with a of |n|/2 bits cannot be told from a power with a full exponent by who does not know p and q; about 112
bit with 2048-bit keys and 128 with 3072 (NIST SP 800-57). Server and authority must not collude: the
ciphertexts and sk give the weights. Whoever holds ciphertexts can make those of other linear functions
(malleability), and nothing proves to the authority that R is what was asked for. The blinding of R hides the
features from who holds no key. It hides them from the authority only as far as it has not seen the c_j, or
cannot take discrete logarithms modulo p and q. A `BoundError` of `decrypt` that reaches the server is an
answer: whether a product of its choice exceeds the bound. Exponentiations with p - 1 take a time that does
not depend on it (GMP's powm_sec); the look-ups in the table of h_n do.

Deviations: encryption draws r^n as h_n^a, as above, where Paillier draws r uniformly; ciphertexts carry a
tag, the hash of n, so that keys are told apart before the mathematics does.

`encrypt_float` and what follows is the float encoding of phe, which LEAKS: each weight's exponent crosses in
the clear.

On one core of a busy Xeon at 2.5 GHz, at best, head 256 -> 10, dense features of 8 bits, 2048 bit (3072 bit):
server 2.4 ms (5.3), of which the blinding 0.9 (2.2); by buckets, without tables of the head, 3.6 (7.5);
authority 3.9 (12.3). `keyhole bench paillier` measures again.
"""

from __future__ import annotations

import math
from typing import Any

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray
from phe import paillier as phe
from phe.encoding import EncodedNumber

from protocols.crypto.coins import Coins, Stream
from protocols.crypto.integers.multiexp import bucket_multi_exp, byte_table, fixed_base_exp, table_multi_exp
from protocols.crypto.integers.packing import HeadBounds, pack, unpack
from protocols.crypto.paillier_keys import (
    KEY_BITS,
    PaillierFloats,
    PaillierHead,
    PaillierLoaded,
    PaillierLogits,
    PaillierParams,
    PaillierPublicKey,
    PaillierSecretKey,
    bytes_of,
    check_units,
    numbers_of,
)
from protocols.crypto.records import Ints, arrived, check_plain, made_for
from protocols.language.errors import BoundError, MalformedError

NAME = "paillier"
SECURITY = (
    "IND-CPA under decisional composite residuosity, blinding with exponents of |n|/2 bits (Damgard, Jurik, "
    "Nielsen 2010); who holds ciphertexts and the secret key opens the head: server and authority must not "
    "collude"
)
LEAK = "phe's float encoding: the exponent of every weight crosses in the clear"
_PRIME_TESTS = 40  # of GMP: Baillie-PSW and 16 Miller-Rabin tests
_REMEDY = "lower --weight-scale or derive wider parameters"
_TABLES_FROM = 32  # inputs at a time for which subset tables of the head pay


def parameters(bounds: HeadBounds, key_bits: int = KEY_BITS, toy: bool = False) -> PaillierParams:
    """Parameters for these bounds; `BoundError` if a slot does not fit, `ConfigError` for a short key."""
    return PaillierParams(bounds, key_bits, toy)


def describe(params: PaillierParams) -> str:
    """One line for reports: level, notion, packing."""
    level = f"about {params.security_bits} bit" if params.security_bits else "toy"
    return (
        f"paillier, {params.key_bits}-bit keys, {level}: IND-CPA under DCR, blinding with short exponents; "
        f"{params.bounds.classes} classes in {params.chunks} ciphertext(s) of {params.nbytes} bytes a "
        f"feature, slots of {params.bounds.slot_bits} bits, |logit| <= {params.bounds.logit}"
    )


def setup(params: PaillierParams, coins: Coins) -> tuple[PaillierPublicKey, PaillierSecretKey]:
    """Draw the primes and h."""
    stream, half = coins.stream("paillier primes"), params.key_bits // 2
    p, q = _prime(stream, half), _prime(stream, half)
    # far apart, as FIPS 186-5 asks; gcd(p - 1, q - 1) = 2: h generates a cyclic group, as large as possible
    while abs(p - q) >> (half - min(100, half // 2)) == 0 or math.gcd(p - 1, q - 1) != 2:
        q = _prime(stream, half)
    n = p * q
    r = _unit(coins.stream("paillier h"), n)
    pk = PaillierPublicKey(params, n, int(gmpy2.powmod(-r * r % n, n, n * n)))
    return pk, PaillierSecretKey(pk, p, q)


def check(pk: PaillierPublicKey, params: PaillierParams) -> PaillierPublicKey:
    """A public key that arrived, if it has the parameters that are expected: no toy instead of a key."""
    return made_for(pk, PaillierPublicKey, params)


def encrypt(pk: PaillierPublicKey, weights: Ints, bias: Ints, coins: Coins) -> PaillierHead:
    """Encrypt weights (k, d) and bias (k,); `BoundError` beyond the bounds."""
    bounds = pk.params.bounds
    check_plain(weights, (bounds.classes, bounds.features), bounds.weight, "the weights of a head", _REMEDY)
    check_plain(bias, (bounds.classes,), bounds.bias, "the bias of a head", _REMEDY)
    columns = np.vstack([weights.T.astype(np.int64), bias[None].astype(np.int64)])
    plaintexts = [value for row in pack(columns, bounds.slot_bits, pk.params.per_plaintext) for value in row]
    factors = blinding(pk, len(plaintexts), coins.stream("paillier encrypt"))
    values = [(1 + p * pk.n) * factor % pk.square for p, factor in zip(plaintexts, factors, strict=True)]
    return PaillierHead(pk.tag, bytes_of(values, pk.params, len(columns), pk.params.chunks))


def load(pk: PaillierPublicKey, head: PaillierHead) -> PaillierLoaded:
    """Check that a head that arrived is one under this key, every element a unit mod n^2."""
    check_units(pk, arrived(head, PaillierHead, pk))
    return PaillierLoaded(pk, head.elements)


def linear(
    pk: PaillierPublicKey,
    head: PaillierHead | PaillierLoaded,
    features: Ints,
    coins: Coins,
    tables: bool | None = None,
) -> PaillierLogits:
    """Encrypted logits of features (m, d), freshly blinded; a head that was not loaded is validated first.

    `tables`: whether subset tables of the head are used, computed at the first call and kept with what `load`
    returned. By default from 32 inputs on; say True to a server that answers one by one. `BoundError` for
    features beyond the bounds.
    """
    loaded = head if isinstance(head, PaillierLoaded) else load(pk, head)
    if loaded.pk != pk:
        raise MalformedError("an encrypted head was loaded for another key")
    values = unblinded(loaded, features, len(features) >= _TABLES_FROM if tables is None else tables)
    factors = blinding(pk, len(values), coins.stream("paillier linear"))
    values = [value * factor % pk.square for value, factor in zip(values, factors, strict=True)]
    return PaillierLogits(pk.tag, bytes_of(values, pk.params, len(features), pk.params.chunks))


def unblinded(head: PaillierLoaded, features: Ints, tables: bool) -> list[mpz]:
    """The products of `linear` before they are blinded, input by input.

    They tell the features to who holds the head: do not send.
    """
    bounds, square = head.pk.params.bounds, head.pk.square
    check_plain(features, (None, bounds.features), bounds.feature, "features", "derive wider parameters")
    lowest = -bounds.feature if bounds.signed else 0
    if features.min(initial=0) < lowest:
        raise BoundError("features: an entry is negative; derive parameters for signed features")
    exponents = features.astype(np.int64) - lowest
    products = []
    for chunk, column in enumerate(head.columns):
        if tables:
            found = table_multi_exp(head.tables[chunk], exponents, square)
        else:
            found = bucket_multi_exp(column[:-1], exponents, square)
        products.append([value * head.constants[chunk] % square for value in found])
    return [products[chunk][i] for i in range(len(features)) for chunk in range(len(products))]


def decrypt(sk: PaillierSecretKey, ct: PaillierLogits) -> NDArray[np.int64]:
    """The logits (m, k), exact.

    `MalformedError` if the ciphertexts are not units or belong to another key, `BoundError` if a logit
    exceeds its bound: with a forged tag a wrong key gives a uniform plaintext, of which less than one in 2^64
    passes.
    """
    params = sk.pk.params
    check_units(sk.pk, arrived(ct, PaillierLogits, sk.pk))
    values = [_open(sk, c) for c in numbers_of(ct.elements)]
    rows = [values[start : start + params.chunks] for start in range(0, len(values), params.chunks)]
    return unpack(rows, params.bounds, params.per_plaintext)


def blinding(pk: PaillierPublicKey, count: int, stream: Stream) -> list[mpz]:
    """h_n^a for `count` fresh a of |n|/2 bits."""
    nbytes = pk.params.key_bits // 16
    table, draws = byte_table(pk.h_n, int(pk.square), nbytes), stream.bytes(nbytes * count)
    return [fixed_base_exp(table, draws[at : at + nbytes], pk.square) for at in range(0, len(draws), nbytes)]


def encrypt_float(
    pk: PaillierPublicKey, weights: NDArray[Any], bias: NDArray[Any], coins: Coins
) -> PaillierFloats:
    """phe's encryption of weights (k, d) and bias (k,), shape (k, d + 1). LEAKS the exponent of each.

    Encodings and exponents are phe's. The blinding is ours, because phe draws its own from the system and not
    from the coins.
    """
    matrix = np.hstack([np.asarray(weights, np.float64), np.asarray(bias, np.float64)[:, None]])
    bounds = pk.params.bounds
    if matrix.shape != (bounds.classes, bounds.features + 1) or not np.isfinite(matrix).all():
        raise MalformedError(
            f"a head of floats has ({bounds.classes}, {bounds.features}) finite weights and a bias a row"
        )
    key = phe_public(pk)
    numbers = [key.encrypt(value, r_value=1) for value in matrix.ravel().tolist()]
    return _floats(pk, numbers, matrix.shape, coins.stream("paillier encrypt_float"))


def linear_float(
    pk: PaillierPublicKey, head: PaillierFloats, features: NDArray[Any], coins: Coins
) -> PaillierFloats:
    """Encrypted logits (m, k) of features (m, d) by phe's arithmetic, then blinded. LEAKS their exponents.

    Nothing bounds what the exponents of very different magnitudes add up to: phe sees most overflows, and
    only when it decrypts.
    """
    bounds = pk.params.bounds
    check_units(pk, arrived(head, PaillierFloats, pk))
    if head.shape != (bounds.classes, bounds.features + 1):
        raise MalformedError(
            f"a head of floats has shape {bounds.classes, bounds.features + 1}, got {head.shape}"
        )
    inputs = np.asarray(features, np.float64)
    if inputs.ndim != 2 or inputs.shape[1] != bounds.features or not np.isfinite(inputs).all():
        raise MalformedError(
            f"features: expected finite numbers (any, {bounds.features}), got {inputs.shape}"
        )
    rows = phe_numbers(pk, head)
    numbers = [float_logit(row, one) for one in inputs.tolist() for row in rows]
    return _floats(pk, numbers, (len(inputs), bounds.classes), coins.stream("paillier linear_float"))


def decrypt_float(sk: PaillierSecretKey, ct: PaillierFloats) -> NDArray[np.float64]:
    """What phe decrypts encrypted floats to, in their shape.

    `BoundError` where it finds an overflow, as with a wrong key.
    """
    check_units(sk.pk, arrived(ct, PaillierFloats, sk.pk))
    key, fault = (
        phe_secret(sk),
        "an encrypted float overflowed, or the key and the ciphertext do not belong together",
    )
    try:
        found = [float(key.decrypt(number)) for row in phe_numbers(sk.pk, ct) for number in row]
    except (OverflowError, ValueError):
        raise BoundError(fault) from None
    values = np.array(found, dtype=np.float64).reshape(ct.shape)
    if not np.isfinite(values).all():
        raise BoundError(fault)
    return values


def float_exponents(values: NDArray[Any]) -> NDArray[np.int16]:
    """The exponents that phe gives floats and sends in the clear: place of the last of 53 bits, base 16."""
    last = np.frexp(np.asarray(values, np.float64))[1] - EncodedNumber.FLOAT_MANTISSA_BITS
    exponents: NDArray[np.int16] = np.floor_divide(last, round(EncodedNumber.LOG2_BASE)).astype(np.int16)
    return exponents


def phe_public(pk: PaillierPublicKey) -> phe.PaillierPublicKey:
    """The key as phe has it."""
    return phe.PaillierPublicKey(pk.n)


def phe_secret(sk: PaillierSecretKey) -> phe.PaillierPrivateKey:
    """The key as phe has it."""
    return phe.PaillierPrivateKey(phe_public(sk.pk), sk.p, sk.q)


def phe_numbers(pk: PaillierPublicKey, ct: PaillierFloats) -> list[list[phe.EncryptedNumber]]:
    """Encrypted floats as phe's objects."""
    key = phe_public(pk)
    pairs = zip(numbers_of(ct.elements), ct.exponents.ravel().tolist(), strict=True)
    numbers = [phe.EncryptedNumber(key, int(c), exponent) for c, exponent in pairs]
    width = ct.shape[1]
    return [numbers[start : start + width] for start in range(0, len(numbers), width)]


def float_logit(row: list[phe.EncryptedNumber], features: list[float]) -> phe.EncryptedNumber:
    """Enc(<w, f> + b) by phe's operators, not blinded; the last number of the row is the bias."""
    total = row[-1]
    for weight, feature in zip(row[:-1], features, strict=True):
        total = total + weight * feature
    return total


def _floats(
    pk: PaillierPublicKey, numbers: list[phe.EncryptedNumber], shape: tuple[int, ...], stream: Stream
) -> PaillierFloats:
    factors = blinding(pk, len(numbers), stream)
    values = [x.ciphertext(be_secure=False) * f % pk.square for x, f in zip(numbers, factors, strict=True)]
    exponents = np.array([number.exponent for number in numbers], dtype=np.int16).reshape(shape)
    return PaillierFloats(pk.tag, bytes_of(values, pk.params, *shape), exponents)


def _prime(stream: Stream, bits: int) -> int:
    """A prime of exactly these bits, the two highest and lowest set: a product of two has twice as many."""
    while True:
        drawn = int.from_bytes(stream.bytes(bits // 8), "big") | (3 << (bits - 2)) | 3
        if gmpy2.is_prime(drawn, _PRIME_TESTS):
            return drawn


def _unit(stream: Stream, n: int) -> int:
    """Uniform in Z_n^*."""
    while True:
        drawn = stream.below(n, 1)[0]
        if math.gcd(drawn, n) == 1:
            return drawn


def _open(sk: PaillierSecretKey, c: mpz) -> int:
    """The plaintext of c in (-n/2, n/2)."""
    mod_p, mod_q = (_residue(c, *half) for half in sk.halves)
    plaintext = int(mod_p + (mod_q - mod_p) * sk.p_inverse % sk.q * sk.p)
    return plaintext - sk.pk.n if 2 * plaintext > sk.pk.n else plaintext


def _residue(c: mpz, prime: mpz, square: mpz, inverse: mpz) -> mpz:
    """The plaintext of c modulo a prime."""
    return (gmpy2.powmod_sec(c % square, prime - 1, square) - 1) // prime * inverse % prime
