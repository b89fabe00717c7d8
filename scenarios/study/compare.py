"""Scenario `compare`: every protocol on one data set with the same options, side by side.

Each run is an ordinary run in a folder of its own, and a cell of the study. A protocol that would take longer
than the budget is not run: what a few of its steps cost is measured and extrapolated (`cost.py`), and marked
as such.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from parties.data.datasets import Split
from parties.record.transcript import Record
from protocols.crypto.groups.named import PAIRINGS
from protocols.language.errors import ConfigError, KeyholeError
from protocols.language.options import flag
from protocols.network.config import Labels, Scheme
from protocols.vertical_fe import Mode
from scenarios.run.catalogue import PROTOCOLS, find_scenario
from scenarios.run.execute import RecordTooLarge, check_size, execute
from scenarios.run.experiment import Experiment, Scenario, prepare
from scenarios.run.hosts import runtime_named
from scenarios.run.options import RUN_OPTIONS, Given, given_only
from scenarios.study import cost
from scenarios.study.comparison import (
    VARIANTS,
    comparison,
    extrapolated_row,
    failed_row,
    finished_row,
    ignored_notes,
    refused_row,
    run_name,
    write_comparison,
)
from scenarios.study.comparison_schema import Compared
from scenarios.study.study import Cell, Settings, Study, begun, carry_out

BUDGET_SECONDS = 180.0
_VALUES = {
    "plain_fe": (Scheme.LWE, Scheme.DDH),
    "vertical_fe": (Mode.QUADRATIC, Mode.FEDV),
}  # of the options in `VARIANTS`

_ALONE = "run it alone with `keyhole --debug run ...` for a traceback"

Watch = Callable[[Experiment], AbstractContextManager[Callable[[str, int], None]]]


@dataclass(frozen=True)
class Contender:
    """A scenario to be run, with the scheme or the mode that it is run with."""

    scenario: Scenario
    variant: Enum | None = None

    @property
    def name(self) -> str:
        """Such as `plain-fe lwe`."""
        return run_name(self.scenario.name, self.variant and self.variant.value)


@dataclass(frozen=True)
class Prepared:
    """A contender with its experiment, or why it cannot run; options it has no use for; what to note."""

    contender: Contender
    ignored: tuple[str, ...]
    experiment: Experiment | None = None
    refusal: KeyholeError | None = None
    note: str = ""

    @property
    def place(self) -> str:
        """Name of its cell and of its run folder."""
        return self.contender.name.replace(" ", "-")


def contenders(options: Given = MappingProxyType({})) -> tuple[Contender, ...]:
    """All protocols that train; those of which there are several under each scheme or mode, or the one that
    was asked for.
    """
    found = []
    for name in PROTOCOLS:
        scenario, asked = find_scenario(name), options.get(VARIANTS.get(name, ""))
        if scenario.task is not None:  # it trains nothing that could be set beside the others
            continue
        values: tuple[Any, ...] = _VALUES.get(name, (None,))
        chosen = (type(values[0])(asked),) if asked and name in _VALUES else values
        found += [Contender(scenario, each) for each in chosen]
    return tuple(found)


def compare(options: Given, budget: float, watch: Watch) -> tuple[Path, dict[str, Any]]:
    """Run every protocol and write the comparison; returns its folder and what compare.json holds.

    Raises what the first protocol refuses if all refuse their options; a protocol that alone fails is a row
    that says so, and is tried again when the comparison goes on.
    """
    if not budget >= 0:
        raise ConfigError("--budget must be a number of seconds, 0 to extrapolate everything that encrypts")
    folder, settings = begun("compare", options.get("out"), _settings(options, budget))
    seeded = {**options, "seed": settings["seed"]}
    prepared = [_prepared(contender, seeded) for contender in contenders(options)]
    refusals = [each.refusal for each in prepared if each.refusal is not None]
    if len(refusals) == len(prepared):
        raise refusals[0]
    cells = [Cell(each.place, compared, (each, folder, budget, watch)) for each in prepared]
    study = Study("compare", Compared, settings, cells, lasting=lambda rows: rows[0].status != "failed")
    with runtime_named(options.get("runtime") or "ray", options.get("address")):
        rows = carry_out(study, folder)
    notes = [
        each.note for each, row in zip(prepared, rows, strict=True) if each.note and row.status == "done"
    ]
    drawn = options.get("seed") is None
    if drawn:
        notes.insert(
            0, f"seed {settings['seed']} drawn for all runs: whoever knows it holds every key of them"
        )
    content = comparison(rows, [*notes, *ignored_notes(rows)], drawn)
    write_comparison(folder, content)
    return folder, content


def compared(each: Prepared, folder: Path, budget: float, watch: Watch) -> list[Compared]:
    """A cell: run a contender, or find out what it would cost; what goes wrong is its row's."""
    contender, experiment = each.contender, each.experiment
    if experiment is None:
        variant = contender.variant and contender.variant.value
        return [refused_row(contender.scenario.name, variant, str(each.refusal), each.ignored)]
    try:
        encrypts = "scheme" in experiment.protocol.describe(experiment.config)  # nothing else takes long
        estimate = _over_budget(experiment, budget) if encrypts else None
        if estimate is not None:
            why = f"not run: over the budget of {budget:g} s"
            return [extrapolated_row(experiment, estimate, why, each.ignored)]
        shutil.rmtree(folder / each.place, ignore_errors=True)  # half a run
        with watch(experiment) as observe:
            run, _ = execute(replace(experiment, out=folder / each.place), observe)
        return [finished_row(run, each.place, each.ignored)]
    except KeyholeError as cause:
        return [failed_row(experiment, " ".join(str(cause).split()), each.ignored)]
    except Exception as cause:  # a defect of ours: its text may hold values
        why = f"internal error: {type(cause).__name__}; {_ALONE}"
        return [failed_row(experiment, why, each.ignored)]


