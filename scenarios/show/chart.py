"""A comparison as a picture: accuracy, seconds and bytes of each run, on matplotlib's Figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scenarios.show.summary import size
from scenarios.show.units import span

_DPI = 150
_ROW_INCHES = 0.62
_BLUE, _ORANGE, _GRAY = "#4477aa", "#ee8866", "0.45"
_HATCH = "////"
_LABEL = 7.5  # points


def draw(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a PNG of three panels with a bar for each run; what is extrapolated is hatched."""
    figure = Figure(figsize=(11.5, 1.35 + _ROW_INCHES * len(rows)), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    accuracy, seconds, nbytes = figure.subplots(1, 3, sharey=True)
    _accuracy(accuracy, rows)
    _seconds(seconds, rows)
    _bytes(nbytes, rows)
    names = [
        _wrapped(row["name"]) + ("" if row["status"] == "done" else f"\n({row['status']})") for row in rows
    ]
    accuracy.set_yticks(range(len(rows)), names, fontsize=9)
    accuracy.set_ylim(len(rows) - 0.45, -0.55)
    for axes in (accuracy, seconds, nbytes):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="x", labelsize=8)
        axes.tick_params(axis="y", length=0)
    figure.savefig(path, format="png", dpi=_DPI, metadata={"Software": None})


def _accuracy(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    axes.set_title("test accuracy (| without protection)", fontsize=9.5, loc="left")
    for place, row in enumerate(rows):
        test, plain = row["accuracy"]["test"], row["accuracy"]["baseline_test"]
        axes.barh(place, test or 0.0, height=0.5, color=_BLUE)
        if plain is not None:
            axes.plot([plain, plain], [place - 0.33, place + 0.33], color="black", linewidth=1.2)
        text = (
            f"{test:.3f}"
            if test is not None
            else "not run"
            if row["status"] != "done"
            else "no held-out samples"
        )
        axes.text(max(test or 0.0, plain or 0.0) + 0.02, place, text, fontsize=_LABEL, va="center")
    axes.set_xlim(0, 1.18)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])


def _seconds(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    axes.set_title("seconds: set-up (above), training (below)", fontsize=9.5, loc="left")
    bars = [(place + shift, row["seconds"][name], colour, row) for place, row in enumerate(rows)
            for name, shift, colour in (("setup", -0.19, _ORANGE), ("train", 0.19, _BLUE))]  # fmt: skip
    _log_bars(axes, bars, 0.36, span)


def _bytes(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    axes.set_title("bytes sent", fontsize=9.5, loc="left")
    _log_bars(axes, [(place, row["bytes"], _BLUE, row) for place, row in enumerate(rows)], 0.5, size)


def _log_bars(
    axes: Axes, bars: Sequence[tuple[float, float | None, str, dict[str, Any]]], height: float, words: Any
) -> None:
    """Bars on a logarithmic axis that begins below the smallest."""
    known = [value for _, value, _, _ in bars if value]
    low, high = min(known, default=1.0) / 3, max(known, default=1.0)
    axes.set_xscale("log")
    axes.set_xlim(low, high * (high / low) ** 0.62)  # room for the words
    for place, value, colour, row in bars:
        if not value:
            continue
        bar = axes.barh(place, value - low, left=low, height=height, color=colour)
        if row["extrapolated"]:
            bar.patches[0].set(hatch=_HATCH, facecolor="white", edgecolor=colour)
        said = words(value) + (" extrapolated" if row["extrapolated"] else "")
        axes.annotate(
            said, (value, place), xytext=(3, 0), textcoords="offset points", fontsize=_LABEL, va="center"
        )
    axes.grid(axis="x", which="major", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _wrapped(name: str, width: int = 22) -> str:
    """A long name, such as one with a folder, in lines."""
    return "\n".join(name[at : at + width] for at in range(0, len(name), width))
