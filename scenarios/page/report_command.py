"""`keyhole report RUN ...`: the page of one run, or of several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scenarios.show.terminal import reported


def report(
    run_folders: Annotated[list[Path], typer.Argument(metavar="RUN...")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write it; the first run's report.html without.")
    ] = None,
) -> None:
    """Write the page of a run, report.html, which needs no network; of several runs one after the other."""
    with reported():
        from scenarios.page.page import write_report
        from scenarios.run.folder import load_run

        first, *others = [load_run(folder) for folder in run_folders]
        print(write_report(first, others, out))
