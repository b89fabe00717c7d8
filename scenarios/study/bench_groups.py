"""How long the operations of the DDH schemes take in every group, at the sizes of digits and MNIST."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from protocols.crypto import ipfe_ddh
from protocols.crypto.coins import Coins
from protocols.crypto.groups import dlog
from protocols.crypto.groups.elements import Group, powers
from protocols.crypto.groups.named import GROUPS, get_group
from protocols.crypto.records import Bounds
from scenarios.study.bench_tools import Figure, Sizes

_X_MAX = {64: 16}  # digits; any other length: bytes
_Y_MAX = 1024  # weight scale 256, weight bound 4
_SCALARS = 64
_ENTRIES = 4096  # of a table, in one timing


def groups(sizes: Sizes) -> Iterator[Figure]:
    """The groups that DDH can use, on the sizes of digits and of MNIST."""
    for row in measure_groups():
        rest = {key: value for key, value in row.items() if key not in ("group", "length")}
        said = (
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in rest.items()
        )
        yield Figure("groups", f"{row['group']} {row['length']}", "  ".join(said), value=rest)


def measure_groups(
    lengths: Sequence[int] = (64, 784), keys: int = 64, seconds_each: float = 0.3
) -> list[dict[str, Any]]:
    """Time every group at every length; a row per pair, medians of repetitions over `seconds_each` on all
    cores.

    A row: `group`, `assumption`, `security_bits`, `nbytes` (an element on the wire), `length`, `bound` (of
    the discrete log), `exp_us` (one full exponentiation), `encrypt_ms` (one vector), `decrypt_us` (the
    multi-exponentiation of one decryption, 2 ciphertexts x `keys` keys at a time, without ct_0 and the
    logarithm), `table_seconds` (the discrete-log table of that bound, extrapolated from 4096 entries).
    """
    return [_measure(get_group(name), length, keys, seconds_each) for name in GROUPS for length in lengths]


def _measure(group: Group, length: int, keys: int, seconds: float) -> dict[str, Any]:
    bounds = Bounds(length, _X_MAX.get(length, 255), _Y_MAX)
    params, coins = ipfe_ddh.parameters(bounds, group.name), Coins(os.urandom(32))
    mpk, _ = ipfe_ddh.setup(params, coins)
    rng = np.random.default_rng(0)
    x = rng.integers(0, bounds.x + 1, (1, length))
    y = np.clip(np.rint(rng.normal(0, _Y_MAX / 4, (keys, length))), -_Y_MAX, _Y_MAX).astype(np.int64)
    points = ipfe_ddh.load(mpk, ipfe_ddh.encrypt(mpk, x, coins)).elements
    scalars = group.draw(coins.stream("bench"), _SCALARS)
    entries = dlog.reach(bounds.inner)
    return {
        "group": group.name,
        "assumption": group.assumption,
        "security_bits": group.security_bits,
        "nbytes": group.nbytes,
        "length": length,
        "bound": bounds.inner,
        "exp_us": 1e6 / _SCALARS * _median(lambda: group.g**scalars, seconds),
        "encrypt_ms": 1e3 * _median(lambda: ipfe_ddh.encrypt(mpk, x, coins), seconds),
        "decrypt_us": 1e6 / keys * _median(lambda: points[:, 1:] @ y.T, seconds),
        "table_seconds": entries / _ENTRIES * _median(lambda: powers(group.g, _ENTRIES).keys(), seconds),
    }


def _median(work: Callable[[], Any], seconds: float) -> float:
    """Median duration of `work` in seconds, over at least one repetition and about `seconds` in all."""
    durations: list[float] = []
    while math.fsum(durations) < seconds:
        start = time.perf_counter()
        work()
        durations.append(time.perf_counter() - start)
    return float(np.median(durations))
