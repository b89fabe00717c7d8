"""An attack computes from its view and its prior, and from nothing else."""

from dataclasses import replace

import pytest

from parties.adversary.adversary import Adversary
from parties.adversary.catalogue import ATTACKS
from parties.data import datasets
from protocols.network.config import Init, Labels
from tests.adversary.common import carved
from tests.conftest import MANY, TINY
from tests.scenarios.test_attacks import CLOUD, ENOUGH

# For each attack a run on which it finds something: scenario, options, whose view, how many samples it knows.
# That the cloud of plain FE is malicious in its first steps changes nothing for the others.
FE = ("plain_fe", {**ENOUGH, "labels": Labels.FEBO, "malicious": "unit_keys"}, CLOUD, 0)
GRADIENTS = ("fedsgd", {"bias": True, "hidden": 32, "batch": 8}, ("key_authority",), 0)
RUNS = {
    "bias": GRADIENTS,
    "cocktail": GRADIENTS,
    "exclusive": GRADIENTS,
    "invert": ("fedsgd", {"batch": 12, "first": "conv:3x3x3"}, ("key_authority",), 0),
    "grnn": ("fedsgd", {"samples": 4, "batch": 1}, ("key_authority",), 0),
    "stationary": ("fedsgd", {"samples": 8, "batch": 4}, ("key_authority",), 0),
    "tensor": ("fedsgd", {"samples": 4, "batch": 2, "hidden": 5000}, ("key_authority",), 0),
    "spear": ("fedsgd", {"bias": True, "hidden": 200, "batch": 4}, ("key_authority",), 0),
    "class_sums": ("vertical_fe", {"samples": 16, "batch": 4, "epochs": 1, "target": -1}, CLOUD, 0),
    "conv": ("plain_fe", {"samples": 32, "first": "conv:4x3x3"}, CLOUD, 0),
    "gram": ("mitig2", {"samples": 48, "hidden": 48, "epochs": 6}, CLOUD, 12),
    "gram_public": ("mitig2", {"samples": 140, "hidden": 32, "epochs": 12}, CLOUD, 0),
    "inversion": ("mitig2", {}, CLOUD, 0),
    "known_average": ("mitig2", MANY, ("cloud_trainer", "data_owner:1"), 0),
    "known_init": ("mitig2", {"init": Init.SHARED}, CLOUD, 0),
    "known_samples": ("mitig1", TINY, CLOUD, 8),
    "update": ("mitig2", MANY, ("key_authority", "cloud_trainer"), 0),
    "label_clusters": ("mitig2", {"labels": Labels.OWNER, "epochs": 2}, CLOUD, 0),
    "lattice": ("plain_fe", {"hidden": 32}, CLOUD, 0),
    "lattice_gram": ("mitig2", {"samples": 140, "hidden": 32, "epochs": 12}, CLOUD, 0),
    "moments": ("vertical_fe", {"samples": 16, "batch": 4, "epochs": 2}, CLOUD, 0),
    "lattice_span": (
        "mitig2",
        {"owners": 4, "samples": 32, "batch": 8, "hidden": 32, "epochs": 1},
        ("key_authority",),
        0,
    ),
}


@pytest.fixture
def stripped(tmp_path, monkeypatch):
    """Copies of transcripts with what the corrupted parties saw alone; no data set can be read."""

    def strip(run, corrupted):
        for name in ("load", "split"):
            monkeypatch.setattr(datasets, name, refuse)
        return carved(run, corrupted, tmp_path)

    return strip


def refuse(*args, **kwargs):
    raise AssertionError("an attack asked for a data set")


@pytest.fixture(autouse=True)
def soon_done(monkeypatch):
    """The same bits after few iterations as after many."""
    for name in ("grnn", "stationary"):
        monkeypatch.setattr(f"parties.adversary.attacks.{name}._ITERATIONS", 30)


@pytest.mark.parametrize("name", ATTACKS)
def test_the_same_view_gives_the_same_bits_with_everything_else_gone(runs, stripped, name):
    scenario, options, corrupted, known = RUNS.get(name, FE)
    run, _ = runs(scenario, **options)
    prior = run.prior(known=known)
    here = rebuilt_with(run.view_sources(corrupted), name, prior)
    there = rebuilt_with(stripped(run, corrupted), name, prior)
    assert here.values.tobytes() == there.values.tobytes() and here.index.tobytes() == there.index.tobytes()


def rebuilt_with(sources, name, prior):
    result = Adversary(sources).attack(name, prior, 0)
    assert result.reconstruction is not None, result.why
    return result.reconstruction


def test_a_prior_of_other_samples_is_used_and_not_the_truth(runs):
    scenario, options, corrupted, known = RUNS["gram"]
    run, _ = runs(scenario, **options)
    prior = run.prior(known=known)
    other = replace(prior, known=replace(prior.known, images=prior.known.images[::-1].copy()))
    pair = [rebuilt_with(run.view_sources(corrupted), "gram", p).values for p in (prior, other)]
    assert pair[0].tobytes() != pair[1].tobytes()


def test_knowledge_needs_the_view_alone_too(runs, stripped):
    scenario, options, corrupted, _ = FE
    run, _ = runs(scenario, **options)
    here = Adversary(run.view_sources(corrupted)).learned()
    assert Adversary(stripped(run, corrupted)).learned() == here
