"""Readers of files: idx (MNIST), the binary version of CIFAR-10, and npz archives.

A reader takes a path and returns a `Raw`, or raises one `DataError` that names the file and what was expected
of it. Nothing here unpickles: a file of somebody else's cannot run code. It cannot fill the memory either:
what it unpacks to is looked at before it is unpacked.
"""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import DataError

Bytes = NDArray[np.uint8]
Labels = NDArray[np.int64]

LARGEST = 1 << 31  # bytes of the arrays of one file, unpacked
_CIFAR_SHAPE = (32, 32, 3)
_CIFAR_RECORD = 1 + 32 * 32 * 3  # a label, then 1024 red, 1024 green and 1024 blue pixels
_CIFAR_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_CIFAR_TEST = "test_batch.bin"


@dataclass(frozen=True)
class Raw:
    """Images (N, rows, columns[, channels]), or rows of a table (N, n), uint8 in 0..x_max, and labels (N,);
    the same of a test set. `names` of the classes where they have some; `low` and `high` of each column of a
    table.
    """

    images: Bytes
    labels: Labels
    test_images: Bytes | None = None
    test_labels: Labels | None = None
    x_max: int = 255
    names: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def known(
        self, x_max: int, names: tuple[str, ...], low: tuple[float, ...] = (), high: tuple[float, ...] = ()
    ) -> Raw:
        """The same with what is public of it."""
        return replace(self, x_max=x_max, names=names, low=low, high=high)


def read_mnist(folder: Path) -> Raw:
    """Read the four idx files of `folder`, each gzipped or not."""
    train, test = (
        (_read_idx(_find(folder, f"{stem}-images"), 3), _read_idx(_find(folder, f"{stem}-labels"), 1))
        for stem in ("train", "t10k")
    )
    return _whole(str(folder), train, test)


def read_cifar10(folder: Path) -> Raw:
    """Read `data_batch_1.bin` ... `data_batch_5.bin` (those there are), `test_batch.bin`; or the only npz."""
    batches = [folder / name for name in _CIFAR_TRAIN if (folder / name).is_file()]
    archives = sorted(folder.glob("*.npz"))
    if not batches and len(archives) == 1:
        return read_npz(archives[0])
    need(bool(batches), folder, "data_batch_1.bin ... data_batch_5.bin (binary version) or just one .npz")
    parts = [_read_cifar_batch(path) for path in batches]
    train = np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])
    test = folder / _CIFAR_TEST
    return _whole(str(folder), train, _read_cifar_batch(test) if test.is_file() else None)


def read_npz(path: Path, names: tuple[str, ...] = ()) -> Raw:
    """Read `images` or `X`, `labels` or `y`, and if present `test_images`, `test_labels` (`X_test`, ...)."""
    train, test = read_pairs(path)
    return _whole(str(path), train, test, names)


def read_pairs(path: Path) -> tuple[Pair, Pair | None]:
    """The samples and labels of an npz, and those of its test set, as they are."""
    arrays = _arrays(path)
    x, y = _pick(arrays, path, "images", "X"), _pick(arrays, path, "labels", "y")
    missing = "'images' (or 'X')" if x is None else "'labels' (or 'y')"
    if x is None or y is None:
        raise DataError(f"{path}: expected an array {missing} in the archive")
    test_x, test_y = (
        _pick(arrays, path, "test_images", "X_test"),
        _pick(arrays, path, "test_labels", "y_test"),
    )
    need((test_x is None) == (test_y is None), path, "both test images and test labels, or neither")
    return (x, y), None if test_x is None or test_y is None else (test_x, test_y)


def features_in(path: Path) -> NDArray[np.float32]:
    """The `features` (N, d) of the samples of an npz, finite and not below 0."""
    arrays = _arrays(path)
    if "features" not in arrays:
        raise DataError(f"{path}: expected an array 'features' (N, d) beside images and labels")
    found = arrays["features"]
    need(found.ndim == 2 and found.size > 0, path, "features of shape (N, d), neither of them 0", found.shape)
    need(found.dtype.kind in "buif", path, "numeric features", f"dtype {found.dtype}")
    real = np.asarray(found, np.float32)
    need(bool(np.isfinite(real).all()), path, "finite features")
    need(float(real.min()) >= 0, path, "features of at least 0, as of a ReLU", f"{real.min():g}")
    return real


def is_table(path: Path) -> bool:
    """Whether an npz holds `X` (N, features), by the header of the array alone."""
    if not path.is_file():
        return False  # the reader says what is wrong
    try:
        with zipfile.ZipFile(path) as archive, archive.open("X.npy") as file:
            return len(_header(file)[0]) == 2
    except Exception:  # of zipfile, zlib and numpy; the reader says what is wrong
        return False


