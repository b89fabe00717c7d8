"""Tables: rows of numbers, from an npz, a CSV or a Parquet file, as whole numbers from 0 to x_max.

Protocols carry samples as whole numbers. What a column holds is moved there by an affine map that is public,
like the shape of an image: everybody is told the least and the greatest value of each column, and the run
writes them down. Whole numbers of a span up to 255 keep their steps and lose nothing; other numbers are
rounded to 255 steps of their column's span.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.data.readers import LARGEST, Bytes, Pair, Raw, classed, classes_of, need
from protocols.language.errors import DataError

SUFFIXES = (".csv", ".parquet")
_STEPS = 255  # of a column that does not hold whole numbers
_LARGEST_CSV = 1 << 28  # bytes: text takes several times as much in memory
_TRUTH = {"true": 1.0, "false": 0.0}
_INSTALL = "pip install 'keyhole[tables]'"


@dataclass(frozen=True)
class Scale:
    """The public map of each column: `low` to 0 and `high` to `levels`."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    levels: int

    def whole(self, x: NDArray[Any], where: str) -> Bytes:
        """Numbers (N, n) as whole ones; `DataError` for what lies outside of the map: it is not clipped."""
        need(x.shape[1] == len(self.low), where, f"{len(self.low)} columns", x.shape[1])
        low, high = np.array(self.low), np.array(self.high)
        outside = ((x < low) | (x > high)).any(axis=0)
        if outside.any():
            column = int(np.flatnonzero(outside)[0])
            said = f"{low[column]:g} to {high[column]:g} in column {column}, as the map of the run has it"
            need(False, where, said, f"{x[:, column].min():g} to {x[:, column].max():g}")
        span = np.where(high > low, high - low, 1.0)
        found: Bytes = np.rint((x - low) / span * self.levels).astype(np.uint8)
        return found


def scale_of(x: NDArray[Any], whole: bool) -> Scale:
    """The map of a table (N, n): of whole numbers that keeps their steps, of numbers in [0, 1] none, of
    others by the span of each column.
    """
    low, high = x.min(axis=0), x.max(axis=0)
    if whole and low.min() >= 0 and high.max() <= _STEPS:
        low = np.zeros_like(low)
    if whole and (high - low).max() <= _STEPS:
        levels = max(1, int((high - low).max()))
        return Scale(tuple(low.tolist()), tuple((low + levels).tolist()), levels)
    if low.min() >= 0 and high.max() <= 1:
        low, high = np.zeros_like(low), np.ones_like(high)
    return Scale(tuple(low.tolist()), tuple(high.tolist()), _STEPS)


def table(where: str, train: Pair, test: Pair | None, scale: Scale | None, names: tuple[str, ...]) -> Raw:
    """A checked table; `scale` and `names` (of classes) are those of a run that goes on, or asks."""
    x, whole = _numbers(train[0], where)
    x_test = None if test is None else _numbers(test[0], f"{where} (test set)")[0]
    if x_test is not None:
        need(x_test.shape[1] == x.shape[1], where, f"test samples of {x.shape[1]} columns", x_test.shape[1])
    both = x if x_test is None else np.concatenate([x, x_test])
    scale = scale or scale_of(both, whole and (test is None or _numbers(test[0], where)[1]))
    labels, names = classed(train[1], where, len(x), names)
    samples = scale.whole(x, where)
    if test is None or x_test is None:
        raw = Raw(samples, labels)
    else:
        said = f"{where} (test set)"
        test_labels, _ = classed(test[1], said, len(x_test), names, int(labels.max()) + 1)
        raw = Raw(samples, labels, scale.whole(x_test, said), test_labels)
    return raw.known(scale.levels, names, scale.low, scale.high)


def _numbers(x: NDArray[Any], where: str) -> tuple[NDArray[np.float64], bool]:
    """Finite numbers (N, n), and whether they are whole by their type."""
    need(x.ndim == 2 and x.size > 0, where, "a table (N, features), neither of them 0", x.shape)
    need(x.dtype.kind in "buif", where, "columns of numbers", f"dtype {x.dtype}")
    found = x.astype(np.float64)
    bad = ~np.isfinite(found)
    if bad.any():
        row, column = (int(k) for k in np.argwhere(bad)[0])
        need(False, where, "finite numbers", f"{found[row, column]} in row {row + 1}, column {column + 1}")
    return found, x.dtype.kind in "bui"


