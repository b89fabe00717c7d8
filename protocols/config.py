"""The public configuration of a run: everything that all parties know beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from protocols.errors import ConfigError
from protocols.fixedpoint import FixedPoint


class Scheme(Enum):
    """Which inner-product encryption protects the samples."""

    LWE = "lwe"
    DDH = "ddh"


class Labels(Enum):
    """How labels reach the cloud: in the clear (NN-EMD) or under FEBO (CryptoNN)."""

    CLEAR = "clear"
    FEBO = "febo"


class Gradient(Enum):
    """Who computes dW1: the owner from dZ1, or the cloud under functional encryption."""

    OWNER = "owner"
    FE = "fe"


class Activation(Enum):
    """The non-linearity between layers."""

    RELU = "relu"
    SIGMOID = "sigmoid"


class Loss(Enum):
    """Softmax with cross-entropy, or a sigmoid per class with binary cross-entropy."""

    CE = "ce"
    BCE = "bce"


@dataclass(frozen=True)
class Config:
    """Sizes, training options and the switches of the protocols.

    `features` n, `classes` k, `x_max`: pixels are integers in [0, x_max] and enter the network as x / x_max. `counts`: samples of
    each owner. `layers`: widths above the input, the first is h. `weight_scale`: fixed-point steps per unit of W1 and dZ1, 0 for
    no rounding (plain only); `weight_bound`: bound on |W1| and |dZ1|. `label_scale`: steps per unit of a probability under FEBO.
    """

    features: int
    classes: int
    x_max: int
    counts: tuple[int, ...]
    layers: tuple[int, ...] = (32,)
    activation: Activation = Activation.RELU
    loss: Loss = Loss.CE
    batch: int = 16
    epochs: int = 15
    lr: float = 0.05
    momentum: float = 0.9
    scheme: Scheme = Scheme.LWE
    group: str = "secp256k1"
    labels: Labels = Labels.CLEAR
    gradient: Gradient = Gradient.OWNER
    weight_scale: int = 256
    weight_bound: float = 4.0
    label_scale: int = 4096

    def __post_init__(self) -> None:
        if self.batch < 1 or self.epochs < 1 or not self.layers or min(self.layers) < 1:
            raise ConfigError("--batch, --epochs and every number of --layers must be at least 1")
        if not 0 < self.lr < math.inf or not 0 <= self.momentum < 1:
            raise ConfigError("--lr must be positive and --momentum in [0, 1)")
        if self.weight_scale < 0 or not 0 < self.weight_bound < math.inf or self.label_scale < 1:
            raise ConfigError("--weight-scale and --weight-bound must be positive")
        if self.weight_scale and not self.weights.limit:
            raise ConfigError("every weight would be rounded to 0: raise --weight-scale or --weight-bound")

    def as_plain(self) -> dict[str, Any]:
        """The configuration as JSON-able data."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value.value if isinstance(value, Enum) else value for name, value in plain.items()}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Config:
        """The configuration that `as_plain` wrote; `ConfigError` if it is none."""
        enums = {"scheme": Scheme, "labels": Labels, "gradient": Gradient, "activation": Activation, "loss": Loss}
        try:
            values: dict[str, Any] = {name: enums[name](v) if name in enums else v for name, v in plain.items()}
            values |= {name: tuple(values[name]) for name in ("counts", "layers")}
            return cls(**values)
        except (TypeError, ValueError, KeyError):
            raise ConfigError("not a configuration of this version") from None

    @property
    def weights(self) -> FixedPoint:
        """The fixed-point format of W1, and of dZ1 under `gradient=fe`."""
        return FixedPoint(self.weight_scale, self.weight_bound)

    @property
    def probabilities(self) -> FixedPoint:
        """The fixed-point format of P and Y under FEBO."""
        return FixedPoint(self.label_scale, 1.0)


@dataclass(frozen=True)
class Batch:
    """Rows `start` to `stop` of one owner's samples; its position `number` in the epoch, and the samples before it."""

    number: int
    owner: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.stop - self.start


def batches(config: Config) -> Iterator[Batch]:
    """The batches of an epoch, the same in every epoch: each owner's rows in order, the owners taking turns.

    Owners hold their samples in shuffled order, so a batch is a slice. The last one of an owner may be smaller.
    """
    number = 0
    for start in range(0, max(config.counts), config.batch):
        for owner, count in enumerate(config.counts):
            if start < count:
                yield Batch(number, owner, start, min(start + config.batch, count))
                number += 1


def steps_per_epoch(config: Config) -> int:
    """Number of batches in an epoch."""
    return sum(-(-count // config.batch) for count in config.counts)


def chunk_rows(config: Config, row_nbytes: int, limit: int = 64 << 20) -> int:
    """How many rows an upload carries: whole batches, about `limit` bytes at `row_nbytes` a row."""
    return max(1, limit // (row_nbytes * config.batch)) * config.batch


def chunks(config: Config, rows: int) -> int:
    """How many uploads of `rows` rows the owner with most samples needs."""
    return -(-max(config.counts) // rows)
