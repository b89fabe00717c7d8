"""Data sets: what is read, what is refused, and how samples are shared out."""

import gzip
import io
import itertools
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_iris

from parties.data import readers
from parties.data.datasets import DataSpec, Split, described, fingerprint, load, split
from parties.registry import opened
from protocols.language.errors import ConfigError, DataError
from protocols.language.message import decode, encode
from scenarios.run.public_base import load_base

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"
IMAGES = np.arange(12 * 3 * 4, dtype=np.uint8).reshape(12, 3, 4)
LABELS = np.arange(12) % 3


def write_idx(path, array):
    head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    data = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def mnist(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", IMAGES)
    write_idx(tmp_path / "train-labels-idx1-ubyte", LABELS)
    write_idx(tmp_path / "t10k-images-idx3-ubyte", IMAGES[:2])
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", LABELS[:2])
    return tmp_path


def npz(tmp_path, **arrays):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return DataSpec(str(path))


def test_digits_are_split_80_20_with_every_class_in_proportion():
    data = load(DataSpec("digits"))
    assert (data.x_train.shape, data.x_test.shape) == ((1437, 64), (360, 64))
    assert (data.shape, data.classes, data.x_max, int(data.x_train.max())) == ((8, 8), 10, 16, 16)
    shares = np.bincount(data.y_test) / np.bincount(np.concatenate([data.y_train, data.y_test]))
    assert np.abs(shares - 0.2).max() < 0.01


def test_digits_are_those_of_scikit_learn():
    theirs, data = load_digits(), load(DataSpec("digits"))
    images = np.concatenate([data.x_train, data.x_test]).reshape(-1, 64)
    ours = np.column_stack([images, np.concatenate([data.y_train, data.y_test])])
    assert sorted(ours.tolist()) == sorted(np.column_stack([theirs.data, theirs.target]).tolist())


@pytest.mark.parametrize(("name", "theirs"), [("iris", load_iris), ("breast_cancer", load_breast_cancer)])
def test_tables_of_scikit_learn_are_theirs_by_a_public_map(name, theirs):
    spec = described(DataSpec(name, seed=3))
    data, x, y = load(spec), *theirs(return_X_y=True)
    low, high = np.array(spec.low), np.array(spec.high)
    assert np.array_equal(low, x.min(axis=0)) and np.array_equal(high, x.max(axis=0)) and spec.levels == 255
    ours = np.column_stack(
        [np.concatenate([data.x_train, data.x_test]), np.concatenate([data.y_train, data.y_test])]
    )
    whole = np.rint((x - low) / (high - low) * 255).astype(int)
    assert sorted(ours.tolist()) == sorted(np.column_stack([whole, y]).tolist())
    assert data.class_names == tuple(theirs().target_names.tolist())


def test_digits_keep_every_sample_exactly_once():
    from sklearn.datasets import load_digits

    data = load(DataSpec("digits", seed=5))
    together = np.concatenate([data.x_train, data.x_test])
    expected = load_digits().data.astype(np.uint8)
    assert sorted(map(bytes, together)) == sorted(map(bytes, expected))


def test_the_seed_decides_the_split():
    first, again, other = (
        load(DataSpec("digits")),
        load.__wrapped__(DataSpec("digits")),
        load(DataSpec("digits", seed=1)),
    )
    assert np.array_equal(first.x_train, again.x_train)
    assert not np.array_equal(first.x_train, other.x_train)


def test_loaded_arrays_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        load(DataSpec("digits")).x_train[0, 0] = 1


def test_idx_files_are_read_gzipped_or_not(mnist):
    data = load(DataSpec("mnist", str(mnist)))
    assert np.array_equal(data.x_train, IMAGES.reshape(12, 12))
    assert np.array_equal(data.y_train, LABELS) and np.array_equal(data.y_test, LABELS[:2])
    assert (data.shape, data.classes, data.x_max) == ((3, 4), 3, 255)


def test_each_pixel_of_a_halved_image_is_the_mean_of_four(mnist):
    images = np.array([[[0, 1, 255, 255], [2, 3, 254, 255]], [[0, 0, 9, 9], [0, 1, 9, 9]]], np.uint8)
    write_idx(mnist / "train-images-idx3-ubyte.gz", images)
    write_idx(mnist / "train-labels-idx1-ubyte", LABELS[:2])
    write_idx(mnist / "t10k-images-idx3-ubyte", images[:1])
    write_idx(mnist / "t10k-labels-idx1-ubyte.gz", LABELS[:1])
    data = load(DataSpec("mnist14", str(mnist)))
    assert data.shape == (1, 2) and data.x_max == 255
    assert data.x_train.tolist() == [[2, 255], [0, 9]] and data.x_test.tolist() == [[2, 255]]


def test_images_of_an_odd_size_are_not_halved(mnist):
    with pytest.raises(DataError, match="3x4 cannot be halved"):
        load(DataSpec("mnist14", str(mnist)))


@pytest.mark.skipif(not MNIST.is_dir(), reason="the MNIST files are not here")
def test_the_real_mnist_has_its_published_sizes():
    data = load(DataSpec("mnist", str(MNIST), samples=500))
    assert (data.x_train.shape, data.x_test.shape, data.shape) == ((500, 784), (10000, 784), (28, 28))
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize(
    "break_it, expected",
    [
        (lambda path: path.write_bytes(b""), "expected an idx file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "expected 12 values"),
        (lambda path: path.write_bytes(b"\x00\x00\x08\x03" + path.read_bytes()[4:]), "1 dimension"),
        (lambda path: path.unlink(), "expected the MNIST file"),
        (lambda path: write_idx(path, LABELS[:-1]), "one label for each of 12 images"),
        (lambda path: write_idx(path, LABELS + 1), "labels 0..k-1"),
    ],
)
def test_a_broken_idx_file_is_one_line_that_names_the_folder(mnist, break_it, expected):
    break_it(mnist / "train-labels-idx1-ubyte")
    with pytest.raises(DataError, match=expected) as error:
        load(DataSpec("mnist", str(mnist)))
    assert str(mnist) in str(error.value) and "\n" not in str(error.value)


def test_a_corrupt_gzip_file_is_a_data_error(mnist):
    (mnist / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8bnot gzip at all")
    with pytest.raises(DataError, match="train-images-idx3-ubyte.gz: expected a readable idx file"):
        load(DataSpec("mnist", str(mnist)))


def test_mnist_without_folder_and_network_asks_for_data_dir(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", offline)
    with pytest.raises(DataError, match="--data-dir"):
        load(DataSpec("mnist"))


def test_a_missing_folder_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        load(DataSpec("cifar10", str(tmp_path / "nowhere")))


def cifar_batch(path, labels, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    path.write_bytes(b"".join(bytes([k]) + image.tobytes() for k, image in zip(labels, pixels, strict=True)))
    return pixels.transpose(0, 2, 3, 1).reshape(len(labels), -1)


def test_binary_cifar_batches_are_read_channels_last(tmp_path):
    first = cifar_batch(tmp_path / "data_batch_1.bin", range(10), 1)
    second = cifar_batch(tmp_path / "data_batch_2.bin", range(10), 2)
    test = cifar_batch(tmp_path / "test_batch.bin", [3, 1], 3)
    data = load(DataSpec("cifar10", str(tmp_path)))
    assert np.array_equal(data.x_train, np.concatenate([first, second])) and np.array_equal(data.x_test, test)
    assert (data.shape, data.classes, data.y_test.tolist()) == ((32, 32, 3), 10, [3, 1])


def test_cifar_without_test_batch_holds_a_fifth_out(tmp_path):
    cifar_batch(tmp_path / "data_batch_1.bin", [*range(10)] * 5, 1)
    data = load(DataSpec("cifar10", str(tmp_path)))
    assert (len(data.x_train), len(data.x_test)) == (40, 10)
    assert sorted(data.y_test) == list(range(10))


def test_a_cifar_folder_with_one_npz_is_read(tmp_path):
    np.savez(tmp_path / "some.npz", images=IMAGES, labels=LABELS)
    assert len(load(DataSpec("cifar10", str(tmp_path))).x_train) == 9


@pytest.mark.parametrize(
    "content, expected", [(b"x" * 100, "multiple of 3073"), (b"\x0a" + bytes(3072), "labels in 0..9")]
)
def test_a_broken_cifar_batch_is_a_data_error(tmp_path, content, expected):
    (tmp_path / "data_batch_1.bin").write_bytes(content)
    with pytest.raises(DataError, match=expected):
        load(DataSpec("cifar10", str(tmp_path)))


def test_an_npz_without_test_set_holds_a_fifth_out_unless_it_is_taken_whole(tmp_path):
    spec = npz(tmp_path, images=IMAGES, labels=LABELS)
    data, whole = load(spec), load(replace(spec, whole=True))
    assert (data.x_train.shape, data.x_test.shape) == ((9, 12), (3, 12))
    assert sorted(map(bytes, [*data.x_train, *data.x_test])) == sorted(map(bytes, IMAGES.reshape(12, 12)))
    assert sorted(data.y_test) == [0, 1, 2]
    assert np.array_equal(whole.x_train, IMAGES.reshape(12, 12)) and whole.x_test is None


@pytest.mark.parametrize(
    "names", [("images", "labels", "test_images", "test_labels"), ("X", "y", "X_test", "y_test")]
)
def test_an_npz_may_use_either_set_of_names(tmp_path, names):
    values = (IMAGES, LABELS, IMAGES[:2], LABELS[:2])
    data = load(npz(tmp_path, **dict(zip(names, values, strict=True))))
    assert np.array_equal(data.x_test, IMAGES[:2].reshape(2, 12)) and np.array_equal(data.y_test, LABELS[:2])


@pytest.mark.parametrize(
    "images", [IMAGES.astype(np.int64), (IMAGES / 255).astype(np.float32), IMAGES[..., None]]
)
def test_integers_of_other_types_and_floats_give_the_same_pixels(tmp_path, images):
    data = load(replace(npz(tmp_path, images=images, labels=LABELS.astype(np.int8)), whole=True))
    assert data.x_train.dtype == np.uint8 and data.y_train.dtype == np.int64
    assert np.array_equal(data.x_train, IMAGES.reshape(12, 12)) and data.shape == (3, 4)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64])
def test_truth_values_and_whole_numbers_of_0_and_1_are_pixels_of_one_step(tmp_path, kind):
    spec = npz(tmp_path, images=(IMAGES % 2).astype(kind), labels=LABELS)
    data = load(replace(spec, whole=True))
    assert np.array_equal(data.x_train, IMAGES.reshape(12, 12) % 2) and data.x_max == 1


def test_a_test_set_decides_with_the_training_set_how_many_steps_a_pixel_has(tmp_path):
    held_out = {"test_images": IMAGES[:3], "test_labels": LABELS[:3]}
    data = load(npz(tmp_path, images=IMAGES % 2, labels=LABELS, **held_out))
    assert data.x_max == 255 and int(data.x_train.max()) == 1


def test_a_fifo_is_refused_and_not_waited_for(tmp_path):
    for name in ("data.npz", "base.pt", "own.py", "train-images-idx3-ubyte", "data_batch_1.bin"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="not a file; expected an .npz archive"):
        load(DataSpec("data.npz", str(tmp_path)))
    with pytest.raises(DataError, match="expected the MNIST file"):
        load(DataSpec("mnist", str(tmp_path)))
    with pytest.raises(DataError, match="not a file"):  # the only archive
        load(DataSpec("cifar10", str(tmp_path)))
    with pytest.raises(DataError, match="no such folder"):
        load(DataSpec("mnist", str(tmp_path / "data.npz")))
    with pytest.raises(DataError, match="own.py: not a file"):
        opened(str(tmp_path / "own.py"))
    with pytest.raises(DataError, match="base.pt: not a file"):
        load_base(tmp_path / "base.pt", (3, 4))


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"images": IMAGES.astype(np.int64) + 200}, "integers in 0..255"),
        ({"images": IMAGES.astype(np.int64) - 1}, "integers in 0..255"),
        ({"images": IMAGES / 100}, "floats in"),
        ({"images": np.where(IMAGES == 5, np.nan, IMAGES / 255)}, "floats in"),
        ({"images": IMAGES.astype(str)}, "numeric images"),
        ({"images": IMAGES.reshape(12, 12)}, "shape"),
        ({"images": IMAGES.reshape(12, 3, 2, 2)}, "1 or 3"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "none of them 0"),
        ({"labels": LABELS[:-1]}, "one label for each of 12"),
        ({"labels": LABELS + 1}, "labels 0..k-1"),
        ({"labels": LABELS * 2}, "every class"),
        ({"labels": LABELS - 1}, "labels 0..k-1"),
        ({"labels": LABELS.astype(float)}, "integer labels"),
        ({"labels": LABELS.astype(object)}, "plain arrays"),
        ({"test_images": IMAGES}, "both test images and test labels"),
        ({"test_images": IMAGES, "test_labels": LABELS + 1}, "labels in 0..2"),
        ({"test_images": IMAGES.reshape(12, 4, 3), "test_labels": LABELS}, "test images"),
        ({"X": IMAGES}, "only one of 'images' and 'X'"),
    ],
)
def test_an_unusable_npz_is_one_line_that_names_the_file(tmp_path, change, expected):
    with pytest.raises(DataError, match=expected) as error:
        load(npz(tmp_path, **{"images": IMAGES, "labels": LABELS, **change}))
    assert str(tmp_path / "data.npz") in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("present, missing", [("images", "labels"), ("labels", "images")])
