"""Sweep `lp`, the paper's experiment: an image from one observation, by the width of the first layer and by the rows of the program.

For each data set and width h one real run of plain FE (LWE), one training step long; the attacks see the cloud's view of
it. `lp` is repeated for each period of its smoothness rows; `smooth` and `tv`, which have none, stand next to it.

A sweep is a folder: `settings.json`, `runs/`, `cells/` with two files for each finished cell, written at once, and at the end what
`sweep_files.py` writes. Begun again in the same folder it goes on with the cells that are missing.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from parties.adversary.adversary import Attacked, attack_view
from parties.data.datasets import NAMES
from protocols.language.errors import ConfigError, DataError, KeyholeError
from protocols.language.roles import CLOUD_TRAINER
from scenarios.run.attacks import scored
from scenarios.run.catalogue import find_scenario
from scenarios.run.execute import Observe, execute, interruptible
from scenarios.run.experiment import Experiment, Options, prepare
from scenarios.run.folder import RunFolder, free_path, load_run, write_json

SCHEMA = 1
LONE = ("smooth", "tv")  # attacks without a period
_LEAST_SAMPLES = 20  # in a run; at least as many as images are attacked
_ATTACK_SEED = 0  # none of these attacks draws

AsCompleted = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterator[tuple[int, Any]]]


@dataclass(frozen=True)
class Grid:
    """What is swept; `seed` None draws one, or takes that of the folder in which the sweep was begun."""

    datasets: tuple[str, ...]
    hidden: tuple[int, ...]
    periods: tuple[int, ...]
    images: int
    data_dir: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        stems = [stem(dataset) for dataset in self.datasets]
        if not self.datasets or len(set(stems)) < len(stems):
            raise ConfigError(f"--datasets: expected different ones of {', '.join(NAMES)} and FILE.npz")
        for name, values in (("hidden", self.hidden), ("periods", self.periods), ("images", (self.images,))):
            if not values or min(values) < 1:
                raise ConfigError(f"--{name}: expected integers of at least 1")

    def cells(self) -> list[Cell]:
        """All cells, run by run."""
        attacks = [("lp", period) for period in self.periods] + [(name, None) for name in LONE]
        return [Cell(d, h, attack, p) for d in self.datasets for h in self.hidden for attack, p in attacks]


@dataclass(frozen=True)
class Cell:
    """One attack with one prior on one run; `period` None where the attack has none."""

    dataset: str
    hidden: int
    attack: str
    period: int | None

    @property
    def run(self) -> str:
        """Name of the run that is attacked."""
        return f"{stem(self.dataset)}-h{self.hidden}"

    @property
    def name(self) -> str:
        """Name of the cell's files."""
        return f"{self.run}-{self.attack}" + ("" if self.period is None else f"-period{self.period}")


class Interrupted(KeyholeError):
    """The sweep was stopped; what is finished is kept."""


def stem(dataset: str) -> str:
    """A data set's name in the names of files."""
    return Path(dataset).stem


def sweep(
    grid: Grid, out: Path | None, runtime: str, processes: int, observe: Observe = lambda event, value: None
) -> tuple[Path, Grid]:
    """Fill in all cells that are missing; returns the folder and the grid with its seed.

    `observe("run" | "cell", how many are finished)`. Raises `ConfigError` for a folder that was begun with other options.
    """
    grid, folder = begun(grid, out)
    experiments = {(d, h): _experiment(grid, d, h, runtime) for d in grid.datasets for h in grid.hidden}
    _open(grid, folder)
    try:
        with ExitStack() as stack:
            watched = stack.enter_context(interruptible(observe))
            pool = _pool(stack, runtime, processes)
            runs = _train(experiments, folder, watched)
            _attack(grid, folder, runs, pool, watched)
    except KeyboardInterrupt:
        kept = f"interrupted; {finished(grid, folder)} of {len(grid.cells())} cells are kept"
        raise Interrupted(f"{kept}: go on with the same options and --out {folder}") from None
    return folder, grid


def begun(grid: Grid, out: Path | None) -> tuple[Grid, Path]:
    """(grid with its seed, folder): those of a sweep that goes on, or of a new one."""
    if out is not None and (out / "settings.json").is_file():
        stored = _stored(out / "settings.json")
        grid = grid if grid.seed is not None else replace(grid, seed=stored.get("seed"))
        plain = json.loads(json.dumps(_settings(grid)))
        differing = [name for name in plain if plain[name] != stored.get(name)]
        if differing:
            raise ConfigError(
                f"{out}: begun with other options ({', '.join(differing)}); give those, or another --out"
            )
        return grid, out
    return grid if grid.seed is not None else replace(grid, seed=secrets.randbits(256)), free_path(
        out, "sweep-lp"
    )


def load_cell(folder: Path, cell: Cell) -> dict[str, Any]:
    """What a finished cell found."""
    return _stored(folder / "cells" / f"{cell.name}.json")


