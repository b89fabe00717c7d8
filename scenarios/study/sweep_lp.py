"""Sweep `lp`, the paper's experiment: an image from one observation, by the width h and by the rows of the
program.

For each data set and width h one real run of plain FE (LWE), one training step long; the attacks see the
cloud's view of it. `lp` is repeated for each period of its smoothness rows; `smooth` and `tv`, which have
none, stand next to it.

Beside the files of a study the folder holds `runs/`, with every cell the images that it rebuilt, and at the
end sweep.json, sweep.csv, and for each data set the curves and two picture grids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from parties.adversary.adversary import attack_view
from parties.data.datasets import NAMES
from protocols.language.errors import ConfigError, DataError
from protocols.language.roles import CLOUD_TRAINER
from scenarios.run.attacks import guessed, scored
from scenarios.run.catalogue import find_scenario
from scenarios.run.execute import Observe
from scenarios.run.experiment import Experiment, prepare
from scenarios.run.folder import load_run, private_file, write_json
from scenarios.run.json_schema import plain
from scenarios.show.charts import draw_widths
from scenarios.show.pictures import COLUMNS, GUESS, grid
from scenarios.show.tables import table
from scenarios.study.study import (
    Cell,
    Study,
    begun,
    carry_out,
    cell_path,
    plain_row,
    run_in,
    unseen,
    workers,
    write_csv,
)

LONE = ("smooth", "tv")  # attacks without a period
NOTE = (
    "mse: mean squared error, pixels in [0, 1], 0 is best · guess: the best without the view · "
    "projection: a gray image corrected to fit the equations · ! failures among the images"
)
_LEAST_SAMPLES = 20  # in a run; at least as many as images are attacked
_ATTACK_SEED = 0  # none of these attacks draws


@dataclass(frozen=True)
class Grid:
    """What is swept; `seed` None draws one, or takes that of the folder in which the sweep was begun."""

    datasets: tuple[str, ...]
    hidden: tuple[int, ...]
    periods: tuple[int, ...]
    images: int
    data_dir: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        stems = [stem(dataset) for dataset in self.datasets]
        if not self.datasets or len(set(stems)) < len(stems):
            raise ConfigError(f"--datasets: expected different ones of {', '.join(NAMES)} and FILE.npz")

    def places(self) -> list[Place]:
        """All places, run by run."""
        attacks = [("lp", period) for period in self.periods] + [(name, None) for name in LONE]
        return [Place(d, h, attack, p) for d in self.datasets for h in self.hidden for attack, p in attacks]


@dataclass(frozen=True)
class Place:
    """One attack with one prior on one run; `period` None where the attack has none."""

    dataset: str
    hidden: int
    attack: str
    period: int | None

    @property
    def run(self) -> str:
        """Name of the run that is attacked."""
        return f"{stem(self.dataset)}-h{self.hidden}"

    @property
    def name(self) -> str:
        """Name of the cell's files."""
        return f"{self.run}-{self.attack}" + ("" if self.period is None else f"-period{self.period}")


@dataclass(frozen=True)
class LpRow:
    """A place and how close its images came: a line of sweep.csv. `seconds` are those of the whole attack."""

    dataset: str
    hidden: int
    attack: str
    period: int | None
    samples: int
    failures: int
    relaxed: int
    mse: float
    mse_median: float
    mse_first_quartile: float
    mse_third_quartile: float
    psnr: float | None
    ssim: float | None
    exact_pixels: float | None
    guess_mse: float
    swapped_mse: float
    projection_mse: float
    equations: int
    seconds: float
    seconds_per_image_median: float
    security: str


def stem(dataset: str) -> str:
    """A data set's name in the names of files."""
    return Path(dataset).stem