def test_a_missing_array_is_named(tmp_path, present, missing):
    with pytest.raises(DataError, match=f"expected an array '{missing}'"):
        load(npz(tmp_path, **{present: IMAGES if present == "images" else LABELS}))


def test_a_file_that_is_missing_or_no_archive_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load(DataSpec(str(tmp_path / "none.npz")))
    for content in (b"", b"hello", b"PK\x03\x04 cut short", np.lib.format.magic(1, 0)):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError, match="readable .npz"):
            load.__wrapped__(DataSpec(str(tmp_path / "bad.npz")))


def test_a_truncated_archive_is_a_data_error(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    whole = (tmp_path / "a.npz").read_bytes()
    middle = len(whole) // 3
    (tmp_path / "a.npz").write_bytes(whole[:60] + b"\xff" * 40 + whole[100:middle] + whole[middle:])
    with pytest.raises(DataError, match="a.npz: expected a readable"):
        load(DataSpec(str(tmp_path / "a.npz")))


def header(shape, dtype):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


BOMBS = {
    "a header of 8 TiB": header((2**40,), "<i8"),
    "a side below 0": header((-1, 3, 4), "|u1"),
    "sides that overflow": header((2**63, 2**63), "|u1"),
    "objects": header((1,), "|O") + pickle.dumps([1]),
    "fields": header((1,), [("a", "<i4"), ("b", "|O")]),
    "a header that is no dictionary": np.lib.format.magic(1, 0) + b"\x09\x00" + b"((((((((\n",
    "a header of the future": np.lib.format.magic(9, 0) + bytes(10),
    "a deep header": np.lib.format.magic(1, 0) + b"\x10\x27" + b"(" * 10_000,
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_a_member_of_an_archive_that_is_no_plain_array_is_a_data_error(tmp_path, content):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", content)
    with pytest.raises(DataError, match="plain arrays"):
        load(DataSpec(str(tmp_path / "a.npz")))


def test_files_that_unpack_to_too_much_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "LARGEST", 1 << 20)
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((3000, 28, 28)), labels=LABELS)
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(bytes((0, 0, 8, 3)) + np.array((3000, 28, 28), ">u4").tobytes() + bytes(3000 * 28 * 28))
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3073 * 400))
    for spec in (
        DataSpec(str(tmp_path / "a.npz")),
        DataSpec("mnist", str(tmp_path)),
        DataSpec("cifar10", str(tmp_path)),
    ):
        with pytest.raises(DataError, match="at most 1 MiB"):
            load(spec)


