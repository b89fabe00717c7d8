"""Data sets of images, or of rows of a table, and how their samples are shared out among data owners.

Samples are integers: (N, n) uint8 in [0, x_max] with n = rows * columns [* channels], channels last, or n
columns. What is held out, or comes with the data as its test set, is public. Every draw here is a shuffle
that anybody may repeat: numpy's PCG64, seeded by `DataSpec.seed`, never a secret.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from parties.data.folders import read_folder
from parties.data.readers import (
    Raw,
    checked,
    features_in,
    is_table,
    read_cifar10,
    read_mnist,
    read_npz,
    read_pairs,
)
from parties.data.tables import SUFFIXES, Scale, read_table, table
from protocols.language.errors import ConfigError, DataError
from protocols.language.message import wire
from protocols.language.options import about, as_plain, derived

TABLES = ("iris", "breast_cancer")
BUNDLED = ("digits", *TABLES)  # part of scikit-learn: small, and without files of their own
NAMES = ("digits", "mnist", "mnist14", "cifar10", *TABLES)
_TEST_FRACTION = 5  # one sample of five is held out
_MNIST_TRAIN = 60_000  # of the 70 000 images that OpenML keeps in one table
_LUMA = (299, 587, 114)  # ITU-R BT.601, in thousandths

A = TypeVar("A", bound=NDArray[Any])


class Split(Enum):
    """How samples are shared out: at random, so that an owner sees few classes, or as many of each to
    everybody;
    or every owner has columns of all samples.
    """

    IID = "iid"
    LABEL = "label"
    EVEN = "even"
    COLUMNS = "columns"


# What stands instead of the training samples in a control run; its attacks are scored against the true
# ones.
#   swapped    each sample instead of another, half the data away
#   drawn      held-out samples
# relabelled held-out images, of the class of the sample each stands for: what one who knows the labels
# could draw
CONTROLS = ("", "swapped", "drawn", "relabelled")


def _of_own(help: str, default: Any, **more: Any) -> Any:
    """A field of data of the user's own, which is written down only where it says something."""
    return derived(help, default, optional=True, **more)


@wire
@dataclass(frozen=True)
class DataSpec:
    """Which data to read: one of `NAMES`, or the path of an .npz, a table (.csv, .parquet) or a folder of
    class folders; `samples` training samples of it (None: all).

    For a small task: the first `task_classes` classes only, and `shots` training samples of every class for
    each of `takers` owners (0: all of them).
    """

    name: str = derived(f"data set: {', '.join(NAMES)} or the path of a file or folder")
    data_dir: str | None = derived("folder of its files", None)
    gray: bool = derived("whether colour images were turned gray", False)
    samples: int | None = derived("training samples asked for; null for all", None)
    seed: int = derived("of the shuffles of the data, derived from the run's seed or drawn; gives no key", 0)
    control: str = derived("what stands instead of the training samples; empty for none", "")
    task_classes: int = derived("classes of a small task; 0: all", 0, least=0)
    shots: int = derived("training samples of every class of each owner; 0: all", 0, least=0)
    takers: int = derived("owners for each of whom there are as many shots", 1, least=1)
    class_column: str | None = _of_own("column of a table that holds the classes; null for the last", None)
    whole: bool = _of_own("whether nothing is held out of a file without a test set", False)
    levels: int = _of_own("of a table: its public map goes from 0 to this; 0: no table", 0, least=0)
    low: tuple[float, ...] = _of_own("of a table: what its public map takes to 0, by column", ())
    high: tuple[float, ...] = _of_own("of a table: what its public map takes to `levels`, by column", ())
    class_names: tuple[str, ...] = _of_own("names of the classes, where they have some", ())
    by_features: bool = _of_own("whether an npz holds the features that a base has of its images", False)

    def __post_init__(self) -> None:
        for name, kind in (("low", float), ("high", float), ("class_names", str)):  # of JSON: lists
            object.__setattr__(self, name, tuple(map(kind, getattr(self, name))))
        if self.control not in CONTROLS:
            raise ConfigError(f"a control is one of {', '.join(CONTROLS[1:])}, got {self.control!r}")
        if not isinstance(self.name, str) or not (self.name in NAMES or self.own):
            raise ConfigError(
                f"--dataset: expected {', '.join(NAMES)}, a file ending in .npz, {' or '.join(SUFFIXES)}, or "
                f"a folder of class folders, got {self.name!r}"
            )
        if self.class_column is not None and not self.name.endswith(SUFFIXES):
            raise ConfigError("--class-column COLUMN is for tables: a data set of .csv or .parquet")
        if not (self.data_dir is None or isinstance(self.data_dir, str)) or not isinstance(self.gray, bool):
            raise ConfigError("--data-dir must be a path and --gray a flag")
        if self.samples is not None and not (_is_int(self.samples) and self.samples >= 1):
            raise ConfigError(f"--samples: expected an integer of at least 1, got {self.samples!r}")
        if not (_is_int(self.seed) and self.seed >= 0):
            raise ConfigError(f"--seed: expected an integer of at least 0, got {self.seed!r}")
        if not all(map(_is_int, (self.task_classes, self.shots))) or min(self.task_classes, self.shots) < 0:
            raise ConfigError("--shots and the classes of a task must be integers of at least 0")

    def as_plain(self) -> dict[str, Any]:
        """For config.json."""
        told = ((each, about(each)) for each in fields(self))
        left = {each.name for each, said in told if said is not None and said.optional
                and getattr(self, each.name) == each.default}  # fmt: skip
        return {name: value for name, value in as_plain(self).items() if name not in left}

    @property
    def own(self) -> bool:
        """Whether it is a file or folder of the user's."""
        return (
            self.name.endswith((".npz", *SUFFIXES))
            or "/" in self.name
            or (self.name not in NAMES and self.path.is_dir())
        )

    @property
    def path(self) -> Path:
        """Where the user's data are."""
        return Path(self.data_dir or ".") / self.name

    @property
    def scale(self) -> Scale | None:
        """The public map of a table, once it is known."""
        return Scale(self.low, self.high, self.levels) if self.levels else None

    def resolved(self) -> DataSpec:
        """With whole paths: who reads the data may stand in another folder than who named them."""
        folder = None if self.data_dir is None else str(Path(self.data_dir).resolve())
        if not self.own:
            return replace(self, data_dir=folder)
        return replace(self, data_dir=folder, name=str((Path(folder or ".") / self.name).resolve()))


