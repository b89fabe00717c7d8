"""What a protocol file holds, as a type; checked when it is loaded, and what is optional has a default.

NAME, SUMMARY, SECURITY = "split_noise", "one line", "one line"
ROLES = (DATA_OWNER, CLOUD_TRAINER)                     # or roles of its own: Role("helper")
FIGURE = (Arrow("step", DATA_OWNER, CLOUD_TRAINER, "z1"), ...)

@dataclass(frozen=True)
class Options(Training): ...                            # its options, and what follows from the data

def run(s: Session, config: Options) -> Iterator[Any]:  # yields what is revealed at the end of each epoch
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from types import ModuleType
from typing import Any, Protocol

from protocols.language.errors import ConfigError
from protocols.language.figure import Arrow, Figure
from protocols.language.roles import Role

FACTS = ("features", "classes", "x_max", "counts")  # fields of Options that are filled in from the data


class Defaults:
    """What a protocol file may leave out, and what then stands for it."""

    PREDICT: Figure = ()  # the arrows of `predict(s, config, count)`; none: it cannot be asked
    SPLITS: tuple[str, ...] = (
        "iid",
        "label",
        "even",
    )  # how owners may share the data; `columns`: slices of every sample
    MANY_OWNERS: bool = True  # False: one owner has all data

    @staticmethod
    def check(config: Any) -> None:
        """Raise `ConfigError`, before anything starts, for options that make no sense together."""

    @staticmethod
    def describe(config: Any) -> dict[str, str]:
        """What protects a run, one line each."""
        return {}

    @staticmethod
    def taking_part(config: Any) -> int:
        """How many owners take part, the first ones; the script never addresses the others."""
        return len(config.counts)

    @staticmethod
    def steps(config: Any) -> int:
        """Training steps of a run: each owner's batches, epoch by epoch."""
        batches = sum(-(-count // config.batch) for count in config.counts) if hasattr(config, "batch") else 1
        return batches * int(getattr(config, "epochs", 1))

    @staticmethod
    def kept(state: Any) -> dict[str, Any]:
        """What a party keeps after the run, to predict."""
        return {}

    @staticmethod
    def restore(state: Any, kept: dict[str, Any]) -> None:
        """Take back what `kept` returned."""

    @staticmethod
    def payload_nbytes(config: Any) -> int | None:
        """About how many bytes full transcripts take; None: the run measures it, and stops where it is too
        much.
        """
        return None

    @staticmethod
    def unprotected(config: Any) -> tuple[str, Any] | None:
        """The baseline: name and configuration of the same training without protection, if there is one."""
        return None

    @staticmethod
    def accuracy(revealed: Any, config: Any, x: Any, y: Any) -> float | None:
        """Share of images whose class is right, by what `run` yielded; None: by the weights of a network that
        it holds.
        """
        return None

    @staticmethod
    def measured(revealed: Any, config: Any) -> dict[str, float]:
        """What `run` measured besides, by name, from what it yielded last: noise of ciphertexts, say."""
        return {}

    @staticmethod
    def relations(view: Any) -> Iterator[Any]:
        """What a reader of a view may write down; labels in no relation read "not analysed"."""
        return iter(())


class ProtocolFile(Protocol):
    """A protocol file, complete: what it writes, and the defaults of what it does not."""

    NAME: str
    SUMMARY: str
    SECURITY: str
    ROLES: tuple[Role, ...]
    FIGURE: Figure
    Options: type
    run: Callable[[Any, Any], Iterator[Any]]
    roles: Callable[[Any], tuple[Role, ...]]
    PREDICT: Figure
    SPLITS: tuple[str, ...]
    MANY_OWNERS: bool
    predict: Callable[[Any, Any, int], Iterator[Any]]
    check: Callable[[Any], None]
    describe: Callable[[Any], dict[str, str]]
    taking_part: Callable[[Any], int]
    steps: Callable[[Any], int]
    kept: Callable[[Any], dict[str, Any]]
    restore: Callable[[Any, dict[str, Any]], None]
    payload_nbytes: Callable[[Any], int | None]
    unprotected: Callable[[Any], tuple[str, Any] | None]
    accuracy: Callable[[Any, Any, Any, Any], float | None]
    measured: Callable[[Any, Any], dict[str, float]]
    relations: Callable[[Any], Iterator[Any]]


_WRITE = {
    "NAME": (str, 'NAME = "my_protocol"'),
    "SUMMARY": (str, 'SUMMARY = "what it does, in one line"'),
    "SECURITY": (str, 'SECURITY = "what protects what, in one line"'),
    "ROLES": (tuple, "ROLES = (DATA_OWNER, CLOUD_TRAINER)"),
    "FIGURE": (tuple, 'FIGURE = (Arrow("step", DATA_OWNER, CLOUD_TRAINER, "z1"), ...)'),
    "Options": (type, "@dataclass(frozen=True) class Options(Training): ..."),
    "run": (object, "def run(s, config): ..."),
}


def completed(module: ModuleType) -> ProtocolFile:
    """The protocol that a module holds, with a default for all that it leaves out; `ConfigError` names every
    lack.
    """
    lacks = list(_lacks(module))
    if lacks:
        raise ConfigError(f"{module.__file__} is no protocol: {'; '.join(lacks)}")
    for name in (name for name in vars(Defaults) if not name.startswith("_")):
        if not hasattr(module, name):
            setattr(module, name, getattr(Defaults, name))
    if not hasattr(module, "roles"):
        setattr(module, "roles", lambda config: module.ROLES)  # noqa: B010  (no attribute of modules)
    return typing.cast(ProtocolFile, module)


def _lacks(module: ModuleType) -> Iterator[str]:
    """What is missing or of another kind, and what to write."""
    for name, (kind, write) in _WRITE.items():
        if not isinstance(getattr(module, name, None), kind) or not hasattr(module, name):
            yield f"it lacks {name}: write `{write}`"
    options, roles, figure = (getattr(module, name, None) for name in ("Options", "ROLES", "FIGURE"))
    if isinstance(options, type):
        yield from _lacks_of_options(options)
    if isinstance(roles, tuple) and not all(isinstance(role, Role) for role in roles):
        yield 'ROLES holds what is no role: write DATA_OWNER, or Role("helper") for one of your own'
    elif isinstance(roles, tuple) and isinstance(figure, tuple):
        if not all(isinstance(arrow, Arrow) for arrow in figure):
            yield "FIGURE holds what is no arrow: write Arrow(phase, sender, receiver, label)"
        elif not {role for arrow in figure for role in (arrow.sender, arrow.receiver)} <= set(roles):
            yield "FIGURE names a role that is not in ROLES"
    if callable(getattr(module, "run", None)) and len(inspect.signature(module.run).parameters) != 2:
        yield "run takes other arguments: write `def run(s, config):`"
    if hasattr(module, "predict") and not getattr(module, "PREDICT", ()):
        yield "it lacks PREDICT: write the arrows of `predict`, as in FIGURE"


def _lacks_of_options(options: type) -> Iterator[str]:
    frozen = is_dataclass(options) and options.__dataclass_params__.frozen  # type: ignore[attr-defined]
    missing = set(FACTS) - {each.name for each in fields(options)} if is_dataclass(options) else set(FACTS)
    if not frozen:
        yield "Options is no frozen dataclass: write `@dataclass(frozen=True)` above it"
    if missing:
        yield f"Options lacks {', '.join(sorted(missing))}: write `class Options(Training)`"
