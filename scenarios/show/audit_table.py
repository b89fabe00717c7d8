"""What an audit found, as a table and as a picture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from rich.console import Console

from scenarios.show.charts import drawn
from scenarios.show.printable import printable
from scenarios.show.tables import table
from scenarios.show.units import moment

_MEANING = (
    "Determined: locally, up to discrete symmetries, over the reals. Whole numbers can only add to it; what "
    "noise hides may still be estimated."
)


def show_audit(out: Console, content: dict[str, Any]) -> None:
    """Print the findings: for each view what it determines, in a line what it does not."""
    config = content["config"]
    sizes = ", ".join(f"{name} {config[name]}" for name in ("features", "counts", "layers", "batch", "epochs")
                      if name in config)  # fmt: skip
    out.print(f"{content['protocol']}: {sizes}", soft_wrap=True)
    out.print(f"{content['arithmetic']}; {content['runs']} runs, {content['seconds']:.1f} s", soft_wrap=True)
    for each in content["findings"]:
        out.print()
        out.print(f"{_name(each)}: {_rank(each)}", style="bold", soft_wrap=True)
        known = [q for q in each["quantities"] if q["determined"] or q["undecided"]]
        if known:
            out.print(table(("  what of the others", ">determined", "since", ">residual"), map(_row, known)))
        nothing = [printable(q["name"]) for q in each["quantities"] if q not in known]
        if nothing:
            out.print(f"  nothing found: {', '.join(nothing)}", soft_wrap=True)
        for what in each["left_out"]:
            out.print(f"  undecided: {what} are left out", soft_wrap=True)
        if each["in_steps"]:
            labels = ", ".join(map(printable, each["in_steps"]))
            out.print(f"  undecided: {labels} changes in steps, which no derivative sees", soft_wrap=True)
    _show_rebuilt(out, content["rebuilt"])
    _show_influence(out, content["influence"])
    out.print()
    out.print(_MEANING, soft_wrap=True)


def _show_rebuilt(out: Console, rebuilt: list[dict[str, Any]]) -> None:
    if rebuilt:
        out.print()
        out.print("found by Gauss-Newton from random starts", style="bold")
    for each in rebuilt:
        said = ", ".join(
            f"{count} x {words}" for words, count in Counter(s["said"] for s in each["starts"]).items()
        )
        out.print(f"  {_name(each)}: {said}", soft_wrap=True)


def _show_influence(out: Console, lines: list[dict[str, Any]]) -> None:
    if not lines:
        return
    out.print()
    out.print("what one secret changes in messages, same coins", style="bold")
    rows = (
        (
            f"  {each['secret']}",
            f"{each['sender']} -> {each['receiver']}",
            printable(each["label"]),
            ", ".join(each["changes"]) + (": SIDE CHANNEL" if each["side_channel"] else ""),
        )
        for each in lines
    )
    out.print(table(("  secret", "from, to", "label", "changes in"), rows))


def _rank(finding: dict[str, Any]) -> str:
    if not finding["unknowns"]:
        return "knows everything itself"
    if not finding["rank"]:
        return f"rank 0 of {finding['unknowns']}: what it sees depends on nothing that it does not know"
    said = f"rank {finding['rank']} of {finding['unknowns']}, gap {finding['gap']:.0e}"
    return said if finding["decided"] else f"{said}: UNDECIDED, no gap tells rank from noise"


def _row(quantity: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"  {printable(quantity['name'])}",
        _count(quantity),
        _since(quantity),
        f"{quantity['residual']:.0e}",
    )


def _name(finding: dict[str, Any]) -> str:
    return " + ".join(finding["parties"])


def _count(quantity: dict[str, Any]) -> str:
    if quantity["determined"] == quantity["total"]:
        return f"all {quantity['total']}"
    if quantity["undecided"]:
        return f"{quantity['determined']} of {quantity['total']}, {quantity['undecided']} undecided"
    return f"{quantity['determined']} of {quantity['total']}"


def _since(quantity: dict[str, Any]) -> str:
    if quantity["since"] is None:
        return ""
    first, whole = (_when(quantity[name]) for name in ("first", "since"))
    return whole if first == whole else f"{first} to {whole}"


def _when(said: list[Any]) -> str:
    phase, round_ = said
    return moment(printable(phase), round_)


def draw_audit(path: Path, content: dict[str, Any]) -> None:
    """A panel per view: quantities against what the view had received, dark where they are determined."""
    found = [each for each in content["findings"] if each["moments"] and each["quantities"]]
    rows = [len(each["quantities"]) for each in found]
    with drawn(path, 9.0, 0.26 * sum(rows) + 0.9 * len(rows) + 0.4) as figure:
        panels = figure.subplots(max(1, len(found)), 1, squeeze=False, height_ratios=rows or None)[:, 0]
        for axes, each in zip(panels, found, strict=False):
            _panel(axes, each)


def _panel(axes: Axes, finding: dict[str, Any]) -> None:
    quantities, names = finding["quantities"], [_when(said) for said in finding["moments"]]
    shares = [[count / quantity["total"] for count in quantity["curve"]] for quantity in quantities]
    axes.imshow(shares, aspect="auto", cmap="Blues", vmin=0.0, vmax=1.25, interpolation="nearest")
    for row, quantity in enumerate(quantities):
        said = _count(quantity) if quantity["determined"] or quantity["undecided"] else "nothing found"
        axes.annotate(f"  {said}", (1.0, row), xycoords=("axes fraction", "data"), fontsize=7, va="center")
    axes.set_title(f"{_name(finding)}: {_rank(finding)}", fontsize=9, loc="left")
    axes.set_yticks(range(len(quantities)), [quantity["name"] for quantity in quantities], fontsize=7.5)
    shown = range(0, len(names), max(1, len(names) // 10))
    axes.set_xticks(list(shown), [names[i] for i in shown], fontsize=7)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
