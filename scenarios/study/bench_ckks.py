"""The same head under CKKS by TenSEAL, the scheme and library of the paper, beside Paillier in the same run;
an optional extra.

J. Cheon, A. Kim, M. Kim, Y. Song, ASIACRYPT 2017. Encrypted rows of weights, plain features, one dot product
a class; degree 8192 and 160 bits of modulus, within the 218 bits that the table of HomomorphicEncryption.org
allows for 128 bit. CKKS is approximate: logits carry an error, and a decryption that its receiver passes on
can give the key away (B. Li, D. Micciancio, EUROCRYPT 2021), so that decisions only may leave the authority.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from scenarios.study.bench_paillier import measure_paillier
from scenarios.study.bench_tools import Figure, Sizes

_FEATURES, _CLASSES = 256, 10
_DEGREE, _MODULI, _SCALE = 8192, (60, 40, 60), 2.0**40
_REPEATS = 5


def ckks_head(sizes: Sizes) -> Iterator[Figure]:
    """A head 256 -> 10 under CKKS and under Paillier with 2048 bit; says so if TenSEAL is not there."""
    try:
        tenseal: Any = importlib.import_module("tenseal")
    except ImportError:
        yield Figure("ckks", "TenSEAL is not installed", "not measured", "pip install '.[ckks]'")
        return
    ours, theirs = measure_paillier(2048, with_phe=False, repeats=_REPEATS), measure_ckks(tenseal)
    for what in ("server", "authority"):
        text = f"CKKS {1e3 * theirs[what]:.1f} ms, Paillier {1e3 * ours[what].best:.1f} ms"
        yield Figure("ckks", f"{what}, one inference, at best", text, value=[theirs[what], ours[what].best])
    sizes_ = [theirs["nbytes"], ours["nbytes"]]
    yield Figure("ckks", "bytes of the head", f"CKKS {sizes_[0]}, Paillier {sizes_[1]}", value=sizes_)
    yield Figure(
        "ckks", "largest error of a logit", f"CKKS {theirs['error']:.1e}, Paillier 0", value=theirs["error"]
    )


def measure_ckks(tenseal: Any) -> dict[str, float]:
    """Best seconds at `server` and `authority`, `nbytes` of the head, the largest `error` of a logit."""
    rng = np.random.default_rng(0)
    weights, features = rng.uniform(-1, 1, (_CLASSES, _FEATURES)), rng.random(_FEATURES).tolist()
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, _DEGREE, coeff_mod_bit_sizes=list(_MODULI))
    context.global_scale = _SCALE
    context.generate_galois_keys()
    head = [tenseal.ckks_vector(context, row.tolist()) for row in weights]
    server, authority = [], []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        answers = [row.dot(features) for row in head]
        made = time.perf_counter()
        found = np.array([answer.decrypt()[0] for answer in answers])
        authority.append(time.perf_counter() - made)
        server.append(made - start)
    error = float(np.abs(found - weights @ np.array(features)).max())
    nbytes = sum(len(row.serialize()) for row in head)
    return {"server": min(server), "authority": min(authority), "error": error, "nbytes": nbytes}
