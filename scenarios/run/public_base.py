"""The public base of a transfer-learned head: trained here on public classes and cached, or brought by the
user.

The upper half of a data set's classes is public and trains the base, the lower half is the task: MNIST 5 to 9
and 0 to 4, as in the setting of R. Allison, T. Maciazek, H. Bourne, arXiv:2505.14323. Everybody knows the
base, the adversary included.

`--base FILE` takes
    .npz        `features` (N, d), `images` (N, rows, columns) and `labels` (N,) of the task alone, from any
                network whatever; there is then no phi of other inputs, and nothing that asks for one applies.
                The base is then public by its features of the held-out images, an owner has those of its own,
                and how large a feature may be is public
    .pt, .pth   the state dict of a torch module of dense layers with ReLU, on pixels in [0, 1], without its
                classifier

Neither runs code of the file: an npz is read without pickle and a state dict with `weights_only`. A
TorchScript file is a program, and is not taken. A base that is cached is an npz named by a digest of the data
and the recipe; a file that does not hold what its name says is made anew.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from parties.data.datasets import Dataset
from protocols.language.errors import ConfigError, DataError
from protocols.network.public_base import Float, FrozenBase, pooled, pooled_shape

# Rows from which on images are pooled: the task is to be as small as those that it is compared with.
_POOL_FROM = 16
_TINY = 1e-8


@dataclass(frozen=True)
class BaseRecipe:
    """How the base is trained: Adam on cross-entropy over the public classes, deterministic by seed."""

    widths: tuple[int, ...] = (128, 64)
    epochs: int = 6
    batch: int = 128
    lr: float = 1e-3
    seed: int = 0


def public_classes(classes: int) -> int:
    """The first public class; those below it are the task's."""
    if classes < 4:
        raise ConfigError(
            f"a base needs at least two public classes beside two of the task, got {classes} in all"
        )
    return classes // 2


def base_of(data: Dataset, recipe: BaseRecipe = BaseRecipe(), cache: Path | None = None) -> FrozenBase:
    """The base for a data set, cached or else trained and cached; `cache` defaults to ~/.cache/keyhole."""
    path = (cache or _cache_folder()) / f"base-{_digest(data, recipe)}.npz"
    found = _cached(path)
    if found is None:
        found = train_base(data, recipe)
        _keep(path, found)
    return found


def train_base(data: Dataset, recipe: BaseRecipe) -> FrozenBase:
    """Train on the public classes; features are scaled so that the largest on the public images is 1."""
    first = public_classes(data.classes)
    chosen = data.y_train >= first
    sides = data.shape[:2] if len(data.shape) > 1 else (1, 1)  # a row of a table is not pooled
    pool = 2 if sides[0] >= _POOL_FROM and sides[0] % 2 == sides[1] % 2 == 0 else 1
    x = pooled(data.x_train[chosen] / np.float32(data.x_max), data.shape, pool)
    layers = _trained(x, data.y_train[chosen] - first, data.classes - first, recipe)
    base = FrozenBase(tuple(layers[:-1]), data.shape, pool)
    return base.scaled(1.0 / max(_TINY, float(base.phi(x).max())))


