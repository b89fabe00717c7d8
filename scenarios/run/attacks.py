"""Attacks on a run, as a user asks for them: run by the adversary, scored here against the truth and the
baselines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from parties.adversary.adversary import Attacked, crashed
from parties.adversary.attack import Prior, Quantity, Reconstruction
from parties.adversary.catalogue import PRESETS, find_target
from parties.data.datasets import Dataset, load
from protocols.language.errors import ConfigError, HostLost
from scenarios.run.folder import PUBLIC, RunFolder
from scenarios.run.json_schema import plain
from scenarios.run.options import Measure
from scenarios.run.result import AttackRow, Gain, Retrained
from scenarios.score.metrics import (
    Truth,
    baseline_guess,
    baseline_projection,
    gain,
    matched,
    nearest_of_class,
    score,
    tells_classes,
    zero_line,
)
from scenarios.score.retrain import HeldOut, retrained
from scenarios.show.pictures import COLUMNS, GUESS, SPRITES, draw_sprite, grid

_LISTED = 100
_SCORING_SEED = 0  # which images SSIM samples; no secret depends on it


class AdversaryHandle(Protocol):
    """An adversary, in this process or in its own."""

    def call(self, verb: str, *args: Any) -> Any: ...
    def close(self) -> None: ...


MakeAdversary = Callable[[Sequence[tuple[str, str]]], AdversaryHandle]
Told = Callable[[str, str, tuple[str, ...]], None]  # of an attack that crashed: its name, why, the calls


def attack_run(
    run: RunFolder,
    names: Sequence[str],
    corrupted: Sequence[str],
    prior: Prior,
    make: MakeAdversary,
    seed: int = 0,
    measure: Measure | None = None,
    told: Told | None = None,
) -> list[dict[str, Any]]:
    """Run attacks on the joint view of the corrupted parties; returns rows for `attacks` in result.json.

    A preset's attack runs on the view of the preset's own coalition. `measure`: what else is measured of
    samples that they rebuild. With `told`, an attack that crashes is a row too, of which it is told the
    calls; without, nothing is caught.
    """
    if not names:
        return []
    test = None if measure is None else held_out(run)  # refused before anything is attacked
    targets = [find_target(name) for name in names]  # an unknown name fails before any process starts
    views = [run.view_sources(coalition or tuple(corrupted)) for _, coalition in targets]
    adversary = make(views[0])
    try:
        attacked = []
        for name, (module, _), sources in zip(names, targets, views, strict=True):
            adversary.call("corrupt", sources)
            called = name if name.endswith(".py") else module.NAME
            attacked.append(_attempt(adversary, sources, called, prior, seed, told is not None))
    finally:
        adversary.close()
    rebuilt = any(a.reconstruction is not None for a in attacked)
    truth = run.truth() if rebuilt and run.scored else None
    rows = []
    for each, name in zip(attacked, names, strict=True):
        row, calls = _row(run, each, prior, truth, test, preset_named(name), told is not None)
        rows.append(row)
        if told is not None and calls:
            told(row["attack"], row["why"], calls)
    return rows


def held_out(run: RunFolder) -> HeldOut:
    """Samples to test networks on: held-out ones that the adversary is not given, where there are as many as
    it is; `ConfigError` without any.
    """
    if run.recorded:
        raise ConfigError("--measure retrain tests on held-out samples, and a recording has none")
    return held_out_of(load(run.spec()[0]))


def held_out_of(data: Dataset) -> HeldOut:
    """Those of a data set; `ConfigError` without any."""
    if data.x_test is None or data.y_test is None:
        raise ConfigError("--measure retrain tests on held-out samples, and this data set has none")
    begin = PUBLIC if len(data.x_test) >= 2 * PUBLIC else 0
    return HeldOut(data.x_test[begin:], data.y_test[begin:])


def _retrained(attacked: Attacked, prior: Prior, truth: Truth, test: HeldOut) -> Retrained | None:
    """What it is worth to train on; None where the attack did not apply."""
    rebuilt = attacked.reconstruction
    return None if rebuilt is None else Retrained(**retrained(rebuilt, truth, prior, attacked.labelled, test))


def _attempt(
    adversary: AdversaryHandle,
    sources: Sequence[tuple[str, str]],
    name: str,
    prior: Prior,
    seed: int,
    caught: bool,
) -> Attacked:
    """What came of an attack; if its process died, that, if it is `caught`."""
    start = time.perf_counter()
    try:
        found: Attacked = adversary.call("attempt" if caught else "attack", name, prior, seed)
        return found
    except HostLost as lost:
        if not caught:
            raise
        seconds = time.perf_counter() - start
        whose = tuple(party for _, party in sources)
        return Attacked(find_target(name)[0].NAME, whose, None, str(lost), seconds, crash=("HostLost",))


class Scorer:
    """Scores attacks against the samples of one run."""

    def __init__(self, run: RunFolder, prior: Prior) -> None:
        self._truth, self._prior = run.truth(), prior

    def metrics(self, rebuilt: Reconstruction) -> dict[str, Any]:
        """The metrics of one reconstruction."""
        return score(rebuilt, self._truth, self._prior, _SCORING_SEED)

    def control(self, attacked: Attacked) -> dict[str, Any]:
        """What an attack on another run scores here, and by how much it beats the prior's guess."""
        rebuilt = attacked.reconstruction
        if rebuilt is None:
            return {"applicable": False, "why": attacked.why, "metrics": {}, "gain": None}
        won = gain(rebuilt, self._truth, self._prior, attacked.labelled)
        return {"applicable": True, "why": "", "metrics": self.metrics(rebuilt), "gain": won}