def sweep(
    asked: Grid, out: Path | None, runtime: str, processes: int, observe: Observe = unseen
) -> tuple[Path, dict[str, Any]]:
    """Fill in all cells that are missing and write the files; returns the folder and what sweep.json holds.

    `observe("run" | "cell", how many are finished)`. `ConfigError` for a folder that was begun with other
    options.
    """
    folder, settings = begun("sweep-lp", out, asdict(asked))
    swept = replace(asked, seed=settings["seed"])
    runs = {
        Place(d, h, "", None).run: _experiment(swept, d, h, runtime)
        for d in swept.datasets
        for h in swept.hidden
    }
    cells = [
        Cell(place.name, attacked, (str(folder.resolve()), place, swept.images)) for place in swept.places()
    ]
    study = Study("sweep-lp", LpRow, settings, cells, before=lambda watched: _train(folder, runs, watched))
    with workers(runtime, processes) as pool:
        rows = carry_out(study, folder, pool, observe)
    return folder, _written(swept, folder, [plain_row(row) for row in rows])


def attacked(folder: str, place: Place, images: int) -> list[LpRow]:
    """A cell: one attack on the cloud's view of the run, scored; its images are kept beside the row."""
    run = load_run(Path(folder) / "runs" / place.run)
    prior = replace(run.prior(place.period), limit=images)
    found = attack_view(run.view_sources((CLOUD_TRAINER.value,)), place.attack, prior, _ATTACK_SEED)
    if found.reconstruction is None:
        raise DataError(f"{place.name}: not applicable: {found.why}")
    rebuilt = {"index": found.reconstruction.index, "values": found.reconstruction.values.astype(np.float32)}
    if found.reconstruction.projection is not None:
        rebuilt["projection"] = found.reconstruction.projection.astype(np.float32)
    truth = run.truth()
    rebuilt["guess"] = guessed(found, prior, truth, COLUMNS).astype(np.float32)
    with private_file(cell_path(Path(folder), place.name, ".npz"), binary=True) as file:
        np.savez_compressed(file, **rebuilt)  # type: ignore[arg-type]
    return [_row(place, plain(scored(found, prior, truth)), run.result["security"]["scheme"])]


