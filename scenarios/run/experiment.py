"""An experiment: what a user asked for with nothing left to default, and what follows from it and from the
data.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from parties.adversary.behaviours import find_behaviour
from parties.adversary.catalogue import find_target
from parties.data.datasets import BUNDLED, Dataset, DataSpec, Split, described, load, split
from parties.record.kept import Kept, Record, first_rounds
from parties.registry import source_of
from protocols.crypto.coins import derive
from protocols.language.errors import ConfigError, SchemeError
from protocols.language.options import Declared, as_plain, flag, options_of
from protocols.language.protocol import ProtocolFile
from protocols.language.roles import CLOUD_TRAINER, SERVER, Role, party_name
from protocols.network.config import Labels, Scheme
from protocols.network.public_base import Base
from protocols.network.schedule import rounds_per_epoch
from protocols.parts import defences as defence
from scenarios.run.options import PRESETS, RUN_OPTIONS, Given, RunOptions, RuntimeName, chosen, default

_OF_THE_CALL = frozenset(["out", "json", "quiet", "address", "log_to"])
FULL_LIMIT_NBYTES = 2_000_000_000


@dataclass(frozen=True)
class Scenario:
    """A named experiment: a protocol with the options that it declares, and those of every run.

    `behaviours` names what a malicious party may do in it. One that does not train brings more options
    (`task`, a dataclass), run options that it `lacks`, what fills in its options (`prepare`), and the module
    that scores it (`scored`, `baseline`).
    """

    name: str
    protocol: ProtocolFile
    behaviours: tuple[str, ...] = ()
    task: type | None = None
    lacks: frozenset[str] = frozenset()
    prepare: Callable[[Scenario, dict[str, Any]], Experiment] | None = None
    scoring: ModuleType | None = None

    @property
    def config(self) -> Any:
        """The class of its configurations."""
        return self.protocol.Options

    def options(self, derived: bool = False) -> dict[str, Declared]:
        """What may be asked for, by name; with `derived` also what only a program may set."""
        lacks = set(self.lacks) if self.behaviours else {*self.lacks, "malicious"}
        if not any(self.name in each.protocols for each in defence.DEFENCES.values()) and self.task is None:
            lacks.add("defence")
        run = {name: each for name, each in RUN_OPTIONS.items() if name not in lacks}
        return {**run, **options_of(self.task or self.config, derived)}


@dataclass(frozen=True, kw_only=True)
class Experiment(RunOptions):
    """Everything that a run is made of, with nothing left to default."""

    scenario: Scenario
    spec: DataSpec
    config: Any  # of the protocol's own class
    run_key: bytes = field(repr=False)
    record_given: bool = True
    asked: Mapping[str, Any] = field(default_factory=dict)  # as plain data, for the run once more
    base: Base | None = field(default=None, repr=False)

    @property
    def protocol(self) -> ProtocolFile:
        """The protocol of the scenario."""
        return self.scenario.protocol

    @property
    def data(self) -> Dataset:
        """The data set (read once in a process)."""
        return load(self.spec)

    @cached_property
    def bound(self) -> str:
        """A digest of what the coins of this run protect: protocol, configuration, data.

        What is at its default is left out, so that an option that is added later changes no run.
        """
        config, given = self.config, fields(self.config)
        chosen = {
            f.name: as_plain(getattr(config, f.name))
            for f in given
            if getattr(config, f.name) != f.default and f.name != "dropped"  # they draw as they did
        }
        what = [self.scenario.protocol.NAME, chosen, _data_digest(self.spec)]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    @property
    def roles(self) -> tuple[Role, ...]:
        """Which roles are played."""
        return self.protocol.roles(self.config)

    @property
    def steps(self) -> int:
        """Training steps."""
        return self.protocol.steps(self.config)

    @property
    def behaviour(self) -> ModuleType | None:
        """What a party does instead of its own steps, if one is malicious."""
        return None if self.malicious is None else find_behaviour(self.malicious)

    @property
    def parties(self) -> list[str]:
        """The names of all parties that take part."""
        return [name for role in self.roles for name in self.players(role)]

    def players(self, role: Role) -> list[str]:
        """The names of the parties that play a role and take part: of a million owners a short run needs a
        few.
        """
        taking_part = self.protocol.taking_part(self.config) if role.many else 1
        return [party_name(role, i) for i in range(taking_part)]

    @property
    def kept(self) -> Kept:
        """Which payloads are kept."""
        if self.record is not Record.CONSUMED:
            return Kept(self.record, self.record_full)
        epoch = -(-self.steps // getattr(self.config, "epochs", 1))
        return Kept(self.record, self.record_full, first_rounds(self.protocol.FIGURE, self.config, epoch))

    @property
    def resumable(self) -> bool:
        """Whether the run can be gone on with: its coins are recorded, or follow from a seed."""
        return self.kept.replayable or self.seed is not None

    @property
    def counts(self) -> dict[Role, int]:
        """How many parties play each role, whether they take part or not."""
        return {role: len(self.config.counts) if role.many else 1 for role in self.roles}

    def as_plain(self) -> dict[str, Any]:
        """For config.json, from which the run can be repeated if it was given a seed."""
        return {
            "scenario": self.scenario.name,
            "protocol": self.protocol.NAME,
            "file": as_plain(source_of(self.protocol)),
            "data": {**self.spec.as_plain(), "split": self.split.value},
            "config": as_plain(self.config),
            "runtime": self.runtime.value,
            "record": self.record.value,
            "record_full": list(self.record_full),
            "seed": self.seed,
            "preset": as_plain(self.preset),
            "malicious": self.malicious,
            "attacks": list(self.attack),
            "corrupted": list(self.corrupt),
            "no_audit": self.no_audit,
            "checkpoint_every": self.checkpoint_every,
            "prior": {"period": self.period, "threshold": self.threshold, "known": self.known},
            "options": dict(self.asked),
        }

    def as_toml(self) -> str:
        """For config.toml: what was asked for, by which the run is asked for again."""
        source = source_of(self.protocol)
        named = self.scenario.name if source is None else source.path
        lines = [f"{name} = {_toml(value)}" for name, value in {"scenario": named, **self.asked}.items()]
        return "\n".join(["# this run once more: keyhole run config.toml", *lines, ""])


def _toml(value: Any) -> str:
    """A value as TOML writes it: JSON's texts, numbers and lists are TOML's."""
    return json.dumps(value).replace("\x7f", "\\u007f")


def prepare(scenario: Scenario, options: Given) -> Experiment:
    """Fill in the defaults and read the data set; raises `ConfigError` or `DataError` with one line."""
    asked = chosen(scenario.options(derived=True), options, scenario.name)
    check_needless(scenario, asked)
    experiment = (scenario.prepare or _prepared)(scenario, asked)
    _check_protocol(scenario, experiment.config)
    if experiment.behaviour is not None:
        experiment.behaviour.check(experiment.config)
    named = [find_target(name)[1] or () for name in experiment.attack]
    for coalition in (experiment.corrupt, *named):
        _check_parties(experiment, coalition, "--corrupt")
    _check_parties(experiment, experiment.record_full, "--record-full")
    return experiment


def _prepared(scenario: Scenario, asked: dict[str, Any]) -> Experiment:
    """The experiment of a scenario that trains."""
    if "rounds" in asked and "epochs" in asked:
        raise ConfigError("--rounds N stands in place of --epochs: give one of them")
    preset = PRESETS[asked["preset"]] if "preset" in asked else {}
    given = {**preset, **asked, **_defended(scenario, asked)}
    run = run_options(scenario, given)
    spec = described(data_spec(run))
    data = load(spec)
    counts = split(data.y_train, run.owners, run.split, spec.seed).counts
    return experiment_of(scenario, run, asked, spec, _config(scenario, given, data, counts))


def run_options(scenario: Scenario, given: Mapping[str, Any]) -> RunOptions:
    """The run options with nothing left to default."""
    run = RunOptions(**{name: value for name, value in given.items() if name in RUN_OPTIONS})
    protocol_roles = scenario.protocol.ROLES
    trainer = next((role for role in (CLOUD_TRAINER, SERVER) if role in protocol_roles), protocol_roles[-1])
    attacks = tuple(dict.fromkeys(map(attack_named, run.attack)))
    split = Split(run.split if "split" in given else scenario.protocol.SPLITS[0])
    if split.value not in scenario.protocol.SPLITS:
        known = ", ".join(scenario.protocol.SPLITS)
        raise ConfigError(f"--split {split.value} is not for {scenario.name.replace('_', '-')}: {known}")
    malicious = None if run.malicious is None else str(find_behaviour(run.malicious).NAME)
    named = parties_named(run.corrupt or (trainer.value,))
    whole, record = _whole(run, "record" in given)
    return replace(
        run, attack=attacks, corrupt=named, malicious=malicious, split=split, record=record, record_full=whole
    )


def _whole(run: RunOptions, given: bool) -> tuple[tuple[str, ...], Record]:
    """The parties of which everything is kept, and what is kept of the others: headers, unless it is
    `given`.
    """
    if not run.record_full:
        return (), run.record
    whole = parties_named(run.record_full, "--record-full")
    if given and run.record is Record.FULL:
        raise ConfigError("--record-full: --record full keeps every payload already; give one of them")
    return whole, run.record if given else Record.HEADERS


def experiment_of(
    scenario: Scenario, run: RunOptions, asked: Mapping[str, Any], spec: DataSpec, config: Any, **more: Any
) -> Experiment:
    """The experiment of a configuration."""
    return Experiment(
        **{each.name: getattr(run, each.name) for each in fields(RunOptions)}, scenario=scenario, spec=spec,
        config=config, run_key=run_key(run.seed), record_given="record" in asked,
        asked=kept(asked, spec), **more,
    )  # fmt: skip


def kept(asked: Mapping[str, Any], spec: DataSpec | None = None) -> dict[str, Any]:
    """What was asked for as plain data, files by their whole paths, so that it can be asked for from
    anywhere; without where a run writes and what it prints.
    """
    found = {name: value for name, value in asked.items() if name not in _OF_THE_CALL}
    if spec is not None:
        found |= {"dataset": spec.name} if spec.own else {}
        found |= {} if spec.data_dir is None else {"data_dir": spec.data_dir}
    if "attack" in found:
        found["attack"] = tuple(map(attack_named, found["attack"]))
    return {
        name: as_plain(value.resolve() if isinstance(value, Path) else value) for name, value in found.items()
    }


def data_spec(run: RunOptions, **more: Any) -> DataSpec:
    """Which data the run options name, by whole paths."""
    folder = None if run.data_dir is None else str(run.data_dir)
    said = {"class_column": run.class_column, **more}
    return DataSpec(run.dataset, folder, run.gray, run.samples, data_seed(run.seed), **said).resolved()


@lru_cache(maxsize=4)
def _data_digest(spec: DataSpec) -> str:
    """SHA-256 (hex) of all samples and labels, also of those that are held out."""
    hasher, data = hashlib.sha256(), load(spec)
    for array in (data.x_train, data.y_train, data.x_test, data.y_test):
        hasher.update(b"none;" if array is None else f"{array.dtype} {array.shape};".encode())
        hasher.update(b"" if array is None else np.ascontiguousarray(array).data)
    return hasher.hexdigest()


def data_seed(seed: int | None) -> int:
    """The number by which the data are shuffled, which the run notes.

    Without a seed it is drawn from the system. With one it is derived one-way: owners are told it, and must
    not learn the seed, which gives every key.
    """
    entropy = os.urandom(4) if seed is None else derive(seed_bytes(seed), "data")
    return int.from_bytes(entropy[:4], "big")


def run_key(seed: int | None) -> bytes:
    """The key from which every party's coins are derived."""
    return os.urandom(32) if seed is None else derive(seed_bytes(seed), "run")


