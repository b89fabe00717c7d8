"""Rows of the matrix for encrypted heads: what ciphertexts give away, and what answers do that are fed back."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.heads import blackbox, exponents, logits, whitebox
from parties.adversary.heads import malleability as oracle
from protocols.crypto.paillier import float_exponents
from protocols.network.head import Float, Heads
from protocols.network.public_base import FrozenBase
from scenarios.study.encrypted_heads import (
    Integers,
    RealService,
    cost_of_shifts,
    integer_heads,
    served,
    service,
)
from scenarios.study.matrix_bench import Bench, Rebuilt, Row, Rows
from scenarios.study.victims import mean_accuracy

_NOTHING = "--release none: nothing goes back to who asks, so that there is nothing to attack"
_NO_PHI = "a features file gives no features of other inputs, and so there is nothing to ask about"


def encrypted_rows(bench: Bench) -> Rows:
    """What a server sees that is told nothing: ciphertexts, or phe's floats with their exponents."""
    accuracy, truth = bench.integer_accuracy, bench.victims.images
    yield _by_ciphertexts(bench)
    start = time.perf_counter()
    constant = np.zeros(
        (len(bench.shadows.images), 1), np.uint8
    )  # the one exponent of all weights of all heads
    images = whitebox.rebuild(constant, bench.shadows.images, constant[: len(truth)])
    yield bench.row("rhe", "exponents", accuracy, time.perf_counter() - start), Rebuilt(images, truth)
    for attack in ("blackbox", "oracle", "logits"):
        yield bench.refused("rhe", attack, accuracy, _NOTHING)
    start = time.perf_counter()
    images = exponents.rebuild_exponents(bench.shadows, float_exponents(bench.heads.layers[0]))
    in_float = mean_accuracy(bench.task, bench.heads)
    yield bench.row("rhe_float", "exponents", in_float, time.perf_counter() - start), Rebuilt(images, truth)


def _by_ciphertexts(bench: Bench) -> tuple[Row, Rebuilt]:
    """The white box, given the bytes of all ciphertexts; its control is given those of the integers that they encrypt."""
    start, sealed, victims = time.perf_counter(), bench.sealed, len(bench.victims)
    count = len(sealed.elements) - victims
    known = bench.shadows.images[:count]
    images = whitebox.rebuild(sealed.elements[victims:], known, sealed.elements[:victims])
    shadows = integer_heads(Heads((bench.shadows.heads.layers[0][:count],)), bench.form)
    control = whitebox.rebuild(_plain_bytes(shadows), known, _plain_bytes(bench.integers))
    more = {
        "shadows": count,
        "ciphertext_bytes": sealed.nbytes,
        "encrypt_ms": round(1e3 * sealed.seconds_each, 1),
    }
    row = bench.row("rhe", "whitebox", bench.integer_accuracy, time.perf_counter() - start, **more)
    return row, Rebuilt(images, bench.victims.images, control=control)


def _plain_bytes(heads: list[Integers]) -> NDArray[np.uint8]:
    """The bytes of heads' integers, offset so that they are positive, (V, p)."""
    joined = np.stack([np.hstack([weights, bias[:, None]]) for weights, bias in heads]) + (1 << 31)
    return joined.astype(">u4").view(np.uint8).reshape(len(heads), -1)


def asked_rows(bench: Bench) -> Rows:
    """What is fed back to who asks."""
    if bench.task.base is None:
        yield bench.refused("rhe_decision", "blackbox", bench.integer_accuracy, _NO_PHI)
    else:
        belief = blackbox.believe(bench.shadows)
        real = _real_attack(bench, bench.task.base, belief)
        for queries in bench.options.queries:
            yield _by_decisions(bench, bench.task.base, belief, real, queries)
        yield _by_logits(bench, bench.task.base)
    yield _by_shifts(bench)


