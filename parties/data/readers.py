"""Readers of image files: idx (MNIST), the binary version of CIFAR-10, and npz archives.

A reader takes a path and returns a `Raw`, or raises one `DataError` that names the file and what was expected
of it. Nothing here unpickles: a file of somebody else's cannot run code. It cannot fill the memory either:
what it unpacks to is looked at before it is unpacked.
"""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import DataError

Bytes = NDArray[np.uint8]
Labels = NDArray[np.int64]

_LARGEST = 1 << 31  # bytes of the arrays of one file, unpacked
_CIFAR_SHAPE = (32, 32, 3)
_CIFAR_RECORD = 1 + 32 * 32 * 3  # a label, then 1024 red, 1024 green and 1024 blue pixels
_CIFAR_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_CIFAR_TEST = "test_batch.bin"


@dataclass(frozen=True)
class Raw:
    """Images (N, rows, columns[, channels]) uint8 in 0..255 and labels (N,); the same of a test set."""

    images: Bytes
    labels: Labels
    test_images: Bytes | None = None
    test_labels: Labels | None = None


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
    _need(bool(batches), folder, "data_batch_1.bin ... data_batch_5.bin (binary version) or just one .npz")
    parts = [_read_cifar_batch(path) for path in batches]
    train = np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])
    test = folder / _CIFAR_TEST
    return _whole(str(folder), train, _read_cifar_batch(test) if test.is_file() else None)


def read_npz(path: Path) -> Raw:
    """Read `images` or `X`, `labels` or `y`, and if present `test_images`, `test_labels` (`X_test`, ...)."""
    arrays = _arrays(path)
    x, y = _pick(arrays, path, "images", "X"), _pick(arrays, path, "labels", "y")
    missing = "'images' (or 'X')" if x is None else "'labels' (or 'y')"
    if x is None or y is None:
        raise DataError(f"{path}: expected an array {missing} in the archive")
    test_x, test_y = (
        _pick(arrays, path, "test_images", "X_test"),
        _pick(arrays, path, "test_labels", "y_test"),
    )
    _need((test_x is None) == (test_y is None), path, "both test images and test labels, or neither")
    return _whole(str(path), (x, y), None if test_x is None or test_y is None else (test_x, test_y))


def _need(holds: bool, where: Path | str, expected: str, got: object = "") -> None:
    if not holds:
        raise DataError(f"{where}: expected {expected}" + (f", got {got}" if got != "" else ""))


Pair = tuple[NDArray[Any], NDArray[Any]]


def _whole(where: str, train: Pair, test: Pair | None) -> Raw:
    """Training and test sets, checked, of images of one shape."""
    images, labels = checked(*train, where)
    if test is None:
        return Raw(images, labels)
    test_images, test_labels = checked(*test, f"{where} (test set)", int(labels.max()) + 1)
    shape = images.shape[1:]
    _need(test_images.shape[1:] == shape, where, f"test images of shape {shape}", test_images.shape[1:])
    return Raw(images, labels, test_images, test_labels)


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
        read_header = (None, np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0)
        shape, _, dtype = read_header[np.lib.format.read_magic(file)[0]](file)  # type: ignore[misc]
        if math.prod(shape) * dtype.itemsize > info.file_size:
            raise ValueError("an array is longer than the archive")
    with archive.open(info) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _check_size(path: Path, nbytes: int) -> None:
    _need(nbytes <= _LARGEST, path, f"at most {_LARGEST >> 20} MiB of arrays", f"{nbytes >> 20} MiB")


def checked(
    images: NDArray[Any], labels: NDArray[Any], where: str, classes: int | None = None
) -> tuple[Bytes, Labels]:
    """Return images as uint8 and labels as int64, or raise `DataError`.

    Integer images must lie in 0..255, and not all in 0..1: those say nothing of their scale. Floats must lie
    in [0, 1] and are scaled by 255 and rounded; truth values are black and white. With
    `classes` the labels lie in 0..classes-1, without it they are 0..k-1 and every class occurs.
    """
    known = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
    expected = "images of shape (N, rows, columns) or (N, rows, columns, 1 or 3), none of them 0"
    _need(known and images.size > 0, where, expected, images.shape)
    _need(
        labels.shape == images.shape[:1], where, f"one label for each of {len(images)} images", labels.shape
    )
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    return _pixels(images, where), _classes(labels, where, classes)


def _pixels(images: NDArray[Any], where: str) -> Bytes:
    _need(images.dtype.kind in "buif", where, "numeric images", f"dtype {images.dtype}")
    if images.dtype.kind == "b":
        return images.astype(np.uint8) * np.uint8(255)
    if images.dtype.kind in "ui" and images.max() == 1 and images.min() >= 0:
        expected = "integers in 0..255; give images of 0 and 1 as booleans or floats, which are scaled"
        _need(False, where, expected, "integers in 0..1")
    if images.dtype == np.uint8:
        return images
    top, unit = (1.0, "floats in [0, 1]") if images.dtype.kind == "f" else (255.0, "integers in 0..255")
    low, high = float(images.min()), float(images.max())
    _need(
        low >= 0.0 and high <= top, where, f"images of {unit}", f"{low:g} to {high:g}"
    )  # not of a NaN either
    scaled = np.rint(images.astype(np.float64) * 255) if images.dtype.kind == "f" else images
    return scaled.astype(np.uint8)


def _classes(labels: NDArray[Any], where: str, classes: int | None) -> Labels:
    _need(labels.dtype.kind in "ui", where, "integer labels 0..k-1", f"dtype {labels.dtype}")
    low, high = int(labels.min()), int(labels.max())
    if classes is not None:
        _need(low >= 0 and high < classes, where, f"labels in 0..{classes - 1}", f"{low} to {high}")
    else:
        every = low == 0 and len(np.unique(labels)) == high + 1
        _need(every, where, "labels 0..k-1 with every class present", f"{low} to {high}")
    return labels.astype(np.int64)


_NPZ_KEYS = frozenset(("images", "X", "labels", "y", "test_images", "X_test", "test_labels", "y_test"))


def _pick(arrays: dict[str, NDArray[Any]], path: Path, first: str, second: str) -> NDArray[Any] | None:
    _need(first not in arrays or second not in arrays, path, f"only one of {first!r} and {second!r}", "both")
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
            _need(start[:4] == bytes((0, 0, 8, ndim)), path, f"an idx file of bytes with {ndim} dimension(s)")
            shape = tuple(int(s) for s in np.frombuffer(start, ">u4", ndim, 4))
            count = math.prod(shape)
            _check_size(path, count)
            data = file.read(count + 1)
    except (OSError, EOFError, zlib.error) as cause:
        raise DataError(f"{path}: expected a readable idx file ({type(cause).__name__})") from None
    got = "more" if len(data) > count else len(data)
    _need(len(data) == count, path, f"{count} values of shape {shape} after the header", got)
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_cifar_batch(path: Path) -> tuple[Bytes, Labels]:
    try:
        _check_size(path, path.stat().st_size)
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as cause:
        raise DataError(f"{path}: expected a readable CIFAR-10 batch ({type(cause).__name__})") from None
    whole = data.size > 0 and data.size % _CIFAR_RECORD == 0
    _need(whole, path, f"a multiple of {_CIFAR_RECORD} bytes (binary version)", data.size)
    records = data.reshape(-1, _CIFAR_RECORD)
    _need(int(records[:, 0].max()) <= 9, path, "labels in 0..9", int(records[:, 0].max()))
    images = records[:, 1:].reshape(-1, 3, *_CIFAR_SHAPE[:2]).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0].astype(np.int64)
