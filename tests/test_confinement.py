"""An attack computes from its view and its prior, and from nothing else."""

import shutil

import numpy as np
import pytest

from parties import datasets
from parties.adversary.adversary import Adversary
from parties.adversary.attack import Prior
from parties.adversary.catalogue import ATTACKS
from protocols.config import Deviation, Labels
from tests.test_attacks import CLOUD, ENOUGH

# A run on which every attack finds something; that the cloud is malicious in its first steps changes nothing for the others.
OPTIONS = {**ENOUGH, "labels": Labels.FEBO, "malicious": Deviation.UNIT_KEYS}


def refuse(*args, **kwargs):
    raise AssertionError("an attack asked for a data set")


@pytest.fixture
def stripped(runs, tmp_path, monkeypatch):
    """A copy of a run in which all but the cloud's transcript is noise or gone, and no data set can be read."""
    run, _ = runs("plain_fe", **OPTIONS)
    shutil.copytree(run.path, tmp_path / "run")
    for path in (tmp_path / "run" / "transcripts").glob("data_owner*"):
        path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))
    for path in (tmp_path / "run" / "transcripts").glob("key_authority*"):
        path.unlink()
    for name in ("load", "split"):
        monkeypatch.setattr(datasets, name, refuse)
    return tmp_path / "run" / "transcripts" / "cloud_trainer.sqlite"


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "conv"])  # which is in test_conv
def test_the_same_view_gives_the_same_bits_with_everything_else_gone(runs, stripped, name):
    run, _ = runs("plain_fe", **OPTIONS)
    prior = Prior(run.config().x_max, (8, 8))
    here = rebuilt_with(run.view_sources(CLOUD), name, prior)
    there = rebuilt_with([(str(stripped), "cloud_trainer")], name, prior)
    assert here.values.tobytes() == there.values.tobytes() and here.index.tobytes() == there.index.tobytes()


def rebuilt_with(sources, name, prior):
    result = Adversary(sources).attack(name, prior, 0).reconstruction
    assert result is not None
    return result


def test_knowledge_needs_the_view_alone_too(runs, stripped):
    run, _ = runs("plain_fe", **OPTIONS)
    here = Adversary(run.view_sources(CLOUD)).learned()
    assert Adversary([(str(stripped), "cloud_trainer")]).learned() == here
