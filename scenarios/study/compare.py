"""Scenario `compare`: every protocol on one data set with the same options, side by side.

Each run is an ordinary run in a folder of its own. A protocol that would take longer than the budget is not run: what a
few of its steps cost is measured and extrapolated (`scenarios/cost.py`), and marked as such.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from parties.record.transcript import Record
from protocols.crypto.groups.named import PAIRINGS
from protocols.language.errors import ConfigError, KeyholeError
from protocols.network.config import Labels, Scheme
from scenarios.run.catalogue import find_scenario
from scenarios.run.execute import RecordTooLarge, check_size, execute, runtime_named
from scenarios.run.experiment import COMMON, Experiment, Options, Scenario, prepare
from scenarios.run.folder import free_path
from scenarios.study import cost
from scenarios.study.comparison import (
    comparison,
    extrapolated_row,
    failed_row,
    finished_row,
    ignored_notes,
    refused_row,
    run_name,
)
from scenarios.study.comparison_files import write_comparison

BUDGET_SECONDS = 1800.0
ENCRYPTING = ("plain_fe", "mitig1")  # only these can take long enough to ask beforehand

_ALONE = "run it alone with `keyhole --debug run ...` for a traceback"

Watch = Callable[[Experiment], AbstractContextManager[Callable[[str, int], None]]]


@dataclass(frozen=True)
class Contender:
    """A scenario to be run, with the scheme that it is run with."""

    scenario: Scenario
    scheme: Scheme | None = None

    @property
    def name(self) -> str:
        """Such as `plain-fe lwe`."""
        return run_name(self.scenario.name, self.scheme.value if self.scheme else None)


@dataclass(frozen=True)
class Prepared:
    """A contender with its experiment, or why it cannot run; and the options that it has no use for."""

    contender: Contender
    ignored: tuple[str, ...]
    experiment: Experiment | None = None
    refusal: KeyholeError | None = None


def contenders(scheme: Scheme | None = None) -> tuple[Contender, ...]:
    """All protocols; plain FE under each scheme, or the one that was asked for."""
    schemes = [scheme] if scheme else [Scheme.LWE, Scheme.DDH]
    return (
        Contender(find_scenario("plain")),
        *(Contender(find_scenario("plain_fe"), each) for each in schemes),
        Contender(find_scenario("mitig1")),
        Contender(find_scenario("mitig2")),
    )


def compare(options: Options, budget: float, watch: Watch) -> tuple[Path, dict[str, Any]]:
    """Run every protocol and write the comparison; returns its folder and what compare.json holds.

    Raises what the first protocol refuses if all refuse their options; a protocol that alone fails is a row that says so.
    """
    if not budget >= 0:
        raise ConfigError("--budget must be a number of seconds, 0 to extrapolate everything that encrypts")
    drawn = options.seed is None
    seeded = replace(options, seed=secrets.randbits(256)) if drawn else options
    prepared = [_prepared(contender, seeded) for contender in contenders(options.scheme)]
    refusals = [each.refusal for each in prepared if each.refusal is not None]
    if len(refusals) == len(prepared):
        raise refusals[0]
    folder = free_path(options.out, "compare")
    notes: list[str] = (
        [f"seed {seeded.seed} drawn for all runs: whoever knows it holds every key of them"] if drawn else []
    )
    with _session(options):
        rows = [_row(each, folder, budget, watch, notes) for each in prepared]
    content = comparison(rows, [*notes, *ignored_notes(rows)], drawn)
    write_comparison(folder, content)
    return folder, content


def failed(content: dict[str, Any]) -> bool:
    """Whether a run of the comparison failed."""
    return any(row["status"] == "failed" for row in content["rows"])


def _prepared(contender: Contender, options: Options) -> Prepared:
    """The experiment of a contender, without the options that it lacks."""
    lacking = _lacking(contender, options)
    changes: dict[str, Any] = {**dict.fromkeys(lacking), "out": None}
    if contender.scheme is not None:
        changes["scheme"] = contender.scheme
    kept = replace(options, **changes)
    try:
        return Prepared(contender, _flags(lacking), prepare(contender.scenario, kept))
    except KeyholeError as refusal:
        if kept.corrupt is None:
            return Prepared(contender, _flags(lacking), refusal=refusal)
    # Who was to be corrupted may take no part in this protocol: then it is trained, and not attacked.
    lacking = (*lacking, "corrupt", *(("attack",) if kept.attack else ()))
    try:
        return Prepared(
            contender, _flags(lacking), prepare(contender.scenario, replace(kept, corrupt=None, attack=None))
        )
    except KeyholeError as refusal:
        return Prepared(contender, _flags(lacking), refusal=refusal)


def _lacking(contender: Contender, options: Options) -> tuple[str, ...]:
    """Given options that would mean nothing to a contender."""
    has = COMMON | contender.scenario.options
    lacking = [name for name in options.given() if name not in has]
    if options.group is not None and "group" not in lacking and not _uses_group(contender, options):
        lacking.append("group")
    return tuple(lacking)


def _uses_group(contender: Contender, options: Options) -> bool:
    if contender.scenario.name == "mitig1":
        return options.group in PAIRINGS
    return contender.scheme is Scheme.DDH or options.labels is Labels.FEBO


def _flags(names: Sequence[str]) -> tuple[str, ...]:
    order = [f.name for f in fields(Options)]
    return tuple(f"--{name.replace('_', '-')}" for name in sorted(names, key=order.index))


@contextmanager
def _session(options: Options) -> Iterator[None]:
    """One Ray session for all runs."""
    runtime = options.runtime or "ray"
    with nullcontext() if runtime == "inline" else runtime_named(runtime, options.address):
        yield


def _row(each: Prepared, folder: Path, budget: float, watch: Watch, notes: list[str]) -> dict[str, Any]:
    """Run a contender, or find out what it would cost; what goes wrong is its row's."""
    contender, experiment = each.contender, each.experiment
    if experiment is None:
        scheme = contender.scheme.value if contender.scheme else None
        return refused_row(contender.scenario.name, scheme, str(each.refusal), each.ignored)
    try:
        experiment, note = _recordable(experiment, contender.name)
        estimate = _over_budget(experiment, budget) if contender.scenario.name in ENCRYPTING else None
        if estimate is not None:
            return extrapolated_row(
                experiment, estimate, f"not run: over the budget of {budget:g} s", each.ignored
            )
        place = contender.name.replace(" ", "-")
        notes += note
        with watch(experiment) as observe:
            run, _ = execute(replace(experiment, out=folder / place), observe)
        return finished_row(run, place, each.ignored)
    except KeyholeError as cause:
        return failed_row(experiment, " ".join(str(cause).split()), each.ignored)
    except Exception as cause:  # a defect of ours: its text may hold values
        return failed_row(experiment, f"internal error: {type(cause).__name__}; {_ALONE}", each.ignored)


def _recordable(experiment: Experiment, name: str) -> tuple[Experiment, list[str]]:
    """With headers only where full transcripts were not asked for and would be large, and a note that says so."""
    try:
        check_size(experiment)
    except RecordTooLarge:
        note = f"{name} keeps headers only: full transcripts are large (--record full keeps them)"
        return replace(experiment, record=Record.HEADERS), [note]
    return experiment, []


def _over_budget(experiment: Experiment, budget: float) -> cost.Cost | None:
    """What the run costs if that is more than the budget: measured crudely, and better where that is too much."""
    crude = cost.crude_probe(experiment) if budget else None
    if crude and cost.total_seconds(crude, experiment) <= budget:
        return None
    measured = cost.probe(experiment, crude)
    return measured if cost.total_seconds(measured, experiment) > budget else None


if __name__ == "__main__":
    from scenarios.cli import script

    script("compare")
