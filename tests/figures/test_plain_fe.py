"""Plain FE computes the bits of plain training with the same rounding, whatever protects what."""

from dataclasses import replace

import numpy as np
import pytest

from parties.data.datasets import Split
from protocols import plain_fe
from protocols.language.errors import ConfigError, StepError
from protocols.network.config import Gradient, Labels, Loss, Scheme
from protocols.network.schedule import batches, chunk_rows, chunks, steps_per_epoch
from protocols.parts import keys
from scenarios.run.baseline import train_plain
from scenarios.run.execute import execute
from tests.conftest import small

CASES = [
    {},
    {"scheme": Scheme.DDH},
    {"scheme": Scheme.DDH, "group": "bn254", "samples": 20},
    {"scheme": Scheme.RLWE},
    {"scheme": Scheme.RLWE, "gradient": Gradient.FE, "owners": 2, "batch": 7},
    {"scheme": Scheme.RLWE, "defence": ("batch_keys",)},
    {"labels": Labels.FEBO},
    {"gradient": Gradient.FE},
    {"labels": Labels.FEBO, "gradient": Gradient.FE, "scheme": Scheme.DDH, "samples": 20, "batch": 8},
    {"owners": 5, "split": Split.LABEL, "batch": 4},
    {"layers": "8,6", "hidden": None, "loss": Loss.BCE, "epochs": 2},
    {"batch": 1000},
    {"batch": 7, "gradient": Gradient.FE, "labels": Labels.FEBO, "owners": 2},
    {"weight_scale": 4096},
]


def assert_equal(a, b):
    assert np.array_equal(a["w1"], b["w1"])
    for name in ("weights", "biases"):
        assert len(a[name]) == len(b[name]) and all(map(np.array_equal, a[name], b[name]))


@pytest.mark.parametrize("options", CASES, ids=str)
def test_weights_are_bit_identical_to_plain(runs, options):
    run, _ = runs("plain_fe", **options)
    experiment = small("plain_fe", **options)
    assert_equal(run.final_weights(), train_plain(experiment, experiment.config))


def test_rounding_matters_so_the_comparison_can_fail(runs):
    run, _ = runs()
    experiment = small()
    for other in (
        {"weight_scale": 128},
        {"weight_scale": 0},
        {"gradient": Gradient.FE},
        {"labels": Labels.FEBO},
    ):
        weights = train_plain(experiment, replace(experiment.config, **other))
        assert not np.array_equal(run.final_weights()["w1"], weights["w1"]), other


@pytest.mark.parametrize(("batches_a_chunk", "uploads"), [(1, 8), (2, 4), (3, 4)])
def test_uploads_in_several_chunks_change_nothing_but_the_messages(
    runs, monkeypatch, tmp_path, batches_a_chunk, uploads
):
    """Two owners of 24 samples: batches of 7, 7, 7 and 3, so chunks end with a full batch and with a part of
    one.
    """
    monkeypatch.setattr(keys, "chunk_rows", lambda config, nbytes: batches_a_chunk * config.batch)
    options = {"owners": 2, "gradient": Gradient.FE, "labels": Labels.FEBO, "batch": 7}
    run, _ = execute(replace(small(**options), out=tmp_path / "run"))
    assert len(list(run.view("cloud_trainer").rows("ct"))) == uploads
    assert_equal(run.final_weights(), runs("plain_fe", **options)[0].final_weights())


def test_chunks_hold_whole_batches_and_cover_every_sample():
    config = small(owners=3, batch=5).config
    for limit in (1, 4000, 10**9):
        rows = chunk_rows(config, 100, limit)
        assert rows % config.batch == 0 and chunks(config, rows) * rows >= max(config.counts)


def test_batches_cover_every_sample_once_and_owners_take_turns():
    config = small(owners=3, batch=5).config
    seen = [(b.owner, row) for b in batches(config) for row in range(b.start, b.stop)]
    assert sorted(seen) == [(o, row) for o, count in enumerate(config.counts) for row in range(count)]
    assert [b.owner for b in batches(config)][:4] == [0, 1, 2, 0]
    assert [b.number for b in batches(config)] == list(range(steps_per_epoch(config)))


def test_integers_are_needed():
    with pytest.raises(ConfigError, match="--weight-scale"):
        small(weight_scale=0)


@pytest.mark.parametrize("lr", [50.0, 500.0])
def test_divergence_ends_with_the_step_and_the_remedy(tmp_path, lr):
    with pytest.raises(StepError, match=r"in phase step, round \d+: W1 .*--lr"):
        execute(replace(small(lr=lr), out=tmp_path / "run"))


def test_parameters_and_levels_are_stated():
    lines = plain_fe.describe(small(labels=Labels.FEBO, gradient=Gradient.FE).config)
    assert (
        "128 bit" in lines["scheme"] and "128 bit" in lines["scheme of batches"] and "febo" in lines["labels"]
    )


def test_the_estimate_of_a_full_transcript_is_near_the_truth(runs):
    for options in ({}, {"scheme": Scheme.DDH}, {"scheme": Scheme.RLWE}, {"gradient": Gradient.FE}):
        run, result = runs("plain_fe", **options)
        actual = sum(edge["bytes"] for edge in result["traffic"])
        assert 0.4 < plain_fe.payload_nbytes(run.config()) / actual < 1.6, options