def seed_bytes(seed: int) -> bytes:
    """The 32 bytes from which everything in a seeded run is derived."""
    return hashlib.sha256(str(seed).encode()).digest()


def check_needless(scenario: Scenario, asked: Mapping[str, Any]) -> None:
    """`ConfigError` for an option that would be ignored: who gives it expects something else."""
    if "address" in asked and asked.get("runtime", RuntimeName.RAY) is not RuntimeName.RAY:
        raise ConfigError("--address is for --runtime ray")
    named = PRESETS[asked["preset"]].get("dataset", "digits") if "preset" in asked else "digits"
    if "data_dir" in asked and asked.get("dataset", named) in BUNDLED:
        where = asked.get("dataset", named)
        raise ConfigError(f"--data-dir: {where} has no files; name the data set with --dataset")
    chosen_scheme = "scheme" in scenario.options() and asked.get("scheme") is not Scheme.DDH
    if "group" in asked and chosen_scheme and asked.get("labels") is not Labels.FEBO:
        raise ConfigError("--group is for --scheme ddh and --labels febo")


def attack_named(name: str) -> str:
    """An attack or a preset by its name, or the whole path of its file."""
    return str(Path(name).resolve()) if name.endswith(".py") else name.replace("-", "_")


def parties_named(names: tuple[str, ...], option: str = "--corrupt") -> tuple[str, ...]:
    """Names of parties from texts such as cloud_trainer,data_owner:2; `-` and `_` are the same."""
    parts = (part.strip().replace("-", "_") for name in names for part in name.split(","))
    found = tuple(dict.fromkeys(part for part in parts if part))
    if not found:
        raise ConfigError(f"{option}: expected the names of parties, such as cloud_trainer,data_owner:2")
    return found


