"""The attacks by name, and presets: an attack with the coalition that it is meant for, and no code of its own."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import MappingProxyType, ModuleType

from protocols.language.errors import ConfigError

ATTACKS = (
    "conv",
    "gradient",
    "gram",
    "inversion",
    "known_average",
    "known_init",
    "known_samples",
    "labels",
    "lp",
    "master_key",
    "smooth",
    "smooth_stack",
    "stack",
    "tv",
    "unit_keys",
    "update",
)


# Attacks on heads, by the modules of `heads` that hold them: they take heads, ciphertexts or answers, of many owners at once.
HEAD_ATTACKS = {
    name: name for name in ("blackbox", "exponents", "informed", "logits", "whitebox", "whitebox_net")
} | {"oracle": "malleability"}


@dataclass(frozen=True)
class Preset:
    """An attack on the joint view of some parties, with what it is about."""

    attack: str
    corrupted: tuple[str, ...]
    about: str

    def describe(self) -> str:
        """In one line."""
        return f"{self.attack.replace('_', '-')} on the view of {', '.join(self.corrupted)}: {self.about}"


PRESETS: MappingProxyType[str, Preset] = MappingProxyType({
    "authority": Preset("master_key", ("key_authority", "cloud_trainer"), "plain-fe, the master key opens every ciphertext"),
    "authority_alone": Preset("gradient", ("key_authority",), "plain-fe --gradient fe, an estimate without any ciphertext"),
    "collusion": Preset("known_average", ("cloud_trainer", "data_owner:1"), "mitig1 and mitig2 of many owners, the averaged W1"),
})  # fmt: skip


def find_attack(name: str) -> ModuleType:
    """The module of an attack; `-` and `_` are the same. Raises `ConfigError` that lists the names."""
    plain = name.replace("-", "_")
    if plain in HEAD_ATTACKS:
        return importlib.import_module(f"parties.adversary.heads.{HEAD_ATTACKS[plain]}")
    if plain not in ATTACKS:
        known = ", ".join(a.replace("_", "-") for a in (*ATTACKS, *HEAD_ATTACKS, *PRESETS))
        raise ConfigError(f"unknown attack {name!r}; known: {known}")
    return importlib.import_module(f"parties.adversary.{plain}")


def find_target(name: str) -> tuple[ModuleType, tuple[str, ...] | None]:
    """(module, coalition) of an attack or a preset; an attack names no coalition. Raises `ConfigError` as `find_attack`."""
    preset = PRESETS.get(name.replace("-", "_"))
    return (find_attack(name), None) if preset is None else (find_attack(preset.attack), preset.corrupted)