def failed(content: dict[str, Any]) -> bool:
    """Whether a run of the comparison failed."""
    return any(row["status"] == "failed" for row in content["rows"])


def _settings(options: Given, budget: float) -> Settings:
    """What decides a comparison, in plain data."""
    given = {name: value for name, value in given_only(options).items() if name not in ("out", "seed")}
    said = {name: value.value if isinstance(value, Enum) else str(value) for name, value in given.items()}
    return {**said, "budget": budget, "seed": options.get("seed")}


def _prepared(contender: Contender, options: Given) -> Prepared:
    """The experiment of a contender, without the options that it lacks."""
    lacking = _lacking(contender, options)
    kept = {**options, **dict.fromkeys(lacking), "out": None}
    if contender.variant is not None:
        kept[VARIANTS[contender.scenario.name]] = contender.variant
    # Who was to be corrupted may take no part in this protocol: then it is trained, and not attacked.
    attacking = ("corrupt", "attack") if kept.get("attack") else ("corrupt",)
    tries: list[tuple[str, ...]] = [(), attacking] if kept.get("corrupt") else [()]
    for left_out in tries:
        flags = _flags((*lacking, *left_out))
        try:
            experiment = prepare(contender.scenario, {**kept, **dict.fromkeys(left_out)})
            experiment, note = _recordable(experiment, contender.name)
            return Prepared(contender, flags, experiment, note=note)
        except KeyholeError as refusal:
            refused = Prepared(contender, flags, refusal=refusal)
    return refused


def _lacking(contender: Contender, options: Given) -> tuple[str, ...]:
    """Given options that would mean nothing to a contender."""
    has = contender.scenario.options()
    aliases = {each.about.alias for each in has.values()}
    lacking = [name for name in given_only(options) if name not in has and name not in aliases]
    protocol, split = contender.scenario.protocol, options.get("split")
    if split and Split(split).value not in protocol.SPLITS:
        lacking.append("split")
    if (options.get("owners") or 1) > 1 and not protocol.MANY_OWNERS:
        lacking.append("owners")
    if options.get("group") and "group" not in lacking and not _uses_group(contender, options):
        lacking.append("group")
    return tuple(lacking)


def _uses_group(contender: Contender, options: Given) -> bool:
    if contender.scenario.name == "mitig1":
        return options["group"] in PAIRINGS
    return contender.variant is Scheme.DDH or Labels(options.get("labels") or Labels.CLEAR) is Labels.FEBO


def _flags(names: Sequence[str]) -> tuple[str, ...]:
    order = [*RUN_OPTIONS, *names]
    return tuple(map(flag, sorted(names, key=order.index)))


def _recordable(experiment: Experiment, name: str) -> tuple[Experiment, str]:
    """With headers only where full transcripts would be large and nobody asked for them, and a note on it."""
    try:
        check_size(experiment)
    except RecordTooLarge:
        note = f"{name} keeps headers only: full transcripts are large (--record full keeps them)"
        return replace(experiment, record=Record.HEADERS), note
    return experiment, ""


def _over_budget(experiment: Experiment, budget: float) -> cost.Cost | None:
    """What the run costs if that is more than the budget: measured crudely, and better where too much."""
    crude = cost.crude_probe(experiment) if budget else None
    if crude and cost.total_seconds(crude, experiment) <= budget:
        return None
    measured = cost.probe(experiment, crude)
    return measured if cost.total_seconds(measured, experiment) > budget else None


if __name__ == "__main__":
    from scenarios.cli import script

    script("compare")
