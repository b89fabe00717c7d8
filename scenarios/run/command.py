"""`keyhole run SCENARIO`: a command for each scenario, whose options are those that it declares."""

from __future__ import annotations

import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from parties.registry import PROTOCOLS, said
from protocols.language.options import Declared, as_plain, flag, option, options_of
from scenarios.show.terminal import console, dashed, plain, progress_of, reported, waiting

if TYPE_CHECKING:
    from scenarios.run.config_file import Plan
    from scenarios.run.experiment import Experiment, Scenario
    from scenarios.run.folder import RunFolder

Run = Callable[[dict[str, Any]], None]
_CONFIGS = (".toml", ".json")


class Late(TyperCommand):
    """A command by its name and what it is about, for the help of its group; the rest is made when asked."""

    def __init__(self, name: str, about: str, make: Callable[[], Any]) -> None:
        super().__init__(name, help=about)
        self._make = make

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        unseen = {"--json", "--quiet", "--help", "-h"}.intersection(args)
        with reported(), waiting("loading", silent=bool(unseen)):
            made = self._make()
        return made.make_context(info_name, args, parent, **extra)


class Comparing(TyperCommand):
    """Runs that exist side by side; given any option of a run, such as --dataset, all protocols, which are
    run.
    """

    _OWN = frozenset(["--json", "--out", "--help", "-h"])

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        asked = {arg.partition("=")[0] for arg in args if arg.startswith("--") and arg != "--"}
        if asked <= self._OWN:
            return super().make_context(info_name, args, parent, **extra)
        return _all_protocols("compare").make_context(info_name, args, parent, **extra)


def _all_protocols(name: str) -> Late:
    about = "every protocol on one data set, side by side"
    return Late(name, about, lambda: command(name, _of_all(), run_compare, about))


class Scenarios(TyperGroup):
    """The scenarios as commands, each made when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*map(dashed, PROTOCOLS), "compare"]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        name = plain(cmd_name)
        if name in PROTOCOLS:
            summary = self.about(*said(f"protocols.{name}", "SUMMARY"))
            return Late(cmd_name, summary, lambda: self.made(cmd_name, _asked_for(name)))
        if cmd_name.endswith(_CONFIGS):
            about = "what a configuration file asks for; options that are given stand above it"
            return Late(cmd_name, about, lambda: _of_config(cmd_name))
        if name == "compare" and name in self.list_commands(ctx):
            return _all_protocols(name)
        with reported():
            return self.made(cmd_name, _asked_for(cmd_name))

    def about(self, summary: str) -> str:
        """What a command says of itself, by the summary of its protocol."""
        return summary

    def made(self, name: str, scenario: Scenario) -> Any:
        """The command of a scenario."""
        return command(
            name, scenario.options(), partial(run_scenario, scenario), self.about(scenario.protocol.SUMMARY)
        )

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The scenario may stand behind options."""
        known = (*PROTOCOLS, "compare")
        names = [arg for arg in args if plain(arg) in known or arg.endswith((".py", *_CONFIGS))]
        if names and "--resume" not in args and args[0] != names[0]:
            args = [names[0], *(arg for arg in args if arg is not names[0])]
        return super().parse_args(ctx, args)


def _asked_for(name: str) -> Scenario:
    from scenarios.run.catalogue import asked_for

    return asked_for(name)


def _of_config(name: str) -> Any:
    from scenarios.run.config_file import read_config

    plan = read_config(Path(name))
    about = f"{plan.named}, as {name} has it"
    return command(name, plan.scenario.options(), partial(run_config, plan), about)


def run_config(plan: Plan, given: dict[str, Any]) -> None:
    """The run that a file asks for, or its grid of runs."""
    plan = plan.with_given(given)
    if plan.sweep:
        run_grid_of(plan, plan.options)
    else:
        run_scenario(plan.scenario, dict(plan.options))


def run_grid_of(plan: Plan, asked: Mapping[str, Any]) -> None:
    """Every run of a grid that is missing, then the table; status 1 if one failed."""
    from scenarios.study.grid import failed, grid_table, run_grid

    out, as_json, quiet = (asked.get(name) for name in ("out", "json", "quiet"))
    silent = bool(as_json or quiet or not sys.stderr.isatty())

    def watch(name: str, experiment: Experiment) -> AbstractContextManager[Callable[[str, int], None]]:
        if not silent:
            print(name, file=sys.stderr)
        return progress_of(experiment.steps, silent)

    folder, content = run_grid(plan, out, watch)
    if as_json:
        print(json.dumps(content, indent=1))
    else:
        console().print(grid_table(content))
        print(f"\n  {folder}/   grid.json · grid.csv · a folder for each run")
    if failed(content):
        raise typer.Exit(1)


