"""An encrypted head on a base that is known by its features alone, a convolutional network say."""

import numpy as np
import pytest
import torch

from parties.adversary.adversary import Adversary
from parties.record.view import Kind
from protocols.language.errors import ConfigError, DataError, MalformedError
from protocols.network.public_base import FEATURES, IMAGES, FeatureTable, fingerprint
from scenarios.run.attacks import attack_run
from scenarios.run.catalogue import find_scenario
from scenarios.run.certify import certify
from scenarios.run.execute import execute
from scenarios.run.experiment import prepare

RNG = np.random.default_rng(0)
OPTIONS = {"runtime": "inline", "seed": 0, "key_bits": 2048, "no_audit": True, "queries": 12}


def arrays(count=90, shape=(8, 10)):
    """Images of three kinds of bars and their features by a small convolutional network."""
    labels = np.arange(count) % 3
    images = RNG.integers(0, 60, (count, *shape)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 2 + 3 * label] = RNG.integers(180, 256, shape[0])
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.AvgPool2d(2), torch.nn.Flatten()
    )
    with torch.no_grad():
        features = net(torch.from_numpy(images[:, None].astype(np.float32) / 255)).numpy()
    return {"images": images, "labels": labels, "features": features}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "f.npz"
    np.savez(path, **arrays())
    return path


@pytest.fixture(scope="module")
def stored(file, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    asked = {**OPTIONS, "base": file, "out": out, "release": "logits", "shots": 4}
    return execute(prepare(find_scenario("reverse_he"), asked))


def test_a_head_on_convolutional_features_is_trained_encrypted_and_asked(stored):
    run, result = stored
    assert result["config"]["shape"] == [8, 10] and result["config"]["classes"] == 3
    assert result["accuracy"]["test"] > 0.8 and result["head"]["argmax_agreement"] == 1.0
    assert result["accuracy"]["test"] == result["accuracy"]["baseline_test"]
    assert not certify(run).faults


def test_features_of_private_images_are_the_owners_alone(stored, file):
    """The table that everybody is given holds what anybody may ask about, and nothing of the training."""
    run, _ = stored
    with np.load(file) as every:
        known = {bytes(image): row for image, row in zip(every["images"], every["features"], strict=True)}
    private = {bytes(image.astype(np.uint8)) for image in run.truth().images}
    for party in ("server", "key_authority", "querier", "consumer"):
        view = run.view(party)
        inputs = {row.label: view.value(row) for row in view.rows(None, Kind.INPUT)}
        assert "features" not in inputs
        table = {bytes(np.rint(image * 255).astype(np.uint8)) for image in inputs[IMAGES]}
        assert len(table) == 18 and not table & private
        found = (known[key] for key in (bytes(np.rint(i * 255).astype(np.uint8)) for i in inputs[IMAGES]))
        assert all(np.array_equal(a, b) for a, b in zip(found, inputs[FEATURES], strict=True))
    mine = run.view("data_owner").values("features", Kind.INPUT)
    assert next(iter(mine))[1].shape[0] == len(private) == 12


def test_attacks_on_such_a_head_use_the_features_that_are_public(stored):
    run, _ = stored
    rows = attack_run(run, ("logits", "whitebox", "informed"), ("server",), run.prior(known=11), Adversary)
    assert [row["applicable"] for row in rows] == [False, False, False]  # 12 queries for 80 features a class
    assert not [row for row in rows if "none of them" in row["why"] and row["attack"] != "informed"]


def test_a_table_looks_up_what_it_holds_and_refuses_the_rest():
    images = RNG.integers(0, 17, (5, 6)).astype(np.float32) / 16
    table = FeatureTable(images, RNG.random((5, 3)).astype(np.float32), (2, 3))
    assert np.array_equal(table.phi(table.inputs(images.astype(np.float64)[[3, 1]])), table.known[[3, 1]])
    with pytest.raises(MalformedError, match="none of them"):
        table.phi(table.inputs(images[:1] * 0.5 + 0.5))
    own = table.and_own(images[:2] * 0.25, np.full((2, 3), 9, np.float32))
    assert (own.phi(images[:1] * 0.25) == 9).all() and table.bound() < 1.1
    assert fingerprint(own) != fingerprint(table)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"features": None}, "expected an array 'features'"),
        ({"features": lambda f: f[:-1]}, "a row of features for each of 90 images"),
        ({"features": lambda f: f - 1}, "features of at least 0"),
        ({"features": lambda f: np.where(f == f.max(), np.nan, f)}, "finite features"),
        ({"features": lambda f: f[:, 0]}, "features of shape"),
        ({"images": lambda i: np.repeat(i[:1], len(i), axis=0)}, "are the same, and their features are not"),
    ],
)
def test_an_unusable_features_file_is_one_line(tmp_path, change, expected):
    given = arrays()
    for name, do in change.items():
        given[name] = None if do is None else do(given[name])
    np.savez(tmp_path / "f.npz", **{name: array for name, array in given.items() if array is not None})
    with pytest.raises(DataError, match=expected) as error:
        prepare(find_scenario("reverse_he"), {**OPTIONS, "base": tmp_path / "f.npz"})
    assert "f.npz" in str(error.value) and "\n" not in str(error.value)


def test_the_features_are_of_the_images_in_the_file(file):
    with pytest.raises(ConfigError, match="leave out --dataset"):
        prepare(find_scenario("reverse_he"), {**OPTIONS, "base": file, "dataset": "digits"})
