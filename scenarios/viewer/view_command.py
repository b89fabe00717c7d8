"""`keyhole view RUN`: the transcript of a run as pages that this machine alone can open."""

from __future__ import annotations

import os
import sys
import tempfile
import webbrowser
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from protocols.language.errors import DataError
from scenarios.show.terminal import reported, warned


def view(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: a free one.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address alone.")] = False,
) -> None:
    """Look into a transcript in a browser: filter it, open messages, follow a sample; Ctrl-C ends it."""
    with reported(), ExitStack() as stack:
        from scenarios.run.folder import load_run
        from scenarios.run.status import incomplete
        from scenarios.viewer.pages import Pages
        from scenarios.viewer.server import Viewer

        run = load_run(run_folder)
        _ = run.sources  # raises, where there is nothing to look into
        warned(incomplete(run))
        try:
            viewer = Viewer(partial(Pages, run), port)
        except OSError as cause:
            raise DataError(f"port {port}: {cause.strerror}; give another --port") from None
        print(viewer.url, flush=True)
        if not no_browser and _has_screen():
            _open(viewer.url, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyhole-view-"))))
        viewer.serve()


def _has_screen() -> bool:
    """Whether a browser with windows can be there: one in the terminal would take it over."""
    return sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())


def _open(url: str, folder: Path) -> None:
    """Open an address by a file that only this user can read: everybody reads arguments of a process."""
    from scenarios.run.folder import private_file

    with private_file(folder / "open.html") as file:
        file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={url}"><title>Keyhole</title>')
    webbrowser.open((folder / "open.html").as_uri())
