"""`report.html`: what a run says, on one page that needs no network.

What moves when its slider or its switch is moved is computed here, and drawn by the server; the script of the
page chooses among it. All text that comes out of a run folder may be a stranger's: jinja2 escapes it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from protocols.language.errors import KeyholeError
from scenarios.page import drawing
from scenarios.page.answer import answer, named
from scenarios.page.recording import headline as headline_of_recording
from scenarios.page.recording import of_recording
from scenarios.page.timeline import Crossing, crossings, moments
from scenarios.run.catalogue import find_protocol
from scenarios.run.folder import RunFolder, private_file
from scenarios.run.learned import told_first
from scenarios.run.manifest import stored_hash
from scenarios.run.status import incomplete
from scenarios.show.summary import headline, meaning, outcome, plural, protection, share, size, why_not, worth
from scenarios.show.units import span

NAME = "report.html"
_LARGEST_SPRITE = 4 << 20  # bytes of a picture that a page takes in
_CURVES = 12
_STRONG = ("clear", "exact")


def write_report(run: RunFolder, others: Sequence[RunFolder] = (), path: Path | None = None) -> Path:
    """Write the page of a run, or of several, and return where it is."""
    target = run.path / NAME if path is None else path
    with private_file(target) as file:
        file.write(page([run, *others]))
    return target


def page(runs: Sequence[RunFolder]) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("scenarios.page", "."),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": size, "share": share, "span": span, "meaning": meaning, "named": named, "why_not": why_not
    }  # fmt: skip
    shown = [_shown(run, k) for k, run in enumerate(runs)]
    return environment.get_template("report.html.j2").render(runs=shown, drawing=drawing)


def _shown(run: RunFolder, number: int) -> dict[str, Any]:
    result = of_recording(run) if run.recorded else run.result
    rows = result["learned"]
    told = told_first(rows)
    at = moments(run, [row["since_round"] for row in rows if row["since_round"] is not None])
    crossed = crossings(run, at)
    data = {
        "steps": [moment.step for moment in at],
        "messages": [each.messages for each in crossed],
        "bytes": [each.nbytes for each in crossed],
        "ends": [[each.sender, each.receiver] for each in crossed],
    }
    return {
        "id": f"run{number}",
        "name": run.path.name,
        "headline": headline_of_recording(run) if run.recorded else headline(result),
        "answer": answer(result),
        "incomplete": incomplete(run) or "",
        "result": result,
        "protection": protection(result),
        "parties": list(dict.fromkeys(row["party"] for row in rows)),
        "learned": [{**row, "shown": row["how"] in _STRONG} for row in told],
        "covered": plural(len(rows) - len(told), "line") if len(told) < len(rows) else "",
        "attacks": [_attack(run, row) for row in result["attacks"]],
        "diagram": drawing.diagram(crossed, _notes(run)),
        "crossed": crossed,
        "curves": [*_ranks(rows), *_accuracies(result)],
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        "last": len(at) - 1,
        "steps": plural(result["steps"], "step"),
        "manifest": stored_hash(run) or "none",
        "config": {name: _value(value) for name, value in result["config"].items()},
        "traffic": _traffic(crossed),
    }


def _value(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 80 else f"{text[:77]}..."


def _traffic(crossed: Sequence[Crossing]) -> str:
    messages, nbytes = (sum(getattr(each, name)[-1] for each in crossed) for name in ("messages", "nbytes"))
    return f"{size(nbytes)} in {plural(messages, 'message')}"


def _notes(run: RunFolder) -> dict[tuple[str, str, str, str], str]:
    """The formulas beside arrows; none where the protocol is a file that is not here."""
    try:
        return {arrow.key: arrow.note for arrow in find_protocol(run.result["protocol"]).FIGURE}
    except KeyholeError:
        return {}


def _attack(run: RunFolder, row: dict[str, Any]) -> dict[str, Any]:
    """A row with its sprite as a data URL, and the step from which on it succeeds, if that is known."""
    when = (row.get("first_success") or {}).get("all")
    solved = row["metrics"].get("solved_at_step") if when is None else when["round"]
    return {
        **row, "outcome": outcome(row), "solved": solved, "sprite": sprite_of(run, row.get("sprite")),
        "who": ", ".join(row["corrupted"]), "worth": worth(row),
    }  # fmt: skip


def sprite_of(run: RunFolder, name: Any) -> dict[str, Any] | None:
    """A sprite with its picture as a data URL `url`: one of the run's own folder of figures, or None."""
    if not isinstance(name, dict) or Path(str(name["file"])).parts[:-1] != ("figures",):
        return None
    path = run.path / name["file"]
    if path.is_symlink() or path.resolve().parent != run.path.resolve() / "figures" or not path.is_file():
        return None
    if path.stat().st_size > _LARGEST_SPRITE:
        return None
    return {**name, "url": "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()}


def _ranks(rows: Sequence[dict[str, Any]]) -> list[drawing.Curve]:
    found = []
    for row in rows:
        points, unknowns = row["data"].get("curve"), row["data"].get("unknowns")
        if points and unknowns:
            xs, ys = [point[0] for point in points], [point[1] for point in points]
            said = f"rank {ys[0]} at step {xs[0]}, {ys[-1]} of {unknowns} at step {xs[-1]}"
            found.append(drawing.curve("rank of what it holds", row["party"], xs, ys, unknowns, said))
    return list(dict.fromkeys(found))[:_CURVES]


def _accuracies(result: dict[str, Any]) -> list[drawing.Curve]:
    by_epoch = result["accuracy"]["test_by_epoch"] if "accuracy" in result else ()
    values = [value for value in by_epoch if value is not None]
    if len(values) < 2:
        return []
    each = result["steps"] / len(values)
    said = f"{values[0]:.3f} after the first epoch, {values[-1]:.3f} after the last"
    xs = [each * (k + 1) - 1 for k in range(len(values))]
    return [drawing.curve("accuracy on held-out samples", "", xs, values, 1.0, said)]