def _placed(attacked: Attacked, truth: Truth) -> Attacked:
    """The same, with images of classes, and those in no order, as samples."""
    rebuilt = attacked.reconstruction
    return (
        attacked
        if rebuilt is None
        else replace(attacked, reconstruction=matched(nearest_of_class(rebuilt, truth), truth))
    )


def preset_named(name: str) -> str:
    """The preset of this name as result.json writes it; empty for an attack."""
    called = name.replace("-", "_")
    return called if called in PRESETS else ""


def _row(
    run: RunFolder,
    attacked: Attacked,
    prior: Prior,
    truth: Truth | None,
    test: HeldOut | None,
    preset: str,
    caught: bool,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A row, and the calls that led to a crash, of the attack or of scoring what it rebuilt."""
    try:
        worth = None if truth is None or test is None else _retrained(attacked, prior, truth, test)
        placed = attacked if truth is None else _placed(attacked, truth)
        row = _scored(run, placed, prior, truth, preset)
        return row if worth is None else {**row, "retrained": plain(worth)}, attacked.crash
    except Exception as error:  # values of a shape or kind that nothing can score
        if not caught:
            raise
        why, calls = crashed(error)
        lost = replace(attacked, reconstruction=None, why=f"{why}, while it was scored", crash=calls)
        return _scored(run, lost, prior, truth, preset), calls


def _scored(
    run: RunFolder, attacked: Attacked, prior: Prior, truth: Truth | None, preset: str
) -> dict[str, Any]:
    row, rebuilt, figure, sprite = scored(attacked, prior, truth), attacked.reconstruction, None, None
    images = rebuilt is not None and rebuilt.quantity is Quantity.IMAGES and len(rebuilt.index) > 0
    if rebuilt is not None and truth is not None and images:
        guess = guessed(attacked, prior, truth, SPRITES)
        called = preset or attacked.attack
        figure = _picture(run, attacked, rebuilt, truth, called, guess[:COLUMNS])
        rows = (truth.pixels(rebuilt.index[:SPRITES]), guess, rebuilt.values[:SPRITES])
        sprite = draw_sprite(run.path, figure.replace(".png", ".sprite.png"), rows, truth.shape)
    found: dict[str, Any] = plain(replace(row, preset=preset or None, figure=figure, sprite=sprite))
    return found


def scored(attacked: Attacked, prior: Prior, truth: Truth | None) -> AttackRow:
    """A row of an attack without a figure; `truth` may be None where nothing was rebuilt."""
    rebuilt = attacked.reconstruction
    row = AttackRow(
        attack=attacked.attack,
        corrupted=tuple(attacked.corrupted),
        applicable=rebuilt is not None,
        why=attacked.why,
        failed=bool(attacked.crash) or None,
        samples=0 if rebuilt is None else len(rebuilt.index),
        seconds=round(attacked.seconds, 3),
        prior=prior.describe(),
    )
    if rebuilt is None or truth is None:
        return row
    won = gain(rebuilt, truth, prior, attacked.labelled)
    return replace(
        row,
        metrics=score(rebuilt, truth, prior, _SCORING_SEED),
        of=len(truth.images),
        baseline=baselines(rebuilt, truth, prior, attacked.labelled),
        gain=None if won is None else Gain(**{**won, "interval": tuple(won["interval"])}),
        zero_line=_zero_line(rebuilt, prior, attacked.labelled),
        notes={**rebuilt.notes, **_per_image(rebuilt)},
    )


def _per_image(rebuilt: Reconstruction) -> dict[str, Any]:
    """What the attack says of each image, where they are few; null for a failure."""
    if len(rebuilt.index) > _LISTED:
        return {}
    return {
        f"{name}_per_image": [None if v != v else float(v) for v in np.asarray(values, dtype=float)]
        for name, values in rebuilt.per_sample.items()
        if np.asarray(values).dtype.kind in "biuf" and np.asarray(values).ndim == 1
    }


def _zero_line(rebuilt: Reconstruction, prior: Prior, labelled: bool) -> str:
    """What the guess is, in words; empty where it is no image."""
    if rebuilt.quantity not in (Quantity.IMAGES, Quantity.GRAM):
        return ""
    if tells_classes(prior, labelled):
        return "mean of the public samples of its class"
    return "mid-range" if prior.public is None else "mean of the public samples"


def baselines(rebuilt: Reconstruction, truth: Truth, prior: Prior, labelled: bool = False) -> dict[str, Any]:
    """What the same code scores without the secret: the prior's guess, the swapped view, the projection.

    `swapped`: the attack on a view whose samples were exchanged for one another. The attacks treat each
    sample alike, so this is their output scored against the truth of another sample, half the data away.
    """
    away = max(1, len(truth.images) // 2)  # half the data away: neighbours of one owner may be of one class
    swapped = replace(rebuilt, index=(rebuilt.index + away) % len(truth.images))
    found: dict[str, Any] = {
        "guess": baseline_guess(rebuilt, truth, prior, _SCORING_SEED, labelled),
        "swapped": score(swapped, truth, prior, _SCORING_SEED),
    }
    projection = baseline_projection(rebuilt, truth, prior, _SCORING_SEED)
    return found if projection is None else {**found, "projection": projection}


def _of_whom(run: RunFolder, attacked: Attacked) -> str:
    """Part of a file name: empty for the coalition that the run itself names, so that others do not overwrite
    its pictures.
    """
    own = run.view_sources(tuple(run.settings.get("corrupted", ())))
    if [party for _, party in own] == list(attacked.corrupted):
        return ""
    return "--" + "+".join(attacked.corrupted).replace(":", "")


def guessed(attacked: Attacked, prior: Prior, truth: Truth, most: int) -> NDArray[Any]:
    """Images (m, n) that nothing but the prior gives for the first `most` samples of a reconstruction."""
    assert attacked.reconstruction is not None
    return zero_line(attacked.reconstruction.index[:most], truth, prior, attacked.labelled)


def _picture(
    run: RunFolder,
    attacked: Attacked,
    rebuilt: Reconstruction,
    truth: Truth,
    called: str,
    guess: NDArray[Any],
) -> str:
    name = called.replace("_", "-")
    drawn = rebuilt.index[:COLUMNS]
    rows = {GUESS: guess, name: rebuilt.values[:COLUMNS]}
    if rebuilt.projection is not None:
        rows["projection"] = rebuilt.projection[:COLUMNS]
    names = () if run.recorded else run.spec()[0].class_names
    titles = [names[truth.labels[i]] if names else f"label {truth.labels[i]}" for i in drawn]
    whose = ", ".join(attacked.corrupted)
    heading = (
        f"{name}: rebuilt from the view of {whose}, the first {len(drawn)} of {len(rebuilt.index)} samples"
    )
    path = run.path / "figures" / f"{called}{_of_whom(run, attacked)}.png"
    grid(path, truth.pixels(drawn), rows, truth.shape, titles, heading)
    return str(path.relative_to(run.path))
