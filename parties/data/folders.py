"""A folder of class folders of PNG and JPEG files, of one size; `train/` and `test/` above them if it has a
test set.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from parties.data.readers import LARGEST, Bytes, Raw, classed, need
from protocols.language.errors import DataError

_SUFFIXES = (".png", ".jpg", ".jpeg")
_GRAY = ("1", "L")
_KNOWN = (*_GRAY, "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr")  # of eight bits a channel


def read_folder(folder: Path, names: tuple[str, ...] = ()) -> Raw:
    """Read every picture, folders and files by name; colour where one of them has colours. The folders are
    the classes.
    """
    parts = [folder / "train", folder / "test"]
    if not all(part.is_dir() for part in parts):
        parts = [folder]
    found = [list(_files(part)) for part in parts]
    paths = [path for files in found for path, _ in files]
    size, colour = _headers(paths)
    (images, labels), *test = [_read(files, size, colour) for files in found]
    classes, names = classed(labels, str(folder), len(images), names)
    if not test:
        return Raw(images, classes).known(255, names)
    said = f"{folder} (test set)"
    test_classes, _ = classed(test[0][1], said, len(test[0][0]), names, len(names))
    return Raw(images, classes, test[0][0], test_classes).known(255, names)


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """The pictures below a folder, each with the name of its class."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    need(len(classes) > 1, folder, "at least two class folders of PNG or JPEG files", len(classes))
    for each in classes:
        pictures = sorted(path for path in each.iterdir() if path.suffix.lower() in _SUFFIXES)
        need(bool(pictures), each, "PNG or JPEG files", "none")
        yield from ((path, each.name) for path in pictures)


def _headers(paths: list[Path]) -> tuple[tuple[int, int], bool]:
    """((width, height) of all pictures, whether one has colours), before any is unpacked."""
    size: tuple[int, int] | None = None
    colour = False
    for path in paths:
        need(path.is_file(), path, "a file")  # a fifo would be waited for
        try:
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                found, mode = picture.size, picture.mode
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as cause:
            raise DataError(f"{path}: expected a PNG or JPEG file ({type(cause).__name__})") from None
        need(mode in _KNOWN, path, "eight bits a channel", f"mode {mode}")
        size = size or found
        need(
            found == size,
            path,
            f"{size[0]} x {size[1]} pixels, as {paths[0].name} has",
            f"{found[0]} x {found[1]}",
        )
        colour = colour or mode not in _GRAY
    assert size is not None  # there is a picture in each class
    nbytes = len(paths) * size[0] * size[1] * (3 if colour else 1)
    need(
        nbytes <= LARGEST,
        paths[0].parents[1],
        f"at most {LARGEST >> 20} MiB of pixels",
        f"{nbytes >> 20} MiB",
    )
    return size, colour


def _read(
    files: list[tuple[Path, str]], size: tuple[int, int], colour: bool
) -> tuple[Bytes, NDArray[np.str_]]:
    """Images (N, rows, columns[, 3]) and the names of their classes."""
    width, height = size
    images = np.empty((len(files), height, width, *((3,) if colour else ())), np.uint8)
    for k, (path, _) in enumerate(files):
        try:
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                images[k] = np.asarray(picture.convert("RGB" if colour else "L"))
        except (OSError, ValueError, SyntaxError) as cause:
            raise DataError(f"{path}: expected a whole PNG or JPEG file ({type(cause).__name__})") from None
    return images, np.array([name for _, name in files])
