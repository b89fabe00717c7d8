"""Exact matrix products mod 2^64, as floating-point products of limbs.

One operand is wide (any 64-bit words), the other small. The wide one is cut into limbs so short that every
partial sum of a product stays below 2^53; float64 products of the limbs are then exact, on any number of
threads and in any order, and run at the speed of the BLAS instead of that of 64-bit integer code (here 25
against 5 giga-multiplications a second).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Small = NDArray[np.integer[Any]]

_EXACT64 = 53  # integers up to 2^53 are exact in float64, up to 2^24 in float32
_EXACT32 = 24
_MANY = 1 << 30  # multiplications, some fifty milliseconds of one processor


@contextmanager
def all_threads(multiplications: int = _MANY) -> Iterator[None]:
    """Let torch use every processor for products of at least `_MANY` multiplications: for exact ones only, as
    float sums depend on how many there are. That is an encryption of many samples. One is enough for what a
    step of training takes: the others hash and write what crossed, and would spin for longer than they
    compute.
    """
    before = torch.get_num_threads()
    wanted = (os.cpu_count() or 1) if multiplications >= _MANY else 1
    if before == wanted:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Limbs:
    """A wide matrix cut into limbs of `width` bits, the lowest first, as float64."""

    width: int
    parts: tuple[torch.Tensor, ...]


def limbs(wide: Words, width: int) -> Limbs:
    """Cut a matrix of 64-bit words into limbs of `width` bits (1 to 52)."""
    mask = np.uint64((1 << width) - 1)
    cut = ((wide >> np.uint64(shift)) & mask for shift in range(0, 64, width))
    return Limbs(width, tuple(torch.from_numpy(part.astype(np.float64)) for part in cut))


def limb_width(absolute_sum: int) -> int:
    """The widest limb with which sums of such operands are exact; `OverflowError` if there is none."""
    if absolute_sum > 1 << _EXACT64:
        raise OverflowError(f"sums of up to {int(absolute_sum).bit_length()} bits are not exact")
    return max(1, min(52, _EXACT64 - max(1, int(absolute_sum)).bit_length()))


def wide_times_small(wide: Words, small: Small) -> Words:
    """wide (m, k) @ small (k, n) mod 2^64."""
    right = torch.from_numpy(small.astype(np.float64))
    cut = limbs(wide, limb_width(_absolute_sum(right, 0)))
    with all_threads(wide.size * small.shape[1]):
        return _sum([part @ right for part in cut.parts], cut.width)


def small_times_wide(small: Small, wide: Limbs) -> Words:
    """small (m, k) @ wide (k, n) mod 2^64; the limbs fit the largest absolute sum of a row of `small`."""
    left = torch.from_numpy(small.astype(np.float64))
    with all_threads(small.size * wide.parts[0].shape[1]):
        return _sum([left @ part for part in wide.parts], wide.width)


def small_times_small(a: Small, b: Small | NDArray[np.float32]) -> NDArray[np.int64]:
    """a (m, k) @ b (k, n) over the integers; exact while the sums stay below 2^53. A b that serves for many
    products may be float32, if its integers are below 2^24.
    """
    left = torch.from_numpy(a.astype(np.float64))
    bound = _absolute_sum(left, 1) * max(int(b.max(initial=0)), -int(b.min(initial=0)))
    if bound >= 1 << _EXACT64:
        raise OverflowError(f"sums of up to {bound.bit_length()} bits are not exact")
    dtype = np.float32 if bound < 1 << _EXACT32 else np.float64
    right = torch.from_numpy(b.astype(dtype, copy=False))
    with all_threads(a.size * b.shape[1]):
        product = left.to(right.dtype) @ right
    result: NDArray[np.int64] = product.numpy().astype(np.int64)
    return result


def _absolute_sum(small: torch.Tensor, axis: int) -> int:
    """The largest sum of absolute values along an axis, of integers in float64; `OverflowError` where such a
    sum reaches 2^53, from where on neither entries nor sums are exact.
    """
    sums = torch.linalg.vector_norm(small, 1, axis)
    largest = int(sums.max()) if sums.numel() else 0
    if largest >= 1 << _EXACT64:
        raise OverflowError(f"sums of up to {largest.bit_length()} bits are not exact")
    return largest


def _sum(products: list[torch.Tensor], width: int) -> Words:
    """Add the products of limbs at their places; shifts and sums wrap, which is arithmetic mod 2^64."""
    total = products[0].numpy().astype(np.int64).view(np.uint64)
    for place, product in enumerate(products[1:], start=1):
        total += product.numpy().astype(np.int64).view(np.uint64) << np.uint64(place * width)
    return total
