"""Bytes planted in a party's private input turn up at no party that the figure does not name."""

import numpy as np
import pytest

from parties.record.view import Kind
from protocols.language.message import encode
from protocols.language.roles import DATA_OWNER, QUERIER
from scenarios.run import execute as executing
from scenarios.run.catalogue import PROTOCOLS, find_protocol
from scenarios.run.execute import execute
from tests.conftest import random_base, small


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """(path of a data set of random images, the images)."""
    rng = np.random.default_rng(1234)
    images = rng.integers(0, 256, (40, 12, 12), dtype=np.uint8)
    path = tmp_path_factory.mktemp("canary") / "canary.npz"
    asked = {
        "test_images": rng.integers(0, 256, (8, 12, 12), dtype=np.uint8),
        "test_labels": np.arange(8) % 4,
    }
    np.savez(path, images=images, labels=np.arange(40) % 4, **asked)
    return path, images.reshape(40, -1)


def needles(images):
    """Each image's bytes in every type in which it could have crossed."""
    for dtype in (np.uint8, np.int16, np.int64, np.float32, np.float64):
        yield from (image.astype(dtype)[:24].tobytes() for image in images)
    for dtype in (np.float32, np.float64):
        yield from ((image[:24] / dtype(255)).astype(dtype).tobytes() for image in images)


def payloads(run, party):
    """Everything that a party's transcript holds, as bytes."""
    view = run.view(party)
    return b"".join(bytes(encode(view.value(row)).data) for row in view.rows(None))


def seen(run, party, images):
    haystack = payloads(run, party)
    return sum(needle in haystack for needle in needles(images))


def receives_samples(name, party, config):
    """Whether the figure of a run says that a party is sent the samples of owners in the clear."""
    role = party.partition(":")[0]
    return any(
        a.label == "x" and (a.sender, a.receiver.value) == (DATA_OWNER, role) and a.applies(config)
        for a in find_protocol(name).FIGURE
    )


@pytest.mark.parametrize("name", PROTOCOLS)
def test_only_parties_of_the_figure_hold_the_planted_images(planted, name, tmp_path, monkeypatch):
    path, images = planted
    monkeypatch.setattr(executing, "_learned", lambda *_: [])  # it writes nothing into transcripts
    size = (
        {"hidden": 1, "batch": 40, "weight_scale": 4} if name == "mitig1" else {}
    )  # a product takes 15 ms here
    if name == "vertical_fe":  # gradients of large pixels are far to search for
        size = {"batch": 4, "weight_scale": 16}
    given = {"base": random_base(144), "queries": 4} if name == "reverse_he" else {"samples": None, **size}
    run, _ = execute(small(name, dataset=str(path), out=tmp_path / "run", **given))
    mine = run.truth().images if name == "reverse_he" else images
    assert seen(run, "data_owner:0", mine) >= len(mine)
    for party in set(run.sources) - {"data_owner:0", QUERIER.value}:
        assert (seen(run, party, mine) >= len(mine)) is receives_samples(name, party, run.config()), party
        assert receives_samples(name, party, run.config()) or seen(run, party, mine) == 0


def test_a_partys_coins_are_in_no_other_transcript(runs):
    run, _ = runs()
    coins = {party: run.view(party)["coins"][0].tobytes() for party in run.sources}
    assert len(set(coins.values())) == len(coins) == 3
    for party, key in coins.items():
        for other in coins:
            assert (key in payloads(run, other)) is (other == party)


def test_keys_are_in_no_log_and_no_configuration(runs):
    run, _ = runs()
    text = (run.path / "run.log").read_text() + (run.path / "config.json").read_text()
    for party in run.sources:
        (row,) = run.view(party).rows("coins", Kind.COINS)
        assert run.view(party).value(row).tobytes().hex() not in text