def load_images(folder: Path, place: Place) -> dict[str, np.ndarray[Any, Any]]:
    """`index` (m,), `values`, perhaps `projection` (m, n), and `guess` of the first, of a finished cell;
    pixels in [0, 1].
    """
    with np.load(cell_path(folder, place.name, ".npz"), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def errors_table(swept: dict[str, Any], dataset: str, rows: Sequence[dict[str, Any]]) -> Table:
    """The mean squared error of every cell of a data set: a row for each h."""
    names = [("lp", period) for period in swept["periods"]] + [(name, None) for name in LONE]
    found = {(row["hidden"], row["attack"], row["period"]): row for row in rows if row["dataset"] == dataset}
    lines = []
    for h in swept["hidden"]:
        mine = [found[(h, *name)] for name in names]
        cells = [_figure(row["mse"]) + (f" !{row['failures']}" if row["failures"] else "") for row in mine]
        baselines = (_figure(mine[0][f"{name}_mse"]) for name in ("projection", "guess"))
        lines.append((str(h), *cells, *baselines, mine[0]["security"]))
    heads = [f">lp {period}" if period else f">{name}" for name, period in names]
    columns = (">h", *heads, ">projection", ">guess", "protection")
    return table(columns, lines, f"{stem(dataset)}: mse, {swept['images']} images a cell")


def _experiment(swept: Grid, dataset: str, hidden: int, runtime: str) -> Experiment:
    """One training step of plain FE on as many samples as are attacked; the same ones for every width."""
    samples = max(_LEAST_SAMPLES, swept.images)
    in_files = swept.data_dir is not None and dataset in ("mnist", "cifar10")
    files = Path(swept.data_dir or ".") / dataset if in_files else None
    options = dict(
        dataset=dataset, data_dir=files, gray=dataset == "cifar10" or None, samples=samples, batch=samples,
        hidden=hidden, epochs=1, runtime=runtime, seed=swept.seed,
    )  # fmt: skip
    return prepare(find_scenario("plain_fe"), options)


def _train(folder: Path, runs: dict[str, Experiment], observe: Observe) -> None:
    for count, (name, experiment) in enumerate(runs.items(), start=1):
        run_in((folder / "runs" / name).resolve(), experiment)
        observe("run", count)


def _row(place: Place, row: dict[str, Any], security: str) -> LpRow:
    found, notes, baseline = row["metrics"], row["notes"], row["baseline"]
    first, third = found["mse_iqr"]
    return LpRow(
        **asdict(place), samples=row["samples"], failures=found["failures"], relaxed=notes["relaxed"],
        mse=found["mse"], mse_median=found["mse_median"], mse_first_quartile=first, mse_third_quartile=third,
        psnr=found.get("psnr"), ssim=found.get("ssim"), exact_pixels=found.get("exact_pixels"),
        guess_mse=baseline["guess"]["mse"],
        swapped_mse=baseline["swapped"]["mse"], projection_mse=baseline["projection"]["mse"],
        equations=notes["equations_per_sample"][0], seconds=row["seconds"],
        seconds_per_image_median=notes["seconds_per_image_median"], security=security.partition(":")[0],
    )  # fmt: skip


def _written(swept: Grid, folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Write the files of a finished sweep; returns what sweep.json holds."""
    content: dict[str, Any] = {
        "schema": 1,
        "sweep": "lp",
        "settings": asdict(swept),
        "note": "pixels in [0, 1]; whoever knows the seed holds every key of the runs",
        "rows": rows,
        "figures": [],
    }
    for dataset in swept.datasets:
        name = f"curves-{stem(dataset)}.png"
        draw_widths(folder / name, [row for row in rows if row["dataset"] == dataset], _title(swept, dataset))
        content["figures"] += [name, *_pictures(swept, folder, dataset)]
    write_json(folder / "sweep.json", content)
    write_csv(folder / "sweep.csv", rows)
    return content


def _pictures(swept: Grid, folder: Path, dataset: str) -> list[str]:
    """The picture grids of a data set: by width at one period, and by period at the smallest width."""
    narrow, period = min(swept.hidden), min(swept.periods, key=lambda p: abs(p - 4))
    by_hidden = [Place(dataset, h, a, p) for h in swept.hidden for a, p in (("lp", period), ("tv", None))]
    by_period = [Place(dataset, narrow, "lp", p) for p in swept.periods]
    by_period += [Place(dataset, narrow, name, None) for name in LONE]
    stemmed = f"pictures-{stem(dataset)}"
    figures = {
        f"{stemmed}-by-hidden.png": (
            {p: f"{p.attack} {p.period or ''}\nh = {p.hidden}" for p in by_hidden},
            f"lp with period {period}, and tv, by the width h",
        ),
        f"{stemmed}-by-period.png": (
            {p: f"lp, period\n{p.period}" if p.period else p.attack for p in by_period},
            f"h = {narrow}: by the period of lp, smooth and tv",
        ),
    }
    for name, (places, heading) in figures.items():
        _grid(folder, name, places, f"{_title(swept, dataset)}; {heading}")
    return list(figures)


def _grid(folder: Path, name: str, places: dict[Place, str], heading: str) -> None:
    """Originals, the guess, the projection where all rows are of one width, and a row for each place."""
    first = next(iter(places))
    stored = load_images(folder, first)
    shown = stored["index"][:COLUMNS]
    truth = load_run(folder / "runs" / first.run).truth()
    rows: dict[str, np.ndarray[Any, Any]] = {GUESS: stored["guess"]}
    if len({place.hidden for place in places}) == 1:
        rows["projection"] = stored["projection"][:COLUMNS]
    rows |= {title: load_images(folder, place)["values"][:COLUMNS] for place, title in places.items()}
    grid(folder / name, truth.pixels(shown), rows, truth.shape, heading=heading)


def _title(swept: Grid, dataset: str) -> str:
    what = "CIFAR-10, gray" if dataset == "cifar10" else "MNIST" if dataset == "mnist" else stem(dataset)
    return f"{what}, {swept.images} images, plain FE (LWE), one observation"


def _figure(mse: float) -> str:
    """Four digits, or the size of what these would show as 0; below 1e-12 is nothing but rounding."""
    return f"{mse:.4f}" if mse >= 5e-5 else "0" if mse < 1e-12 else f"{mse:.0e}"
