"""The matrix on paper: a table for the terminal, matrix.csv, and pictures of its curves and of what was rebuilt."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

from scenarios.show.pictures import grid
from scenarios.study.matrix import Matrix, name_of
from scenarios.study.matrix_bench import Row

_DPI = 150
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000")
_STYLES = ("-", "--", ":", "-.")
_LEAST = 1e-3  # false positive rate at which the axis begins


def write_matrix(folder: Path, found: Matrix) -> list[str]:
    """Write matrix.csv, roc.png and rebuilt.png into a folder that exists; returns their names."""
    write_csv(folder / "matrix.csv", found.rows)
    draw_curves(folder / "roc.png", found)
    draw_images(folder / "rebuilt.png", found)
    return ["matrix.csv", "roc.png", "rebuilt.png"]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """A line a row; empty where a row has no such value, an interval as two columns."""
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows(flat)


def draw_curves(path: Path, found: Matrix) -> None:
    """True against false positive rates, the latter on a logarithmic axis, a curve for each row that has one."""
    figure = Figure(figsize=(9.6, 5.2), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    chance = np.geomspace(_LEAST, 1, 100)
    axes.plot(chance, chance, color="0.75", linewidth=0.8)
    axes.axvline(0.01, color="0.85", linewidth=0.8)
    for i, (name, (allowed, tpr)) in enumerate(found.curves.items()):
        style = _STYLES[i // len(_COLOURS) % len(_STYLES)]
        axes.plot(
            allowed[1:],
            tpr[1:],
            label=name,
            linewidth=1.4,
            color=_COLOURS[i % len(_COLOURS)],
            linestyle=style,
        )
    axes.set(
        xscale="log",
        xlim=(_LEAST, 1),
        ylim=(0, 1.01),
        xlabel="false positive rate",
        ylabel="true positive rate",
    )
    axes.set_title(_title(found), fontsize=9.5, loc="left")
    figure.legend(loc="outside right center", fontsize=7.5, frameon=False)
    figure.savefig(path, format="png", dpi=_DPI, metadata={"Software": None})


def draw_images(path: Path, found: Matrix) -> None:
    """The first victims' images, and below them what each row made of them."""
    shape = found.shape[:2] if found.shape[2:] == (1,) else found.shape
    named = {
        name.replace(": ", "\n").replace(", ", "\n").replace("000 queries", "k queries"): images
        for name, images in found.pictures.items()
    }
    grid(path, found.truth, named, shape, heading=_title(found))


def table(found: Matrix) -> Table:
    """For the terminal; a rate in bold where it is above the false positive rate by more than its interval."""
    wide = Table(title=_title(found), title_justify="left", box=None, pad_edge=False)
    for name in (
        "defence",
        "attack",
        "accuracy",
        "TPR at FPR 1 %",
        "95 %",
        "one null for all",
        "TPR at 10 %",
        "AUC",
        "nulls",
        "queries",
        "s",
    ):
        wide.add_column(name, justify="left" if name in ("defence", "attack") else "right")
    for row in found.rows:
        wide.add_row(*_cells(row))
    return wide


def _cells(row: Row) -> list[str]:
    defence, _, attack = name_of(row | {"queries": 0}).partition(": ")
    if "delta" in row:
        defence += f", delta {row['delta']:.2g}"
    start = [defence, attack, f"{row['accuracy']:.3f}"]
    if not row["applicable"]:
        return [*start, "not applicable", "", "", "", "", "", "", ""]
    low, high = row["interval_01"]
    rate = f"{row['tpr_at_fpr_01']:.3f}"
    return [*start, f"[bold]{rate}[/bold]" if low > 0.01 else rate, f"{low:.3f} to {high:.3f}", f"{row['tpr_pooled_01']:.3f}",
            f"{row['tpr_at_fpr_10']:.3f}", f"{row['auc']:.3f}", str(row["nulls"]), str(row["queries"] or ""),
            f"{row['seconds']:.1f}"]  # fmt: skip


def _title(found: Matrix) -> str:
    s = found.setting
    return (f"{s['dataset']}, {s['classes']} classes, {s['shots']} private image(s) a class, {s['victims']} victims, "
            f"chance {s['chance']:.2f}")  # fmt: skip


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        ends = value if isinstance(value, list) else (None, None)
        flat |= (
            {f"{name}_low": ends[0], f"{name}_high": ends[1]}
            if name.startswith("interval")
            else {name: value}
        )
    return flat
