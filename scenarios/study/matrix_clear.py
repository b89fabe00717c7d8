"""Rows of the matrix for heads in the clear: unprotected, RelaxLoss, DP-SGD."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from parties.adversary.attack import NotApplicable
from parties.adversary.heads import informed, whitebox, whitebox_net
from parties.adversary.heads.shadow import Shadows, rows_of
from protocols.network.dp import sigma_for, usual_delta
from protocols.network.head import Float, Heads, Protect, Recipe
from scenarios.study.matrix_bench import Bench, MatrixOptions, Rebuilt, Row, Rows
from scenarios.study.victims import mean_accuracy

_NET_SHADOWS = 4000
_RANDOM = 1000  # heads of Gaussian weights


def clear_rows(bench: Bench) -> Rows:
    """`whitebox` and `informed` for each defence; `whitebox_net` for unprotected heads only, because it takes longest."""
    for defence, recipe, more in _recipes(bench.options, bench.victims.labels.shape[1]):
        start = time.perf_counter()
        heads, shadows = (bench.heads, bench.shadows) if defence == "none" else bench.trained(recipe)
        accuracy = mean_accuracy(bench.task, heads)
        images, random = whitebox.rebuild_heads(shadows, heads), _of_random_weights(shadows, bench.rng)
        row = bench.row(defence, "whitebox", accuracy, time.perf_counter() - start, **more)
        yield row, Rebuilt(images, bench.victims.images, random)
        if defence == "none" and bench.options.net:
            yield _by_net(bench, accuracy)
        yield _by_informed(bench, defence, heads, recipe, accuracy, more)


def _recipes(options: MatrixOptions, samples: int) -> Iterator[tuple[str, Recipe, Row]]:
    """Name, recipe and further keys of each defence in training."""
    plain, level = options.recipe, options.relax_level
    yield "none", plain, {}
    yield "relaxloss", replace(plain, protect=Protect.RELAXLOSS, level=level), {"level": level}
    for epsilon in options.epsilons:
        delta = usual_delta(samples)
        sigma = sigma_for(epsilon, delta, plain.steps)
        more = {"epsilon": epsilon, "delta": round(delta, 4), "sigma": round(sigma, 3), "clip": plain.clip}
        yield "dp", replace(plain, protect=Protect.DP, sigma=sigma), more


def _of_random_weights(shadows: Shadows, rng: np.random.Generator) -> Float:
    """What the white box makes of Gaussian weights, each with the mean and deviation that it has over the shadows."""
    rows = rows_of(shadows.heads)
    drawn = rows.mean(0) + rows.std(0) * rng.standard_normal((_RANDOM, *rows.shape[1:]), dtype=np.float32)
    return whitebox.rebuild(rows, shadows.images, drawn)


def _by_net(bench: Bench, accuracy: float) -> tuple[Row, Rebuilt]:
    start, shadows = time.perf_counter(), bench.shadows
    fewer = Shadows(
        Heads(tuple(layer[:_NET_SHADOWS] for layer in shadows.heads.layers)), shadows.images[:_NET_SHADOWS]
    )
    images = whitebox_net.rebuild_by_net(fewer, bench.heads, bench.task.shape, bench.rng)
    row = bench.row("none", "whitebox_net", accuracy, time.perf_counter() - start, shadows=len(fewer.images))
    return row, Rebuilt(images, bench.victims.images)


def _by_informed(
    bench: Bench, defence: str, heads: Heads, recipe: Recipe, accuracy: float, more: Row
) -> tuple[Row, Rebuilt | None]:
    """The first image of every class, each by an adversary that knows all others."""
    start, victims, shots, found = time.perf_counter(), bench.victims, bench.options.shots, []
    try:
        for at in range(0, bench.task.classes * shots, shots):
            known = victims.features.copy()
            known[:, at] = np.nan  # what it is asked for is not there to be read
            found.append(informed.rebuild_informed(bench.task.own, heads, known, victims.labels, recipe, at))
    except NotApplicable as why:
        return bench.refused(defence, "informed", accuracy, str(why))
    row = bench.row(defence, "informed", accuracy, time.perf_counter() - start, **more)
    return row, Rebuilt(np.stack(found, axis=1), victims.images[:, :, :1])
