"""Charts, on matplotlib's Figure without pyplot's global state: the same bytes from the same figures.

Of a comparison, of sweep `lp`, of the rates of attacks on heads, and of what a party knows against training
steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scenarios.run.folder import private_file
from scenarios.show.summary import size
from scenarios.show.units import span

_DPI = 150
_BLUE, _ORANGE, _GRAY = "#4477aa", "#ee8866", "0.45"
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000")
_STYLES = ("-", "--", ":", "-.")
_LABEL = 7.5  # points
_ROW_INCHES = 0.62  # of a comparison
_ROUNDING = 1 / 255**2 / 12  # mean squared error of rounding to a quantum: what is below it is drawn on it
_LEAST_FPR = 1e-3  # at which the axis of rates begins

Curves = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


@contextmanager
def drawn(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches that is written as a PNG at the end of the block."""
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    with rc_context({"text.parse_math": False}):  # a name with a dollar is a name
        yield figure
    with private_file(path, binary=True) as file:
        figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})


def draw_comparison(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Three panels with a bar for each row of compare.json; what is extrapolated is hatched."""
    with drawn(path, 11.5, 1.35 + _ROW_INCHES * len(rows)) as figure:
        accuracy, seconds, nbytes = figure.subplots(1, 3, sharey=True)
        _accuracy(accuracy, rows)
        seconds.set_title("seconds: set-up (above), training (below)", fontsize=9.5, loc="left")
        laps = (("setup", -0.19, _ORANGE), ("train", 0.19, _BLUE))
        bars = [(place + shift, row["seconds"][name], colour, row)
                for place, row in enumerate(rows) for name, shift, colour in laps]  # fmt: skip
        _log_bars(seconds, bars, 0.36, span)
        nbytes.set_title("bytes sent", fontsize=9.5, loc="left")
        _log_bars(nbytes, [(place, row["bytes"], _BLUE, row) for place, row in enumerate(rows)], 0.5, size)
        names = [
            _wrapped(row["name"]) + ("" if row["status"] == "done" else f"\n({row['status']})")
            for row in rows
        ]
        accuracy.set_yticks(range(len(rows)), names, fontsize=9)
        accuracy.set_ylim(len(rows) - 0.45, -0.55)
        for axes in (accuracy, seconds, nbytes):
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(axis="x", labelsize=8)
            axes.tick_params(axis="y", length=0)


def draw_widths(path: Path, rows: Sequence[dict[str, Any]], title: str) -> None:
    """Error against h: a line per period of `lp`, for `smooth`, `tv`, baselines; rows of sweep.json."""
    with drawn(path, 8.6, 4.9) as figure:
        axes = figure.subplots()
        axes.set_title(title, fontsize=10.5, loc="left")
        periods = sorted({row["period"] for row in rows if row["attack"] == "lp"}, reverse=True)
        lines = {
            period: [r for r in rows if r["attack"] == "lp" and r["period"] == period] for period in periods
        }
        _by_width(axes, lines[periods[0]], "guess_mse", "guess: mean image", color=_GRAY, linestyle=":")
        _by_width(axes, lines[periods[0]], "projection_mse", "projection", color=_GRAY, linestyle="--")
        for place, (period, mine) in enumerate(lines.items()):
            shade = colormaps["viridis"](0.85 * place / max(1, len(periods) - 1))
            _by_width(axes, mine, "mse", f"lp, period {period}", color=shade, marker="o", markersize=4)
        for name, colour, marker in (("smooth", "#ee7733", "s"), ("tv", "#cc3311", "^")):
            mine = [row for row in rows if row["attack"] == name]
            _by_width(axes, mine, "mse", name, color=colour, marker=marker, markersize=5, linewidth=2)
        _on_widths(axes, sorted({row["hidden"] for row in rows}))


def draw_rates(path: Path, curves: Curves, title: str) -> None:
    """True against false positive rates, the latter on a logarithmic axis, by name."""
    with drawn(path, 9.6, 5.2) as figure:
        axes = figure.subplots()
        chance = np.geomspace(_LEAST_FPR, 1, 100)
        axes.plot(chance, chance, color="0.75", linewidth=0.8)
        axes.axvline(0.01, color="0.85", linewidth=0.8)
        for i, (name, (allowed, tpr)) in enumerate(curves.items()):
            style = _STYLES[i // len(_COLOURS) % len(_STYLES)]
            colour = _COLOURS[i % len(_COLOURS)]
            axes.plot(allowed[1:], tpr[1:], label=name, linewidth=1.4, color=colour, linestyle=style)
        axes.set(xscale="log", xlim=(_LEAST_FPR, 1), ylim=(0, 1.01))
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        axes.set_title(title, fontsize=9.5, loc="left")
        figure.legend(loc="outside right center", fontsize=7.5, frameon=False)


def draw_knowledge(folder: Path, learned: Sequence[dict[str, Any]]) -> Path | None:
    """Write figures/knowledge.png, a panel for each party whose equations were counted, if there are any."""
    curves = [(row, row["data"]["curve"]) for row in learned if row["data"].get("curve")]
    if not curves:
        return None
    path = folder / "figures" / "knowledge.png"
    with drawn(path, 6.4, 2.9 * len(curves)) as figure:
        panels = figure.subplots(len(curves), 1, squeeze=False)[:, 0]
        for axes, (row, curve) in zip(panels, curves, strict=True):
            _knowledge(axes, row, curve)
    return path


def _accuracy(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    axes.set_title("test accuracy (| without protection)", fontsize=9.5, loc="left")
    for place, row in enumerate(rows):
        test, plain = row["accuracy"]["test"], row["accuracy"]["baseline_test"]
        axes.barh(place, test or 0.0, height=0.5, color=_BLUE)
        if plain is not None:
            axes.plot([plain, plain], [place - 0.33, place + 0.33], color="black", linewidth=1.2)
        missing = "not run" if row["status"] != "done" else "no held-out samples"
        said = missing if test is None else f"{test:.3f}"
        axes.text(max(test or 0.0, plain or 0.0) + 0.02, place, said, fontsize=_LABEL, va="center")
    axes.set_xlim(0, 1.18)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])


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
            bar.patches[0].set(hatch="////", facecolor="white", edgecolor=colour)
        said = words(value) + (" extrapolated" if row["extrapolated"] else "")
        at: dict[str, Any] = {"xytext": (3, 0), "textcoords": "offset points"}
        axes.annotate(said, (value, place), fontsize=_LABEL, va="center", **at)
    axes.grid(axis="x", which="major", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _wrapped(name: str, width: int = 22) -> str:
    """A long name, such as one with a folder, in lines."""
    return "\n".join(name[at : at + width] for at in range(0, len(name), width))


def _by_width(axes: Axes, rows: Sequence[dict[str, Any]], what: str, label: str, **style: Any) -> None:
    ordered = sorted(rows, key=lambda row: row["hidden"])
    values = [max(row[what], _ROUNDING) for row in ordered]
    axes.plot([row["hidden"] for row in ordered], values, label=label, **style)


def _on_widths(axes: Axes, widths: list[int]) -> None:
    axes.set_yscale("log")
    axes.set_ylim(bottom=_ROUNDING / 2.2)
    axes.axhline(_ROUNDING, color="0.8", linewidth=0.8, zorder=0)
    below: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "xytext": (0, -4), "va": "top"}
    axes.annotate("no more than the error of rounding to 1/255", (0.01, _ROUNDING), **below,
                  textcoords="offset points", fontsize=_LABEL, color=_GRAY)  # fmt: skip
    axes.set_xticks(widths)
    axes.set_xlabel("h, neurons of the first layer = equations a sample", fontsize=9)
    axes.set_ylabel("mean squared error, pixels in [0, 1]", fontsize=9)
    axes.tick_params(labelsize=8.5)
    axes.grid(axis="y", color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8.5)


def _knowledge(axes: Any, row: dict[str, Any], curve: Sequence[Sequence[float]]) -> None:
    """`curve`: [step, rank, pixels determined] after each message; `data` says of how many unknowns."""
    unknowns = row["data"]["unknowns"]
    steps, *counted = ([point[i] for point in curve] for i in range(3))
    styles = (("rank", _BLUE, "o"), ("pixels determined", _ORANGE, "s"))
    for counts, (label, colour, marker) in zip(counted, styles, strict=True):
        shares = [count / unknowns for count in counts]
        axes.step(steps, shares, where="post", color=colour, marker=marker, markersize=3, label=label)
    axes.axhline(1.0, color=_GRAY, linewidth=0.8, linestyle=":")
    axes.set_ylim(-0.03, 1.08)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("training step", fontsize=8.5)
    axes.set_ylabel(f"share of {unknowns}", fontsize=8.5)
    axes.set_title(f"{row['party']}: {row['of']}", fontsize=9.5, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, frameon=False, loc="center right")
