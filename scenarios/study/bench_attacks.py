"""Figures of the attacks, by what the view holds: gradients, the changes of Z1, known samples, averages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from parties.adversary.adversary import Adversary
from protocols.network.config import Deviation, Gradient, Init
from scenarios.run.attacks import attack_run
from scenarios.run.controls import with_controls
from scenarios.run.folder import RunFolder
from scenarios.show.summary import measure, value, verdict
from scenarios.study.bench_tools import Figure, Run, Sizes

CLOUD = ("cloud_trainer",)
AUTHORITY = ("key_authority",)


def gradient(sizes: Sizes) -> Iterator[Figure]:
    """Gradients on digits defaults; and the authority's requests alone, by weight scale."""
    for mode in Gradient:
        options = {"gradient": mode, "epochs": sizes.epochs or 1, "runtime": "inline"}
        with Run("plain_fe", options) as (_, run, _result):
            row = _attacked(run, "gradient")
            notes = row["notes"]
            text = f"{_scored(row)}; {notes['solved_by_the_first_visit_of_the_batch']} of {row['samples']} by the first visit of their batch"
            yield Figure(
                "gradient", f"digits, gradient={mode.value}", text, "exact, first visit", row["metrics"]
            )
    for scale in (64, 256, 1024, 4096):
        options = {
            "gradient": Gradient.FE,
            "weight_scale": scale,
            "epochs": sizes.epochs or 3,
            "runtime": "inline",
        }
        with Run("plain_fe", options) as (_, run, _result):
            row = _attacked(run, "gradient", AUTHORITY)
            yield Figure("gradient", f"authority without ciphertexts, weight scale {scale}", _scored(row),
                         "falling: .067 / .032 / .012 / .0027", row["metrics"])  # fmt: skip


def gram(sizes: Sizes) -> Iterator[Figure]:
    """Inner products: MITIG1 after one update, by weight scale; MITIG2 over epochs, and the images from known samples."""
    for scale in (64, 1024, 10000):
        options: dict[str, Any] = {
            "samples": 64,
            "hidden": 16,
            "batch": 8,
            "lr": 0.5,
            "momentum": 0.0,
            "weight_scale": scale,
            "rounds": 2,
        }
        with Run("mitig1", options) as (_, run, _result):
            row = _attacked(run, "gram")
            stated = "<= 2 %" if scale == 10000 else ""
            yield Figure(
                "gram", f"MITIG1, two steps, weight scale {scale}", _scored(row), stated, row["metrics"]
            )
    for momentum in (0.9, 0.0):
        options = {"dataset": "mnist", "data_dir": sizes.data_dir / "mnist", "samples": sizes.samples or 1024, "hidden": 300, "batch": 64,
                   "epochs": 6, "momentum": momentum, "runtime": "inline"}  # fmt: skip
        with Run("mitig2", options) as (_, run, _result):
            for known, stated in ((0, "<= 0.1 %"), (100, "<= .020"), (256, "<= .006"), (784, "<= .002")):
                row = _attacked(run, "gram", known=known)
                what = f"MITIG2, MNIST, momentum {momentum}" + (f", {known} samples known" if known else "")
                yield Figure(
                    "gram", what, f"{_scored(row)} in {row['seconds']:.1f} s", stated, row["metrics"]
                )


def known(sizes: Sizes) -> Iterator[Figure]:
    """MITIG1 with known samples, real encryption: enough steps for keys of full rank."""
    options = {"samples": sizes.samples or 96, "hidden": 16, "batch": 16, "rounds": 6}
    with Run("mitig1", options) as (_, run, _result):
        for count, stated in ((61, ">= 0.95 of the pixels"), (20, "")):
            row = _attacked(run, "known_samples", known=count)
            text = f"{row['metrics'].get('exact_pixels', 0):.1%} of the pixels exact, {_scored(row)}"
            yield Figure("known", f"MITIG1, digits, {count} samples known", text, stated, row["metrics"])


def averages(sizes: Sizes) -> Iterator[Figure]:
    """Four owners: the updates that the authority sees, and the averages that an owner knows."""
    with Run("mitig2", {"owners": 4, "samples": sizes.samples or 400, "epochs": 6}) as (_, run, _result):
        yield _figure(run, "update", ("key_authority", "cloud_trainer"), "<= 1e-6 while samples <= h")
        yield _figure(run, "update", AUTHORITY, "the span only")
        yield _figure(run, "known_average", ("cloud_trainer", "data_owner:1"), "as plain FE with h equations")
        yield _figure(run, "known_average", CLOUD, "not applicable")


