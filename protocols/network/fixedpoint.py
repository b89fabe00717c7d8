"""Reals as integers: x is carried as round(scale x), with an error of at most 0.5 / scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import BoundError
from protocols.language.integers import signed_type


@dataclass(frozen=True)
class FixedPoint:
    """`scale` steps a unit for reals in [-bound, bound]."""

    scale: int
    bound: float

    WIDE: ClassVar[Any] = np.int64  # of `integers`

    @property
    def limit(self) -> int:
        """The largest integer."""
        return round(self.scale * self.bound)

    @property
    def error(self) -> float:
        """Bound on |x - restore(quantise(x))|."""
        return 0.5 / self.scale

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest signed integer type that holds the limit."""
        return signed_type(self.limit)

    def quantise(self, x: NDArray[Any], what: str = "a value") -> NDArray[Any]:
        """Round to the nearest step, ties to even; `BoundError` beyond the bound or if x is not finite. Never
        clips.
        """
        if not np.isfinite(x).all():
            raise BoundError(f"{what} is not finite: training diverged; lower --lr")
        steps = np.rint(np.asarray(x, dtype=np.float64) * self.scale)
        if steps.size and np.abs(steps).max() > self.limit:
            raise BoundError(
                f"{what} leaves the range +-{self.bound:g} of its fixed-point format; "
                "raise --weight-bound or lower --lr"
            )
        return steps.astype(self.dtype)

    def integers(self, x: NDArray[Any], what: str = "a value") -> NDArray[np.int64]:
        """The same in 64 bits."""
        return self.quantise(x, what).astype(self.WIDE)

    def restore(self, steps: NDArray[Any]) -> NDArray[np.float64]:
        """The reals that integers stand for."""
        reals: NDArray[np.float64] = np.asarray(steps, dtype=np.float64) / self.scale
        return reals
