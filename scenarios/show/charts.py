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

from parties.adversary.attack import STRENGTH
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
_MARKS = (("o", _BLUE, 0.0), ("D", "#aa3377", -0.14), ("s", _ORANGE, -0.28), ("^", "#228833", -0.42))
_NEAR = 3.0  # costs below this ratio would write their names over each other
_EXACT = "exact"  # the mark of circles on the axis
_NOTHING = 1e-12  # mean squared errors below it are the rounding of floats
_IN_A_RATE = 10  # nulls, of which a false positive rate that is fewer of them is marked

Curve = tuple[
    NDArray[np.float64], NDArray[np.float64], int
]  # allowed and true positive rates; nulls of a class
Curves = Mapping[str, Curve]


@contextmanager
def drawn(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches that is written as a PNG, and an SVG beside it, at the end of the block."""
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    with rc_context({"text.parse_math": False}):  # a name with a dollar is a name
        yield figure
    saved(figure, path, _DPI)


def saved(figure: Figure, path: Path, dpi: int) -> None:
    """Write a PNG, and beside it an SVG: the same bytes from the same figure, so without a date or a name of
    software.
    """
    with private_file(path, binary=True) as file:
        figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    with rc_context({"svg.hashsalt": "keyhole"}), private_file(path.with_suffix(".svg"), binary=True) as file:
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


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


def draw_leakage(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Seconds against what a party can rebuild of others' samples: a mark for each role of each row."""
    laps = [(row, [row["seconds"][name] for name in ("setup", "train")]) for row in rows if row["rebuilt"]]
    known = [{**row, "cost": sum(each)} for row, each in laps if None not in each]
    with drawn(path, 9.6, 6.2) as figure:
        axes = figure.subplots()
        axes.set_title(
            "cost, and what each party alone can rebuild of others' samples", fontsize=10.5, loc="left"
        )
        marks = {role: _MARKS[place % len(_MARKS)] for place, role in enumerate(_roles_of(known))}
        names: dict[int, list[tuple[float, str]]] = {}
        there = {each["how"] for row in known for each in row["rebuilt"]} | {STRENGTH[1]}
        levels_of = [how for how in STRENGTH if how in there - {"own"}]
        for row in sorted(known, key=lambda row: row["cost"]):
            at = row["cost"]
            levels = {each["party"].partition(":")[0]: levels_of.index(each["how"])
                      for each in row["rebuilt"] if each["how"] in levels_of}  # fmt: skip
            for role, level in levels.items():
                marker, colour, shift = marks[role]
                filled = "white" if row["extrapolated"] else colour
                axes.plot(
                    at, level + shift, marker, color=colour, markerfacecolor=filled, markersize=8, zorder=3
                )
            first = next(iter(marks))
            level = levels.get(first, min(levels.values(), default=0))
            axes.axvline(at, color="0.93", linewidth=0.8, zorder=0)
            names.setdefault(level, []).append((at, row["name"] + " ~" * row["extrapolated"]))
        for level, mine in names.items():
            last, lift = 0.0, 9
            for at, name in mine:
                lift, last = lift % 33 + 11 if last and at < _NEAR * last else 9, at
                axes.annotate(name, (at, level), xytext=(0, lift), textcoords="offset points",
                              fontsize=_LABEL, ha="center", zorder=4)  # fmt: skip
        for role, (marker, colour, _) in marks.items():
            axes.plot([], [], marker, color=colour, markersize=8, label=role.replace("_", " "))
        costs = [row["cost"] for row in known] or [1.0]
        axes.set_xscale("log")
        axes.set_xlim(min(costs) / 2, max(costs) * 2)  # room for names
        axes.set_ylim(-0.6, len(levels_of) - 0.15)
        axes.set_yticks(range(len(levels_of)), levels_of, fontsize=9)
        axes.set_xlabel(
            "seconds of set-up and training, on this machine; hollow and ~: extrapolated from real steps",
            fontsize=9,
        )
        axes.grid(axis="y", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if marks:
            figure.legend(loc="outside lower center", ncols=4, fontsize=8.5, frameon=False)


def _roles_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Roles, who trains first."""
    roles = dict.fromkeys(each["party"].partition(":")[0] for row in rows for each in row["rebuilt"])
    return sorted(roles, key=lambda role: (role not in ("cloud_trainer", "server"), role))


def draw_widths(path: Path, rows: Sequence[dict[str, Any]], title: str) -> None:
    """Error against h: a line per period of `lp`, for `smooth`, `tv`, baselines; rows of sweep.json."""
    with drawn(path, 8.6, 4.9) as figure:
        axes = figure.subplots()
        axes.set_title(title, fontsize=10.5, loc="left")
        periods = sorted({row["period"] for row in rows if row["attack"] == "lp"}, reverse=True)
        lines = {
            period: [r for r in rows if r["attack"] == "lp" and r["period"] == period] for period in periods
        }
        _by_width(axes, lines[periods[0]], "guess_mse", "prior's guess", color=_GRAY, linestyle=":")
        _by_width(axes, lines[periods[0]], "projection_mse", "projection", color=_GRAY, linestyle="--")
        for place, (period, mine) in enumerate(lines.items()):
            shade = colormaps["viridis"](0.85 * place / max(1, len(periods) - 1))
            _by_width(axes, mine, "mse", f"lp, period {period}", color=shade, marker="o", markersize=4)
        for name, colour, marker in (("smooth", "#ee7733", "s"), ("tv", "#cc3311", "^")):
            mine = [row for row in rows if row["attack"] == name]
            _by_width(axes, mine, "mse", name, color=colour, marker=marker, markersize=5, linewidth=2)
        _on_widths(axes, sorted({row["hidden"] for row in rows}))


def draw_rates(path: Path, curves: Curves, title: str) -> None:
    """True against false positive rates, the latter on a logarithmic axis, by name.

    Where a false positive rate is fewer than ten nulls of a class the curve is faint, and below one null
    there is none.
    """
    with drawn(path, 9.6, 5.2) as figure:
        axes = figure.subplots()
        chance = np.geomspace(_LEAST_FPR, 1, 100)
        axes.plot(chance, chance, color="0.75", linewidth=0.8)
        axes.axvline(0.01, color="0.85", linewidth=0.8)
        for i, (name, curve) in enumerate(curves.items()):
            style = _STYLES[i // len(_COLOURS) % len(_STYLES)]
            _rates(axes, name, curve, color=_COLOURS[i % len(_COLOURS)], linestyle=style)
        if any(nulls < _IN_A_RATE / _LEAST_FPR for _, _, nulls in curves.values()):
            axes.annotate(
                f"faint: a rate of fewer than {_IN_A_RATE} nulls of a class", (0.01, 0.97), fontsize=_LABEL,
                xycoords="axes fraction", color=_GRAY, va="top",
            )  # fmt: skip
        axes.set(xscale="log", xlim=(_LEAST_FPR, 1), ylim=(0, 1.01))
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        axes.set_title(title, fontsize=9.5, loc="left")
        figure.legend(loc="outside right center", fontsize=7.5, frameon=False)


def resolved(curve: Curve) -> tuple[float, float]:
    """The false positive rates below which a curve rests on fewer than one null of a class, and than ten."""
    return 1 / curve[2], _IN_A_RATE / curve[2]


def _rates(axes: Axes, name: str, curve: Curve, **style: Any) -> None:
    allowed, tpr, _ = curve
    none, coarse = resolved(curve)
    first, firm = (int(np.searchsorted(allowed, least)) for least in (none, coarse))
    if firm > first:
        axes.plot(allowed[first : firm + 1], tpr[first : firm + 1], linewidth=1.4, alpha=0.3, **style)
    axes.plot(allowed[firm:], tpr[firm:], linewidth=1.4, label=name, **style)


def draw_knowledge(folder: Path, learned: Sequence[dict[str, Any]]) -> Path | None:
    """Write figures/knowledge.png, a panel for each party whose equations were counted, if there are any."""
    counted = [row for row in learned if row["data"].get("curve")]
    said = {(row["party"], row["of"], str(row["data"]["curve"])): row for row in reversed(counted)}
    curves = [(row, row["data"]["curve"]) for row in counted if any(row is each for each in said.values())]
    if not curves:
        return None
    path = folder / "figures" / "knowledge.png"
    with drawn(path, 7.8, 2.9 * len(curves)) as figure:
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
    values = [row[what] if row[what] > _NOTHING else np.nan for row in ordered]
    widths = [row["hidden"] for row in ordered]
    (line,) = axes.plot(widths, values, label=label, **style)
    exact = [width for width, value in zip(widths, values, strict=True) if np.isnan(value)]
    if exact:  # on the axis, around those that were drawn there before
        circles = sum(other.get_gid() == _EXACT for other in axes.lines)
        axes.plot(
            exact, [0.0] * len(exact), gid=_EXACT, transform=axes.get_xaxis_transform(), clip_on=False,
            marker="o", markersize=5 + 3 * circles, fillstyle="none", linestyle="none",
            color=line.get_color(),
        )  # fmt: skip


def _on_widths(axes: Axes, widths: list[int]) -> None:
    axes.set_yscale("log")
    drawn = [value for line in axes.lines for value in np.ravel(line.get_ydata()) if value > _NOTHING]
    axes.set_ylim(bottom=min([_ROUNDING, *drawn]) / 3)
    axes.axhline(_ROUNDING, color="0.8", linewidth=0.8, zorder=0)
    below: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "xytext": (0, -4), "va": "top"}
    axes.annotate("the error of rounding to 1/255; circles on the axis: exact", (0.01, _ROUNDING), **below,
                  textcoords="offset points", fontsize=_LABEL, color=_GRAY)  # fmt: skip
    axes.set_xticks(widths)
    axes.set_xlabel("h, neurons of the first layer = equations a sample", fontsize=9)
    axes.set_ylabel("mean squared error, pixels in [0, 1]", fontsize=9)
    axes.tick_params(labelsize=8.5)
    axes.tick_params(axis="x", pad=11)  # room for circles
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
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
