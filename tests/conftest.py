"""Fixtures that tests share: small experiments, finished runs, one Ray session."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer.testing

from scenarios.run import baseline  # noqa: F401  (a run imports it, and modules are compared)
from scenarios.run.catalogue import find_scenario, schema_of_results
from scenarios.run.execute import execute
from scenarios.run.experiment import Experiment, prepare
from scenarios.run.folder import RunFolder
from tests.shared_state import fingerprint

RESULT_SCHEMA = schema_of_results()

# The same commands for all calls of a test session: to make them takes longer than most of what they do.
typer.testing._get_command = lru_cache(typer.testing._get_command)

SMALL: dict[str, Any] = {"samples": 48, "hidden": 8, "batch": 16, "epochs": 1, "seed": 7, "runtime": "inline",
                         "no_audit": True}  # fmt: skip

TINY: dict[str, Any] = {
    "samples": 16,
    "hidden": 4,
    "batch": 8,
}  # for mitig1: 64 products of pairings an epoch
MANY: dict[str, Any] = {"owners": 4, "samples": 48, "batch": 4, "epochs": 2}  # copies of W1 that are averaged


# For reverse_he: a key that protects nothing, and a small base that nobody trained.
HEAD: dict[str, Any] = {"seed": 7, "runtime": "inline", "queries": 40, "key_bits": 512, "toy": True,
                        "no_audit": True}  # fmt: skip


def small(scenario: str = "plain_fe", **options: Any) -> Experiment:
    """A run of a second on 48 digits; `options` replace or add to `SMALL`, or to `HEAD`."""
    given = {**HEAD, "base": random_base()} if scenario == "reverse_he" else SMALL
    if scenario == "vertical_fe":  # a linear model
        given = {"target": 1, **{name: value for name, value in SMALL.items() if name != "hidden"}}
    if scenario == "he_train":  # a small table; no layers
        given = {"dataset": "iris", **{name: value for name, value in SMALL.items() if name != "hidden"}}
    return prepare(find_scenario(scenario), {**given, **options})


@lru_cache
def random_base(pixels: int = 64, width: int = 24) -> Path:
    """A file with one dense layer of random weights, as a user's own base comes."""
    path = Path(tempfile.mkdtemp(prefix="keyhole-")) / "base.pt"
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((width, pixels), generator=generator) / pixels**0.5
    torch.save({"0.weight": weight, "0.bias": torch.zeros(width)}, path)
    return path


class Runs:
    """Runs small experiments, each once in a test session."""

    def __init__(self, root: Path) -> None:
        self._root, self._done = root, {}

    def __call__(self, scenario: str = "plain_fe", **options: Any) -> tuple[RunFolder, dict[str, Any]]:
        key = (scenario, tuple(sorted(options.items(), key=str)))
        if key not in self._done:
            out = self._root / str(len(list(self._root.iterdir())))  # one that failed leaves its folder
            experiment, before = replace(small(scenario, **options), out=out), fingerprint()
            self._done[key] = self._executed(experiment)
            changed = {name for name, digest in fingerprint().items() if before.get(name, digest) != digest}
            assert not changed, f"a run changed what all parties share: {changed}"
        return self._done[key]

    def _executed(self, experiment: Experiment) -> tuple[RunFolder, dict[str, Any]]:
        return execute(experiment)


class RunsWithoutLedger(Runs):
    """For tests that look at views: nobody asks who learned what, most of the time of a small run. To read
    `learned` of such a result is a `KeyError`.
    """

    def _executed(self, experiment: Experiment) -> tuple[RunFolder, dict[str, Any]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("scenarios.run.execute._learned", lambda *_: [])
            run, result = execute(experiment)
        result = {name: value for name, value in result.items() if name != "learned"}
        run.__dict__["result"] = result
        return run, result


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is remembered on this machine of protocols in files is not the user's."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Finished small runs with their ledger: do not write into their folders."""
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def runs_without_ledger(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Finished small runs for tests that look at views and weights: do not write into their folders."""
    return RunsWithoutLedger(tmp_path_factory.mktemp("runs-without-ledger"))


@pytest.fixture(scope="session")
def runs(whole_runs: Runs) -> Runs:
    """Finished small runs; in some folders of tests without their ledger."""
    return whole_runs


@pytest.fixture(scope="session")
def stamps(tmp_path_factory: pytest.TempPathFactory) -> str:
    """16 smooth images of 4x4 pixels: under real function-hiding encryption a product takes a quarter of one
    of digits.
    """
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("stamps") / "stamps.npz"
    images, held_out = (
        np.clip(rng.integers(0, 64, (16, 4, 4)) + 16 * rng.integers(0, 9, (16, 4, 1)), 0, 255).astype(
            np.uint8
        )
        for _ in range(2)
    )
    labels = np.arange(16) % 4
    np.savez(path, images=images, labels=labels, test_images=held_out, test_labels=labels)
    return str(path)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One Ray session on this machine for all tests that need one."""
    from parties.runtime import ray_session

    with ray_session.cluster(cpus=2):
        yield