def run_scenario(scenario: Scenario, given: dict[str, Any]) -> None:
    """Train, record what each party sees, and say who learned what."""
    with waiting("reading data", silent=bool(given.get("json") or given.get("quiet"))):
        from scenarios.run.execute import execute
        from scenarios.run.experiment import prepare

        experiment = prepare(scenario, given)
    silent = experiment.json or experiment.quiet
    with progress_of(experiment.steps, silent, experiment.corrupt) as observe:
        folder, result = execute(experiment, observe)
    _told(folder, result, experiment.json)


def run_resumed(
    path: Path, address: str | None, as_json: bool, quiet: bool, log_to: tuple[str, ...] = ()
) -> None:
    """Go on with a run that was stopped, or with a grid of runs."""
    from scenarios.run.execute import resume
    from scenarios.run.log_to import checked
    from scenarios.study.grid import grid_of, is_grid

    checked(log_to)
    if is_grid(path):
        plan = grid_of(path).with_given({"log_to": log_to})
        run_grid_of(plan, {"out": path, "json": as_json, "quiet": quiet})
        return
    from scenarios.run.folder import load_run
    from scenarios.run.status import status_of

    steps = status_of(load_run(path)).steps or 0
    with progress_of(steps, silent=as_json or quiet) as observe:
        folder, result = resume(path, observe, address, log_to)
    _told(folder, result, as_json)


def _told(folder: RunFolder, result: dict[str, Any], as_json: bool) -> None:
    from scenarios.page.page import write_report
    from scenarios.show.summary import show_result

    write_report(folder)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        show_result(console(), folder, result)


@dataclass(frozen=True)
class _Budget:
    budget: float | None = option(
        None, "Seconds a protocol may take; beyond, it is extrapolated.", panel="Run"
    )


def _of_all() -> dict[str, Declared]:
    """The options of all protocols that are compared."""
    from scenarios.study.compare import contenders

    found: dict[str, Declared] = {}
    for contender in contenders():
        found = {**contender.scenario.options(), **found}
    return found | options_of(_Budget)


def run_compare(given: dict[str, Any]) -> None:
    """Every protocol, then the table; status 1 if one failed."""
    from scenarios.show.comparison_table import show_comparison
    from scenarios.study.compare import BUDGET_SECONDS, compare, failed

    budget, as_json, quiet = (given.pop(name) for name in ("budget", "json", "quiet"))
    silent = bool(as_json or quiet or not sys.stderr.isatty())

    def watch(experiment: Experiment) -> AbstractContextManager[Callable[[str, Any], None]]:
        if not silent:
            print(dashed(experiment.scenario.name), file=sys.stderr)
        return progress_of(experiment.steps, silent, experiment.corrupt)

    folder, content = compare(given, BUDGET_SECONDS if budget is None else budget, watch)
    if as_json:
        print(json.dumps(content, indent=1))
    else:
        show_comparison(console(), content, folder)
    if failed(content):
        raise typer.Exit(1)


def command(name: str, declared: Mapping[str, Declared], run: Run, about: str) -> Any:
    """A command with these options, which hands what was given to `run`; what was not given is None."""

    def called(**given: Any) -> None:
        with reported():
            run({key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})

    parameters = [parameter for each in declared.values() for parameter in _parameters(each)]
    called.__dict__["__signature__"] = inspect.Signature(parameters)
    called.__annotations__ = {each.name: each.annotation for each in parameters}
    made = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    made.command(name, help=about)(called)
    return typer.main.get_command(made)


def _parameters(each: Declared) -> list[inspect.Parameter]:
    """An option as a parameter of a function, and its other name as another one."""
    found = [_parameter(each.name, each, f"{each.about.help}{_default(each)}")]
    if each.about.alias:
        found.append(_parameter(each.about.alias, each, f"The same as {each.flag}, of one number."))
    return found


def _default(each: Declared) -> str:
    """The default in words, and that on larger data sets; empty where it says nothing."""
    said = dict.fromkeys(value for value in (each.default, each.about.large) if value)
    words = [
        ",".join(map(str, value)) if isinstance(value, tuple) else dashed(str(as_plain(value)))
        for value in said
    ]
    return f" (default: {'; on larger data '.join(words)})" if words else ""


def _parameter(name: str, each: Declared, help: str) -> inspect.Parameter:
    kind, settings = _parsed(each)
    panel = each.about.panel
    said = typer.Option(flag(name), help=help, rich_help_panel=panel, show_default=False, **settings)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, said]
    )


def _parsed(each: Declared) -> tuple[Any, dict[str, Any]]:
    """The type that typer parses an option as, and how; what it cannot parse stays text."""
    kind, metavar = each.kind, each.about.metavar
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(inner for inner in typing.get_args(kind) if inner is not type(None))
    if kind in (int, float):
        return kind, {"min": each.about.least, "max": each.about.most}
    if kind in (bool, Path, str):
        return kind, {"metavar": metavar}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return str, {"metavar": f"[{'|'.join(dashed(str(member.value)) for member in kind)}]"}
    return (
        (list[str], {"metavar": metavar}) if typing.get_args(kind)[0] is str else (str, {"metavar": metavar})
    )
