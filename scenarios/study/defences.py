"""`keyhole sweep defences`: each defence next to none, on small real runs: what it costs in accuracy, and what is still recovered.

Runs of a group share data, seed and training; a defence is the only difference, or, where it only shows with more epochs or
another place for the labels, so is what the row's name says. Attacks are taken by name from the catalogue; one that it does not
have is left out and named in `missing`.
"""

from __future__ import annotations

import csv
import secrets
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from parties.adversary.adversary import Adversary
from parties.adversary.catalogue import ATTACKS
from parties.record.transcript import Kind
from protocols.language.errors import DataError
from protocols.network.config import Labels
from scenarios.run.attacks import attack_run
from scenarios.run.catalogue import find_scenario
from scenarios.run.execute import execute, runtime_named
from scenarios.run.experiment import Options, prepare
from scenarios.run.folder import RunFolder, free_path, write_json
from scenarios.show.summary import measure, value

Observe = Callable[[str, int], None]
SCHEMA = 1
CLOUD = ("cloud_trainer",)
BOTH = ("key_authority", "cloud_trainer")


@dataclass(frozen=True)
class Attack:
    """An attack to run on every row of a group."""

    name: str
    corrupted: tuple[str, ...] = CLOUD
    known: int = 0

    @property
    def title(self) -> str:
        """Name, who is corrupted if it is not the cloud alone, and what is known."""
        who = (
            ""
            if self.corrupted == CLOUD
            else f" ({' + '.join(name.partition('_')[0] for name in self.corrupted)})"
        )
        return self.name.replace("_", "-") + who + (f", {self.known} known" if self.known else "")


@dataclass(frozen=True)
class Group:
    """Runs of one scenario that differ in their defence; a row is (defences, further options)."""

    name: str
    scenario: str
    options: dict[str, Any]
    rows: tuple[tuple[tuple[str, ...], dict[str, Any]], ...]
    attacks: tuple[Attack, ...]
    learned: tuple[tuple[str, ...], ...] = field(default=(CLOUD,))  # whose knowledge of samples is told


_NONE: tuple[tuple[str, ...], dict[str, Any]] = ((), {})
_OWNER: dict[str, Any] = {"labels": Labels.OWNER}

# 64 pixels and h = 16: three visits leave a batch with 48 equations a sample, four with as many as pixels.
GROUPS = (
    Group(
        "plain_fe", "plain_fe", {"samples": 480, "hidden": 16, "batch": 16, "epochs": 3, "lr": 0.1},
        (_NONE, (("key_budget:16",), {}), (("key_budget:32",), {}), (("key_budget:48",), {}), (("fresh_keys",), {}), (("batch_keys",), {}),
         ((), {"epochs": 6}), (("batch_keys",), {"epochs": 6}), (("batch_keys", "key_budget:48"), {"epochs": 6})),
        (Attack("stack"), Attack("master_key"), Attack("smooth_stack"), Attack("gradient")),
    ),
    Group(
        "mitig2", "mitig2", {"samples": 480, "hidden": 48, "batch": 16, "epochs": 10},
        (_NONE, (("noise:1",), {}), (("noise:10",), {}), (("noise:100",), {}), (("reshuffle",), {}),
         (("u_shaped",), {}), (("unlinkable",), _OWNER)),
        (Attack("gram"), Attack("gram", known=40), Attack("labels")),
    ),
    Group(
        "mitig2, owners", "mitig2", {"samples": 480, "owners": 4, "hidden": 48, "batch": 16, "epochs": 5},
        (_NONE, (("secure_aggregation",), {})),
        (Attack("update", ("key_authority",)), Attack("update", BOTH)),
        (("key_authority",), BOTH),
    ),
)  # fmt: skip


def sweep_defences(
    out: Path | None,
    runtime: str,
    seed: int | None,
    observe: Observe = lambda event, value: None,
    groups: tuple[Group, ...] = GROUPS,
) -> dict[str, Any]:
    """Run every row, write defences.json and defences.csv, and return the content of the first.

    `observe("row", number)` is told before each run. Without a seed one is drawn for all runs, and noted.
    """
    drawn = secrets.randbits(64) if seed is None else seed
    folder = free_path(out, "defences")
    rows: list[dict[str, Any]] = []
    with nullcontext() if runtime == "inline" else runtime_named(runtime, None):
        for group in groups:
            for defences, extra in group.rows:
                observe("row", len(rows))
                rows.append(_row(group, defences, extra, folder / f"{len(rows):02d}", runtime, drawn))
    wanted = {attack.name for group in groups for attack in group.attacks}
    content = {
        "schema": SCHEMA, "sweep": "defences", "dataset": "digits", "runtime": runtime, "seed": drawn, "seed_drawn": seed is None,
        "folder": str(folder), "missing": sorted(wanted - set(ATTACKS)), "rows": rows,
    }  # fmt: skip
    _write(folder, content)
    return content


def row_count(groups: tuple[Group, ...] = GROUPS) -> int:
    """How many runs a sweep takes."""
    return sum(len(group.rows) for group in groups)


