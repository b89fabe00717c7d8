"""Bytes planted in a party's private input turn up at no party that the figure does not name."""

import numpy as np
import pytest

from parties.record.transcript import Kind
from scenarios.run.execute import execute
from tests.conftest import small


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """(path of a data set of random images, the images)."""
    rng = np.random.default_rng(1234)
    images = rng.integers(0, 256, (40, 12, 12), dtype=np.uint8)
    path = tmp_path_factory.mktemp("canary") / "canary.npz"
    np.savez(path, images=images, labels=np.arange(40) % 4)
    return path, images.reshape(40, -1)


def needles(images):
    """Each image's bytes in every type in which it could have crossed."""
    for dtype in (np.uint8, np.int16, np.int64, np.float32, np.float64):
        yield from (image.astype(dtype)[:24].tobytes() for image in images)
    for dtype in (np.float32, np.float64):
        yield from ((image[:24] / dtype(255)).astype(dtype).tobytes() for image in images)


def seen(run, party, images):
    payloads = [run.view(party)._open(run.sources[party]).execute("SELECT data FROM payloads").fetchall()]
    haystack = b"".join(bytes(data) for rows in payloads for (data,) in rows)
    return sum(needle in haystack for needle in needles(images))


@pytest.mark.parametrize(
    ("scenario", "at_cloud"), [("plain", True), ("plain_fe", False), ("mitig1", False), ("mitig2", False)]
)
def test_only_parties_of_the_figure_hold_the_planted_images(planted, scenario, at_cloud, tmp_path):
    path, images = planted
    size = (
        {"hidden": 1, "batch": 40, "weight_scale": 4} if scenario == "mitig1" else {}
    )  # a product of pairings takes 15 ms here
    experiment = small(scenario, dataset=str(path), samples=None, out=tmp_path / "run", **size)
    run, _ = execute(experiment)
    assert seen(run, "data_owner:0", images) >= 40
    assert (seen(run, "cloud_trainer", images) >= 40) is at_cloud
    if "key_authority" in run.sources:
        assert seen(run, "key_authority", images) == 0


def test_a_partys_coins_are_in_no_other_transcript(runs):
    run, _ = runs()
    coins = {party: run.view(party)["coins"][0].tobytes() for party in run.sources}
    assert len(set(coins.values())) == len(coins) == 3
    for party, key in coins.items():
        for other in coins:
            rows = run.view(other)._open(run.sources[other]).execute("SELECT data FROM payloads").fetchall()
            assert any(key in bytes(data) for (data,) in rows) is (other == party)


def test_keys_are_in_no_log_and_no_configuration(runs):
    run, _ = runs()
    text = (run.path / "run.log").read_text() + (run.path / "config.json").read_text()
    for party in run.sources:
        (row,) = run.view(party).rows("coins", Kind.COINS)
        assert run.view(party).value(row).tobytes().hex() not in text
