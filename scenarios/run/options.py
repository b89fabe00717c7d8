"""What a user asks for: the options of every run, those of a scenario, their defaults, and who has which."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from parties.data.datasets import BUNDLED, Split
from parties.record.transcript import Record
from protocols.language.errors import ConfigError
from protocols.language.options import Declared, as_plain, flag, option, options_of, typed
from protocols.network.config import Activation, Loss, Pixels

Given = Mapping[str, Any]  # options by name as a user gave them; None and () stand for what was not given


class Preset(Enum):
    """A table of options: of a published experiment, beside which ours can be put; or of one for a first
    look.
    """

    PAPER = "paper"
    QUICK = "quick"


class Measure(Enum):
    """What else a reconstruction of samples is measured by: a network that is trained on it."""

    RETRAIN = "retrain"


class RuntimeName(StrEnum):
    """Where parties run."""

    RAY = "ray"
    LOCAL = "local"
    INLINE = "inline"


# A. Ionita, A. Ionita, RAID 2025. Its code divides summed gradients by 10 or 10 B, where here the mean over
# the batch is
# taken; with the published learning rate the two do not train alike.
PRESETS: MappingProxyType[Preset, MappingProxyType[str, Any]] = MappingProxyType({
    Preset.PAPER: MappingProxyType({
        "dataset": "mnist", "layers": (300,), "activation": Activation.SIGMOID, "loss": Loss.BCE, "lr": 0.005,
        "momentum": 0.0, "batch": 250, "pixels": Pixels.RAW, "epochs": 16,
    }),
    Preset.QUICK: MappingProxyType({"samples": 160, "layers": (16,), "batch": 8, "epochs": 3}),
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options that every run has, whatever its protocol; an empty `corrupt` is the party that trains."""

    preset: Preset | None = option(
        None,
        "paper: the network and training of Ionita and Ionita; quick: seconds; options that are given stand "
        "above it.",
        panel="Data",
    )
    dataset: str = option(
        "digits",
        "digits | mnist | cifar10 | iris | breast_cancer | FILE.npz | FILE.csv | FILE.parquet | FOLDER/",
        panel="Data",
    )
    class_column: str | None = option(
        None, "Column of a table that holds the classes; the last, if not given.", panel="Data",
        metavar="COLUMN",
    )  # fmt: skip
    data_dir: Path | None = option(None, "Folder of the data set's files.", panel="Data")
    gray: bool = option(False, "Turn colour images gray.", panel="Data")
    samples: int | None = option(None, "Training samples to use.", panel="Data")
    owners: int = option(1, "How many data owners share the data.", panel="Data")
    split: Split = option(Split.IID, "How they share it.", panel="Data")
    runtime: RuntimeName = option(
        RuntimeName.RAY,
        "ray | local: processes of their own, here or on a cluster; or forked here. inline: one process.",
        panel="Run",
    )
    address: str | None = option(None, "A Ray cluster, or auto.", panel="Run")
    seed: int | None = option(
        None, "Make the run repeatable. Whoever knows it holds every key.", panel="Run", least=0
    )
    record: Record = option(
        Record.FULL, "Keep payloads, those that relations consume, or headers and digests only.", panel="Run"
    )
    record_full: tuple[str, ...] = option(
        (),
        "Parties of whose views every payload is kept; of the others, headers.",
        panel="Run",
        metavar="PARTY,...",
    )
    checkpoint_every: int = option(
        0,
        "Rounds after which every party's state is written down, to go on from. Secrets are in it.",
        panel="Run",
        least=1,
    )
    deadline: float = option(
        1800.0, "Seconds that a step, or the wait for a message, may take.", panel="Run", least=1
    )
    out: Path | None = option(None, "The run folder itself.", panel="Run")
    log_to: tuple[str, ...] = option(
        (),
        "Also log the run to tensorboard:DIR, mlflow:DIR or mlflow:URI; repeatable.",
        panel="Run",
        metavar="TOOL:DIR",
    )
    json: bool = option(False, "Print result.json and nothing else.", panel="Run")
    quiet: bool = option(False, "No progress bar.", panel="Run")
    no_audit: bool = option(
        False,
        "Do not ask a small instance what it determines: seconds less, and the ledger may say less.",
        panel="Run",
    )
    defence: tuple[str, ...] = option((), "NAME or NAME:VALUE, as `keyhole list` has them; repeatable.")
    corrupt: tuple[str, ...] = option(
        (), "Corrupted parties, such as cloud_trainer,data_owner:2.", panel="Attack", metavar="PARTY,..."
    )
    attack: tuple[str, ...] = option(
        (), "An attack or a preset to run at the end; repeatable.", panel="Attack"
    )
    measure: Measure | None = option(
        None, "retrain: the accuracy of a fresh network that is trained on what was rebuilt.", panel="Attack"
    )
    malicious: str | None = option(
        None, "unit-keys: what the cloud does instead of W1.", panel="Attack", metavar="NAME"
    )
    period: int = option(4, "Of lp's smoothness rows.", panel="Attack", least=1)
    threshold: int = option(
        25, "Of lp's smoothness rows, in 255ths of the pixel range.", panel="Attack", least=0
    )
    known: int = option(0, "Training samples that the adversary knows.", panel="Attack", least=0)


def preset_told(preset: Preset) -> str:
    """The options of a preset, as they are typed."""
    shown = {name: as_plain(value) for name, value in PRESETS[preset].items()}
    texts = ((n, ",".join(map(str, v)) if isinstance(v, list) else str(v)) for n, v in shown.items())
    return " ".join(f"{flag(name)} {text}" for name, text in texts)


def given_only(options: Given) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def chosen(declared: Mapping[str, Declared], options: Given, who: str) -> dict[str, Any]:
    """Options as given, each of its type, under its own name; `ConfigError` for one that nobody declares, or
    twice.
    """
    aliases, found = {each.about.alias: each for each in declared.values() if each.about.alias}, {}
    for name, value in given_only(options).items():
        each = aliases.get(name) or declared.get(name)
        if each is None:
            raise ConfigError(f"{flag(name)} is no option of {who.replace('_', '-')}")
        if each.name in found:
            alias = flag(each.about.alias)
            raise ConfigError(f"{alias} N is the same as {each.flag} N: give one of them")
        found[each.name] = converted(each, value)
    return found


def converted(each: Declared, value: Any) -> Any:
    """A value of an option, of its type; `ConfigError` with what was expected."""
    if isinstance(value, str) and Path in (each.kind, *typing.get_args(each.kind)):
        return Path(value)
    try:
        return typed(each.kind, value)
    except (TypeError, ValueError):
        raise ConfigError(f"{each.flag}: expected {_expected(each)}, got {value!r}") from None


_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def _expected(each: Declared) -> str:
    kinds = typing.get_args(each.kind) or (each.kind,)
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, Enum):
            return f"one of {', '.join(str(member.value).replace('_', '-') for member in kind)}"
        if kind in _KINDS and not each.about.metavar:
            return _KINDS[kind]
    return f"something like {each.about.metavar}" if each.about.metavar else "a value of another kind"


def default(each: Declared, dataset: str) -> Any:
    """What an option is without being given, on this data set."""
    large = dataset not in BUNDLED and each.about.large is not None
    return each.about.large if large else each.default


RUN_OPTIONS: Mapping[str, Declared] = MappingProxyType(options_of(RunOptions))
