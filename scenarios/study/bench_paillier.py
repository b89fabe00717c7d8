"""How long an encrypted head of 256 features and 10 classes takes, and phe's own floats beside it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from protocols.crypto import paillier
from protocols.crypto.coins import Coins
from protocols.crypto.integers.multiexp import byte_table
from protocols.crypto.integers.packing import HeadBounds
from scenarios.study.bench_tools import Figure, Sizes

BOUNDS = HeadBounds(
    classes=10, features=256, weight=1 << 15, feature=255, bias=1 << 30
)  # 16-bit weights, 8-bit features
_BATCH = 64
_LINES = {
    "server": "server, one inference, blinded, with tables of the head",
    "bare": "server, the same without blinding",
    "buckets": "server, one inference, blinded, by buckets",
    "authority": "authority, one inference",
    "batch": f"server, one of {_BATCH} inferences, blinded",
    "opening": f"authority, one of {_BATCH} inferences",
    "keys": "keys",
    "table": "table of h_n, once a key",
    "tables": "tables of the head, once a head",
    "encryption": "encryption of the head, 257 rows",
    "phe_server": "phe's own floats, one inference at the server",
    "phe_authority": "phe's own floats, one inference at the authority",
}


@dataclass(frozen=True)
class Lap:
    """Seconds of one call: the median, the best (least disturbed by others), mean processor time."""

    median: float
    best: float
    cpu: float

    def each(self, count: int) -> Lap:
        """The share of one in `count`."""
        return Lap(self.median / count, self.best / count, self.cpu / count)


def paillier_head(sizes: Sizes) -> Iterator[Figure]:
    """One inference with a head 256 -> 10 at 2048 and 3072 bit, and its ratio to phe's floats at 2048."""
    for key_bits in (2048, 3072):
        row = measure_paillier(key_bits, with_phe=key_bits == 2048)
        goals = {"server": "<= 4 ms", "authority": "<= 6 ms"} if key_bits == 2048 else {}
        for key, what in _LINES.items():
            if key in row:
                lap, stated = row[key], goals.get(key, "")
                text = f"{1e3 * lap.median:.2f} ms, at best {1e3 * lap.best:.2f}"
                yield Figure("paillier", f"{key_bits} bit: {what}", text, stated, vars(lap))
        if "ratio" in row:
            text = f"{row['ratio']:.0f} times the processor time"
            yield Figure(
                "paillier", f"{key_bits} bit: phe's own floats against ours", text, ">= 100", row["ratio"]
            )
        yield Figure(
            "paillier", f"{key_bits} bit: bytes of the head", f"{row['nbytes']}", value=row["nbytes"]
        )


def measure_paillier(key_bits: int, with_phe: bool = True, repeats: int = 25) -> dict[str, Any]:
    """Laps by name, all on one core; the logits are checked on the way.

    Features are dense: uniform in [0, 255]. Those of a ReLU, half of them zero, cost less by buckets. phe's
    path is phe's: one ciphertext a weight, its operators, its blinding of every logit with a full r^n; only
    the head was encrypted by `encrypt_float`.
    """
    coins, rng = Coins(os.urandom(32)), np.random.default_rng(0)
    weights = rng.integers(-BOUNDS.weight, BOUNDS.weight + 1, (BOUNDS.classes, BOUNDS.features))
    bias = rng.integers(-BOUNDS.bias, BOUNDS.bias + 1, BOUNDS.classes)
    features = rng.integers(0, BOUNDS.feature + 1, (_BATCH, BOUNDS.features))
    keys, (pk, sk) = _time(lambda: paillier.setup(paillier.parameters(BOUNDS, key_bits), coins), 1)
    table, _ = _time(lambda: byte_table(pk.h_n, int(pk.square), key_bits // 16), 1)
    encryption, ct = _time(lambda: paillier.encrypt(pk, weights, bias, coins), 3)
    head, one = paillier.load(pk, ct), features[:1]
    tables, _ = _time(lambda: head.tables, 1)
    server, answer = _time(lambda: paillier.linear(pk, head, one, coins, tables=True), repeats)
    authority, _ = _time(lambda: paillier.decrypt(sk, answer), repeats)
    batch, answers = _time(lambda: paillier.linear(pk, head, features, coins), 3)
    opening, logits = _time(lambda: paillier.decrypt(sk, answers), 3)
    if not np.array_equal(logits, features @ weights.T + bias):
        raise AssertionError("the decrypted logits are wrong")
    row = {
        "server": server, "authority": authority, "keys": keys, "table": table, "tables": tables,
        "bare": _time(lambda: paillier.unblinded(head, one, True), repeats)[0],
        "buckets": _time(lambda: paillier.linear(pk, head, one, coins, tables=False), repeats)[0],
        "batch": batch.each(_BATCH), "opening": opening.each(_BATCH), "encryption": encryption,
        "nbytes": ct.elements.nbytes, "answer_nbytes": answer.elements.nbytes,
    }  # fmt: skip
    if with_phe:
        row |= _phe(pk, sk, weights / BOUNDS.weight, bias / BOUNDS.bias, one[0] / BOUNDS.feature, coins)
        row["ratio"] = (row["phe_server"].cpu + row["phe_authority"].cpu) / (server.cpu + authority.cpu)
    return row


def _phe(pk: Any, sk: Any, weights: Any, bias: Any, features: Any, coins: Coins) -> dict[str, Lap]:
    """One inference by phe's own operators and its own blinding."""
    rows, secret = (
        paillier.phe_numbers(pk, paillier.encrypt_float(pk, weights, bias, coins)),
        paillier.phe_secret(sk),
    )
    inputs = features.tolist()

    def serve() -> list[Any]:
        answers = [paillier.float_logit(row, inputs) for row in rows]
        for answer in answers:
            answer.obfuscate()
        return answers

    server, answers = _time(serve, 3)
    authority, logits = _time(lambda: [secret.decrypt(answer) for answer in answers], 3)
    if not np.allclose(logits, weights @ features + bias):
        raise AssertionError("phe's decrypted logits are wrong")
    return {"phe_server": server, "phe_authority": authority}


def _time(work: Callable[[], Any], repeats: int) -> tuple[Lap, Any]:
    """The lap of `repeats` calls, and what the last returned."""
    seconds, before = [], time.process_time()
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return Lap(float(np.median(seconds)), min(seconds), (time.process_time() - before) / repeats), result
