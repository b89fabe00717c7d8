"""What papers report, beside what is measured here.

A published figure is marked as published and comes with its source; it was not measured here. Where a paper's
figure is not at hand, or has no counterpart here, its cell is empty: none is estimated. Sizes fit two cores;
what a row was measured on stands beside it, and with `quick` it is digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from protocols.language.errors import ConfigError, DataError, KeyholeError
from scenarios.run.catalogue import find_scenario
from scenarios.run.execute import Observe
from scenarios.run.experiment import prepare
from scenarios.run.folder import free_path, write_json
from scenarios.run.options import Preset
from scenarios.run.report import PUBLISHED
from scenarios.show.tables import table
from scenarios.study.study import Cell, Study, carry_out, plain_row, read_json, run_in, unseen, write_csv

NAME = "reproduce"
_PAPER = PUBLISHED[Preset.PAPER]
_MNIST = "mnist"
Read = Callable[[Mapping[str, Any]], float | None]


@dataclass(frozen=True)
class Line:
    """A figure: what it is, in which unit, what the paper reports, and how it is read from result.json."""

    what: str
    unit: str
    published: str
    read: Read


@dataclass(frozen=True)
class Job:
    """A run and the figures that it gives: `full` options, and the `quick` ones."""

    name: str
    scenario: str
    full: Mapping[str, Any]
    quick: Mapping[str, Any]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Paper:
    """A paper, its runs, and what else to know of its figures."""

    source: str
    jobs: tuple[Job, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A figure beside the published one; `ours` is None where the run failed (`why`)."""

    run: str
    what: str
    unit: str
    published: str
    ours: float | None
    measured_on: str
    why: str | None = None


def _test(result: Mapping[str, Any]) -> float | None:
    found: float | None = result["accuracy"]["test"]
    return found


def _baseline(result: Mapping[str, Any]) -> float | None:
    found: float | None = result["accuracy"]["baseline_test"]
    return found


def _minutes(result: Mapping[str, Any]) -> float:
    return float(result["seconds"]["setup"] + result["seconds"]["train"]) / 60


def _query(result: Mapping[str, Any]) -> float:
    took = result["head"]["milliseconds"]
    return float(took["server"] + took["authority"])


def _agreement(result: Mapping[str, Any]) -> float:
    return float(result["head"]["argmax_agreement"])


def _of_attack(name: str, key: str, part: str = "metrics") -> Read:
    def read(result: Mapping[str, Any]) -> float | None:
        row = next(row for row in result["attacks"] if row["attack"] == name)
        metrics = row["metrics"] if part == "metrics" else row["baseline"].get(part, {})
        found: float | None = metrics.get(key)
        return found

    return read


_COMMON = {"runtime": "inline", "seed": 0, "no_audit": True, "record": "headers"}
_ATTACKED = {**_COMMON, "record": "full"}
_QUICK = {"preset": "quick"}
_ACCURACY = Line("accuracy on held-out samples", "", "", _test)
_BESIDE = Line("the same without protection", "", "", _baseline)
_TIME = Line("set-up and training", "minutes", "", _minutes)
_ONE = (  # the paper's attack on one observation, and what explains most of it
    Line("its attack on one observation (lp), mse", "", "", _of_attack("lp", "mse")),
    Line("a constant sample corrected to fit, mse", "", "", _of_attack("lp", "mse", "projection")),
    Line("mean of public samples, mse", "", "", _of_attack("lp", "mse", "guess")),
    Line("pixels right by all keys (stack)", "", "", _of_attack("stack", "exact_pixels")),
)
_HEAD = {**_ATTACKED, "key_bits": 2048}
_LOGITS = {"release": "logits", "attack": ("logits",), "corrupt": ("server",)}
_SMALL = (
    "quick: digits instead of the paper's data, and less training: the two columns are not to be compared"
)