def load_base(path: Path, shape: tuple[int, ...]) -> FrozenBase:
    """Dense layers from a state dict (.pt, .pth), for images of this shape; `DataError` for anything else."""
    if path.exists() and not path.is_file():  # a fifo would be waited for
        raise DataError(f"{path}: not a file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as cause:  # a missing file, a pickle that asks for code, TorchScript
        raise DataError(f"{path}: no state dict that can be loaded safely ({type(cause).__name__})") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DataError(f"{path}: expected a state dict of tensors")
    arrays = {str(name): _real(path, str(name), tensor) for name, tensor in state.items()}
    names = [name.removesuffix("weight") for name in arrays if name.endswith("weight")]
    layers = [(arrays[name + "weight"], arrays.pop(name + "bias", None)) for name in names]
    if (
        not layers
        or len(arrays) > len(layers)
        or any(w.ndim != 2 or b is None or b.shape != w.shape[:1] for w, b in layers)
    ):
        raise DataError(
            f"{path}: expected dense layers, each with `weight` and `bias`; for other networks give features"
        )
    return _fitting([np.hstack([w, b[:, None]]) for w, b in layers if b is not None], shape, path)


def _real(path: Path, name: str, tensor: torch.Tensor) -> Float:
    """A tensor of the file as finite numbers."""
    if tensor.layout is not torch.strided or tensor.is_complex() or tensor.is_quantized:
        kind = "complex" if tensor.is_complex() else "quantized" if tensor.is_quantized else "sparse"
        raise DataError(f"{path}: {name} is {kind}; expected dense real numbers")
    array: Float = tensor.detach().float().numpy()
    if not np.isfinite(array).all():
        raise DataError(f"{path}: {name} holds numbers that are not finite")
    return array


def read_features(path: Path) -> tuple[Float, Float, NDArray[np.int64]]:
    """Features (N, d), images (N, n) in [0, 1], labels (N,) of a user's npz; `DataError` without them."""
    try:
        with np.load(path, allow_pickle=False) as file:
            features, images, labels = (file[name] for name in ("features", "images", "labels"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as cause:
        raise DataError(
            f"{path}: expected an npz of features, images and labels ({type(cause).__name__})"
        ) from None
    if features.ndim != 2 or labels.ndim != 1 or not len(features) == len(images) == len(labels):
        raise DataError(f"{path}: features (N, d), images (N, ...) and labels (N,) are of one length N")
    real = all(array.dtype.kind in "biuf" and np.isfinite(array).all() for array in (features, images))
    if labels.dtype.kind not in "iu" or not real:
        raise DataError(f"{path}: labels are integers, features and images finite numbers")
    peak = 255.0 if images.dtype.kind in "iu" else 1.0
    if images.size and not (images.min() >= 0 and images.max() <= peak):
        raise DataError(f"{path}: images are integers in 0 to 255 or numbers in [0, 1]")
    pixels = images.reshape(len(images), -1).astype(np.float32) / np.float32(peak)
    return features.astype(np.float32), pixels, labels.astype(np.int64)


def shape_of_images(path: Path) -> tuple[int, ...]:
    """The shape of an image of a features file; of flat ones a square, where they make one."""
    with np.load(path, allow_pickle=False) as file:
        shape: tuple[int, ...] = file["images"].shape[1:]
    if len(shape) > 1:
        return shape[:2] if shape[2:] == (1,) else shape
    side = round(shape[0] ** 0.5)
    return (side, side) if side * side == shape[0] else (1, shape[0])


def _fitting(layers: list[Float], shape: tuple[int, ...], path: Path) -> FrozenBase:
    """The base with the pooling under which its first layer takes images of this shape."""
    for pool in (1, 2, 4):
        sides = shape[:2] if pool == 1 or len(shape) > 1 else (1,)
        if all(side % pool == 0 for side in sides) and layers[0].shape[1] - 1 == np.prod(
            pooled_shape(shape, pool)
        ):
            return FrozenBase(tuple(layers), shape, pool)
    raise DataError(
        f"{path}: its first layer takes {layers[0].shape[1] - 1} inputs, "
        f"which are no {shape} image, pooled or not"
    )


def _trained(x: Float, labels: NDArray[np.int64], classes: int, recipe: BaseRecipe) -> list[Float]:
    """Layers, the classifier last. numpy draws, torch computes in one thread: the same bits for a seed."""
    rng, threads = np.random.default_rng((recipe.seed, 5)), torch.get_num_threads()
    sizes = (x.shape[1], *recipe.widths, classes)
    bounds = [np.sqrt(6.0 / into) for into in sizes[:-1]]  # He's, for ReLU
    drawn = [
        np.hstack([rng.uniform(-b, b, (out, into)), np.zeros((out, 1))])
        for b, (into, out) in zip(bounds, pairwise(sizes), strict=True)
    ]
    weights = [torch.tensor(each, dtype=torch.float32, requires_grad=True) for each in drawn]
    optimizer = torch.optim.Adam(weights, lr=recipe.lr)
    images, targets = torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(labels.astype(np.int64))
    torch.set_num_threads(1)
    try:
        for _ in range(recipe.epochs):
            for rows in np.array_split(rng.permutation(len(x)), -(-len(x) // recipe.batch)):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(_outputs(weights, images[rows]), targets[rows])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    finally:
        torch.set_num_threads(threads)
    return [w.detach().numpy().copy() for w in weights]


def _outputs(weights: list[torch.Tensor], a: torch.Tensor) -> torch.Tensor:
    for w in weights[:-1]:
        a = torch.relu(torch.addmm(w[:, -1], a, w[:, :-1].T))
    return torch.addmm(weights[-1][:, -1], a, weights[-1][:, :-1].T)


def _digest(data: Dataset, recipe: BaseRecipe) -> str:
    digest = hashlib.sha256(
        f"keyhole base v1;{data.x_train.shape};{data.shape};{data.x_max};{recipe}".encode()
    )
    digest.update(np.ascontiguousarray(data.x_train).data)
    digest.update(np.ascontiguousarray(data.y_train).data)
    return digest.hexdigest()[:20]


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keyhole"


def _cached(path: Path) -> FrozenBase | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            layers = tuple(file[f"layer{i}"] for i in range(int(file["depth"])))
            return FrozenBase(layers, tuple(int(s) for s in file["shape"]), int(file["pool"]))
    except (OSError, ValueError, KeyError, EOFError, ConfigError, zipfile.BadZipFile):
        return None


def _keep(path: Path, base: FrozenBase) -> None:
    """Write the cache, whole or not at all; where it cannot be written, the next run trains again."""
    arrays: dict[str, Any] = {f"layer{i}": layer for i, layer in enumerate(base.layers)}
    part = path.with_suffix(f".{os.getpid()}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(part, depth=len(arrays), shape=np.array(base.shape), pool=base.pool, **arrays)
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink()