def test_a_pipe_in_the_place_of_an_archive_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(DataError, match="not a file"):
        load(DataSpec(str(tmp_path / "a.npz")))


def test_gray_is_the_rounded_luma(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 3, 4, 3), dtype=np.uint8)
    spec = npz(tmp_path, images=images, labels=LABELS)
    data = load(DataSpec(spec.name, gray=True, whole=True))
    expected = np.floor(images.astype(float) @ [0.299, 0.587, 0.114] + 0.5 + 1e-9)
    assert data.shape == (3, 4) and np.array_equal(data.x_train, expected.reshape(12, 12))


def test_gray_of_gray_images_is_a_usage_error():
    with pytest.raises(ConfigError, match="--gray"):
        load(DataSpec("digits", gray=True))


def test_samples_are_drawn_by_class_and_are_images_of_the_set():
    data, whole = load(DataSpec("digits", samples=100)), load(DataSpec("digits"))
    pairs = {(bytes(x), int(y)) for x, y in zip(whole.x_train, whole.y_train, strict=True)}
    assert {(bytes(x), int(y)) for x, y in zip(data.x_train, data.y_train, strict=True)} <= pairs
    assert len(data.x_train) == 100 and set(np.bincount(data.y_train)) <= {9, 10, 11}
    assert len(data.x_test) == 360 and data.classes == 10


