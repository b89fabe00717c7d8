"""The attacks by name: modules, and a table of solvers; and presets, an attack with the coalition that it is
meant for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, cast

import numpy as np

from parties.adversary.attack import Attack, Prior, Reconstruction, Relations
from parties.registry import module_of, of_others, opened, said
from protocols.language.errors import ConfigError
from protocols.language.relations import Equations, Instance, Products

Solve = Callable[[Relations, Prior, np.random.Generator], Reconstruction]
_WANTED = ("NAME", "SUMMARY", "CONSUMES", "solve")


@dataclass(frozen=True)
class Entry:
    """An attack that is a solver on some relations, or a function of a module that holds several."""

    NAME: str
    SUMMARY: str
    CONSUMES: tuple[Any, ...]
    module: str

    @property
    def solve(self) -> Solve:
        """What `Attack` asks for; its module is imported when it is used."""
        module = importlib.import_module(f"parties.adversary.{self.module}")
        solver = self.module.startswith("solvers.")
        found: Solve = _on_one_observation(module.prepare) if solver else getattr(module, self.NAME)
        return found


def _on_one_observation(prepare: Any) -> Solve:
    from parties.adversary.attacks.observation import with_solver

    return with_solver(prepare)


_TABLE = (
    Entry(
        "lp",
        "linear program on one observation: equations, pixel range, near neighbours (the paper)",
        (Equations,),
        "solvers.lp",
    ),
    Entry(
        "smooth",
        "smoothest image in the pixel range that explains one observation (quadratic program)",
        (Equations,),
        "solvers.smooth",
    ),
    Entry(
        "tv",
        "image of least total variation in the pixel range that explains one observation (ADMM)",
        (Equations,),
        "solvers.tv",
    ),
    Entry(
        "stack",
        "all function keys on all ciphertexts: exact integers once their rank is n",
        (Instance,),
        "attacks.all_keys",
    ),
    Entry(
        "smooth_stack",
        "smoothest image under the equations of all keys, where they have less than full rank",
        (Instance,),
        "attacks.all_keys",
    ),
    Entry(
        "unit_keys",
        "a malicious cloud asks for keys of unit vectors: exact integers after ceil(n / h) steps",
        (Instance,),
        "attacks.all_keys",
    ),
    Entry(
        "known_average",
        "many owners: the others' samples from the averages that one corrupted owner is given",
        (Products | Instance,),
        "attacks.known_maps",
    ),
    Entry(
        "known_init",
        "the first W1 is known, from a shared seed: the first batch, every sample for h >= n",
        (Products | Instance,),
        "attacks.known_maps",
    ),
)
_MODULES = (
    "bias",
    "class_sums",
    "cocktail",
    "conv",
    "exclusive",
    "gradient",
    "gram",
    "gram_public",
    "grnn",
    "inversion",
    "invert",
    "known_samples",
    "label_clusters",
    "label_outputs",
    "labels",
    "lattice",
    "lattice_gram",
    "lattice_span",
    "master_key",
    "moments",
    "spear",
    "stationary",
    "tensor",
    "update",
)
ATTACKS = tuple(sorted((*_MODULES, *(entry.NAME for entry in _TABLE))))

# Attacks on heads, by the modules of `heads` that hold them: they take heads, ciphertexts or answers, of many
# owners at once.
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


PRESETS: MappingProxyType[str, Preset] = MappingProxyType(
    {
        "authority": Preset(
            "master_key", ("key_authority", "cloud_trainer"), "the master key opens every ciphertext"
        ),
        "authority_alone": Preset(
            "gradient", ("key_authority",), "an estimate from requests for keys, without any ciphertext"
        ),
        "collusion": Preset(
            "known_average", ("cloud_trainer", "data_owner:1"), "many owners, the averaged W1"
        ),
    }
)


def find_attack(name: str) -> Attack:
    """An attack by its name (`-` and `_` are the same), or from a file (`load_attack`); `ConfigError` that
    lists the names.
    """
    if name.endswith(".py"):
        return load_attack(Path(name))
    plain = name.replace("-", "_")
    if plain in HEAD_ATTACKS:
        return cast(Attack, importlib.import_module(f"parties.adversary.heads.{HEAD_ATTACKS[plain]}"))
    if plain not in ATTACKS:
        return _of_others(name, plain)
    found: Any = next((entry for entry in _TABLE if plain == entry.NAME), None)
    module: Any = importlib.import_module(f"parties.adversary.attacks.{plain}") if found is None else None
    attack: Attack = found or module
    return attack


def summary(name: str) -> str:
    """What an attack of the project does, in a line."""
    if name in HEAD_ATTACKS:
        return said(f"parties.adversary.heads.{HEAD_ATTACKS[name]}", "SUMMARY")[0]
    found = next((entry.SUMMARY for entry in _TABLE if name == entry.NAME), None)
    return found or said(f"parties.adversary.attacks.{name}", "SUMMARY")[0]


def _of_others(name: str, plain: str) -> Attack:
    """An attack of a file that was loaded, or of an installed package."""
    module = of_others(plain, "solve", "keyhole.attacks")
    if module is None:
        known = ", ".join(a.replace("_", "-") for a in (*ATTACKS, *HEAD_ATTACKS, *PRESETS))
        raise ConfigError(f"unknown attack {name!r}; known: {known}, or the path of a file")
    return _checked(module)


def load_attack(path: Path) -> Attack:
    """The attack in a file of the user's; `ConfigError` that names everything that it lacks."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file of an attack")
    return _checked(module_of(opened(str(path))))


def _checked(module: ModuleType) -> Attack:
    lacks = [name for name in _WANTED if not hasattr(module, name)]
    if lacks:
        wanted = ", ".join(_WANTED)
        raise ConfigError(f"{module.__file__}: an attack has {wanted}; this file lacks {', '.join(lacks)}")
    return cast(Attack, module)


def find_target(name: str) -> tuple[Attack, tuple[str, ...] | None]:
    """(attack, coalition) of an attack or a preset; an attack names no coalition. Raises `ConfigError` as
    `find_attack`.
    """
    preset = PRESETS.get(name.replace("-", "_"))
    return (find_attack(name), None) if preset is None else (find_attack(preset.attack), preset.corrupted)
