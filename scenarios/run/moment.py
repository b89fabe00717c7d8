"""When did it leak: the first message after which an attack succeeds, by bisection over the transcript.

An attack is run on the view as it was after a message, for about log2(messages) messages. What it can do
grows with the view, which the bisection takes for granted: a view holds everything that an earlier one did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from parties.adversary.adversary import Adversary, Attacked
from parties.adversary.attack import Prior
from parties.adversary.dates import first
from parties.record.view import Kind, Row
from scenarios.run.attacks import Scorer
from scenarios.run.folder import RunFolder

# What counts as success, the strictest that the attack on the whole view meets.
EXACT = "99 % of the pixels or labels exact"
SOME = "images exact in every pixel, of those that it rebuilt"
CLOSE = "relative error at most 5 %"
HALF = "half the error of the prior's guess"
_SEED = 0

Met = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True)
class Criterion:
    """In words, and whether metrics meet it with all samples of the whole view's attack, and with one."""

    words: str
    all: Met
    any: Met


def with_moments(run: RunFolder, rows: list[dict[str, Any]], prior: Prior) -> list[dict[str, Any]]:
    """Add to each applicable attack's row `first_success`: the first message that sufficed, for a sample and
    for all.
    """
    scorer = Scorer(run, prior)
    return [
        row | ({"first_success": _moments(run, row, prior, scorer)} if row["applicable"] else {})
        for row in rows
    ]


def _moments(run: RunFolder, row: dict[str, Any], prior: Prior, scorer: Scorer) -> dict[str, Any]:
    criterion = _criterion(row)
    if criterion is None:
        return {"criterion": "none met: the attack did not succeed", "any": None, "all": None}
    messages = [m for m in run.view(*row["corrupted"]).rows(None, Kind.SENT, Kind.RECEIVED)]
    adversary, seen = Adversary(run.view_sources(tuple(row["corrupted"]))), dict[int, tuple[bool, bool]]()

    def after(position: int) -> tuple[bool, bool]:
        if position not in seen:
            seq = messages[position].seq
            seen[position] = _after(adversary, row["attack"], prior, scorer, seq, criterion)
        return seen[position]

    one = first(len(messages), lambda position: after(position)[1])
    whole = first(len(messages), lambda position: after(position)[0])
    adversary.close()
    return {
        "criterion": criterion.words,
        "attacks_run": len(seen),
        "any": _message(messages, one),
        "all": _message(messages, whole),
    }


def _after(
    adversary: Adversary, name: str, prior: Prior, scorer: Scorer, seq: int, criterion: Criterion
) -> tuple[bool, bool]:
    """(success with all, success with one) on the view up to a message."""
    attacked: Attacked = adversary.attack(name, prior, _SEED, seq)
    if attacked.reconstruction is None:
        return False, False
    scored = scorer.metrics(attacked.reconstruction)
    return criterion.all(scored), criterion.any(scored)


def _criterion(row: dict[str, Any]) -> Criterion | None:
    metrics, guess, count = row["metrics"], row["baseline"].get("guess", {}), row["samples"]
    images = metrics.get("exact_images") or 0

    def some(scored: dict[str, Any], least: int = 1) -> bool:
        return (scored.get("exact_images") or 0) >= least

    def with_all(met: Met) -> Met:
        return lambda scored: scored["samples"] >= count and met(scored)

    if _exact(metrics):
        return Criterion(EXACT, with_all(_exact), lambda scored: _exact(scored) or some(scored))
    if images:
        return Criterion(f"{SOME}: {images} of {count}", lambda scored: some(scored, images), some)
    if "relative_error" in metrics and metrics["relative_error"] <= 0.05:
        close: Met = lambda scored: bool(scored.get("relative_error", 1.0) <= 0.05)  # noqa: E731
        return Criterion(CLOSE, with_all(close), close)
    if "mse" in metrics and "mse" in guess and metrics["mse"] <= 0.5 * guess["mse"]:
        half: Met = lambda scored: bool(scored.get("mse", 1.0) <= 0.5 * guess["mse"])  # noqa: E731
        return Criterion(HALF, with_all(half), half)
    return None


def _exact(metrics: dict[str, Any]) -> bool:
    shares = (metrics.get(name, 0.0) for name in ("exact_pixels", "labels_right", "classes_right"))
    return bool(max(shares) >= 0.99)


def _message(messages: list[Row], position: int | None) -> dict[str, Any] | None:
    if position is None:
        return None
    row = messages[position]
    return {
        "seq": row.seq,
        "phase": row.phase,
        "round": row.round,
        "sender": row.sender,
        "receiver": row.receiver,
        "label": row.label,
    }