def need(holds: bool, where: Path | str, expected: str, got: object = "") -> None:
    if not holds:
        raise DataError(f"{where}: expected {expected}" + (f", got {got}" if got != "" else ""))


Pair = tuple[NDArray[Any], NDArray[Any]]


def _whole(where: str, train: Pair, test: Pair | None, names: tuple[str, ...] = ()) -> Raw:
    """Training and test sets, checked, of images of one shape."""
    levels = _levels([train[0], *([] if test is None else [test[0]])])
    images = _images(*train, where, levels)
    labels, names = classed(train[1], where, len(images), names)
    if test is None:
        return Raw(images, labels).known(levels, names)
    said = f"{where} (test set)"
    test_images = _images(*test, said, levels)
    test_labels, _ = classed(test[1], said, len(test_images), names, int(labels.max()) + 1)
    shape = images.shape[1:]
    need(test_images.shape[1:] == shape, where, f"test images of shape {shape}", test_images.shape[1:])
    return Raw(images, labels, test_images, test_labels).known(levels, names)


def _levels(images: list[NDArray[Any]]) -> int:
    """The largest pixel there may be: 1 where there are truth values, or whole numbers of 0 and 1, alone."""
    whole = all(each.dtype.kind in "bui" and each.size for each in images)
    if whole and all(int(each.min()) >= 0 for each in images) and max(int(e.max()) for e in images) == 1:
        return 1
    return 1 if all(each.dtype.kind == "b" for each in images) else 255


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an archive that have one of the names we know."""
    if not path.is_file():
        what = "not a file" if path.exists() else "no such file"
        raise DataError(f"{path}: {what}; expected an .npz archive")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            known = {name: info for name, info in members.items() if name in _NPZ_KEYS}
            _check_size(path, sum(info.file_size for info in known.values()))
            return {name: _array(archive, info) for name, info in known.items()}
    except DataError:
        raise
    except Exception as cause:  # zipfile, zlib and numpy have a dozen for what is wrong with a file
        said = f"expected a readable .npz archive of plain arrays ({type(cause).__name__})"
        raise DataError(f"{path}: {said}") from None


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """One array; `ValueError` if its header announces more than there is: numpy would make room for it."""
    with archive.open(info) as file:
        shape, dtype = _header(file)
        if math.prod(shape) * dtype.itemsize > info.file_size:
            raise ValueError("an array is longer than the archive")
    with archive.open(info) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """(shape, type) that an array's header announces."""
    read_header = (None, np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0)
    shape, _, dtype = read_header[np.lib.format.read_magic(file)[0]](file)  # type: ignore[misc]
    return shape, dtype


def _check_size(path: Path, nbytes: int) -> None:
    need(nbytes <= LARGEST, path, f"at most {LARGEST >> 20} MiB of arrays", f"{nbytes >> 20} MiB")


def checked(
    images: NDArray[Any], labels: NDArray[Any], where: str, classes: int | None = None
) -> tuple[Bytes, Labels]:
    """Return images as uint8 in 0..255 and labels as int64, or raise `DataError`."""
    found = _images(images, labels, where, 255)
    return found, classed(labels, where, len(found), (), classes)[0]


def _images(images: NDArray[Any], labels: NDArray[Any], where: str, levels: int) -> Bytes:
    """Images as uint8 in 0..levels.

    Whole numbers must lie in 0..255; where all are 0 or 1, as truth values are, `levels` is 1. Floats must
    lie in [0, 1] and are scaled by 255 and rounded.
    """
    known = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
    expected = "images of shape (N, rows, columns) or (N, rows, columns, 1 or 3), none of them 0"
    if images.ndim == 2:
        expected += ", or a table as 'X' of shape (N, features)"
    need(known and images.size > 0, where, expected, images.shape)
    need(labels.shape == images.shape[:1], where, f"one label for each of {len(images)} images", labels.shape)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    return _pixels(images, where, levels)


def _pixels(images: NDArray[Any], where: str, levels: int) -> Bytes:
    need(images.dtype.kind in "buif", where, "numeric images", f"dtype {images.dtype}")
    if images.dtype.kind == "b":
        return images.astype(np.uint8) * np.uint8(levels)
    if images.dtype == np.uint8:
        return images
    top, unit = (1.0, "floats in [0, 1]") if images.dtype.kind == "f" else (255.0, "integers in 0..255")
    low, high = float(images.min()), float(images.max())
    need(
        low >= 0.0 and high <= top, where, f"images of {unit}", f"{low:g} to {high:g}"
    )  # not of a NaN either
    scaled = np.rint(images.astype(np.float64) * 255) if images.dtype.kind == "f" else images
    return scaled.astype(np.uint8)


