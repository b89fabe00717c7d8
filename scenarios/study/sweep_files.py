"""What a finished sweep leaves: sweep.json, sweep.csv, and for each data set the curves and the picture grids."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from scenarios.run.folder import load_run, write_json
from scenarios.show.pictures import COLUMNS, grid
from scenarios.show.sweep_chart import draw
from scenarios.study.sweep import SCHEMA, Cell, Grid, load_cell, load_images, stem


def write_files(sweep: Grid, folder: Path) -> dict[str, Any]:
    """Write all files of a finished sweep; returns what sweep.json holds."""
    rows = [flat_row(load_cell(folder, cell)) for cell in sweep.cells()]
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "sweep": "lp",
        "settings": asdict(sweep),
        "note": "pixels in [0, 1]; whoever knows the seed holds every key of the runs",
        "rows": rows,
        "figures": [],
    }
    for dataset in sweep.datasets:
        mine = [row for row in rows if row["dataset"] == dataset]
        name = f"curves-{stem(dataset)}.png"
        draw(folder / name, mine, _title(sweep, dataset))
        content["figures"] += [name, *_pictures(sweep, folder, dataset)]
    write_json(folder / "sweep.json", content)
    write_csv(folder / "sweep.csv", rows)
    return content


def flat_row(cell: dict[str, Any]) -> dict[str, Any]:
    """A cell in one line; the same in sweep.json and sweep.csv. `seconds` are those of the whole attack."""
    found, notes, baseline = cell["metrics"], cell["notes"], cell["baseline"]
    return {
        **{name: cell[name] for name in ("dataset", "hidden", "attack", "period", "samples")},
        "failures": found["failures"],
        "relaxed": notes["relaxed"],
        **{name: found[name] for name in ("mse", "mse_median")},
        **dict(zip(("mse_first_quartile", "mse_third_quartile"), found["mse_iqr"], strict=True)),
        **{name: found.get(name) for name in ("psnr", "ssim", "exact_pixels")},
        **{f"{name}_mse": baseline[name]["mse"] for name in ("guess", "swapped", "projection")},
        "equations": notes["equations_per_sample"][0],
        "seconds": cell["seconds"],
        "seconds_per_image_median": notes["seconds_per_image_median"],
        "security": cell["security"].partition(":")[0],
    }


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """A line a cell; empty where there is no value."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _pictures(sweep: Grid, folder: Path, dataset: str) -> list[str]:
    """The picture grids of a data set: by width at one period, and by period at the smallest width."""
    narrow, period = min(sweep.hidden), min(sweep.periods, key=lambda p: abs(p - 4))
    by_hidden = [Cell(dataset, h, a, p) for h in sweep.hidden for a, p in (("lp", period), ("tv", None))]
    by_period = [Cell(dataset, narrow, "lp", p) for p in sweep.periods]
    by_period += [Cell(dataset, narrow, a, None) for a in ("smooth", "tv")]
    said = {
        cell: f"lp {cell.period}\nh = {cell.hidden}" if cell.period else f"{cell.attack}\nh = {cell.hidden}"
        for cell in by_hidden
    }
    titles = {cell: f"lp, period\n{cell.period}" if cell.period else cell.attack for cell in by_period}
    figures = {
        f"pictures-{stem(dataset)}-by-hidden.png": (said, f"lp with period {period}, and tv, by the width h"),
        f"pictures-{stem(dataset)}-by-period.png": (
            titles,
            f"h = {narrow}: by the period of lp, smooth and tv",
        ),
    }
    for name, (cells, heading) in figures.items():
        _grid(folder, name, cells, f"{_title(sweep, dataset)}; {heading}")
    return list(figures)


def _grid(folder: Path, name: str, cells: dict[Cell, str], heading: str) -> None:
    """Originals, the projection where all rows are of one width, and a row for each cell."""
    first = next(iter(cells))
    stored = load_images(folder, first)
    shown = stored["index"][:COLUMNS]
    truth = load_run(folder / "runs" / first.run).truth()
    rows: dict[str, np.ndarray[Any, Any]] = {}
    if len({cell.hidden for cell in cells}) == 1:
        rows["projection"] = stored["projection"][:COLUMNS]
    rows |= {title: load_images(folder, cell)["values"][:COLUMNS] for cell, title in cells.items()}
    grid(folder / name, truth.pixels(shown), rows, truth.shape, heading=heading)


def _title(sweep: Grid, dataset: str) -> str:
    what = "CIFAR-10, gray" if dataset == "cifar10" else "MNIST" if dataset == "mnist" else stem(dataset)
    return f"{what}, {sweep.images} images, plain FE (LWE), one observation"
