"""What each party of a run can rebuild of others' samples, beside what the run costs: one table, in words.

The strongest line of the ledger for each party alone; of many owners the first stands for all. Of a run that
was extrapolated there is no ledger: what crossed in the clear is known of its measured steps, the rest is
what an audit of a small instance says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from parties.adversary.attack import STRENGTH, Learned
from protocols.language.roles import DATA_OWNER, party_name
from scenarios.run.determined import with_audit
from scenarios.run.experiment import Experiment
from scenarios.run.learned import QUANTITIES
from scenarios.show.summary import share, size
from scenarios.show.units import span

_SAMPLES = dict(QUANTITIES)["samples"]
_LETTERS = {"cloud_trainer": "cloud", "key_authority": "authority", "data_owner": "an owner"}
_NONE = "nothing found"
SAID = (
    "seconds: set-up and training; ~: extrapolated from real steps; parties: samples of others, by the "
    "strongest line of the ledger for each alone"
)


def rebuilt(learned: Iterable[dict[str, Any]], roles: Iterable[str], owners: int) -> list[dict[str, Any]]:
    """The strongest line of each party alone about samples that are not its own, and one for each role that
    has none: a single owner holds all.
    """
    of_others = [line for line in learned if line["how"] != "own" and ", " not in line["party"]]
    parties = list(dict.fromkeys(line["party"] for line in of_others))
    silent = [role for role in roles if not any(party.partition(":")[0] == role for party in parties)]
    found = []
    for party in [*parties, *silent]:
        mine = [each for each in of_others if each["party"] == party and each["quantity"] in _SAMPLES]
        line = max(mine, key=_most, default=None)
        alone = party.partition(":")[0] == DATA_OWNER.value and owners == 1
        said = line or {"how": "own" if alone else _NONE, "of": "", "detail": "", "since_round": None}
        found.append({"party": party, **{key: said[key] for key in ("how", "of", "detail", "since_round")}})
    return found


def of_small_instance(experiment: Experiment, clear: Sequence[Learned]) -> list[Learned]:
    """What crossed in the clear in a few steps, and what an audit adds for each party alone."""
    found: list[Learned] = []
    for role in experiment.roles:
        name = party_name(role, 0) if role is DATA_OWNER else role.value
        mine = [line for line in clear if line.party == name]
        lines = (
            mine if experiment.no_audit else with_audit(experiment.scenario, experiment.config, (name,), mine)
        )
        alone = role is DATA_OWNER and experiment.owners == 1  # there are no others
        if not alone and not any(line.quantity in _SAMPLES and line.how != "own" for line in lines):
            why = "nothing was run, and no audit" if experiment.no_audit else (
                "an audit of a small instance determines none; that is no proof of more, and nothing was run"
            )  # fmt: skip
            lines = [*lines, Learned(name, "samples", "others", "undecided", why, None)]
        found += lines
    return found


def table_of(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Names of the columns, and the lines: accuracy, seconds and bytes, then what each role rebuilds."""
    roles = list(dict.fromkeys(_role(each) for row in rows for each in row["rebuilt"]))
    roles.sort(key=lambda role: (list(_LETTERS).index(role) if role in _LETTERS else -1, role))
    heads = ["protocol", "accuracy", "in the clear", "seconds", "bytes"]
    lines = []
    for row in rows:
        mark = "~" if row["extrapolated"] else ""
        mine = {_role(each): _in_words(each) for each in reversed(row["rebuilt"])}
        accuracy, total = row["accuracy"], cost_seconds(row)
        ran = {"done": "", "extrapolated": " (extrapolated)"}.get(row["status"], f" ({row['status']})")
        lines.append([
            row["name"] + ran, share(accuracy["test"]), share(accuracy["baseline_test"]),
            "-" if total is None else mark + span(total),
            "-" if row["bytes"] is None else mark + size(row["bytes"]),
            *(mine.get(role, "-") for role in roles),
        ])  # fmt: skip
    return [*heads, *(_LETTERS.get(role, role.replace("_", " ")) for role in roles)], lines


def cost_seconds(row: dict[str, Any]) -> float | None:
    """Seconds of set-up and training, without the ledger and attacks that follow."""
    parts = [row["seconds"][name] for name in ("setup", "train")]
    return None if None in parts else sum(parts)


def markdown(content: dict[str, Any]) -> str:
    """compare.md: the table, and what else to know."""
    heads, lines = table_of(content["rows"])
    rows = [heads, ["---"] * len(heads), *lines]
    table = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    why = [f"{row['name']}: {row['why']}" for row in content["rows"] if row["why"]]
    return "\n".join([*table, "", SAID, "", *(f"* {each}" for each in [*why, *content["notes"]]), ""])


def as_rows(lines: Iterable[Learned]) -> list[dict[str, Any]]:
    """Lines as plain data."""
    return [asdict(line) for line in lines]


def _most(line: dict[str, Any]) -> tuple[int, int, int]:
    """How much a line says: how sure, then of how many samples, then how early."""
    said = re.match(r"(?:all )?(\d+)", line["of"])
    return STRENGTH.index(line["how"]), int(said[1]) if said else 0, -(line["since_round"] or 0)


def _role(each: dict[str, Any]) -> str:
    party: str = each["party"]
    return party.partition(":")[0]


def _in_words(each: dict[str, Any]) -> str:
    of = "" if each["how"] in ("clear", "determined") or each["of"] == "others" else each["of"]
    return ", ".join(filter(None, (each["how"], of)))