def read_table(
    path: Path, target: str | None, scale: Scale | None = None, names: tuple[str, ...] = ()
) -> Raw:
    """A CSV or Parquet file whose column `target` holds the classes, numbers or texts; by default the last
    column.
    """
    columns = _parquet(path) if path.suffix == ".parquet" else _csv(path)
    need(len(columns) > 1, path, "at least two columns, one of them the target", len(columns))
    chosen = list(columns)[-1] if target is None else target
    if chosen not in columns:
        known = ", ".join(list(columns)[:12]) + (" ..." if len(columns) > 12 else "")
        raise DataError(f"{path}: --class-column {chosen}: no such column; columns: {known}")
    y = _target(columns.pop(chosen), path, chosen)
    for name, values in columns.items():
        text = values.dtype.kind not in "buif"
        need(not text, path, f"numbers in column {name!r}", _first_text(values) if text else "")
    whole = all(values.dtype.kind in "bui" for values in columns.values())
    x = np.stack([values.astype(np.int64 if whole else np.float64) for values in columns.values()], axis=1)
    return table(str(path), (x, y), None, scale, names)


def _first_text(values: NDArray[Any]) -> str:
    """The first entry of a column that is no number, and where it stands; the first row is row 1."""
    for row, value in enumerate(values.tolist(), 1):
        try:
            float(value)
        except (TypeError, ValueError):
            return f"{value!r} in row {row}"
    return f"{values.dtype}"


def _target(values: NDArray[Any], path: Path, name: str) -> NDArray[Any]:
    """Classes as whole numbers or texts: numbers that are none of 0..k-1 are names."""
    if values.dtype.kind == "f":
        real = f"whole numbers or texts in the target column {name!r}"
        need(
            bool(np.isfinite(values).all() and (values == np.rint(values)).all()), path, real, "other numbers"
        )
        values = values.astype(np.int64)
    return classes_of(values)


def _csv(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a CSV file with a line of names."""
    _file(path, _LARGEST_CSV)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            names = next(rows, [])
            _named(path, names)
            values: list[list[str]] = [[] for _ in names]
            for row in rows:
                if not row:
                    continue
                need(len(row) == len(names), path, f"{len(names)} values in line {rows.line_num}", len(row))
                for column, value in zip(values, row, strict=True):
                    column.append(value.strip())
    except (UnicodeDecodeError, csv.Error, OSError) as cause:
        raise DataError(f"{path}: expected a readable CSV file ({type(cause).__name__})") from None
    need(bool(values and values[0]), path, "lines below the names of the columns", "none")
    return {name: _typed(path, name, column) for name, column in zip(names, values, strict=True)}


def _named(path: Path, names: list[str]) -> None:
    need(bool(names), path, "a first line with the names of the columns", "an empty file")
    twice = sorted({name for name in names if names.count(name) > 1})
    need(not twice, path, "columns of different names", f"{twice[0]!r} twice" if twice else "")
    numbers = all(_is_number(name) for name in names)
    need(not numbers, path, "a first line with the names of the columns", "numbers")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _typed(path: Path, name: str, values: list[str]) -> NDArray[Any]:
    """A column as whole numbers, numbers or texts, whichever all of it is; `DataError` for a gap."""
    gap = next((k for k, value in enumerate(values) if value == ""), None)
    need(gap is None, path, f"a value in every line of column {name!r}", f"none in line {(gap or 0) + 2}")
    if all(value.lower() in _TRUTH for value in values):
        return np.array([value.lower() == "true" for value in values])
    try:
        return np.array([int(value) for value in values], dtype=np.int64)
    except (ValueError, OverflowError):
        pass
    try:
        return np.array([float(value) for value in values])
    except ValueError:
        return np.array(values)


def _parquet(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a Parquet file."""
    _file(path, LARGEST)
    if find_spec("pyarrow") is None:
        raise DataError(f"{path}: Parquet is read by pyarrow, which is not installed: {_INSTALL}")
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            said = file.metadata
            least = 8 * said.num_rows * said.num_columns  # as numbers; texts by what the file says of them
            nbytes = max(least, sum(said.row_group(k).total_byte_size for k in range(said.num_row_groups)))
            need(nbytes <= LARGEST, path, f"at most {LARGEST >> 20} MiB of columns", f"{nbytes >> 20} MiB")
            found = file.read()
    except (pyarrow.ArrowException, OSError, ValueError) as cause:
        raise DataError(f"{path}: expected a readable Parquet file ({type(cause).__name__})") from None
    need(found.num_rows > 0, path, "at least one row", "none")
    return {name: _column(path, name, found.column(name)) for name in found.column_names}


def _column(path: Path, name: str, values: Any) -> NDArray[Any]:
    need(
        values.null_count == 0, path, f"a value in every row of column {name!r}", f"{values.null_count} nulls"
    )
    found = np.asarray(values.to_numpy())
    if found.dtype.kind == "O":  # texts; anything else is refused by its first value
        texts = values.to_pylist()
        need(all(isinstance(text, str) for text in texts), path, f"numbers or texts in {name!r}", values.type)
        return np.array(texts)
    return found


def _file(path: Path, largest: int) -> None:
    if not path.is_file():
        what = "not a file" if path.exists() else "no such file"
        raise DataError(f"{path}: {what}; expected a {path.suffix[1:]} file")
    nbytes = path.stat().st_size
    need(nbytes <= largest, path, f"at most {largest >> 20} MiB", f"{nbytes >> 20} MiB")
