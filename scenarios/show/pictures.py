"""Pictures of what an attack rebuilt, under the originals; on matplotlib's Figure, without pyplot's global
state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scenarios.run.folder import private_file

COLUMNS = 10
_CELL_INCHES = 1.15
_CAPTION_INCHES = 0.24
_MARGIN_INCHES = (0.95, 0.55)  # left, for the names of the rows; top, for the heading
_LETTER_INCHES = 0.08  # of the heading, about
_DPI = 160
_GRAY = "0.35"
_HALF_QUANTUM = 0.5 / 255  # closer than this in every pixel, the rounded image is the original


def grid(
    path: Path,
    truth_images: NDArray[Any],
    rebuilt_images: NDArray[Any] | Mapping[str, NDArray[Any]],
    shape: tuple[int, ...],
    titles: Sequence[str] = (),
    heading: str = "",
) -> None:
    """Write a PNG: originals in the first row, below them a row for each reconstruction, every image with its
    MSE.

    Images are (m, n) in [0, 1], gray or RGB by `shape`; the first 10 are drawn. `rebuilt_images` may name
    several reconstructions. `titles` stand above the columns. A row of NaN is a failure and is drawn as such.
    """
    named = rebuilt_images if isinstance(rebuilt_images, Mapping) else {"rebuilt": rebuilt_images}
    columns = min(COLUMNS, len(truth_images))
    figure, axes = _layout(1 + len(named), columns, heading)
    for column in range(columns):
        true = truth_images[column]
        _draw(axes[0][column], true, shape)
        if column < len(titles):
            axes[0][column].set_title(titles[column], fontsize=8, pad=4)
        for row, images in enumerate(named.values(), start=1):
            _draw(axes[row][column], images[column], shape)
            axes[row][column].set_xlabel(
                _caption(images[column], true), fontsize=7.5, color=_GRAY, labelpad=2.5
            )
    for row, name in enumerate(("original", *named)):
        axes[row][0].set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center", labelpad=8)
    with private_file(
        path, binary=True
    ) as file:  # without a name of software: the same bytes from the same images
        figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})


def _layout(rows: int, columns: int, heading: str) -> tuple[Figure, list[list[Axes]]]:
    left, top = _MARGIN_INCHES
    cell_height = _CELL_INCHES + _CAPTION_INCHES
    width = max(left + columns * _CELL_INCHES, left + _LETTER_INCHES * len(heading)) + 0.1
    height = top + rows * cell_height - _CAPTION_INCHES  # the originals have no captions
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    gap = 0.06
    axes = [
        [
            figure.add_axes((
                (left + c * _CELL_INCHES) / width,
                (height - top - _CELL_INCHES - r * cell_height + min(r, 1) * _CAPTION_INCHES + gap) / height,
                (_CELL_INCHES - gap) / width,
                (_CELL_INCHES - gap) / height,
            ))
            for c in range(columns)
        ]
        for r in range(rows)
    ]  # fmt: skip
    figure.text(left / width, 1 - 0.08 / height, heading, fontsize=10, ha="left", va="top")
    return figure, axes


def _draw(axes: Axes, image: NDArray[Any], shape: tuple[int, ...]) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color="0.8", linewidth=0.6)
    if not np.isfinite(image).all():
        axes.set_facecolor("0.94")
        axes.text(
            0.5, 0.5, "failed", fontsize=8, color=_GRAY, ha="center", va="center", transform=axes.transAxes
        )
        return
    picture = np.clip(image.reshape(shape), 0.0, 1.0)
    axes.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest", aspect="auto")


def _caption(image: NDArray[Any], true: NDArray[Any]) -> str:
    if not np.isfinite(image).all():
        return ""
    if float(np.abs(image - true).max()) < _HALF_QUANTUM:
        return "exact"
    error = float(((image - true) ** 2).mean())
    return f"MSE {error:.4f}" if error >= 5e-5 else f"MSE {error:.0e}"
