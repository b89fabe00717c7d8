"""Quantities in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def moment(phase: str, round_: int) -> str:
    """When a message crossed: a phase that is in no rounds (round -1) by its name alone."""
    return phase if round_ < 0 else f"{phase} {round_}"


def span(seconds: float | None) -> str:
    """A time in a readable unit."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms" if round(1000 * seconds) < 1000 else "1.0 s"
    for unit, length, limit in (("s", 1, 600), ("min", 60, 120 * 60), ("h", 3600, 48 * 3600)):
        if seconds < limit:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 86400:.1f} d"


def samples_in(config: Mapping[str, Any]) -> int:
    """Samples of a run, by the `config` of its result: those of all owners, or those of which each has
    columns.
    """
    columns = config.get("counts", ())[:1] if config.get("split") == "columns" else ()  # of earlier results
    return sum(config.get("column_samples") or columns or config.get("counts", ()))