def test_more_samples_than_there_are_means_all():
    assert np.array_equal(load(DataSpec("digits", samples=10**6)).x_train, load(DataSpec("digits")).x_train)


@pytest.mark.parametrize(
    "wrong",
    [{"name": "imagenet"}, {"name": 3}, {"samples": 0}, {"samples": True}, {"seed": -1}, {"data_dir": 5}],
)
def test_a_spec_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigError):
        DataSpec(**{"name": "digits", **wrong})


def test_a_spec_crosses_the_wire():
    spec = DataSpec("mnist", "/data", samples=10, seed=3)
    assert decode(encode(spec)) == spec


@pytest.mark.parametrize(
    ("how", "owners"),
    [(Split.EVEN, 1), (Split.EVEN, 4), *itertools.product((Split.IID, Split.LABEL), (1, 3, 7, 12))],
)
def test_a_split_gives_every_sample_to_exactly_one_owner(how, owners):
    parts = split(LABELS, owners, how, seed=1)
    assert len(parts) == owners and min(map(len, parts)) >= 1
    assert sorted(np.concatenate(parts)) == list(range(12))


def test_a_split_by_label_gives_owners_few_classes_and_iid_all():
    labels = np.arange(300) % 3
    assert [set(labels[p]) for p in split(labels, 3, Split.LABEL, 0)] == [{0}, {1}, {2}]
    assert [set(labels[p]) for p in split(labels, 3, Split.IID, 0)] == [{0, 1, 2}] * 3


def test_the_seed_decides_who_gets_what():
    first, again, other = (split(LABELS, 2, Split.IID, seed) for seed in (0, 0, 1))
    assert np.array_equal(first[0], again[0]) and not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("owners", "how", "most"), [(0, Split.IID, 12), (13, Split.IID, 12), (5, Split.EVEN, 4)]
)
def test_a_number_of_owners_that_does_not_fit_is_refused(owners, how, most):
    with pytest.raises(ConfigError, match=f"1 to {most} owners"):
        split(LABELS, owners, how, 0)


def test_a_fingerprint_depends_on_values_and_shape_only():
    print_ = fingerprint(IMAGES, LABELS)
    assert (
        print_ == fingerprint(IMAGES.astype(np.int32), LABELS.astype(np.int8))
        and len(bytes.fromhex(print_)) == 32
    )
    changed = IMAGES.copy()
    changed[3, 1, 1] ^= 1
    others = (
        fingerprint(changed, LABELS),
        fingerprint(IMAGES, LABELS[::-1]),
        fingerprint(IMAGES.reshape(12, 12), LABELS),
    )
    assert len({print_, *others}) == 4
