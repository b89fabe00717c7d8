"""`keyhole export RUN`: the transcript for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from scenarios.show.terminal import reported, warned


class Form(StrEnum):
    """What a transcript can be written as."""

    PARQUET = "parquet"
    CHROME_TRACE = "chrome-trace"


def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN")],
    to: Annotated[Form, typer.Option("--to", help="A table; or JSON that Perfetto draws.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File; RUN/entries.parquet or RUN/trace.json without.")
    ] = None,
) -> None:
    """Write the entries of a transcript, without payloads, for other programs."""
    with reported():
        from scenarios.run.folder import load_run
        from scenarios.run.status import incomplete
        from scenarios.show.export import write_parquet, write_trace

        run = load_run(run_folder)
        warned(incomplete(run))
        if to is Form.PARQUET:
            print(write_parquet(run, out or run.path / "entries.parquet"))
        else:
            print(write_trace(run, out or run.path / "trace.json"))
