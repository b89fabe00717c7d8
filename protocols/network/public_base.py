"""The frozen base of transfer learning: public dense layers with ReLU, from pixels to a head's features; or
any network, a convolutional one say, by its features of some images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import ConfigError, MalformedError
from protocols.language.precision import real

Float = NDArray[np.float32]

LABEL = "base_layer_"  # of the layers among a party's inputs, followed by their number
IMAGES, FEATURES = "base_images", "base_features"  # the same of a base that is known by its features alone
_BLOCK = 8192
_STEPS = 255 * 255  # a pixel by which images are told apart: of up to 255 levels no two fall together


@dataclass(frozen=True)
class FrozenBase:
    """Layers (out, in + 1), bias in the last column, each with a ReLU; the last one's outputs are the
    features.

    `pool`: pixels (rows, columns) are first averaged in squares of this side. `shape` of the images that come
    in.
    """

    layers: tuple[Float, ...]
    shape: tuple[int, ...]
    pool: int = 1

    def __post_init__(self) -> None:
        inputs = int(np.prod(pooled_shape(self.shape, self.pool)))
        for layer in self.layers:
            if layer.ndim != 2 or layer.shape[1] != inputs + 1:
                raise ConfigError(
                    f"a layer of the base takes {inputs} inputs and a bias, got an array {layer.shape}"
                )
            inputs = len(layer)

    @property
    def features(self) -> int:
        """d."""
        return len(self.layers[-1])

    def inputs(self, pixels: NDArray[np.floating]) -> Float:
        """What the first layer sees of pixels (m, n) in [0, 1]: the pooled image, (m, n')."""
        return pooled(pixels, self.shape, self.pool)

    def phi(self, inputs: NDArray[np.floating]) -> Float:
        """Features (m, d) >= 0 of pooled images (m, n')."""
        return np.concatenate(
            [self._phi(inputs[at : at + _BLOCK]) for at in range(0, max(1, len(inputs)), _BLOCK)]
        )

    def _phi(self, a: NDArray[np.floating]) -> Float:
        a = np.asarray(a, real())
        for layer in self.layers:
            a = np.maximum(a @ layer[:, :-1].T + layer[:, -1], 0)
        return a

    def bound(self) -> float:
        """A bound on every feature of any image in [0, 1], by interval arithmetic through the layers."""
        low = np.zeros(self.layers[0].shape[1] - 1)
        high = np.ones_like(low)
        for layer in self.layers:
            weight, bias = layer[:, :-1].astype(np.float64), layer[:, -1]
            up, down = np.maximum(weight, 0), np.minimum(weight, 0)
            low, high = up @ low + down @ high + bias, up @ high + down @ low + bias
            low, high = np.maximum(low, 0), np.maximum(high, 0)
        return float(high.max()) * (1 + 1e-5)  # float32 sums round

    def scaled(self, factor: float) -> FrozenBase:
        """The base whose features are `factor` times these."""
        return FrozenBase((*self.layers[:-1], self.layers[-1] * real()(factor)), self.shape, self.pool)


@dataclass(frozen=True)
class FeatureTable:
    """A base that is known by its features (N, d) >= 0 of public images (N, n) alone, pixels in [0, 1]; other
    images it refuses. `most`: the largest feature there may be, which is public.
    """

    images: Float
    known: Float
    shape: tuple[int, ...]
    most: float = 0.0
    pool: int = 1

    @property
    def features(self) -> int:
        """d."""
        return int(self.known.shape[1])

    def inputs(self, pixels: NDArray[np.floating]) -> Float:
        """What the features are looked up by: the images (m, n) themselves."""
        return np.asarray(pixels, np.float32).reshape(len(pixels), -1)

    def phi(self, inputs: NDArray[np.floating]) -> Float:
        """Features (m, d) of images (m, n); `MalformedError` for one that the table does not hold."""
        rows = {key: row for row, key in enumerate(_keys(self.images))}
        try:
            found = [rows[key] for key in _keys(inputs)]
        except KeyError:
            raise MalformedError(
                "the base is known by its features of some images, and this is none of them"
            ) from None
        return np.asarray(self.known[found], real()).reshape(len(inputs), self.features)

    def bound(self) -> float:
        """A bound on every feature."""
        return max(self.most, float(self.known.max(initial=0.0))) * (1 + 1e-5)

    def and_own(self, images: NDArray[np.floating], features: Float) -> FeatureTable:
        """The table with what one party has besides."""
        both = np.concatenate([self.images, self.inputs(images)]), np.concatenate([self.known, features])
        return FeatureTable(*both, self.shape, self.most, self.pool)


Base = FrozenBase | FeatureTable


def _keys(images: NDArray[np.floating]) -> list[bytes]:
    return [row.tobytes() for row in np.rint(np.asarray(images, np.float64) * _STEPS).astype(np.int32)]


def base_inputs(base: Base) -> tuple[tuple[str, Float], ...]:
    """The layers of a base by label, as every party has them among its inputs; or its public features."""
    if isinstance(base, FeatureTable):
        return (IMAGES, base.images), (FEATURES, base.known)
    return tuple((f"{LABEL}{i}", layer) for i, layer in enumerate(base.layers))


def base_of(inputs: Mapping[str, NDArray[Any]], shape: tuple[int, ...], pool: int) -> Base:
    """The base among a party's inputs, for images of this shape."""
    if FEATURES in inputs:
        return FeatureTable(inputs[IMAGES], inputs[FEATURES], shape)
    count = sum(label.startswith(LABEL) for label in inputs)
    return FrozenBase(tuple(inputs[f"{LABEL}{i}"] for i in range(count)), shape, pool)


def fingerprint(base: Base) -> str:
    """SHA-256 (hex) of a base, as every party has it."""
    hasher = hashlib.sha256(f"{base.shape};{base.pool};".encode())
    for layer in (base.images, base.known) if isinstance(base, FeatureTable) else base.layers:
        hasher.update(f"{layer.shape};".encode() + layer.astype("<f4").tobytes())
    return hasher.hexdigest()


def unpooled(
    inputs: NDArray[np.floating], shape: tuple[int, ...], pool: int, x_max: int
) -> NDArray[np.int64]:
    """Integer images (m, n) that pool to inputs (m, n'), to half a step of 1 / (x_max pool^2)."""
    if pool == 1:
        return np.rint(np.asarray(inputs, np.float64) * x_max).astype(np.int64).reshape(len(inputs), -1)
    rows, columns, *rest = pooled_shape(shape, pool)
    sums = (
        np.rint(np.asarray(inputs, np.float64) * (x_max * pool**2))
        .astype(np.int64)
        .reshape(-1, rows, columns, *rest)
    )
    images = np.empty((len(sums), *shape), dtype=np.int64)
    for place in range(pool**2):  # of a sum 4 q + r, r pixels hold q + 1 and the others q
        images[:, place // pool :: pool, place % pool :: pool] = (sums + place) // pool**2
    return images.reshape(len(sums), -1)


def pooled_shape(shape: tuple[int, ...], pool: int) -> tuple[int, ...]:
    """The shape of an image after pooling; `ConfigError` if squares of this side do not tile it."""
    if pool == 1:
        return shape  # of a row of a table too
    if pool < 1 or len(shape) < 2 or shape[0] % pool or shape[1] % pool:
        raise ConfigError(f"images {shape} cannot be averaged in squares of {pool} pixels")
    return (shape[0] // pool, shape[1] // pool, *shape[2:])


def pooled(pixels: NDArray[np.floating], shape: tuple[int, ...], pool: int) -> Float:
    """Images (m, n) with every square of pixels replaced by its mean, (m, n / pool^2)."""
    if pool == 1:
        return np.asarray(pixels, real()).reshape(len(pixels), -1)
    rows, columns, *rest = pooled_shape(shape, pool)
    squares = np.asarray(pixels, real()).reshape(len(pixels), rows, pool, columns, pool, *rest)
    small: Float = squares.mean(axis=(2, 4)).reshape(len(pixels), -1)
    return small
