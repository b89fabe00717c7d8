"""The defences that can be switched on, one or several: what each is called, which option it
sets, and where it fits.

A name on the command line is `noise:10`, or `fresh-keys` where there is nothing to choose; `-` and `_` in
names are the same. What a defence costs and what it leaves open is said by the protocol that has it, and
measured by `scenarios/sweep_defences.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from protocols.language.errors import ConfigError
from protocols.network.config import Aggregation, Init, KeyScope, Labels, Order


@dataclass(frozen=True)
class Defence:
    """The option `field` is set to `value`, or to the user's number where `value` is the type `int` or
    `float`.
    """

    field: str
    value: Any
    protocols: tuple[str, ...]
    meaning: str

    @property
    def takes_value(self) -> bool:
        """Whether the user has to give a number."""
        return isinstance(self.value, type)


_SPLIT = ("mitig1", "mitig2")
_COPIES = (*_SPLIT, "fedsgd")

DEFENCES: MappingProxyType[str, Defence] = MappingProxyType({
    "key_budget": Defence("key_budget", int, ("plain_fe", "vertical_fe"),
        "A refuses keys for W1 beyond this rank; W1 is then frozen; printed as void where it leaves "
        "less than 80 bit of the master key"),
    "gradient_budget": Defence("gradient_budget", int, ("plain_fe",),
        "the same for keys of dZ1, under --gradient fe"),
    "fresh_keys": Defence("keys_for", KeyScope.EPOCH, ("plain_fe",),
        "a new master key, and all samples encrypted anew, each epoch"),
    "batch_keys": Defence("keys_for", KeyScope.BATCH, ("plain_fe",),
        "a master key for each batch: a key works on its batch alone"),
    "noise": Defence("noise", float, ("mitig2",),
        "uniform noise within +-value on Z1 of integer pixels, drawn anew in each step"),
    "reshuffle": Defence("order", Order.PUBLIC, ("mitig2",),
        "owners permute their samples each epoch, as everybody knows"),
    "unlinkable": Defence("order", Order.PRIVATE, ("mitig2",),
        "owners permute their samples in private; needs --labels owner"),
    "dither": Defence("dither", float, ("mitig2",),
        "uniform noise within +-value, below 1, on every pixel, drawn once before training"),
    "augment": Defence("augment", int, ("mitig2",),
        "images moved by up to so many pixels in both directions, anew at each visit"),
    "revisit_budget": Defence("revisits", int, ("mitig2",),
        "W1 is frozen once each sample was seen under so many of its values"),
    "secure_aggregation": Defence("aggregation", Aggregation.SECURE, _COPIES,
        "A learns only the sum of the copies; many owners"),
    "dp": Defence("dp", float, ("fedsgd",),
        "DP-SGD: each sample's gradient clipped, noise in every step for this epsilon of a sample"),
    "clip": Defence("clip", float, ("fedsgd",),
        "each sample's gradient clipped to this norm, of all layers together"),
    "prune": Defence("prune", float, ("fedsgd",),
        "owners leave this share of each layer's changes out, those that moved least"),
    "private_init": Defence("init", Init.OWNER, ("plain", *_SPLIT),
        "the owner draws W1 (always so in a split network): --init owner"),
    "u_shaped": Defence("labels", Labels.OWNER, ("plain", "mitig2"),
        "labels and the last layer stay with the owner: --labels owner"),
})  # fmt: skip

_OWN = (
    "key_budget",
    "gradient_budget",
    "keys_for",
    "noise",
    "order",
    "dither",
    "augment",
    "revisits",
    "aggregation",
    "dp",
    "clip",
    "prune",
)  # set by defences and nothing else


def parse(texts: Iterable[str], protocol: str) -> dict[str, Any]:
    """The options that some defences set; `ConfigError` for one that is unknown, malformed or
    does not fit.
    """
    found: dict[str, Any] = {}
    for text in texts:
        defence, value = _one(text, protocol)
        if found.setdefault(defence.field, value) != value:
            raise ConfigError(f"--defence {text}: another defence says otherwise; give one of them")
    return found


def described(config: Any) -> dict[str, str]:
    """The defences in force, a line each, as `describe` of a protocol prints them; not those that are an
    option of their own.
    """
    lines = {}
    for name, defence in DEFENCES.items():
        value = getattr(config, defence.field, None)
        if defence.field in _OWN and (value if defence.takes_value else value is defence.value):
            lines[f"defence {name.replace('_', '-')}"] = (
                f"{value:g}: " if defence.takes_value else ""
            ) + defence.meaning
    return lines


def _one(text: str, protocol: str) -> tuple[Defence, Any]:
    name, colon, value = text.partition(":")
    defence = DEFENCES.get(name.strip().replace("-", "_"))
    if defence is None:
        raise ConfigError(f"--defence: unknown defence {name!r}; known: {', '.join(map(_cli, DEFENCES))}")
    if protocol not in defence.protocols:
        raise ConfigError(
            f"--defence {_cli(name)} is for {' and '.join(map(_cli, defence.protocols))}, "
            f"not for {_cli(protocol)}"
        )
    if bool(colon) != defence.takes_value:
        shape = "expects a value: NAME:VALUE" if defence.takes_value else "takes no value"
        raise ConfigError(f"--defence {_cli(name)} {shape}")
    return defence, _number(name, defence.value, value) if defence.takes_value else defence.value


def _number(name: str, kind: type, text: str) -> Any:
    """A positive number; `ConfigError` for anything else."""
    what = "whole number" if kind is int else "number"
    try:
        number = kind(text)
    except ValueError:
        raise ConfigError(f"--defence {_cli(name)} expects a positive {what}, got {text!r}") from None
    if not 0 < number < float("inf"):
        raise ConfigError(f"--defence {_cli(name)} expects a positive {what}, got {text!r}")
    return number


def _cli(name: str) -> str:
    return name.replace("_", "-")
