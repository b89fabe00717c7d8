"""The answer of a run in one sentence: who reads what was to stay private, since when, and at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from protocols.language.roles import DATA_OWNER
from scenarios.run.learned import strongest
from scenarios.show.units import span

# What a run protects, the first that its ledger speaks of; in the words of a sentence.
_PROTECTED: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("samples",), "training sample", "training images or rows"),
    (("head",), "the encrypted head", "the encrypted head"),
    (("x",), "query", "queries"),
)
_READS = {"clear": "is sent {of} in the clear{since}", "exact": "can compute {of} exactly{since}"}
_WEAKER = {
    "up to": "determines {of}{since}, up to what the table names",
    "determined": "determines {of}{since}, as an audit of a small instance says",
    "undecided": "may determine {of}{since}: the audit could not tell",
    "bounded": "narrows down {of}{since}; no rule here determines it",
}


def answer(result: Mapping[str, Any]) -> str:
    """One to three sentences from result.json; never less than its ledger says."""
    said = [_read(result), _attacked(result["attacks"]), _cost(result)]
    return " ".join(sentence for sentence in said if sentence)


def _read(result: Mapping[str, Any]) -> str:
    rows = result["learned"]
    quantities, words = next(
        ((names, many) for names, _, many in _PROTECTED if any(row["quantity"] in names for row in rows)),
        ((), ""),
    )
    found = [
        row
        for party in dict.fromkeys(row["party"] for row in rows)
        if (row := strongest([r for r in rows if r["party"] == party and r["how"] != "own"], quantities))
    ]
    if not found:
        return "Nobody said what becomes of the samples: see the table." if rows else "No ledger was made."
    for told in (_READS, _WEAKER):
        mine = [row for row in found if row["how"] in told]
        alone = [row for row in mine if "," not in row["party"]]
        if mine:
            best = min(alone or mine, key=lambda row: (_order(told, row), row["since_round"] or 0))
            others = [named(row["party"]) for row in alone if row is not best and row["how"] in _READS]
            also = (
                f" So {'does' if len(others) == 1 else 'do'} {_and(others)}, of what the table says."
                if others
                else ""
            )
            return f"{_sentence(best, told, words)}.{also}"
    tried = _and(sorted({named(row["party"]) for row in found}))
    return f"Of {words} nothing was found in the view of {tried}, by what the table says was tried."


def _order(told: Mapping[str, str], row: Mapping[str, Any]) -> tuple[int, bool]:
    return list(told).index(row["how"]), not row["of"].startswith("all ")


def _sentence(row: Mapping[str, Any], told: Mapping[str, str], words: str) -> str:
    who = named(row["party"])
    together = f"{who[0].upper()}{who[1:]}{' together' if ',' in row['party'] else ''}"
    of = row["of"] if "sample" in row["of"] else f"{words} of {row['of']}"
    since = "" if row["since_round"] is None else f", since step {row['since_round']}"
    what = told[row["how"]].format(of=of, since=since)
    if "," in row["party"]:
        for verb, plural in (("is sent", "are sent"), ("determines", "determine"), ("narrows", "narrow")):
            what = what.replace(verb, plural, 1)
    return f"{together} {what}"


def named(parties: str) -> str:
    """A party or a coalition as one speaks of it."""
    return _and([_one(party) for party in parties.split(", ")])


def _one(party: str) -> str:
    role, _, index = party.partition(":")
    name = role.replace("_", " ")
    return f"{name} {index}" if index and role == DATA_OWNER.value else f"the {name}"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _attacked(rows: Sequence[Mapping[str, Any]]) -> str:
    best = max(
        (row for row in rows if row["metrics"].get("exact_images")),
        key=lambda row: row["metrics"]["exact_images"],
        default=None,
    )
    if best is not None:
        count, name = best["metrics"]["exact_images"], best["attack"].replace("_", "-")
        return f"The attack {name} rebuilt {count} of {best.get('of', best['samples'])} exactly."
    tried = [row["attack"].replace("_", "-") for row in rows if "mse" in row["metrics"]]
    return f"No image came out exactly by {_and(tried)}." if tried else ""


def _cost(result: Mapping[str, Any]) -> str:
    accuracy, seconds = result["accuracy"], result["seconds"]
    parts = []
    if accuracy["test"] is not None:
        beside = accuracy["baseline_test"]
        parts.append(
            f"accuracy {accuracy['test']:.3f}"
            + ("" if beside is None else f", without protection {beside:.3f}")
        )
    parts.append(f"{span(seconds['setup'] + seconds['train'])} of set-up and training")
    return f"It cost: {'; '.join(parts)}."
