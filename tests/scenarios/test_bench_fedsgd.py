"""The bench of federated learning beside Flower: both sides train the same owners by the same steps."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from protocols.fedsgd import Options
from protocols.network import nn
from scenarios.study import bench_crowd, bench_fedsgd
from scenarios.study.bench import BENCHES
from scenarios.study.bench_tools import Sizes
from tests.conftest import small

FLWR = {
    "flwr": (), "flwr.app": ("ArrayRecord", "Context", "Message", "MetricRecord", "RecordDict"),
    "flwr.clientapp": ("ClientApp",), "flwr.serverapp": ("Grid", "ServerApp"),
    "flwr.serverapp.strategy": ("FedAvg",), "flwr.simulation": ("run_simulation",),
}  # fmt: skip


class App:
    """What stands for an app of Flower: its decorators leave a function as it is."""

    def train(self):
        return lambda function: function

    main = train


@pytest.fixture
def job(monkeypatch):
    """The job as a module, without Flower."""

    def loaded(**options):
        for name, held in FLWR.items():
            module = ModuleType(name)
            module.__dict__.update(dict.fromkeys(held, App))
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(sys, "argv", ["flower_job.py", json.dumps(options)])
        monkeypatch.setenv("FLOWER_JOB", "")
        monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "0")
        spec = importlib.util.spec_from_file_location("flower_job", Path(bench_crowd.__file__).with_name(
            "flower_job.py"))  # fmt: skip
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return loaded


@pytest.mark.parametrize("steps", [1, 5])
def test_flowers_client_takes_the_steps_that_an_owner_takes(job, steps):
    config = Options(
        features=64, classes=10, x_max=16, counts=(2, 2), layers=(32,), batch=2, lr=0.3, per_round=1
    )
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 17, (2, 64)), np.array([3, 8])
    w1 = nn.draw_first(config, rng)
    (output,) = nn.draw_layers(nn.upper_sizes(config), config, rng)
    start = [w.value.numpy().copy() for w in (w1, output.weight, output.bias)]
    for _ in range(steps):
        run = nn.forward_hidden([], nn.first_layer(x, w1.value, 16), config)
        error = nn.forward_output(output, run.a[-1], config) - nn.one_hot(y, 10)
        dz1 = nn.backward_hidden([], run, nn.backward_output(output, run.a[-1], error, config), config)
        nn.descend(w1, nn.first_layer_gradient(dz1, x, 16), config)
    theirs = job(local_steps=steps, lr=0.3, momentum=0.9).trained(start, np.float32(x) / np.float32(16), y)
    for found, own in zip(theirs, (w1, output.weight, output.bias), strict=True):
        assert torch.allclose(torch.from_numpy(found), own.value, atol=1e-6)
    if steps > 1:  # and momentum is among what was compared
        without = job(local_steps=steps, lr=0.3, momentum=0.0).trained(start, np.float32(x) / 16, y)
        assert not np.allclose(without[0], w1.value.numpy(), atol=1e-3)


def test_flowers_clients_hold_what_the_owners_of_a_run_do():
    images, labels, first = bench_fedsgd.rows(600)
    experiment = small("fedsgd", samples=None, owners=600, hidden=32, seed=0, per_round=50)
    assert np.array_equal(np.diff(first), experiment.config.counts) and first[-1] == len(labels) == 1437
    assert experiment.spec == bench_fedsgd._spec()
    assert images.shape == (1437, 64) and images.max() == 16


def test_both_sides_are_printed_and_flower_is_named_where_it_is_missing(monkeypatch):
    took = iter(bench_crowd.Timed(5.0, each, 9.0, 1, 2) for each in (0.3, 0.4, 0.2, 0.1))
    monkeypatch.setattr(bench_fedsgd, "here", lambda *asked: next(took))
    monkeypatch.setattr(bench_crowd.importlib.util, "find_spec", lambda name: None)
    theirs, one, five, compared = BENCHES["fedsgd"](Sizes(Path("."), None, None, None))
    assert theirs.measured == bench_crowd.WITHOUT_FLOWER and "unlike" in compared.measured
    assert (one.value["round"], five.value["round"]) == (0.2, 0.1)
    assert one.what.startswith("1000 owners, 50 a round, 1 local steps, here") and "5 local" in five.what


def test_owners_train_and_are_told(monkeypatch):
    monkeypatch.setattr(bench_fedsgd, "_ROUNDS", 3)
    found = bench_fedsgd.here(100, 1, Sizes(Path("."), None, None, 8), runtime="local")
    assert found.why == "" and 0 < found.round < found.startup
