"""Figures of the attacks, by what the view holds: gradients, the changes of Z1, known samples, averages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from parties.adversary.adversary import Adversary
from protocols.network.config import Gradient, Init
from scenarios.run.attacks import attack_run
from scenarios.run.controls import with_controls
from scenarios.run.folder import RunFolder
from scenarios.show.summary import measure, outcome, value, verdict
from scenarios.study.bench_tools import Figure, Run, Sizes

CLOUD = ("cloud_trainer",)
AUTHORITY = ("key_authority",)
BOTH = ("key_authority", "cloud_trainer")


@dataclass(frozen=True)
class Asked:
    """An attack on a run: what its figure is called and meant to reach."""

    what: str
    attack: str
    stated: str
    corrupted: tuple[str, ...] = CLOUD
    known: int = 0


def gradient(sizes: Sizes) -> Iterator[Figure]:
    """Gradients on digits defaults; and the authority's requests alone, by weight scale."""
    inline = {"runtime": "inline"}
    for mode in Gradient:
        asked = Asked(f"digits, gradient={mode.value}", "gradient", "exact, first visit")
        yield from _attacks(
            "gradient", "plain_fe", {"gradient": mode, "epochs": sizes.epochs or 1, **inline}, asked
        )
    for scale in (64, 256, 1024, 4096):
        options = {"gradient": Gradient.FE, "weight_scale": scale, "epochs": sizes.epochs or 3, **inline}
        what = f"authority without ciphertexts, weight scale {scale}"
        asked = Asked(what, "gradient", "falling: .067 / .032 / .012 / .0027", AUTHORITY)
        yield from _attacks("gradient", "plain_fe", options, asked)


def gram(sizes: Sizes) -> Iterator[Figure]:
    """Inner products: MITIG1 after one update, by weight scale; MITIG2 over epochs, from known samples."""
    small = {"samples": 64, "hidden": 16, "batch": 8, "lr": 0.5, "momentum": 0.0, "rounds": 2}
    for scale, stated in ((64, ""), (1024, ""), (10000, "<= 2 %")):
        asked = Asked(f"MITIG1, two steps, weight scale {scale}", "gram", stated)
        yield from _attacks("gram", "mitig1", {**small, "weight_scale": scale}, asked)
    for momentum in (0.9, 0.0):
        options = {
            "dataset": "mnist", "data_dir": sizes.data_dir / "mnist", "samples": sizes.samples or 1024,
            "hidden": 300, "batch": 64, "epochs": 6, "momentum": momentum, "runtime": "inline",
        }  # fmt: skip
        name = f"MITIG2, MNIST, momentum {momentum}"
        goals = ((0, "<= 0.1 %"), (100, "<= .020"), (256, "<= .006"), (784, "<= .002"))
        asks = [
            Asked(name + (f", {k} samples known" if k else ""), "gram", goal, known=k) for k, goal in goals
        ]
        yield from _attacks("gram", "mitig2", options, *asks)


def known(sizes: Sizes) -> Iterator[Figure]:
    """MITIG1 with known samples, real encryption: enough steps for keys of full rank."""
    options = {"samples": sizes.samples or 96, "hidden": 16, "batch": 16, "rounds": 6}
    goals = ((61, ">= 0.95 of the pixels"), (20, ""))
    asks = [Asked(f"MITIG1, digits, {k} samples known", "known_samples", goal, known=k) for k, goal in goals]
    yield from _attacks("known", "mitig1", options, *asks)


def averages(sizes: Sizes) -> Iterator[Figure]:
    """Four owners: the updates that the authority sees, and the averages that an owner knows."""
    goals = (
        ("update", BOTH, "<= 1e-6 while samples <= h"),
        ("update", AUTHORITY, "the span only"),
        ("known_average", ("cloud_trainer", "data_owner:1"), "as plain FE with h equations"),
        ("known_average", CLOUD, "not applicable"),
    )
    asks = [
        Asked(f"MITIG2, 4 owners, {name} by {' + '.join(who)}", name, goal, who) for name, who, goal in goals
    ]
    options = {"owners": 4, "samples": sizes.samples or 400, "epochs": 6}
    yield from _attacks("averages", "mitig2", options, *asks)


