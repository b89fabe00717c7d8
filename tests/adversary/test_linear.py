"""Exact linear algebra over the integers."""

import numpy as np
import pytest

from parties.adversary.solvers.exact import Echelon, solve_exactly, solve_modulo

RNG = np.random.default_rng(9)


def test_rank_is_that_of_numpy_and_independent_rows_are_named():
    rows = RNG.integers(-50, 50, (6, 12))
    rows = np.vstack([rows[:2], rows[0] + 3 * rows[1], rows[2:], rows[2] - rows[5], np.zeros((1, 12), int)])
    echelon = Echelon(12)
    fresh = np.concatenate([echelon.add(rows[:3]), 3 + echelon.add(rows[3:])])
    assert fresh.tolist() == [0, 1, 3, 4, 5, 6] and echelon.rank == np.linalg.matrix_rank(rows) == 6
    assert not echelon.full


def test_rank_stays_exact_at_many_columns():
    echelon = Echelon(1500)
    rows = RNG.integers(-1024, 1025, (40, 1500))
    assert len(echelon.add(rows)) == 40 and len(echelon.add(rows @ np.eye(1500, dtype=int) * 3)) == 0


def test_integer_solutions_are_found_exactly_even_if_ill_conditioned():
    for n in (3, 20, 64):
        a = RNG.integers(-1000, 1000, (n, n))
        a[-1] = a[0] * 1000 + a[1]
        a[-1, 0] += 1  # nearly dependent
        x = RNG.integers(0, 256, (n, 7))
        assert np.array_equal(solve_exactly(a, a @ x), x)


def test_no_integer_solution_is_told():
    a = np.array([[2, 0], [0, 3]])
    assert solve_exactly(a, np.array([[1], [3]])) is None
    assert solve_exactly(a, np.array([[4], [9]])).tolist() == [[2], [3]]


def test_a_system_beyond_floats_gives_none_and_never_a_wrong_solution():
    for a in ([[1, 2], [2, 4]], [[2**31, 2**31 - 1], [2**31 + 1, 2**31]]):
        x = np.array([[3], [5]])
        solved = solve_exactly(np.array(a), np.array(a) @ x)
        assert solved is None or np.array_equal(solved, x)
    assert solve_exactly(np.array([[1, 2], [2, 4]]), np.array([[1], [2]])) is None


def test_systems_modulo_a_prime():
    q = 2**255 - 19
    a, x = RNG.integers(-1000, 1000, (8, 8)), [int(v) ** 9 % q for v in RNG.integers(1, 2**40, 8)]
    b = [sum(int(c) * v for c, v in zip(row, x, strict=True)) % q for row in a]
    assert solve_modulo(a, b, q) == x


@pytest.mark.parametrize("q", [7, 2**61 - 1])
def test_a_singular_system_has_no_single_solution(q):
    assert solve_modulo(np.array([[1, 2], [2, 4]]), [1, 2], q) is None
