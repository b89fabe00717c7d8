"""Attack `gradient`: exact integers at the first visit where dZ1 has full rank, what it cannot separate, and
nothing elsewhere.
"""

import numpy as np
import pytest

from parties.adversary.attack import NotApplicable
from parties.adversary.attacks.gradient import by_keys, curve, visit_of
from parties.adversary.solvers.exact import solve_determined
from parties.adversary.solvers.portions import Portions
from parties.record.view import Record
from protocols.language.relations import Combinations, Instance
from protocols.network.config import Activation, Gradient, Scheme
from tests.adversary.common import attacked, rebuilt, stated

# Sigmoid units are never dead, and 24 of them separate the 16 samples of a batch; the last batch holds 3.
FULL = {"samples": 51, "hidden": 24, "activation": Activation.SIGMOID}
NARROW = {"samples": 32, "hidden": 4, "batch": 8, "activation": Activation.SIGMOID}  # rank 4 of 8 in one step


@pytest.mark.parametrize("options", [{}, {"owners": 3}], ids=str)
@pytest.mark.parametrize("gradient", Gradient)
def test_every_sample_is_exact_from_the_first_visit_of_its_batch(runs, gradient, options):
    run, _ = runs("plain_fe", **FULL, gradient=gradient, **options)
    row = attacked(run, "gradient")
    assert row["samples"] == 51 and row["metrics"]["exact_pixels"] == 1.0 and row["metrics"]["failures"] == 0
    assert row["notes"]["solved_by_the_first_visit_of_the_batch"] == 51 and row["notes"]["not_separated"] == 0
    assert row["baseline"]["swapped"]["exact_pixels"] < 0.6


def test_keys_of_the_first_step_open_every_batch_and_dw1_its_own(runs):
    steps = {}
    for gradient in Gradient:
        run, _ = runs("plain_fe", **FULL, gradient=gradient)
        steps[gradient] = rebuilt(run, "gradient").per_sample["step"]
    assert (steps[Gradient.FE] == 0).all()
    assert np.array_equal(steps[Gradient.OWNER], np.repeat([0, 1, 2, 3], [16, 16, 16, 3]))


def test_the_other_scheme_leaks_alike(runs):
    run, _ = runs("plain_fe", samples=8, hidden=8, batch=4, gradient=Gradient.FE, scheme=Scheme.DDH)
    assert attacked(run, "gradient")["metrics"]["exact_pixels"] == 1.0


@pytest.mark.parametrize("gradient", Gradient)
def test_steps_are_stacked_until_the_rank_is_the_batch(runs, gradient):
    run, _ = runs("plain_fe", **NARROW, epochs=3, gradient=gradient)
    row = attacked(run, "gradient")
    visits = {
        Gradient.FE: 1,
        Gradient.OWNER: 7,
    }  # 4 equations a step: keys serve every batch, dW1 only its own
    assert row["metrics"]["exact_pixels"] == 1.0 and row["metrics"]["solved_at_step"] == visits[gradient]


@pytest.mark.parametrize("gradient", Gradient)
def test_too_few_equations_are_not_applicable(runs, gradient):
    run, _ = runs("plain_fe", **{**NARROW, "samples": 8}, gradient=gradient)
    row = attacked(run, "gradient")
    assert not row["applicable"] and "separates no sample" in row["why"]


def test_samples_that_dz1_does_not_separate_are_left_open():
    rng = np.random.default_rng(1)
    a, x = rng.normal(size=(8, 4)), rng.integers(0, 17, (4, 6))
    a[:, 3] = 2 * a[:, 2]  # samples 2 and 3 appear together only
    found = Portions(4, 6, 16)
    assert sorted(found.add(a.T, a @ x, np.full(8, 1e-6))) == [0, 1] and np.array_equal(found.x[:2], x[:2])
    a[:, 3] = rng.normal(size=8)
    assert sorted(found.add(a.T, a @ x, np.full(8, 1e-6))) == [2, 3] and np.array_equal(found.x, x)


def test_determined_unknowns_are_exact_and_contradictions_are_seen():
    a, x = np.array([[1, 2, 0, 0], [0, 0, 3, 0], [2, 4, 1, 0]]), np.array([[5], [7], [11], [13]])
    found, values = solve_determined(a, a @ x)
    assert found.tolist() == [False, False, True, False] and values[2] == 11
    assert solve_determined(np.vstack([a, a[:1]]), np.vstack([a @ x, a[:1] @ x + 1])) is None


def test_a_wrong_gradient_is_not_taken_for_an_image(runs):
    run, _ = runs("plain_fe", **FULL)
    for visit in map(visit_of, stated(run).of(Combinations)):
        found = Portions(visit.a.shape[1], 64, 16)
        assert not len(found.add(visit.a.T, np.random.default_rng(0).permutation(visit.b), visit.bound))


def test_a_killed_run_gives_what_its_steps_gave(runs):
    run, _ = runs("plain_fe", **FULL)
    seq = [row.seq for row in run.view("cloud_trainer").rows("dw1")][1]
    prefix = rebuilt(run, "gradient", until=seq)
    assert (
        prefix.solved_at_step is None
        and np.isfinite(prefix.values[:32]).all()
        and np.isnan(prefix.values[32:]).all()
    )
    assert prefix.notes["not_separated"] == 19 and curve(prefix.per_sample["step"]) == [[0, 16], [1, 32]]


@pytest.mark.parametrize("gradient", Gradient)
def test_a_run_killed_before_its_first_gradient_is_not_applicable(runs, gradient):
    run, _ = runs("plain_fe", **FULL, gradient=gradient)
    first = next(row.seq for row in run.view("cloud_trainer").rows() if row.label in ("dw1", "sk_dz1"))
    for until in range(-1, first):
        with pytest.raises(NotApplicable, match="holds no|separates no|fewer than two"):
            rebuilt(run, "gradient", until=until)


@pytest.mark.parametrize("gradient", Gradient)
def test_who_holds_no_gradient_of_others_is_told_so(runs, gradient):
    run, _ = runs("plain_fe", **FULL, gradient=gradient)
    assert not attacked(run, "gradient", "data_owner:0")["applicable"]
    headers, _ = runs("plain_fe", **FULL, gradient=gradient, record=Record.HEADERS)
    assert attacked(headers, "gradient")["why"] == "payloads not recorded"


@pytest.mark.parametrize("scenario", ["plain", "mitig2"])
def test_other_protocols_send_no_gradient_of_w1(runs, scenario):
    assert not attacked(runs(scenario)[0], "gradient")["applicable"]


def test_keys_of_one_step_determine_batches_of_every_size(runs):
    run, _ = runs("plain_fe", **FULL, gradient=Gradient.FE)
    (instance,) = [instance for instance in stated(run).of(Instance) if instance.across]
    found = list(by_keys(instance, 16))
    assert [len(o.block) for o in found] == [16, 16, 16, 3]
    assert all(len(o.index) == len(o.block) and (o.steps == 0).all() for o in found)