@dataclass(frozen=True)
class Dataset:
    """Samples (N, n) uint8 in [0, x_max], labels (N,) int64 in 0..classes-1, read-only; the `shape` of an
    image, or (n,) of a row of a table, which `low` and `high` of each column were taken from.
    """

    name: str
    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8] | None
    y_test: NDArray[np.int64] | None
    shape: tuple[int, ...]
    classes: int
    x_max: int
    class_names: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @property
    def distinct(self) -> tuple[int, ...]:
        """How many different values each column of a table takes, of x_max + 1; nothing of images."""
        if not self.low:
            return ()
        both = self.x_train if self.x_test is None else np.concatenate([self.x_train, self.x_test])
        return tuple(int(np.count_nonzero(np.bincount(column))) for column in both.T)


def described(spec: DataSpec) -> DataSpec:
    """The same with what everybody is told of the data: the map of a table, names of classes.

    Whoever reads other samples for the same run maps them alike.
    """
    if not (spec.own or spec.name in TABLES):
        return spec
    data = load(spec)
    levels = data.x_max if data.low else 0
    return replace(spec, levels=levels, low=data.low, high=data.high, class_names=data.class_names)


@dataclass(frozen=True, eq=False)
class Features:
    """The features (N, d) that a base has of the images of a file; `most`, the largest, is public."""

    rows: dict[bytes, int]
    values: NDArray[np.float32]

    @property
    def most(self) -> float:
        """The largest feature."""
        return float(self.values.max())

    def of(self, samples: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Those of samples (m, n) of the file."""
        return self.values[[self.rows[bytes(sample)] for sample in samples]]


@lru_cache(maxsize=2)
def features_of(spec: DataSpec) -> Features:
    """The features in the file of a data set; `DataError` where they are not one row for each image, or two
    for one.
    """
    whole = load(replace(spec, whole=True, samples=None, task_classes=0, shots=0, takers=1, control=""))
    values = features_in(spec.path)
    if whole.x_test is not None or len(values) != len(whole.x_train):
        raise DataError(
            f"{spec.path}: expected a row of features for each of {len(whole.x_train)} images, of which a "
            f"fifth is held out, and no test set; got {len(values)}"
        )
    rows: dict[bytes, int] = {}
    for row, sample in enumerate(whole.x_train):
        first = rows.setdefault(bytes(sample), row)
        if not np.array_equal(values[first], values[row]):
            raise DataError(f"{spec.path}: images {first} and {row} are the same, and their features are not")
    return Features(rows, values)


@lru_cache(maxsize=4)
def load(spec: DataSpec) -> Dataset:
    """Read a data set.

    digits (8x8, x_max 16) is part of scikit-learn and split 80/20, stratified, by seed; so is whatever comes
    without a test set, unless it is taken as a `whole`. Raises `DataError` for files that cannot be used,
    `ConfigError` for `gray` on images without three channels.
    """
    raw = _read(spec)
    raw = _hold_out(raw, spec.seed) if raw.test_images is None and not spec.whole else raw
    raw = _to_gray(raw) if spec.gray else raw
    raw = _of_task(raw, spec.task_classes)
    classes = max(int(raw.labels.max()) + 1, 0 if spec.task_classes else len(raw.names))
    keep = _shots(raw.labels, spec) if spec.shots else _draw(raw.labels, spec.samples, spec.seed)
    test = None if raw.test_images is None else _frozen(raw.test_images.reshape(len(raw.test_images), -1))
    test_labels = None if raw.test_labels is None else _frozen(raw.test_labels)
    x, y = _controlled(raw, keep, spec)
    train, labels = _frozen(x.reshape(len(keep), -1)), _frozen(y)
    shape = raw.images.shape[1:]
    public = raw.names, raw.low, raw.high
    return Dataset(spec.name, train, labels, test, test_labels, shape, classes, raw.x_max, *public)


def _controlled(
    raw: Raw, keep: NDArray[np.int64], spec: DataSpec
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The training samples, or what a control puts in their place."""
    if spec.control == "swapped":
        keep = np.roll(keep, len(keep) // 2)
    if spec.control in ("", "swapped"):
        return raw.images[keep], raw.labels[keep]
    if raw.test_images is None or raw.test_labels is None:
        raise DataError("a control needs held-out samples, and this data set has none")
    rng, labels = np.random.default_rng((spec.seed, 2)), raw.labels[keep]
    chosen = rng.integers(0, len(raw.test_labels), len(keep))
    if spec.control == "relabelled":
        for c in np.unique(labels):
            same = np.flatnonzero(raw.test_labels == c)
            chosen[labels == c] = rng.choice(same if len(same) else chosen, int((labels == c).sum()))
        return raw.test_images[chosen], labels
    return raw.test_images[chosen], raw.test_labels[chosen]


class Shares(Sequence[NDArray[np.int64]]):
    """Which samples each owner holds, for owners by the million: the positions of all in one array, one owner
    after the other, and where those of each begin and end.
    """

    def __init__(self, order: NDArray[np.int64], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        self.order, self._starts, self._stops = order, starts, stops

    @classmethod
    def of(cls, parts: Sequence[NDArray[np.int64]]) -> Shares:
        """Shares that are given one by one."""
        stops = np.cumsum([len(part) for part in parts])
        return cls(np.concatenate(parts), np.concatenate([[0], stops[:-1]]), stops)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many samples each owner holds."""
        return tuple((self._stops - self._starts).tolist())

    def __len__(self) -> int:
        return len(self._stops)

    def __getitem__(self, owner: Any) -> Any:
        return self.order[self.rows(owner)]

    def rows(self, owner: int) -> slice:
        """Where in `order` the positions of an owner stand."""
        return slice(int(self._starts[owner]), int(self._stops[owner]))


def split(labels: NDArray[np.int64], owners: int, how: Split, seed: int) -> Shares:
    """Share N samples out: positions of each owner, every sample exactly once, sizes equal up to one.

    IID: at random. LABEL: sorted by class and cut, so that an owner holds about classes / owners classes.
    Each owner's samples come in random order, so that consecutive ones make a batch. EVEN: the samples of
    every class are shared out by themselves, and an owner's come class by class. COLUMNS: all samples for
    each owner, in one random order. Raises `ConfigError` if there are more owners than samples.
    """
    if not 1 <= owners <= len(labels):
        raise ConfigError(
            f"--owners: expected 1 to {len(labels)} owners for {len(labels)} samples, got {owners}"
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels)).astype(np.int64)
    if how is Split.EVEN:
        least = int(np.unique(labels, return_counts=True)[1].min())
        if owners > least:
            raise ConfigError(
                f"--split even: expected 1 to {least} owners, of whom each gets some of every class"
            )
        classes = [np.array_split(order[labels[order] == c], owners) for c in np.unique(labels)]
        return Shares.of([np.concatenate(parts) for parts in zip(*classes, strict=True)])
    if how is Split.COLUMNS:
        return Shares(order, np.zeros(owners, np.int64), np.full(owners, len(order)))
    if how is Split.LABEL:
        order = order[np.argsort(labels[order], kind="stable")]
    if owners == len(labels):  # one each: nothing to shuffle
        return Shares(order, np.arange(owners), np.arange(1, owners + 1))
    return Shares.of([rng.permutation(part) for part in np.array_split(order, owners)])


def fingerprint(images: NDArray[Any], labels: NDArray[Any]) -> str:
    """SHA-256 (hex) of shapes and values of integer images and labels, whatever type holds them."""
    digest = hashlib.sha256()
    for array in (images, labels):
        digest.update(f"{array.shape};".encode())
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return digest.hexdigest()


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _read(spec: DataSpec) -> Raw:
    """Return the samples of a file, and what is public of them."""
    if spec.name == "digits":
        return _read_digits()
    if spec.name in TABLES:
        return _read_bundled(spec)
    if spec.own:
        return _read_own(spec)
    if spec.name == "mnist14":
        return _halved(_read(replace(spec, name="mnist")))
    if spec.data_dir is None:
        return _fetch_mnist() if spec.name == "mnist" else _no_cifar10()
    folder = Path(spec.data_dir)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; --data-dir must name the folder that holds {spec.name}")
    return read_mnist(folder) if spec.name == "mnist" else read_cifar10(folder)


def _read_own(spec: DataSpec) -> Raw:
    """The user's own data, by what they are."""
    path, names = spec.path, spec.class_names
    if path.suffix in SUFFIXES:
        return read_table(path, spec.class_column, spec.scale, names)
    if path.suffix == ".npz":
        if is_table(path):
            train, test = read_pairs(path)
            return table(str(path), train, test, spec.scale, names)
        return read_npz(path, names)
    if not path.is_dir():
        what = "not a folder" if path.exists() else "no such folder"
        raise DataError(f"{path}: {what}; expected class folders of PNG or JPEG files")
    return read_folder(path, names)


def _read_bundled(spec: DataSpec) -> Raw:
    """A table of scikit-learn, as `load_iris` and `load_breast_cancer` have it; classes by their names."""
    file = _bundled(f"{spec.name}.csv")
    with file.open(encoding="ascii") as lines:
        names = tuple(next(lines).strip().split(",")[2:])  # after the numbers of rows and columns
        rows = np.loadtxt(lines, delimiter=",")
    y = np.array(names)[rows[:, -1].astype(np.int64)]
    return table(spec.name, (rows[:, :-1], y), None, spec.scale, spec.class_names or names)


def _bundled(name: str) -> Path:
    """A file of scikit-learn, found without importing it, which takes most of a second."""
    found = find_spec("sklearn")
    folder = "" if found is None or found.origin is None else Path(found.origin).parent
    file = Path(folder) / "datasets" / "data" / name
    if not file.is_file():
        raise DataError(f"{file}: the installed scikit-learn has no such file")
    return file


def _read_digits() -> Raw:
    """From scikit-learn's file, as `load_digits` has them."""
    file = _bundled("digits.csv.gz")
    rows = np.loadtxt(file, np.int64, delimiter=",")
    return Raw(rows[:, :-1].reshape(-1, 8, 8).astype(np.uint8), rows[:, -1], x_max=16)


def _fetch_mnist() -> Raw:
    from sklearn import datasets

    parser = "pandas" if find_spec("pandas") else "liac-arff"
    try:
        table = datasets.fetch_openml("mnist_784", version=1, as_frame=False, parser=parser, n_retries=1)
        data = np.asarray(table.data, dtype=np.int64).reshape(-1, 28, 28)
        target = np.asarray(table.target).astype(np.int64)
    except Exception as cause:  # no network, a proxy's page, a changed table: the remedy is one and the same
        kind = type(cause).__name__
        raise DataError(
            f"mnist: cannot be downloaded ({kind}); give --data-dir with the four idx files"
        ) from None
    images, labels = checked(data, target, "mnist (OpenML)")
    cut = _MNIST_TRAIN
    if len(images) <= cut:
        raise DataError(
            f"mnist (OpenML): expected 70000 images, got {len(images)}; give --data-dir with the idx files"
        )
    return Raw(images[:cut], labels[:cut], images[cut:], labels[cut:])


def _halved(raw: Raw) -> Raw:
    """Images of half the height and width: each pixel the mean of four, rounded to the nearest, halves up."""

    def half(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        count, rows, columns = images.shape
        if rows % 2 or columns % 2:
            raise DataError(f"mnist14: images of {rows}x{columns} cannot be halved")
        blocks = images.reshape(count, rows // 2, 2, columns // 2, 2).sum(axis=(2, 4), dtype=np.int64)
        found: NDArray[np.uint8] = ((blocks + 2) // 4).astype(np.uint8)
        return found

    test = None if raw.test_images is None else half(raw.test_images)
    return replace(raw, images=half(raw.images), test_images=test)


def _no_cifar10() -> Raw:
    raise DataError("cifar10: give --data-dir with the binary version (data_batch_1.bin ...) or an .npz")


def _draw(labels: NDArray[np.int64], count: int | None, seed: int) -> NDArray[np.int64]:
    """Positions of `count` samples, each class by its share (largest remainder), shuffled; all in order."""
    if count is None or count >= len(labels):
        return np.arange(len(labels))
    sizes = np.bincount(labels)
    exact = sizes * (count / len(labels))
    take = np.floor(exact).astype(np.int64)
    take[np.argsort(take - exact, kind="stable")[: count - int(take.sum())]] += 1
    return _of_each_class(labels, take.tolist(), np.random.default_rng(seed))


def _shots(labels: NDArray[np.int64], spec: DataSpec) -> NDArray[np.int64]:
    """Positions of the shots of every class, for all who take some, shuffled."""
    shots, sizes = spec.shots * spec.takers, np.bincount(labels)
    if sizes.min() < shots:
        raise ConfigError(f"--shots {shots}: a class of this data set has {sizes.min()} training samples")
    return _of_each_class(labels, [shots] * len(sizes), np.random.default_rng((spec.seed, 3)))


def _of_each_class(
    labels: NDArray[np.int64], take: Sequence[int], rng: np.random.Generator
) -> NDArray[np.int64]:
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:k] for c, k in enumerate(take)]
    return rng.permutation(np.concatenate(chosen))


def _of_task(raw: Raw, classes: int) -> Raw:
    """The samples of the first classes."""
    if not classes:
        return raw
    if classes > int(raw.labels.max()) + 1:
        raise ConfigError(f"a task of {classes} classes: this data set has {int(raw.labels.max()) + 1}")
    train = raw.labels < classes
    if raw.test_images is None or raw.test_labels is None:
        return replace(raw, images=raw.images[train], labels=raw.labels[train])
    test = raw.test_labels < classes
    return replace(
        raw, images=raw.images[train], labels=raw.labels[train], test_images=raw.test_images[test],
        test_labels=raw.test_labels[test],
    )  # fmt: skip


def _hold_out(raw: Raw, seed: int) -> Raw:
    """Cut a stratified 20 % off as the test set, of no class its last sample; the rest comes shuffled: files
    are often sorted by class.
    """
    test = _draw(raw.labels, -(-len(raw.labels) // _TEST_FRACTION), seed)
    last = np.setdiff1d(np.unique(raw.labels), np.delete(raw.labels, test))  # classes nothing is left of
    for c in last:
        test = np.delete(test, np.flatnonzero(raw.labels[test] == c)[0])
    if not len(test):
        raise DataError(
            f"expected two samples of some class, to hold out a fifth of them as the test set, got "
            f"{len(raw.labels)} of {len(np.unique(raw.labels))} classes"
        )
    rest = np.setdiff1d(np.arange(len(raw.labels)), test)
    train = np.random.default_rng((seed, 1)).permutation(rest)
    return replace(
        raw, images=raw.images[train], labels=raw.labels[train], test_images=raw.images[test],
        test_labels=raw.labels[test],
    )  # fmt: skip


def _to_gray(raw: Raw) -> Raw:
    if raw.images.ndim != 4:
        raise ConfigError("--gray: expected images with three channels; these have one, or are no images")
    test = None if raw.test_images is None else _luma(raw.test_images)
    return replace(raw, images=_luma(raw.images), test_images=test)


def _luma(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, rows, columns, 3) -> (N, rows, columns): Y = .299 R + .587 G + .114 B, rounded."""
    red, green, blue = (images[..., c].astype(np.int32) * weight for c, weight in enumerate(_LUMA))
    return ((red + green + blue + 500) // 1000).astype(np.uint8)


def _frozen(array: A) -> A:
    array.flags.writeable = False
    return array
