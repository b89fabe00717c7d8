"""The public configuration of a run with an encrypted head."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from protocols.crypto import paillier
from protocols.crypto.integers.packing import HeadBounds
from protocols.crypto.paillier_keys import KEY_BITS, PaillierParams
from protocols.language.errors import BoundError, ConfigError
from protocols.language.options import derived, option
from protocols.network.head import Recipe
from protocols.network.head_integers import HeadFormat

_LARGEST = 1 << 62  # logits are int64


class Release(Enum):
    """What of its answers the authority lets the server have."""

    NONE = "none"
    DECISION = "decision"
    LOGITS = "logits"


class Encoding(Enum):
    """How reals become plaintexts: integers, or phe's floats, whose exponents cross in the clear."""

    INT = "int"
    FLOAT = "float"


@dataclass(frozen=True)
class HeadConfig:
    """Sizes, the recipe of the head's training, and the switches of reverse homomorphic encryption.

    Images have a `shape` and pixels in [0, x_max]; the base whose SHA-256 is `base` averages them in squares
    of `pool` pixels and gives `features` d. `classes` k, `counts`: the samples of each owner. `queries` in
    messages of `batch`. `form` bounds weights and features; its feature bound follows from the base. `toy`
    allows keys that protect nothing, for tests.
    """

    shape: tuple[int, ...] = derived("rows, columns and, in colour, channels of an image", least=1)
    pool: int = derived("the base averages pixels in squares of this side", least=1)
    x_max: int = derived("pixels are integers from 0 to x_max", least=1)
    features: int = derived("d, features that the base gives", least=1)
    classes: int = derived("k, the first classes of the data set", least=2)
    counts: tuple[int, ...] = derived("training samples of each owner", least=1)
    base: str = derived("SHA-256 of the base")
    queries: int = option(128, "Held-out images to ask about.", panel="Head", least=1)
    form: HeadFormat = derived("bits and bounds of the integers of weights and features", factory=HeadFormat)
    recipe: Recipe = derived("how the head is trained", factory=Recipe)
    release: Release = option(Release.NONE, "What goes back to the server.", panel="Head")
    encoding: Encoding = option(Encoding.INT, "int; float is phe's, and leaks.", panel="Head")
    key_bits: int = option(KEY_BITS, "3072, or 2048 on request.", panel="Head")
    batch: int = derived("queries in a message", 32)
    toy: bool = derived("whether the key protects nothing: in tests only", False)

    def __post_init__(self) -> None:
        if len({*self.counts}) != 1 or min(self.counts) < 1 or self.classes < 2 or self.features < 1:
            raise ConfigError("every head has as many samples, at least one, and at least two classes")
        if self.queries < 1 or self.batch < 1:
            raise ConfigError("--queries must be at least 1")
        if len(self.recipe.hidden) > 1:
            raise ConfigError(
                "--head takes one hidden layer at most, such as 64-16-10: "
                "who would apply the next activation?"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """What the symbols of a figure's shapes stand for."""
        return {"n": self.pixels, "k": self.classes, "x_max": self.x_max}

    @property
    def pixels(self) -> int:
        """n of an image."""
        return math.prod(self.shape)

    @property
    def depth(self) -> str:
        """`one`, or `two` with a hidden layer, whose weights are the encrypted ones."""
        return "two" if self.recipe.hidden else "one"

    @property
    def rows(self) -> int:
        """Rows of the encrypted layer: of the hidden one, if there is one."""
        return self.recipe.hidden[0] if self.recipe.hidden else self.classes

    @property
    def bounds(self) -> HeadBounds:
        """Bounds of the encrypted layer and its inputs."""
        return self.form.head_bounds(self.rows, self.features)

    @property
    def params(self) -> PaillierParams:
        """Parameters of the encryption; `BoundError` or `ConfigError` if there are none."""
        return paillier.parameters(self.bounds, self.key_bits, self.toy)

    @property
    def owners(self) -> str:
        """`one`, or `many`, each with a head of its own."""
        return "one" if len(self.counts) == 1 else "many"

    @property
    def shots(self) -> int:
        """Samples of every class that an owner has."""
        return self.counts[0] // self.classes

    def check_last_layer(self) -> None:
        """`BoundError` unless the logits of a second layer, on exact pre-activations, fit into 64 bits."""
        logit = self.rows * self.form.weight.limit * self.bounds.logit + self.last_bias_limit
        if self.depth == "two" and logit >= _LARGEST:
            raise BoundError(
                f"logits up to {logit} do not fit into 64 bits; a base with smaller features is needed"
            )

    @property
    def last_bias_scale(self) -> int:
        """Steps per unit of a bias of the second layer: the exponents of two layers and of the features."""
        return 1 << (2 * self.form.weight_bits + self.form.feature_bits)

    @property
    def last_bias_limit(self) -> int:
        """Bound on such a bias, as an integer."""
        return int(self.form.weight_bound * self.last_bias_scale)
