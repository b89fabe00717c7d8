"""`keyhole gather`: a run folder of what the mod for Flower recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scenarios.show.terminal import reported


def gather(
    spool: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where keyhole_flower.recorder wrote.")],
    shape: Annotated[str, typer.Option("--shape", metavar="28,28", help="Of an image.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run.")] = None,
    x_max: Annotated[int, typer.Option("--x-max", min=1, help="Pixels are whole, up to this.")] = 255,
    unit: Annotated[float, typer.Option("--unit", help="What divides a pixel as it enters.")] = 255.0,
    first: Annotated[
        str | None, typer.Option("--first", help="First layer, trained by SGD on pixels: such as arrays.0.")
    ] = None,
    bias: Annotated[str | None, typer.Option("--bias", help="Its bias, such as arrays.1.")] = None,
    counts: Annotated[
        str, typer.Option("--counts", metavar="60,60", help="Samples of each client, if they do not say.")
    ] = "",
) -> None:
    """Make a run folder of what the mod for Flower recorded (keyhole_flower)."""
    with reported():
        from protocols.language.errors import ConfigError
        from scenarios.recorder.flower import gather as gathered

        def numbers(option: str, text: str) -> tuple[int, ...]:
            try:
                return tuple(int(part) for part in text.split(",") if part.strip())
            except ValueError:
                raise ConfigError(f"{option}: expected whole numbers such as 28,28, got {text!r}") from None

        if not unit > 0:
            raise ConfigError(f"--unit: expected a number above 0, got {unit}")
        run = gathered(
            spool, out, shape=numbers("--shape", shape), x_max=x_max, unit=unit, first=first, bias=bias,
            counts=numbers("--counts", counts),
        )  # fmt: skip
        print(run.path)
