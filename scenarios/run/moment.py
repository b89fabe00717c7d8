"""When did it leak: the first message after which an attack succeeds, by bisection over the transcript.

An attack is run on the view as it was after a message, for about log2(messages) messages. What it can do
grows with the view, which the bisection takes for granted: a view holds everything that an earlier one did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parties.adversary.adversary import Adversary, Attacked
from parties.adversary.attack import Prior
from parties.record.view import Kind, Row
from scenarios.run.attacks import Scorer
from scenarios.run.folder import RunFolder

# What counts as success, the strictest that the attack on the whole view meets.
EXACT = "99 % of the pixels or labels exact"
CLOSE = "relative error at most 5 %"
HALF = "half the error of the prior's guess"
_SEED = 0

Met = Callable[[dict[str, Any]], bool]


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
    criterion, met = _criterion(row)
    if met is None:
        return {"criterion": "none met: the attack did not succeed", "any": None, "all": None}
    messages = [m for m in run.view(*row["corrupted"]).rows(None, Kind.SENT, Kind.RECEIVED)]
    adversary, seen = (
        Adversary(run.view_sources(tuple(row["corrupted"]))),
        dict[int, tuple[int, bool, bool]](),
    )

    def after(position: int) -> tuple[int, bool, bool]:
        if position not in seen:
            seen[position] = _after(adversary, row["attack"], prior, scorer, messages[position].seq, met)
        return seen[position]

    first = _bisect(len(messages), lambda position: after(position)[2])
    whole = _bisect(
        len(messages), lambda position: after(position)[1] and after(position)[0] >= row["samples"]
    )
    adversary.close()
    return {
        "criterion": criterion,
        "attacks_run": len(seen),
        "any": _message(messages, first),
        "all": _message(messages, whole),
    }


def _after(
    adversary: Adversary, name: str, prior: Prior, scorer: Scorer, seq: int, met: Met
) -> tuple[int, bool, bool]:
    """(samples rebuilt, success with them, success with one of them) on the view up to a message."""
    attacked: Attacked = adversary.attack(name, prior, _SEED, seq)
    if attacked.reconstruction is None:
        return 0, False, False
    scored = scorer.metrics(attacked.reconstruction)
    return (
        scored["samples"],
        met(scored),
        met(scored) or (met is _exact and scored.get("exact_images", 0) > 0),
    )


def _criterion(row: dict[str, Any]) -> tuple[str, Met | None]:
    metrics, guess = row["metrics"], row["baseline"].get("guess", {})
    if _exact(metrics):
        return EXACT, _exact
    if "relative_error" in metrics and metrics["relative_error"] <= 0.05:
        return CLOSE, lambda scored: bool(scored.get("relative_error", 1.0) <= 0.05)
    if "mse" in metrics and "mse" in guess and metrics["mse"] <= 0.5 * guess["mse"]:
        return HALF, lambda scored: bool(scored.get("mse", 1.0) <= 0.5 * guess["mse"])
    return "", None


def _exact(metrics: dict[str, Any]) -> bool:
    shares = (metrics.get(name, 0.0) for name in ("exact_pixels", "labels_right", "classes_right"))
    return bool(max(shares) >= 0.99)


def _bisect(count: int, holds: Callable[[int], bool]) -> int | None:
    """The first position from which on `holds`; None if it never does."""
    if not count or not holds(count - 1):
        return None
    low, high = -1, count - 1  # holds(high), and not holds(low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


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
