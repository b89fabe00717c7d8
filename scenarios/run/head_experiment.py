"""What a user asked for of an encrypted head, and what follows from it: the task, the public base, the run's configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from parties.data.datasets import Dataset, DataSpec, Split, load
from parties.record.transcript import Record
from protocols import reverse_he
from protocols.language.errors import ConfigError
from protocols.network.dp import sigma_for, usual_delta
from protocols.network.head import Protect, Recipe
from protocols.network.head_config import HeadConfig
from protocols.network.head_integers import HeadFormat
from protocols.network.public_base import FrozenBase
from scenarios.run.experiment import (
    Experiment,
    Options,
    Scenario,
    check_known_parties,
    check_needless,
    data_seed,
    run_key,
)
from scenarios.study import public_base as bases

# The options that an encrypted head has of those that training has.
COMMON = frozenset(
    ["dataset", "data_dir", "gray", "runtime", "address", "seed", "record", "out", "corrupt", "attack", "period", "threshold", "known"]
)  # fmt: skip
OPTIONS = frozenset(
    [
        "shots",
        "release",
        "key_bits",
        "encoding",
        "head",
        "queries",
        "base",
        "toy",
        "lr",
        "defence",
        "weight_bound",
    ]
)
_DEFAULTS: dict[str, Any] = {
    "dataset": "digits", "runtime": "ray", "record": Record.FULL, "corrupt": ("server",), "period": 4, "threshold": 25,
    "known": 0, "shots": 1, "queries": 128,
}  # fmt: skip
_LR_HIDDEN = 0.5  # with a linear head's learning rate a hidden layer has hardly moved after as many steps
_SWITCHES = ("release", "encoding", "key_bits", "toy")


def prepare_head(scenario: Scenario, options: Options) -> Experiment:
    """Fill in the defaults, read the data set and the base; raises `ConfigError` or `DataError` with one line."""
    check_needless(scenario, options)
    given = {**_DEFAULTS, **scenario.defaults, **options.given()}
    folder = None if given.get("data_dir") is None else str(given["data_dir"])
    spec = DataSpec(given["dataset"], folder, bool(given.get("gray", False)), seed=data_seed(given))
    # Whatever the run's seed, the base of a data set is the same: it is public, and need not be trained again.
    whole = load(replace(spec, seed=0))
    base = _base(given.get("base"), whole)
    hidden, classes = _head(given.get("head"), base, whole.classes)
    spec = replace(spec, task_classes=classes, shots=given["shots"])
    data = load(spec)
    if data.x_test is None:
        raise ConfigError(f"{spec.name}: has no held-out images, which the querier could ask about")
    config = HeadConfig(
        shape=data.shape, pool=base.pool, x_max=data.x_max, features=base.features, classes=classes,
        counts=(len(data.x_train),), queries=min(given["queries"], len(data.x_test)), base=reverse_he.fingerprint(base),
        form=_format(given, base), recipe=_recipe(given, hidden, len(data.x_train)),
        **{name: given[name] for name in _SWITCHES if name in given},
    )  # fmt: skip
    check_known_parties(scenario, given["corrupt"], config)
    return Experiment(
        scenario=scenario, spec=spec, how=Split.IID, config=config, runtime=given["runtime"], address=given.get("address"),
        seed=given.get("seed"), run_key=run_key(given), record=given["record"], record_given=options.record is not None,
        out=given.get("out"), attacks=tuple(given.get("attack", ())), corrupted=tuple(given["corrupt"]),
        period=given["period"], threshold=given["threshold"], known=given["known"], base=base,
    )  # fmt: skip


def _base(path: Path | None, data: Dataset) -> FrozenBase:
    """The base that was asked for, or the project's own for this data set."""
    if path is None:
        return bases.base_of(data)
    if path.suffix == ".npz":
        raise ConfigError(
            f"--base {path}: features alone are for attacks on heads; the server has to compute them of what it is asked: give a .pt"
        )
    return bases.load_base(path, data.shape)


def _head(text: str | None, base: FrozenBase, classes: int) -> tuple[tuple[int, ...], int]:
    """Hidden widths and classes of a head such as 64-16-5; by default linear, on the classes that the base has not seen."""
    if text is None:
        return (), bases.public_classes(classes)
    try:
        first, *hidden, last = (int(width) for width in text.split("-"))
    except ValueError:
        raise ConfigError(f"--head expects widths such as {base.features}-16-5, got {text!r}") from None
    if first != base.features:
        raise ConfigError(
            f"--head {text}: the base gives {base.features} features, so its first width must be {base.features}"
        )
    if not 2 <= last <= classes:
        raise ConfigError(f"--head {text}: the task has the first {last} classes; expected 2 to {classes}")
    return tuple(hidden), last


def _format(given: dict[str, Any], base: FrozenBase) -> HeadFormat:
    """Integers of the head: no feature of any image leaves the bound that follows from the base."""
    form = replace(HeadFormat(), feature_bound=base.bound())
    return replace(form, weight_bound=given["weight_bound"]) if "weight_bound" in given else form


def _recipe(given: dict[str, Any], hidden: tuple[int, ...], samples: int) -> Recipe:
    """How the owner trains: the default, and `--defence dp:EPSILON` (delta = N^-1.1) or `relaxloss:LEVEL`."""
    plain = Recipe(hidden=hidden, lr=given.get("lr", _LR_HIDDEN if hidden else Recipe().lr))
    for text in given.get("defence", ()):
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
