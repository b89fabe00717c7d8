"""The public base: how it is computed, trained, cached, and brought along."""

import numpy as np
import pytest
import torch

from parties.data.datasets import DataSpec, load
from protocols.language.errors import ConfigError, DataError
from protocols.network.public_base import FrozenBase, pooled
from scenarios.run.public_base import (
    BaseRecipe,
    base_of,
    load_base,
    read_features,
    shape_of_images,
    train_base,
)

RNG = np.random.default_rng(0)
DATA = load(DataSpec("digits"))
RECIPE = BaseRecipe(widths=(32, 16), epochs=3)


@pytest.fixture(scope="module")
def base():
    return train_base(DATA, RECIPE)


def module():
    return torch.nn.Sequential(
        torch.nn.Linear(16, 12), torch.nn.ReLU(), torch.nn.Linear(12, 5), torch.nn.ReLU()
    )


def test_pooling_averages_squares_and_keeps_channels():
    image = np.arange(2 * 4 * 4 * 3, dtype=np.float64).reshape(2, 4, 4, 3)
    expected = image.reshape(2, 2, 2, 2, 2, 3).mean((2, 4)).reshape(2, -1)
    np.testing.assert_allclose(pooled(image.reshape(2, -1), (4, 4, 3), 2), expected)


def test_features_stay_within_the_certified_bound(base):
    corners = RNG.integers(0, 2, (500, 64)).astype(np.float32)
    features = base.phi(corners)
    assert features.min() >= 0 and 0 < features.max() <= base.bound()


def test_the_base_is_the_same_for_the_same_seed_and_sees_public_classes_only(base):
    from dataclasses import replace

    task = DATA.y_train < 5
    x = np.where(task[:, None], 0, DATA.x_train)  # the task's images do not matter
    again = train_base(replace(DATA, x_train=x), RECIPE)
    assert all(np.array_equal(a, b) for a, b in zip(base.layers, again.layers, strict=True))
    assert not np.array_equal(base.layers[0], train_base(DATA, BaseRecipe((32, 16), 3, seed=1)).layers[0])


def test_a_base_comes_from_the_cache_and_a_broken_cache_is_made_anew(tmp_path):
    first = base_of(DATA, RECIPE, tmp_path)
    (path,) = tmp_path.iterdir()
    again = base_of(DATA, RECIPE, tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(first.layers, again.layers, strict=True))
    path.write_bytes(b"PK broken")
    assert np.array_equal(base_of(DATA, RECIPE, tmp_path).layers[0], first.layers[0])


def test_a_cache_that_cannot_be_written_does_not_matter(tmp_path):
    (tmp_path / "file").touch()
    assert base_of(DATA, BaseRecipe((8,), 1), tmp_path / "file").features == 8


def test_a_users_module_of_dense_layers_gives_its_own_features(tmp_path):
    net = module()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    base, x = load_base(tmp_path / "net.pt", (4, 4)), RNG.random((7, 16), dtype=np.float32)
    np.testing.assert_allclose(base.phi(base.inputs(x)), net(torch.from_numpy(x)).detach().numpy(), atol=1e-6)
    assert load_base(tmp_path / "net.pt", (8, 8)).pool == 2


def test_parameters_are_as_good_as_tensors(tmp_path):
    net = module()
    torch.save(dict(net.named_parameters()), tmp_path / "net.pt")
    assert load_base(tmp_path / "net.pt", (4, 4)).features == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w, b: (w.to_sparse(), b), "0.weight is sparse"),
        (lambda w, b: (w.to(torch.complex64), b), "0.weight is complex"),
        (lambda w, b: (w, b * float("nan")), "0.bias holds numbers that are not finite"),
        (lambda w, b: (w / 0, b), "0.weight holds numbers that are not finite"),
        (lambda w, b: (w, b[:3]), "expected dense layers"),
    ],
)
def test_weights_that_are_no_finite_real_numbers_are_named_in_one_line(tmp_path, change, said):
    weight, bias = change(torch.ones(12, 16), torch.zeros(12))
    torch.save({"0.weight": weight, "0.bias": bias}, tmp_path / "net.pt")
    with pytest.raises(DataError, match=said):
        load_base(tmp_path / "net.pt", (4, 4))


@pytest.mark.parametrize("content", ["module", "list", "conv", "text", "shape"])
def test_a_file_that_is_no_state_dict_of_dense_layers_is_refused(tmp_path, content):
    path = tmp_path / "net.pt"
    things = {
        "module": module(),
        "list": [1, 2],
        "conv": torch.nn.Conv2d(1, 2, 3).state_dict(),
        "shape": torch.nn.Linear(9, 3).state_dict(),
    }
    path.write_text("no") if content == "text" else torch.save(things[content], path)
    with pytest.raises(DataError):
        load_base(path, (4, 4))


def test_a_features_file_is_read_and_scaled(tmp_path):
    images = RNG.integers(0, 256, (5, 4, 4)).astype(np.uint8)
    np.savez(tmp_path / "f.npz", features=RNG.random((5, 3)), images=images, labels=np.arange(5))
    features, pixels, labels = read_features(tmp_path / "f.npz")
    assert features.shape == (5, 3) and labels.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(pixels, images.reshape(5, -1) / 255.0, atol=1e-7)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.zeros(4, int)},
        {"labels": np.array([None] * 5)},
        {"features": np.full((5, 3), np.nan)},
        {"features": np.ones((5, 3)) * 1j},
        {"images": np.full((5, 16), 3.0)},
    ],
)
def test_a_features_file_that_does_not_fit_is_refused(tmp_path, change):
    arrays = {"features": np.ones((5, 3)), "images": np.ones((5, 16)), "labels": np.arange(5)} | change
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(DataError):
        read_features(tmp_path / "f.npz")


def test_layers_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ConfigError):
        FrozenBase((np.zeros((3, 17), np.float32), np.zeros((2, 5), np.float32)), (4, 4))


def test_the_images_of_a_features_file_keep_their_shape(tmp_path):
    for shape, expected in (
        ((3, 4), (3, 4)),
        ((3, 4, 3), (3, 4, 3)),
        ((3, 4, 1), (3, 4)),
        ((9,), (3, 3)),
        ((7,), (1, 7)),
    ):
        np.savez(tmp_path / "f.npz", images=np.zeros((2, *shape)))
        assert shape_of_images(tmp_path / "f.npz") == expected
