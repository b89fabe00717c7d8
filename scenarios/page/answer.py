"""The answer of a run in a few sentences: who reads what was to stay private, since when, at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protocols.language.roles import DATA_OWNER
from scenarios.run.learned import strongest
from scenarios.show.units import samples_in, span

_SAMPLES = ("samples", "x"), "training samples"
_HEAD = ("head",), "the encrypted head"
_ALSO = {"labels": "labels", "master key": "the master key", "gram": "inner products of samples"}
_READS = ("clear", "exact")
_WEAKER = {
    "up to": "{who} {determines} {of}{since}, up to what the table names",
    "determined": "{who} {determines} {of}{since}, as an audit of a small instance says",
    "undecided": "what {who} {determines} of {of} is undecided",
    "bounded": "{who} {narrows} down {of}{since}; no more was computed",
}


@dataclass(frozen=True)
class Read:
    """What a party, or a coalition, is sent in the clear or computes exactly: how many samples (None where
    its lines do not say which), in words, in the clear only, since which step the first.
    """

    party: str
    count: int | None
    words: str
    clear: bool
    since: int | None

    @property
    def together(self) -> bool:
        """Whether it is a coalition."""
        return "," in self.party


def answer(result: Mapping[str, Any]) -> str:
    """A few sentences from result.json; never less than its ledger says."""
    attacked = "" if _constant(result) else _attacked(result["attacks"])
    said = [_read(result), attacked, _cost(result)]
    return " ".join(sentence for sentence in said if sentence)


def _read(result: Mapping[str, Any]) -> str:
    rows = [row for row in result["learned"] if row["how"] != "own"]
    if not result["learned"]:
        return "No ledger was made."
    quantities, words = _HEAD if any(row["quantity"] == "head" for row in rows) else _SAMPLES
    total = samples_in(result.get("config", {}))
    parties = list(dict.fromkeys(row["party"] for row in rows))
    mine = {
        party: [r for r in rows if r["party"] == party and r["quantity"] in quantities] for party in parties
    }
    config = result.get("config", {})
    counts = (
        () if config.get("column_samples") or config.get("split") == "columns" else config.get("counts", ())
    )
    own = {party: sum(counts[i] for i in _owners(party) if i < len(counts)) for party in parties}
    reads = [found for party in parties if (found := _reading(party, mine[party], words, total, own[party]))]
    alone = [each for each in reads if not each.together]
    most = max((each.count or 0 for each in alone), default=0)
    sentences = [_sentence(each) for each in alone]
    sentences += [
        _sentence(each)
        for each in reads
        if each.together and (not alone or each.count is None or each.count > most)
    ]
    if not any(each.count == total or each.words.startswith("all ") for each in reads):
        weaker = [row for party in parties if (row := _weaker(mine[party]))]
        singles = [row for row in weaker if "," not in row["party"]]
        sentences += [_weakly(row, words) for row in singles or weaker]
    if _constant(result):
        sentences = ["every column of the table is constant: there is nothing to learn of its samples."]
        quantities = (*quantities, "gram")
    sentences = [*(_capital(sentence) for sentence in sentences), *_also(rows, quantities)]
    sentences += _not_analysed(rows)
    if any("not recorded" in row["detail"] for row in rows):
        sentences.append("Payloads were not all recorded, so more may follow.")
    return " ".join(sentences) if sentences else _nothing(mine, words)


def _constant(result: Mapping[str, Any]) -> bool:
    """Whether all samples of a table are the same, those that are held out and public among them."""
    return set(result.get("config", {}).get("distinct") or ()) == {1}


def _owners(party: str) -> list[int]:
    """The numbers of the owners in a coalition."""
    numbers = (each.partition(f"{DATA_OWNER.value}:")[2] for each in party.split(", "))
    return [int(number) for number in numbers if number.isdecimal() and number.isascii()]


def _reading(party: str, rows: Sequence[Mapping[str, Any]], words: str, total: int, own: int) -> Read | None:
    """`own`: samples of the party itself."""
    strong = [row for row in rows if row["how"] in _READS]
    if not strong:
        return None
    known = {
        i for row in strong for start, stop in row["data"].get("samples", ()) for i in range(start, stop)
    }
    whole = next((row["of"] for row in strong if _whole(row["of"], total)), "")
    others = [row["of"] for row in strong if not row["data"].get("samples")]
    if known and any(row["data"].get("samples") == [] for row in strong):
        others = [of.replace("positions not known", "positions not known, perhaps the same") for of in others]
    if whole or (total and len(known) == total):
        count, told = total, whole or f"all {total} samples"
    elif known and own and len(known) == total - own:
        count, told = len(known), f"all {len(known)} samples of others"
    elif known:
        count, told = len(known), f"{len(known)} of {total} samples" if total else f"{len(known)} samples"
        told += f" and {_and([_of(each, words) for each in dict.fromkeys(others)])}" if others else ""
    else:
        count, told = None, _and([_of(each, words) for each in dict.fromkeys(others)])
    steps = [row["since_round"] for row in strong if row["since_round"] is not None]
    return Read(party, count, told, all(row["how"] == "clear" for row in strong), min(steps, default=None))


def _whole(of: str, total: int) -> bool:
    return of == f"all {total} samples" or (not total and of.startswith("all ") and of.endswith(" samples"))


def _of(of: str, words: str) -> str:
    return of if "sample" in of else f"{words} of {of}"


def _sentence(each: Read) -> str:
    verb = ("are" if each.together else "is") + " sent" if each.clear else "can compute"
    how = "in the clear" if each.clear else "exactly"
    since = "" if each.since is None else f", since step {each.since}"
    return f"{_who(each.party)} {verb} {each.words} {how}{since}."


def _weaker(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """A party's line that says most without being read."""
    return strongest([row for row in rows if row["how"] in _WEAKER], [row["quantity"] for row in rows])


