"""`keyhole sweep NAME`: experiments over a grid, each resumable in its folder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from protocols.language.errors import ConfigError
from scenarios.show.terminal import console, reported

if TYPE_CHECKING:  # what attacks is imported when it is asked for: `keyhole list` need not wait for it
    from scenarios.study.sweep import Grid

Options = dict[str, Any]
Observe = Callable[[str, int], None]


def sweep(
    name: Annotated[
        str,
        typer.Argument(
            help="lp: images from one observation, by h and by the period of its rows; defences: each next to none."
        ),
    ],
    datasets: Annotated[
        str, typer.Option("--datasets", help="mnist | cifar10 (gray) | digits | FILE.npz, a list.")
    ] = "cifar10,mnist",
    hidden: Annotated[str, typer.Option("--hidden", help="Values of h, a list.")] = "350,500,750,900,1000",
    periods: Annotated[
        str, typer.Option("--periods", help="Of lp's smoothness rows, a list.")
    ] = "1000,16,9,4,2",
    images: Annotated[int, typer.Option("--images", help="Images a cell.")] = 20,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Holds mnist/ and cifar10/.")] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="As many as processors if not given.")
    ] = None,
    runtime: Annotated[str, typer.Option("--runtime", help="ray | inline: all in this process.")] = "ray",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the sweep; lp goes on with one that was begun.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Make the runs repeatable; drawn if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print sweep.json and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Run a grid of experiments: parallel, resumable, with a table, a CSV, curves and pictures at its end."""
    with reported():
        if name not in SWEEPS:
            raise ConfigError(f"unknown sweep {name!r}; known: {', '.join(SWEEPS)}")
        if runtime not in ("ray", "inline"):
            raise ConfigError(f"--runtime: expected ray or inline, got {runtime!r}")
        SWEEPS[name]({
            "datasets": _listed(datasets), "hidden": _integers("--hidden", hidden), "periods": _integers("--periods", periods),
            "images": images, "data_dir": data_dir, "processes": processes or os.cpu_count() or 1, "runtime": runtime,
            "out": out, "seed": seed, "as_json": as_json, "silent": as_json or quiet,
        })  # fmt: skip


def _lp(given: Options) -> None:
    from scenarios.study.sweep import Grid
    from scenarios.study.sweep import sweep as run_all
    from scenarios.study.sweep_files import write_files

    data_dir = None if given["data_dir"] is None else str(given["data_dir"].resolve())
    asked = Grid(
        given["datasets"], given["hidden"], given["periods"], given["images"], data_dir, given["seed"]
    )
    with _progress(asked, given["silent"]) as observe:
        folder, grid = run_all(asked, given["out"], given["runtime"], given["processes"], observe)
    content = write_files(grid, folder)
    if given["as_json"]:
        print(json.dumps(content, indent=1))
        return
    out = console()
    for dataset in grid.datasets:
        out.print(_table(grid, dataset, content["rows"]))
    out.print("mse: mean squared error, pixels in [0, 1], 0 is best · guess: the best without the view · projection: a gray image "
                  "corrected to fit the equations · ! failures among the images", style="dim")  # fmt: skip
    print(f"{folder}/   sweep.json · sweep.csv · {' · '.join(content['figures'])}")


def _defences(given: Options) -> None:
    from scenarios.study.defences import defences_table, row_count, sweep_defences

    with _counted(row_count(), given["silent"]) as observe:
        content = sweep_defences(given["out"], given["runtime"], given["seed"], observe)
    if given["as_json"]:
        print(json.dumps(content, indent=1))
    else:
        console().print(defences_table(content))


SWEEPS: dict[str, Callable[[Options], None]] = {"lp": _lp, "defences": _defences}


@contextmanager
def _counted(rows: int, silent: bool) -> Iterator[Observe]:
    """A progress bar of one line on a terminal, nothing elsewhere."""
    if silent or not sys.stderr.isatty():
        yield lambda event, value: None
        return
    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("runs", total=rows)
        yield lambda event, value: bar.update(task, completed=value)


@contextmanager
def _progress(grid: Grid, silent: bool) -> Iterator[Observe]:
    """A progress bar on a terminal, nothing elsewhere."""
    if silent or not sys.stderr.isatty():
        yield lambda event, value: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        runs = bar.add_task("runs", total=len(grid.datasets) * len(grid.hidden))
        cells = bar.add_task("cells", total=len(grid.cells()))
        yield lambda event, value: bar.update(runs if event == "run" else cells, completed=value)


def _table(grid: Grid, dataset: str, rows: list[dict[str, Any]]) -> Table:
    """The mean squared error of every cell of a data set: a row for each h."""
    from scenarios.study.sweep import LONE, stem

    names = [("lp", period) for period in grid.periods] + [(name, None) for name in LONE]
    found = {(row["hidden"], row["attack"], row["period"]): row for row in rows if row["dataset"] == dataset}
    table = Table(
        title=f"{stem(dataset)}: mse, {grid.images} images a cell",
        box=None,
        padding=(0, 2, 0, 0),
        title_justify="left",
    )
    for heading in ("h", *(f"lp {p}" if p else a for a, p in names), "projection", "guess", "protection"):
        table.add_column(heading, justify="left" if heading == "protection" else "right")
    for h in grid.hidden:
        first = found[(h, *names[0])]
        cells = [_cell(found[(h, *name)]) for name in names]
        table.add_row(
            str(h), *cells, _figure(first["projection_mse"]), _figure(first["guess_mse"]), first["security"]
        )
    return table


def _cell(row: dict[str, Any]) -> str:
    return _figure(row["mse"]) + (f" !{row['failures']}" if row["failures"] else "")


def _figure(mse: float) -> str:
    """Four digits, or the size of what these would show as 0; below 1e-12 there is nothing but rounding of floats."""
    return f"{mse:.4f}" if mse >= 5e-5 else "0" if mse < 1e-12 else f"{mse:.0e}"


def _listed(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _integers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in _listed(text))
    except ValueError:
        raise ConfigError(f"{option}: expected integers such as 350,500, got {text!r}") from None
