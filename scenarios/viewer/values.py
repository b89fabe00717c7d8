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
    facts = _Facts.of(array)
    if sealed and facts.largest >= _PLAIN:
        return Shown(name, said, found)
    table, table_said = _table(array)
    return Shown(name, said, found, tuple(facts.said()), picture(array, shape), table, table_said)


@dataclass(frozen=True)
class _Facts:
    """What an array of any size is described by, found without a copy of it in another type."""

    least: float
    most: float
    mean: float
    zeros: float  # share
    missing: int  # entries that are not finite

    @classmethod
    def of(cls, array: NDArray[Any]) -> _Facts:
        """Of its finite entries."""
        known: Any = np.isfinite(array) if array.dtype.kind == "f" else True
        missing = 0 if known is True else int(array.size - np.count_nonzero(known))
        if missing == array.size:
            return cls(math.nan, math.nan, math.nan, 0.0, missing)
        few = array if not missing else array[known]
        mean = float(few.mean(dtype=np.float64))
        zeros = 1 - np.count_nonzero(few) / array.size - missing / array.size
        return cls(float(few.min()), float(few.max()), mean, zeros, missing)

    @property
    def largest(self) -> float:
        """The largest magnitude; infinite where nothing is finite."""
        return math.inf if math.isnan(self.least) else max(-self.least, self.most)

    def said(self) -> Iterator[str]:
        """In words."""
        if not math.isnan(self.least):
            yield f"least {self.least:.6g}"
            yield f"most {self.most:.6g}"
            yield f"mean {self.mean:.6g}"
            yield f"{self.zeros:.1%} zeros"
        if self.missing:
            yield f"{self.missing} not finite"


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


def picture(array: NDArray[Any], shape: Sequence[int]) -> Picture:
    """An array as samples, where its rows have as many numbers as one, else as a heat map."""
    pixels = math.prod(shape) if len(shape) > 1 and min(shape) > 0 else 0
    if array.shape[-1] == pixels > 3 and shape[0] > 1:
        return _samples(array.reshape(-1, pixels), shape)
    if array.ndim == 1:
        return _heat(
            _wrapped(array), f"{array.size} entries, in rows of 64" if array.size > 64 else "one row"
        )
    flat = array.reshape(-1, array.shape[-1])
    return _heat(flat, f"{flat.shape[0]} rows of {flat.shape[1]} columns")


def _wrapped(line: NDArray[Any]) -> NDArray[Any]:
    """A vector in rows of 64, the last of them filled up where they are few; or one row."""
    if line.size <= 64:
        return line.reshape(1, -1)
    if line.size > 64 * _SIDE:  # of which few are drawn
        return line[: line.size // 64 * 64].reshape(-1, 64)
    filled = np.full(-(-line.size // 64) * 64, np.nan)
    filled[: line.size] = line
    return filled.reshape(-1, 64)


def _heat(flat: NDArray[Any], said: str) -> Picture:
    rows, columns = (np.unique(np.linspace(0, side - 1, min(side, _SIDE)).astype(int)) for side in flat.shape)
    whole = len(rows) == flat.shape[0] and len(columns) == flat.shape[1]
    colours, scale = _coloured(flat[np.ix_(rows, columns)].astype(np.float64))
    of = "" if whole else f", of which {len(rows)} × {len(columns)} are drawn, evenly"
    return _picture(colours, f"Heat map: {said}{of}; {scale}")


def _samples(rows: NDArray[Any], shape: Sequence[int]) -> Picture:
    """Rows as pictures beside each other, with a clear pixel between."""
    few = rows[:_TILES].astype(np.float64)
    height, width = shape[0], shape[1]
    channels = few.reshape(len(few), height, width, -1)
    if np.isfinite(few).all() and few.min() >= 0:
        tiles, scale = _gray(channels)
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


def _gray(channels: Reals) -> tuple[NDArray[np.uint8], str]:
    """Samples (m, rows, columns, channels) from black, and the scale in words; three channels are colours."""
    if channels.shape[3] != 3:
        channels = np.repeat(channels.mean(axis=3, keepdims=True), 3, axis=3)
    most = float(channels.max())
    return np.rint(channels / (most or 1.0) * 255).astype(np.uint8), f"black is 0, brightest {most:.4g}"


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
