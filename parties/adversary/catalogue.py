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
from parties.adversary.attacks import all_keys, known_maps
from parties.adversary.attacks.observation import with_solver
from parties.adversary.solvers import lp, smooth, tv
from parties.registry import module_of, of_others, opened
from protocols.language.errors import ConfigError
from protocols.language.relations import Equations, Instance, Products

Solve = Callable[[Relations, Prior, np.random.Generator], Reconstruction]
_WANTED = ("NAME", "SUMMARY", "CONSUMES", "solve")


@dataclass(frozen=True)
class Entry:
    """An attack that is a solver on some relations."""

    NAME: str
    SUMMARY: str
    CONSUMES: tuple[Any, ...]
    solve: Solve


_TABLE = (
    Entry(
        "lp",
        "linear program on one observation: equations, pixel range, near neighbours (the paper)",
        (Equations,),
        with_solver(lp.prepare),
    ),
    Entry(
        "smooth",
        "smoothest image in the pixel range that explains one observation (quadratic program)",
        (Equations,),
        with_solver(smooth.prepare),
    ),
    Entry(
        "tv",
        "image of least total variation in the pixel range that explains one observation (ADMM)",
        (Equations,),
        with_solver(tv.prepare),
    ),
    Entry(
        "stack",
        "all function keys on all ciphertexts: exact integers once their rank is n",
        (Instance,),
        all_keys.stack,
    ),
    Entry(
        "smooth_stack",
        "smoothest image under the equations of all keys, where they have less than full rank",
        (Instance,),
        all_keys.smooth_stack,
    ),
    Entry(
        "unit_keys",
        "a malicious cloud asks for keys of unit vectors: exact integers after ceil(n / h) steps",
        (Instance,),
        all_keys.unit_keys,
    ),
    Entry(
        "known_average",
        "many owners: the others' samples from the averages that one corrupted owner is given",
        (Products | Instance,),
        known_maps.known_average,
    ),
    Entry(
        "known_init",
        "the first W1 is known, from a shared seed: the first batch, every sample for h >= n",
        (Products | Instance,),
        known_maps.known_init,
    ),
)
_MODULES = (
    "conv",
    "gradient",
    "gram",
    "inversion",
    "known_samples",
    "label_clusters",
    "label_outputs",
    "labels",
    "lattice",
    "lattice_gram",
    "lattice_span",
    "master_key",
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