def noise(sizes: Sizes) -> Iterator[Figure]:
    """Every attack where the secrets are others: swapped samples, and a simulated view."""
    for name, scenario, options, corrupted, names, count in _CONTROLLED:
        with Run(scenario, {**options, "runtime": "inline"}) as (_, run, _result):
            prior = run.prior(known=count)
            rows = attack_run(run, names, corrupted, prior, Adversary)
            for row in with_controls(run, rows, prior):
                for control, scored in row.get("controls", {}).items():
                    what = f"{name}, {row['attack']}, {control}"
                    yield Figure("noise", what, _controlled(row, scored), "no better", scored)


_SMALL: dict[str, Any] = {"samples": 64, "hidden": 16, "batch": 16, "epochs": 3}
_MANY: dict[str, Any] = {**_SMALL, "owners": 4, "batch": 8, "epochs": 6}
_CONTROLLED: tuple[tuple[str, str, dict[str, Any], tuple[str, ...], tuple[str, ...], int], ...] = (
    ("plain FE", "plain_fe", {**_SMALL, "hidden": 32}, CLOUD,
     ("lp", "smooth", "tv", "stack", "smooth_stack", "master_key", "gradient", "labels", "authority"), 0),
    ("plain FE, malicious", "plain_fe", {**_SMALL, "malicious": "unit_keys"}, CLOUD, ("unit_keys",), 0),
    ("plain FE, convolution", "plain_fe", {**_SMALL, "first": "conv:4x3x3"}, CLOUD, ("conv",), 0),
    ("MITIG1, 40 known", "mitig1", {"samples": 64, "hidden": 16, "batch": 16, "rounds": 4}, CLOUD,
     ("known_samples",), 40),
    ("MITIG2", "mitig2", {**_SMALL, "hidden": 48, "epochs": 8}, CLOUD, ("gram", "inversion"), 0),
    ("MITIG2, shared seed", "mitig2", {**_SMALL, "init": Init.SHARED}, CLOUD, ("known_init",), 0),
    ("MITIG2, 20 known", "mitig2", {**_SMALL, "hidden": 48, "epochs": 8}, CLOUD, ("gram",), 20),
    ("MITIG2, 4 owners", "mitig2", _MANY, CLOUD, ("collusion",), 0),
    ("MITIG2, 4 owners", "mitig2", _MANY, ("key_authority", "cloud_trainer"), ("update",), 0),
    ("MITIG2, 4 owners", "mitig2", _MANY, AUTHORITY, ("update",), 0),
)  # fmt: skip


def _controlled(row: dict[str, Any], scored: dict[str, Any]) -> str:
    """What an attack made of a control, beside a guess."""
    how, won = measure(scored["metrics"]), scored["gain"]
    interval = (
        "" if won is None else ", gain {:+.4f} [{:+.4f}, {:+.4f}]".format(won["mean"], *won["interval"])
    )
    guess = value(row["baseline"].get("guess", {}), how)
    applies = scored["applicable"]
    said = verdict(row, scored, how) if applies else f"not applicable: {scored['why']}"
    return f"{how} {value(scored['metrics'], how)} (guess {guess}){interval}: {said}"


def _attacks(bench: str, scenario: str, options: dict[str, Any], *asks: Asked) -> Iterator[Figure]:
    """A figure of each attack on one run."""
    with Run(scenario, options) as (_, run, _result):
        for asked in asks:
            row = _attacked(run, asked)
            yield Figure(bench, asked.what, _scored(row), asked.stated, row["metrics"])


def _attacked(run: RunFolder, asked: Asked) -> dict[str, Any]:
    prior = run.prior(known=asked.known)
    (row,) = attack_run(run, [asked.attack], asked.corrupted, prior, Adversary)
    return row


def _scored(row: dict[str, Any]) -> str:
    if not row["applicable"]:
        return f"not applicable: {row['why']}"
    metrics, how = row["metrics"], measure(row["metrics"])
    mse = f", mse {metrics['mse']:.2g}" if "mse" in metrics and how != "mse" else ""
    first = row["notes"].get("solved_by_the_first_visit_of_the_batch")
    visit = "" if first is None else f"; {first} by the first visit of their batch"
    guess = value(row["baseline"].get("guess", {}), how)
    return f"{outcome(row)}{mse} (guess {guess}), {row['samples']} samples{visit} in {row['seconds']:.1f} s"
