"""What a user asked for of encrypted heads, and what follows: the task, the base, the configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from parties.data.datasets import Dataset, DataSpec, Split, described, features_of, load
from protocols.language.errors import ConfigError
from protocols.language.options import as_in, derived, option
from protocols.network.dp import sigma_for, usual_delta
from protocols.network.head import Protect, Recipe
from protocols.network.head_config import Encoding, HeadConfig, Release
from protocols.network.head_integers import HeadFormat
from protocols.network.public_base import Base, FeatureTable, FrozenBase, fingerprint
from scenarios.run import public_base as bases
from scenarios.run.experiment import Experiment, Scenario, data_spec, experiment_of, run_options
from scenarios.run.options import RunOptions

LACKS = frozenset(["preset", "samples", "split"])  # run options that make no sense for a head
_LR_HIDDEN = 0.5  # with a linear head's learning rate a hidden layer has hardly moved after as many steps
_CONFIG = ("release", "encoding", "key_bits", "toy")


@dataclass(frozen=True)
class HeadTask:
    """The options of an encrypted head: the task, the base and the training."""

    head: str | None = option(None, "Widths of the head, such as 64-5 or 64-16-5.", panel="Head")
    shots: int = option(1, "The owner's samples of every class.", panel="Head", least=1)
    queries: int = as_in(HeadConfig, "queries", 128)
    release: Release = as_in(HeadConfig, "release", HeadConfig.release)
    key_bits: int = as_in(HeadConfig, "key_bits", HeadConfig.key_bits)
    encoding: Encoding = as_in(HeadConfig, "encoding", HeadConfig.encoding)
    base: Path | None = option(
        None, "A base of yours: the state dict of dense layers (.pt), or its features (.npz).", panel="Head"
    )
    lr: float | None = option(None, "Learning rate.", panel="Network")
    weight_bound: float | None = option(None, "Bound on the weights.")
    toy: bool = derived("whether the key protects nothing: in tests only", False)


def prepare_head(scenario: Scenario, asked: dict[str, Any]) -> Experiment:
    """Fill in the defaults, read the data set and the base; `ConfigError` or `DataError` with one line."""
    run = run_options(scenario, asked)
    task = HeadTask(**{name: value for name, value in asked.items() if name in HeadTask.__dataclass_fields__})
    # Whatever the run's seed, the base of a data set is the same: it need not be trained again.
    by_features = task.base is not None and task.base.suffix == ".npz"
    run = _on_file(run, task.base, "dataset" in asked) if task.base is not None and by_features else run
    spec = described(data_spec(run, by_features=by_features))
    whole = load(replace(spec, seed=0))
    base = _known_by_features(spec) if by_features else _base(task.base, whole)
    hidden, classes = _head(task.head, base, whole.classes, by_features)
    spec = replace(spec, task_classes=classes, shots=task.shots, takers=run.owners)
    run = replace(run, split=Split.EVEN if run.owners > 1 else Split.IID)
    data, samples = load(spec), classes * task.shots
    if data.x_test is None:
        raise ConfigError(f"{spec.name}: has no held-out samples, which the querier could ask about")
    config = HeadConfig(
        shape=data.shape, pool=base.pool, x_max=data.x_max, features=base.features, classes=classes,
        counts=(samples,) * run.owners, queries=min(task.queries, len(data.x_test)), base=fingerprint(base),
        form=_format(task, base), recipe=_recipe(task, run.defence, hidden, samples),
        **{name: getattr(task, name) for name in _CONFIG},
    )  # fmt: skip
    return experiment_of(scenario, run, asked, spec, config, base=base)


def _base(path: Path | None, data: Dataset) -> FrozenBase:
    """The base that was asked for, or the project's own for this data set."""
    return bases.base_of(data) if path is None else bases.load_base(path, data.shape)


def _on_file(run: RunOptions, path: Path, given: bool) -> RunOptions:
    """A features file is the data set too: of other images nobody knows features."""
    if given and data_spec(run).name != str(path.resolve()):
        raise ConfigError(f"--base {path}: its features are of the images in it: leave out --dataset")
    return replace(run, dataset=str(path.resolve()), data_dir=None)


def _known_by_features(spec: DataSpec) -> FeatureTable:
    """The base by its features of the held-out images, which anybody may ask about; those of its own images
    an owner has for itself. How large a feature may be is public.
    """
    data, features = load(spec), features_of(spec)
    assert data.x_test is not None
    images = (data.x_test / np.float32(data.x_max)).astype(np.float32)
    return FeatureTable(images, features.of(data.x_test), data.shape, features.most)


def _head(text: str | None, base: Base, classes: int, all_new: bool) -> tuple[tuple[int, ...], int]:
    """Hidden widths and classes of a head such as 64-16-5; by default linear, on classes new to the base:
    with a features file, all.
    """
    if text is None:
        return (), classes if all_new else bases.public_classes(classes)
    try:
        first, *hidden, last = (int(width) for width in text.split("-"))
    except ValueError:
        raise ConfigError(f"--head expects widths such as {base.features}-16-5, got {text!r}") from None
    if first != base.features:
        raise ConfigError(
            f"--head {text}: the base gives {base.features} features, so its first width must be "
            f"{base.features}"
        )
    if not 2 <= last <= classes:
        raise ConfigError(f"--head {text}: the task has the first {last} classes; expected 2 to {classes}")
    return tuple(hidden), last


def _format(task: HeadTask, base: Base) -> HeadFormat:
    """Integers of the head: no feature of any image leaves the bound that follows from the base."""
    form = replace(HeadFormat(), feature_bound=base.bound())
    return form if task.weight_bound is None else replace(form, weight_bound=task.weight_bound)


def _recipe(task: HeadTask, defences: tuple[str, ...], hidden: tuple[int, ...], samples: int) -> Recipe:
    """How the owner trains: the default, and `--defence dp:EPSILON` (delta = N^-1.1) or `relaxloss:LEVEL`."""
    usual = _LR_HIDDEN if hidden else Recipe().lr
    plain = Recipe(hidden=hidden, lr=usual if task.lr is None else task.lr)
    for text in defences:
        name, _, number = text.partition(":")
        try:
            value = float(number)
        except ValueError:
            raise ConfigError(f"--defence expects dp:EPSILON or relaxloss:LEVEL, got {text!r}") from None
        if name == "dp":
            return replace(
                plain, protect=Protect.DP, sigma=sigma_for(value, usual_delta(samples), plain.steps)
            )
        if name == "relaxloss":
            return replace(plain, protect=Protect.RELAXLOSS, level=value)
        raise ConfigError(f"--defence: reverse-he knows dp:EPSILON and relaxloss:LEVEL, got {text!r}")
    return plain
