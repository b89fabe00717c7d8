"""Runs side by side, as data: compare.csv, compare.md, and compare.json, whose keys `comparison_schema.py`
documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from protocols.language.errors import DataError
from protocols.language.options import as_plain
from protocols.network.config import Scheme
from scenarios.run.experiment import Experiment
from scenarios.run.folder import RunFolder, load_run, write_json, write_text
from scenarios.run.learned import learned_rows
from scenarios.run.report import security
from scenarios.run.status import incomplete
from scenarios.show.charts import draw_comparison, draw_leakage
from scenarios.show.summary import meaning, outcome
from scenarios.study.comparison_schema import Compared
from scenarios.study.cost import Cost, counts, extrapolate
from scenarios.study.leakage import markdown, of_small_instance, rebuilt
from scenarios.study.probe import Amounts
from scenarios.study.study import Cell, Study, begun, carry_out, plain_row, write_csv

PHASES = ("setup", "train", "attack", "report", "total", "per_step")
VARIANTS = {"plain_fe": "scheme", "vertical_fe": "mode"}  # the option in which runs of one protocol are named
_UNKNOWN: dict[str, Any] = {
    "run": None,
    "why": "",
    "accuracy": dict.fromkeys(("test", "train", "baseline_test")),
    "seconds": dict.fromkeys(PHASES),
    "messages": None,
    "bytes": None,
    "edges": [],
    "learned": [],
    "rebuilt": [],
    "attacks": [],
    "ignored": [],
    "cost": None,
}
# Options in which runs are told apart, by what they say of; all else follows from the data or names files.
_COMPARED = {
    "data": ("name", "gray", "samples", "seed", "split", "features", "classes", "x_max", "counts"),
    "network": ("layers", "activation", "loss", "pixels", "init"),
    "training": ("batch", "epochs", "rounds", "per_round", "local_steps", "lr", "momentum", "optimizer"),
    "protection": ("weight_scale", "weight_bound", "labels", "gradient", "authority"),
    "run": ("runtime", "record"),
}


def finished_row(run: RunFolder, path: str, ignored: Sequence[str] = ()) -> Compared:
    """A row from the result of a run; `path` is where a reader finds it."""
    result = run.result
    seconds, steps = result["seconds"], result["steps"]
    per_step = seconds["train"] / (steps - 1) if steps > 1 else None  # `train` begins after the first step
    edges = _merged(result["traffic"])
    return Compared(
        **{
            **_UNKNOWN,
            **_named(result["scenario"], result["protocol"], result["security"], result["config"]),
            "status": "done",
            "extrapolated": False,
            "run": path,
            "config": result["config"],
            "seed": result["seed"],
            "accuracy": {name: result["accuracy"][name] for name in ("test", "train", "baseline_test")},
            "seconds": {**{name: seconds.get(name) for name in PHASES}, "per_step": per_step},
            "steps": steps,
            "messages": sum(edge["messages"] for edge in edges),
            "bytes": sum(edge["bytes"] for edge in edges),
            "edges": edges,
            "learned": [_without_data(item) for item in result["learned"]],
            "rebuilt": rebuilt(result["learned"], _roles(edges), len(result["config"]["counts"])),
            "attacks": [_attack(row) for row in result["attacks"]],
            "ignored": list(ignored),
        }
    )


def extrapolated_row(experiment: Experiment, cost: Cost, why: str, ignored: Sequence[str] = ()) -> Compared:
    """A row for a run that was not carried out, from what a few of its steps cost."""
    parts, steps = extrapolate(cost, experiment), experiment.steps
    setup, train = parts["setup"]["seconds"], parts["train"]["seconds"]
    edges = _edges(list(parts.values()))
    lines = learned_rows(of_small_instance(experiment, cost.clear))
    known = {"setup": setup, "train": train, "total": setup + train, "per_step": train / steps}
    return Compared(
        **{
            **_unfinished(experiment, "extrapolated", why, ignored),
            "seconds": {**dict.fromkeys(PHASES), **known},
            "messages": sum(edge["messages"] for edge in edges),
            "bytes": sum(edge["bytes"] for edge in edges),
            "edges": edges,
            "learned": [_without_data(item) for item in lines],
            "rebuilt": rebuilt(lines, _roles(edges), experiment.owners),
            "cost": cost.as_plain(counts(experiment)),
        }
    )


def failed_row(experiment: Experiment, why: str, ignored: Sequence[str] = ()) -> Compared:
    """A row for a run that failed."""
    return Compared(**_unfinished(experiment, "failed", why, ignored))


def refused_row(scenario: str, variant: str | None, why: str, ignored: Sequence[str] = ()) -> Compared:
    """A row for a run that was refused before it began."""
    scheme = variant if VARIANTS.get(scenario, "scheme") == "scheme" else None
    named = {"name": run_name(scenario, variant), "scheme": scheme, "security": "unknown"}
    rest = {"status": "failed", "extrapolated": False, "config": None, "seed": None, "steps": None}
    said = {"why": why, "ignored": list(ignored)}
    return Compared(**{**_UNKNOWN, **_named(scenario, scenario, {}, {}), **named, **rest, **said})


def run_name(scenario: str, variant: str | None) -> str:
    """Such as `plain-fe lwe`: the scheme, or whatever else there is a choice of, is named."""
    return " ".join(filter(None, (scenario.replace("_", "-"), variant)))


def comparison(
    compared: Sequence[Compared], notes: Sequence[str], seed_drawn: bool = False
) -> dict[str, Any]:
    """What compare.json holds. Rows of one name are told apart by their folders."""
    names = [row.name for row in compared]
    rows = [plain_row(row) for row in compared]
    for row in rows:
        row["name"] += f" ({row['run']})" if names.count(row["name"]) > 1 else ""
    differ = differences(rows)
    said = [*notes, *(f"{name} differs: {_spread(values)}" for name, values in differ.items())]
    return {"schema": 1, "seed_drawn": seed_drawn, "rows": rows, "differences": differ, "notes": said}


def stored_comparison(paths: Sequence[Path], out: Path | None = None) -> dict[str, Any]:
    """Finished runs side by side, with the files of it in a folder; `DataError` for what is no run."""
    folder, settings = (
        (None, {}) if out is None else begun("compare-runs", out, {"runs": list(map(str, paths))})
    )
    cells = [Cell(f"{i:02d}", stored, (path,)) for i, path in enumerate(paths)]
    content = comparison(carry_out(Study("compare-runs", Compared, settings, cells), folder), ())
    if folder is not None:
        write_comparison(folder, content)
    return content


def stored(path: Path) -> list[Compared]:
    """A cell: the row of a run that exists; of one that did not come to its end, what result.json has so far.

    Raises `DataError`, with how far it came, for a run without result.json.
    """
    run = load_run(path)
    stopped = incomplete(run)
    if stopped and not (run.path / "result.json").exists():
        raise DataError(f"{path}: {stopped}")
    row = finished_row(run, str(path))
    return [replace(row, status="incomplete", why=stopped) if stopped else row]


def write_comparison(folder: Path, content: dict[str, Any]) -> None:
    """compare.json, compare.csv, compare.md, compare.png and leakage.png; of pictures an SVG each."""
    write_json(folder / "compare.json", content)
    write_text(folder / "compare.md", markdown(content))
    write_csv(folder / "compare.csv", [csv_row(row) for row in content["rows"]])
    draw_comparison(folder / "compare.png", content["rows"])
    draw_leakage(folder / "leakage.png", content["rows"])


def csv_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row flattened; what has parts becomes a text."""
    named = ("name", "scenario", "protocol", "scheme", "status", "extrapolated", "security")
    edges = (f"{e['sender']} -> {e['receiver']} {e['bytes']}" for e in row["edges"])
    return {
        **{key: row[key] for key in named},
        **{f"accuracy_{name}": row["accuracy"][name] for name in ("test", "train", "baseline_test")},
        **{f"seconds_{name}": row["seconds"][name] for name in PHASES},
        **{key: row[key] for key in ("steps", "messages", "bytes")},
        "bytes_by_edge": "; ".join(edges),
        "rebuilt": "; ".join(f"{each['party']}: {each['how']} {each['of']}" for each in row["rebuilt"]),
        "in_the_clear": _listed(seen(row, "clear")),
        "solved_for": _listed(seen(row, "exact")),
        "attacks": "; ".join(f"{a['attack']} {outcome(a)}" for a in row["attacks"]),
        "ignored": " ".join(row["ignored"]),
        "seed": row["seed"],
        "run": row["run"],
        "why": row["why"],
    }