def load_images(folder: Path, cell: Cell) -> dict[str, np.ndarray[Any, Any]]:
    """`index` (m,), `values` and, where there is one, `projection` (m, n) of a finished cell; pixels in [0, 1]."""
    with np.load(folder / "cells" / f"{cell.name}.npz", allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def finished(grid: Grid, folder: Path) -> int:
    """How many cells are finished."""
    return sum(_done(folder, cell) for cell in grid.cells())


def _done(folder: Path, cell: Cell) -> bool:
    return (folder / "cells" / f"{cell.name}.json").is_file()


def _settings(grid: Grid) -> dict[str, Any]:
    return {"schema": SCHEMA, "sweep": "lp", **asdict(grid)}


def _stored(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        raise DataError(f"{path}: cannot be read as JSON; remove it, and this part is done again") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object")
    return content


def _open(grid: Grid, folder: Path) -> None:
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "cells").mkdir(exist_ok=True)
    except OSError as cause:
        raise DataError(f"{folder}: cannot be made: {cause.strerror}") from None
    write_json(folder / "settings.json", _settings(grid))


def _experiment(grid: Grid, dataset: str, hidden: int, runtime: str) -> Experiment:
    """One training step of plain FE on as many samples as are attacked; the same ones for every width."""
    samples = max(_LEAST_SAMPLES, grid.images)
    files = (
        None
        if grid.data_dir is None or dataset not in ("mnist", "cifar10")
        else Path(grid.data_dir) / dataset
    )
    options = Options(
        dataset=dataset, data_dir=files, gray=dataset == "cifar10" or None, samples=samples, batch=samples, hidden=hidden,
        epochs=1, runtime=runtime, seed=grid.seed,
    )  # fmt: skip
    return prepare(find_scenario("plain_fe"), options)


def _train(
    experiments: dict[tuple[str, int], Experiment], folder: Path, observe: Observe
) -> dict[str, RunFolder]:
    """The runs by name, those that are missing carried out."""
    runs = {}
    for count, ((dataset, hidden), experiment) in enumerate(experiments.items(), start=1):
        name = Cell(dataset, hidden, "", None).run
        path = (folder / "runs" / name).resolve()
        if not (path / "result.json").is_file():
            shutil.rmtree(path, ignore_errors=True)  # half a run
            execute(replace(experiment, out=path))
        runs[name] = load_run(path)
        observe("run", count)
    return runs


def _attack(
    grid: Grid, folder: Path, runs: dict[str, RunFolder], pool: AsCompleted, observe: Observe
) -> None:
    """Fill in the cells that are missing."""
    missing = [cell for cell in grid.cells() if not _done(folder, cell)]
    done, truths = len(grid.cells()) - len(missing), {name: run.truth() for name, run in runs.items()}
    observe("cell", done)
    shared = {
        name: replace(run.prior(), limit=grid.images) for name, run in runs.items()
    }  # one array of public images a run
    priors = [replace(shared[c.run], period=c.period or shared[c.run].period) for c in missing]
    tasks = [
        (runs[cell.run].view_sources((CLOUD_TRAINER.value,)), cell.attack, prior, _ATTACK_SEED)
        for cell, prior in zip(missing, priors, strict=True)
    ]
    for position, attacked in pool(attack_view, tasks):
        cell = missing[position]
        row = scored(attacked, priors[position], truths[cell.run])
        _save(
            folder,
            cell,
            {**asdict(cell), "security": runs[cell.run].result["security"]["scheme"], **row},
            attacked,
        )
        done += 1
        observe("cell", done)


def _save(folder: Path, cell: Cell, content: dict[str, Any], attacked: Attacked) -> None:
    """Write a cell's two files, that which says that it is finished last."""
    rebuilt = attacked.reconstruction
    if rebuilt is None:
        raise DataError(f"{cell.name}: not applicable: {attacked.why}")
    images = {"index": rebuilt.index, "values": rebuilt.values.astype(np.float32)}
    if rebuilt.projection is not None:
        images["projection"] = rebuilt.projection.astype(np.float32)
    part = folder / "cells" / f"{cell.name}.part.npz"
    np.savez_compressed(part, **images)  # type: ignore[arg-type]  # numpy's keyword arguments are typed as its own flag
    part.replace(folder / "cells" / f"{cell.name}.npz")
    write_json(folder / "cells" / f"{cell.name}.json", content)


def _pool(stack: ExitStack, runtime: str, processes: int) -> AsCompleted:
    """How tasks are carried out: one after the other in this process, or by Ray."""
    if runtime == "inline":
        return lambda function, tasks: ((i, function(*task)) for i, task in enumerate(tasks))
    from parties.runtime import on_ray

    stack.enter_context(on_ray.cluster(cpus=processes))
    return lambda function, tasks: on_ray.as_completed(function, tasks, processes)
