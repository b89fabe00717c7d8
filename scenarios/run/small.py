"""The small instance that an audit differentiates: random samples, and the configuration that follows from
the options of the protocol.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from parties.audit.instance import Given, Instance
from parties.runtime.host import inputs_of
from protocols.language.options import Declared, option, options_of
from protocols.language.roles import index_of
from protocols.network.config import Activation, Aggregation
from protocols.network.head import Protect
from scenarios.run.experiment import Experiment, Scenario, prepare
from scenarios.run.folder import RunFolder
from scenarios.run.hosts import host_specs
from scenarios.run.options import RUN_OPTIONS, RuntimeName, given_only

_PANEL = "Instance"
_OF_RUNS = ("owners", "split", "seed", "defence", "json")  # the options of runs that an audit has too
_SMALL = {"layers": (6,), "batch": 3, "epochs": 4, "lr": 0.5, "activation": Activation.SIGMOID}
_HEADS = {"classes": 5, "queries": 12}  # a base knows some of them; enough queries to solve for a head
_HELD_OUT = 30
_PIXEL = 255
_SIZES = frozenset(
    "layers batch epochs lr activation rounds per_round local_steps first shape key_budget "
    "gradient_budget augment target dropped".split()
)
_MOST_OWNERS = 3
_CONVOLVED = 4  # rows and columns of an image for a convolution


@dataclass(frozen=True)
class AuditOptions:
    """The size of the instance, and what is to be done with it."""

    samples: int = option(6, "Training samples of all owners.", panel=_PANEL, least=1, most=64)
    features: int = option(8, "Pixels of a sample.", panel=_PANEL, least=1, most=256)
    classes: int | None = option(None, "Classes: 3; 5 for heads.", panel=_PANEL, least=2, most=10)
    rebuild: int = option(
        0, "Look for what is not known by Gauss-Newton, from so many random starts.", panel="Audit", least=0
    )
    influence: bool = option(
        False, "Run with one secret replaced, and say which messages change, and in what.", panel="Audit"
    )
    out: Path | None = option(None, "Write a picture here, a panel for each view (.png).", panel="Audit")


def audit_options(scenario: Scenario) -> dict[str, Declared]:
    """What may be asked for: the protocol's own options, and those of the instance."""
    own = {
        name: each for name, each in scenario.options().items() if name not in RUN_OPTIONS or name in _OF_RUNS
    }
    return {**own, **options_of(AuditOptions)}


def sizes_of(scenario: Scenario, given: Mapping[str, Any]) -> AuditOptions:
    """The size that was asked for."""
    named = {each.name: given[each.name] for each in fields(AuditOptions) if given.get(each.name) is not None}
    classes = _HEADS["classes"] if scenario.task is not None else 3
    return AuditOptions(**{"classes": classes, **named})


def small_experiment(
    scenario: Scenario, given: Mapping[str, Any], folder: Path, replaced: str = ""
) -> Experiment:
    """The experiment on random samples in `folder`, one of which may be replaced: its `images` or its
    `labels`.

    `ConfigError` with one line where what was asked for makes no sense.
    """
    sizes, known = sizes_of(scenario, given), scenario.options(derived=True)
    asked = {name: value for name, value in given_only(given).items() if name in known}
    instead = {"layers": ("layers", "hidden"), "epochs": ("epochs", "rounds")}
    filled = {name: value for name, value in {**_SMALL, **_HEADS}.items()
              if name in known and not set(instead.get(name, (name,))) & set(asked)}  # fmt: skip
    file = folder / f"instance-{replaced}.npz"
    _write(file, sizes, asked.get("owners", 1), replaced)
    filled |= {"dataset": str(file), "runtime": RuntimeName.INLINE, "seed": 0, **asked}
    if scenario.task is None:
        filled["samples"] = sizes.samples
    elif "base" not in asked:
        filled["base"] = _base(folder, sizes.features)
    return prepare(scenario, filled)


