"""A comparison on disk: compare.json, compare.csv and compare.png."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from protocols.language.errors import DataError
from scenarios.run.folder import free_path, write_json
from scenarios.show.chart import draw
from scenarios.show.summary import measure, value
from scenarios.study.comparison import PHASES, seen


def new_comparison(out: Path, content: dict[str, Any]) -> None:
    """Write the three files into a new or empty folder; `DataError` if it cannot be one."""
    write_comparison(free_path(out, "compare"), content)


def write_comparison(folder: Path, content: dict[str, Any]) -> None:
    """Write the three files into a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise DataError(f"{folder}: cannot be made: {cause.strerror}") from None
    write_json(folder / "compare.json", content)
    write_csv(folder / "compare.csv", content)
    draw(folder / "compare.png", content["rows"])


def write_csv(path: Path, content: dict[str, Any]) -> None:
    """A line a run; what has parts becomes a text."""
    lines = [csv_row(row) for row in content["rows"]]
    path.touch(mode=0o600)  # it names the seed, which gives every key of the runs
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def csv_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row flattened; empty where nothing is known."""
    edges = {f"{e['sender']} -> {e['receiver']}": e["bytes"] for e in row["edges"]}
    return {
        **{
            key: row[key]
            for key in ("name", "scenario", "protocol", "scheme", "status", "extrapolated", "security")
        },
        **{f"accuracy_{name}": row["accuracy"][name] for name in ("test", "train", "baseline_test")},
        **{f"seconds_{name}": row["seconds"][name] for name in PHASES},
        **{key: row[key] for key in ("steps", "messages", "bytes")},
        "bytes_by_edge": "; ".join(f"{edge} {nbytes}" for edge, nbytes in edges.items()),
        "in_the_clear": _listed(seen(row, "clear")),
        "solved_for": _listed(seen(row, "exact")),
        "attacks": "; ".join(f"{a['attack']} {outcome(a)}" for a in row["attacks"]),
        "ignored": " ".join(row["ignored"]),
        "seed": row["seed"],
        "run": row["run"],
        "why": row["why"],
    }


def outcome(attack: dict[str, Any]) -> str:
    """What an attack rebuilt, in its most telling measure."""
    if not attack["applicable"]:
        return "not applicable"
    how = measure(attack["metrics"])
    return f"{how} {value(attack['metrics'], how)}" if how else "nothing to score"


def _listed(by_party: dict[str, list[str]]) -> str:
    return "; ".join(f"{party}: {', '.join(things)}" for party, things in by_party.items())
