"""The type that an arrow states, and what is of it."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protocols.language.figure import fits
from protocols.parts.budget import Refused


class LouderRefused(Refused):
    """A subclass, which is another class."""


@pytest.mark.parametrize(("kind", "fitting", "others"), [
    (NDArray[np.int16], [np.zeros(2, np.int16)], [np.zeros(2, np.int32), [1, 2], 1]),
    (NDArray[np.integer], [np.zeros(2, np.int64), np.zeros(2, np.uint8)], [np.zeros(2), np.zeros(2, bool)]),
    (NDArray[Any], [np.zeros(2), np.zeros(2, bool)], [[0.0]]),
    (list[NDArray[np.float32]], [[], [np.zeros(1, "f")]], [np.zeros(1, "f"), [np.zeros(1)], [1.0]]),
    (dict[str, int], [{}, {"a": 1}], [{"a": True}, {"a": None}, [1]]),
    (int | None, [3, None], [True, 3.0, np.int64(3)]),
    (Refused, [Refused(1, 2)], [(1, 2), {"rank": 1, "budget": 2}, LouderRefused(1, 2)]),
], ids=str)  # fmt: skip
def test_a_value_is_of_the_type_of_its_arrow_or_not(kind, fitting, others):
    assert all(fits(value, kind) for value in fitting)
    assert not any(fits(value, kind) for value in others)
