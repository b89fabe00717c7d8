"""What a user asked for, and what follows from it: options, their defaults, and the run's configuration."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from parties.adversary.behaviours import find_behaviour
from parties.adversary.catalogue import find_target
from parties.data.datasets import Dataset, DataSpec, Split, load, split
from parties.record.transcript import Record
from protocols.crypto.coins import derive
from protocols.language.errors import ConfigError, SchemeError
from protocols.language.roles import Role, party_name
from protocols.network.config import (
    Activation,
    Authority,
    Config,
    Gradient,
    Init,
    Labels,
    Loss,
    Optimizer,
    Pixels,
    Scheme,
    rounds_per_epoch,
    steps_per_epoch,
)
from protocols.network.head_config import Encoding, Release
from protocols.network.public_base import FrozenBase
from protocols.parts import defences as defence

FULL_LIMIT_NBYTES = 2_000_000_000

# Options that every scenario has; a scenario adds its own.
COMMON = frozenset(
    [
        "preset",
        "dataset",
        "data_dir",
        "gray",
        "samples",
        "runtime",
        "address",
        "owners",
        "split",
        "seed",
        "record",
        "out",
        "layers",
        "hidden",
        "activation",
        "loss",
        "batch",
        "epochs",
        "lr",
        "momentum",
        "optimizer",
        "pixels",
        "corrupt",
        "attack",
        "period",
        "threshold",
        "known",
    ]
)


class Preset(Enum):
    """A published experiment, by whose options ours can be put beside it."""

    PAPER = "paper"


# A. Ionita, A. Ionita, RAID 2025. Its code divides summed gradients by 10 or 10 B, where here the mean over the batch is taken; with
# the published learning rate the two do not train alike.
PRESETS: MappingProxyType[Preset, MappingProxyType[str, Any]] = MappingProxyType({
    Preset.PAPER: MappingProxyType({
        "dataset": "mnist", "hidden": 300, "activation": Activation.SIGMOID, "loss": Loss.BCE, "lr": 0.005, "momentum": 0.0,
        "batch": 250, "pixels": Pixels.RAW, "epochs": 16,
    }),
})  # fmt: skip
PUBLISHED: MappingProxyType[Preset, MappingProxyType[str, Any]] = MappingProxyType({
    Preset.PAPER: MappingProxyType({
        "accuracy": 0.968, "minutes": 7, "what": "MITIG2 on MNIST", "source": "Ionita and Ionita, RAID 2025, arXiv:2509.21497",
    }),
})  # fmt: skip


@dataclass(frozen=True)
class Options:
    """The options of a run as given; None means that the default applies."""

    preset: Preset | None = None
    dataset: str | None = None
    data_dir: Path | None = None
    gray: bool | None = None
    samples: int | None = None
    runtime: str | None = None
    address: str | None = None
    owners: int | None = None
    split: Split | None = None
    seed: int | None = None
    record: Record | None = None
    out: Path | None = None
    layers: str | None = None
    hidden: int | None = None
    activation: Activation | None = None
    loss: Loss | None = None
    batch: int | None = None
    epochs: int | None = None
    lr: float | None = None
    momentum: float | None = None
    optimizer: Optimizer | None = None
    pixels: Pixels | None = None
    init: Init | None = None
    authority: Authority | None = None
    per_round: int | None = None
    local_steps: int | None = None
    rounds: int | None = None
    scheme: Scheme | None = None
    group: str | None = None
    weight_scale: int | None = None
    weight_bound: float | None = None
    labels: Labels | None = None
    gradient: Gradient | None = None
    malicious: str | None = None
    first: str | None = None
    defence: tuple[str, ...] | None = None
    corrupt: tuple[str, ...] | None = None
    attack: tuple[str, ...] | None = None
    period: int | None = None
    threshold: int | None = None
    known: int | None = None
    shots: int | None = None
    release: Release | None = None
    key_bits: int | None = None
    encoding: Encoding | None = None
    head: str | None = None
    queries: int | None = None
    base: Path | None = None
    toy: bool | None = None  # keys that protect nothing: for tests, and no option of the command line

    def given(self) -> dict[str, Any]:
        """The options that were given."""
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: value for name, value in pairs if value not in (None, ())}


@dataclass(frozen=True)
class Scenario:
    """A named experiment: a protocol, the options it understands beyond the common ones, and its own defaults.

    One that does not train brings what fills in its options, `prepare`, and the module that scores it (`scored`, `baseline`).
    """

    name: str
    protocol: ModuleType
    options: frozenset[str] = frozenset()
    defaults: dict[str, Any] = field(default_factory=dict)
    digits: dict[str, Any] = field(default_factory=dict)  # defaults on the smallest data set
    common: frozenset[str] = COMMON
    prepare: Callable[[Scenario, Options], Experiment] | None = None
    scoring: ModuleType | None = None

    def check(self, options: Options) -> None:
        """Raise `ConfigError` for options that this scenario does not have."""
        for name in options.given():
            if name not in self.common | self.options:
                raise ConfigError(f"--{name.replace('_', '-')} is no option of {self.name.replace('_', '-')}")


@dataclass(frozen=True)
class Experiment:
    """Everything that a run is made of, with nothing left to default."""

    scenario: Scenario
    spec: DataSpec
    how: Split
    config: Any  # of the protocol's own class: a Config, or a HeadConfig of reverse_he
    runtime: str
    address: str | None
    seed: int | None
    run_key: bytes = field(repr=False)
    record: Record
    record_given: bool
    out: Path | None
    attacks: tuple[str, ...]
    corrupted: tuple[str, ...]
    period: int
    threshold: int
    known: int = 0
    preset: Preset | None = None
    malicious: str | None = None  # the name of a behaviour
    base: FrozenBase | None = field(default=None, repr=False)

    @property
    def data(self) -> Dataset:
        """The data set (read once in a process)."""
        return load(self.spec)

    @property
    def behaviour(self) -> ModuleType | None:
        """What a party does instead of its own steps, if one is malicious."""
        return None if self.malicious is None else find_behaviour(self.malicious)

    @property
    def owners(self) -> int:
        """How many data owners take part."""
        return len(self.config.counts)

    @property
    def roles(self) -> tuple[Role, ...]:
        """Which roles are played."""
        return roles(self.scenario.protocol, self.config)

    def as_plain(self) -> dict[str, Any]:
        """For config.json, from which the run can be repeated if it was given a seed."""
        spec = {f.name: getattr(self.spec, f.name) for f in fields(self.spec)}
        return {
            "scenario": self.scenario.name,
            "protocol": self.scenario.protocol.NAME,
            "data": {**spec, "split": self.how.value},
            "config": self.config.as_plain(),
            "runtime": self.runtime,
            "record": self.record.value,
            "seed": self.seed,
            "preset": None if self.preset is None else self.preset.value,
            "malicious": self.malicious,
            "attacks": list(self.attacks),
            "corrupted": list(self.corrupted),
            "prior": {"period": self.period, "threshold": self.threshold, "known": self.known},
        }


def prepare(scenario: Scenario, options: Options) -> Experiment:
    """Fill in the defaults and read the data set; raises `ConfigError` or `DataError` with one line."""
    scenario.check(options)
    if scenario.prepare is not None:
        experiment = scenario.prepare(scenario, options)
        _check_protocol(scenario, experiment.config)
        return experiment
    if options.hidden is not None and options.layers is not None:
        raise ConfigError("--hidden N is the same as --layers N: give one of them")
    if options.rounds is not None and options.epochs is not None:
        raise ConfigError("--rounds N stands in place of --epochs: give one of them")
    check_needless(scenario, options)
    given = _given(scenario, options)
    given |= _defended(scenario, options)
    spec = DataSpec(
        name=given["dataset"],
        data_dir=None if given.get("data_dir") is None else str(given["data_dir"]),
        gray=bool(given.get("gray", False)),
        samples=given.get("samples"),
        seed=data_seed(given),
    )
    data = load(spec)
    counts = tuple(len(part) for part in split(data.y_train, given["owners"], given["split"], spec.seed))
    config = _config(given, data, counts)
    if hasattr(scenario.protocol, "check"):
        _check_protocol(scenario, config)
    named = [find_target(name)[1] or () for name in given.get("attack", ())]
    for coalition in (given["corrupt"], *named):
        check_known_parties(scenario, coalition, config)
    return Experiment(
        scenario=scenario,
        spec=spec,
        how=given["split"],
        config=config,
        runtime=given["runtime"],
        address=given.get("address"),
        seed=given.get("seed"),
        run_key=run_key(given),
        record=given["record"],
        record_given=options.record is not None,
        out=given.get("out"),
        attacks=tuple(given.get("attack", ())),
        corrupted=tuple(given["corrupt"]),
        period=given["period"],
        threshold=given["threshold"],
        known=given["known"],
        preset=options.preset,
        malicious=_malicious(options, config),
    )


def data_seed(given: dict[str, Any]) -> int:
    """The number by which the data are shuffled, which the run notes.

    Without --seed it is drawn from the system. With one it is derived one-way: owners are told it, and must not learn the seed, which
    gives every key.
    """
    entropy = derive(seed_bytes(given["seed"]), "data") if "seed" in given else os.urandom(4)
    return int.from_bytes(entropy[:4], "big")


def run_key(given: dict[str, Any]) -> bytes:
    """The key from which every party's coins are derived."""
    return derive(seed_bytes(given["seed"]), "run") if "seed" in given else os.urandom(32)


