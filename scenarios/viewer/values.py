"""A value that crossed, as it is shown: arrays as pictures and numbers, ciphertexts as sizes and digests."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scenarios.show.summary import plural, size

Reals = NDArray[np.float64]
_ITEMS = 12  # of a list, a mapping or a record
_DEPTH = 3  # of lists in lists
_TEXT = 400  # characters
_BYTES = 32
_DIGITS = 40  # of an integer
_SIDE = 256  # entries of an array that are drawn, in rows and in columns
_WIDTH = 640  # pixels of the screen for a picture, at most
_TILES = 40  # samples that are drawn
_PLAIN = float(1 << 32)  # in a record, numbers from here on are taken for elements of a ring, not drawn
_TABLE = (6, 8)
_RISING = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], float)
_SIGNED = np.array([[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]], float)
_MISSING = np.array([128, 128, 128], np.uint8)


@dataclass(frozen=True)
class Picture:
    """A PNG as a data URL, its size on the screen in pixels, and what it shows in words."""

    url: str
    width: int
    height: int
    said: str


@dataclass(frozen=True)
class Shown:
    """A value, or a part of one: its name there, what it is, and what of it can be looked at."""

    name: str
    said: str
    digest: str = ""
    facts: tuple[str, ...] = ()
    picture: Picture | None = None
    table: tuple[tuple[str, ...], ...] = ()
    table_said: str = ""
    parts: tuple[Shown, ...] = ()
    more: str = ""


def shown(
    value: Any, shape: Sequence[int] = (), name: str = "", depth: int = 0, sealed: bool = False
) -> Shown:
    """A value for the page; rows of as many numbers as a sample of `shape` has are drawn as samples.

    In a record (`sealed`), numbers too large to be anything but elements of a ring are listed by size and
    digest alone.
    """
    match value:
        case np.ndarray() if value.ndim:
            return _array(value, shape, name, sealed)
        case None | bool() | int() | float() | np.generic() | np.ndarray():
            return Shown(name, _number(value))
        case str():
            return Shown(
                name, value if len(value) <= _TEXT else f"{value[:_TEXT]} ... ({len(value)} characters)"
            )
        case bytes():
            start = value[:_BYTES].hex() + (" ..." if len(value) > _BYTES else "")
            return Shown(name, f"{size(len(value))}: {start}", _digest(value))
    if depth > _DEPTH:
        return Shown(name, f"{type(value).__name__}, not opened any further")
    if is_dataclass(value) and not isinstance(value, type):
        inside: Iterator[tuple[str, Any]] = ((f.name, getattr(value, f.name)) for f in fields(value))
        said, count, sealed = f"record {type(value).__name__}", len(fields(value)), True
    elif isinstance(value, dict):
        inside, said, count = iter(value.items()), "mapping", len(value)
    else:
        inside, said, count = ((f"[{k}]", each) for k, each in enumerate(value)), "list", len(value)
    parts = tuple(
        shown(each, shape, str(key)[:80], depth + 1, sealed)
        for (key, each), _ in zip(inside, range(_ITEMS), strict=False)
    )
    more = f"and {count - _ITEMS} more" if count > _ITEMS else ""
    return Shown(name, f"{said} of {plural(count, 'part')}", parts=parts, more=more)


def _array(array: NDArray[Any], shape: Sequence[int], name: str, sealed: bool) -> Shown:
    said = f"{array.dtype.name} {' × '.join(map(str, array.shape))}, {size(array.nbytes)}"
    found = _digest(np.ascontiguousarray(array).data) if name else ""  # of a whole message its row has one
    if not array.size:
        return Shown(name, f"{said}, empty", found)
    numbers = array.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    if sealed and (not finite.size or float(np.abs(finite).max()) >= _PLAIN):
        return Shown(name, said, found)
    table, table_said = _table(array)
    return Shown(
        name, said, found, tuple(_facts(numbers, finite)), picture(numbers, shape), table, table_said
    )


def _facts(numbers: Reals, finite: Reals) -> Iterator[str]:
    if finite.size:
        yield f"least {finite.min():.6g}"
        yield f"most {finite.max():.6g}"
        yield f"mean {finite.mean():.6g}"
        yield f"{np.count_nonzero(finite == 0) / numbers.size:.1%} zeros"
    if finite.size < numbers.size:
        yield f"{numbers.size - finite.size} not finite"


def _table(array: NDArray[Any]) -> tuple[tuple[tuple[str, ...], ...], str]:
    """The first entries as numbers."""
    rows, columns = _TABLE
    flat = array if array.ndim == 1 else array.reshape(-1, array.shape[-1])
    if array.ndim == 1:
        numbers = [_number(each) for each in flat[: rows * columns]]
        cells = tuple(tuple(numbers[k : k + columns]) for k in range(0, len(numbers), columns))
        return cells, "all entries" if len(numbers) == len(flat) else f"the first {len(numbers)} entries"
    cells = tuple(tuple(_number(each) for each in row[:columns]) for row in flat[:rows])
    whole = flat.shape[0] <= rows and flat.shape[1] <= columns
    return cells, "all entries" if whole else f"the first {len(cells)} × {len(cells[0])} entries"


def _number(value: Any) -> str:
    if isinstance(value, np.ndarray | np.generic):
        value = value.item()
    if isinstance(value, float):
        return f"{value:.6g}"
    text = hex(value) if isinstance(value, int) and abs(value) >> 128 else str(value)
    if len(text) <= _DIGITS:
        return text
    return f"{text[:_DIGITS]}... ({int(value).bit_length()} bits)"


def _digest(content: Any) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def picture(numbers: Reals, shape: Sequence[int]) -> Picture:
    """An array as samples, where its rows have as many numbers as one, else as a heat map."""
    pixels = math.prod(shape) if len(shape) > 1 and min(shape) > 0 else 0
    if numbers.shape[-1] == pixels > 3 and shape[0] > 1:
        return _samples(numbers.reshape(-1, pixels), shape)
    if numbers.ndim == 1:
        return _heat(_wrapped(numbers), f"{numbers.size} entries, row by row")
    flat = numbers.reshape(-1, numbers.shape[-1])
    return _heat(flat, f"{flat.shape[0]} rows of {flat.shape[1]} columns")


def _wrapped(line: Reals) -> Reals:
    """A vector in rows of 64, or one row."""
    if line.size <= 64:
        return line.reshape(1, -1)
    filled = np.full(-(-line.size // 64) * 64, np.nan)
    filled[: line.size] = line
    return filled.reshape(-1, 64)


def _heat(flat: Reals, said: str) -> Picture:
    rows, columns = (np.unique(np.linspace(0, side - 1, min(side, _SIDE)).astype(int)) for side in flat.shape)
    whole = len(rows) == flat.shape[0] and len(columns) == flat.shape[1]
    drawn = flat[np.ix_(rows, columns)]
    colours, scale = _coloured(drawn)
    of = "" if whole else f", of which {len(rows)} × {len(columns)} are drawn, evenly"
    return _picture(colours, f"Heat map: {said}{of}; {scale}")


def _samples(rows: Reals, shape: Sequence[int]) -> Picture:
    """Rows as pictures beside each other, with a clear pixel between."""
    few = rows[:_TILES]
    height, width = shape[0], shape[1]
    colour = len(shape) == 3 and shape[2] == 3 and np.nanmin(few) >= 0
    channels = few.reshape(len(few), height, width, -1)
    if colour:
        tiles, scale = _gray(channels), "in colour"
    elif np.nanmin(few) >= 0:
        tiles, scale = np.repeat(_gray(channels.mean(axis=3, keepdims=True)), 3, axis=3), "black is 0"
        scale += f", white {np.nanmax(few):.4g}"
    else:
        tiles, scale = _coloured(channels.mean(axis=3))
    across = max(1, min(len(few), _WIDTH // (4 * (width + 1)), 10))
    down = -(-len(few) // across)
    sheet = np.zeros((down * (height + 1), across * (width + 1), 4), np.uint8)
    for k, tile in enumerate(tiles):
        y, x = k // across * (height + 1), k % across * (width + 1)
        sheet[y : y + height, x : x + width, :3] = tile
        sheet[y : y + height, x : x + width, 3] = 255
    first = "" if len(few) == len(rows) else f"the first {len(few)} of "
    said = f"{first}{plural(len(rows), 'row')} drawn as {height} × {width} pixels; {scale}"
    return _picture(sheet, f"Samples: {said}")


def _gray(values: Reals) -> NDArray[np.uint8]:
    most = np.nanmax(values) or 1.0
    found: NDArray[np.uint8] = np.rint(np.nan_to_num(values / most, nan=0.5) * 255).astype(np.uint8)
    return found


def _coloured(values: Reals) -> tuple[NDArray[np.uint8], str]:
    """Colours (..., 3) of numbers, and the scale in words; what is not finite is gray."""
    known = np.isfinite(values)
    least, most = (float(f(values[known])) if known.any() else 0.0 for f in (np.min, np.max))
    if least < 0 < most:
        end = max(-least, most)
        least, most, anchors, words = -end, end, _SIGNED, "blue {0:.4g}, white 0, red {1:.4g}"
    else:
        anchors, words = _RISING, "dark {0:.4g}, bright {1:.4g}"
    share = np.where(known, (values - least) / ((most - least) or 1.0), 0.0)
    stops = np.linspace(0, 1, len(anchors))
    colours = np.stack([np.interp(share, stops, anchors[:, k]) for k in range(3)], axis=-1)
    found = np.where(known[..., None], np.rint(colours).astype(np.uint8), _MISSING)
    return found, words.format(least, most) + ("" if known.all() else "; gray: none")


def _picture(colours: NDArray[np.uint8], said: str) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, format="PNG")
    scale = max(1, min(16, _WIDTH // colours.shape[1], _WIDTH // colours.shape[0]))
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Picture(url, colours.shape[1] * scale, colours.shape[0] * scale, said)
