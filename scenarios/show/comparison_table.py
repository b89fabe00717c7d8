"""A comparison on a terminal: every figure is read from what compare.json holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from scenarios.show.summary import measure, outcome, share, size, value
from scenarios.show.tables import table
from scenarios.show.units import span
from scenarios.study.comparison import seen
from scenarios.study.leakage import SAID, table_of

_LETTERS = {"data_owner": "O", "key_authority": "A", "cloud_trainer": "C"}
_SAMPLES = "training samples"
_PRIVATE = (_SAMPLES, "labels", "master secret key")
_STYLES = {"extrapolated": "yellow", "incomplete": "yellow", "failed": "red"}
_HEAD = (
    "accuracy on test and training samples; baseline: test, trained without protection · "
    "set-up: processes, keys, encryption, upload · ~: extrapolated from measured steps"
)


def show_comparison(console: Console, content: dict[str, Any], folder: Path | None = None) -> None:
    """Print the figures of all runs, bytes by edge, who saw what, attacks, and what else to know."""
    rows = content["rows"]
    parts: list[RenderableType] = [
        Group(figures_table(rows, console.width), Text(_HEAD, style="dim")),
        Group(leakage_table(rows), Text(SAID, style="dim")),
        edges_table(rows),
    ]
    parts.append(Group(seen_table(rows), *(Text(line, style="dim") for line in by_design(rows))))
    if any(row["attacks"] for row in rows):
        parts.append(attacks_table(rows))
    if _notes(content):
        parts.append(Group(*map(Text, _notes(content))))
    for number, part in enumerate(parts):
        console.print(Padding(part, (min(number, 1), 0, 0, 2), expand=False), highlight=False)
    if folder is not None:
        console.print(
            f"\n  {folder}/   compare.json · compare.csv · compare.md · compare.png · leakage.png",
            highlight=False,
            soft_wrap=True,
        )


def figures_table(rows: list[dict[str, Any]], width: int) -> Table:
    """A line a run: security, accuracy, time, traffic."""
    counted = ("test", "train", "baseline", "set-up", "training", "a step", "steps", "messages", "bytes")
    found = table(
        ("protocol", "security", *(f">{name}" for name in counted)), (),
        "protocols side by side" if len(rows) > 1 else "a run", gap=2 if width >= 125 else 1,
    )  # fmt: skip
    for row in rows:
        mark = "~" if row["extrapolated"] else ""
        accuracy, times = row["accuracy"], row["seconds"]
        found.add_row(
            row["name"] + ("" if row["status"] == "done" else f"\n{row['status']}"), row["security"],
            *(share(accuracy[name]) for name in ("test", "train", "baseline_test")),
            *(marked(mark, span(times[name])) for name in ("setup", "train", "per_step")),
            "-" if row["steps"] is None else str(row["steps"]),
            "-" if row["messages"] is None else marked(mark, str(row["messages"])),
            "-" if row["bytes"] is None else marked(mark, size(row["bytes"])),
            style=_STYLES.get(row["status"], ""),
        )  # fmt: skip
    return found


def leakage_table(rows: list[dict[str, Any]]) -> Table:
    """What a run costs, and what each party can rebuild."""
    (first, *rest), lines = table_of(rows)
    numbers, roles = rest[:4], rest[4:]
    shown: list[tuple[RenderableType, ...]] = [
        (line[0].replace(" (", "\n(", 1), *line[1:5], *map(_coloured, line[5:])) for line in lines
    ]
    columns = (first, *(f">{name}" for name in numbers), *roles)
    return table(columns, shown, "cost, and what each party can rebuild")


def _coloured(text: str) -> Text:
    """Red where samples are read, yellow where they are constrained or nobody could tell."""
    how = text.partition(",")[0]
    read, open_ = ("clear", "exact", "up to", "determined"), ("bounded", "undecided", "not analysed")
    return Text(text, style="red" if how in read else "yellow" if how in open_ else "")


def edges_table(rows: list[dict[str, Any]]) -> Table:
    """Bytes from role to role."""
    edges = sorted({(edge["sender"], edge["receiver"]) for row in rows for edge in row["edges"]})
    heads = [">" + " -> ".join(_LETTERS.get(role, role) for role in edge) for edge in edges]
    lines = []
    for row in rows:
        nbytes = {(edge["sender"], edge["receiver"]): edge["bytes"] for edge in row["edges"]}
        mark = "~" if row["extrapolated"] else ""
        said = (marked(mark, size(nbytes[edge])) if edge in nbytes else "" for edge in edges)
        lines.append((row["name"], *said))
    title = "bytes by edge (O data owners, A key authority, C cloud trainer)"
    return table(("protocol", *heads), lines, title)


def seen_table(rows: list[dict[str, Any]]) -> Table:
    """What each party saw in the clear, and what it solved for; what was meant to stay private is red."""
    lines: list[tuple[RenderableType, ...]] = []
    for row in rows:
        clear, exact = seen(row, "clear"), seen(row, "exact")
        parties = list(dict.fromkeys((*clear, *exact)))
        for number, party in enumerate(parties):
            things = (_things(found.get(party, [])) for found in (clear, exact))
            lines.append(("" if number else row["name"], party, *things))
        if not parties:
            lines.append((row["name"], "-", "" if row["status"] == "failed" else "nothing", ""))
    columns = ("protocol", "party", "in the clear", "solved for")
    return table(columns, lines, "what each party saw (computed from its own view)")


def by_design(rows: list[dict[str, Any]]) -> list[str]:
    """What each protocol says of itself, with the names of the runs of which it holds."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if "protocol" in row["security_lines"]:
            names.setdefault(row["security_lines"]["protocol"], []).append(row["name"])
    return [f"{', '.join(of)}: {line}" for line, of in names.items()]


