"""Labels that never leave their owner, from directions of gradients; labels from outputs."""

import numpy as np
import pytest

from parties.adversary.adversary import Adversary
from parties.adversary.attack import Known, NotApplicable, Prior, Quantity, Relations
from protocols.language.relations import LabelErrors
from protocols.network.config import Gradient, Labels
from scenarios.run.attacks import attack_run
from scenarios.run.controls import with_controls
from tests.adversary.common import CLOUD, attacked, rebuilt, solved

U_SHAPED = {"labels": Labels.OWNER, "samples": 140, "hidden": 32, "epochs": 3}
FEBO = {"labels": Labels.FEBO, "gradient": Gradient.FE, "samples": 96, "hidden": 16, "epochs": 6, "lr": 0.1}
PRIOR = Prior(x_max=16, shape=(8, 8))


def gradients(labels, visits, seed=0, **said):
    """dA = (P - Y) V of samples with these labels, for outputs P near 1 / k and a last layer V of rows near
    fixed ones.
    """
    rng, classes = np.random.default_rng(seed), int(labels.max()) + 1
    v = rng.normal(size=(classes, 12))
    found = []
    for visit in range(visits):
        p = rng.dirichlet(np.full(classes, 20.0), len(labels))
        da = (p - np.eye(classes)[labels]) @ (v + 0.05 * visit)
        found.append(LabelErrors(np.arange(len(labels)), da, classes, since=visit, **said))
    return Relations(lambda: found, CLOUD)


@pytest.mark.parametrize("options", [{}, {"layers": (16, 12), "hidden": None}, {"owners": 2}], ids=str)
def test_labels_that_stay_with_the_owner_are_found_up_to_a_renaming(runs, options):
    row = attacked(runs("mitig2", **{**U_SHAPED, **options})[0], "label_clusters")
    assert row["metrics"]["classes_right"] >= 0.99 and row["samples"] == 140
    assert row["baseline"]["guess"]["classes_right"] < 0.3 > row["baseline"]["swapped"]["classes_right"]


def test_known_labels_give_the_classes_their_names_and_are_not_scored(runs):
    run, _ = runs("mitig2", **U_SHAPED)
    (row,) = attack_run(run, ["label-clusters"], CLOUD, run.prior(known=60), Adversary)
    assert row["metrics"]["labels_right"] >= 0.99 and row["samples"] == 80
    assert row["notes"]["clusters_with_a_known_label"] == 10


def test_one_known_label_of_each_class_is_enough(runs):
    run, _ = runs("mitig2", **U_SHAPED)
    truth = run.truth()
    one = np.sort(np.unique(truth.labels, return_index=True)[1])
    known = Known(one, truth.images[one], truth.labels[one])
    found = rebuilt(run, "label_clusters", prior=Prior(16, (8, 8), known=known))
    assert found.quantity is Quantity.LABELS and not set(found.index) & set(one)
    assert np.mean(found.values == truth.labels[found.index]) >= 0.99


def test_the_size_of_a_gradient_says_nothing_here():
    labels = np.random.default_rng(1).integers(0, 5, 80)
    plain, scaled = gradients(labels, 2), gradients(labels, 2)
    scale = np.random.default_rng(2).uniform(1e-6, 1e3, (80, 1))
    every = [LabelErrors(e.samples, e.values * scale, e.classes) for e in scaled]
    a, b = (solved("label_clusters", r, PRIOR) for r in (plain, Relations(lambda: every)))
    assert np.array_equal(a.values, b.values) and len(set(zip(a.values, labels, strict=True))) == 5


def test_other_secrets_give_no_labels_of_these_samples(runs):
    run, _ = runs("mitig2", **U_SHAPED)
    (row,) = with_controls(run, [attacked(run, "label_clusters")], run.prior())
    assert set(row["controls"]) == {"swapped", "ideal"}
    assert all(control["gain"]["interval"][0] <= 0 for control in row["controls"].values())


def test_what_does_not_fit_is_said(runs):
    unlinkable, _ = runs("mitig2", labels=Labels.OWNER, defence=("unlinkable",))
    with pytest.raises(NotApplicable, match="shuffles its samples in private"):
        rebuilt(unlinkable, "label_clusters")
    with pytest.raises(NotApplicable, match="holds no gradient"):
        solved("label_clusters", gradients(np.arange(4), 1, outputs=True), PRIOR)
    with pytest.raises(NotApplicable, match="fewer than 9 classes"):
        solved("label_clusters", gradients(np.array([8, 0, 1]), 1), PRIOR)
    with pytest.raises(NotApplicable, match="holds no outputs"):
        solved("label_outputs", gradients(np.arange(4), 1), PRIOR)


def test_under_febo_the_authority_reads_labels_from_the_outputs_it_is_asked_about(runs):
    run, result = runs("plain_fe", **FEBO)
    row = attacked(run, "label_outputs", "key_authority")
    assert row["metrics"]["labels_right"] > row["baseline"]["guess"]["labels_right"] + 0.5
    assert abs(row["metrics"]["labels_right"] - result["accuracy"]["train"]) < 0.1 and row["samples"] == 96


def test_of_several_outputs_the_last_counts():
    first, last = np.eye(3)[[0, 1]], np.eye(3)[[2, 1]]
    every = [LabelErrors(np.array([0, 1]), p, 3, True, since=s) for s, p in enumerate((first, last))]
    found = solved("label_outputs", Relations(lambda: every), PRIOR)
    assert found.values.tolist() == [2, 1] and found.solved_at_step == 1
