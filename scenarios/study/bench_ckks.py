"""The same head under CKKS by TenSEAL, the scheme and library of the paper, beside Paillier in the same run;
an optional extra.

J. Cheon, A. Kim, M. Kim, Y. Song, ASIACRYPT 2017. The encrypted weights of all classes are packed into one
ciphertext, features are plain, in two forms:

    matmul   TenSEAL's `enc_matmul_plain`: the server multiplies, rotates and adds; it needs rotation keys
    sums     the server multiplies slot by slot, and the authority, which could open the head anyway, adds up
             256 slots a class; no rotation keys

At equal security: degree 8192 and 160 bits of modulus, within the 218 bits that the table of
HomomorphicEncryption.org allows for 128 bit, beside Paillier with 3072 bit, about 128. Packed so, CKKS takes
less time in all; what speaks for Paillier is exactness and size. CKKS is approximate: logits carry an error,
and a decryption that its receiver passes on can give the key away (B. Li, D. Micciancio, EUROCRYPT 2021), so
that decisions only may leave the authority. Answers are blinded under Paillier, and not here.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from scenarios.study.bench_paillier import measure_paillier
from scenarios.study.bench_tools import Figure, Sizes

_FEATURES, _CLASSES = 256, 10
_DEGREE, _MODULI, _SCALE = 8192, (60, 40, 60), 2.0**40
_KEY_BITS = 3072
_REPEATS = 15


@dataclass(frozen=True)
class Form:
    """One form of the head under CKKS: median seconds at server and authority, bytes of the `head`, of an
    `answer` and of the `rotations` that the server needs, the largest `error` of a logit.
    """

    server: float
    authority: float
    head: int
    answer: int
    rotations: int
    error: float


def ckks_head(sizes: Sizes) -> Iterator[Figure]:
    """A head 256 -> 10 under CKKS and under Paillier at 128 bit; says so if TenSEAL is not there."""
    try:
        tenseal: Any = importlib.import_module("tenseal")
    except ImportError:
        yield Figure("ckks", "TenSEAL is not installed", "not measured", "pip install '.[he]'")
        return
    ours = measure_paillier(_KEY_BITS, with_phe=False, repeats=_REPEATS)
    for name, theirs in measure_ckks(tenseal).items():
        for what in ("server", "authority"):
            seconds = [getattr(theirs, what), ours[what].median]
            text = f"CKKS {1e3 * seconds[0]:.1f} ms, Paillier {1e3 * seconds[1]:.1f} ms"
            yield Figure("ckks", f"{name}: {what}, one inference", text, value=seconds)
        keys = f" and {theirs.rotations} of rotation keys" if theirs.rotations else ""
        text = f"CKKS {theirs.head}{keys}, Paillier {ours['nbytes']}"
        yield Figure("ckks", f"{name}: bytes of the head", text, value=[theirs.head, ours["nbytes"]])
        text = f"CKKS {theirs.answer}, Paillier {ours['answer_nbytes']}"
        yield Figure(
            "ckks", f"{name}: bytes of an answer", text, value=[theirs.answer, ours["answer_nbytes"]]
        )
        text = f"CKKS {theirs.error:.1e}, Paillier 0"
        yield Figure("ckks", f"{name}: largest error of a logit", text, value=theirs.error)


def measure_ckks(tenseal: Any) -> dict[str, Form]:
    """Both forms of a head with weights in [-1, 1] and features in [0, 1]."""
    rng = np.random.default_rng(0)
    weights, features = rng.uniform(-1, 1, (_CLASSES, _FEATURES)), rng.random(_FEATURES)
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, _DEGREE, coeff_mod_bit_sizes=list(_MODULI))
    context.global_scale = _SCALE
    context.generate_galois_keys()
    without = len(context.serialize(save_secret_key=False, save_galois_keys=False))
    rotations = len(context.serialize(save_secret_key=False, save_galois_keys=True)) - without
    matrix = tenseal.enc_matmul_encoding(context, weights.tolist())
    slots = tenseal.ckks_vector(context, weights.ravel().tolist())
    inputs, repeated = features.tolist(), np.tile(features, _CLASSES).tolist()

    def added(answer: Any) -> Any:
        return np.array(answer.decrypt()).reshape(_CLASSES, _FEATURES).sum(axis=1)

    true = weights @ features
    return {
        "matmul": _form(
            matrix,
            lambda: matrix.enc_matmul_plain(inputs, _CLASSES),
            lambda answer: np.array(answer.decrypt()),
            true,
            rotations,
        ),
        "sums": _form(slots, lambda: slots * repeated, added, true, rotations=0),
    }


def _form(
    head: Any, serve: Callable[[], Any], opened: Callable[[Any], Any], true: Any, rotations: int
) -> Form:
    server, authority = [], []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        answer = serve()
        made = time.perf_counter()
        found = opened(answer)
        authority.append(time.perf_counter() - made)
        server.append(made - start)
    return Form(
        server=float(np.median(server)),
        authority=float(np.median(authority)),
        head=len(head.serialize()),
        answer=len(answer.serialize()),
        rotations=rotations,
        error=float(np.abs(found - true).max()),
    )
