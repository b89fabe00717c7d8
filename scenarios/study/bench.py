"""The project's figures, measured again by one command: `keyhole bench [NAME ...]`.

Nothing here is asserted: a bench prints what it measured, the figure it is meant to reach, and on which
machine. Every bench is a cell of a study: with `--out FILE.json` its figures are kept beside the file, and a
bench that was stopped goes on.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from protocols.language.errors import ConfigError
from scenarios.run.folder import write_json
from scenarios.show.tables import table
from scenarios.study import bench_attacks, bench_runs
from scenarios.study.bench_ckks import ckks_head
from scenarios.study.bench_crowd import crowd, flower
from scenarios.study.bench_fedsgd import fedsgd
from scenarios.study.bench_groups import groups
from scenarios.study.bench_paillier import paillier_head
from scenarios.study.bench_tools import Figure, Sizes
from scenarios.study.study import Cell, Study, begun, carry_out

BENCHES: Mapping[str, Callable[[Sizes], Iterator[Figure]]] = {
    "groups": groups, "digits": bench_runs.digits, "seeds": bench_runs.seeds, "febo": bench_runs.febo,
    "mnist": bench_runs.mnist, "cifar": bench_runs.cifar, "mitig2": bench_runs.mitig2,
    "owners": bench_runs.owners, "mitig1": bench_runs.mitig1, "mitig1-mnist": bench_runs.mitig1_mnist,
    "gradient": bench_attacks.gradient,
    "gram": bench_attacks.gram, "known": bench_attacks.known, "averages": bench_attacks.averages,
    "noise": bench_attacks.noise, "paillier": paillier_head, "ckks": ckks_head, "crowd": crowd,
    "flower": flower, "fedsgd": fedsgd,
}  # fmt: skip


def run_benches(names: Sequence[str], sizes: Sizes, out: Path | None, console: Console) -> None:
    """Run some benches, or all, one after another; prints each as it ends and may write them all as JSON."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        raise ConfigError(f"unknown bench {unknown[0]!r}; known: {', '.join(BENCHES)}")
    console.print(machine(), highlight=False)
    asked = list(names or BENCHES)
    settings = {"benches": asked, **asdict(sizes), "data_dir": str(sizes.data_dir)}
    folder = None
    if out is not None:
        folder, settings = begun("bench", out.with_name(f"{out.stem}-cells"), settings)

    def measured(name: str) -> list[Figure]:
        """A cell."""
        figures = list(BENCHES[name](sizes))
        console.print(_table(figures))
        return figures

    study = Study("bench", Figure, settings, [Cell(name, measured, (name,)) for name in dict.fromkeys(asked)])
    figures = carry_out(study, folder)
    if out is not None:
        write_json(out, {"machine": machine(), "figures": [vars(figure) for figure in figures]})


def machine() -> str:
    """What the figures were measured on."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    memory = psutil.virtual_memory().total / 2**30
    model = next(named, "unknown processor")
    return f"{os.cpu_count()} cores, {model}, {memory:.0f} GiB, Python {platform.python_version()}"


def _table(figures: Sequence[Figure]) -> Table:
    lines = [(figure.bench, figure.what, figure.measured, figure.stated) for figure in figures]
    return table(("bench", "what", "measured", "stated"), lines)
