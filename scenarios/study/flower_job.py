"""The jobs of `bench_crowd.py` and `bench_fedsgd.py` as an app of Flower, carried out by its simulation.

A script for the Python that has `flwr[simulation]`, which pins a Ray of its own; nothing of this project is
imported, and no torch. Each client holds some rows of a table, takes `local_steps` steps of gradient descent
on all of them, with momentum, on a network n - h - c in numpy, and sends the weights back; `FedAvg` draws the
clients of a round and averages, all alike.

    python flower_job.py '{"owners": 1000, "per_round": 100, "rounds": 5, "hidden": 32, "folder": "...",
        "features": 64, "unit": 255, "local_steps": 1, "lr": 0.1, "momentum": 0.0}'

The folder holds x.npy (N, n), y.npy (N,) and first.npy (M + 1,), the first row of each client and N. Prints
one line of JSON: the time at which each round had ended.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

JOB = json.loads(sys.argv[1]) if len(sys.argv) > 1 else json.loads(os.environ["FLOWER_JOB"])
os.environ["FLOWER_JOB"] = json.dumps(JOB)  # for the processes in which clients run
CLASSES = 10

client, server = ClientApp(), ServerApp()


def trained(weights: list[Any], x: Any, y: Any) -> list[Any]:
    """Weights w1 (h, n), w2 (c, h), b (c,) after the local steps on samples (B, n) of classes (B,)."""
    moved = [np.zeros_like(w) for w in weights]
    for _ in range(JOB["local_steps"]):
        slopes = gradient(weights, x, y)
        moved = [np.float32(JOB["momentum"]) * v + g for v, g in zip(moved, slopes, strict=True)]
        weights = [w - np.float32(JOB["lr"]) * v for w, v in zip(weights, moved, strict=True)]
    return weights


def gradient(weights: list[Any], x: Any, y: Any) -> list[Any]:
    """Of the mean cross-entropy, by each of the weights."""
    w1, w2, b = weights
    z = x @ w1.T
    a = np.maximum(z, 0)
    p = np.exp((logits := a @ w2.T + b) - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    p /= len(y)
    dz = (p @ w2) * (z > 0)
    return [dz.T @ x, p.T @ a, p.sum(axis=0)]


@client.train()  # type: ignore[untyped-decorator,unused-ignore]
def train(message: Message, context: Context) -> Message:
    """The local steps on the rows of this client."""
    folder, me = Path(JOB["folder"]), int(context.node_config["partition-id"])
    begin, end = np.load(folder / "first.npy", mmap_mode="r")[me : me + 2]
    x = np.load(folder / "x.npy", mmap_mode="r")[begin:end].astype(np.float32) / np.float32(JOB["unit"])
    y = np.load(folder / "y.npy", mmap_mode="r")[begin:end]
    weights = trained(message.content["arrays"].to_numpy_ndarrays(), x, y)
    told = {"arrays": ArrayRecord(weights), "metrics": MetricRecord({"num-examples": 1})}
    return Message(content=RecordDict(told), reply_to=message)


@server.main()  # type: ignore[untyped-decorator,unused-ignore]
def main(grid: Grid, context: Context) -> None:
    """All rounds, and when each had ended."""
    ends: list[float] = []

    def ended(number: int, arrays: ArrayRecord) -> MetricRecord:
        if number:
            ends.append(time.time())
        return MetricRecord({})

    n, h, rng = int(JOB["features"]), int(JOB["hidden"]), np.random.default_rng(0)
    w1, w2 = rng.normal(0, 0.1, (h, n)), rng.normal(0, 0.1, (CLASSES, h))
    arrays = ArrayRecord([w.astype(np.float32) for w in (w1, w2, np.zeros(CLASSES))])
    share, taking_part = JOB["per_round"] / JOB["owners"], int(JOB["per_round"])
    strategy = FedAvg(share, 0.0, taking_part, 0, JOB["owners"])
    strategy.start(grid, arrays, num_rounds=JOB["rounds"], evaluate_fn=ended)
    print(json.dumps({"ends": ends}), flush=True)


if __name__ == "__main__":
    backend: Any = {
        "client_resources": {"num_cpus": 1},
        "init_args": {"address": "local", "include_dashboard": False},  # and no cluster that is there
    }
    run_simulation(server, client, JOB["owners"], backend_config=backend)