def classes_of(labels: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers that are not 0..k-1 as texts, which name their classes."""
    if labels.dtype.kind not in "ui" or not labels.size:
        return labels
    found = np.unique(labels)
    return labels if np.array_equal(found, np.arange(len(found))) else labels.astype(str)


def classed(
    labels: NDArray[Any], where: str, count: int, names: tuple[str, ...] = (), classes: int | None = None
) -> tuple[Labels, tuple[str, ...]]:
    """(labels in 0..k-1, names of the classes, if they have some).

    Texts are names, numbered in their order, or in that of the `names` that are known. Numbers lie in
    0..classes-1 with `classes`; without it they are 0..k-1, every class occurs, and there are two.
    """
    need(labels.shape == (count,), where, f"one label for each of {count} samples", labels.shape)
    if labels.dtype.kind == "b":
        labels = labels.astype(np.int64)
    if labels.dtype.kind in "US":
        texts = labels.astype(str)
        if not names:
            names = tuple(np.unique(texts).tolist())
        strange = np.setdiff1d(texts, names)
        need(
            not len(strange),
            where,
            f"labels among {', '.join(names[:12])}",
            repr(str(next(iter(strange), ""))),
        )
        order = np.argsort(names)
        labels = order[np.searchsorted(np.array(names)[order], texts)]
    elif names and labels.dtype.kind in "ui" and np.isin(labels.astype(str), names).all():
        return classed(labels.astype(str), where, count, names, classes)
    need(labels.dtype.kind in "ui", where, "integer labels 0..k-1, or texts", f"dtype {labels.dtype}")
    low, high = int(labels.min()), int(labels.max())
    if classes is not None or names:
        most = (len(names) if classes is None else classes) - 1
        need(low >= 0 and high <= most, where, f"labels in 0..{most}", f"{low} to {high}")
    else:
        every = low == 0 and len(np.unique(labels)) == high + 1
        need(every, where, "labels 0..k-1 with every class present", f"{low} to {high}")
    need(classes is not None or high > 0, where, "at least two classes", "one")
    return labels.astype(np.int64), names


_NPZ_KEYS = frozenset("images X labels y test_images X_test test_labels y_test features".split())


def _pick(arrays: dict[str, NDArray[Any]], path: Path, first: str, second: str) -> NDArray[Any] | None:
    need(first not in arrays or second not in arrays, path, f"only one of {first!r} and {second!r}", "both")
    return arrays.get(first, arrays.get(second))


def _find(folder: Path, stem: str) -> Path:
    kind = "idx3" if stem.endswith("images") else "idx1"
    names = [f"{stem}{sep}{kind}-ubyte{suffix}" for suffix in ("", ".gz") for sep in ("-", ".")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder}: expected the MNIST file {names[0]} or {names[2]}")


def _read_idx(path: Path, ndim: int) -> Bytes:
    """Read one idx file of bytes: magic 0, 0, 8, ndim; sizes as big-endian u32; the values, row by row."""
    head = 4 + 4 * ndim
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(head)
            need(start[:4] == bytes((0, 0, 8, ndim)), path, f"an idx file of bytes with {ndim} dimension(s)")
            shape = tuple(int(s) for s in np.frombuffer(start, ">u4", ndim, 4))
            count = math.prod(shape)
            _check_size(path, count)
            data = file.read(count + 1)
    except (OSError, EOFError, zlib.error) as cause:
        raise DataError(f"{path}: expected a readable idx file ({type(cause).__name__})") from None
    got = "more" if len(data) > count else len(data)
    need(len(data) == count, path, f"{count} values of shape {shape} after the header", got)
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_cifar_batch(path: Path) -> tuple[Bytes, Labels]:
    try:
        _check_size(path, path.stat().st_size)
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as cause:
        raise DataError(f"{path}: expected a readable CIFAR-10 batch ({type(cause).__name__})") from None
    whole = data.size > 0 and data.size % _CIFAR_RECORD == 0
    need(whole, path, f"a multiple of {_CIFAR_RECORD} bytes (binary version)", data.size)
    records = data.reshape(-1, _CIFAR_RECORD)
    need(int(records[:, 0].max()) <= 9, path, "labels in 0..9", int(records[:, 0].max()))
    images = records[:, 1:].reshape(-1, 3, *_CIFAR_SHAPE[:2]).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0].astype(np.int64)
