"""The curves of sweep `lp`: mean squared error against the width of the first layer, on matplotlib's Figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DPI = 150
_FLOOR = 1 / 255**2 / 12  # the mean squared error of rounding to a quantum: what is below it is drawn on it
_SMOOTH, _TV, _GRAY = "#ee7733", "#cc3311", "0.45"


def draw(path: Path, rows: Sequence[dict[str, Any]], title: str) -> None:
    """Write a PNG with a line for each period of `lp`, for `smooth` and `tv`, and for the baselines; `rows` as in sweep.json."""
    figure = Figure(figsize=(8.6, 4.9), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, fontsize=10.5, loc="left")
    periods = sorted({row["period"] for row in rows if row["attack"] == "lp"}, reverse=True)
    lp = [row for row in rows if row["attack"] == "lp" and row["period"] == periods[0]]
    _line(axes, lp, "guess_mse", "guess: mean image", color=_GRAY, linestyle=":")
    _line(axes, lp, "projection_mse", "projection", color=_GRAY, linestyle="--")
    for place, period in enumerate(periods):
        shade = colormaps["viridis"](0.85 * place / max(1, len(periods) - 1))
        mine = [row for row in rows if row["attack"] == "lp" and row["period"] == period]
        _line(axes, mine, "mse", f"lp, period {period}", color=shade, marker="o", markersize=4)
    for name, colour, marker in (("smooth", _SMOOTH, "s"), ("tv", _TV, "^")):
        mine = [row for row in rows if row["attack"] == name]
        _line(axes, mine, "mse", name, color=colour, marker=marker, markersize=5, linewidth=2)
    _finish(axes, sorted({row["hidden"] for row in rows}))
    figure.savefig(path, format="png", dpi=_DPI, metadata={"Software": None})


def _line(axes: Axes, rows: Sequence[dict[str, Any]], what: str, label: str, **style: Any) -> None:
    ordered = sorted(rows, key=lambda row: row["hidden"])
    values = [max(row[what], _FLOOR) for row in ordered]
    axes.plot([row["hidden"] for row in ordered], values, label=label, **style)


def _finish(axes: Axes, widths: list[int]) -> None:
    axes.set_yscale("log")
    axes.set_ylim(bottom=_FLOOR / 2.2)
    axes.axhline(_FLOOR, color="0.8", linewidth=0.8, zorder=0)
    axes.annotate("no more than the error of rounding to 1/255", (0.01, _FLOOR), xycoords=("axes fraction", "data"), xytext=(0, -4), va="top",
                  textcoords="offset points", fontsize=7.5, color=_GRAY)  # fmt: skip
    axes.set_xticks(widths)
    axes.set_xlabel("h, neurons of the first layer = equations a sample", fontsize=9)
    axes.set_ylabel("mean squared error, pixels in [0, 1]", fontsize=9)
    axes.tick_params(labelsize=8.5)
    axes.grid(axis="y", color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8.5)
