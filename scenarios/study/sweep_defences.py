"""`keyhole sweep defences`: each defence next to none, on small real runs: what it costs, and what is still
recovered.

Runs of a group share data, seed and training; a defence is the only difference, or, where it only shows with
more epochs or another place for the labels, so is what the row's name says. Attacks are taken by name from
the catalogue; one that it does not have is left out and named in `missing`. A run is a cell of the study.
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from parties.adversary.adversary import Adversary
from parties.adversary.catalogue import ATTACKS
from protocols.language.view import Kind
from protocols.network.config import Labels, Optimizer
from scenarios.run.attacks import attack_run
from scenarios.run.catalogue import find_scenario
from scenarios.run.execute import Observe, execute
from scenarios.run.experiment import prepare
from scenarios.run.folder import RunFolder, write_json
from scenarios.run.hosts import runtime_named
from scenarios.show.summary import outcome
from scenarios.show.tables import table
from scenarios.study.study import Cell, Study, begun, carry_out, plain_row, unseen, write_csv

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
        who = " + ".join(name.partition("_")[0] for name in self.corrupted)
        alone = "" if self.corrupted == CLOUD else f" ({who})"
        return self.name.replace("_", "-") + alone + (f", {self.known} known" if self.known else "")


@dataclass(frozen=True)
class Group:
    """Runs of one scenario that differ in their defence; a row is (defences, further options)."""

    name: str
    scenario: str
    options: dict[str, Any]
    rows: tuple[tuple[tuple[str, ...], dict[str, Any]], ...]
    attacks: tuple[Attack, ...]
    learned: tuple[tuple[str, ...], ...] = field(default=(CLOUD,))  # whose knowledge of samples is told


@dataclass(frozen=True)
class DefenceRow:
    """A run: what its defence costs, what coalitions learned of images, what every attack still rebuilds."""

    group: str
    scenario: str
    defence: list[str]
    options: dict[str, Any]
    also: list[str]
    accuracy: dict[str, float | None]
    seconds: float
    bytes: int
    refusals: int
    learned: list[dict[str, Any]]
    attacks: list[dict[str, Any]]
    run: str


_NONE: tuple[tuple[str, ...], dict[str, Any]] = ((), {})
_OWNER: dict[str, Any] = {"labels": Labels.OWNER}
_ADAM: dict[str, Any] = {"optimizer": Optimizer.ADAM, "lr": 0.01}

# 64 pixels and h = 16: three visits leave a batch with 48 equations a sample, four with as many as pixels.
GROUPS = (
    Group(
        "plain_fe", "plain_fe", {"samples": 480, "hidden": 16, "batch": 16, "epochs": 3, "lr": 0.1},
        (_NONE, (("key_budget:16",), {}), (("key_budget:32",), {}), (("key_budget:48",), {}),
         (("fresh_keys",), {}), (("batch_keys",), {}), ((), {"epochs": 6}), (("batch_keys",), {"epochs": 6}),
         (("batch_keys", "key_budget:48"), {"epochs": 6})),
        (Attack("stack"), Attack("master_key"), Attack("smooth_stack"), Attack("gradient")),
    ),
    Group(
        "mitig2", "mitig2", {"samples": 480, "hidden": 48, "batch": 16, "epochs": 10},
        (_NONE, (("noise:1",), {}), (("noise:10",), {}), (("noise:100",), {}), (("reshuffle",), {}),
         (("u_shaped",), {}), (("unlinkable",), _OWNER)),
        (Attack("gram"), Attack("gram", known=40), Attack("labels"), Attack("label_clusters")),
    ),
    # 12 visits are 352 equations on the 140 inner products of a sample: more than enough.
    Group(
        "mitig2, whole pixels", "mitig2", {"samples": 140, "hidden": 32, "batch": 16, "epochs": 12},
        (_NONE, (("dither:0.001",), {}), (("dither:0.01",), {}), (("dither:0.5",), {}),
         (("augment:1",), {}),
         (("revisit_budget:2",), {}), (("revisit_budget:5",), {}), (("revisit_budget:8",), {}),
         (("noise:1",), {}), ((), _ADAM)),
        (Attack("lattice_gram"), Attack("gram_public"), Attack("gram"), Attack("gram", known=40)),
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
    observe: Observe = unseen,
    groups: tuple[Group, ...] = GROUPS,
) -> dict[str, Any]:
    """Run every row, write defences.json and defences.csv, and return the content of the first.

    Without a seed one is drawn for all runs, and noted.
    """
    asked = {"groups": [group.name for group in groups], "runtime": runtime, "seed": seed}
    folder, settings = begun("defences", out, asked, seed_bits=64)
    grid = [(group, *row) for group in groups for row in group.rows]
    cells = [
        Cell(f"{i:02d}", defended, (*place, folder / f"{i:02d}", runtime, settings["seed"]))
        for i, place in enumerate(grid)
    ]
    with nullcontext() if runtime == "inline" else runtime_named(runtime, None):
        rows = carry_out(Study("defences", DefenceRow, settings, cells), folder, observe=observe)
    wanted = {attack.name for group in groups for attack in group.attacks}
    content = {
        "schema": 1, "sweep": "defences", "dataset": "digits", "runtime": runtime, "seed": settings["seed"],
        "seed_drawn": seed is None, "folder": str(folder), "missing": sorted(wanted - set(ATTACKS)),
        "rows": [plain_row(row) for row in rows],
    }  # fmt: skip
    write_json(folder / "defences.json", content)
    write_csv(folder / "defences.csv", [line for row in rows for line in _lines(row)])
    return content


def run_count(groups: tuple[Group, ...] = GROUPS) -> int:
    """How many runs a sweep takes."""
    return sum(len(group.rows) for group in groups)


def defended(
    group: Group, defences: tuple[str, ...], extra: dict[str, Any], out: Path, runtime: str, seed: int
) -> list[DefenceRow]:
    """A cell: one run and the attacks on it."""
    shutil.rmtree(out, ignore_errors=True)  # half a run
    options = dict(**{**group.options, **extra}, runtime=runtime, seed=seed, defence=defences)
    run, result = execute(replace(prepare(find_scenario(group.scenario), options), out=out))
    said = {name: getattr(option, "value", option) for name, option in {**group.options, **extra}.items()}
    return [
        DefenceRow(
            group=group.name,
            scenario=group.scenario,
            defence=list(defences),
            options=said,
            also=[f"{name} {said[name]}" for name in extra],
            accuracy={name: result["accuracy"][name] for name in ("test", "train", "baseline_test")},
            seconds=result["seconds"]["total"],
            bytes=sum(edge["bytes"] for edge in result["traffic"]),
            refusals=sum(1 for _ in run.view(*run.sources).rows("refused", Kind.SENT)),
            learned=_learned(result, group.learned),
            attacks=[_attacked(run, attack) for attack in group.attacks if attack.name in ATTACKS],
            run=out.name,
        )
    ]


def defences_table(content: dict[str, Any]) -> Table:
    """The sweep as a table: accuracy, and what each attack still recovers."""
    lines, before = [], None
    for row in content["rows"]:
        first, before = row["group"] != before, row["group"]
        lines.append(
            (
                row["group"].replace("_", "-") if first else "",
                _named(row),
                "-" if row["accuracy"]["test"] is None else f"{row['accuracy']['test']:.3f}",
                "\n".join(f"{item['how']}: {item['detail']}" for item in row["learned"]) or "-",
                "\n".join(f"{attack['title']}: {_recovered(attack)}" for attack in row["attacks"]) or "-",
                f"{row['seconds']:.1f}",
            )
        )
    found = table(("protocol", "defence", ">test", "learned of images", "attacks", ">seconds"), lines)
    if content["missing"]:
        found.caption = f"not in the catalogue: {', '.join(content['missing'])}"
    return found


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
    names = ("attack", "corrupted", "applicable", "why", "samples", "seconds", "metrics", "baseline")
    kept = {name: row[name] for name in names}
    return {"title": attack.title, **kept, "known": attack.known, "outcome": outcome(row)}


def _named(row: dict[str, Any]) -> str:
    name = ", ".join(row["defence"]).replace("_", "-") or "none"
    return name + (f" ({', '.join(row['also'])})" if row["also"] else "")


def _recovered(attack: dict[str, Any]) -> str:
    """An attack's mean squared error too, where it rebuilt images that its best guess is put beside."""
    mse, guess = attack["metrics"].get("mse"), attack["baseline"].get("guess", {}).get("mse")
    said: str = attack["outcome"]
    if mse is None or guess is None:
        return said
    beside = f"mse {mse:.4f} (a guess {guess:.4f})"
    return beside if said.startswith("mse") else f"{said}, {beside}"


def _lines(row: DefenceRow) -> list[dict[str, Any]]:
    """A line for each attack on a run; one without an attack where there is none."""
    run = {
        "group": row.group, "defence": " ".join(row.defence), "also": " ".join(row.also),
        "accuracy_test": row.accuracy["test"], "accuracy_unprotected": row.accuracy["baseline_test"],
        "seconds": row.seconds, "bytes": row.bytes, "refusals": row.refusals,
    }  # fmt: skip
    attacks = [
        {"attack": a["attack"], "corrupted": " ".join(a["corrupted"]), "known": a["known"],
         "applicable": a["applicable"], "outcome": a["outcome"], "mse": a["metrics"].get("mse"),
         "guess_mse": a["baseline"].get("guess", {}).get("mse"), "why": a["why"]}
        for a in row.attacks
    ]  # fmt: skip
    return [{**run, **attack} for attack in attacks or [{}]]
