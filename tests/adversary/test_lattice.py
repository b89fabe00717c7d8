"""Whole numbers end what holds over the reals: few equations, Gram matrices and spans give the samples."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from parties.adversary.adversary import Adversary
from parties.adversary.attack import NotApplicable
from parties.adversary.attacks.lattice_gram import explained, whole_columns
from parties.adversary.attacks.lattice_span import Found, merged, nothing_new
from parties.adversary.solvers import lattice, spans
from parties.adversary.solvers.lattice import Columns
from parties.adversary.solvers.order import placed
from protocols.network.config import Init, Scheme
from tests.scenarios.test_attacks import attacked

DIGITS = load_digits().data.astype(np.int64)[np.random.default_rng(3).permutation(1797)]
PUBLIC, SECRET = DIGITS[:360], DIGITS[360:500]


def spread():
    return PUBLIC.mean(axis=0), np.sqrt(PUBLIC.var(axis=0) + 0.05)


@pytest.mark.parametrize("equations", [32, 24])
def test_half_and_fewer_equations_give_every_image(equations):
    a = np.random.default_rng(0).normal(0, 80, (equations, 64)).round().astype(np.int64)
    guess, deviation = spread()
    x, found = lattice.Coset.of(a, deviation).within(SECRET @ a.T, guess, 0, 16)
    assert found.all() and np.array_equal(x, SECRET)


def test_what_is_returned_satisfies_the_equations_and_what_has_no_solution_is_named():
    a = 2 * np.random.default_rng(0).normal(0, 40, (8, 64)).round().astype(np.int64)
    guess, deviation = spread()
    z = np.vstack([SECRET[:3] @ a.T, SECRET[3] @ a.T + 1])
    x, solvable = lattice.Coset.of(a, deviation).nearest(z, guess)
    assert solvable.tolist() == [True, True, True, False]
    assert np.array_equal(x[:3] @ a.T, z[:3])


def test_a_kernel_is_whole_and_complete():
    a = np.array([[2, 4, 6], [1, 1, 1]])
    (row,) = lattice.kernel(a)
    assert sorted(map(abs, row)) == [1, 1, 2] and not (a @ row).any()


def test_columns_of_a_gram_matrix_without_any_known_sample():
    found = lattice.columns_of_gram(SECRET @ SECRET.T)
    truth = {tuple(column) for column in SECRET.T}
    assert found.values.shape[1] >= found.rank - 2
    assert all(tuple(column) in truth for column in found.values.T)


def expected():
    return lattice.Expected(*spread(), 16)


def mixed(rows, features, noise=0.0):
    """D X in float32 for dense random D (features, b), and noise."""
    rng = np.random.default_rng(1)
    changed = (rng.normal(0, 0.01, (features, len(rows))) @ rows).astype(np.float32)
    return changed + rng.normal(0, noise, changed.shape) if noise else changed.astype(np.float64)


def found_in(matrix, samples, x_max, noise=0.0):
    """(points, whether all were looked at, what is left unexplained) as tuples of pixels."""
    points, off = spans.points_of_span(matrix, samples, x_max, noise)
    return {tuple(row) for row in points.rows}, points.only, off


def gray(count, pixels=784):
    """Images of 256 levels, no pixel of which is zero in all: sums of a few random gray levels."""
    rng = np.random.default_rng(2)
    rough = rng.integers(0, 256, (count, pixels // 16))
    return np.clip(np.repeat(rough, 16, axis=1) + rng.integers(-40, 41, (count, pixels)), 0, 255)


def test_samples_behind_a_span_whose_mixing_is_unknown():
    found, only, off = found_in(mixed(SECRET[:8], 32), 8, 16)
    assert off < 3 and only and found == {tuple(row) for row in SECRET[:8]}


@pytest.mark.parametrize(("count", "features"), [(8, 8), (16, 40), (24, 300)])
def test_samples_of_256_levels_behind_dense_mixing_from_a_share_of_their_pixels(count, features):
    rows = gray(count)
    found, only, off = found_in(mixed(rows, features), count, 255, noise=1e-6)
    assert off < 3 and only and found == {tuple(row) for row in rows}


def test_a_sample_that_moved_nothing_hides_no_other_one():
    rows = gray(9)
    matrix = mixed(rows[:8], 32)
    found, only, _ = found_in(matrix, 9, 255)
    assert only and found == {tuple(row) for row in rows[:8]}


@pytest.mark.parametrize(("samples", "levels"), [(SECRET[:8], 16), (gray(8), 255)], ids=["17", "256"])
def test_noise_gives_no_span_and_says_so(samples, levels):
    matrix = mixed(samples, 32, noise=0.01 * levels / 4)
    found, only, off = found_in(matrix, 8, levels)
    assert off > 3 and not found and not only


def test_samples_that_are_mixed_alike_are_not_found():
    """D of lower rank: the span holds one real combination of two samples, and neither of them; whole points
    in range that do not generate it prove nothing.
    """
    rows = gray(8)
    together = np.vstack([rows[:6], rows[6] + rows[7] / np.pi])
    assert not found_in(mixed(together, 32), 8, 255)[0]


def test_points_that_could_stand_for_each_other_are_left_out():
    """Any three of a, b, c, a - b + c generate the same lattice: which of them is false is not told."""
    a, c, step = SECRET[0], SECRET[1], np.random.default_rng(0).integers(-1, 2, 64)
    b = np.clip(a + step, 0, 16)
    c = np.where((a - b + c < 0) | (a - b + c > 16), np.clip(c, 1, 15), c)
    rows = np.vstack([a, b, c, SECRET[3:6]])
    assert ((a - b + c >= 0) & (a - b + c <= 16)).all()
    found, only, _ = found_in(mixed(rows, 32), 6, 16)
    assert only and found == {tuple(row) for row in SECRET[3:6]}


def test_a_sample_of_two_values_is_not_taken_for_its_fraction():
    """One image of 0 and 255 alone: the lattice has it of 0 and 1, and cannot tell how bright it was."""
    rows = gray(6)
    rows[0] = 255 * (rows[0] > 127)
    found, only, _ = found_in(mixed(rows, 32), 6, 255)
    assert only and found == {tuple(row) for row in rows[1:]}


def test_every_point_in_range_is_looked_at():
    basis = np.random.default_rng(4).integers(-3, 6, (3, 7))
    parts = np.array(list(np.ndindex(41, 41, 41))) - 20
    every = parts @ basis
    every = every[((every >= 0) & (every <= 25)).all(axis=1) & every.any(axis=1)]
    found, only = spans._in_range(basis, 25)
    assert only and len(every) > 20 and {tuple(r) for r in found} == {tuple(r) for r in every}


def test_known_maps_in_float32_give_images_from_a_quarter_of_the_equations():
    w = np.random.default_rng(2).uniform(-0.125, 0.125, (16, 64)).astype(np.float32)
    z = (SECRET[:8].astype(np.float32) @ w.T).astype(np.float64)
    x, found = lattice.near_solutions(w.astype(np.float64), z, 3e-6, expected())
    assert found.all() and np.array_equal(x, SECRET[:8])
    wrong, found = lattice.near_solutions(w.astype(np.float64), z + 0.3, 3e-6, expected())
    assert not (found & (wrong == SECRET[:8]).all(axis=1)).any()


def test_columns_find_their_pixels_by_public_images():
    found = lattice.columns_of_gram(SECRET @ SECRET.T)
    images, _ = placed(found.values, PUBLIC.astype(np.float64), np.random.default_rng(0))
    assert (images == SECRET).mean() > 0.98


def test_keys_of_one_step_give_every_image_that_a_budget_was_to_protect(runs):
    row = attacked(runs("plain_fe", hidden=32, defence=("key_budget:32",))[0], "lattice")
    assert row["metrics"]["exact_pixels"] == 1.0 and row["metrics"]["solved_at_step"] == 0


@pytest.mark.parametrize(
    ("scenario", "options", "corrupt", "attack", "solved", "of"),
    [
        ("mitig2", {"owners": 4, "samples": 32, "batch": 8, "hidden": 32, "epochs": 1}, "key_authority",
         "lattice_span", 32, 32),
        ("mitig2", {"owners": 4, "samples": 64, "batch": 16, "hidden": 32, "epochs": 1}, "key_authority",
         "lattice_span", 64, 64),
        ("mitig2", {"owners": 6, "samples": 48, "batch": 4, "hidden": 16, "epochs": 2, "seed": 913},
         "key_authority", "lattice_span", 48, 48),  # with momentum the second round moves the first batch too
        ("mitig2", {"owners": 4, "samples": 16, "batch": 4, "hidden": 32, "epochs": 4,
                    "defence": ("secure_aggregation",)}, "data_owner:1", "lattice_span", 12, 12),
        ("mitig2", {"owners": 4, "samples": 16, "batch": 4, "hidden": 32, "epochs": None, "rounds": 1,
                    "defence": ("secure_aggregation",)},
         "key_authority", "lattice_span", 16, 16),  # nobody is sent the last mean; it adds up masked copies
        ("fedsgd", {"samples": 48, "batch": 16, "hidden": 32, "epochs": 2}, "key_authority",
         "lattice_span", 48, 48),
        ("fedsgd", {"owners": 4, "samples": 16, "batch": 4, "hidden": 32, "epochs": 2, "local_steps": 1,
                    "defence": ("secure_aggregation",)}, "key_authority", "lattice_span", 16, 16),
        ("fedsgd", {"owners": 4, "samples": 16, "batch": 4, "hidden": 32, "epochs": 4,
                    "defence": ("secure_aggregation",)}, "data_owner:1", "lattice_span", 12, 12),
        ("mitig2", {"owners": 4, "samples": 64, "batch": 16, "hidden": 16, "epochs": 1},
         "cloud_trainer,data_owner:0", "known_average", 48, 48),
        ("mitig2", {"init": Init.SHARED, "hidden": 16}, "cloud_trainer", "known_init", 48, 48),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_honest_parties_read_whole_images_that_are_open_over_the_reals(
    runs, scenario, options, corrupt, attack, solved, of
):
    row = attacked(runs(scenario, **options)[0], attack, tuple(corrupt.split(",")))
    assert row["metrics"]["exact_images"] == solved and row["samples"] == of


def test_the_cloud_alone_reads_images_from_inner_products_without_a_known_sample(runs):
    run = runs("mitig2", samples=140, hidden=32, epochs=12, seed=51)[0]
    row = attacked(run, "lattice_gram")
    assert row["metrics"]["exact_pixels"] > 0.98 > 0.5 > row["baseline"]["guess"]["exact_pixels"]


def test_rows_found_twice_are_one_sample_and_alike_ones_of_other_changes_are_two():
    a, b = np.array([0, 1]), np.arange(3)
    one, two = Found(a, SECRET[:2], 4), Found(b, SECRET[[1, 2]], 9)
    other = Found(np.array([7, 8]), SECRET[[0, 9]], 6)
    rows, last = merged([one, other, two])
    assert np.array_equal(rows, SECRET[[0, 1, 0, 9, 2]]) and last == 9
    assert merged([one, other, replace(one, since=9)])[1] == 6
    assert nothing_new(a, [one]) and not nothing_new(b, [one, two, two]) and nothing_new(b, [two] * 3)
    assert not nothing_new(np.array([1, 7]), [one])


def test_columns_of_as_many_samples_as_their_rank_are_none_and_those_found_explain_the_products(runs):
    run = runs("mitig2", hidden=32, samples=40, epochs=5, seed=931, defence=("revisit-budget:2",))[0]
    assert "columns need more" in attacked(run, "lattice_gram")["why"]
    lines = Adversary(run.view_sources(("cloud_trainer",))).learned()
    assert "up to" not in {line.how for line in lines if line.quantity == "samples"}
    for count in (1, 40):
        some = SECRET[:count].astype(np.float64)
        with pytest.raises(NotApplicable, match="need more"):
            whole_columns(some @ some.T, 16)


def test_a_false_column_is_left_out_and_the_others_stay():
    x = np.random.default_rng(3).integers(0, 17, (40, 6))
    wrong, far = x[:, [0]] + np.eye(40, dtype=np.int64)[:, [0]], np.full((40, 1), 17)
    found = explained(x @ x.T, Columns(np.hstack([wrong, x[:, :4], far]), 6), 16)
    assert np.array_equal(found.values, x[:, :4]) and found.rank == 6


@pytest.mark.parametrize("hidden", [32, 24])
def test_few_keys_give_the_short_secret_of_lwe(runs, hidden):
    run = runs("plain_fe", hidden=hidden, defence=(f"key_budget:{hidden}",))[0]
    row = attacked(run, "master_key")
    assert row["metrics"]["exact_pixels"] == 1.0 and row["metrics"]["solved_at_step"] == 0
    assert row["notes"]["matches_public_key"] and row["notes"]["keys_used"] == hidden


def test_wide_secrets_stay_within_their_budget_and_fall_where_it_is_printed_as_void(runs):
    options = {"hidden": 32, "samples": 320, "scheme": Scheme.RLWE}
    run, result = runs("plain_fe", **options, defence=("key_budget:40",))
    assert "128 bit left" in result["security"]["scheme"]
    assert "do not determine the master key" in attacked(run, "master_key")["why"]
    run, result = runs("plain_fe", **options, defence=("key_budget:60",))
    assert "void, 0 bit left" in result["security"]["scheme"]
    row = attacked(run, "master_key")
    assert row["metrics"]["exact_pixels"] == 1.0 and 40 < row["notes"]["keys_used"] < 60


def test_the_ledger_names_the_step_of_the_first_keys(runs):
    view = runs("plain_fe", hidden=32)[0].view_sources(("cloud_trainer",))
    found = {(line.quantity, line.since_round) for line in Adversary(view).learned() if line.how == "exact"}
    assert ("samples", 0) in found and ("master key", 0) in found


@pytest.mark.parametrize("values", [1, 3, 100, 10**6])
def test_the_candidates_that_are_kept_are_those_of_a_stable_sort(values):
    rng = np.random.default_rng(values)
    for count, size in ((1, 1), (7, 5), (5, 7), (64, 500), (500, 500), (512, 1536)):
        costs = rng.integers(0, values, size).astype(np.float64)
        kept = lattice._least(costs, count)
        assert np.array_equal(kept, np.argsort(costs, kind="stable")[:count])