def differences(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For every option in which runs that have it differ, what it is in each of them."""
    configs = {row["name"]: {**row["config"], "seed_of_run": row["seed"]} for row in rows if row["config"]}
    found = {}
    for option in ("seed_of_run", *(name for names in _COMPARED.values() for name in names)):
        values = {name: config[option] for name, config in configs.items() if option in config}
        if any(value != next(iter(values.values())) for value in values.values()):
            found[_words(option)] = values
    return found


def ignored_notes(rows: Sequence[Compared]) -> list[str]:
    """`plain and mitig2 ignore --scheme`, an option each."""
    options = dict.fromkeys(option for row in rows for option in row.ignored)
    notes = []
    for option in options:
        names = [row.name for row in rows if option in row.ignored]
        notes.append(f"{_and(names)} {'ignores' if len(names) == 1 else 'ignore'} {option}")
    return notes


def seen(row: dict[str, Any], how: str) -> dict[str, list[str]]:
    """By party, what it saw in the clear (`clear`) or solved for (`exact`), in words."""
    found: dict[str, list[str]] = {}
    for item in row["learned"]:
        together = ", " in item["party"] and how == "clear"  # what crossed is listed where it arrived
        if item["how"] == how and not together:
            found.setdefault(item["party"], []).append(meaning(item["quantity"]))
    return found


def _unfinished(experiment: Experiment, status: str, why: str, ignored: Sequence[str]) -> dict[str, Any]:
    config = experiment.config
    return {
        **_UNKNOWN,
        **_named(
            experiment.scenario.name,
            experiment.scenario.protocol.NAME,
            security(experiment),
            as_plain(config),
        ),
        "status": status,
        "extrapolated": status == "extrapolated",
        "why": why,
        "config": {
            **experiment.as_plain()["data"],
            **as_plain(config),
            "runtime": experiment.runtime,
            "record": experiment.record.value,
            **{name: list(getattr(config, name)) for name in ("counts", "layers") if hasattr(config, name)},
        },
        "seed": experiment.seed,
        "steps": experiment.steps,
        "ignored": list(ignored),
    }


def _named(scenario: str, protocol: str, lines: dict[str, str], config: Mapping[str, Any]) -> dict[str, Any]:
    said = lines.get("scheme", "")
    scheme = said.replace(",", " ").split(" ")[0] or None
    chosen = scheme if scheme in {each.value for each in Scheme} else None
    variant = config.get(VARIANTS[scenario]) if scenario in VARIANTS else chosen
    return {"name": run_name(scenario, variant), "scenario": scenario, "protocol": protocol, "scheme": scheme,
            "security": short_security(lines), "security_lines": lines}  # fmt: skip


def short_security(lines: dict[str, str]) -> str:
    """Scheme, level and what keys leave of it, such as `lwe, 128 bit, 0 bit left`, or that there is none."""
    if "scheme" in lines:
        head = lines["scheme"].partition(":")[0]
        if head.endswith(" left"):
            return head
        level, bit, _ = lines["scheme"].partition(" bit")
        return level + bit
    return lines.get("protocol", "").partition(":")[0]


def _merged(traffic: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages and bytes between two roles, whatever their labels."""
    edges: dict[tuple[str, str], list[int]] = {}
    for row in traffic:
        edge = edges.setdefault((row["sender"], row["receiver"]), [0, 0])
        edge[0], edge[1] = edge[0] + row["messages"], edge[1] + row["bytes"]
    return [
        {"sender": s, "receiver": r, "messages": m, "bytes": b} for (s, r), (m, b) in sorted(edges.items())
    ]


def _edges(parts: Sequence[Amounts]) -> list[dict[str, Any]]:
    """The same from amounts."""
    traffic = []
    for edge in {key.partition(" ")[2] for amounts in parts for key in amounts} - {""}:
        sender, _, receiver = edge.partition(" -> ")
        messages, nbytes = (
            round(sum(a.get(f"{what} {edge}", 0) for a in parts)) for what in ("messages", "bytes")
        )
        traffic.append({"sender": sender, "receiver": receiver, "messages": messages, "bytes": nbytes})
    return _merged(traffic)


def _roles(edges: Sequence[dict[str, Any]]) -> list[str]:
    """Who takes part, by what was sent."""
    return list(dict.fromkeys(role for edge in edges for role in (edge["sender"], edge["receiver"])))


def _attack(row: dict[str, Any]) -> dict[str, Any]:
    guess = row["baseline"].get("guess", {})
    return {
        **{key: row[key] for key in ("attack", "corrupted", "applicable", "why", "samples", "metrics")},
        "guess": guess,
    }


def _without_data(item: dict[str, Any]) -> dict[str, Any]:
    return {key: item[key] for key in ("party", "quantity", "of", "how", "detail", "since_round")}


def _words(option: str) -> str:
    """An option as it is given on the command line."""
    names = {"seed_of_run": "--seed", "name": "--dataset", "seed": "the shuffle of the data",
             "features": "pixels of an image", "classes": "classes", "x_max": "largest pixel",
             "counts": "samples of each owner"}  # fmt: skip
    return names.get(option, f"--{option.replace('_', '-')}")


def _spread(values: dict[str, Any]) -> str:
    """`5 (plain, mitig2), 15 (plain-fe lwe)`."""
    groups: dict[str, list[str]] = {}
    for name, each in values.items():
        groups.setdefault(_brief(each), []).append(name)
    return "; ".join(f"{each} ({', '.join(names)})" for each, names in groups.items())


def _brief(each: Any) -> str:
    if isinstance(each, list):
        text = ",".join(map(str, each))
        return text if len(each) <= 4 else f"{len(each)} numbers, the first {each[0]}, {sum(each)} in all"
    return "none" if each is None else str(each)


def _listed(by_party: dict[str, list[str]]) -> str:
    return "; ".join(f"{party}: {', '.join(things)}" for party, things in by_party.items())


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