def _weakly(row: Mapping[str, Any], words: str) -> str:
    many = "," in row["party"]
    since = "" if row["since_round"] is None else f", since step {row['since_round']}"
    said = _WEAKER[row["how"]].format(
        who=_who(row["party"]), of=_of(row["of"], words), since=since,
        determines="determine" if many else "determines", narrows="narrow" if many else "narrows",
    )  # fmt: skip
    return f"{said}."


def _not_analysed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """That a view was not read to its end, as after a message that its receiver could not take."""
    later = any(row["quantity"] == "messages" and row["how"] == "not analysed" for row in rows)
    return ["Messages after an owner was left out were not analysed, so more may follow."] if later else []


def _also(rows: Sequence[Mapping[str, Any]], but: Sequence[str]) -> list[str]:
    """What else was to stay private and is read, and by whom alone."""
    found = []
    for quantity, called in _ALSO.items():
        who = [row["party"] for row in rows if row["quantity"] == quantity and row["how"] in _READS]
        alone = [party for party in dict.fromkeys(who) if "," not in party]
        if alone and quantity not in but:
            found.append(f"{called} by {_and([named(party) for party in alone])}")
    return [f"Also read: {'; '.join(found)}."] if found else []


def _nothing(mine: Mapping[str, Sequence[Mapping[str, Any]]], words: str) -> str:
    examined = [
        party for party, rows in mine.items() if rows and all(r["how"] == "nothing found" for r in rows)
    ]
    left = [party for party, rows in mine.items() if any(row["how"] == "not analysed" for row in rows)]
    if left:
        return f"Nobody said what the view of {_and([named(party) for party in left])} tells of {words}."
    if not examined:
        return f"Nobody said what becomes of {words}: see the table."
    who = _and([named(party) for party in examined])
    return f"Of {words} nothing was found in the view of {who}, by what the table says was tried."


def _who(parties: str) -> str:
    return f"{named(parties)}{' together' if ',' in parties else ''}"


def _capital(sentence: str) -> str:
    return f"{sentence[0].upper()}{sentence[1:]}"


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
    return f"No sample came out exactly by {_and(tried)}." if tried else ""


def _cost(result: Mapping[str, Any]) -> str:
    if "seconds" not in result:  # of a recording, nobody measured it
        return ""
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
