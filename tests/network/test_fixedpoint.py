"""Reals as integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.language.errors import BoundError
from protocols.language.integers import signed_type
from protocols.network.fixedpoint import FixedPoint
from protocols.network.head_integers import HeadFormat


@given(st.integers(1, 10_000), st.floats(0.01, 100), st.lists(st.floats(-1, 1), min_size=1, max_size=20))
def test_rounding_errs_by_half_a_step_at_most(scale, bound, shares):
    fixed, x = FixedPoint(scale, bound), np.array(shares) * bound * 0.999
    if np.abs(np.rint(x * scale)).max() <= fixed.limit:
        assert np.abs(fixed.restore(fixed.quantise(x)) - x).max() <= fixed.error * (1 + 1e-9)


def test_ties_go_to_even_and_the_type_is_the_smallest():
    fixed = FixedPoint(2, 10.0)
    assert fixed.quantise(np.array([0.25, 0.75, -0.25, 1.25])).tolist() == [0, 2, 0, 2]
    assert (
        fixed.dtype == np.int8
        and FixedPoint(256, 4.0).dtype == np.int16
        and FixedPoint(10_000, 4.0).dtype == np.int32
    )


@pytest.mark.parametrize("x", [4.1, -4.1, np.nan, np.inf])
def test_what_does_not_fit_is_refused_and_never_clipped(x):
    with pytest.raises(BoundError, match="W1 .*--lr"):
        FixedPoint(256, 4.0).quantise(np.array([0.0, x]), "W1")


@given(st.integers(0, 61), st.integers(-1, 1))
def test_both_ends_keep_their_sign_at_and_beside_every_power_of_two(exponent, beside):
    limit = (1 << exponent) + beside
    for end in (limit, -limit):
        assert np.array([end]).astype(signed_type(limit)).tolist() == [end]
        if 0 < limit < 1 << 52:  # reals hold it
            fixed = FixedPoint(1, float(limit))
            assert fixed.quantise(np.array([float(end)])).tolist() == [end]


def test_the_default_format_of_a_head_keeps_the_sign_of_its_bound():
    form = HeadFormat()
    for fixed in (form.weight, form.feature, form.bias):
        assert fixed.restore(fixed.quantise(np.array([fixed.bound, -fixed.bound]))).tolist() == [
            fixed.bound,
            -fixed.bound,
        ]


def test_no_type_holds_more_than_64_bits():
    assert signed_type((1 << 63) - 1) == np.int64
    with pytest.raises(BoundError, match="2\\^63"):
        signed_type(1 << 63)
