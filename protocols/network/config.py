"""The public configuration of a run: everything that all parties know beforehand."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import Enum
from itertools import pairwise
from typing import Any, TypeVar

from protocols.language.errors import ConfigError
from protocols.language.options import derived, option
from protocols.language.precision import Precision
from protocols.network.conv import Convolution, parse
from protocols.network.fixedpoint import FixedPoint

T = TypeVar("T")


class Scheme(Enum):
    """Which inner-product encryption protects the samples."""

    LWE = "lwe"
    RLWE = "rlwe"
    DDH = "ddh"


class Labels(Enum):
    """Where labels are: at the cloud in the clear, at the cloud under FEBO (CryptoNN), or at the owner only
    (U-shaped).
    """

    CLEAR = "clear"
    FEBO = "febo"
    OWNER = "owner"


class Gradient(Enum):
    """Who computes dW1: the owner from dZ1, or the cloud under functional encryption."""

    OWNER = "owner"
    FE = "fe"


class Authority(Enum):
    """Who holds the master keys: a party of its own, or each owner for its own samples."""

    PARTY = "party"
    OWNER = "owner"


class Init(Enum):
    """Who draws the first weights: the cloud all, or the owner those that it holds in a split network.

    `shared`: the owner too, but W1 from a public seed, as the code of the mitigations' authors does.
    `authority`: the server of federated learning all.
    """

    CLOUD = "cloud"
    OWNER = "owner"
    SHARED = "shared"
    AUTHORITY = "authority"


class KeyScope(Enum):
    """What a master key protects: the samples for the whole run, for an epoch (then they are encrypted anew),
    or one batch.
    """

    RUN = "run"
    EPOCH = "epoch"
    BATCH = "batch"


class Order(Enum):
    """In which order an owner uses its samples: as they lie, or permuted in each epoch, publicly or by its
    own coins.
    """

    FIXED = "fixed"
    PUBLIC = "public"
    PRIVATE = "private"


class Aggregation(Enum):
    """Whether the authority sees the copies that it averages, or their sum only."""

    CLEAR = "clear"
    SECURE = "secure"


class Pixels(Enum):
    """How integer pixels enter the network: divided by x_max, or as they are."""

    UNIT = "unit"
    RAW = "raw"


class Optimizer(Enum):
    """SGD with momentum, or Adam with the momentum as its first decay rate; the same at both sides of a
    split.
    """

    SGD = "sgd"
    ADAM = "adam"


class Activation(Enum):
    """The non-linearity between layers."""

    RELU = "relu"
    SIGMOID = "sigmoid"


class Loss(Enum):
    """Softmax with cross-entropy, or a sigmoid per class with binary cross-entropy."""

    CE = "ce"
    BCE = "bce"


@dataclass(frozen=True)
class Training:
    """What every run that trains has: sizes that follow from the data, the network and how it is trained.

    `features` n, `classes` k; `layers`: widths above the input, the first is h. A protocol's `Options` add
    fields of its own and of its parts.
    """

    features: int = derived("n, pixels of an image", least=1)
    classes: int = derived("k, classes", least=2)
    x_max: int = derived("pixels are integers from 0 to x_max", least=1)
    counts: tuple[int, ...] = derived("training samples of each owner", least=1)
    layers: tuple[int, ...] = option(
        (32,),
        "Widths, such as 300,100; the first is h.",
        panel="Network",
        least=1,
        large=(300,),
        alias="hidden",
        metavar="300,100",
    )
    activation: Activation = option(Activation.RELU, "Between layers.", panel="Network")
    loss: Loss = option(Loss.CE, "ce: softmax; bce: a sigmoid per class.", panel="Network")
    batch: int = option(16, "Samples in a batch.", panel="Network", large=128)
    epochs: int = option(15, "Passes over the data.", panel="Network", large=5)
    lr: float = option(0.05, "Learning rate.", panel="Network", large=0.1)
    momentum: float = option(0.9, "Of SGD; Adam's first decay rate.", panel="Network")
    optimizer: Optimizer = option(Optimizer.SGD, "At every party.", panel="Network")
    precision: Precision = option(Precision.SINGLE, "Of networks, and of what they send.", panel="Network")
    pixels: Pixels = option(Pixels.UNIT, "unit: divided by their maximum; raw: as they are.", panel="Network")

    def __post_init__(self) -> None:
        if self.batch < 1 or self.epochs < 1 or not self.layers or min(self.layers) < 1:
            raise ConfigError("--batch, --epochs and every number of --layers must be at least 1")
        if not 0 < self.lr < math.inf or not 0 <= self.momentum < 1:
            raise ConfigError("--lr must be positive and --momentum in [0, 1)")

    @property
    def conv(self) -> Convolution | None:
        """The first convolution; None, as the first layer is dense."""
        return None

    @property
    def biased(self) -> bool:
        """Whether the first layer has a bias, the last column of W1: no."""
        return False

    @property
    def first_shape(self) -> tuple[int, int]:
        """Rows and columns of W1: (h, n), or F kernels of L weights; with a bias one column more."""
        conv, more = self.conv, int(self.biased)
        return (self.layers[0], self.features + more) if conv is None else (conv.kernels, conv.length + more)

    @property
    def between(self) -> int:
        """Weights and biases of the layers between the first and the last."""
        widths = self.layers if self.conv is None else (self.width, *self.layers)
        return sum((into + 1) * out for into, out in pairwise(widths))

    @property
    def depth(self) -> str:
        """`deep` or `shallow`: whether there are layers between the first and the last."""
        return "deep" if self.between else "shallow"

    @property
    def width(self) -> int:
        """Numbers of Z1 for a sample: h, or F P of a convolution."""
        conv = self.conv
        return self.layers[0] if conv is None else conv.outputs

    @property
    def sizes(self) -> dict[str, int]:
        """What the symbols of a figure's shapes stand for."""
        rows, columns = self.first_shape
        last = self.layers[-1]
        return {"n": self.features, "h": self.width, "k": self.classes, "x_max": self.x_max, "a": last,
                "F": rows, "L": columns, "B": self.batch, "H": self.between}  # fmt: skip

    @property
    def pixel_unit(self) -> int:
        """What an integer pixel is divided by where it enters the network."""
        return self.x_max if self.pixels is Pixels.UNIT else 1

    @property
    def owners(self) -> str:
        """`one` or `many`: where many owners train copies of W1, a figure has the arrows of averaging."""
        return "one" if len(self.counts) == 1 else "many"


