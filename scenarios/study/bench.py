"""The project's figures, measured again by one command: `keyhole bench [NAME ...]`.

Nothing here is asserted: a bench prints what it measured, the figure it is meant to reach, and on which machine.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from parties.record.transcript import Record
from protocols.language.errors import ConfigError
from protocols.network.config import Gradient, Labels, Scheme
from scenarios.run.baseline import train_plain, train_unprotected
from scenarios.run.catalogue import find_scenario
from scenarios.run.execute import accuracy
from scenarios.run.experiment import Options, prepare
from scenarios.study import bench_attacks
from scenarios.study.bench_ckks import ckks_head
from scenarios.study.bench_groups import measure_groups
from scenarios.study.bench_paillier import paillier_head
from scenarios.study.bench_split import mitig1, mitig1_mnist, mitig2, owners
from scenarios.study.bench_tools import Figure, Memory, Run, Sizes, same_weights


def run_benches(
    names: Sequence[str], data_dir: Path, samples: int | None, epochs: int | None, hidden: int | None, out: Path | None,
    console: Console,
) -> None:  # fmt: skip
    """Run some benches, or all, one after another; prints each as it ends and may write them all as JSON."""
    known = {"groups": groups, "digits": digits, "seeds": seeds, "febo": febo, "mnist": mnist, "cifar": cifar, "mitig2": mitig2,
             "owners": owners, "mitig1": mitig1, "mitig1-mnist": mitig1_mnist,
             "gradient": bench_attacks.gradient, "gram": bench_attacks.gram, "known": bench_attacks.known,
             "averages": bench_attacks.averages, "noise": bench_attacks.noise, "paillier": paillier_head, "ckks": ckks_head}  # fmt: skip
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"unknown bench {unknown[0]!r}; known: {', '.join(known)}")
    sizes = Sizes(data_dir, samples, epochs, hidden)
    console.print(machine(), highlight=False)
    measured: list[Figure] = []
    for name in names or known:
        figures = list(known[name](sizes))
        console.print(_table(figures))
        measured += figures
    if out is not None:
        content = {"machine": machine(), "figures": [vars(figure) for figure in measured]}
        out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def machine() -> str:
    """What the figures were measured on."""
    model = next(
        (line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")),
        "unknown processor",
    )
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {model}, {memory:.0f} GiB, Python {platform.python_version()}"


def groups(sizes: Sizes) -> Iterator[Figure]:
    """The groups that DDH can use, on the sizes of digits and of MNIST."""
    for row in measure_groups():
        name = " ".join(str(row[key]) for key in ("group", "length") if key in row)
        rest = {key: value for key, value in row.items() if key not in ("group", "length")}
        text = "  ".join(
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in rest.items()
        )
        yield Figure("groups", name, text, value=rest)


def digits(sizes: Sizes) -> Iterator[Figure]:
    """digits with the defaults under both schemes, against `plain` with the same rounding."""
    for scheme, limit in ((Scheme.LWE, "<= 60 s"), (Scheme.DDH, "<= 360 s")):
        yield from _train(
            "digits", f"scheme={scheme.value}", limit, sizes, scheme=scheme, attack=("stack", "master_key")
        )


def seeds(sizes: Sizes) -> Iterator[Figure]:
    """What rounding does to the accuracy on digits, over twelve seeds: `plain` with the default weight scale and without."""
    rounded, exact = [], []
    for seed in range(12):
        experiment = prepare(
            find_scenario("plain_fe"), Options(seed=seed, samples=sizes.samples, epochs=sizes.epochs)
        )
        rounded.append(accuracy(experiment, train_plain(experiment, experiment.config)) or 0.0)
        exact.append(accuracy(experiment, train_unprotected(experiment)) or 0.0)
    apart = max(abs(a - b) for a, b in zip(rounded, exact, strict=True))
    text = f"mean {np.mean(rounded):.3f}, worst {min(rounded):.3f}; at most {apart:.4f} from unrounded"
    yield Figure("seeds", "digits, 12 seeds: test accuracy with rounding", text, "within 0.01", rounded)


def febo(sizes: Sizes) -> Iterator[Figure]:
    """digits with CryptoNN's labels and the gradient under functional encryption."""
    switches: dict[str, Any] = {"labels": Labels.FEBO, "gradient": Gradient.FE}
    yield from _train("febo", "labels=febo gradient=fe", "", sizes, attack=("labels",), **switches)


