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
    "setup": ("setting up", None),
    "upload": ("encrypting", None),
    "step": ("training", 1),
    "query": ("asking", 1),
    "average": ("averaging", None),
    "ledger": ("who learned what", None),
    "attack": ("attacking, and the baseline", None),
    "report": ("attacking", None),
    "run": ("runs", None),
    "cell": ("cells", 0),
}
_LINE = ("epoch", "test_accuracy", "test_loss")  # what the second line says, in this order
_LABELS = 6  # of messages that a line names


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
        args = _debugged(sys.argv[1:] if args is None else args)
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


def _debugged(args: Sequence[str]) -> list[str]:
    """`--debug` may stand anywhere before `--`, and is of the whole command."""
    end = args.index("--") if "--" in args else len(args)
    if "--debug" not in args[:end]:
        return list(args)
    return ["--debug", *(arg for arg in args[:end] if arg != "--debug"), *args[end:]]


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


def looked_at(silent: bool) -> bool:
    """Whether somebody sees what is shown of progress: nothing is shown in pipes."""
    return not silent and sys.stderr.isatty()


@contextmanager
def waiting(said: str, silent: bool = False) -> Iterator[None]:
    """A word on a terminal while libraries are imported and data are read."""
    if not looked_at(silent):
        yield
        return
    with Console(stderr=True).status(said):
        yield


@contextmanager
def progress_of(total: int, silent: bool, who: Sequence[str] = ()) -> Iterator[Callable[[str, Any], None]]:
    """Three lines on a terminal, nothing elsewhere: how far a run or a study is and how long it may take, and
    how accurate the network is and what the parties `who` have been sent.
    """
    if not looked_at(silent):
        yield lambda event, value: None
        return
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Left
    from rich.text import Text

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar, line, seen = Progress(*columns, TextColumn("left"), Left()), Text(style="dim"), dict[str, str]()
    task = bar.add_task("starting the parties" if who else "set-up", total=total or None)

    def observe(event: str, value: Any) -> None:
        if event in _EVENTS:
            said, counted = _EVENTS[event]
            bar.update(task, description=said, completed=None if counted is None else value + counted)
        elif said := _seen(event, value, who):
            seen[event] = said
            network = " · ".join(seen[each] for each in _LINE if each in seen)
            line.plain = "\n".join(filter(None, (network, seen.get("sent"))))

    with Live(Group(bar, line), console=Console(stderr=True), transient=True, refresh_per_second=5):
        yield observe


def _seen(event: str, value: Any, who: Sequence[str]) -> str:
    """What an event says of the network or of a view; empty for others."""
    if event == "test_loss":
        value = value()
    if event in ("test_accuracy", "test_loss") and value is not None:
        return f"{event.replace('_', ' ')} {value:.3f}"
    if event == "epoch":
        return f"epoch {value}"
    if event == "sent" and value:
        shown = [f"{count} {printable(label)}" for label, count in list(value.items())[:_LABELS]]
        more = [f"{len(value) - _LABELS} more"] if len(value) > _LABELS else []
        return f"{', '.join(who)} was sent {', '.join([*shown, *more])} so far"
    return ""


def console() -> Console:
    """Standard output: as wide as the terminal; without one as wide as COLUMNS says, or wide enough for
    tables.
    """
    return PlainConsole() if sys.stdout.isatty() or os.environ.get("COLUMNS") else PlainConsole(width=140)


def plain(name: str) -> str:
    return name.replace("-", "_")


def dashed(name: str) -> str:
    return name.replace("_", "-")