def check_needless(scenario: Scenario, options: Options) -> None:
    """`ConfigError` for an option that would be ignored: who gives it expects something else."""
    if options.address is not None and options.runtime == "inline":
        raise ConfigError("--address is for --runtime ray")
    if options.data_dir is not None and (options.dataset or "digits") == "digits" and not options.preset:
        raise ConfigError("--data-dir: digits has no files; name the data set with --dataset")
    encrypted_labels = options.labels is Labels.FEBO
    chosen = "scheme" in scenario.options and options.scheme is not Scheme.DDH
    if options.group is not None and chosen and not encrypted_labels:
        raise ConfigError("--group is for --scheme ddh and --labels febo")


def _defended(scenario: Scenario, options: Options) -> dict[str, Any]:
    """What the defences set; `ConfigError` where an option was given that says otherwise."""
    found = defence.parse(options.defence or (), scenario.protocol.NAME)
    for name, value in found.items():
        if options.given().get(name, value) != value:
            raise ConfigError(
                f"--defence and --{name.replace('_', '-')} say different things: give one of them"
            )
    return found


def _malicious(options: Options, config: Any) -> str | None:
    """The name of the behaviour that was asked for; `ConfigError` where it does not fit."""
    if options.malicious is None:
        return None
    behaviour = find_behaviour(options.malicious)
    behaviour.check(config)
    return str(behaviour.NAME)


