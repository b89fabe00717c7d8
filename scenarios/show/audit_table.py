"""What an audit found, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from scenarios.show.charts import drawn
from scenarios.show.printable import printable
from scenarios.show.tables import table

_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000")


def show_audit(out: Console, content: dict[str, Any]) -> None:
    """Print the findings, one line per view and quantity."""
    config = content["config"]
    sizes = ", ".join(f"{name} {config[name]}" for name in ("features", "counts", "layers", "batch", "epochs")
                      if name in config)  # fmt: skip
    out.print(f"{content['protocol']}: {sizes}; {content['arithmetic']}; {content['runs']} runs, "
              f"{content['seconds']:.1f} s", soft_wrap=True)  # fmt: skip
    out.print(table(("view", "quantity of the others", ">determined", "since", ">residual"), _rows(content)))
    for each in content["findings"]:
        if each["steps_only"]:
            labels = ", ".join(map(printable, each["steps_only"]))
            out.print(f"{_name(each)}: {labels} depends on what it does not know in steps, which no derivative sees",
                      soft_wrap=True)  # fmt: skip
    out.print("Local: up to discrete symmetries, for reals. Whole numbers can only add to it.", soft_wrap=True)


def _rows(content: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for each in content["findings"]:
        first = f"{_name(each)}: rank {each['rank']} of {each['unknowns']}, gap {each['gap']:.0e}"
        first += "" if each["decided"] else " (undecided)"
        yield first, "", "", "", ""
        for quantity in each["quantities"]:
            yield "", printable(quantity["name"]), _count(quantity), _since(quantity), f"{quantity['residual']:.0e}"


def _name(finding: dict[str, Any]) -> str:
    return " + ".join(finding["parties"])


def _count(quantity: dict[str, Any]) -> str:
    if quantity["determined"] == quantity["total"]:
        return f"all {quantity['total']}"
    if quantity["undecided"]:
        return f"{quantity['determined']} of {quantity['total']}, {quantity['undecided']} undecided"
    return f"{quantity['determined']} of {quantity['total']}" if quantity["determined"] else "nothing found"


def _since(quantity: dict[str, Any]) -> str:
    if quantity["since"] is None:
        return ""
    first, whole = (_moment(quantity[name]) for name in ("first", "since"))
    return whole if first == whole else f"{first} to {whole}"


def _moment(moment: list[Any]) -> str:
    phase, round_ = moment
    return printable(phase) if round_ < 0 else f"{printable(phase)} {round_}"


def draw_audit(path: Path, content: dict[str, Any]) -> None:
    """A panel per view: the share of each quantity that is determined, against what the view had received."""
    found = [each for each in content["findings"] if each["moments"]]
    with drawn(path, 9.0, 2.3 * len(found) + 0.4) as figure:
        panels = figure.subplots(len(found), 1, squeeze=False)[:, 0]
        for axes, each in zip(panels, found, strict=True):
            names = [_moment(moment) for moment in each["moments"]]
            for i, quantity in enumerate(each["quantities"]):
                shares = [count / quantity["total"] for count in quantity["curve"]]
                axes.step(range(len(names)), shares, where="post", label=quantity["name"],
                          color=_COLOURS[i % len(_COLOURS)], linestyle="-" if i < len(_COLOURS) else "--")  # fmt: skip
            axes.set_title(f"{_name(each)}: rank {each['rank']} of {each['unknowns']}", fontsize=9.5, loc="left")
            shown = range(0, len(names), max(1, len(names) // 10))
            axes.set_xticks(list(shown), [names[i] for i in shown], fontsize=7)
            axes.set_ylim(-0.04, 1.06)
            axes.set_ylabel("share determined", fontsize=8)
            axes.legend(fontsize=6.5, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
            axes.spines[["top", "right"]].set_visible(False)
