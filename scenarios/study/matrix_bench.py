"""What every row of the matrix of reverse homomorphic encryption is measured with: options, victims, shadows, ciphertexts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from parties.adversary.heads.shadow import Shadows, train_shadows
from parties.data.datasets import DataSpec, load
from protocols.network.head import Float, Heads, Recipe
from protocols.network.head_integers import HeadFormat
from scenarios.study.encrypted_heads import Integers, Sealed, integer_accuracy, integer_heads, seal
from scenarios.study.public_base import base_of, load_base
from scenarios.study.victims import Task, draw_victims, task_of, task_of_features

Row = dict[str, Any]


@dataclass(frozen=True)
class MatrixOptions:
    """What is measured and how thoroughly. `base`: a user's file. `victims`: as many as the data allow up to that.

    `queries`: budgets of the black box, each a row. `real_queries`: a budget that is spent on one victim through its real ciphertexts.
    """

    spec: DataSpec
    base: Path | None = None
    shots: int = 1
    victims: int = 250
    shadows: int = 10_000
    encrypted_shadows: int = 1000
    asked_victims: int = 24
    queries: tuple[int, ...] = (2_000, 10_000, 50_000)
    real_queries: int = 500
    epsilons: tuple[float, ...] = (160.0, 40.0, 10.0, 2.0)
    recipe: Recipe = field(default_factory=Recipe)
    relax_level: float = 1.0
    key_bits: int = 2048
    toy: bool = False
    net: bool = True
    seed: int = 0
    cache: Path | None = None


@dataclass(frozen=True)
class Rebuilt:
    """Images (V, k, n) that an attack rebuilt and the training images (V, k, shots, n) that they are held against.

    `random`: what the attack makes of Gaussian weights, the paper's null. `control`: what the same attack makes of the same data unprotected.
    """

    images: Float
    truth: Float
    random: Float | None = None
    control: Float | None = None


Rows = Iterator[tuple[Row, Rebuilt | None]]


class Bench:
    """The task, the victims with their unprotected heads, and the adversary's shadows of those."""

    def __init__(self, options: MatrixOptions) -> None:
        self.options, self.task = options, _task(options)
        self.victims = draw_victims(self.task, options.victims, options.shots)
        self.rng = np.random.default_rng((options.seed, 8))
        own = self.task.own.features
        bound = self.task.base.bound() if self.task.base else 2 * float(np.abs(own).max())
        self.form = HeadFormat(feature_bound=float(np.ceil(bound)), signed=bool(own.min() < 0))
        self.heads, self.shadows = self.trained(options.recipe)

    def trained(self, recipe: Recipe) -> tuple[Heads, Shadows]:
        """Heads of the victims and shadows, by one recipe."""
        heads = self.victims.train(recipe, self.task.classes, self.rng)
        return heads, train_shadows(self.task.own, recipe, self.options.shadows, self.options.shots, self.rng)

    @cached_property
    def integers(self) -> list[Integers]:
        """The unprotected heads as they are encrypted."""
        return integer_heads(self.heads, self.form)

    @cached_property
    def integer_accuracy(self) -> float:
        """Of these heads, mean over victims."""
        return integer_accuracy(self.integers, self.task.test_features, self.task.test_labels, self.form)

    @cached_property
    def sealed(self) -> Sealed:
        """All victims' heads and then some of the shadows, really encrypted: about 50 ms a head with 64 features and 2048 bit."""
        shadows = self.shadows.heads.layers[0][: self.options.encrypted_shadows]
        both = Heads((np.concatenate([self.heads.layers[0], shadows]),))
        return seal(both, self.form, self.options.key_bits, self.options.toy, self.options.seed)

    def row(self, defence: str, attack: str, accuracy: float, seconds: float, **more: Any) -> Row:
        """A row without its rates."""
        common = {"defence": defence, "attack": attack, "accuracy": accuracy, "queries": 0}
        return {**common, "seconds": round(seconds, 2), "applicable": True, "why": "", **more}

    def refused(self, defence: str, attack: str, accuracy: float, why: str) -> tuple[Row, None]:
        """A row of an attack that does not apply."""
        nothing = {"tpr_at_fpr_01": None, "tpr_at_fpr_10": None, "auc": None, "interval_01": None, "nulls": 0}
        return {**self.row(defence, attack, accuracy, 0.0), **nothing, "applicable": False, "why": why}, None

    def setting(self) -> dict[str, Any]:
        """What was measured, in plain data."""
        options, recipe = self.options, self.options.recipe
        return {
            "dataset": options.spec.name,
            "base": "trained on the public classes" if options.base is None else str(options.base),
            "classes": self.task.classes,
            "features": self.task.own.features.shape[1],
            "pixels": self.task.own.images.shape[1],
            "shots": options.shots,
            "victims": len(self.victims),
            "shadows": options.shadows,
            "steps": recipe.steps,
            "lr": recipe.lr,
            "key_bits": options.key_bits,
            "chance": 1 / self.task.classes,
            "seed": options.seed,
        }


def _task(options: MatrixOptions) -> Task:
    if options.base is not None and options.base.suffix == ".npz":
        return task_of_features(options.base, options.seed)
    data = load(options.spec)
    base = load_base(options.base, data.shape) if options.base else base_of(data, cache=options.cache)
    return task_of(data, base, options.seed)
