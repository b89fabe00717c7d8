"""What an adversary sees of many owners' heads under every defence: the relations that views of sessions
give.

Heads are trained, and encrypted, in one batch, by the functions of the protocol; a session with as many
owners gives the same relations, and takes longer. Shadows, on the adversary's own images, are the attacks'
own affair.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import Known, Prior, Relations
from parties.adversary.heads.membership import taken_and_left
from parties.data.datasets import DataSpec, load
from protocols.crypto import paillier
from protocols.crypto.coins import Coins, derive
from protocols.language.head_relations import (
    HeadExponents,
    HeadLogits,
    HeadService,
    HeadTask,
    HeadWeights,
    SealedHeads,
)
from protocols.language.relations import Relation, Without
from protocols.network.dp import sigma_for, usual_delta
from protocols.network.head import Float, Heads, Protect, Recipe, train_heads
from protocols.network.head_integers import HeadFormat, integer_logits, quantise_features, quantise_head
from scenarios.run.public_base import base_of, load_base
from scenarios.score.epsilon import audited_epsilon, most
from scenarios.study.head_service import Integers, RealService, matrix_of, served, service
from scenarios.study.head_victims import NO_FEATURES, Samples, Task, draw_victims, task_of, task_of_features

_NOTHING = "--release none: nothing goes back to who asks, so that there is nothing to attack"


@dataclass(frozen=True)
class MatrixOptions:
    """What is measured and how thoroughly. `base`: a user's file. `victims`: as many as the data allow up to
    that.

    `queries`: budgets of the black box, each a row. `real_queries`: a budget that is spent on one victim
    through its real ciphertexts.
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
class Defence:
    """How heads are trained: the name of the row, the recipe, and what the row says of it."""

    name: str
    recipe: Recipe
    said: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What an adversary sees of heads, and the accuracy of these."""

    relations: Relations
    accuracy: float


class HeadViews:
    """The victims of the matrix and what is seen of them; all of it made when it is asked for first."""

    def __init__(self, options: MatrixOptions) -> None:
        self.options = options
        self._trained: dict[str, tuple[HeadTask, Heads]] = {}
        self._audited: dict[str, dict[str, Any]] = {}

    @cached_property
    def task(self) -> Task:
        """The task."""
        options = self.options
        if options.base is not None and options.base.suffix == ".npz":
            return task_of_features(options.base, options.seed)
        data = load(options.spec)
        base = load_base(options.base, data.shape) if options.base else base_of(data, cache=options.cache)
        return task_of(data, base, options.seed)

    @cached_property
    def victims(self) -> Samples:
        """Their samples (V, k shots, ...), class by class."""
        return draw_victims(self.task, self.options.victims, self.options.shots)

    @property
    def truth(self) -> Float:
        """Their images (V, k, shots, n)."""
        images, shots = self.victims.images, self.options.shots
        return images.reshape(len(images), -1, shots, images.shape[2])

    @cached_property
    def prior(self) -> Prior:
        """The adversary's own images, and how many shadows it trains and encrypts."""
        own, options = self.task.own, self.options
        return Prior(1, self.task.shape, own.images.astype(np.float64), public_labels=own.labels,
                     shadows=options.shadows, sealed=options.encrypted_shadows)  # fmt: skip

    def knowing_all_but(self, at: int) -> Prior:
        """The same with all samples of every victim but one."""
        samples = self.victims.labels.shape[1]
        positions = np.arange(self.victims.labels.size)
        index = positions[positions % samples != at]
        images, labels = self.victims.images.reshape(len(positions), -1), self.victims.labels.ravel()
        return replace(self.prior, known=Known(index, images[index], labels[index]))

    @cached_property
    def form(self) -> HeadFormat:
        """Integers of the heads."""
        own, base = self.task.own.features, self.task.base
        bound = base.bound() if base else 2 * float(np.abs(own).max())
        return HeadFormat(feature_bound=float(np.ceil(bound)), signed=bool(own.min() < 0))

    def trained(self, defence: Defence) -> tuple[HeadTask, Heads]:
        """The heads of all victims under a defence. The noise of dp is not of coins: it protects nobody."""
        if defence.name not in self._trained:
            victims, options = self.victims, self.options
            rng = np.random.default_rng((options.seed, *defence.name.encode()))
            task = HeadTask(
                len(victims.labels), self.task.classes, options.shots, defence.recipe, self.task.features
            )
            self._trained[defence.name] = (
                task, train_heads(victims.features, victims.labels, task.classes, defence.recipe, rng)
            )  # fmt: skip
        return self._trained[defence.name]

    def clear(self, defence: Defence) -> Seen:
        """The heads in the clear."""
        task, heads = self.trained(defence)
        return self._seen(
            task, [HeadWeights(np.arange(len(heads)), lambda: heads.layers)], self.task.accuracy(heads)
        )

    def audited(self, defence: Defence) -> dict[str, Any]:
        """For a row of dp: its epsilon from below, from as many runs with a sample and without it as there
        are shadows.
        """
        if defence.name not in self._audited:
            victims, delta, runs = self.victims, defence.said["delta"], self.options.shadows
            rng = np.random.default_rng((self.options.seed, 9, *defence.name.encode()))
            found = taken_and_left(
                victims.features, victims.labels, self.task.classes, defence.recipe, runs, rng
            )
            self._audited[defence.name] = {
                "audited_epsilon": round(audited_epsilon(*found, delta), 3),
                "audited_most": round(most(runs, delta), 3), "audited_runs": runs,
            }  # fmt: skip
        return self._audited[defence.name]

    def defences(self) -> Iterator[Defence]:
        """Those of the training: none, RelaxLoss, DP-SGD."""
        plain, level = self.options.recipe, self.options.relax_level
        yield Defence("none", plain)
        yield Defence("relaxloss", replace(plain, protect=Protect.RELAXLOSS, level=level), {"level": level})
        for epsilon in self.options.epsilons:
            delta = usual_delta(self.task.classes * self.options.shots)
            sigma = sigma_for(epsilon, delta, plain.steps)
            said = {
                "epsilon": epsilon,
                "delta": round(delta, 4),
                "sigma": round(sigma, 3),
                "clip": plain.clip,
            }
            yield Defence(f"dp {epsilon:g}", replace(plain, protect=Protect.DP, sigma=sigma), said)

    @property
    def unprotected(self) -> tuple[HeadTask, Heads]:
        """The heads that are encrypted."""
        return self.trained(Defence("none", self.options.recipe))

    @cached_property
    def integers(self) -> list[Integers]:
        """These heads as they are encrypted."""
        return self._integers(self.unprotected[1].layers[0])

    @cached_property
    def integer_accuracy(self) -> float:
        """Of these, mean over victims."""
        test = self.task.test
        inputs = quantise_features(test.features, self.form)
        found = [(integer_logits(*head, inputs).argmax(1) == test.labels).mean() for head in self.integers]
        return float(np.mean(found))

    @cached_property
    def keys(self) -> tuple[Any, Any]:
        """(pk, sk) of the authority."""
        bounds = self.form.head_bounds(self.task.classes, self.unprotected[1].layers[0].shape[2] - 1)
        params = paillier.parameters(bounds, self.options.key_bits, self.options.toy)
        return paillier.setup(params, self._coins("keys"))

    @cached_property
    def sealed(self) -> tuple[NDArray[np.uint8], float]:
        """The bytes (V, p) of all ciphertexts of each head, and the seconds that encrypting them took."""
        pk, _ = self.keys
        paillier.blinding(pk, 0, self._coins("none").stream("none"))  # the table of h_n
        start = time.perf_counter()
        return self._seal(self.integers, self._coins("owners")), time.perf_counter() - start

    def ciphertexts(self) -> Seen:
        """What a server sees that is told nothing: every head really encrypted."""
        seal = lambda layers, key: self._seal(self._integers(layers[0]), Coins(key))  # noqa: E731
        return self._encrypted(self._sealed_heads(self.sealed[0], seal))

    def integers_seen(self) -> Seen:
        """The same with the bytes of the integers instead of their ciphertexts: the control."""
        seal = lambda layers, key: plain_bytes(self._integers(layers[0]))  # noqa: E731
        return self._encrypted(self._sealed_heads(plain_bytes(self.integers), seal))

    def nothing(self) -> Seen:
        """A server that is told nothing: integers have all one exponent, and no answer goes back."""
        none = lambda layers: np.zeros(layers[0].shape, np.int64)  # noqa: E731
        return self._encrypted(
            self._exponents(none), Without(HeadService, _NOTHING), Without(HeadLogits, _NOTHING)
        )

    def floats(self) -> Seen:
        """phe's floats: their exponents are in the clear."""
        task, heads = self.unprotected
        found = self._exponents(lambda layers: paillier.float_exponents(layers[0]))
        return self._seen(task, [found], self.task.accuracy(heads))

    def answering(self, budget: int) -> Seen:
        """A service that feeds decisions back."""
        return self._encrypted(self.service(budget))

    def service(self, budget: int) -> HeadService:
        """Decisions by the integer heads of the first victims."""
        base, form = self.task.base, self.form
        phi = None if base is None else served(base, form)
        width = matrix_of(self.integers[0]).shape[1] - 1
        return HeadService(
            np.arange(self.options.asked_victims), budget, features=phi,
            decide=None if phi is None else lambda v, x: service(phi, self.integers[v], form)(x),
            compare=lambda v, columns, shifts: (matrix_of(self.integers[v]).T[columns] + shifts).argmax(1),
            limits=np.append(np.full(width, form.weight.limit), form.bias.limit),
            steps=np.append(np.full(width, form.weight.scale), form.bias.scale),
        )  # fmt: skip

    def logits(self) -> Seen:
        """Logits of the first victims' heads that are fed back, of twice as many images as unknowns."""
        base, form = self.task.base, self.form
        if base is None:
            return self._encrypted(Without(HeadLogits, NO_FEATURES))
        features = served(base, form)(self.task.own.images[: 2 * (base.features + 1)])
        asked = self.integers[: self.options.asked_victims]
        told = np.stack([features @ (w.T / form.weight.scale) + b / form.bias.scale for w, b in asked])
        return self._encrypted(
            HeadLogits(np.arange(len(asked)), "logits", len(features), told.shape[2], told, features)
        )

    @cached_property
    def real(self) -> RealService:
        """The first victim's head behind real ciphertexts, for all rows that ask decisions about inputs."""
        return self.fresh_service()

    def fresh_service(self) -> RealService:
        """The same, of which nothing was asked yet."""
        (pk, sk), head = self.keys, self.integers[0]
        return RealService(
            pk, sk, paillier.encrypt(pk, *head, self._coins("first")), head, self.task.base, self.form
        )

    def _encrypted(self, *relations: Relation) -> Seen:
        return self._seen(self.unprotected[0], relations, self.integer_accuracy)

    def _seen(self, task: HeadTask, relations: Sequence[Relation], accuracy: float) -> Seen:
        return Seen(Relations(lambda: [task, *relations], ("server",)), accuracy)

    def _exponents(self, of: Callable[[tuple[Float, ...]], NDArray[Any]]) -> HeadExponents:
        layers = self.unprotected[1].layers
        return HeadExponents(np.arange(len(layers[0])), layers[0][0].size, of(layers), of)

    def _seal(self, heads: list[Integers], coins: Coins) -> NDArray[np.uint8]:
        pk, _ = self.keys
        return np.stack([paillier.encrypt(pk, *head, coins).elements.reshape(-1) for head in heads])

    def _sealed_heads(self, elements: NDArray[np.uint8], seal: Any) -> SealedHeads:
        return SealedHeads(np.arange(len(elements)), elements.shape[1], elements, seal)

    def _integers(self, layer: Float) -> list[Integers]:
        return [quantise_head(head[:, :-1], head[:, -1], self.form) for head in layer]

    def _coins(self, purpose: str) -> Coins:
        return Coins(derive(self.options.seed.to_bytes(32, "big"), "matrix", purpose))


def plain_bytes(heads: list[Integers]) -> NDArray[np.uint8]:
    """The bytes of heads' integers, offset so that they are positive, (V, p)."""
    joined = np.stack([matrix_of(head) for head in heads]) + (1 << 31)
    return joined.astype(">u4").view(np.uint8).reshape(len(heads), -1)