def _check_protocol(scenario: Scenario, config: Any) -> None:
    """What the options cannot be carried out with is wrong usage, whichever scheme says so."""
    try:
        scenario.protocol.check(config)
    except SchemeError as cause:
        raise ConfigError(str(cause)) from None


def check_known_parties(scenario: Scenario, corrupted: tuple[str, ...], config: Any) -> None:
    """`ConfigError` for the name of a party that takes no part."""
    taking_part = roles(scenario.protocol, config)
    known = {role.value for role in taking_part}
    known |= {
        party_name(role, i) for role in taking_part for i in range(len(config.counts) if role.many else 1)
    }
    for name in corrupted:
        if name not in known:
            names = ", ".join(role.value for role in taking_part)
            raise ConfigError(f"--corrupt: no party {name!r} takes part in {scenario.name}; roles: {names}")


def roles(protocol: ModuleType, config: Any) -> tuple[Role, ...]:
    """The roles that are played in a run: all of a protocol's, unless it says that some are not needed."""
    chosen: tuple[Role, ...] = protocol.roles(config) if hasattr(protocol, "roles") else protocol.ROLES
    return chosen


def step_count(protocol: ModuleType, config: Any) -> int:
    """Training steps of a run."""
    count: int = (
        protocol.steps(config) if hasattr(protocol, "steps") else config.epochs * steps_per_epoch(config)
    )
    return count


def seed_bytes(seed: int) -> bytes:
    """The 32 bytes from which everything in a seeded run is derived."""
    return hashlib.sha256(str(seed).encode()).digest()


def unprotected(experiment: Experiment) -> Config:
    """The configuration of the baseline: the same training without rounding."""
    config: Config = experiment.config
    labels = Labels.CLEAR if config.labels is Labels.FEBO else config.labels
    return replace(defence.without(config), weight_scale=0, labels=labels, gradient=Gradient.OWNER)


def _given(scenario: Scenario, options: Options) -> dict[str, Any]:
    """What was given, over the preset, over the scenario's defaults, over everybody's."""
    preset = dict(PRESETS[options.preset]) if options.preset else {}
    if options.layers is not None:
        preset.pop("hidden", None)
    dataset = options.dataset or preset.get("dataset", "digits")
    small = scenario.digits if dataset == "digits" else {}
    return {**_defaults(dataset), **scenario.defaults, **small, **preset, **options.given()}


def _defaults(dataset: str) -> dict[str, Any]:
    sizes: dict[str, Any] = {"hidden": 300, "batch": 128, "epochs": 5, "lr": 0.1}
    if dataset == "digits":
        sizes = {"hidden": 32, "batch": 16, "epochs": 15, "lr": 0.05}
    return {
        **sizes, "dataset": dataset, "runtime": "ray", "owners": 1, "split": Split.IID, "record": Record.FULL,
        "corrupt": ("cloud_trainer",), "period": 4, "threshold": 25, "known": 0, "momentum": 0.9,
    }  # fmt: skip


def _config(given: dict[str, Any], data: Dataset, counts: tuple[int, ...]) -> Config:
    switches: dict[str, Any] = {name: given[name] for name in (
        "activation", "loss", "batch", "epochs", "lr", "momentum", "optimizer", "pixels", "init", "authority", "per_round",
        "local_steps", "rounds", "scheme", "group", "weight_scale", "weight_bound", "labels", "gradient", "first", "key_budget",
        "gradient_budget", "keys_for", "noise", "order", "aggregation") if name in given}  # fmt: skip
    sizes = {
        "features": data.x_train.shape[1],
        "classes": data.classes,
        "x_max": data.x_max,
        "counts": counts,
        "shape": data.shape,
    }
    config = Config(**sizes, layers=_layers(given), **switches)
    # A batch larger than the data is the whole data.
    config = replace(config, batch=min(config.batch, max(counts)))
    # Rounds say how long to train; what counts in epochs, such as the baseline, takes as many as hold them.
    return replace(config, epochs=-(-config.rounds // rounds_per_epoch(config))) if config.rounds else config


def _layers(given: dict[str, Any]) -> tuple[int, ...]:
    if "layers" in given:
        try:
            return tuple(int(width) for width in given["layers"].split(","))
        except ValueError:
            raise ConfigError(f"--layers expects widths such as 300,100, got {given['layers']!r}") from None
    return (given["hidden"],)