def _row(
    group: Group, defences: tuple[str, ...], extra: dict[str, Any], out: Path, runtime: str, seed: int
) -> dict[str, Any]:
    options = Options(**{**group.options, **extra}, runtime=runtime, seed=seed, defence=defences)
    run, result = execute(replace(prepare(find_scenario(group.scenario), options), out=out))
    return {
        "group": group.name,
        "scenario": group.scenario,
        "defence": list(defences),
        "options": {
            name: getattr(option, "value", option) for name, option in {**group.options, **extra}.items()
        },
        "also": [f"{name} {getattr(option, 'value', option)}" for name, option in extra.items()],
        "accuracy": {name: result["accuracy"][name] for name in ("test", "train", "baseline_test")},
        "seconds": result["seconds"]["total"],
        "bytes": sum(edge["bytes"] for edge in result["traffic"]),
        "refusals": sum(1 for _ in run.view(*run.sources).rows("refused", Kind.SENT)),
        "learned": _learned(result, group.learned),
        "attacks": [_attacked(run, attack) for attack in group.attacks if attack.name in ATTACKS],
        "run": out.name,
    }


def _learned(result: dict[str, Any], coalitions: tuple[tuple[str, ...], ...]) -> list[dict[str, Any]]:
    """What some coalitions know of training images, as the run itself says."""
    wanted = {frozenset(parties) for parties in coalitions}
    names = ("party", "of", "how", "detail", "since_round")
    return [
        {name: item[name] for name in names}
        for item in result["learned"]
        if item["quantity"] == "samples" and frozenset(item["party"].split(", ")) in wanted
    ]


def _attacked(run: RunFolder, attack: Attack) -> dict[str, Any]:
    (row,) = attack_run(run, [attack.name], attack.corrupted, run.prior(known=attack.known), Adversary)
    return {
        "title": attack.title,
        **{
            name: row[name]
            for name in ("attack", "corrupted", "applicable", "why", "samples", "seconds", "metrics")
        },
        "baseline": row["baseline"],
        "known": attack.known,
        "outcome": _outcome(row),
    }


def _outcome(row: dict[str, Any]) -> str:
    """What an attack rebuilt, in its most telling measure."""
    if not row["applicable"]:
        return "not applicable"
    if "relative_error" in row["metrics"]:
        return f"relative error {row['metrics']['relative_error']:.2%}"
    how = measure(row["metrics"])
    return f"{how} {value(row['metrics'], how)}" if how else "nothing to score"


def defences_table(content: dict[str, Any]) -> Table:
    """The sweep as a table: accuracy, and what each attack still recovers."""
    table = Table(
        "protocol",
        "defence",
        "test",
        "learned of images",
        "attacks",
        "seconds",
        box=None,
        padding=(0, 2, 0, 0),
    )
    group = None
    for row in content["rows"]:
        first, group = row["group"] != group, row["group"]
        table.add_row(
            row["group"].replace("_", "-") if first else "",
            _named(row),
            "-" if row["accuracy"]["test"] is None else f"{row['accuracy']['test']:.3f}",
            "\n".join(f"{item['how']}: {item['detail']}" for item in row["learned"]) or "-",
            "\n".join(f"{attack['title']}: {_recovered(attack)}" for attack in row["attacks"]) or "-",
            f"{row['seconds']:.1f}",
        )
    if content["missing"]:
        table.caption = f"not in the catalogue: {', '.join(content['missing'])}"
    return table


def _named(row: dict[str, Any]) -> str:
    name = ", ".join(row["defence"]).replace("_", "-") or "none"
    return name + (f" ({', '.join(row['also'])})" if row["also"] else "")


def _recovered(attack: dict[str, Any]) -> str:
    """An attack's mean squared error too, where it rebuilt images that its best guess is put beside."""
    mse, guess = attack["metrics"].get("mse"), attack["baseline"].get("guess", {}).get("mse")
    said: str = attack["outcome"]
    if mse is None or guess is None:
        return said
    return (
        f"mse {mse:.4f} (a guess {guess:.4f})"
        if said.startswith("mse")
        else f"{said}, mse {mse:.4f} (a guess {guess:.4f})"
    )


def _write(folder: Path, content: dict[str, Any]) -> None:
    """defences.json, and defences.csv with a line for each attack on each run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise DataError(f"{folder}: cannot be made: {cause.strerror}") from None
    write_json(folder / "defences.json", content)
    path = folder / "defences.csv"
    path.touch(mode=0o600)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("group", "defence", "also", "accuracy_test", "accuracy_unprotected", "seconds", "bytes", "refusals",
                         "attack", "corrupted", "known", "applicable", "outcome", "mse", "guess_mse", "why"))  # fmt: skip
        for row in content["rows"]:
            writer.writerows(_lines(row))


def _lines(row: dict[str, Any]) -> list[tuple[Any, ...]]:
    run = (row["group"], " ".join(row["defence"]), " ".join(row["also"]), row["accuracy"]["test"],
           row["accuracy"]["baseline_test"], row["seconds"], row["bytes"], row["refusals"])  # fmt: skip
    blank: tuple[Any, ...] = ("",) * 8
    return [
        (*run, a["attack"], " ".join(a["corrupted"]), a["known"], a["applicable"], a["outcome"], a["metrics"].get("mse"),
         a["baseline"].get("guess", {}).get("mse"), a["why"])
        for a in row["attacks"]
    ] or [(*run, *blank)]  # fmt: skip
