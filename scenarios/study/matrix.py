"""The matrix of reverse homomorphic encryption: defences against attacks, accuracy beside the true positive
rate.

Every row is a cell of the study: an attack, by its one signature, on what an adversary sees of many owners'
heads. What its rates mean is in `scenarios.score.roc`. A row that does not apply says why and has no rate.

    none, relaxloss, dp    the head in the clear: `whitebox`, `whitebox_net` (unprotected only), `informed`
    rhe                    the server's view, nothing released: real ciphertexts of every victim and of
                           shadows, whose bytes the regression is given as it is given weights;
                           `control_tpr_01` is its rate on the same integers
    rhe_float              phe's floats: their exponents are in the clear
    rhe_decision           decisions are fed back: `blackbox`, and `oracle` by a malicious server
    rhe_logits             logits are fed back

`blackbox`, `oracle` and `logits` ask the integer head (`oracle: integer_head`), which decides exactly as
decrypted logits do. One victim is also asked `real_queries` through real ciphertexts: `real_equal` says
whether their logits are the same, `extrapolated_seconds` is the time that all queries would take.

`audited_epsilon` bounds the epsilon of a dp row from below at 95 %, by whether one sample took part in
training that was repeated `audited_runs` times with it and without it (`scenarios.score.epsilon`);
`audited_most` is the most that so many runs can show.

delta is N^-1.1, nearly vacuous with five samples (`protocols.network.dp`). What a DP row says is about these
attacks and these heads: that they fail is no proof that others do, and the rate that they have at a large
epsilon is within what it allows. It neither confirms nor refutes the paper's claim that DP-SGD fails, which
is about other bases, heads and a stronger attack.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from parties.adversary.attack import NotApplicable, Prior, Reconstruction
from parties.adversary.catalogue import find_attack
from parties.adversary.heads import blackbox, whitebox
from parties.adversary.heads.malleability import shifts_of
from parties.adversary.heads.shadows import rows_of, shadows_of
from protocols.network.head import Float
from scenarios.run.execute import Observe
from scenarios.run.folder import private_file, write_json
from scenarios.score.roc import SHIFTS, Trial, curve, rates, trial, trial_against
from scenarios.show.charts import draw_rates
from scenarios.show.pictures import GUESS, grid
from scenarios.show.tables import table
from scenarios.study.head_service import matrix_of
from scenarios.study.head_views import Defence, HeadViews, MatrixOptions, Seen
from scenarios.study.study import Cell, Settings, Study, carry_out, cell_path, plain_row, unseen, write_csv

_NULLS = 1000  # of all classes, at least
_IN_ONE_PER_CENT = 10  # nulls, below which a rate at 1 % is marked as coarse
_RANDOM = 1000  # heads of Gaussian weights
_PICTURED = 10
_SEED = 0  # of the attacks' own draws
_NOTED = ("queries", "agreement", "shadows")


@dataclass(frozen=True)
class HeadRow:
    """A defence against an attack. Rates are None where it does not apply; what some rows have is last."""

    defence: str
    attack: str
    accuracy: float
    queries: int
    seconds: float
    applicable: bool
    why: str
    tpr_at_fpr_01: float | None
    tpr_at_fpr_10: float | None
    auc: float | None
    interval_01: list[float] | None
    nulls: int
    interval_10: list[float] | None = None
    tpr_pooled_01: float | None = None
    positives: int | None = None
    nulls_of_a_class: int | None = None
    mse: float | None = None
    mse_null: float | None = None
    level: float | None = None
    epsilon: float | None = None
    delta: float | None = None
    audited_epsilon: float | None = None
    audited_most: float | None = None
    audited_runs: int | None = None
    sigma: float | None = None
    clip: float | None = None
    shadows: int | None = None
    tpr_gaussian_01: float | None = None
    control_tpr_01: float | None = None
    ciphertext_bytes: int | None = None
    encrypt_ms: float | None = None
    oracle: str | None = None
    victims: int | None = None
    agreement: float | None = None
    exact: bool | None = None
    real_queries: int | None = None
    real_equal: bool | None = None
    server_ms: float | None = None
    authority_ms: float | None = None
    extrapolated_seconds: float | None = None

    @property
    def name(self) -> str:
        """What it is called in pictures and tables."""
        defence = self.defence if self.epsilon is None else f"dp, epsilon {self.epsilon:g}"
        asked = f", {self.queries} queries" if self.queries else ""
        return f"{defence.replace('_', ' ')}: {self.attack.replace('_', '-')}{asked}"


def matrix(
    options: MatrixOptions, folder: Path, settings: Settings, observe: Observe = unseen
) -> dict[str, Any]:
    """Measure what the folder lacks of the matrix and write its files; returns what result.json holds."""
    views = HeadViews(options)
    cells = _cells(views, folder)
    rows = carry_out(Study("matrix", HeadRow, settings, cells), folder, observe=observe)
    return _written(views, folder, [cell.name for cell in cells], rows)


def row_count(options: MatrixOptions) -> int:
    """How many rows a matrix has."""
    return len(_cells(HeadViews(options), Path()))


def rates_table(content: dict[str, Any]) -> Table:
    """For the terminal; a rate in bold where it is above its false positive rate beyond the interval."""
    figures = "accuracy|TPR at FPR 1 %|95 %|one null for all|TPR at 10 %|AUC|nulls a class|queries|s".split(
        "|"
    )
    columns = ("defence", "attack", *(f">{name}" for name in figures))
    lines = [_cells_of(HeadRow(**row)) for row in content["matrix"]]
    found = table(columns, lines, _title(content["setting"]))
    if any(_coarse(HeadRow(**row)) for row in content["matrix"]):
        found.caption = f"* 1 % of a class's nulls is fewer than {_IN_ONE_PER_CENT} of them"
    return found


def _coarse(row: HeadRow) -> bool:
    """Whether one per cent of the nulls of a class is but a few of them."""
    return row.nulls_of_a_class is not None and row.nulls_of_a_class < 100 * _IN_ONE_PER_CENT


def _written(views: HeadViews, folder: Path, names: list[str], rows: list[HeadRow]) -> dict[str, Any]:
    """Write result.json, matrix.csv, roc.png and rebuilt.png."""
    setting, plain = _setting(views, rows), [plain_row(row) for row in rows]
    content = {
        "schema": 1, "scenario": "matrix", "protocol": "reverse_he", "seed": views.options.seed,
        "setting": setting, "matrix": plain,
    }  # fmt: skip
    write_json(folder / "result.json", content)
    write_csv(folder / "matrix.csv", [_flat(row) for row in plain])
    kept = {row.name: _kept(folder, name) for name, row in zip(names, rows, strict=True) if row.applicable}
    nulls = {row.name: row.nulls_of_a_class or row.nulls for row in rows}
    curves = {name: (arrays["allowed"], arrays["tpr"], nulls[name]) for name, arrays in kept.items()}
    draw_rates(folder / "roc.png", curves, _title(setting))
    shape = views.task.shape[:2] if views.task.shape[2:] == (1,) else views.task.shape
    named = {GUESS: _first(np.tile(_class_means(views), (len(views.truth), 1)))} | {
        name.replace(": ", "\n").replace(", ", "\n").replace("000 queries", "k queries"): arrays["images"]
        for name, arrays in kept.items()
    }
    grid(folder / "rebuilt.png", _first(views.truth[:, :, 0]), named, shape, heading=_title(setting))
    return content


@dataclass(frozen=True)
class Measured:
    """A row to be measured: the defence, the attack, what the adversary sees, and what else is said."""

    defence: str
    attack: str
    see: Callable[[], Seen]
    said: dict[str, Any] = field(default_factory=dict)
    besides: Callable[[HeadViews, Reconstruction], dict[str, Any]] = lambda views, rebuilt: {}


def _cells(views: HeadViews, folder: Path) -> list[Cell]:
    """The rows in order; each keeps its curve and pictures beside its file."""
    found: dict[str, Measured] = {}
    for defence in views.defences():
        name, kind = defence.name.replace(" ", "-"), defence.name.partition(" ")[0]
        see, null = partial(views.clear, defence), partial(against_random, defence)
        found[f"{name}-whitebox"] = Measured(kind, "whitebox", see, defence.said, null)
        if name == "none" and views.options.net:
            found["none-whitebox_net"] = Measured(kind, "whitebox_net", see)
        found[f"{name}-informed"] = Measured(
            kind, "informed", see, defence.said, partial(of_epsilon, defence)
        )
    found["rhe-whitebox"] = Measured("rhe", "whitebox", views.ciphertexts, besides=of_ciphertexts)
    for attack in ("exponents", "blackbox", "oracle", "logits"):
        found[f"rhe-{attack}"] = Measured("rhe", attack, views.nothing)
    found["rhe_float-exponents"] = Measured("rhe_float", "exponents", views.floats)
    fed_back = partial(Measured, "rhe_decision")
    for budget in views.options.queries:
        asked = partial(views.answering, budget)
        found[f"rhe_decision-blackbox-{budget}"] = fed_back("blackbox", asked, besides=of_queries)
    found["rhe_logits-logits"] = Measured("rhe_logits", "logits", views.logits)
    found["rhe_decision-oracle"] = fed_back("oracle", partial(views.answering, 0), besides=of_shifts)
    return [Cell(name, measured, (views, cell_path(folder, name, ".npz"), r)) for name, r in found.items()]


def measured(views: HeadViews, path: Path, row: Measured) -> list[HeadRow]:
    """A cell: the attack, its rates, what the row says besides; curve and images are kept in `path`."""
    start, seen, truth = time.perf_counter(), row.see(), views.truth
    try:
        if row.attack == "informed":
            rebuilt, truth = _of_every_class(views, seen), truth[:, :, :1]
        else:
            rebuilt = _solved(row.attack, seen, views.prior)
    except NotApplicable as why:
        return [_refused(row, seen, str(why))]
    images = _by_class(rebuilt, views)
    seconds, found = round(time.perf_counter() - start, 2), _trial(images, truth[: len(images)])
    allowed, tpr = curve(found)
    with private_file(path, binary=True) as file:
        np.savez_compressed(file, allowed=allowed, tpr=tpr, images=_first(images))
    more: dict[str, Any] = {"queries": 0, **rates(found), **row.said}
    more |= {name: rebuilt.notes[name] for name in _NOTED if name in rebuilt.notes}
    if more["queries"]:
        more |= {"oracle": "integer_head", "victims": len(images)}
    more |= row.besides(views, rebuilt)
    return [HeadRow(row.defence, row.attack, seen.accuracy, seconds=seconds, applicable=True, why="", **more)]


def against_random(defence: Defence, views: HeadViews, rebuilt: Reconstruction) -> dict[str, Any]:
    """The rate of the white box against Gaussian weights, the null of its paper."""
    shadows, rng = shadows_of(views.trained(defence)[0], views.prior), np.random.default_rng(_SEED)
    rows = rows_of(shadows.heads)
    drawn = rows.mean(0) + rows.std(0) * rng.standard_normal((_RANDOM, *rows.shape[1:]), dtype=np.float32)
    images = whitebox.rebuild(rows, shadows.images, drawn)
    found = rates(trial_against(_by_class(rebuilt, views), images, views.truth))
    return {"tpr_gaussian_01": found["tpr_at_fpr_01"], **of_epsilon(defence, views, rebuilt)}


def of_epsilon(defence: Defence, views: HeadViews, rebuilt: Reconstruction) -> dict[str, Any]:
    """For dp, what its epsilon is at the least, whatever was claimed."""
    return views.audited(defence) if "epsilon" in defence.said else {}


def of_ciphertexts(views: HeadViews, rebuilt: Reconstruction) -> dict[str, Any]:
    """The rate of the white box on the integers that the ciphertexts hold, and what these cost."""
    control = _by_class(_solved("whitebox", views.integers_seen(), views.prior), views)
    rate = rates(_trial(control, views.truth))["tpr_at_fpr_01"]
    elements, seconds = views.sealed
    each = round(1e3 * seconds / len(elements), 1)
    return {"control_tpr_01": rate, "ciphertext_bytes": elements.shape[1], "encrypt_ms": each}


def of_queries(views: HeadViews, rebuilt: Reconstruction) -> dict[str, Any]:
    """The black box on the first victim with a small budget, every query of it through ciphertexts."""
    if views.real.queries == 0:
        belief = blackbox.believe(shadows_of(views.unprotected[0], views.prior))
        service, rng = views.service(views.options.real_queries), np.random.default_rng(_SEED)
        assert service.features is not None
        own = views.task.own.images
        blackbox.extract(views.real, service.features, own, belief, service.budget, rng)
    return views.real.cost(rebuilt.notes["queries"])


def of_shifts(views: HeadViews, rebuilt: Reconstruction) -> dict[str, Any]:
    """Whether the integers are exact; and the hardest questions put to real ciphertexts."""
    service, rng, count = views.service(0), np.random.default_rng(_SEED), views.options.real_queries
    assert service.limits is not None
    rows = (rebuilt.per_sample["head"] * service.steps).reshape(-1, views.task.classes, len(service.limits))
    found = np.rint(rows - rows[:, :1]).astype(np.int64)
    true = np.stack([matrix_of(head) for head in views.integers[: len(found)]])
    columns = rng.integers(0, found.shape[2], count)
    rivals = rng.integers(1, found.shape[1], count)
    at = found[0, rivals, columns] - rng.integers(0, 2, count)
    real = views.fresh_service()
    real.shifted(columns, shifts_of(rivals, at, 2 * service.limits[columns], found.shape[1]))
    return {"exact": bool((found == true - true[:, :1]).all()), **real.cost(rebuilt.notes["queries"])}


def _solved(attack: str, seen: Seen, prior: Prior) -> Reconstruction:
    found = find_attack(attack)
    seen.relations.need(*found.CONSUMES)
    rebuilt: Reconstruction = found.solve(seen.relations, prior, np.random.default_rng(_SEED))
    return rebuilt


def _of_every_class(views: HeadViews, seen: Seen) -> Reconstruction:
    """The first image of every class, each by an adversary that knows all other samples."""
    shots, classes = views.options.shots, views.task.classes
    found = [_solved("informed", seen, views.knowing_all_but(c * shots)) for c in range(classes)]
    return replace(found[0], values=np.stack([each.values for each in found], axis=1))


def _by_class(rebuilt: Reconstruction, views: HeadViews) -> Float:
    """Images (V, k, n) of the first victims."""
    images: Float = rebuilt.values.reshape(-1, views.task.classes, rebuilt.values.shape[-1]).astype(
        np.float32
    )
    return images


def _refused(row: Measured, seen: Seen, why: str) -> HeadRow:
    """A row of an attack that does not apply."""
    nothing = dict.fromkeys(("tpr_at_fpr_01", "tpr_at_fpr_10", "auc", "interval_01"))
    return HeadRow(row.defence, row.attack, seen.accuracy, 0, 0.0, False, why, nulls=0, **nothing)


def _trial(images: Float, truth: Float) -> Trial:
    """Against as many other victims for each as give enough nulls."""
    wanted = -(-_NULLS // (truth.shape[0] * truth.shape[1]))
    return trial(images, truth, min(len(truth) - 1, max(SHIFTS, wanted)))


def _first(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images of the first victims, all classes of one after the other."""
    return images.reshape(-1, images.shape[-1])[:_PICTURED]


