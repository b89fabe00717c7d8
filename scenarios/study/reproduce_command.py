"""`keyhole reproduce PAPER`: a paper's figures beside those measured here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from scenarios.show.terminal import console, progress_of, reported


def reproduce(
    paper: Annotated[str, typer.Argument(help="ionita2025 | allison2025 | panzade2023", metavar="PAPER")],
    quick: Annotated[bool, typer.Option("--quick", help="On digits, in a minute.")] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder of MNIST's files, or of mnist/.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the result; one that was begun goes on.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print reproduce.json and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Run what a paper's table needs, and print its figures, marked as published, beside those measured."""
    with reported():
        from scenarios.study.reproduce import PAPERS, failed, reproduced_table
        from scenarios.study.reproduce import reproduce as carry_out

        steps = len(PAPERS[paper].jobs) if paper in PAPERS else 0
        with progress_of(steps, silent=as_json or quiet) as observe:
            folder, content = carry_out(paper, out, quick, data_dir, observe)
        if as_json:
            print(json.dumps(content, indent=1))
        else:
            console().print(reproduced_table(content))
            print(f"\n  {folder}/   reproduce.json · reproduce.csv · a folder for each run")
        if failed(content):
            raise typer.Exit(1)