def _by_decisions(
    bench: Bench, base: FrozenBase, belief: blackbox.Belief, real: dict[str, Any], queries: int
) -> tuple[Row, Rebuilt]:
    start, phi, clear = time.perf_counter(), served(base, bench.form), _asked(bench)
    inputs = bench.task.own.images
    found = [
        blackbox.extract(service(phi, head, bench.form), phi, inputs, belief, queries, bench.rng)
        for head in clear
    ]
    heads, spent = np.stack([f.head for f in found]), max(f.queries for f in found)
    agreement = round(float(np.mean([f.agreement for f in found])), 4)
    more = {"agreement": agreement, **_extrapolated(real, spent)}
    return _answered(bench, "rhe_decision", "blackbox", heads, start, spent, **more)


def _real_attack(bench: Bench, base: FrozenBase, belief: blackbox.Belief) -> dict[str, Any]:
    """The black box on the first victim with a small budget, every query of it through ciphertexts."""
    real = RealService(bench.sealed, bench.integers[0], base, bench.form)
    inputs, phi = bench.task.own.images, served(base, bench.form)
    blackbox.extract(real, phi, inputs, belief, bench.options.real_queries, bench.rng)
    return real.cost()


def _by_logits(bench: Bench, base: FrozenBase) -> tuple[Row, Rebuilt]:
    """Twice as many of the adversary's own images as there are unknowns of a class: some features move in few of them."""
    start, phi, form = time.perf_counter(), served(base, bench.form), bench.form
    features = phi(bench.task.own.images[: 2 * (base.features + 1)])
    told = [features @ (w.T / form.weight.scale) + b / form.bias.scale for w, b in _asked(bench)]
    heads = np.stack([logits.solve_logits(features, z) for z in told])
    return _answered(bench, "rhe_logits", "logits", heads, start, len(features))


def _by_shifts(bench: Bench) -> tuple[Row, Rebuilt]:
    start, form, found = time.perf_counter(), bench.form, []
    matrices = [np.hstack([weights, bias[:, None]]) for weights, bias in _asked(bench)]
    classes, width = matrices[0].shape
    limits = np.array([form.weight.limit] * (width - 1) + [form.bias.limit])
    for matrix in matrices:
        found.append(oracle.recover(_winner(matrix), limits, classes))
    exact = all(np.array_equal(f.differences, m - m[0]) for f, m in zip(found, matrices, strict=True))
    steps = np.array([form.weight.scale] * (width - 1) + [form.bias.scale])
    heads, spent = np.stack([f.head(steps) for f in found]), found[0].queries
    more = _extrapolated(_real_shifts(bench, found[0].differences, limits), spent)
    return _answered(bench, "rhe_decision", "oracle", heads, start, spent, exact=exact, **more)


def _winner(matrix: NDArray[np.int64]) -> oracle.Compare:
    return lambda columns, shifts: (matrix.T[columns] + shifts).argmax(1)


def _real_shifts(bench: Bench, differences: NDArray[np.int64], limits: NDArray[np.int64]) -> dict[str, Any]:
    """The hardest of the questions, at a weight's difference and one below, put to real ciphertexts."""
    count = bench.options.real_queries
    columns, rivals = (
        bench.rng.integers(low, high, count) for low, high in ((0, len(limits)), (1, len(differences)))
    )
    at = differences[rivals, columns] - bench.rng.integers(0, 2, count)
    shifts = oracle.shifts_of(rivals, at, 2 * limits[columns], len(differences))
    return cost_of_shifts(bench.sealed, bench.integers[0], columns, shifts)


def _extrapolated(real: dict[str, Any], spent: int) -> dict[str, Any]:
    seconds = (real["server_ms"] + real["authority_ms"]) * spent / 1e3
    return {**real, "extrapolated_seconds": round(seconds, 1)}


def _asked(bench: Bench) -> list[Integers]:
    return bench.integers[: bench.options.asked_victims]


def _answered(
    bench: Bench,
    defence: str,
    attack: str,
    heads: NDArray[np.floating],
    start: float,
    queries: int,
    **more: Any,
) -> tuple[Row, Rebuilt]:
    """A row of an attack that recovered heads (V, k, d + 1), at least up to scale, from answers of the integer head."""
    images: Float = blackbox.rebuild_extracted(bench.shadows, heads)
    row = bench.row(defence, attack, bench.integer_accuracy, time.perf_counter() - start)
    row |= {"queries": queries, "oracle": "integer_head", "victims": len(heads), **more}
    return row, Rebuilt(images, bench.victims.images[: len(heads)])
