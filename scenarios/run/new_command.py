"""`keyhole new protocol NAME`: a protocol file that runs, to begin from."""

from __future__ import annotations

import keyword
from pathlib import Path
from typing import Annotated

import typer

from parties.registry import PROTOCOLS
from protocols.language.errors import ConfigError, DataError
from scenarios.show.terminal import plain, reported

new = typer.Typer(help="Write a file to begin from.", no_args_is_help=True)


@new.callback()
def _new() -> None:
    """Files that run as they are."""


@new.command()
def protocol(name: Annotated[str, typer.Argument(help="Its name; the file is NAME.py, here.")]) -> None:
    """Write a protocol that runs: split learning without protection."""
    with reported():
        path = written(plain(name))
        print(
            f"{path}\n  keyhole run ./{path}           train, and say who learned what\n"
            f"  keyhole run ./{path} --help    its options\n  keyhole figure ./{path}        its messages"
        )


def written(name: str) -> Path:
    """Write NAME.py into this folder; `ConfigError` for a name that cannot be one, `DataError` if the file
    exists.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name in PROTOCOLS:
        raise ConfigError(f"{name!r} cannot be the name of a new protocol: expected letters, digits and _")
    from scenarios.run.folder import private_file

    path = Path(f"{name}.py")
    if path.exists():
        raise DataError(f"{path}: exists; give another name")
    text = Path(__file__).with_name("template.py").read_text(encoding="utf-8")
    said = text.replace('"""NAME:', f'"""`{name}`:').replace('NAME = "template"', f'NAME = "{name}"')
    with private_file(path) as file:
        file.write(said)
    return path