def attacks_table(rows: list[dict[str, Any]]) -> Table:
    """What each attack rebuilt in each run, beside the best guess in the same measure."""
    lines = [
        ("" if number else row["name"], attack["attack"].replace("_", "-"), ", ".join(attack["corrupted"]),
         str(attack["samples"]), outcome(attack), value(attack["guess"], measure(attack["metrics"])))
        for row in rows for number, attack in enumerate(row["attacks"])
    ]  # fmt: skip
    return table(("protocol", "attack", "corrupted", "samples", "rebuilt", "a guess"), lines, "attacks")


def measured_note(row: dict[str, Any]) -> str:
    """From which measurements a row is extrapolated."""
    cost, each = row["cost"], row["cost"]["step"]["each"]["seconds"]
    steps = ", ".join(
        f"{span(seconds)} with a batch of {one['batch']}"
        for one in cost["measured"]
        for seconds in one["step_seconds"][-1:]
    )
    widths = f"h = {row['config']['layers'][0]}, " if "layers" in row["config"] else ""
    size_of = f"{widths}n = {row['config']['features']}"
    linear = "" if len(cost["measured"]) > 1 else ", taken as linear in the batch: an upper end"
    return (
        f"{row['name']} is extrapolated to about {span(row['seconds']['total'])} ({row['why']}): "
        f"with {size_of} a step took {steps}, so {span(cost['step']['fixed']['seconds'])} + {span(each)} "
        f"a sample{linear}; uploading took "
        f"{span(cost['upload']['each']['seconds'])} a sample, set-up {span(cost['setup']['seconds'])}"
    )


def marked(mark: str, text: str) -> str:
    """A figure with its mark; a dash stays a dash."""
    return text if text == "-" else mark + text


def _notes(content: dict[str, Any]) -> list[str]:
    rows = content["rows"]
    failures = [f"{row['name']} failed: {row['why']}" for row in rows if row["status"] == "failed"]
    failures += [f"{row['name']} is {row['why']}" for row in rows if row["status"] == "incomplete"]
    return [*failures, *(measured_note(row) for row in rows if row["extrapolated"]), *content["notes"]]


def _things(things: list[str]) -> Text:
    text = Text()
    for number, thing in enumerate(things):
        text.append("; " if number else "")
        text.append(thing, style="red" if thing in _PRIVATE else "")
    return text
