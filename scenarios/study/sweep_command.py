"""`keyhole sweep NAME`: experiments over a grid, each resumable in its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from protocols.language.errors import ConfigError
from scenarios.show.terminal import console, progress_of, reported


def sweep(
    name: Annotated[
        str,
        typer.Argument(
            help="lp: images from one observation, by h and by the period of its rows; "
            "defences: each next to none."
        ),
    ],
    datasets: Annotated[
        str, typer.Option("--datasets", help="mnist | cifar10 (gray) | digits | FILE.npz, a list.")
    ] = "cifar10,mnist",
    hidden: Annotated[str, typer.Option("--hidden", help="Values of h, a list.")] = "350,500,750,900,1000",
    periods: Annotated[
        str, typer.Option("--periods", help="Of lp's smoothness rows, a list.")
    ] = "1000,16,9,4,2",
    images: Annotated[int, typer.Option("--images", min=1, help="Images a cell.")] = 20,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Holds mnist/ and cifar10/.")] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="As many as processors if not given.")
    ] = None,
    runtime: Annotated[str, typer.Option("--runtime", help="ray | inline: all in this process.")] = "ray",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the sweep; one that was begun goes on.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Make the runs repeatable; drawn if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print sweep.json and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Run a grid of experiments: resumable, with a table, a CSV, curves and pictures at its end."""
    with reported():
        if name not in SWEEPS:
            raise ConfigError(f"unknown sweep {name!r}; known: {', '.join(SWEEPS)}")
        if runtime not in ("ray", "inline"):
            raise ConfigError(f"--runtime: expected ray or inline, got {runtime!r}")
        SWEEPS[name]({
            "datasets": datasets, "hidden": hidden, "periods": periods, "images": images,
            "data_dir": data_dir, "processes": processes or os.cpu_count() or 1, "runtime": runtime,
            "out": out, "seed": seed, "as_json": as_json, "silent": as_json or quiet,
        })  # fmt: skip


def _lp(given: dict[str, Any]) -> None:
    from scenarios.study.study import listed, numbers
    from scenarios.study.sweep_lp import NOTE, Grid, errors_table
    from scenarios.study.sweep_lp import sweep as run_all

    data_dir = None if given["data_dir"] is None else str(given["data_dir"].resolve())
    hidden, periods = (numbers(f"--{name}", given[name], int, 1) for name in ("hidden", "periods"))
    asked = Grid(listed(given["datasets"]), hidden, periods, given["images"], data_dir, given["seed"])
    with progress_of(len(asked.places()), given["silent"]) as observe:
        folder, content = run_all(asked, given["out"], given["runtime"], given["processes"], observe)
    if given["as_json"]:
        print(json.dumps(content, indent=1))
        return
    for dataset in asked.datasets:
        console().print(errors_table(content["settings"], dataset, content["rows"]))
    console().print(NOTE, style="dim")
    print(f"{folder}/   sweep.json · sweep.csv · {' · '.join(content['figures'])}")


def _defences(given: dict[str, Any]) -> None:
    from scenarios.study.sweep_defences import defences_table, run_count, sweep_defences

    with progress_of(run_count(), given["silent"]) as observe:
        content = sweep_defences(given["out"], given["runtime"], given["seed"], observe)
    if given["as_json"]:
        print(json.dumps(content, indent=1))
    else:
        console().print(defences_table(content))


SWEEPS: dict[str, Callable[[dict[str, Any]], None]] = {"lp": _lp, "defences": _defences}