def _class_means(views: HeadViews) -> NDArray[np.float32]:
    """Images (k, n) that nothing but the adversary's own images gives: the mean of each class."""
    public, labels = views.prior.public, views.prior.public_labels
    assert public is not None and labels is not None
    return np.stack([public[labels == label].mean(0) for label in np.unique(labels)]).astype(np.float32)


def _setting(views: HeadViews, rows: Sequence[HeadRow]) -> dict[str, Any]:
    """What was measured, in plain data."""
    options, recipe, task = views.options, views.options.recipe, views.task
    return {
        "dataset": options.spec.name,
        "base": "trained on the public classes" if options.base is None else str(options.base),
        "classes": task.classes,
        "features": task.own.features.shape[1],
        "pixels": task.own.images.shape[1],
        "shots": options.shots,
        "victims": len(views.victims.labels),
        "shadows": options.shadows,
        "steps": recipe.steps,
        "lr": recipe.lr,
        "key_bits": options.key_bits,
        "chance": 1 / task.classes,
        "seed": options.seed,
        "seconds": round(sum(row.seconds for row in rows), 1),
    }


def _kept(folder: Path, name: str) -> dict[str, NDArray[Any]]:
    """The curve and the images of a cell."""
    with np.load(cell_path(folder, name, ".npz"), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _cells_of(row: HeadRow) -> list[RenderableType]:
    """A row as text."""
    defence, _, attack = replace(row, queries=0).name.partition(": ")
    defence += "" if row.delta is None else f", delta {row.delta:.2g}, audited > {row.audited_epsilon:.2g}"
    start: list[RenderableType] = [defence, attack, f"{row.accuracy:.3f}"]
    if row.interval_01 is None:
        return [*start, "not applicable", *[""] * 7]
    low, high = row.interval_01
    rate = f"{row.tpr_at_fpr_01:.3f}{'*' if _coarse(row) else ''}"
    marked = Text(rate, style="bold" if low > 0.01 else "")
    others = (f"{each:.3f}" for each in (row.tpr_pooled_01, row.tpr_at_fpr_10, row.auc))
    counts = (str(row.nulls_of_a_class or ""), str(row.queries or ""), f"{row.seconds:.1f}")
    return [*start, marked, f"{low:.3f} to {high:.3f}", *others, *counts]


def _title(s: dict[str, Any]) -> str:
    shots = f"{s['shots']} private image(s) a class"
    return (
        f"{s['dataset']}, {s['classes']} classes, {shots}, {s['victims']} victims, chance {s['chance']:.2f}"
    )


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row of matrix.csv: an interval as two columns."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        ends = value if isinstance(value, list) else (None, None)
        interval = {f"{name}_low": ends[0], f"{name}_high": ends[1]}
        flat |= interval if name.startswith("interval") else {name: value}
    return flat
