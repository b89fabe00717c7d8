"""The small instance that an audit differentiates: random samples, and the configuration that follows from the options
of the protocol.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parties.audit.instance import Given, Instance
from parties.runtime.host import inputs_of
from protocols.language.errors import ConfigError
from protocols.language.options import option, options_of
from protocols.network.config import Activation, Training
from scenarios.run.experiment import Experiment, Scenario, prepare
from scenarios.run.folder import RunFolder
from scenarios.run.hosts import host_specs
from scenarios.run.options import RUN_OPTIONS, RuntimeName

_PANEL = "Instance"
_DEFAULTS = {"layers": (6,), "batch": 3, "epochs": 4, "lr": 0.5, "activation": Activation.SIGMOID}
_FORBIDDEN = ("preset", "dataset", "data_dir", "gray", "runtime", "address", "record", "attack", "corrupt", "malicious",
              "period", "threshold", "known", "quiet")  # fmt: skip


@dataclass(frozen=True)
class AuditOptions:
    """The size of the instance, and what is to be done with it."""

    samples: int = option(6, "Training samples of all owners.", panel=_PANEL, least=1, most=64)
    features: int = option(8, "Pixels of a sample.", panel=_PANEL, least=1, most=256)
    classes: int = option(3, "Classes.", panel=_PANEL, least=2, most=10)
    rebuild: int = option(0, "Look for the unknowns by Gauss-Newton from so many random starts.", panel="Audit", least=0)
    influence: bool = option(False, "Also replace each secret and say which messages change.", panel="Audit")


def audit_options(scenario: Scenario) -> dict[str, Any]:
    """What may be asked for: the protocol's own options, and those of the instance."""
    own = {name: each for name, each in scenario.options().items() if name not in _FORBIDDEN}
    return {**own, **options_of(AuditOptions)}


def small_instance(scenario: Scenario, given: dict[str, Any]) -> tuple[Instance, Experiment]:
    """The instance that was asked for; `ConfigError` with one line where it makes no sense."""
    sizes = AuditOptions(**{each.name: given[each.name] for each in fields(AuditOptions)
                            if given.get(each.name) is not None})  # fmt: skip
    known = scenario.options()
    asked = {name: value for name, value in given.items() if name in known and value not in (None, ())}
    if "hidden" in asked or "layers" in asked or "rounds" in asked:
        defaults = {name: value for name, value in _DEFAULTS.items() if name not in ("layers",) or not
                    ({"hidden", "layers"} & set(asked))}
    else:
        defaults = dict(_DEFAULTS)
    if "rounds" in asked:
        defaults.pop("epochs")
    filled = {**{name: value for name, value in defaults.items() if name in known}, **asked}
    with tempfile.TemporaryDirectory(prefix="keyhole-audit-") as folder:
        file = Path(folder) / "instance.npz"
        _written(file, sizes)
        filled |= {"dataset": str(file), "samples": sizes.samples, "runtime": RuntimeName.INLINE, "seed": asked.get("seed", 0)}
        if scenario.task is not None:
            filled.pop("samples")
            filled.setdefault("base", _base(Path(folder), sizes.features))
            filled.setdefault("queries", 4)
        experiment = prepare(scenario, filled)
        _ = experiment.bound
        specs = host_specs(experiment, RunFolder(Path(folder)))
        given_to = {
            name: Given(key, inputs_of(spec, index))
            for spec in specs for index, (name, key) in _numbered(spec)
        }  # fmt: skip
    public = next((dict(spec.public) for spec in specs if spec.public), {})
    counts = {role: len(experiment.players(role)) for role in experiment.roles}
    return Instance(experiment.protocol, experiment.config, counts, given_to, public, sizes.classes,
                    float(experiment.config.x_max)), experiment  # fmt: skip


def _numbered(spec: Any) -> Any:
    pairs = zip(spec.parties, spec.keys, strict=True)
    return ((int(name.partition(":")[2] or 0), (name, key)) for name, key in pairs)


def _written(file: Path, sizes: AuditOptions) -> None:
    """Random images and labels, every class among them; a few held-out ones, where somebody asks."""
    rng = np.random.default_rng(0)
    rows = next(r for r in range(math.isqrt(sizes.features), 0, -1) if sizes.features % r == 0)
    count = max(sizes.samples, sizes.classes) + 8
    images = rng.integers(0, 256, (count, rows, sizes.features // rows)).astype(np.uint8)
    images[0].flat[0] = 255
    labels = np.arange(count) % sizes.classes
    held = max(sizes.samples, sizes.classes)
    np.savez(file, images=images[:held], labels=labels[:held], test_images=images[held:], test_labels=labels[held:])


def _base(folder: Path, features: int) -> Path:
    """A public base of one layer that nobody trained."""
    path, generator = folder / "base.pt", torch.Generator().manual_seed(0)
    weight = torch.rand((features, features), generator=generator) / features**0.5
    torch.save({"0.weight": weight, "0.bias": torch.zeros(features)}, path)
    return path
