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
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from scenarios.run.folder import private_file
from scenarios.run.result import Sprite
from scenarios.show.charts import saved

GUESS = "prior's guess"  # the name of its row
COLUMNS = 10
SPRITES = 20  # images of a sprite
_CELL_INCHES = 1.15
_SIDE_INCHES = _CELL_INCHES - 0.06  # of an image
_CAPTION_INCHES = 0.24
_MARGIN_INCHES = (0.95, 0.55)  # left, for the names of the rows; top, for the heading
_LETTER_INCHES = 0.08  # of the heading, about
_DPI = 160
_GRAY = "0.35"
_BAR_PIXELS = 32  # height of a bar of 1, and the least width of a row of bars
_BAR, _GROUND = 0.15, 1.0  # gray levels
_HALF_QUANTUM = 0.5 / 255  # closer than this in every pixel, the rounded image is the original


def grid(
    path: Path,
    truth_images: NDArray[Any],
    rebuilt_images: NDArray[Any] | Mapping[str, NDArray[Any]],
    shape: tuple[int, ...],
    titles: Sequence[str] = (),
    heading: str = "",
) -> None:
    """Write a PNG, and an SVG beside it: originals in the first row, below them a row for each
    reconstruction, every image with its MSE.

    Samples are (m, n) in [0, 1], images gray or RGB by `shape`, or rows of a table; the first 10 are drawn.
    `rebuilt_images` may name several reconstructions. `titles` stand above the columns. A row of NaN is a
    failure and is drawn as such.
    """
    named = rebuilt_images if isinstance(rebuilt_images, Mapping) else {"rebuilt": rebuilt_images}
    columns = min(COLUMNS, len(truth_images))
    figure, axes = _sheet(1 + len(named), columns, heading)
    corners = [[_corner(axes, row, column) for column in range(columns)] for row in range(1 + len(named))]
    for column in range(columns):
        true = truth_images[column]
        _draw(axes, corners[0][column], true, shape)
        if column < len(titles):
            _say(axes, corners[0][column], (0.5, 1), (0, 4), titles[column], 8, ha="center", va="baseline")
        for row, images in enumerate(named.values(), start=1):
            corner, said = corners[row][column], _caption(images[column], true)
            _draw(axes, corner, images[column], shape)
            _say(axes, corner, (0.5, 0), (0, -2.5), said, 7.5, color=_GRAY, ha="center", va="top")
    for row, name in enumerate(("original", *named)):
        _say(axes, corners[row][0], (0, 0.5), (-8, 0), name, 9, ha="right", va="center")
    saved(figure, path, _DPI)


def draw_sprite(folder: Path, name: str, rows: Sequence[NDArray[Any]], shape: tuple[int, ...]) -> Sprite:
    """Write a PNG of a pixel a pixel: `rows` of samples (m, n) in [0, 1], each below the other, with a clear
    pixel beside each sample and below each row; failures are gray.
    """
    drawn = [_pictures(samples, shape) for samples in rows]
    height, width = drawn[0].shape[1:3]
    sheet = np.zeros((len(rows) * (height + 1), len(rows[0]) * (width + 1), 4), np.uint8)
    for row, blocks in enumerate(drawn):
        for column, block in enumerate(blocks):
            y, x = row * (height + 1), column * (width + 1)
            sheet[y : y + height, x : x + width, :3] = np.rint(block[..., :3] * 255)
            sheet[y : y + height, x : x + width, 3] = 255
    with private_file(folder / name, binary=True) as file:
        Image.fromarray(sheet).save(file, format="PNG")
    return Sprite(file=name, columns=len(rows[0]), width=width + 1, height=height + 1)


def _pictures(samples: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Samples (m, n) in [0, 1] as pictures (m, rows, columns, 1 or 3): images as they are, rows of a table as
    a bar for each column, from the lower edge up; a failure is gray.
    """
    known = np.nan_to_num(np.clip(samples, 0.0, 1.0), nan=0.5)
    if len(shape) > 1:
        images: NDArray[Any] = known.reshape(len(known), *shape[:2], -1)
        return images
    heights = np.rint(known * _BAR_PIXELS)
    wide = np.repeat(heights, max(1, _BAR_PIXELS // max(1, known.shape[1])), axis=1)
    filled = np.arange(_BAR_PIXELS, 0, -1)[None, :, None] <= wide[:, None, :]
    failed = ~np.isfinite(samples).all(axis=1)
    bars: NDArray[Any] = np.where(failed[:, None, None], 0.5, np.where(filled, _BAR, _GROUND))
    return bars[..., None]


def _sheet(rows: int, columns: int, heading: str) -> tuple[Figure, Axes]:
    """A figure with one pair of axes over all of it, in inches: a pair for each image takes far longer."""
    left, top = _MARGIN_INCHES
    width = max(left + columns * _CELL_INCHES, left + _LETTER_INCHES * len(heading)) + 0.1
    height = top + rows * (_CELL_INCHES + _CAPTION_INCHES) - _CAPTION_INCHES  # the originals have no captions
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    figure.text(left / width, 1 - 0.08 / height, heading, fontsize=10, ha="left", va="top")
    return figure, axes


def _corner(axes: Axes, row: int, column: int) -> tuple[float, float]:
    """The lower left corner of an image."""
    left, top = _MARGIN_INCHES
    below = top + _CELL_INCHES + row * (_CELL_INCHES + _CAPTION_INCHES) - min(row, 1) * _CAPTION_INCHES
    return left + column * _CELL_INCHES, axes.get_ylim()[1] - below + _CELL_INCHES - _SIDE_INCHES


def _say(
    axes: Axes, corner: tuple[float, float], at: tuple[float, float], apart: tuple[float, float], text: str,
    size: float, **how: Any,
) -> None:  # fmt: skip
    """Write `apart` (points) from the place `at` of an image, which is (1, 1) at its upper right corner."""
    x, y = (c + _SIDE_INCHES * share for c, share in zip(corner, at, strict=True))
    axes.annotate(text, (x, y), apart, textcoords="offset points", fontsize=size, **how)


def _draw(axes: Axes, corner: tuple[float, float], image: NDArray[Any], shape: tuple[int, ...]) -> None:
    (x, y), failed = corner, not np.isfinite(image).all()
    frame = Rectangle(corner, _SIDE_INCHES, _SIDE_INCHES, fill=failed, facecolor="0.94", edgecolor="0.8",
                      linewidth=0.6)  # fmt: skip
    axes.add_patch(frame)
    if failed:
        _say(axes, corner, (0.5, 0.5), (0, 0), "failed", 8, color=_GRAY, ha="center", va="center")
        return
    picture = _pictures(image[None], shape)[0]
    longer = max(picture.shape[:2])  # the sides of an image keep their proportion
    height, width = (_SIDE_INCHES * side / longer for side in picture.shape[:2])
    x, y = x + (_SIDE_INCHES - width) / 2, y + (_SIDE_INCHES - height) / 2
    axes.imshow(
        picture, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest", aspect="auto",
        extent=(x, x + width, y, y + height),
    )  # fmt: skip


def _caption(image: NDArray[Any], true: NDArray[Any]) -> str:
    if not np.isfinite(image).all():
        return ""
    if float(np.abs(image - true).max()) < _HALF_QUANTUM:
        return "exact"
    error = float(((image - true) ** 2).mean())
    return f"MSE {error:.4f}" if error >= 5e-5 else f"MSE {error:.0e}"
