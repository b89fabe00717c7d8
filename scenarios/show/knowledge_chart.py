"""Knowledge as a picture: the rank of the equations and the share of pixels that they determine, against training steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

_DPI = 150
_BLUE, _ORANGE, _GRAY = "#4477aa", "#ee8866", "0.45"


def draw_knowledge(folder: Path, learned: Sequence[dict[str, Any]]) -> Path | None:
    """Write figures/knowledge.png, a panel for each party whose equations were counted; None where there is none."""
    curves = [(row, row["data"]["curve"]) for row in learned if row["data"].get("curve")]
    if not curves:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.9 * len(curves)), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (row, curve) in zip(figure.subplots(len(curves), 1, squeeze=False)[:, 0], curves, strict=True):
        _panel(axes, row, curve)
    path = folder / "figures" / "knowledge.png"
    figure.savefig(path, format="png", dpi=_DPI, metadata={"Software": None})
    return path


def _panel(axes: Any, row: dict[str, Any], curve: Sequence[Sequence[float]]) -> None:
    """`curve`: [step, rank, pixels determined] after each message; `data` says of how many unknowns."""
    unknowns = row["data"]["unknowns"]
    steps, ranks, solved = ([point[i] for point in curve] for i in range(3))
    axes.step(
        steps,
        [rank / unknowns for rank in ranks],
        where="post",
        color=_BLUE,
        marker="o",
        markersize=3,
        label="rank",
    )
    axes.step(steps, [pixels / unknowns for pixels in solved], where="post", color=_ORANGE, marker="s", markersize=3,
              label="pixels determined")  # fmt: skip
    axes.axhline(1.0, color=_GRAY, linewidth=0.8, linestyle=":")
    axes.set_ylim(-0.03, 1.08)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("training step", fontsize=8.5)
    axes.set_ylabel(f"share of {unknowns}", fontsize=8.5)
    axes.set_title(f"{row['party']}: {row['of']}", fontsize=9.5, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, frameon=False, loc="center right")
