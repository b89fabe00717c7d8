"""The training that a run is put beside: the same whatever protects it, and carried out once."""

import pytest

from scenarios.run import baseline
from tests.conftest import small


@pytest.fixture
def trained(monkeypatch):
    """The names of the protocols that were trained."""
    names, train = [], baseline._train
    monkeypatch.setattr(baseline, "_train", lambda name, *rest: names.append(name) or train(name, *rest))
    baseline._trained.cache_clear()
    return names


def test_protocols_and_defences_share_one_unprotected_training(trained):
    asked = (small(), small(labels="febo"), small(gradient="fe"), small("plain"))
    found = [baseline.train_unprotected(each) for each in asked]
    assert all(each is found[0] for each in found) and trained == ["plain"]


@pytest.mark.parametrize(
    "other", [{"seed": 8}, {"seed": None}, {"samples": 32}, {"lr": 0.1}, {"epochs": 2}], ids=str
)
def test_another_training_is_another(trained, other):
    found = [baseline.train_unprotected(small(**options)) for options in ({}, other)]
    assert found[0] is not found[1] and trained == ["plain", "plain"]


def test_without_a_seed_every_run_has_coins_of_its_own(trained):
    experiment = small(seed=None)
    found = [baseline.train_unprotected(each) for each in (experiment, experiment, small(seed=None))]
    assert found[0] is found[1] is not found[2] and len(trained) == 2
