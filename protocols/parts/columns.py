"""Linear models on columns that several owners hold: their options, and where columns stand in ciphertexts.

A batch is one vector: each owner's slice of all rows, the first one's followed by the targets of every head.
What is carried is whole: weights w S for the weight scale S, pixels as they are, a label is +-x_max.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto import qfe
from protocols.crypto.groups import dlog
from protocols.crypto.records import Bounds
from protocols.language.errors import ConfigError
from protocols.language.options import as_in, derived, option
from protocols.network.config import Rounded, Training
from protocols.network.fixedpoint import FixedPoint
from protocols.parts import budget

POINTS = 3 * 128  # bytes of a pixel under qfe: two elements of G1, two of G2
_CHUNK = 64 << 20  # bytes of an upload, about
_SPARE = 16  # weights of a run are rarely all near their bound: by so much a form may exceed what is searched


class Mode(Enum):
    """What the cloud decrypts: gradients of batches, or each sample's error too; or it is sent everything."""

    QUADRATIC = "quadratic"
    FEDV = "fedv"
    CLEAR = "clear"


class OnRefusal(Enum):
    """What a run does where the authority refuses keys."""

    FREEZE = "freeze"
    STOP = "stop"


class Model(Enum):
    """Least squares on +-1, or logistic regression with a straight line for the sigmoid."""

    LINEAR = "linear"
    LOGISTIC = "logistic"


