"""A grid of runs: every combination of swept options, each in a folder of its own, and one table.

It is a study (`scenarios/study/study.py`): what is complete is not run again; a run that was stopped goes on
where it stood, if it can. The row of a run whose folder is not there any more is none: it is carried out
again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from protocols.language.errors import ConfigError, KeyholeError
from protocols.language.options import as_plain
from scenarios.page.answer import answer
from scenarios.page.page import write_report
from scenarios.run.certify import stored_experiment
from scenarios.run.config_file import Plan, plan_of
from scenarios.run.execute import execute, resume
from scenarios.run.experiment import Experiment, prepare
from scenarios.run.folder import RunFolder, free_path, load_run, write_json
from scenarios.run.status import State, status_of
from scenarios.show.summary import outcome, share, size
from scenarios.show.tables import table
from scenarios.show.units import span
from scenarios.study.study import Cell, Study, carry_out, cell_path, plain_row, read_json, write_csv

NAME = "grid"
DONE, FAILED = "done", "failed"
Watch = Callable[[str, Experiment], AbstractContextManager[Callable[[str, int], None]]]


@dataclass(frozen=True)
class GridRow:
    """A run of a grid: its folder, what was swept, and what came of it; `why` it failed, if it did."""

    run: str
    swept: dict[str, Any]
    status: str
    test: float | None = None
    baseline_test: float | None = None
    seconds: float | None = None
    bytes: int | None = None
    attacks: dict[str, str] | None = None
    answer: str | None = None
    why: str | None = None


def is_grid(path: Path) -> bool:
    """Whether a folder is that of a grid."""
    return (path / "settings.json").is_file() and read_json(path / "settings.json").get("study") == NAME


def grid_of(path: Path) -> Plan:
    """The plan of a grid that was begun in a folder."""
    stored = read_json(path / "settings.json")
    return plan_of({key: stored.get(key) for key in ("scenario", "options", "sweep")}, path / "settings.json")


def run_grid(plan: Plan, out: Path | None, watch: Watch) -> tuple[Path, dict[str, Any]]:
    """Carry out what is missing of a grid; returns its folder and what grid.json holds."""
    settings = {"study": NAME, **plan.as_plain()}
    folder = _folder(out, settings)
    runs = list(plan.runs())
    twice = {name for name, _, _ in runs if [each[0] for each in runs].count(name) > 1}
    if twice:
        raise ConfigError(f"two runs of the grid would be called {min(twice)}: shorten what is swept")
    cells = [Cell(name, _one, (plan, folder, name, swept, all_, watch)) for name, swept, all_ in runs]
    study = Study(NAME, GridRow, settings, cells, lasting=lambda rows: rows[0].status == DONE)
    for name, _, _ in runs:
        if not _complete(folder / name):
            cell_path(folder, name).unlink(missing_ok=True)
    rows = carry_out(study, folder)
    content = {"schema": 1, **settings, "rows": [plain_row(row) for row in rows]}
    write_json(folder / "grid.json", content)
    write_csv(folder / "grid.csv", [_flat(row) for row in content["rows"]])
    return folder, content


def _complete(path: Path) -> bool:
    """Whether the folder of a run is there, and the run came to its end."""
    return (path / "result.json").is_file() and status_of(RunFolder(path)).complete


def _folder(out: Path | None, settings: dict[str, Any]) -> Path:
    if out is None or not (out / "settings.json").is_file():
        return free_path(out, NAME)
    stored = read_json(out / "settings.json")
    differing = [key for key in {**settings, **stored} if settings.get(key) != stored.get(key)]
    if differing:
        raise ConfigError(f"{out}: begun with other options ({', '.join(differing)}); give another --out")
    return out


def _one(
    plan: Plan, folder: Path, name: str, swept: dict[str, Any], options: dict[str, Any], watch: Watch
) -> list[GridRow]:
    plain = {key: _plain(value) for key, value in swept.items()}
    try:
        experiment = replace(prepare(plan.scenario, options), out=folder / name)
        run, result = _carried(folder / name, experiment, watch)
    except KeyholeError as cause:
        return [GridRow(name, plain, FAILED, why=" ".join(str(cause).split()))]
    accuracy, seconds = result["accuracy"], result["seconds"]
    return [
        GridRow(
            name, plain, DONE, accuracy["test"], accuracy["baseline_test"],
            round(seconds["setup"] + seconds["train"], 3), sum(edge["bytes"] for edge in result["traffic"]),
            {row.get("preset") or row["attack"]: outcome(row) for row in result["attacks"]}, answer(result),
        )
    ]  # fmt: skip


def _plain(value: Any) -> Any:
    """A swept value for a column."""
    plain = as_plain(value)
    return ",".join(map(str, plain)) if isinstance(plain, list) else plain


def _carried(path: Path, experiment: Experiment, watch: Watch) -> tuple[RunFolder, dict[str, Any]]:
    """A run of the grid: as it stands if it is complete, on from where it stood if it can, or from the
    beginning.
    """
    if (path / "config.json").is_file():
        run = load_run(path)
        status = status_of(run)
        if status.complete:
            return run, run.result
        if status.state is not State.RUNNING and stored_experiment(run).resumable:
            with watch(path.name, experiment) as observe:
                return _told(*resume(path, observe, experiment.address, experiment.log_to))
    with watch(path.name, experiment) as observe:
        return _told(*execute(experiment, observe))


def _told(run: RunFolder, result: dict[str, Any]) -> tuple[RunFolder, dict[str, Any]]:
    write_report(run)
    return run, result


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    attacks = {f"attack {name}": told for name, told in (row.get("attacks") or {}).items()}
    rest = {key: value for key, value in row.items() if key not in ("swept", "attacks")}
    return {"run": rest.pop("run"), **row["swept"], **rest, **attacks}


def grid_table(content: Mapping[str, Any]) -> RenderableType:
    """A line a run: what was swept, accuracy, time, traffic, what attacks rebuilt."""
    rows = content["rows"]
    swept = list(content["sweep"])
    attacks = list(dict.fromkeys(name for row in rows for name in row.get("attacks") or {}))
    columns = (*swept, ">test", ">baseline", ">time", ">bytes", *(name.replace("_", "-") for name in attacks))
    lines = []
    for row in rows:
        values = [str(row["swept"][name]) or "none" for name in swept]
        if row["status"] != DONE:
            lines.append((*values, "-", "-", "-", "-", f"failed: {row['why']}", *[""] * (len(attacks) - 1)))
            continue
        figures = (
            share(row.get("test")),
            share(row.get("baseline_test")),
            span(row["seconds"]),
            size(row["bytes"]),
        )
        lines.append((*values, *figures, *((row.get("attacks") or {}).get(name, "") for name in attacks)))
    if not attacks and any(row["status"] != DONE for row in rows):
        columns, lines = (
            (*columns, "why"),
            [line if len(line) > len(columns) else (*line, "") for line in lines],
        )
    return table(columns, lines, f"{content['scenario']}: {len(rows)} runs")


def failed(content: Mapping[str, Any]) -> bool:
    """Whether a run of the grid failed."""
    return any(row["status"] != DONE for row in content["rows"])
