"""Quantities in words."""

from __future__ import annotations


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
