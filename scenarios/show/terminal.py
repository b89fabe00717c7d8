"""How the command line speaks: one line and an exit status for what went wrong, a progress bar, names of
parties.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from parties.registry import sources
from protocols.language.errors import OUT_OF_MEMORY, ConfigError, KeyholeError
from scenarios.show.printable import PlainConsole, printable

_TRACEBACKS = False
_LONGEST = 900  # characters of what went wrong

# What is told of a run or a study, in words, and how its number counts what is finished; None where it does
# not.
_EVENTS = {
    "upload": ("encrypting", None),
    "step": ("training", 1),
    "query": ("asking", 1),
    "report": ("attacking", None),
    "run": ("runs", None),
    "cell": ("cells", 0),
}


def show_tracebacks(wanted: bool) -> None:
    """Whether what goes wrong is shown as Python shows it (`--debug`)."""
    global _TRACEBACKS
    _TRACEBACKS = wanted


class OneLine(TyperGroup):
    """Says what is wrong with a command line as everything else is said: in one line."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        given = (args, prog_name, complete_var, False, windows_expand_args)
        if not standalone_mode:
            return super().main(*given, **extra)
        try:
            sys.exit(super().main(*given, **extra) or 0)
        except Exception as error:  # typer brings its own click, whose errors have no public name
            if not hasattr(error, "format_message") or not hasattr(error, "exit_code"):
                raise
            context, said = getattr(error, "ctx", None), " ".join(error.format_message().split()).rstrip(".")
            if hasattr(error, "option_name") and context is not None:
                said = f"{error.option_name} is no option of {context.info_name}"
            remedy = f"; see {context.command_path} --help" if context is not None else ""
            if said:  # nothing is said where the help was printed instead
                print(f"keyhole: {printable(said)}{remedy}", file=sys.stderr)
            sys.exit(error.exit_code)


@contextmanager
def reported() -> Iterator[None]:
    """Turn what went wrong into one line and an exit status: 1 the run failed, 2 wrong usage."""
    try:
        with warnings.catch_warnings():
            if not _TRACEBACKS:
                warnings.simplefilter("ignore")  # of libraries; what a user has to know is said in one line
            yield
    except typer.Exit:
        raise
    except ConfigError as error:
        _fail(error, 2)
    except KeyholeError as error:
        _fail(error, 1)
    except KeyboardInterrupt as error:
        notes = getattr(error, "__notes__", [])
        _fail(error, 1, "; ".join(["interrupted; what was recorded so far is kept", *notes]))
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away, as with `| head`
        raise typer.Exit(1) from None
    except MemoryError as error:
        _fail(error, 1, OUT_OF_MEMORY)
    except (OSError, sqlite3.OperationalError) as error:
        named = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        _fail(error, 1, f"{named}{getattr(error, 'strerror', None) or error}")
    except Exception as error:
        internal = (
            f"internal error: {type(error).__name__}; run again with `keyhole --debug ...` for a traceback"
        )
        _fail(error, 1, _in_a_users_file(error) or internal)


def _in_a_users_file(error: Exception) -> str:
    """Where in a user's own file something was raised, in one line; empty if it was elsewhere."""
    files = {source.path for source in sources()}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    return f"{frames[-1].filename}:{frames[-1].lineno}: {type(error).__name__}: {error}" if frames else ""


def _fail(error: BaseException, status: int, text: str | None = None) -> None:
    if _TRACEBACKS:
        raise error
    said = printable(" ".join((text or str(error)).split()))
    print(f"keyhole: {said if len(said) <= _LONGEST else said[:_LONGEST] + ' ...'}", file=sys.stderr)
    raise typer.Exit(status) from None


def warned(line: str) -> None:
    """Say something about what is asked for beside the answer; nothing for an empty line."""
    if line:
        print(f"keyhole: {printable(line)}", file=sys.stderr)


@contextmanager
def progress_of(total: int, silent: bool) -> Iterator[Callable[[str, int], None]]:
    """A progress bar on a terminal, nothing elsewhere: of the steps or queries of a run, or of the cells of a
    study.
    """
    if silent or not sys.stderr.isatty():
        yield lambda event, value: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("set-up", total=total)

        def observe(event: str, value: int) -> None:
            if event in _EVENTS:
                said, counted = _EVENTS[event]
                bar.update(task, description=said, completed=None if counted is None else value + counted)

        yield observe


def console() -> Console:
    """Standard output: as wide as the terminal; without one as wide as COLUMNS says, or wide enough for
    tables.
    """
    return PlainConsole() if sys.stdout.isatty() or os.environ.get("COLUMNS") else PlainConsole(width=140)


def plain(name: str) -> str:
    return name.replace("-", "_")


def dashed(name: str) -> str:
    return name.replace("_", "-")
