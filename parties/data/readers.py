"""Readers of image files: idx (MNIST), the binary version of CIFAR-10, and npz archives.

A reader takes a path and returns a `Raw`, or raises one `DataError` that names the file and what was expected of it.
Nothing here unpickles: a file of somebody else's cannot run code.
"""

from __future__ import annotations

import gzip
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

_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    zipfile.BadZipFile,
    MemoryError,
    NotImplementedError,
)
_CIFAR_SHAPE = (32, 32, 3)
_CIFAR_RECORD = 1 + 32 * 32 * 3  # a label, then 1024 red, 1024 green and 1024 blue pixels
_CIFAR_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_CIFAR_TEST = "test_batch.bin"


@dataclass(frozen=True)
class Raw:
    """What a file holds: images (N, rows, columns[, channels]) uint8 in 0..255, labels (N,); the same of a test set."""

    images: Bytes
    labels: Labels
    test_images: Bytes | None = None
    test_labels: Labels | None = None


def read_mnist(folder: Path) -> Raw:
    """Read the four idx files of `folder`, each gzipped or not."""
    train = [_read_idx(_find(folder, f"train-{kind}"), ndim) for kind, ndim in (("images", 3), ("labels", 1))]
    test = [_read_idx(_find(folder, f"t10k-{kind}"), ndim) for kind, ndim in (("images", 3), ("labels", 1))]
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DataError(
            f"{folder}: training images are {train[0].shape[1:]} pixels, test images {test[0].shape[1:]}"
        )
    images, labels = checked(train[0], train[1], str(folder))
    classes = int(labels.max()) + 1
    return Raw(images, labels, *checked(test[0], test[1], f"{folder} (test set)", classes))


def read_cifar10(folder: Path) -> Raw:
    """Read `data_batch_1.bin` to `data_batch_5.bin` (those there are) and `test_batch.bin`, or the one npz there is."""
    batches = [folder / name for name in _CIFAR_TRAIN if (folder / name).is_file()]
    archives = sorted(folder.glob("*.npz"))
    if not batches and len(archives) == 1:
        return read_npz(archives[0])
    if not batches:
        raise DataError(
            f"{folder}: expected data_batch_1.bin ... data_batch_5.bin (binary version) or just one .npz"
        )
    parts = [_read_cifar_batch(path) for path in batches]
    images, labels = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    images, labels = checked(images, labels, str(folder))
    if not (folder / _CIFAR_TEST).is_file():
        return Raw(images, labels)
    test = _read_cifar_batch(folder / _CIFAR_TEST)
    return Raw(images, labels, *checked(*test, str(folder / _CIFAR_TEST), int(labels.max()) + 1))


