"""Owners by the thousand: who takes part has a view, who does not costs nothing and is asked for nothing."""

import numpy as np
import pytest

from parties.data.datasets import DataSpec, Split, load, split
from parties.data.shares import Owned, owned
from parties.runtime.inline import InlineRuntime
from protocols.language.errors import ConfigError, VisibilityError
from protocols.language.relations import KnownMap, Map, now
from protocols.language.roles import DATA_OWNER
from protocols.language.session import Session
from protocols.network.schedule import newcomers, taking_part
from scenarios.run.execute import execute
from scenarios.run.folder import new_folder
from scenarios.run.hosts import host_specs
from tests.adversary.common import stated
from tests.conftest import small

CROWD = {"samples": 400, "owners": 200, "per_round": 3, "rounds": 4, "epochs": None, "batch": 2}


def test_views_are_of_those_who_took_part_and_labels_cross_when_they_join(runs):
    run, result = runs("mitig2", **CROWD)
    owners = [party for party in run.sources if party.startswith("data_owner")]
    assert owners == [f"data_owner:{i}" for i in range(12)] and len(run.config().counts) == 200
    joined = {(row.sender, row.round) for row in run.view("cloud_trainer").rows("labels")}
    assert joined == {(f"data_owner:{i}", i // 3 or -1) for i in range(12)}
    assert not run.faults() and result["accuracy"]["baseline_test"] == result["accuracy"]["test"]
    with pytest.raises(ConfigError, match="no party 'data_owner:12' took part"):
        run.view("data_owner:12")


def test_the_truth_has_the_samples_of_all_owners(runs):
    run, _ = runs("mitig2", **CROWD)
    experiment = small("mitig2", **CROWD)
    parts = split(experiment.data.y_train, 200, experiment.split, experiment.spec.seed)
    assert np.array_equal(run.truth().images, experiment.data.x_train[np.concatenate(list(parts))])
    assert np.array_equal(run.truth().owners, np.repeat(np.arange(200), 2))


@pytest.mark.parametrize("runtime", ["local"])
def test_processes_write_the_same_transcript(runs, tmp_path, runtime):
    run, _ = runs("mitig2", **CROWD)
    other, _ = execute(small("mitig2", **CROWD, runtime=runtime, out=tmp_path / "run"))
    assert other.digest() == run.digest()


def test_owners_of_a_round_mask_with_keys_of_that_round(runs):
    """The same means as in the clear, up to the rounding of masked words, in rounds of a second lap too."""
    options = {**CROWD, "owners": 5, "samples": 40, "rounds": 4}
    masked = runs("mitig2", **options, defence=("secure_aggregation",))[0]
    clear = runs("mitig2", **options)[0]
    means = [[value for _, value in run.view("key_authority").values("w1_mean")] for run in (masked, clear)]
    assert len(means[0]) == len(means[1]) >= 4
    assert max(np.abs(a - b).max() for a, b in zip(*means, strict=True)) < 1e-6
    opened = stated(masked, "key_authority", "data_owner:0", "data_owner:1").of(KnownMap)
    copies = {relation.map: now(relation.value) for relation in opened if relation.map.name == "copy"}
    true = {(row.sender, row.round): value for row, value in clear.view("key_authority").values("w1_copy")}
    # Rounds of owners 0 1 2, 3 4 0, 1 2 3 and 4 0 1: in the first and the last two of three are in the view.
    assert set(copies) == {Map("copy", 2, 0), Map("copy", 4, 3)}
    for which, copy in copies.items():
        assert np.abs(copy - true[f"data_owner:{which.owner}", which.time]).max() < 1e-6
    keys = [(row.round, value.shape) for row, value in masked.view("key_authority").values("pks")]
    assert {each for each in keys} == {(number, (3, 32)) for number in range(4)}


@pytest.mark.parametrize(("owners", "members", "number", "joining"), [
    (10, 4, 0, (0, 1, 2, 3)), (10, 4, 2, (8, 9)), (10, 4, 3, ()), (3, 3, 0, (0, 1, 2)), (3, 3, 1, ()),
])  # fmt: skip
def test_owners_join_once_in_their_order(owners, members, number, joining):
    config = small(
        "mitig2", samples=40, owners=owners, per_round=members, rounds=5, epochs=None, batch=2
    ).config
    assert newcomers(config, number) == joining
    assert sum(len(newcomers(config, k)) for k in range(5)) == taking_part(config) == owners


def test_a_script_cannot_address_who_takes_no_part(tmp_path):
    experiment = small("mitig2", **CROWD)
    runtime = InlineRuntime(host_specs(experiment, new_folder(tmp_path / "run", "test")))
    session = Session(runtime, experiment.protocol.FIGURE, experiment.counts, experiment.config)
    with session.phase("setup"), pytest.raises(VisibilityError, match="data_owner:12 takes no part"):
        session.at(DATA_OWNER, 12).do(_nothing)
    runtime.abort()


def _nothing(state) -> None:
    """A step."""


@pytest.mark.parametrize("how", [Split.IID, Split.LABEL, Split.EVEN, Split.COLUMNS])
def test_a_host_has_the_shares_of_its_own_owners(how):
    spec = DataSpec("digits", samples=90, seed=3)
    mine = Owned(spec, 6, how, [1, 3, 5])
    for index in (1, 3, 5):
        one, other = mine(index), owned(spec, 6, how, index)
        assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
    if how is not Split.COLUMNS:
        with pytest.raises(KeyError):
            mine(0)


def test_one_sample_each_is_a_permutation():
    labels = load(DataSpec("digits", samples=50)).y_train
    parts = split(labels, 50, Split.IID, 1)
    assert sorted(int(part[0]) for part in parts) == list(range(50)) and parts.counts == (1,) * 50