def mnist(sizes: Sizes) -> Iterator[Figure]:
    """An MNIST epoch of plain FE under LWE, headers only, with the memory of all processes."""
    options: dict[str, Any] = {"dataset": "mnist", "data_dir": sizes.data_dir / "mnist", "hidden": 300, "batch": 64, "epochs": 1,
               "record": Record.HEADERS, "gradient": Gradient.OWNER}  # fmt: skip
    with Memory() as memory:
        yield from _train(
            "mnist", "scheme=lwe hidden=300 batch=64", "<= 240 s", sizes, compare=False, **options
        )
    yield Figure(
        "mnist",
        "peak memory of all processes (PSS)",
        f"{memory.peak / 2**30:.2f} GiB",
        "< 8 GiB",
        memory.peak,
    )


def cifar(sizes: Sizes) -> Iterator[Figure]:
    """`lp` and `smooth` on 20 gray CIFAR images, one observation of h = 350."""
    options: dict[str, Any] = {"dataset": "cifar10", "data_dir": sizes.data_dir / "cifar10", "gray": True, "samples": sizes.samples or 20,
               "hidden": sizes.hidden or 350, "batch": 20, "epochs": 1, "attack": ("lp", "smooth", "tv")}  # fmt: skip
    with Run("plain_fe", options) as (_, _, result):
        for row in result["attacks"]:
            mse, notes = row["metrics"]["mse"], row["notes"]
            projection = row["baseline"]["projection"]["mse"]
            stated = {"lp": "<= 0.040 and <= 0.9 x projection", "smooth": "<= 0.007", "tv": "<= 0.005"}[
                row["attack"]
            ]
            text = f"{mse:.4f} ({mse / projection:.2f} x projection, {projection:.4f})"
            yield Figure("cifar", f"{row['attack']}: mean MSE", text, stated, mse)
            yield Figure("cifar", f"{row['attack']}: seconds an image", f"{row['seconds'] / row['samples']:.2f}", "<= 2" if row["attack"] == "tv" else "<= 0.4",
                         row["seconds"] / row["samples"])  # fmt: skip
            yield Figure("cifar", f"{row['attack']}: constraints", json.dumps(notes), value=notes)


def _train(
    bench: str, what: str, limit: str, sizes: Sizes, compare: bool = True, **options: Any
) -> Iterator[Figure]:
    options = {
        **options,
        **{
            k: v
            for k, v in (("samples", sizes.samples), ("epochs", sizes.epochs), ("hidden", sizes.hidden))
            if v
        },
    }
    with Run("plain_fe", options) as (experiment, run, result):
        seconds, accuracy = result["seconds"], result["accuracy"]
        spent = " · ".join(
            f"{name} {seconds[name]:.1f}" for name in ("setup", "train", "attack", "total") if name in seconds
        )
        protected = seconds["setup"] + seconds["train"]
        yield Figure(
            bench, f"{what}: seconds, set-up and training", f"{protected:.1f} ({spent})", limit, seconds
        )
        yield Figure(bench, f"{what}: test accuracy (unprotected)", f"{accuracy['test']:.4f} ({accuracy['baseline_test']:.4f})",
                     ">= 0.93" if bench == "mnist" else ">= 0.95, within 0.01", accuracy)  # fmt: skip
        if compare:
            yield Figure(
                bench, f"{what}: weights against plain", same_weights(experiment, run), "bit-identical"
            )
        for row in result["attacks"]:
            metrics = {
                k: v
                for k, v in row["metrics"].items()
                if k in ("exact_pixels", "labels_right", "solved_at_step")
            }
            text = json.dumps(metrics) if row["applicable"] else f"not applicable: {row['why']}"
            yield Figure(bench, f"{what}: {row['attack']}", text, "exact, with its step", row["metrics"])


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _table(figures: list[Figure]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("bench", "what", "measured", "stated"):
        table.add_column(column, overflow="fold")
    for figure in figures:
        table.add_row(figure.bench, figure.what, figure.measured, figure.stated)
    return table