PAPERS: MappingProxyType[str, Paper] = MappingProxyType({
    "ionita2025": Paper(
        _PAPER.source,
        (
            Job("mitig2", "mitig2", {**_COMMON, "preset": "paper"}, {**_COMMON, **_QUICK}, (
                replace(_ACCURACY, published=f"{_PAPER.accuracy:.3f}"),
                replace(_TIME, published=f"{_PAPER.minutes:g}"),
                _BESIDE,
            )),
            Job("mitig1", "mitig1", {**_COMMON, **_QUICK, "samples": 48, "epochs": 1},
                {**_COMMON, **_QUICK, "samples": 16, "hidden": 8, "epochs": 1}, (_TIME,)),
            Job("plain-fe", "plain_fe",
                {**_ATTACKED, "dataset": _MNIST, "samples": 2000, "epochs": 3, "attack": ("lp", "stack")},
                {**_ATTACKED, **_QUICK, "attack": ("lp", "stack")}, (_TIME, *_ONE)),
        ),
        (
            "its code divides summed gradients by 10 or 10 B, here the mean over the batch is taken; its "
            "number of epochs is not published (16 here)",
            "mitig1 is timed on digits: at the size of MNIST one epoch takes weeks",
        ),
    ),
    "allison2025": Paper(
        "Allison, Maciazek and Bourne, arXiv:2505.14323",
        (
            Job("nothing-released", "reverse_he", {**_HEAD, "dataset": _MNIST, "queries": 500},
                {**_HEAD, "queries": 40},
                (Line("a prediction, server and authority", "ms", "tens to hundreds", _query),
                 Line("decisions as of the head in float", "", "", _agreement), _ACCURACY, _BESIDE)),
            Job("logits-released", "reverse_he",
                {**_HEAD, **_LOGITS, "dataset": _MNIST, "queries": 500}, {**_HEAD, **_LOGITS, "queries": 200},
                (Line("training images from logits fed back, mse", "", "", _of_attack("logits", "mse")),
                 Line("mean of public samples of the class, mse", "", "",
                      _of_attack("logits", "mse", "guess")))),
        ),
        ("the paper's scheme is CKKS (TenSEAL, heads of up to three layers), ours Paillier on a linear head",
         "its true positive rates against defences: keyhole matrix"),
    ),
    "panzade2023": Paper(
        "Panzade and Takabi (FENet), IWSPA 2023",
        (
            Job("plain-fe", "plain_fe", {**_COMMON, "dataset": _MNIST, "samples": 10_000, "epochs": 2},
                {**_COMMON, **_QUICK}, (replace(_ACCURACY, published="0.95"), _BESIDE, _TIME)),
        ),
        ("FENet itself is not implemented: the run is plain FE as of NN-EMD; its 28 times (IPFE) and 2 times "
         "(FHIPE) less training time than earlier FE training have no counterpart here",),
    ),
})  # fmt: skip


def reproduce(
    name: str, out: Path | None, quick: bool = False, data_dir: Path | None = None, observe: Observe = unseen
) -> tuple[Path, dict[str, Any]]:
    """Run what a paper's table needs; returns the folder and what reproduce.json holds. What is finished in
    `out` is not run again.
    """
    if name not in PAPERS:
        raise ConfigError(f"{name}: no such paper; known: {', '.join(PAPERS)}")
    paper = PAPERS[name]
    settings = {"study": NAME, "paper": name, "quick": quick}
    if out is None or not (out / "settings.json").is_file():
        folder = free_path(out, f"{NAME}-{name}")
    elif read_json(out / "settings.json") != settings:
        raise ConfigError(f"{out}: begun with another paper or size; give another --out")
    else:
        folder = out
    cells = [Cell(job.name, _rows, (job, folder / job.name, quick, data_dir)) for job in paper.jobs]
    study = Study(NAME, Row, settings, cells, lasting=lambda rows: all(row.why is None for row in rows))
    rows = carry_out(study, folder, observe=observe)
    content: dict[str, Any] = {
        "schema": 1, **settings, "source": paper.source,
        "notes": [*([_SMALL] if quick else []), *paper.notes],
        "rows": [plain_row(row) for row in rows],
    }  # fmt: skip
    write_json(folder / "reproduce.json", content)
    write_csv(folder / "reproduce.csv", content["rows"])
    return folder, content


def _rows(job: Job, path: Path, quick: bool, data_dir: Path | None) -> list[Row]:
    options = dict(job.quick if quick else job.full)
    needs = options.get("dataset") == _MNIST or options.get("preset") == "paper"
    if needs and data_dir is not None:
        inside = data_dir / _MNIST
        options["data_dir"] = inside if inside.is_dir() else data_dir
    said = "MNIST" if needs else "digits"
    try:
        experiment = prepare(find_scenario(job.scenario), options)
        said += f", {sum(experiment.config.counts)} samples"
        result = run_in(path, experiment).result
        return [
            Row(job.name, line.what, line.unit, line.published, line.read(result), said) for line in job.lines
        ]
    except DataError as cause:
        why = f"{cause}; or --quick, on digits" if needs else str(cause)
    except KeyholeError as cause:
        why = str(cause)
    return [Row(job.name, line.what, line.unit, line.published, None, said, why) for line in job.lines]


def reproduced_table(content: Mapping[str, Any]) -> RenderableType:
    """Published figures beside ours."""
    lines = [
        (
            row["run"], row["what"], row["unit"],
            f"{row['published']} (published)" if row["published"] else "",
            "-" if row.get("ours") is None else f"{row['ours']:.4g}",
            row["measured_on"],
        )
        for row in content["rows"]
    ]  # fmt: skip
    columns = ("run", "figure", "unit", ">the paper", ">here", "measured here on")
    failed = dict.fromkeys(f"{row['run']}: {row['why']}" for row in content["rows"] if row.get("why"))
    told = [Text(line) for line in failed]
    notes = [f"published: {content['source']}; not measured here", *content["notes"]]
    return Group(table(columns, lines, content["paper"]), *told, *(Text(line, style="dim") for line in notes))


def failed(content: Mapping[str, Any]) -> bool:
    """Whether a run of it failed."""
    return any(row.get("why") for row in content["rows"])
