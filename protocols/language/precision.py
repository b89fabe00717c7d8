"""The floating-point type in which networks compute: float32, unless a run or an audit asks for float64; and
one-hot labels in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


class Precision(Enum):
    """How exactly networks compute, and how exactly what they compute crosses."""

    SINGLE = "float32"
    DOUBLE = "float64"

    @property
    def roundoff(self) -> float:
        """The relative error of one rounding: 2^-24, or 2^-53."""
        return float(np.finfo(self.value).eps) / 2


def precision_of(config: Any) -> Precision:
    """What a configuration asks for; float32 where it does not say."""
    found: Precision = getattr(config, "precision", Precision.SINGLE)
    return found


_CURRENT: ContextVar[Precision] = ContextVar("precision", default=Precision.SINGLE)


@contextmanager
def computed_in(precision: Precision) -> Iterator[None]:
    """Networks compute in this type inside the block."""
    before = _CURRENT.set(precision)
    try:
        yield
    finally:
        _CURRENT.reset(before)


def real() -> Any:
    """numpy's type of reals."""
    return np.float32 if _CURRENT.get() is Precision.SINGLE else np.float64


def torch_real() -> torch.dtype:
    """torch's type of reals."""
    import torch  # here: names of protocols and options are asked for without it

    return torch.float32 if _CURRENT.get() is Precision.SINGLE else torch.float64


def one_hot(labels: NDArray[Any], classes: int) -> NDArray[Any]:
    """Y (..., k) of integer labels (...); what is rows of reals already, as in an audit, stays as it is."""
    if labels.dtype.kind == "f":
        return labels
    found: NDArray[Any] = np.eye(classes, dtype=real())[labels]
    return found