@dataclass(frozen=True)
class Convolved(Training):
    """Where the first layer may be a convolution, which needs the `shape` of an image."""

    first: str = option("", "A first convolution: conv:6x5x5, kernels and their size.", panel="Network")
    shape: tuple[int, ...] = derived("rows, columns and, in colour, channels of an image", (), least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.conv is not None and self.conv.features != self.features:
            raise ConfigError(f"--first: images of {self.features} pixels cannot be of shape {self.shape}")

    @property
    def conv(self) -> Convolution | None:
        """The first convolution, or None where the first layer is dense."""
        return parse(self.first, self.shape) if self.first else None


@dataclass(frozen=True)
class Biased(Training):
    """Where the first layer may have a bias: the last column of W1, as of a pixel that is always 1."""

    bias: bool = option(False, "A bias in the first layer too.", panel="Network")

    @property
    def biased(self) -> bool:
        """As asked."""
        return self.bias


@dataclass(frozen=True)
class Rounded(Training):
    """Where W1 is carried as integers: `weight_scale` steps a unit, of reals within +-`weight_bound`; dZ1
    likewise.
    """

    weight_scale: int = option(256, "Fixed-point steps per unit of W1.")
    weight_bound: float = option(4.0, "Bound on |W1|.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight_scale < 0 or not 0 < self.weight_bound < math.inf:
            raise ConfigError("--weight-scale and --weight-bound must be positive")
        if self.weight_scale and not self.weights.limit:
            raise ConfigError("every weight would be rounded to 0: raise --weight-scale or --weight-bound")

    @property
    def weights(self) -> FixedPoint:
        """The fixed-point format of W1, and of dZ1 under `gradient=fe`."""
        return FixedPoint(self.weight_scale, self.weight_bound)


@dataclass(frozen=True)
class RoundedLabels(Training):
    """Where P and Y are carried as integers, `label_scale` steps a unit."""

    label_scale: int = derived("Fixed-point steps per unit of a probability under FEBO.", 4096, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_scale < 1:
            raise ConfigError("a probability needs at least one step")

    @property
    def probabilities(self) -> FixedPoint:
        """The fixed-point format of P and Y under FEBO."""
        return FixedPoint(self.label_scale, 1.0)


def carried(options: type[T], config: Training, **changes: Any) -> T:
    """Options of one class from those of another protocol that have the same names; others as they are by
    default.
    """
    names = (each.name for each in fields(options) if hasattr(config, each.name))  # type: ignore[arg-type]
    return options(**{**{name: getattr(config, name) for name in names}, **changes})