def _defended(scenario: Scenario, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the defences set; `ConfigError` where an option was given that says otherwise."""
    found = defence.parse(asked.get("defence", ()), scenario.protocol.NAME)
    for name, value in found.items():
        if asked.get(name, value) != value:
            raise ConfigError(f"--defence and {flag(name)} say different things: give one of them")
    return found


def _config(scenario: Scenario, given: Mapping[str, Any], data: Dataset, counts: tuple[int, ...]) -> Any:
    """The protocol's configuration: what was given, defaults on this data set, facts of the data."""
    facts = {
        "features": data.x_train.shape[1],
        "classes": data.classes,
        "x_max": data.x_max,
        "counts": counts,
        "shape": data.shape,
    }
    own = {name: each for name, each in scenario.options(derived=True).items() if name not in RUN_OPTIONS}
    values = {each.field: given.get(name, default(each, data.name)) for name, each in own.items()}
    known = {each.name for each in fields(scenario.config)}
    facts = {name: value for name, value in facts.items() if name in known}
    config = scenario.config(**{**values, **facts})
    if "batch" in known:  # one larger than the data is the whole data
        config = replace(config, batch=min(config.batch, max(counts)))
    # Rounds say how long to train; what counts in epochs, such as the baseline, takes as many as hold them.
    rounds = getattr(config, "rounds", 0)
    return replace(config, epochs=-(-rounds // rounds_per_epoch(config))) if rounds else config


def _check_protocol(scenario: Scenario, config: Any) -> None:
    """What the options cannot be carried out with is wrong usage, whichever scheme says so."""
    try:
        scenario.protocol.check(config)
    except SchemeError as cause:
        raise ConfigError(str(cause)) from None


def _check_parties(experiment: Experiment, parties: tuple[str, ...], option: str) -> None:
    """`ConfigError` for the name of a party that takes no part."""
    known = {role.value for role in experiment.roles} | set(experiment.parties)
    for name in parties:
        if name not in known:
            names = ", ".join(role.value for role in experiment.roles)
            raise ConfigError(
                f"{option}: no party {name!r} takes part in {experiment.scenario.name}; roles: {names}"
            )
