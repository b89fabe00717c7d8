"""A study: a grid of cells, each a function of its parameters, whose rows are written as they finish.

    folder, settings = begun("sweep-lp", out, {"hidden": [350, 500], "seed": None})
    rows = carry_out(Study("sweep-lp", LpRow, settings, cells), folder, pool)

A folder holds `settings.json` and a file in `cells/` for each finished cell, written in one move. A study
that was stopped keeps what is finished, and the same command with the same `--out` goes on with the cells
that are missing.
"""

from __future__ import annotations

import csv
import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from protocols.language.errors import ConfigError, DataError, KeyholeError
from scenarios.run.execute import Observe, execute, interruptible
from scenarios.run.experiment import Experiment
from scenarios.run.folder import RunFolder, free_path, load_run, private_file, private_folder, write_json

Row = TypeVar("Row")
Settings = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One place of a grid: `work(*arguments)` returns its rows. Its `name` is that of its file, unique in the
    study.

    A pool of other processes takes functions of a module and plain arguments only.
    """

    name: str
    work: Callable[..., Sequence[Any]]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Study(Generic[Row]):
    """A grid. `row` is the dataclass of its rows, `settings` in plain data all that its rows depend on.

    `before` makes what missing cells need. `lasting`: whether rows are kept; a cell whose rows are not is
    tried again when the study goes on.
    """

    name: str
    row: type[Row]
    settings: Settings
    cells: Sequence[Cell]
    before: Callable[[Observe], None] = lambda observe: None
    lasting: Callable[[Sequence[Row]], bool] = lambda rows: True


Pool = Callable[[Sequence[Cell]], Iterator[tuple[int, Sequence[Any]]]]


class Interrupted(KeyholeError):
    """The study was stopped; what is finished is kept."""


def unseen(event: str, value: int) -> None:
    """Watches nothing."""


def inline(cells: Sequence[Cell]) -> Iterator[tuple[int, Sequence[Any]]]:
    """One cell after the other, in this process."""
    return ((position, cell.work(*cell.arguments)) for position, cell in enumerate(cells))


@contextmanager
def workers(runtime: str, processes: int) -> Iterator[Pool]:
    """Cells in this process (`inline`), or in so many processes of a Ray session that ends with the block."""
    if runtime == "inline":
        yield inline
        return
    from parties.runtime import ray_session, ray_tasks

    with ray_session.cluster(cpus=processes):
        yield lambda cells: ray_tasks.as_completed(_worked, [(c.work, c.arguments) for c in cells], processes)


def _worked(work: Callable[..., Sequence[Any]], arguments: tuple[Any, ...]) -> Sequence[Any]:
    return work(*arguments)


def begun(name: str, out: Path | None, settings: Settings, seed_bits: int = 256) -> tuple[Path, Settings]:
    """(folder, settings with a seed): those of a study that goes on in `out`, or of a new one.

    A seed of None is that of the folder, or drawn. `ConfigError` for a folder that was begun with other
    settings, `DataError` for one that holds something else.
    """
    plain = json.loads(json.dumps({"study": name, **settings}))
    if out is None or not (out / "settings.json").is_file():
        seed = secrets.randbits(seed_bits) if plain.get("seed") is None else plain["seed"]
        return free_path(out, name), {**plain, "seed": seed}
    stored = read_json(out / "settings.json")
    plain["seed"] = stored.get("seed") if plain.get("seed") is None else plain["seed"]
    differing = [key for key in {**plain, **stored} if plain.get(key) != stored.get(key)]
    if differing:
        raise ConfigError(
            f"{out}: begun with other options ({', '.join(differing)}); give those, or another --out"
        )
    return out, plain


def carry_out(
    study: Study[Row], folder: Path | None, pool: Pool = inline, observe: Observe = unseen
) -> list[Row]:
    """The rows of all cells in their order: those that the folder holds, and the missing ones, which are
    carried out.

    Without a folder nothing is kept. `observe("cell", how many are finished)`.
    """
    found = {} if folder is None else _stored(study, folder)
    missing = [cell for cell in study.cells if cell.name not in found]
    if folder is not None:
        _open(study, folder)
    try:
        with interruptible(observe) as watched:
            if missing:
                study.before(watched)
            watched("cell", len(found))
            for position, rows in pool(missing):
                name = missing[position].name
                found[name] = list(rows)
                if folder is not None and study.lasting(rows):
                    write_json(cell_path(folder, name), {"rows": [plain_row(row) for row in rows]})
                watched("cell", len(found))
    except KeyboardInterrupt:
        if folder is None:
            raise
        kept = f"interrupted; {len(found)} of {len(study.cells)} cells are kept"
        raise Interrupted(f"{kept}: go on with the same options and --out {folder}") from None
    return [row for cell in study.cells for row in found[cell.name]]


def run_in(path: Path, experiment: Experiment, observe: Observe = unseen) -> RunFolder:
    """The run that a folder holds, if it is finished; else it is carried out there."""
    if not (path / "result.json").is_file():
        shutil.rmtree(path, ignore_errors=True)  # half a run
        execute(replace(experiment, out=path), observe)
    return load_run(path)


def cell_path(folder: Path, name: str, suffix: str = ".json") -> Path:
    """The file of a finished cell, or another one beside it."""
    return folder / "cells" / f"{name}{suffix}"


def plain_row(row: Any) -> dict[str, Any]:
    """A row as plain data, without what has a default of None and no value."""
    optional = {f.name for f in fields(row) if f.default is None}
    return {name: value for name, value in asdict(row).items() if value is not None or name not in optional}


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A line a row, a column for every name; empty where a row has no value."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with private_file(path) as file:  # a seed that is named here gives every key of the runs
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows(rows)


def read_json(path: Path) -> dict[str, Any]:
    """A file of a study; `DataError` with the remedy if it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        content = None
    if not isinstance(content, dict):
        raise DataError(f"{path}: cannot be read as a JSON object; remove it, and this part is done again")
    return content


def listed(text: str) -> tuple[str, ...]:
    """The different parts of a list on the command line."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def numbers(option: str, text: str, kind: type[int] | type[float], least: float) -> tuple[Any, ...]:
    """A list of numbers on the command line; `ConfigError` for anything else or below `least`."""
    said = f"{'integers' if kind is int else 'numbers'} of at least {least:g}, such as 350,500"
    try:
        found = tuple(kind(part) for part in listed(text))
    except ValueError:
        raise ConfigError(f"{option}: expected {said}, got {text!r}") from None
    if not found or not min(found) >= least:
        raise ConfigError(f"{option}: expected {said}, got {text!r}")
    return found


def _stored(study: Study[Row], folder: Path) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    names = {f.name for f in fields(study.row)}  # type: ignore[arg-type]
    needed = {f.name for f in fields(study.row) if f.default is MISSING}  # type: ignore[arg-type]
    for cell in study.cells:
        path = cell_path(folder, cell.name)
        if path.is_file():
            rows = read_json(path).get("rows")
            if not isinstance(rows, list) or not all(needed <= {*row} <= names for row in rows):
                raise DataError(
                    f"{path}: holds no rows of this study; remove it, and this part is done again"
                )
            found[cell.name] = [study.row(**row) for row in rows]
    return found


def _open(study: Study[Any], folder: Path) -> None:
    for path in (folder, folder / "cells"):
        private_folder(path)
    write_json(folder / "settings.json", study.settings)