@dataclass(frozen=True)
class Options:
    """What a run is made of."""

    features: int = as_in(Training, "features", 1)
    classes: int = as_in(Training, "classes", 2)
    x_max: int = as_in(Training, "x_max", 1)
    counts: tuple[int, ...] = as_in(Training, "counts", ())
    shape: tuple[int, ...] = derived("rows, columns and, in colour, channels of an image", (), least=1)
    mode: Mode = option(
        Mode.QUADRATIC, "quadratic: gradients of batches; fedv: each sample's error too; clear: the baseline."
    )
    model: Model = option(Model.LINEAR, "linear: least squares; logistic: 1/2 + z/4.", panel="Network")
    target: int = option(-1, "One class against the rest; -1: a head for each.", panel="Network", least=-1)
    batch: int = as_in(Training, "batch", 16)
    epochs: int = as_in(Training, "epochs", 2)
    lr: float = as_in(Training, "lr", 0.05)
    weight_scale: int = as_in(Rounded, "weight_scale", 256)
    weight_bound: float = as_in(Rounded, "weight_bound", 4.0)
    key_budget: int = as_in(budget.Options, "key_budget", 0)
    on_refusal: OnRefusal = option(
        OnRefusal.FREEZE, "Keys beyond a key budget: train no further, or stop with an error that names them."
    )

    def __post_init__(self) -> None:
        if self.batch < 1 or self.epochs < 1 or not 0 < self.lr < float("inf"):
            raise ConfigError("--batch, --epochs and --lr must be positive")
        if self.weight_scale < 1 or not 0 < self.weight_bound < float("inf") or not self.weights.limit:
            raise ConfigError("--weight-scale and --weight-bound must be positive, and give a weight a step")
        if not -1 <= self.target < self.classes:
            raise ConfigError(f"--target: expected a class below {self.classes}, or -1")
        if self.key_budget < 0:
            raise ConfigError("a key budget must not be negative")

    @property
    def weights(self) -> FixedPoint:
        """The fixed-point format of the weights."""
        return FixedPoint(self.weight_scale, self.weight_bound)

    @property
    def heads(self) -> tuple[int, ...]:
        """The class of each head."""
        return tuple(range(self.classes)) if self.target < 0 else (self.target,)

    @property
    def column_samples(self) -> tuple[int, ...]:
        """Samples, which all owners hold: each has columns of all."""
        return self.counts[:1]

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return -(-self.counts[0] // self.batch)

    @property
    def times(self) -> int:
        """k: z - k t is what the gradient sums."""
        return 1 if self.model is Model.LINEAR else 2

    @property
    def label_weight(self) -> int:
        """The weight of a label, in steps."""
        return self.times * self.weight_scale

    @property
    def largest(self) -> int:
        """The largest error of a sample, in whole numbers."""
        return self.x_max * (self.features * self.weights.limit + self.label_weight)

    @property
    def owners(self) -> str:
        """`one` or `many`."""
        return "one" if len(self.counts) == 1 else "many"

    @property
    def encrypts(self) -> str:
        """`yes`, or `no` in the clear."""
        return "no" if self.mode is Mode.CLEAR else "yes"

    @property
    def budget(self) -> str:
        """`yes` where the authority may refuse keys."""
        return "yes" if self.key_budget else "no"

    @property
    def sizes(self) -> dict[str, int]:
        """What the symbols of a figure's shapes stand for."""
        return {"n": self.features, "heads": len(self.heads), "B": self.batch}


def columns(config: Options) -> list[NDArray[np.int64]]:
    """The columns of each owner."""
    return np.array_split(np.arange(config.features), len(config.counts))


def widths(config: Options, rows: int, labels: bool) -> list[int]:
    """Entries of each owner's slice, for so many rows of its columns, and for labels at the first owner."""
    found = [rows * len(mine) for mine in columns(config)]
    return [found[0] + labels * rows * len(config.heads), *found[1:]]


def starts(config: Options, rows: int, labels: bool) -> list[int]:
    """Where each owner's slice begins."""
    return [0, *np.cumsum(widths(config, rows, labels)).tolist()]


def forms(config: Options, w: NDArray[Any]) -> qfe.Forms:
    """X^T (X w - y) of a batch by every weight, for every head: weights w (heads, n) in steps."""
    rows, heads = config.batch, len(config.heads)
    left, right = places_of_rows(config)
    labels = rows * len(columns(config)[0]) + np.arange(heads * rows).reshape(heads, rows, 1)
    places = np.concatenate([np.broadcast_to(left, (heads, *left.shape)), labels], axis=2)
    weights = np.concatenate([w, np.full((heads, 1), -config.label_weight)], axis=1)
    return qfe.Forms(np.repeat(weights[:, None], rows, axis=1), places, right.T)


def places_of_rows(config: Options) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each pixel of a batch (B, n) stands on the left side of a ciphertext, and on the right one."""
    rows = config.batch
    left, right = (np.zeros((rows, config.features), np.int64) for _ in range(2))
    for mine, x, y in zip(
        columns(config), starts(config, rows, True), starts(config, rows, False), strict=False
    ):
        inside = np.arange(rows)[:, None] * len(mine) + np.arange(len(mine))
        left[:, mine], right[:, mine] = x + inside, y + inside
    return left, right


def bounds(config: Options) -> qfe.QfeBounds:
    """What a gradient under quadratic encryption must carry: at the bound of all weights, or a part of that
    where no logarithm reaches so far; keys of weights that are larger together are then not derived.
    """
    left, right = (starts(config, config.batch, labels)[-1] for labels in (True, False))
    return qfe.QfeBounds(
        left, right, config.x_max, config.x_max, reached(config.batch * config.largest * config.x_max)
    )


def reached(largest: int) -> int:
    """What is searched of values up to `largest`: as far as a logarithm goes, unless that is too little."""
    return min(largest, dlog.MAX_BOUND) if largest <= _SPARE * dlog.MAX_BOUND else largest


def sample_bounds(config: Options) -> Bounds:
    """What an error must carry."""
    largest = max(config.weights.limit, config.label_weight)
    return Bounds(config.features + len(config.heads), config.x_max, largest)


def row_bounds(config: Options) -> Bounds:
    """What a sum over a batch must carry."""
    most = reached(config.batch * config.largest * config.x_max) // (config.batch * config.x_max)
    return Bounds(config.batch, config.x_max, most)


def uploads(config: Options) -> int:
    """Messages of each owner."""
    return -(-config.batches // per_upload(config))


def per_upload(config: Options) -> int:
    return max(1, _CHUNK // (POINTS * config.batch * config.features))


def targets(config: Options, labels: NDArray[Any]) -> NDArray[Any]:
    """+-x_max (N, heads): whether each sample is of a head's class; of rows of reals in an audit too."""
    hot = labels if labels.dtype.kind == "f" else np.eye(config.classes, dtype=np.int64)[labels]
    return (2 * hot[:, list(config.heads)] - 1) * config.x_max


def error_vectors(config: Options, w: NDArray[Any]) -> NDArray[Any]:
    """(heads, n + heads): the first owner's columns, its labels, the other columns."""
    first, labels = len(columns(config)[0]), -config.label_weight * np.eye(len(w), dtype=np.int64)
    return np.concatenate([w[:, :first], labels, w[:, first:]], axis=1)


def step_length(config: Options, batch: int) -> float:
    """By what a whole-numbered gradient moves W."""
    size = min(config.batch, config.counts[0] - batch * config.batch)
    slope = 1 if config.model is Model.LINEAR else 4
    return config.lr / (slope * size * config.weight_scale * config.x_max**2)


def padded(values: NDArray[Any], size: int) -> NDArray[Any]:
    """Rows (m, k) as batches (b, size, k), the last one filled with zeros."""
    short = np.zeros((-len(values) % size, values.shape[1]), values.dtype)
    return np.concatenate([values, short]).reshape(-1, size, values.shape[1])