def noise(sizes: Sizes) -> Iterator[Figure]:
    """Every attack where the secrets are others: swapped samples, and a simulated view."""
    for name, scenario, options, corrupted, names, prior in _CONTROLLED:
        with Run(scenario, {**options, "runtime": "inline"}) as (_, run, _result):
            rows = attack_run(run, names, corrupted, run.prior(known=prior), Adversary)
            for row in with_controls(run, rows, run.prior(known=prior)):
                for control, scored in row.get("controls", {}).items():
                    how, won = measure(scored["metrics"]), scored["gain"]
                    interval = (
                        ""
                        if won is None
                        else f", gain {won['mean']:+.4f} [{won['interval'][0]:+.4f}, {won['interval'][1]:+.4f}]"
                    )
                    text = f"{how} {value(scored['metrics'], how)} (guess {value(row['baseline'].get('guess', {}), how)}){interval}: "
                    said = (
                        verdict(row, scored, how)
                        if scored["applicable"]
                        else f"not applicable: {scored['why']}"
                    )
                    yield Figure(
                        "noise", f"{name}, {row['attack']}, {control}", text + said, "no better", scored
                    )


_SMALL: dict[str, Any] = {"samples": 64, "hidden": 16, "batch": 16, "epochs": 3}
_MANY: dict[str, Any] = {**_SMALL, "owners": 4, "batch": 8, "epochs": 6}
_CONTROLLED: tuple[tuple[str, str, dict[str, Any], tuple[str, ...], tuple[str, ...], int], ...] = (
    ("plain FE", "plain_fe", {**_SMALL, "hidden": 32}, CLOUD,
     ("lp", "smooth", "tv", "stack", "smooth_stack", "master_key", "gradient", "labels", "authority"), 0),
    ("plain FE, malicious", "plain_fe", {**_SMALL, "malicious": Deviation.UNIT_KEYS}, CLOUD, ("unit_keys",), 0),
    ("plain FE, convolution", "plain_fe", {**_SMALL, "first": "conv:4x3x3"}, CLOUD, ("conv",), 0),
    ("MITIG1, 40 known", "mitig1", {"samples": 64, "hidden": 16, "batch": 16, "rounds": 4}, CLOUD, ("known_samples",), 40),
    ("MITIG2", "mitig2", {**_SMALL, "hidden": 48, "epochs": 8}, CLOUD, ("gram", "inversion"), 0),
    ("MITIG2, shared seed", "mitig2", {**_SMALL, "init": Init.SHARED}, CLOUD, ("known_init",), 0),
    ("MITIG2, 20 known", "mitig2", {**_SMALL, "hidden": 48, "epochs": 8}, CLOUD, ("gram",), 20),
    ("MITIG2, 4 owners", "mitig2", _MANY, CLOUD, ("collusion",), 0),
    ("MITIG2, 4 owners", "mitig2", _MANY, ("key_authority", "cloud_trainer"), ("update",), 0),
    ("MITIG2, 4 owners", "mitig2", _MANY, AUTHORITY, ("update",), 0),
)  # fmt: skip


def _figure(run: RunFolder, name: str, corrupted: Sequence[str], stated: str) -> Figure:
    row = _attacked(run, name, corrupted)
    return Figure(
        "averages",
        f"MITIG2, 4 owners, {name} by {' + '.join(corrupted)}",
        _scored(row),
        stated,
        row["metrics"],
    )


def _attacked(run: RunFolder, name: str, corrupted: Sequence[str] = CLOUD, known: int = 0) -> dict[str, Any]:
    (row,) = attack_run(run, [name], corrupted, run.prior(known=known), Adversary)
    return row


def _scored(row: dict[str, Any]) -> str:
    if not row["applicable"]:
        return f"not applicable: {row['why']}"
    how, guess = measure(row["metrics"]), row["baseline"].get("guess", {})
    exact = "" if how == "error" else f", mse {row['metrics'].get('mse', 0):.2g}"
    return f"{how} {value(row['metrics'], how)}{exact} (guess {value(guess, how)}), {row['samples']} samples"