def read_npz(path: Path) -> Raw:
    """Read `images` or `X`, `labels` or `y`, and `test_images`, `test_labels` (or `X_test`, `y_test`) where present."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files if name in _NPZ_KEYS}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected an .npz archive") from None
    except (*_UNREADABLE, AttributeError) as cause:
        raise DataError(
            f"{path}: expected a readable .npz archive of plain arrays ({type(cause).__name__})"
        ) from None
    x, y = _pick(arrays, path, "images", "X"), _pick(arrays, path, "labels", "y")
    if x is None or y is None:
        missing = "'images' (or 'X')" if x is None else "'labels' (or 'y')"
        raise DataError(f"{path}: expected an array {missing} in the archive")
    images, labels = checked(x, y, str(path))
    x, y = _pick(arrays, path, "test_images", "X_test"), _pick(arrays, path, "test_labels", "y_test")
    if (x is None) != (y is None):
        raise DataError(f"{path}: expected both test images and test labels, or neither")
    if x is None or y is None:
        return Raw(images, labels)
    test = checked(x, y, f"{path} (test set)", int(labels.max()) + 1)
    if test[0].shape[1:] != images.shape[1:]:
        raise DataError(
            f"{path}: training images have shape {images.shape[1:]}, test images {test[0].shape[1:]}"
        )
    return Raw(images, labels, *test)


def checked(
    images: NDArray[Any], labels: NDArray[Any], where: str, classes: int | None = None
) -> tuple[Bytes, Labels]:
    """Return images as uint8 and labels as int64, or raise `DataError`.

    Integer images must lie in 0..255; floats must lie in [0, 1] and are scaled by 255 and rounded. With `classes` the
    labels lie in 0..classes-1, without it they are 0..k-1 and every class occurs.
    """
    if images.ndim not in (3, 4) or images.size == 0 or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        expected = "expected images of shape (N, rows, columns) or (N, rows, columns, 1 or 3), none of them 0"
        raise DataError(f"{where}: {expected}; got {images.shape}")
    if labels.shape != images.shape[:1]:
        raise DataError(
            f"{where}: expected one label for each of {len(images)} images, got shape {labels.shape}"
        )
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    return _pixels(images, where), _classes(labels, where, classes)


def _pixels(images: NDArray[Any], where: str) -> Bytes:
    if images.dtype.kind not in "buif":
        raise DataError(f"{where}: expected numeric images, got dtype {images.dtype}")
    if images.dtype == np.uint8:
        return images
    top, unit = (1.0, "floats in [0, 1]") if images.dtype.kind == "f" else (255.0, "integers in 0..255")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0.0 and high <= top):  # a NaN fails here too
        raise DataError(f"{where}: expected images of {unit}, got values from {low:g} to {high:g}")
    scaled = np.rint(images.astype(np.float64) * 255) if images.dtype.kind == "f" else images
    return scaled.astype(np.uint8)


def _classes(labels: NDArray[Any], where: str, classes: int | None) -> Labels:
    if labels.dtype.kind not in "ui":
        raise DataError(f"{where}: expected integer labels 0..k-1, got dtype {labels.dtype}")
    low, high = int(labels.min()), int(labels.max())
    if classes is not None and not (low >= 0 and high < classes):
        raise DataError(f"{where}: expected labels in 0..{classes - 1}, got {low} to {high}")
    if classes is None and (low != 0 or len(np.unique(labels)) != high + 1):
        raise DataError(f"{where}: expected labels 0..k-1 with every class present, got {low} to {high}")
    return labels.astype(np.int64)


_NPZ_KEYS = frozenset(("images", "X", "labels", "y", "test_images", "X_test", "test_labels", "y_test"))


def _pick(arrays: dict[str, NDArray[Any]], path: Path, first: str, second: str) -> NDArray[Any] | None:
    if first in arrays and second in arrays:
        raise DataError(f"{path}: expected only one of {first!r} and {second!r}, got both")
    return arrays.get(first, arrays.get(second))


def _find(folder: Path, stem: str) -> Path:
    kind = "idx3" if stem.endswith("images") else "idx1"
    names = [f"{stem}{sep}{kind}-ubyte{suffix}" for suffix in ("", ".gz") for sep in ("-", ".")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder}: expected the MNIST file {names[0]} or {names[2]}")


def _read_idx(path: Path, ndim: int) -> Bytes:
    """Read one idx file of bytes: magic 0, 0, 8, ndim; the sizes as big-endian u32; then the values, row by row."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except _UNREADABLE as cause:
        raise DataError(f"{path}: expected a readable idx file ({type(cause).__name__})") from None
    head = 4 + 4 * ndim
    if len(data) < head or data[:4] != bytes((0, 0, 8, ndim)):
        raise DataError(f"{path}: expected an idx file of bytes with {ndim} dimension(s)")
    shape = tuple(int(s) for s in np.frombuffer(data, ">u4", ndim, 4))
    count = int(np.prod(shape, dtype=object))
    if len(data) != head + count:
        raise DataError(
            f"{path}: expected {count} values of shape {shape} after the header, got {len(data) - head}"
        )
    return np.frombuffer(data, np.uint8, count, head).reshape(shape)


def _read_cifar_batch(path: Path) -> tuple[Bytes, Labels]:
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except _UNREADABLE as cause:
        raise DataError(f"{path}: expected a readable CIFAR-10 batch ({type(cause).__name__})") from None
    if data.size == 0 or data.size % _CIFAR_RECORD:
        raise DataError(
            f"{path}: expected a multiple of {_CIFAR_RECORD} bytes (binary version), got {data.size}"
        )
    records = data.reshape(-1, _CIFAR_RECORD)
    if int(records[:, 0].max()) > 9:
        raise DataError(f"{path}: expected labels in 0..9, got {int(records[:, 0].max())}")
    images = records[:, 1:].reshape(-1, 3, *_CIFAR_SHAPE[:2]).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0].astype(np.int64)