def small_of(scenario: Scenario, config: Any) -> dict[str, Any]:
    """The options of a small instance with the switches of a configuration: who does what as there, sizes as
    here.
    """
    if scenario.task is not None:
        return _small_head(config)
    declared, switches = scenario.options(derived=True), vars(config)
    given = {name: switches[each.field] for name, each in declared.items() if name not in RUN_OPTIONS
             and each.field not in _SIZES and switches[each.field] != each.default}  # fmt: skip
    owners = min(len(config.counts), _MOST_OWNERS)
    secure = switches.get("aggregation") is Aggregation.SECURE  # every entry of a pad is an unknown
    given |= {"owners": owners, "samples": 2 * max(2, owners), "features": 6}
    sizes = {
        "batch": 2, "layers": (4,) * len(switches.get("layers", ())), "activation": Activation.SIGMOID,
        "rounds" if switches.get("rounds") else "epochs": 3 if secure else 4,
        "per_round": min(switches.get("per_round", 0), max(1, owners - 1)),
        "local_steps": min(switches.get("local_steps", 1), 2),
        "key_budget": 5 if switches.get("key_budget") else 0,
        "gradient_budget": 1 if switches.get("gradient_budget") else 0,
        "augment": min(switches.get("augment", 0), 1),
        "target": min(switches.get("target", -1), 1),
    }  # fmt: skip
    given |= {name: value for name, value in sizes.items()
              if name in declared and value != declared[name].default}  # fmt: skip
    if switches.get("first"):
        given |= {"features": _CONVOLVED**2, "first": "conv:2x3x3"}
    return given


def _small_head(config: Any) -> dict[str, Any]:
    hidden = "".join(f"-{6}" for _ in config.recipe.hidden)
    given = {"release": config.release, "encoding": config.encoding, "head": f"8{hidden}-2", "key_bits": 2048,
             "owners": min(len(config.counts), _MOST_OWNERS)}  # fmt: skip
    protect = config.recipe.protect
    if protect is Protect.DP:
        given["defence"] = ("dp:10",)
    elif protect is Protect.RELAXLOSS:
        given["defence"] = (f"relaxloss:{config.recipe.level}",)
    return given


def small_instance(experiment: Experiment) -> Instance:
    """The same as a function of all that its parties put in and draw."""
    specs = host_specs(experiment, RunFolder(Path()))
    given: dict[str, Given] = {}
    for spec in specs:
        inputs = inputs_of(spec)
        given |= {name: Given(key, inputs(index_of(name)))
                  for name, key in zip(spec.parties, spec.keys, strict=True)}  # fmt: skip
    public = next((dict(spec.public) for spec in specs if spec.public), {})
    counts = experiment.counts
    config = experiment.config
    return Instance(experiment.protocol, config, counts, given, public, config.classes, float(config.x_max))


def _write(file: Path, sizes: AuditOptions, owners: int, replaced: str) -> None:
    """Random images, every class among them, and as many held-out ones as anybody asks about."""
    assert sizes.classes is not None
    rng, count = np.random.default_rng(0), max(sizes.samples, sizes.classes * owners)
    rows = next(r for r in range(math.isqrt(sizes.features), 0, -1) if sizes.features % r == 0)
    shape = rows, sizes.features // rows
    images = rng.integers(0, _PIXEL + 1, (count, *shape)).astype(np.uint8)
    labels, others = np.arange(count) % sizes.classes, np.arange(_HELD_OUT) % sizes.classes
    images[0].flat[0] = _PIXEL
    arrays: dict[str, NDArray[Any]] = {"images": images, "labels": labels}
    arrays["test_images"] = rng.integers(0, _PIXEL + 1, (len(others), *shape)).astype(np.uint8)
    if replaced:
        arrays[replaced] = _other(arrays[replaced], sizes.classes)
    arrays["test_labels"] = others
    np.savez(file, allow_pickle=False, **arrays)


def _other(array: NDArray[Any], classes: int) -> NDArray[Any]:
    """The same with its last row replaced: an image by a darker one, a label by another."""
    other = array.copy()
    other[-1] = array[-1] // 2 if array.ndim > 1 else (array[-1] + 1) % classes
    return other


def _base(folder: Path, features: int) -> Path:
    """A public base of one layer that nobody trained."""
    path, generator = folder / "base.pt", torch.Generator().manual_seed(0)
    weight = torch.rand((features, features), generator=generator) / features**0.5
    torch.save({"0.weight": weight, "0.bias": torch.zeros(features)}, path)
    return path
