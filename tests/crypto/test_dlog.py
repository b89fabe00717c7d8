"""Bounded discrete logarithms: at the bounds, beyond them, with giant steps, and with tampered tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from protocols.crypto.groups import dlog
from protocols.crypto.groups.named import GROUPS, get_group
from protocols.language.errors import BoundError, SchemeError


def powers_of_g(group, values):
    return group.g ** np.array(values, object)


@pytest.fixture
def small_reach(monkeypatch):
    """Tables of 100 entries, so that small bounds need giant steps."""
    monkeypatch.setattr(dlog, "reach", lambda bound: min(bound, 100))


@pytest.mark.parametrize("name", GROUPS)
def test_every_value_within_the_bound_is_found(name):
    group, values = get_group(name), np.arange(-60, 61)
    assert np.array_equal(dlog.solve(powers_of_g(group, values), 60), values)


@pytest.mark.parametrize("name", GROUPS)
def test_values_beyond_the_table_are_found_by_giant_steps(name, small_reach):
    group = get_group(name)
    values = np.array([[0, 100, -100, 101, -101, 201], [301, 302, -302, 999, 1000, -1000]])
    assert np.array_equal(dlog.solve(powers_of_g(group, values), 1000), values)


@pytest.mark.parametrize("value", [1001, -1001, 1099, 1105, 1106, -1107, 2**40, -(2**200)])
def test_value_just_or_far_outside_is_an_error_that_does_not_tell_it(value, small_reach):
    group = get_group("secp256k1")
    with pytest.raises(BoundError, match=r"outside \[-1000, 1000\]") as caught:
        dlog.solve(powers_of_g(group, [3, value]), 1000)
    assert str(abs(value)) not in str(caught.value)


def test_bound_smaller_than_the_table_is_enforced():
    group = get_group("secp256k1")
    with pytest.raises(BoundError):
        dlog.solve(powers_of_g(group, [17]), 16)


def test_bound_of_digits_holds_at_its_ends_with_the_real_table():
    group, bound = get_group("secp256k1"), 64 * 16 * 1024
    values = [bound, -bound, 262144, 262145, -786433, 0]
    assert dlog.solve(powers_of_g(group, values), bound).tolist() == values


def test_another_base_gives_logarithms_to_that_base():
    group = get_group("secp256k1")
    base = powers_of_g(group, [12345])[0]
    elements = base ** [-40, 0, 7, 50]
    assert dlog.solve(elements, 50, base).tolist() == [-40, 0, 7, 50]


def test_result_has_the_shape_of_the_elements_even_when_there_are_none():
    group = get_group("secp256k1")
    assert dlog.solve(powers_of_g(group, [[1, 2], [3, 4]]), 9).tolist() == [[1, 2], [3, 4]]
    assert dlog.solve(powers_of_g(group, np.zeros((0, 3))), 9).shape == (0, 3)


def test_agreement_of_the_first_word_alone_is_not_a_hit():
    group = get_group("secp256k1")
    table, elements = dlog.table(group.g, 50), powers_of_g(group, [1, 2, -3])
    _, found = replace(table, second=table.second ^ np.uint64(2)).find(elements)
    assert table.find(elements)[1].all() and not found.any()


def test_base_of_small_order_is_refused():
    group = get_group("secp256k1")
    with pytest.raises(SchemeError, match="fingerprints"):
        dlog.table(group.one, 50)


def test_tables_are_built_once():
    group = get_group("secp256k1")
    assert dlog.table(group.g, 50) is dlog.table(group.g, 50)


def test_bound_out_of_reach_is_refused():
    with pytest.raises(BoundError, match="out of reach"):
        dlog.table(get_group("secp256k1").g, dlog.MAX_BOUND + 1)
